"""The segments of one log: finding, reading and counting messages in them.

A message is *live* when it is at or above the log's first sequence, has a record, and has no gone bit. Bytes that were
handed to the sync worker or still wait for it are served from memory (`Tail`); everything else is read through the
block cache and its checksums are tested each time.
"""

import errno
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from headrace.core.base.message import View
from headrace.storage.blocks import Blocks
from headrace.storage.codec import decode_run
from headrace.storage.files import Files
from headrace.storage.interface import CorruptRecord
from headrace.storage.record import (
    HEADER_SIZE,
    Extras,
    Header,
    RecordInvalid,
    RecordType,
    accounted_size,
    check_body,
    parse_extras,
    parse_header,
    parse_message,
)
from headrace.storage.segment import Offsets, Segment
from headrace.storage.sidecar import OffsetsCache, find_offsets, load_sidecar
from headrace.storage.unheeded import unheeded


class Tail:
    """Bytes of a segment that are not known to be written: one commit cycle's."""

    __slots__ = ("data", "offset", "segment")

    def __init__(self, segment: Segment, offset: int) -> None:
        self.segment = segment
        self.offset = offset
        self.data = bytearray()


class Place(NamedTuple):
    """A message: its segment, and its place in it."""

    segment: Segment
    place: int


class Stored(NamedTuple):
    """A message's record, checked."""

    header: Header
    body: bytes

    @property
    def extras(self) -> Extras:
        return parse_extras(self.header, self.body)

    @property
    def view(self) -> View:
        return parse_message(self.header, self.body)

    @property
    def size(self) -> int:
        """What it counts for."""
        return accounted_size(self.header, self.extras.size)


class Segments:
    """All segments of a log, ascending. `first` is the log's first sequence; its owner moves it."""

    def __init__(self, files: Files, blocks: Blocks, offsets: OffsetsCache) -> None:
        self._files = files
        self._blocks = blocks
        self._offsets = offsets
        self.all: list[Segment] = []
        self._firsts: list[int] = []
        self.tails: list[Tail] = []
        self.first = 1
        self.on_sealed: Callable[[Segment], None] = unheeded

    def add(self, segment: Segment) -> None:
        """Add the segment that comes after all others."""
        assert not self.all or self.all[-1].last < segment.first, "segments ascend"
        self.all.append(segment)
        self._firsts.append(segment.first)

    def begin(self, segment: Segment) -> None:
        """Add a segment that is going to be written to; its offsets stay in memory meanwhile."""
        segment.offsets = Offsets()
        self.add(segment)

    def resume(self, segment: Segment) -> None:
        """The last segment is going to be written to again."""
        offsets = self.offsets(segment)
        self._offsets.forget(segment)
        segment.offsets = offsets

    def begin_replay(self, segment: Segment) -> None:
        """A segment goes on behind what was known of it; what was loaded so far is too short."""
        segment.is_being_replayed = True
        segment.offsets = None
        self._offsets.forget(segment)

    def end_replay(self) -> None:
        """Every segment is known to its end."""
        for segment in self.all:
            if segment.is_being_replayed:
                segment.is_being_replayed = False
                segment.offsets = None
                self._offsets.forget(segment)

    def adopt(self, segment: Segment) -> None:
        """A sealed segment is written: from now on its offsets may be dropped and loaded again."""
        self._offsets.use(segment, lambda: self._load_offsets(segment))
        self.on_sealed(segment)

    def discard(self, segment: Segment) -> None:
        """Take out a segment that has nothing live."""
        index = self.all.index(segment)
        del self.all[index]
        del self._firsts[index]
        self._offsets.forget(segment)
        self._blocks.forget(segment.salt)

    def replace(self, olds: Sequence[Segment], new: Segment, offsets: Offsets) -> None:
        """Put a segment in the place of neighbours whose messages it holds."""
        index = self.all.index(olds[0])
        self.all[index : index + len(olds)] = [new]
        self._firsts[index : index + len(olds)] = [new.first]
        for old in olds:
            self._offsets.forget(old)
            self._blocks.forget(old.salt)
        self._offsets.use(new, lambda: offsets)
        self.on_sealed(new)

    def forget_blocks(self, salt: int) -> None:
        """A segment's file was overwritten in a part: what was read of it is old."""
        self._blocks.forget(salt)

    def offsets(self, segment: Segment) -> Offsets:
        """Give where a segment's messages lie; may read the whole segment once."""
        if segment.offsets is not None and (segment is self.all[-1] or segment.written < segment.used):
            return segment.offsets
        return self._offsets.use(segment, lambda: self._load_offsets(segment))

    def segment_of(self, sequence: int) -> Segment | None:
        """Give the segment that used up `sequence`."""
        index = bisect_right(self._firsts, sequence) - 1
        if index < 0:
            return None
        segment = self.all[index]
        return segment if sequence <= segment.last else None

    def find(self, sequence: int) -> Place | None:
        """Give where the live message `sequence` is; None where there is none."""
        if sequence < self.first:
            return None
        segment = self.segment_of(sequence)
        if segment is None or not segment.live_count:
            return None
        place = sequence - segment.first if segment.is_dense else self.offsets(segment).place(sequence)
        return None if place < 0 or segment.is_gone(place) else Place(segment, place)

    def sequence(self, segment: Segment, place: int) -> int:
        """Give the sequence of the message at a place."""
        return segment.first + place if segment.is_dense else self.offsets(segment).sequence(place)

    def place_from(self, segment: Segment, sequence: int) -> int:
        """Give the place of a segment's first message at or above `sequence`."""
        if segment.is_dense:
            return max(0, min(sequence - segment.first, segment.records))
        return self.offsets(segment).place_from(sequence)

    def live(self, start: int) -> Iterator[Place]:
        """Give the live messages from `start` on, ascending. None may be appended or removed meanwhile."""
        start = max(start, self.first)
        index = max(0, bisect_right(self._firsts, start) - 1)
        for segment in self.all[index:]:
            if not segment.live_count or segment.last < start:
                continue
            place = segment.next_live_place(self.place_from(segment, start))
            while place < segment.records:
                yield Place(segment, place)
                place = segment.next_live_place(place + 1)

    def live_places(self, start: int) -> Iterator[tuple[Segment, int, int]]:
        """Give the live messages from `start` on by runs: segment, first place, place behind. As `live` otherwise."""
        start = max(start, self.first)
        index = max(0, bisect_right(self._firsts, start) - 1)
        for segment in self.all[index:]:
            if not segment.live_count or segment.last < start:
                continue
            place = segment.next_live_place(self.place_from(segment, start))
            while place < segment.records:
                end = self._run_end(segment, place)
                yield segment, place, end
                place = segment.next_live_place(end)

    def read_run(
        self, segment: Segment, place: int, sequence: int, *, count_max: int, size_max: int
    ) -> list[View]:
        """Read and check some messages from `place` on, the first of which has `sequence` and each other the next.

        Stops, at the first one too, before whatever is not a whole and valid message of one block: `read` tells.
        """
        if decode_run is None:
            return []
        units = self.offsets(segment).units
        offset = units[place] << 3
        if not offset or offset >= segment.written:
            return []
        try:
            block, base = self._blocks.block(segment, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return []
        return decode_run(
            block,
            base,
            salt=segment.salt,
            units=units,
            place=place,
            sequence=sequence,
            count_max=count_max,
            size_max=size_max,
        )

    def next_live(self, start: int) -> int:
        """Give the first live sequence at or above `start`; 0 where there is none."""
        for segment, place in self.live(start):
            return self.sequence(segment, place)
        return 0

    def runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Give the inclusive ranges of live sequences within `first` to `last`, ascending."""
        first = max(first, self.first)
        index = max(0, bisect_right(self._firsts, first) - 1)
        for segment in self.all[index:]:
            if segment.first > last:
                return
            if not segment.live_count or segment.last < first:
                continue
            if segment.is_dense and segment.gone is None:
                yield max(first, segment.first), min(last, segment.last)
                continue
            place = segment.next_live_place(self.place_from(segment, first))
            while place < segment.records:
                start = self.sequence(segment, place)
                if start > last:
                    return
                end = self._run_end(segment, place)
                yield start, min(last, self.sequence(segment, end - 1))
                place = segment.next_live_place(end)

    def count_from(self, start: int) -> int:
        """Count the live messages at or above `start`."""
        start = max(start, self.first)
        count = 0
        for segment in reversed(self.all):
            if segment.last < start:
                break
            if segment.first >= start:
                count += segment.live_count
                continue
            # One without a live message may have no bits that say so.
            if segment.live_count:
                place = self.place_from(segment, start)
                count += segment.records - place - segment.count_gone(place)
            break
        return count

    def read(self, where: Place) -> Stored:
        """Read and check a message. Raises CorruptRecord."""
        segment, place = where
        offset, end = self._extent(segment, place)
        if not offset:
            raise CorruptRecord(segment.path, 0, self.sequence(segment, place))
        try:
            data, is_checked = self._bytes(segment, offset, end - offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise CorruptRecord(segment.path, offset, self.sequence(segment, place)) from error
        try:
            header = parse_header(data, 0, segment.salt ^ offset)
            body = data[HEADER_SIZE : header.end]
            if not is_checked:
                check_body(header, body)
            if header.type != RecordType.MESSAGE or header.sequence != self.sequence(segment, place):
                raise RecordInvalid("another record is in its place")
            parse_message(header, body)
        except RecordInvalid as error:
            raise CorruptRecord(segment.path, offset, self.sequence(segment, place)) from error
        return Stored(header, body)

    def message_ids(self, segment: Segment) -> list[tuple[bytes, int, int]]:
        """Give the (message id, sequence, time) of a segment's messages that have an id, removed ones too."""
        found: list[tuple[bytes, int, int]] = []
        for place in range(segment.records):
            try:
                stored = self.read(Place(segment, place))
            except CorruptRecord:
                continue
            if stored.header.flags and (message_id := stored.extras.message_id):
                found.append((message_id, stored.header.sequence, stored.header.time_ns))
        return found

    def raw(self, where: Place) -> bytes:
        """Give the bytes where a message should be, unchecked, up to the next one's."""
        offset, end = self._extent(*where)
        if not offset:
            return b""
        try:
            return self._bytes(where.segment, offset, end - offset)[0]
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""

    def places_within(self, segment: Segment, offset: int, size: int) -> list[Place]:
        """Give the live messages whose records begin in a range of a segment's file, or nobody knows where."""
        units = self.offsets(segment).units
        found = [place for place, unit in enumerate(units) if not unit or offset <= unit << 3 < offset + size]
        return [
            Place(segment, place)
            for place in found
            if not segment.is_gone(place) and self.sequence(segment, place) >= self.first
        ]

    def reread(self, segment: Segment) -> None:
        """Let the next reads of a segment come from its file, not from what was read before."""
        self._blocks.forget(segment.salt)

    def time_of(self, where: Place) -> int:
        """Give a message's timestamp. Raises CorruptRecord."""
        return self.read(where).header.time_ns

    def _extent(self, segment: Segment, place: int) -> tuple[int, int]:
        """Give where a message's record begins, 0 where nobody knows, and where the next one does."""
        units = self.offsets(segment).units
        following = place + 1
        while following < len(units) and not units[following]:
            following += 1
        return units[place] << 3, units[following] << 3 if following < len(units) else segment.used

    def _bytes(self, segment: Segment, offset: int, size: int) -> tuple[bytes, bool]:
        """Give bytes of a segment, and whether they come from memory, where there is nothing to check."""
        if offset >= segment.written:
            for tail in self.tails:
                start = offset - tail.offset
                if tail.segment is segment and 0 <= start < len(tail.data):
                    return bytes(tail.data[start : start + size]), True
        return self._blocks.read(segment, offset, size), False

    def _load_offsets(self, segment: Segment) -> Offsets:
        # While a segment is replayed its count of messages grows, and an older sidecar might fit it for a moment.
        loaded = None if segment.is_being_replayed else load_sidecar(self._files, segment)
        if loaded is not None:
            return loaded

        def read(size: int, offset: int) -> bytes:
            return self._files.pread(self._blocks.handle(segment), size, offset)

        return find_offsets(
            read,
            segment.salt,
            first=segment.first,
            last=segment.last,
            end=segment.used,
            records=-1 if segment.is_being_replayed else segment.records,
        )

    def _run_end(self, segment: Segment, place: int) -> int:
        """Give the place behind the run of live messages with ascending sequences that begins at `place`."""
        end = segment.next_gone_place(place)
        if segment.is_dense:
            return end
        offsets = self.offsets(segment)
        run = bisect_right(offsets.run_places, place)
        return min(end, offsets.run_places[run]) if run < len(offsets.run_places) else end
