"""Where the messages of a segment lie, and of which subjects: read from its sidecar, or found by walking over it.

A sidecar is derived and may be missing or damaged; then the segment is walked over, once. Finding offsets looks at
headers alone; the checksum of the whole is tested when the record itself is read.
"""

import contextlib
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    FileHeader,
    FileKind,
    Found,
    HeaderUnreadable,
    Read,
    encode_file_header,
    parse_file_header,
    walk,
)
from headrace.storage.interface import StorageError
from headrace.storage.postings import Postings, decode
from headrace.storage.record import ALIGNMENT, HEADER_SIZE, RecordType, encode
from headrace.storage.segment import Offsets, Segment

MISSING_MAX: Final = 1 << 20
"""The longest run of sequences without records that counts as damaged messages."""

SKIP_BODY_SIZE: Final = 12
"""A skip record's body with its padding."""

_START: Final = struct.Struct("<QIB3xQ")  # guard, length, type, sequence
_CRCS: Final = struct.Struct("<II")
_SEQUENCE: Final = struct.Struct("<Q")
_COUNTS: Final = struct.Struct("<II")
_POSTINGS: Final = (RecordType.SUBJECTS, RecordType.POSTINGS, RecordType.SIZES)
_WINDOW_SIZE: Final = 4 * 1024 * 1024


class OffsetsCache:
    """Which sealed segments have their offsets in memory; the one not used for longest loses them."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._size = 0
        self._segments: dict[int, tuple[Segment, int]] = {}

    def use(self, segment: Segment, load: Callable[[], Offsets]) -> Offsets:
        """Give a sealed segment's offsets, loading them where they are not there."""
        held = self._segments.pop(segment.salt, None)
        if segment.offsets is None:
            segment.offsets = load()
        if held is None:
            held = (segment, 4 * len(segment.offsets) + 64)
            self._size += held[1]
            while self._size > self._size_max and self._segments:
                oldest, size = self._segments.pop(next(iter(self._segments)))
                oldest.offsets = None
                self._size -= size
        self._segments[segment.salt] = held
        return segment.offsets

    def forget(self, segment: Segment) -> None:
        """Let go of a segment that is dropped, or written to again."""
        held = self._segments.pop(segment.salt, None)
        if held is not None:
            self._size -= held[1]


def sidecar_path(segment_path: str) -> str:
    """Give the name of a segment's sidecar."""
    return f"{segment_path}.side"


def find_offsets(read: Read, salt: int, *, first: int, last: int, end: int, records: int = -1) -> Offsets:
    """Walk over a segment's bytes up to `end` and note where its messages `first` to `last` lie.

    A sequence that neither a readable header nor a skip record accounts for was a message, and has a place with offset
    0, so that a bit which stands for a message goes on standing for it. `records` is how many messages there are
    known to be; with it, a damaged skip record is told from damaged messages.
    """
    units = array("I")
    note, unpack = units.append, _START.unpack_from
    # An erased message keeps its place.
    messages = (RecordType.MESSAGE, RecordType.ERASED)
    runs: list[_Run] = []
    position = base = FILE_HEADER_SIZE
    window = b""
    expected = first
    is_new_run = True
    while position < end:
        index = position - base
        if index + HEADER_SIZE > len(window):
            window = read(min(_WINDOW_SIZE, end - position), position)
            base, index = position, 0
            if len(window) < HEADER_SIZE:
                break
        guard, length, kind, sequence = unpack(window, index)
        header_crc, crc = _CRCS.unpack_from(window, index + 36)
        if (
            guard != salt ^ position
            or length < HEADER_SIZE
            or crc32(window[index : index + 36]) != header_crc
        ):
            position = _next_record(read, salt, position + ALIGNMENT, end)
            continue
        if kind in messages:
            if sequence >= expected:
                if is_new_run or sequence > expected:
                    runs.append(_Run(sequence, len(units), sequence - expected))
                    is_new_run = False
                note(position >> 3)
                expected = sequence + 1
        elif kind == RecordType.SKIP and sequence >= expected:
            body = read(SKIP_BODY_SIZE, position + HEADER_SIZE)
            if crc32(body, header_crc) == crc:
                skipped_from = _SEQUENCE.unpack_from(body)[0]
                runs.append(_Run(skipped_from, len(units), max(0, skipped_from - expected)))
                expected = sequence + 1
                is_new_run = True
        position += length + 7 & ~7
    runs.append(_Run(last + 1, len(units), max(0, last + 1 - expected)))
    return _with_missing(units, runs, first, records)


def is_missing_counted(count: int) -> bool:
    """Tell whether so many missing sequences in a row have places; more must have been skipped."""
    return 0 < count <= MISSING_MAX


class _Run(NamedTuple):
    """Where a run of messages begins, and how many sequences before it nothing accounts for."""

    sequence: int
    place: int
    missing: int


def _with_missing(units: "array[int]", runs: list[_Run], first: int, records: int) -> Offsets:
    """Put places for missing messages between the runs, as many as there must have been."""
    allowed = MISSING_MAX if records < 0 else records - len(units)
    offsets = Offsets()
    for index, run in enumerate(runs):
        missing = run.missing
        if missing > allowed > 0 and records >= 0:
            # Messages and a skip record went together: so many of the sequences were messages, nobody knows which.
            missing = allowed
            if is_missing_counted(run.missing):
                offsets.doubtful.append((run.sequence - run.missing, run.sequence - 1))
        if is_missing_counted(missing) and missing <= allowed:
            allowed -= missing
            offsets.expect(run.sequence - missing)
            offsets.units.extend([0] * missing)
        stop = runs[index + 1].place if index + 1 < len(runs) else run.place
        if stop > run.place:
            offsets.expect(run.sequence)
            offsets.units.extend(units[run.place : stop])
    if not offsets.run_sequences:
        offsets.expect(first)
    return offsets


def load_sidecar(files: Files, segment: Segment) -> Offsets | None:
    """Read where a segment's messages lie; None where there is no sidecar that checks and fits."""
    body = _load(files, segment, (RecordType.OFFSETS,)).get(RecordType.OFFSETS)
    offsets = None if body is None else _parse_offsets(body)
    return offsets if offsets is not None and len(offsets) == segment.records else None


def load_postings(files: Files, segment: Segment) -> Postings | None:
    """Read which subjects a segment has, and where; None where its sidecar does not say."""
    bodies = _load(files, segment, _POSTINGS)
    if len(bodies) < len(_POSTINGS):
        return None
    postings = decode(*(bodies[kind] for kind in _POSTINGS))
    return postings if postings is not None and len(postings.sizes) == segment.records else None


def _load(files: Files, segment: Segment, kinds: Sequence[RecordType]) -> dict[int, bytes]:
    """Read the bodies of records of these types from a segment's sidecar, as far as they can be read and check."""
    path = sidecar_path(segment.path)
    found: dict[int, bytes] = {}
    try:
        handle = files.open(path)
    except OSError:
        return found
    try:
        header = parse_file_header(files.pread(handle, FILE_HEADER_SIZE, 0), path)
        if header.kind == FileKind.SIDECAR and header.subject == segment.salt:
            for each in walk(lambda size, offset: files.pread(handle, size, offset), header.salt):
                if isinstance(each, Found) and each.header.type in kinds:
                    found.setdefault(each.header.type, each.body)
                    if len(found) == len(kinds):
                        break
    except (HeaderUnreadable, OSError):
        pass
    finally:
        files.close(handle)
    return found


def encode_sidecar(
    segment: Segment,
    offsets: Offsets,
    *,
    stream_id: int,
    salt: int,
    time_ns: int,
    postings: Postings | None = None,
) -> bytes:
    """Encode the sidecar of a segment."""
    body = b"".join(
        (
            _COUNTS.pack(len(offsets.run_sequences), len(offsets)),
            offsets.run_sequences.tobytes(),
            offsets.run_places.tobytes(),
            offsets.units.tobytes(),
        )
    )
    bodies = [(RecordType.OFFSETS, body)]
    if postings is not None:
        bodies += zip(_POSTINGS, postings.encode(), strict=True)
    records: list[bytes] = []
    size = FILE_HEADER_SIZE
    for kind, each in bodies:
        record = encode(kind, each, guard=salt ^ size, sequence=segment.first, time_ns=time_ns)
        records.append(record)
        size += len(record)
    header = FileHeader(FileKind.SIDECAR, salt, stream_id, segment.salt, time_ns, size)
    return b"".join((encode_file_header(header), *records))


def write_sidecar(files: Files, path: str, data: bytes) -> None:
    """Put a sidecar beside its segment; not synced, for it is checked when it is read."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        files.unlink(temporary)
    handle = files.create(temporary)
    try:
        files.pwrite(handle, data, 0)
    finally:
        files.close(handle)
    files.rename(temporary, path)


def _parse_offsets(body: bytes) -> Offsets | None:
    offsets = Offsets()
    try:
        runs, count = _COUNTS.unpack_from(body)
        position = _COUNTS.size
        for numbers, size in (
            (offsets.run_sequences, runs),
            (offsets.run_places, runs),
            (offsets.units, count),
        ):
            end = position + size * numbers.itemsize
            numbers.frombytes(body[position:end])
            position = end
    except (struct.error, ValueError):
        return None
    return offsets if len(offsets) == count else None


def _next_record(read: Read, salt: int, position: int, end: int) -> int:
    """Give where the next readable header is, from `position` on."""
    for found in walk(read, salt, position):
        if isinstance(found, Found) or (isinstance(found, Damage) and found.header is not None):
            return found.offset
    return end


def _check_items() -> None:
    if array("I").itemsize != 4 or array("Q").itemsize != 8:
        raise StorageError("this platform's integers do not fit the storage format")


_check_items()
