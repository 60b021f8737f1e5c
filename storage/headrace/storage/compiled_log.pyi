from array import array

from headrace.core.base.message import Batch

def crc32(data: bytes | bytearray | memoryview, crc: int = 0) -> int: ...
def encode_batch(
    batch: Batch,
    start: int,
    *,
    salt: int,
    offset: int,
    limit: int,
    sequence: int,
    time_ns: int,
    offsets: array[int],
) -> tuple[bytes, int, int]: ...
