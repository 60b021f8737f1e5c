"""Giving space back: sealed segments that are mostly removed are copied without what is gone.

A rewrite takes one or several neighbouring segments and makes one file of what they still hold. Sequences stay;
what is missing between two messages stands in a skip record, so the new file reads like any other. It gets the
first one's first sequence in its name, and a salt of its own.

**Order.** The bits of what is removed are taken at a checkpoint, and nothing is copied before that checkpoint
is durable: so no message is left out whose removal a crash could take back. The copy is complete and synced
before it has a name. Then the next checkpoint names the new segment and drops the old ones, in one record
(`upkeep.py`), and when that record is durable the old files are unlinked. Before it a start finds the new file
unmentioned and removes it; after it, the old ones. Entries of the journal that aim at an old file's salt are
skipped from then on, and nothing is lost with them: the copy holds what they say.

What is copied is checked record by record. A live message that cannot be read ends the rewrite: the old file, where
the damage can be named, stays.

The same walk finds the message ids that are still wanted of messages that go, here and in segments that are
dropped whole.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.storage.files import Files
from headrace.storage.framing import FILE_HEADER_SIZE, FileHeader, FileKind, encode_file_header
from headrace.storage.record import (
    FLAG_MESSAGE_ID,
    FLAG_MORE,
    HEADER_SIZE,
    Header,
    Mark,
    RecordInvalid,
    RecordType,
    check_body,
    encode,
    encode_mark,
    encode_skip,
    parse_extras,
    parse_header,
)
from headrace.storage.segment import Offsets, Segment, segment_name
from headrace.storage.sidecar import encode_sidecar, find_offsets, load_sidecar, sidecar_path, write_sidecar

STEP_SIZE: Final = 256 * 1024
"""How much is read or written in one step of a chore."""

STEP_RECORDS: Final = 500
RECORD_COST: Final = 256
"""What the pace counts for each record beside its bytes: short ones cost more time than their bytes do."""

RECORD_EXTRA: Final = 40
"""What a copied message takes at most beside its accounted size, on average: its header, padding, a share of skips."""

KnownIdRow = tuple[bytes, int, int]


class Source(NamedTuple):
    """A segment to be copied, and its gone bits when the checkpoint was taken."""

    segment: Segment
    gone: bytes


class Plan(NamedTuple):
    """What is to be copied. Messages below `first` are removed; ids are wanted from `ids_since_ns` on."""

    sources: Sequence[Source]
    first: int
    ids_since_ns: int
    durable_to: int
    batch: int
    stream_id: int
    salt: int
    sidecar_salt: int
    time_ns: int


@dataclass(slots=True)
class Rewritten:
    """The outcome: the new segment, whose counts of live messages its owner sets, or why there is none."""

    plan: Plan
    segment: Segment | None = None
    offsets: Offsets = field(default_factory=Offsets)
    ids: list[KnownIdRow] = field(default_factory=list[KnownIdRow])
    is_unreadable: bool = False


def is_sparse(segment: Segment, *, share_max: float, gain_min: int) -> bool:
    """Tell whether copying what is live in a segment gives enough of its space back."""
    kept = needed_size(segment)
    return kept <= segment.used * share_max and segment.used - kept >= gain_min


def needed_size(segment: Segment) -> int:
    """Give about how many bytes the live messages of a segment take when they are copied."""
    return segment.live_size + RECORD_EXTRA * segment.live_count + FILE_HEADER_SIZE


def message_ids(files: Files, segment: Segment, since_ns: int, found: list[KnownIdRow]) -> Iterator[int]:
    """Find the ids of a segment's messages, removed ones too, that are not older than `since_ns`; a chore."""
    handle = files.open(segment.path)
    try:
        reader = _Records(files, handle, segment)
        for place in range(len(reader.units)):
            if reader.is_due:
                yield reader.take_cost()
            row = _message_id(reader, place, since_ns)
            if row is not None:
                found.append(row)
        yield reader.take_cost()
    finally:
        files.close(handle)


def rewrite(files: Files, rewritten: Rewritten) -> Iterator[int]:
    """Make the new file, durable and under its name; a chore. Where a record does not check there is none."""
    plan = rewritten.plan
    first = plan.sources[0].segment
    folder = os.path.dirname(first.path)
    temporary = f"{folder}/{plan.salt:016x}.new"
    path = f"{folder}/{segment_name(first.first, plan.salt)}"
    handle = files.create(temporary)
    try:
        copy = _Copy(files, handle, rewritten, path)
        try:
            for source in plan.sources:
                yield from _copy_source(files, source, copy)
            segment = copy.finish()
            yield RECORD_COST
            files.rename(temporary, path)
            files.sync_folder(folder)
            rewritten.segment = segment
        except RecordInvalid:
            rewritten.is_unreadable = True
            _discard(files, temporary)
        except OSError:
            _discard(files, temporary)
            raise
    finally:
        files.close(handle)
    if rewritten.segment is not None:
        data = encode_sidecar(
            rewritten.segment,
            rewritten.offsets,
            stream_id=plan.stream_id,
            salt=plan.sidecar_salt,
            time_ns=plan.time_ns,
        )
        # It is derived, and made when it is needed.
        with contextlib.suppress(OSError):
            write_sidecar(files, sidecar_path(path), data)
        yield len(data)


def _discard(files: Files, path: str) -> None:
    """Remove a file that is not needed; where that fails, the next start does it."""
    with contextlib.suppress(OSError):
        files.unlink(path)


class _Records:
    """Reads records of one file by place, through a window; counts what that costs."""

    def __init__(self, files: Files, handle: int, segment: Segment) -> None:
        self._files = files
        self._handle = handle
        self._segment = segment
        self._window = b""
        self._base = 0
        self._cost = 0
        self._count = 0
        offsets = load_sidecar(files, segment)
        if offsets is None:
            offsets = find_offsets(
                self._read,
                segment.salt,
                first=segment.first,
                last=segment.last,
                end=segment.used,
                records=segment.records,
            )
            self._cost += segment.used
        self.offsets = offsets
        self.units = offsets.units

    @property
    def is_due(self) -> bool:
        """Whether this step was long enough."""
        return self._cost >= STEP_SIZE or self._count >= STEP_RECORDS

    def take_cost(self) -> int:
        cost, self._cost, count, self._count = self._cost, 0, self._count, 0
        return cost + RECORD_COST * count

    def header(self, place: int) -> Header:
        """Give the header at a place. Raises RecordInvalid."""
        offset = self.units[place] << 3
        self._count += 1
        if not offset:
            raise RecordInvalid("nobody knows where it is")
        header = parse_header(self._bytes(offset, HEADER_SIZE), 0, self._segment.salt ^ offset)
        if header.sequence != self.offsets.sequence(place):
            raise RecordInvalid("another record is in its place")
        return header

    def body(self, place: int, header: Header) -> bytes:
        """Give a record's body with its padding, checked. Raises RecordInvalid."""
        offset = self.units[place] << 3
        body = self._bytes(offset + HEADER_SIZE, header.end - HEADER_SIZE)
        check_body(header, body)
        return body

    def _bytes(self, offset: int, size: int) -> bytes:
        start = offset - self._base
        if start < 0 or start + size > len(self._window):
            end = max(offset + size, min(offset + STEP_SIZE, self._segment.used))
            self._window = self._read(end - offset, offset)
            self._base, start = offset, 0
            self._cost += len(self._window)
        return self._window[start : start + size]

    def _read(self, size: int, offset: int) -> bytes:
        return self._files.pread(self._handle, size, offset)


class _Copy:
    """The new file."""

    def __init__(self, files: Files, handle: int, rewritten: Rewritten, path: str) -> None:
        plan = rewritten.plan
        self.plan = plan
        self._files = files
        self._handle = handle
        self._offsets = rewritten.offsets
        self.ids = rewritten.ids
        self._path = path
        self._data = bytearray()
        self._written = FILE_HEADER_SIZE
        self._expected = plan.sources[0].segment.first
        self._time_ns = plan.sources[0].segment.first_time_ns
        self._mark(RecordType.BATCH, self._expected - 1)

    @property
    def is_due(self) -> bool:
        return len(self._data) >= STEP_SIZE

    @property
    def _offset(self) -> int:
        return self._written + len(self._data)

    def add(self, header: Header, body: bytes) -> None:
        """Append a message as it was."""
        if header.sequence > self._expected:
            self._skip(header.sequence - 1)
        self._offsets.expect(header.sequence)
        self._offsets.units.append(self._offset >> 3)
        self._data += encode(
            RecordType.MESSAGE,
            body[: header.length - HEADER_SIZE],
            guard=self.plan.salt ^ self._offset,
            sequence=header.sequence,
            time_ns=header.time_ns,
            flags=header.flags,
            subject_size=header.subject_size,
            headers_size=header.headers_size,
        )
        self._expected = header.sequence + 1
        self._time_ns = header.time_ns

    def write(self) -> int:
        """Write what was gathered; give how much that was."""
        size = len(self._data)
        self._files.pwrite(self._handle, self._data, self._written)
        self._written += size
        self._data = bytearray()
        return size

    def finish(self) -> Segment:
        """Write the rest and sync; give the segment without its counts of live messages."""
        plan = self.plan
        sources = [source.segment for source in plan.sources]
        last = sources[-1].last
        if last >= self._expected:
            self._skip(last)
        if not self._offsets.run_sequences:
            self._offsets.expect(last + 1)
        self._mark(RecordType.SEAL, last)
        self.write()
        header = FileHeader(FileKind.SEGMENT, plan.salt, plan.stream_id, 0, plan.time_ns, self._written)
        self._files.pwrite(self._handle, encode_file_header(header), 0)
        self._files.sync(self._handle)
        segment = Segment(first=sources[0].first, salt=plan.salt, path=self._path, capacity=self._written)
        segment.last = last
        segment.records = len(self._offsets)
        # A segment without a message, only skips, has no times.
        segment.first_time_ns = next((each.first_time_ns for each in sources if each.first_time_ns), 0)
        segment.last_time_ns = max(each.last_time_ns for each in sources)
        segment.id_time_ns = max(source.id_time_ns for source in sources)
        segment.used = segment.written = self._written
        return segment

    def _skip(self, last: int) -> None:
        self._data += encode_skip(
            guard=self.plan.salt ^ self._offset, first=self._expected, last=last, time_ns=self._time_ns
        )
        self._expected = last + 1

    def _mark(self, kind: RecordType, last: int) -> None:
        mark = Mark(self.plan.batch, self.plan.durable_to, len(self._offsets))
        self._data += encode_mark(
            kind, mark, guard=self.plan.salt ^ self._offset, sequence=last, time_ns=self.plan.time_ns
        )


def _copy_source(files: Files, source: Source, copy: _Copy) -> Iterator[int]:
    """Copy what is live in one segment. Raises RecordInvalid."""
    segment, gone = source
    handle = files.open(segment.path)
    try:
        reader = _Records(files, handle, segment)
        if len(reader.units) != segment.records:
            raise RecordInvalid("its records cannot be found")
        wants_ids = segment.id_time_ns >= copy.plan.ids_since_ns
        below = reader.offsets.place_from(copy.plan.first)
        for place in range(len(reader.units)):
            is_gone = place < below or (place >> 3 < len(gone) and gone[place >> 3] >> (place & 7) & 1)
            if is_gone:
                row = _message_id(reader, place, copy.plan.ids_since_ns) if wants_ids else None
                if row is not None:
                    copy.ids.append(row)
            else:
                header = reader.header(place)
                if header.type != RecordType.MESSAGE:
                    raise RecordInvalid("another record is in its place")
                copy.add(header, reader.body(place, header))
            if reader.is_due or copy.is_due:
                yield reader.take_cost() + copy.write()
        yield reader.take_cost()
    finally:
        files.close(handle)


def _message_id(reader: _Records, place: int, since_ns: int) -> KnownIdRow | None:
    """Give the id of the message at a place with its sequence and time, where it has one that is still wanted."""
    if not reader.units[place]:
        return None
    try:
        header = reader.header(place)
        if header.time_ns < since_ns or not header.flags & (FLAG_MESSAGE_ID | FLAG_MORE):
            return None
        message_id = parse_extras(header, reader.body(place, header)).message_id
    except RecordInvalid:
        return None
    return (message_id, header.sequence, header.time_ns) if message_id else None
