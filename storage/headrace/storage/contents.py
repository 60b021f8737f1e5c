"""Which messages a log holds: what appends and removals do to segments, totals and index.

The service and its recovery run the same code here, which is why a replay comes to the same counts. Nothing in this
module writes: a record was encoded, or read from disk, before its effect is applied.

Invariant between calls: `messages` and `size` are the sums over the segments' live counts; the index was told
everything; `segments.first` is the first live sequence, or last + 1.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from headrace.storage.index_interface import LogIndex
from headrace.storage.interface import CorruptRecord
from headrace.storage.record import (
    HEADER_SIZE,
    Extras,
    Header,
    RecordInvalid,
    accounted_size,
    check_body,
    parse_extras,
    parse_header_unchecked,
)
from headrace.storage.removals import difference, set_places
from headrace.storage.segment import Offsets, Segment
from headrace.storage.segments import Place, Segments
from headrace.storage.state import Lost

CLEAR_COUNT_MIN: Final = 1000
"""From how many messages on a removal of all is told to the index as one."""


class Contents:
    """The appended state of a log, but for what its state log alone knows."""

    def __init__(self, segments: Segments, index: LogIndex, *, first: int) -> None:
        self.segments = segments
        self.index = index
        self.messages = 0
        self.size = 0
        self.last = first - 1
        self.last_time_ns = 0
        self.lost: list[Lost] = []
        self.newly_lost: list[int] = []
        self.gone_since: dict[Segment, list[int]] = {}
        self.tells = True
        self.is_replaying = False
        segments.first = first

    @property
    def first(self) -> int:
        """The first live sequence; last + 1 where there is none."""
        return self.segments.first

    def appended(
        self, segment: Segment, *, sequence: int, time_ns: int, subject: bytes, message_id: bytes, size: int
    ) -> None:
        """A message was added to a segment; its offset is noted by the caller."""
        segment.records += 1
        segment.live_count += 1
        segment.live_size += size
        segment.last = sequence
        segment.note_time(time_ns)
        if message_id:
            segment.id_time_ns = time_ns
        segment.has_changed = True
        if not self.messages:
            # In a replay, behind sequences that are lost: the first one is not the next after the last.
            self.segments.first = sequence
        self.messages += 1
        self.size += size
        self.last = sequence
        self.last_time_ns = time_ns
        if self.tells:
            self.index.note_append(sequence, time_ns, subject, message_id)

    def appended_batch(
        self, segment: Segment, *, count: int, time_ns: int, subjects: Sequence[bytes], size: int
    ) -> None:
        """Messages without effects were added to a segment, all at once."""
        first = self.last + 1
        segment.records += count
        segment.live_count += count
        segment.live_size += size
        segment.last = self.last = first + count - 1
        segment.note_time(time_ns)
        segment.has_changed = True
        self.messages += count
        self.size += size
        self.last_time_ns = time_ns
        self.index.note_appends(first, subjects)

    def skipped(self, segment: Segment, *, last: int, time_ns: int) -> None:
        """Sequences up to `last` were used up without messages."""
        if not self.messages:
            self.segments.first = last + 1
        segment.last = self.last = last
        segment.has_changed = True
        self.last_time_ns = time_ns

    def missed(self, segment: Segment, *, first: int, last: int) -> None:
        """Messages that were in a segment cannot be read at all: they have places, and are gone."""
        for place in range(segment.records, segment.records + last - first + 1):
            segment.records += 1
            segment.set_gone(place)
        if not self.messages:
            self.segments.first = last + 1
        segment.last = self.last = last
        segment.has_changed = True
        self.gone_since.setdefault(segment, []).extend(range(first, last + 1))

    def apply(self, sequence: int, extras: Extras) -> None:
        """Remove what the append of `sequence`, told last, says."""
        if extras.first_sequence:
            self.remove_below(extras.first_sequence, 0)
        for first, last in extras.evicted:
            for evicted in range(first, last + 1):
                if evicted != sequence:
                    self.remove_one(evicted, 0)

    def remove_ranges(self, ranges: Iterable[tuple[int, int]], change: int) -> int:
        """Remove the messages of ranges, by the change of this number; give how many there were."""
        before = self.messages
        for first, last in ranges:
            if first <= self.first:
                self.remove_below(last + 1, change)
            else:
                doomed = [self.segments.sequence(*each) for each in self._live_within(first, last)]
                for sequence in doomed:
                    self.remove_one(sequence, change)
        return before - self.messages

    def remove_below(self, sequence: int, change: int) -> None:
        """Remove every message below `sequence`."""
        if sequence > self.last and self.messages >= CLEAR_COUNT_MIN and change:
            self._remove_all(change)
            return
        while self.first < sequence and self.first <= self.last:
            is_removed = self.remove_one(self.first, change)
            assert is_removed, "the first sequence is live"

    def remove_one(self, sequence: int, change: int) -> bool:
        """Remove a message; tell whether it was there."""
        where = self.segments.find(sequence)
        if where is None:
            return False
        try:
            stored = self.segments.read(where)
        except CorruptRecord:
            self.lose(where, change)
            return True
        self._take_out(where, sequence, stored.size)
        if self.tells:
            self.index.note_removed(sequence, stored.view.subject, change)
        return True

    def has(self, sequence: int, subject: bytes) -> bool:
        """Tell whether a live message has this subject; one that cannot be read is believed to have it."""
        where = self.segments.find(sequence)
        if where is None:
            return False
        try:
            return self.segments.read(where).view.subject == subject
        except CorruptRecord:
            return True

    def replace(self, olds: Sequence[tuple[Segment, bytes]], new: Segment, offsets: Offsets) -> None:
        """Put a segment in the place of neighbours; it holds what was live when their gone bits were those given."""
        removed: list[int] = []
        new.live_count = new.live_size = 0
        for old, bits in olds:
            if old.gone is not None:
                places = set_places(difference(old.gone, bits))
                removed += [self.segments.sequence(old, place) for place in places]
            self.gone_since.pop(old, None)
            new.live_count += old.live_count
            new.live_size += old.live_size
        for sequence in removed:
            place = offsets.place(sequence)
            assert place >= 0, "it was live when its segment was copied"
            new.set_gone(place)
        if removed:
            self.gone_since[new] = removed
        self.segments.replace([old for old, _ in olds], new, offsets)

    def lose(self, where: Place, change: int) -> None:
        """Take out a message that cannot be read, and list it. Its size and subject are what its bytes still say."""
        sequence = self.segments.sequence(*where)
        size, subject = self._guess(where, sequence)
        self._take_out(where, sequence, size)
        self.newly_lost.append(sequence)
        for first, last in self.segments.offsets(where.segment).doubtful:
            if first <= sequence <= last:
                self.newly_lost.extend(range(first, last + 1))
        if subject and self.tells:
            self.index.note_removed(sequence, subject, change)
        elif self.tells:
            self.index.note_lost(sequence)

    def _remove_all(self, change: int) -> None:
        for segment in self.segments.all:
            if segment.live_count:
                segment.live_count = 0
                segment.live_size = 0
                segment.gone = None
                segment.has_changed = True
        self.gone_since.clear()
        self.messages = 0
        self.size = 0
        self.segments.first = self.last + 1
        if self.tells:
            self.index.note_cleared(change)

    def _take_out(self, where: Place, sequence: int, size: int) -> None:
        segment, place = where
        segment.live_count -= 1
        segment.live_size -= size
        segment.has_changed = True
        self.messages -= 1
        self.size -= size
        if not segment.live_count and segment.live_size:
            # A damaged message's size was a guess: with the last one gone, nothing may be left.
            self.size -= segment.live_size
            segment.live_size = 0
        if sequence == self.segments.first:
            self.segments.first = self.segments.next_live(sequence + 1) or self.last + 1
        else:
            segment.set_gone(place)
            self.gone_since.setdefault(segment, []).append(sequence)

    def _live_within(self, first: int, last: int) -> Iterable[Place]:
        for where in self.segments.live(first):
            if self.segments.sequence(*where) > last:
                return
            yield where

    def _guess(self, where: Place, sequence: int) -> tuple[int, bytes]:
        """Give the accounted size of a damaged message and its subject, empty unless the index confirms it."""
        raw = self.segments.raw(where)
        try:
            header = parse_header_unchecked(raw)
        except struct.error:
            return 0, b""
        size = accounted_size(header, _extras_size(header, raw))
        if header.end != len(raw) or header.flags:
            size = min(size, len(raw))
        subject = raw[HEADER_SIZE : HEADER_SIZE + header.subject_size]
        if (
            header.flags
            or self.is_replaying
            or not self.index.is_ready
            or next(iter(self.index.sequences(subject, sequence)), 0) != sequence
        ):
            return size, b""
        return size, subject


def _extras_size(header: Header, raw: bytes) -> int:
    """Give what the extras of a message take, where it checks after all: a read had failed, its bytes are good."""
    body = raw[HEADER_SIZE : header.end]
    try:
        check_body(header, body)
        return parse_extras(header, body).size
    except RecordInvalid:
        return 0
