"""Secure erase: what a removed message said is overwritten in its segment.

The record stays framed, with its sequence, its sizes and what its append caused elsewhere, and becomes an
*erased* record: scans, checks and replays see that something was erased there, and no damage. Subject, headers
and payload become zeros.

**Order.** The removal is durable, and a checkpoint counts it, before a byte is overwritten: so no start ever
needs what is overwritten. The `erase` operation of that checkpoint says where, and with which bytes the new
record begins. Then the journal is emptied, which still may hold the message and would write it again. Then the
record is overwritten and synced, and `erased` says so. A start carries out what was to be erased and was not
said to be; for that it need not be able to read what a crash left of the record. A file that is dropped
meanwhile is unlinked only after that.

Copies elsewhere are not found: sidecars and the index hold subjects, file systems and disks may keep old blocks.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from headrace.storage.files import Files
from headrace.storage.record import ALIGNMENT, RecordInvalid, encode_erased, parse_record
from headrace.storage.segments import Place, Segments
from headrace.storage.state import Operation

STEP_SIZE: Final = 1024 * 1024
_ZEROS: Final = bytes(STEP_SIZE)


class Erasure(NamedTuple):
    """A record to be overwritten: `head`, then zeros, `size` bytes in all."""

    path: str
    name: str
    offset: int
    head: bytes
    size: int

    @property
    def operation(self) -> Operation:
        """What the state log says of it."""
        return ["erase", self.name, self.offset, self.head, self.size]


class Erased(NamedTuple):
    """A message that is going to be erased, and what has to be kept of it."""

    erasure: Erasure
    message_id: bytes
    sequence: int
    time_ns: int


def erasures(segments: Segments, ranges: Sequence[tuple[int, int]]) -> Iterator[Erased]:
    """Give what is to be overwritten so that nothing is left of the messages of ranges."""
    for first, last in ranges:
        for segment in segments.all:
            if segment.last < first or segment.first > last:
                continue
            units = segments.offsets(segment).units
            stop = min(segments.place_from(segment, last + 1), len(units))
            for place in range(segments.place_from(segment, first), stop):
                offset = units[place] << 3
                try:
                    raw = segments.raw(Place(segment, place))
                    header, extras = parse_record(raw, segment.salt ^ offset)
                except RecordInvalid:
                    continue  # It was erased before, or cannot be read.
                head = encode_erased(header, extras)
                erasure = Erasure(segment.path, segment.name, offset, head, header.end)
                yield Erased(erasure, extras.message_id, header.sequence, header.time_ns)


def erase(files: Files, todo: Sequence[Erasure]) -> Iterator[int]:
    """Overwrite records and sync their files; a chore. A file that has gone holds nothing any more."""
    for path in dict.fromkeys(each.path for each in todo):
        try:
            handle = files.open(path, writable=True)
        except FileNotFoundError:
            continue
        try:
            for each in todo:
                if each.path == path:
                    yield from _overwrite(files, handle, each)
            files.sync(handle)
        finally:
            files.close(handle)
        yield 0


def _overwrite(files: Files, handle: int, erasure: Erasure) -> Iterator[int]:
    assert not erasure.size % ALIGNMENT, "records are padded"
    position, end = erasure.offset + len(erasure.head), erasure.offset + erasure.size
    files.pwrite(handle, erasure.head, erasure.offset)
    while position < end:
        size = min(STEP_SIZE, end - position)
        files.pwrite(handle, _ZEROS[:size], position)
        position += size
        yield size
