"""Reading a log: messages by sequence, time and subject, and counting them.

What does not check is taken out of the log and listed as lost on the spot (`on_corrupt`); scans go on behind it, and
a get of exactly that message raises. Which messages a subject has is the index's to say; which of a sealed segment's
messages a wildcard means, its sidecar's (`segment_lookups.py`).

What the index says is compared with the messages that it names, wherever these are read or removed. Where they differ
the index is rebuilt, which is told in a line, and the log is read without it.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import merge
from typing import Final, TypeVar

from headrace.core.base.message import View
from headrace.storage.codec import decode_run, views_size
from headrace.storage.contents import Contents
from headrace.storage.index_interface import IndexDamaged
from headrace.storage.interface import CorruptRecord, Matcher, Scan, SubjectState
from headrace.storage.segment import Segment
from headrace.storage.segment_lookups import SegmentLookups, Verdict
from headrace.storage.segments import Place

MERGED_LITERALS_MAX: Final = 64
"""Up to how many literal subjects a scan follows the index instead of looking at every message."""

FEW_SUBJECTS: Final = 1000
"""With so many subjects a wildcard is asked about each of them, instead of about those of each segment."""

READ_FOR_VERDICT_MAX: Final = 4096
"""How many messages of the segment that is written to are read for one count."""

MISTAKEN: Final = "the index names other messages than the log has; it is rebuilt"

_Answer = TypeVar("_Answer")


class LogReads:
    """The reading half of a file log."""

    def __init__(
        self,
        contents: Contents,
        lookups: SegmentLookups,
        *,
        on_corrupt: Callable[[Place], None],
        on_mistaken: Callable[[str], None],
    ) -> None:
        self._lookups = lookups
        self._contents = contents
        self._segments = contents.segments
        self._on_corrupt = on_corrupt
        self._on_mistaken = on_mistaken

    def get(self, sequence: int) -> View | None:
        """Give a message. Raises CorruptRecord."""
        where = self._segments.find(sequence)
        if where is None:
            return None
        try:
            return self._segments.read(where).view
        except CorruptRecord:
            self._on_corrupt(where)
            raise

    def scan(
        self,
        start: int,
        stop: int,
        match: Matcher | None,
        *,
        messages_max: int,
        size_max: int,
        steps_max: int,
    ) -> Scan:
        """Read matching messages within bounds."""
        read = partial(
            self._scan, start, stop, match, messages_max=messages_max, size_max=size_max, steps_max=steps_max
        )
        try:
            return read(follows=True)
        except IndexDamaged as error:
            self._distrust(error)
            return read(follows=False)

    def _scan(
        self,
        start: int,
        stop: int,
        match: Matcher | None,
        *,
        messages_max: int,
        size_max: int,
        steps_max: int,
        follows: bool,
    ) -> Scan:
        """Scan; `follows`: the index may say where literal subjects are. Raises IndexDamaged."""
        last = min(stop, self._contents.last)
        views: list[View] = []
        size = 0
        start = max(start, self._segments.first)
        if start > last:
            return Scan(views, stop + 1)
        matches = None
        if match is not None:
            matches = match.matches if match.literals is None else match.literals.__contains__
        corrupt: list[Place] = []
        following = stop + 1
        budget = _Steps(steps_max)
        follows = follows and self._is_followed(match)
        runs = self._followed(match, start) if match and follows else self._runs(match, start, budget)
        for segment, place, end in runs:
            sequence = self._segments.sequence(segment, place)
            end = min(end, place + last - sequence + 1)
            while place < end:
                if budget.left <= 0 or len(views) >= messages_max or (views and size >= size_max):
                    following = sequence
                    break
                found: list[View] = []
                if decode_run is not None and end - place > 1:
                    found = self._segments.read_run(
                        segment,
                        place,
                        sequence,
                        count_max=min(end - place, budget.left, messages_max - len(views)),
                        size_max=max(1, size_max - size),
                    )
                if found:
                    count = len(found)
                    if matches is not None:
                        found = [view for view in found if matches(view.subject)]
                    if follows and len(found) < count:
                        raise IndexDamaged(MISTAKEN)
                    size += views_size(found)
                    views += found
                else:
                    count = 1
                    where = Place(segment, place)
                    try:
                        view = self._segments.read(where).view
                    except CorruptRecord:
                        corrupt.append(where)
                    else:
                        if matches is None or matches(view.subject):
                            views.append(view)
                            size += len(view.subject) + len(view.headers) + len(view.payload)
                        elif follows:
                            raise IndexDamaged(MISTAKEN)
                budget.left -= count
                place += count
                sequence += count
            if following <= stop or sequence > last:
                break
        for where in corrupt:
            self._on_corrupt(where)
        return Scan(views, following)

    def size_of(self, sequence: int) -> int:
        """Give a message's accounted size; 0 where there is none that can be read."""
        where = self._segments.find(sequence)
        if where is None:
            return 0
        try:
            return self._segments.read(where).size
        except CorruptRecord:
            self._on_corrupt(where)
            return 0

    def next_sequence(self, sequence: int) -> int:
        """Give the first live sequence at or above `sequence`."""
        if sequence <= self._segments.first:
            return self._segments.first
        return self._segments.next_live(sequence) or self._contents.last + 1

    def time_of(self, sequence: int) -> int:
        """Give a live message's timestamp; 0 where it cannot be read."""
        where = self._segments.find(sequence)
        if where is None:
            return 0
        try:
            return self._segments.time_of(where)
        except CorruptRecord:
            return 0

    def sequence_at(self, time_ns: int) -> int:
        """Give the first live sequence whose time is at or after `time_ns`; times ascend."""
        end = self._contents.last + 1
        for segment in self._segments.all:
            if segment.live_count and segment.last_time_ns >= time_ns:
                low, high = max(segment.first, self._segments.first), segment.last + 1
                break
        else:
            return end
        while low < high:
            middle = (low + high) // 2
            sequence = self._segments.next_live(middle) or end
            if sequence >= high:
                high = middle
            elif self.time_of(sequence) >= time_ns:
                high = middle
                end = sequence
            else:
                low = sequence + 1
        if end > segment.last:
            # Behind this segment every message is later.
            end = self._segments.next_live(segment.last + 1) or self._contents.last + 1
        return end

    def deleted(self) -> Iterable[tuple[int, int]]:
        """Give the ranges between first and last that hold no message."""
        expected = self._segments.first
        last = self._contents.last
        if self._contents.messages == last - expected + 1:
            return
        for first, end in self._segments.runs(expected, last):
            if first > expected:
                yield expected, first - 1
            expected = end + 1
        if expected <= last:
            yield expected, last

    def subject(self, subject: bytes) -> SubjectState | None:
        return self._ask(lambda: self._contents.index.subject(subject))

    def subjects(self, match: Matcher | None, *, after: bytes, count_max: int) -> list[SubjectState]:
        return self._ask(lambda: self._contents.index.subjects(match, after=after, count_max=count_max))

    def subject_count(self) -> int:
        return self._ask(lambda: self._contents.index.subject_count)

    def last_matching(self, match: Matcher, at_most: int) -> View | None:
        """Give the newest readable message of matching subjects."""
        while True:
            limit = at_most
            verdicts = self._verdicts(match, 0)
            if verdicts is not None:
                sequence = self._last_meant(verdicts, limit)
                if not sequence:
                    return None
            else:
                sequence = self._ask(partial(self._last_named, match, limit))
            if not sequence:
                return None
            try:
                view = self.get(sequence)
            except CorruptRecord:
                view = None
            if view is not None and match.matches(view.subject):
                return view
            at_most = sequence - 1
            if not at_most:
                return None

    def _last_named(self, match: Matcher, at_most: int) -> int:
        sequence = self._contents.index.last_matching(match, at_most)
        if sequence:
            where = self._segments.find(sequence)
            if where is None or not self._is_meant(where, match):
                raise IndexDamaged(MISTAKEN)
        return sequence

    def _is_meant(self, where: Place, match: Matcher) -> bool:
        try:
            return match.matches(self._segments.read(where).view.subject)
        except CorruptRecord:
            return True

    def count_matching(self, match: Matcher | None, start: int) -> int:
        """Count live messages of matching subjects at or above `start`."""
        if match is None:
            return self._segments.count_from(start)
        verdicts = self._verdicts(match, start)
        if verdicts is not None:
            return sum(verdict.count(segment, place) for segment, place, verdict in verdicts)
        if start <= self._segments.first:
            start = 0
        return self._ask(lambda: self._contents.index.count_matching(match, start))

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        def named() -> int | None:
            sequence = self._contents.index.find_message_id(message_id, since_ns)
            if sequence is not None and self._is_other_id(sequence, message_id):
                raise IndexDamaged(MISTAKEN)
            return sequence

        return self._ask(named)

    def _is_other_id(self, sequence: int, message_id: bytes) -> bool:
        """Tell whether a message that is still there was stored with another id."""
        where = self._segments.find(sequence)
        if where is None:
            return False
        try:
            return self._segments.read(where).extras.message_id != message_id
        except CorruptRecord:
            return False

    def sequences(self, subject: bytes) -> list[int]:
        """Give all messages of a subject, ascending."""

        def named() -> list[int]:
            sequences = list(self._contents.index.sequences(subject, 1))
            if not all(self._contents.has(each, subject) for each in sequences):
                raise IndexDamaged(MISTAKEN)
            return sequences

        return self._ask(named)

    def _runs(
        self, match: Matcher | None, start: int, budget: "_Steps"
    ) -> Iterator[tuple[Segment, int, int]]:
        """Give where messages that may match lie: segment, first place, place behind.

        Where asking about subjects took all of the budget, what is given last is where to go on.
        """
        if match is None:
            return self._segments.live_places(start)
        return self._judged(match, start, budget)

    def _is_followed(self, match: Matcher | None) -> bool:
        """Tell whether the index is asked where messages are: of few subjects, and while it can say."""
        if match is None or match.literals is None or len(match.literals) > MERGED_LITERALS_MAX:
            return False
        index = self._contents.index
        return index.is_ready or index.hurry()

    def _judged(self, match: Matcher, start: int, budget: "_Steps") -> Iterator[tuple[Segment, int, int]]:
        verdict: Verdict | None = None
        judged: Segment | None = None
        reached = 0
        for segment, place, end in self._segments.live_places(start):
            if segment is not judged:
                judged, reached = segment, 0
                verdict, steps = None, 0
                if self._lookups.is_sealed(segment):
                    verdict, steps = self._lookups.verdict(segment, match, max(1, budget.left))
                budget.left -= steps
                if verdict is not None and not verdict.is_whole and not verdict.read_to:
                    budget.left = 0
                    yield segment, place, end
                    return
            if verdict is None:
                yield segment, place, end
                continue
            if end <= reached:
                continue
            reached = max(place, reached)
            while (reached := verdict.next(segment, reached)) < end:
                first, reached = reached, verdict.run_end(reached, end)
                yield segment, first, reached

    def _verdicts(self, match: Matcher, start: int) -> list[tuple[Segment, int, Verdict]] | None:
        """Give what a wildcard means of each segment from `start` on, with the place of `start`.

        None where the index says it faster, or somewhere records would have to be read.
        """
        index = self._contents.index
        if match.literals is not None:
            return None
        if index.is_ready and self._ask(lambda: index.subject_count) <= FEW_SUBJECTS:
            return None
        start = max(start, self._segments.first)
        found: list[tuple[Segment, int, Verdict]] = []
        # The one that is written to comes first: where too much of it was not read yet, the rest need not be asked.
        for segment in reversed(self._segments.all):
            if not segment.live_count or segment.last < start:
                continue
            if self._lookups.is_sealed(segment):
                verdict = self._lookups.verdict(segment, match)[0]
            else:
                subject_at = partial(self._subject_at, segment)
                verdict = self._lookups.tail_verdict(segment, match, subject_at, READ_FOR_VERDICT_MAX)
            if verdict is None:
                return None
            found.append((segment, self._segments.place_from(segment, start), verdict))
        found.reverse()
        return found

    def _last_meant(self, verdicts: list[tuple[Segment, int, Verdict]], at_most: int) -> int:
        """Give the newest sequence that is meant, not above `at_most` unless 0; 0 for none."""
        for segment, place, verdict in reversed(verdicts):
            end = segment.records
            if at_most and at_most < segment.last:
                end = self._segments.place_from(segment, at_most + 1)
            last = verdict.last(segment, place, end)
            if last >= place:
                return self._segments.sequence(segment, last)
        return 0

    def _subject_at(self, segment: Segment, place: int) -> bytes | None:
        """Give a message's subject; None where it is not there, or cannot be read."""
        if segment.is_gone(place):
            return None
        try:
            return self._segments.read(Place(segment, place)).view.subject
        except CorruptRecord:
            return None

    def _followed(self, match: Matcher, start: int) -> Iterator[tuple[Segment, int, int]]:
        """Give where messages of literal subjects lie, one by one. Raises IndexDamaged."""
        index = self._contents.index
        for sequence in merge(*(index.sequences(subject, start) for subject in match.literals or ())):
            where = self._segments.find(sequence)
            if where is None:
                raise IndexDamaged(MISTAKEN)
            yield where.segment, where.place, where.place + 1

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Ask the index; where it is damaged, have it rebuilt. Raises IndexRebuilding while that takes its time."""
        index = self._contents.index
        if not index.is_ready:
            index.hurry()
        try:
            return question()
        except IndexDamaged as error:
            self._distrust(error)
            return question()

    def _distrust(self, error: IndexDamaged) -> None:
        self._on_mistaken(str(error))
        index = self._contents.index
        index.distrust()
        index.hurry()


class _Steps:
    """How many records may still be looked at."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left
