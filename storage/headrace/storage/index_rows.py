"""The rows of the lookup index, to the byte. Derived data: a change of this table raises `FORMAT` and rebuilds.

Every value begins with a CRC-32 over its key and the rest, because LMDB has no checksums. Integers in keys are
big-endian, so that rows sort by them; in values they are little-endian.

| table | key | value, behind the CRC |
|---|---|---|
| META | name | `format`: number; `secret`: 16 bytes for hashes; `prefix`: the highest prefix given out |
| LOGS | stream id | a `LogRow` |
| SUBJECTS | prefix, subject key | count, first, last, sizes; the subject if its key is a hash; newest sequences |
| CHUNKS | prefix, subject hash (16), sequence | older sequences of the subject, from this one on |
| IDS | prefix, id key | sequence, time, the id if its key is a hash |
| GARBAGE | table number (1), prefix | nothing: all rows of the table with this prefix go |

A **prefix** is 8 bytes that stand for one log's rows since they were last cleared; clearing takes a new one and leaves
the old rows to be swept. A **subject key** or **id key** is the bytes themselves up to 400, else their first 400 and
a keyed hash (16).
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

from headrace.storage.index_interface import START, IndexDamaged, Position

FORMAT: Final = 1
KEY_SIZE_MAX: Final = 400
HASH_SIZE: Final = 16
CHUNK_KEY_SIZE: Final = 8 + HASH_SIZE + 8
RUN_COUNT_MAX: Final = 65_536
"""A chunk that is a run takes a few bytes, but is unpacked as a whole where part of it goes."""

CHUNK_COUNT_MAX: Final = 960
"""So that a chunk of 4-byte distances fits one page of LMDB."""

_CRC: Final = struct.Struct("<I")
_PREFIX: Final = struct.Struct(">Q")
_NUMBER: Final = struct.Struct("<Q")
_LOG: Final = struct.Struct("<QQQQQQQQH")
_SUBJECT: Final = struct.Struct("<QQQHH")
_CHUNK: Final = struct.Struct("<QIB")
_ID: Final = struct.Struct("<QQH")


def seal(key: bytes, payload: bytes) -> bytes:
    """Give the value to store under `key`."""
    return _CRC.pack(crc32(payload, crc32(key))) + payload


def unseal(key: bytes, value: bytes) -> bytes:
    """Give the payload of a stored value. Raises IndexDamaged."""
    payload = value[4:]
    if len(value) < 4 or _CRC.unpack_from(value)[0] != crc32(payload, crc32(key)):
        raise IndexDamaged(f"a row of {len(value)} bytes in the index does not check; it is rebuilt")
    return payload


def prefix_bytes(prefix: int) -> bytes:
    return _PREFIX.pack(prefix)


def prefix_end(prefix: int) -> bytes:
    """Give the key behind all those with this prefix."""
    return _PREFIX.pack(prefix + 1)


def number_payload(number: int) -> bytes:
    return _NUMBER.pack(number)


def parse_number(payload: bytes) -> int:
    number: int = _NUMBER.unpack(payload)[0]
    return number


def keyed_hash(secret: bytes, name: bytes) -> bytes:
    return blake2b(name, digest_size=HASH_SIZE, key=secret).digest()


def name_key(prefix: bytes, name: bytes, secret: bytes) -> bytes:
    """Give the key of a subject or message id."""
    if len(name) <= KEY_SIZE_MAX:
        return prefix + name
    return prefix + name[:KEY_SIZE_MAX] + keyed_hash(secret, name)


def chunk_prefix(prefix: bytes, subject: bytes, secret: bytes) -> bytes:
    """Give what the keys of a subject's chunks begin with."""
    return prefix + keyed_hash(secret, subject)


def chunk_key(subject_prefix: bytes, sequence: int) -> bytes:
    return subject_prefix + _PREFIX.pack(sequence)


def is_hashed(key: bytes) -> bool:
    """Tell whether a subject or id key does not hold the whole name."""
    return len(key) > 8 + KEY_SIZE_MAX


@dataclass(frozen=True, slots=True)
class LogRow:
    """How far a log's rows are.

    They are at `position`, and, where a write is under way (`target`), already at `target` for subject keys up to
    `written_key`. `row_count` is the number of subject rows as they are.
    """

    position: Position
    target: Position | None
    written_key: bytes
    subject_prefix: int
    id_prefix: int
    row_count: int
    is_cleared: bool
    """Whether the write under way began by clearing all subjects."""


def new_row() -> LogRow:
    """Give the row of a log that has none: nothing is written yet, and there is no prefix 0."""
    return LogRow(START, None, b"", subject_prefix=0, id_prefix=0, row_count=0, is_cleared=False)


def log_payload(row: LogRow) -> bytes:
    target = row.target or START
    flags = (1 if row.target is not None else 0) | (2 if row.is_cleared else 0)
    return (
        _LOG.pack(
            row.position.sequence,
            row.position.change,
            target.sequence,
            target.change,
            row.subject_prefix,
            row.id_prefix,
            row.row_count,
            flags,
            len(row.written_key),
        )
        + row.written_key
    )


def parse_log(payload: bytes) -> LogRow:
    sequence, change, target_sequence, target_change, subjects, ids, count, flags, size = _LOG.unpack_from(
        payload
    )
    return LogRow(
        position=Position(sequence, change),
        target=Position(target_sequence, target_change) if flags & 1 else None,
        written_key=payload[_LOG.size : _LOG.size + size],
        subject_prefix=subjects,
        id_prefix=ids,
        row_count=count,
        is_cleared=bool(flags & 2),
    )


class SubjectRow(NamedTuple):
    """A subject's messages: `recent` holds the newest (never empty), `total - len(recent)` more are in chunks."""

    subject: bytes
    total: int
    first: int
    last: int
    recent: Sequence[int]

    @property
    def chunked(self) -> int:
        return self.total - len(self.recent)


def subject_payload(key: bytes, row: SubjectRow) -> bytes:
    name = row.subject if is_hashed(key) else b""
    head = _SUBJECT.pack(row.total, row.first, row.last, len(name), len(row.recent))
    if row.total == 1:
        return head + name
    return head + name + array("Q", row.recent).tobytes()


def parse_subject(key: bytes, payload: bytes) -> SubjectRow:
    count, first, last, name_size, recent_count = _SUBJECT.unpack_from(payload)
    start = _SUBJECT.size
    name = payload[start : start + name_size] if name_size else key[8:]
    if count == 1:
        return SubjectRow(name, 1, first, last, (last,))
    recent = array("Q")
    recent.frombytes(payload[start + name_size : start + name_size + 8 * recent_count])
    return SubjectRow(name, count, first, last, recent)


def chunk_payload(sequences: Sequence[int]) -> bytes:
    """Pack ascending sequences: a run as its ends, others as distances from the first."""
    first, count = sequences[0], len(sequences)
    span = sequences[-1] - first
    if span == count - 1:
        return _CHUNK.pack(first, count, 0)
    code, wide = ("I", 4) if span < 1 << 32 else ("Q", 8)
    return _CHUNK.pack(first, count, wide) + array(code, [each - first for each in sequences]).tobytes()


def chunk_count(payload: bytes) -> int:
    """Count a chunk's sequences without unpacking them."""
    count: int = _CHUNK.unpack_from(payload)[1]
    return count


def parse_chunk(payload: bytes) -> Sequence[int]:
    first, count, wide = _CHUNK.unpack_from(payload)
    if wide == 0:
        return range(first, first + count)
    distances = array("I" if wide == 4 else "Q")
    distances.frombytes(payload[_CHUNK.size :])
    return [first + each for each in distances]


def chunks_of(sequences: Sequence[int]) -> list[Sequence[int]]:
    """Cut ascending sequences into chunks: long runs whole, the rest by count."""
    chunks: list[Sequence[int]] = []
    start = 0
    while start < len(sequences):
        stop = min(_run_end(sequences, start), start + RUN_COUNT_MAX)
        if stop - start < CHUNK_COUNT_MAX:
            stop = min(start + CHUNK_COUNT_MAX, len(sequences))
        chunks.append(sequences[start:stop])
        start = stop
    return chunks


def _run_end(sequences: Sequence[int], start: int) -> int:
    """Give the place behind the run that begins at `start`. In a run, sequence minus place does not change."""
    lead = sequences[start] - start
    return bisect_left(range(len(sequences)), lead + 1, start, key=lambda place: sequences[place] - place)


class IdRow(NamedTuple):
    """Where a message id was used last."""

    message_id: bytes
    sequence: int
    time_ns: int


def id_payload(key: bytes, row: IdRow) -> bytes:
    name = row.message_id if is_hashed(key) else b""
    return _ID.pack(row.sequence, row.time_ns, len(name)) + name


def parse_id(key: bytes, payload: bytes) -> IdRow:
    sequence, time_ns, name_size = _ID.unpack_from(payload)
    name = payload[_ID.size : _ID.size + name_size] if name_size else key[8:]
    return IdRow(name, sequence, time_ns)
