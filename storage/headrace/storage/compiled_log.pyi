from array import array
from collections.abc import Sequence

from headrace.core.base.message import Batch, View
from headrace.storage.index_layer import Delta
from headrace.storage.sync import Outcome, Wake, Write

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
def decode_run(
    block: bytes,
    base: int,
    *,
    salt: int,
    units: array[int],
    place: int,
    sequence: int,
    count_max: int,
    size_max: int,
) -> list[View]: ...
def views_size(views: list[View]) -> int: ...
def collect_notes(
    window: bytes,
    base: int,
    *,
    salt: int,
    first: int,
    last: int,
    live_from: int,
    segment_first: int,
    gone: bytes,
    run_sequences: array[int],
    run_places: array[int],
    deltas: dict[bytes, int | Delta],
    ids: dict[bytes, tuple[int, int]],
    make_delta: type[Delta],
) -> tuple[int, int]: ...

class SyncThread:
    def __init__(self, wake: Wake) -> None: ...
    @property
    def duration_ns(self) -> int: ...
    def start(self, writes: Sequence[Write], syncs: Sequence[int], journal: Write | None = None) -> None: ...
    def take(self) -> Outcome | None: ...
    def close(self) -> None: ...
