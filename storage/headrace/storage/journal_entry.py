"""The bytes of the redo journal: the one table that its writer and its readers follow.

A journal is a file of records like the others (docs/storage-format.md, section 9). Each record is an *entry*: bytes
that belong at one offset of one other file, its **target**. The target stands in a block of its own with its own CRC,
bound to this place of this journal, so that an entry whose header or bytes are damaged still says whose it is; and
what it holds are whole records of the target, each of which can be checked by itself.

Behind the last entry lies a **stop**: zeros, overwritten by the next entry. What comes behind those is what an earlier
use of the file left there; it carries another salt.
"""

import struct
from typing import Final, NamedTuple
from zlib import crc32

from headrace.storage.framing import FILE_HEADER_SIZE, FileHeader, FileKind, encode_file_header
from headrace.storage.record import HEADER_SIZE, RecordType, encode

JOURNAL_NAMES: Final = ("journal-0", "journal-1")
STOP: Final = bytes(48)
"""What lies behind the last entry."""

_TARGET: Final = struct.Struct("<QQQQI")
_CRC: Final = struct.Struct("<I")
_GUARD: Final = struct.Struct("<Q")
BLOCK_SIZE: Final = _TARGET.size + _CRC.size
DATA_START: Final = HEADER_SIZE + BLOCK_SIZE
"""Where in an entry the target's bytes begin."""


class EntryTarget(NamedTuple):
    """Where an entry's bytes belong: `size` bytes from `offset` on, up to the sequence (or change) `last`."""

    stream_id: int
    salt: int
    offset: int
    last: int
    size: int


def entry_size(data_size: int) -> int:
    """Give how many bytes an entry for so many takes in the journal."""
    return (DATA_START + data_size + 7) & ~7


def encode_entry(target: EntryTarget, data: bytes, *, guard: int, first: int, time_ns: int) -> bytes:
    """Encode an entry; `first` is the first sequence (or change) that it covers."""
    fields = _TARGET.pack(*target)
    block = fields + _CRC.pack(crc32(fields, crc32(_GUARD.pack(guard))))
    return encode(RecordType.ENTRY, block + data, guard=guard, sequence=first, time_ns=time_ns)


def parse_target(block: bytes, guard: int) -> EntryTarget | None:
    """Read an entry's target block at the place that `guard` belongs to; None where it does not check."""
    if len(block) < BLOCK_SIZE:
        return None
    fields = block[: _TARGET.size]
    (crc,) = _CRC.unpack_from(block, _TARGET.size)
    if crc32(fields, crc32(_GUARD.pack(guard))) != crc:
        return None
    return EntryTarget._make(_TARGET.unpack(fields))


def encode_beginning(*, salt: int, turn: int, created_ns: int, capacity: int) -> bytes:
    """Encode what an empty journal begins with: its header and a stop. `turn` ascends from use to use."""
    header = FileHeader(FileKind.JOURNAL, salt, 0, turn, created_ns, capacity)
    return encode_file_header(header) + STOP


BEGINNING_SIZE: Final = FILE_HEADER_SIZE + len(STOP)
