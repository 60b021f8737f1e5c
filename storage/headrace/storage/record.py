"""The bytes of a record: the one table that writer, reader, recovery, checker and the compiled engine follow.

A record is a 44-byte header, a body, and zeros up to a multiple of 8. Two CRCs: one over the first 36 bytes, so that
a length may be trusted before the body was read; one that continues it over body and padding. The guard binds
the record to one place of one file (docs/storage-format.md, section 3).

Encoders give bytes, decoders take them; nobody here knows a file.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

import msgpack

from headrace.core.base.message import Batch, View
from headrace.storage.accounting import FILE_HEADERS_OVERHEAD, FILE_OVERHEAD
from headrace.storage.interface import NO_EFFECT, Effect, Entry

HEADER_SIZE: Final = 44
ALIGNMENT: Final = 8
RECORD_SIZE_MAX: Final = (1 << 32) - 16
SUBJECT_SIZE_MAX: Final = (1 << 16) - 1
SEQUENCE_MAX: Final = (1 << 64) - 2

FLAG_PREVIOUS: Final = 0x01
FLAG_MESSAGE_ID: Final = 0x02
FLAG_FIRST: Final = 0x04
FLAG_EVICTED: Final = 0x08
FLAG_SUBJECT_BEFORE: Final = 0x10
FLAG_ALL_BEFORE: Final = 0x20
FLAG_ATOMIC: Final = 0x40
FLAG_MORE: Final = 0x80

_HEADER: Final = struct.Struct(
    "<QIBBHQQI"
)  # guard, length, type, flags, subject size, sequence, time, headers size
_CRCS: Final = struct.Struct("<II")
_WHOLE_HEADER: Final = struct.Struct("<QIBBHQQIII")
_U64: Final = struct.Struct("<Q")
_U32: Final = struct.Struct("<I")
_TWO_U32: Final = struct.Struct("<II")
_ATOMIC: Final = struct.Struct("<QII")
_MARK: Final = struct.Struct("<QQ")
_PADDING: Final = tuple(bytes(-size % ALIGNMENT) for size in range(ALIGNMENT))


class RecordType(IntEnum):
    """What a record is."""

    MESSAGE = 1
    SKIP = 2
    BATCH = 3
    SETTLE = 4
    CLOSE = 5
    SEAL = 6
    ERASED = 7
    OPERATIONS = 16
    COMPLETE = 17
    OFFSETS = 24
    SUBJECTS = 25
    POSTINGS = 26
    SIZES = 27
    ENTRY = 32
    REMOVALS = 28


MARKS: Final = frozenset((RecordType.BATCH, RecordType.SETTLE, RecordType.CLOSE, RecordType.SEAL))
"""Records that say what is durable."""


class Header(NamedTuple):
    """A record's header; `length` is without padding."""

    guard: int
    length: int
    type: int
    flags: int
    subject_size: int
    sequence: int
    time_ns: int
    headers_size: int
    header_crc: int
    crc: int

    @property
    def end(self) -> int:
        """Header, body and padding in bytes."""
        return (self.length + 7) & ~7


class Atomic(NamedTuple):
    """A message's place in an atomic batch."""

    batch_id: int
    size: int
    place: int

    @property
    def last(self) -> int:
        """The batch's last sequence; its id is the first one."""
        return self.batch_id + self.size - 1


class Extras(NamedTuple):
    """What a message's body says before its subject, and how many bytes that takes."""

    size: int = 0
    previous: int | None = None
    message_id: bytes = b""
    first_sequence: int = 0
    evicted: tuple[tuple[int, int], ...] = ()
    subject_before: bool = False
    all_before: bool = False
    atomic: Atomic | None = None


NO_EXTRAS: Final = Extras()


class Mark(NamedTuple):
    """What a batch, settle, close or seal record says."""

    batch: int
    durable_to: int
    records: int = 0


class RecordInvalid(Exception):
    """These bytes are no valid record at this place."""


# ---- ranges


def pack_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Encode ascending, disjoint, inclusive ranges."""
    out = bytearray()
    end = 0
    for first, last in ranges:
        for number in (first - end, last - first):
            while number > 0x7F:
                out.append(number & 0x7F | 0x80)
                number >>= 7
            out.append(number)
        end = last
    return bytes(out)


def unpack_ranges(data: bytes) -> list[tuple[int, int]]:
    """Decode what `pack_ranges` made. Raises RecordInvalid."""
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            continue
        numbers.append(number)
        number = shift = 0
    if shift or len(numbers) % 2:
        raise RecordInvalid("ranges end in the middle")
    ranges: list[tuple[int, int]] = []
    end = 0
    for gap, extent in zip(numbers[::2], numbers[1::2], strict=True):
        first = end + gap
        end = first + extent
        ranges.append((first, end))
    return ranges


def merged(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Make ascending, disjoint ranges of sequences in any order."""
    ranges: list[tuple[int, int]] = []
    for sequence in sorted(set(sequences)):
        if ranges and ranges[-1][1] + 1 == sequence:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))
    return ranges


# ---- encoding


def encode(
    kind: RecordType,
    body: bytes,
    *,
    guard: int,
    sequence: int,
    time_ns: int,
    flags: int = 0,
    subject_size: int = 0,
    headers_size: int = 0,
) -> bytes:
    """Encode any record."""
    length = HEADER_SIZE + len(body)
    header = _HEADER.pack(guard, length, kind, flags, subject_size, sequence, time_ns, headers_size)
    body += _PADDING[length & 7]
    header_crc = crc32(header)
    return b"".join((header, _CRCS.pack(header_crc, crc32(body, header_crc)), body))


def encode_message(entry: Entry, *, guard: int, sequence: int, atomic: Atomic | None = None) -> bytes:
    """Encode a message with all that it carries and causes; the caller has made the effect explicit."""
    is_bare = atomic is None and not _has_extras(entry)
    flags, extras = (0, b"") if is_bare else _encode_extras(entry, atomic)
    return encode(
        RecordType.MESSAGE,
        b"".join((extras, entry.subject, entry.headers, entry.payload)),
        guard=guard,
        sequence=sequence,
        time_ns=entry.time_ns,
        flags=flags,
        subject_size=len(entry.subject),
        headers_size=len(entry.headers),
    )


def encode_erased(header: Header, kept: Extras) -> bytes:
    """Encode how a message's record begins once it is erased: its header and what its append caused; zeros follow."""
    evicted = tuple(sequence for first, last in kept.evicted for sequence in range(first, last + 1))
    effect = Effect(kept.first_sequence, evicted, kept.subject_before, kept.all_before)
    entry = Entry(b"", b"", b"", header.time_ns, b"", kept.previous or 0, effect)
    flags, extras = _encode_extras(entry, kept.atomic)
    body = extras.ljust(header.length - HEADER_SIZE, b"\0")
    record = encode(
        RecordType.ERASED,
        body,
        guard=header.guard,
        sequence=header.sequence,
        time_ns=header.time_ns,
        flags=flags,
        subject_size=header.subject_size,
        headers_size=header.headers_size,
    )
    return record[: HEADER_SIZE + len(extras)]


def message_size(entry: Entry, *, is_atomic: bool = False) -> int:
    """Give how many bytes `encode_message` will make."""
    extras = len(_encode_extras(entry)[1]) if _has_extras(entry) else 0
    if is_atomic:
        extras += _ATOMIC.size
    return (HEADER_SIZE + extras + len(entry.subject) + len(entry.headers) + len(entry.payload) + 7) & ~7


def views_size(views: list[View]) -> int:
    """Give the bytes of all subjects, headers and payloads."""
    return sum(len(view.subject) + len(view.headers) + len(view.payload) for view in views)


def encode_batch(
    batch: Batch,
    start: int,
    *,
    salt: int,
    offset: int,
    limit: int,
    sequence: int,
    time_ns: int,
    offsets: "array[int]",
) -> tuple[bytes, int, int]:
    """Encode messages of `batch` from index `start` as records from `offset` on, none of them beyond `limit`.

    Their offsets divided by 8 are appended to `offsets`. Gives the bytes, how many messages they hold (0: the first
    one does not fit), and their accounted size.
    """
    pack, pack_crcs, checksum, padding = _HEADER.pack, _CRCS.pack, crc32, _PADDING
    parts: list[bytes] = []
    add = parts.append
    note = offsets.append
    accounted = 0
    first = sequence
    for subject, _, headers, payload, _ in batch if start == 0 else batch[start:]:
        subject_size = len(subject)
        headers_size = len(headers)
        length = 44 + subject_size + headers_size + len(payload)
        end = offset + length + 7 & ~7
        if end > limit:
            break
        header = pack(salt ^ offset, length, 1, 0, subject_size, sequence, time_ns, headers_size)
        body = b"".join((subject, headers, payload, padding[length & 7]))
        header_crc = checksum(header)
        add(header)
        add(pack_crcs(header_crc, checksum(body, header_crc)))
        add(body)
        note(offset >> 3)
        # 30 + subject + payload = length - 44 + 30, and 4 more where there are headers.
        accounted += length - 10 if headers_size else length - 14
        offset = end
        sequence += 1
    return b"".join(parts), sequence - first, accounted


def encode_mark(kind: RecordType, mark: Mark, *, guard: int, sequence: int, time_ns: int) -> bytes:
    """Encode a batch, settle, close or seal record."""
    body = _MARK.pack(mark.batch, mark.durable_to)
    if kind is RecordType.SEAL:
        body += _U64.pack(mark.records)
    return encode(kind, body, guard=guard, sequence=sequence, time_ns=time_ns)


def encode_skip(*, guard: int, first: int, last: int, time_ns: int) -> bytes:
    """Encode that the sequences `first` to `last` are used up."""
    return encode(RecordType.SKIP, _U64.pack(first), guard=guard, sequence=last, time_ns=time_ns)


def encode_operations(operations: Sequence[Sequence[Any]], *, guard: int, change: int, time_ns: int) -> bytes:
    """Encode operations of a state log; `change` is the first one's number."""
    return encode(
        RecordType.OPERATIONS, pack_value(list(operations)), guard=guard, sequence=change, time_ns=time_ns
    )


def pack_value(value: object) -> bytes:
    """Encode with msgpack."""
    return msgpack.packb(value, use_bin_type=True)


def unpack_value(data: bytes) -> Any:  # noqa: ANN401  (msgpack gives anything)
    """Decode msgpack. Raises RecordInvalid."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, use_list=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise RecordInvalid(f"its value cannot be decoded: {error}") from error


# ---- decoding


def parse_header(data: bytes, position: int, guard: int) -> Header:
    """Read a header at `position` of `data` that must carry `guard`. Raises RecordInvalid."""
    if position + HEADER_SIZE > len(data):
        raise RecordInvalid("the bytes end within a header")
    header = Header._make(_WHOLE_HEADER.unpack_from(data, position))
    if header.guard != guard:
        raise RecordInvalid("the guard does not fit this place")
    if crc32(data[position : position + 36]) != header.header_crc:
        raise RecordInvalid("the header's checksum does not fit")
    if header.length < HEADER_SIZE:
        raise RecordInvalid("the length is below the header's")
    return header


def parse_header_unchecked(data: bytes) -> Header:
    """Read the fields of a header that does not check, for a guess. Raises struct.error."""
    return Header._make(_WHOLE_HEADER.unpack_from(data))


def parse_record(raw: bytes, guard: int) -> tuple[Header, Extras]:
    """Read a message's record from its first byte on, and check it. Raises RecordInvalid."""
    header = parse_header(raw, 0, guard)
    body = raw[HEADER_SIZE : header.end]
    check_body(header, body)
    if header.type != RecordType.MESSAGE:
        raise RecordInvalid("it is no message")
    return header, parse_extras(header, body)


def check_body(header: Header, body: bytes) -> None:
    """Make sure that `body`, with its padding, is the header's. Raises RecordInvalid."""
    if len(body) != header.end - HEADER_SIZE:
        raise RecordInvalid("the bytes end within the body")
    if crc32(body, header.header_crc) != header.crc:
        raise RecordInvalid("the checksum does not fit")


def parse_extras(header: Header, body: bytes) -> Extras:
    """Read what stands before a message's subject. Raises RecordInvalid."""
    flags = header.flags
    if not flags:
        return NO_EXTRAS
    try:
        return _parse_extras(header, flags, body)
    except struct.error as error:
        raise RecordInvalid("the bytes end within the extras") from error


def parse_message(header: Header, body: bytes) -> View:
    """Make a view of a message. Raises RecordInvalid."""
    start = parse_extras(header, body).size if header.flags else 0
    subject_end = start + header.subject_size
    headers_end = subject_end + header.headers_size
    end = header.length - HEADER_SIZE
    if headers_end > end:
        raise RecordInvalid("subject and headers are longer than the record")
    return View(
        header.sequence,
        header.time_ns,
        body[start:subject_end],
        body[subject_end:headers_end],
        body[headers_end:end],
    )


def accounted_size(header: Header, extras_size: int) -> int:
    """Give what a message counts for."""
    size = header.length - HEADER_SIZE - extras_size + FILE_OVERHEAD
    return size + FILE_HEADERS_OVERHEAD if header.headers_size else size


def extras_size(header: Header, body: bytes) -> int:
    """Give how many bytes stand before the subject; `body` may be cut behind them."""
    return parse_extras(header, body).size if header.flags else 0


def parse_mark(header: Header, body: bytes) -> Mark:
    """Read a batch, settle, close or seal record. Raises RecordInvalid."""
    try:
        batch, durable_to = _MARK.unpack_from(body)
        records = _U64.unpack_from(body, _MARK.size)[0] if header.type == RecordType.SEAL else 0
    except struct.error as error:
        raise RecordInvalid("the bytes end within a mark") from error
    return Mark(batch, durable_to, records)


def parse_skip(header: Header, body: bytes) -> tuple[int, int]:
    """Give the first and last sequence that a skip record uses up."""
    if len(body) < _U64.size:
        raise RecordInvalid("the bytes end within a skip")
    return _U64.unpack_from(body)[0], header.sequence


def parse_operations(header: Header, body: bytes) -> list[list[Any]]:
    """Read the operations of a state log's record. Raises RecordInvalid."""
    value = unpack_value(body[: header.length - HEADER_SIZE])
    if not isinstance(value, list):
        raise RecordInvalid("operations are not an array")
    return cast("list[list[Any]]", value)


def effect_sequences(extras: Extras) -> Iterator[int]:
    """Give each sequence that an append names as evicted."""
    for first, last in extras.evicted:
        yield from range(first, last + 1)


# ---- private


def _has_extras(entry: Entry) -> bool:
    return bool(entry.previous or entry.message_id or entry.effect != NO_EFFECT)


def _encode_extras(entry: Entry, atomic: Atomic | None = None) -> tuple[int, bytes]:
    flags = 0
    parts: list[bytes] = []
    more: dict[str, object] = {}
    if entry.previous:
        flags |= FLAG_PREVIOUS
        parts.append(_U64.pack(entry.previous))
    if entry.message_id:
        position = entry.headers.find(entry.message_id)
        if position >= 0:
            flags |= FLAG_MESSAGE_ID
            parts.append(_TWO_U32.pack(position, len(entry.message_id)))
        else:
            more["id"] = entry.message_id
    effect: Effect = entry.effect
    if effect.first_sequence:
        flags |= FLAG_FIRST
        parts.append(_U64.pack(effect.first_sequence))
    if effect.evicted:
        flags |= FLAG_EVICTED
        packed = pack_ranges(merged(effect.evicted))
        parts.append(_U32.pack(len(packed)) + packed)
    if effect.subject_before:
        flags |= FLAG_SUBJECT_BEFORE
    if effect.all_before:
        flags |= FLAG_ALL_BEFORE
    if atomic is not None:
        flags |= FLAG_ATOMIC
        parts.append(_ATOMIC.pack(*atomic))
    if more:
        flags |= FLAG_MORE
        packed = pack_value(more)
        parts.append(_U32.pack(len(packed)) + packed)
    return flags, b"".join(parts)


def _parse_extras(header: Header, flags: int, body: bytes) -> Extras:
    position = 0
    previous: int | None = None
    first_sequence = 0
    reference: tuple[int, int] | None = None
    evicted: tuple[tuple[int, int], ...] = ()
    atomic: Atomic | None = None
    message_id = b""
    if flags & FLAG_PREVIOUS:
        previous = _U64.unpack_from(body, position)[0]
        position += 8
    if flags & FLAG_MESSAGE_ID:
        reference = _TWO_U32.unpack_from(body, position)
        position += 8
    if flags & FLAG_FIRST:
        first_sequence = _U64.unpack_from(body, position)[0]
        position += 8
    if flags & FLAG_EVICTED:
        size = _U32.unpack_from(body, position)[0]
        position += 4 + size
        evicted = tuple(unpack_ranges(body[position - size : position]))
    if flags & FLAG_ATOMIC:
        atomic = Atomic._make(_ATOMIC.unpack_from(body, position))
        position += _ATOMIC.size
    if flags & FLAG_MORE:
        size = _U32.unpack_from(body, position)[0]
        position += 4 + size
        more = unpack_value(body[position - size : position])
        if not isinstance(more, dict):
            raise RecordInvalid("the map of further parts is none")
        message_id = cast("dict[str, Any]", more).get("id", b"")
    if reference is not None:
        start = position + header.subject_size + reference[0]
        message_id = body[start : start + reference[1]]
    return Extras(
        position,
        previous,
        message_id,
        first_sequence,
        evicted,
        bool(flags & FLAG_SUBJECT_BEFORE),
        bool(flags & FLAG_ALL_BEFORE),
        atomic,
    )
