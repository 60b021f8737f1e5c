"""Where a consumer reads on in its stream, and how many messages still lie ahead.

A consumer reads forward. Only policy `last_per_subject` begins with a list: the newest message of each subject at the
time of its creation. When the list is done it goes on with what came later.

Reading is done in two steps, because a delivery may be taken in part: `read` gives messages, `advance` says how many
of them were delivered. Nothing is kept between; the stream's log is the only copy.

`num_pending` is exact and cheap: a count that is kept in the same step as what it counts. Where it cannot be (a range
of unknown content went, the filter changed) it is marked stale and counted anew when somebody asks.

Source: the consumer reference, sections 1.2 and 2.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.core.base.message import View
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.storage.interface import StreamLog

READ_SIZE_MAX: Final = 1024 * 1024
"""Bytes read at once; a connection that takes no more than twice this has no room."""

READ_MESSAGES_MAX: Final = 4096
COUNT_BY_READING_MAX: Final = 256
"""A tail of no more messages is counted by reading it; the log's own count goes by subject."""


class Read(NamedTuple):
    """Messages to deliver next; `at_end`: nothing visible lies behind them."""

    views: list[View]
    next_sequence: int
    at_end: bool


class Start(NamedTuple):
    """Where a new consumer begins: with `listed`, then at `next_sequence`. `first` is what comes first of all."""

    first: int
    next_sequence: int
    listed: list[int]


def make_filter(config: ConsumerConfig) -> SubjectFilter | None:
    """Give what a consumer's filters mean; None for everything."""
    if not config.filters or ">" in config.filters:
        return None
    return SubjectFilter(subject.encode() for subject in config.filters)


def starting_point(config: ConsumerConfig, log: StreamLog, match: SubjectFilter | None) -> Start:
    """Find where a deliver policy begins in a log as it is now."""
    head = log.head
    listed: list[int] = []
    match config.deliver_policy:
        case "last":
            newest = log.last_matching(match) if match is not None else None
            start = head.last_sequence if match is None else head.first_sequence
            start = newest.sequence if newest is not None else start
        case "new":
            start = head.last_sequence + 1
        case "by_start_sequence":
            start = max(config.opt_start_seq, head.first_sequence)
        case "by_start_time":
            start = log.sequence_at(config.opt_start_time_ns)
        case "last_per_subject":
            listed = sorted(state.last_sequence for state in log.subjects(match))
            start = head.last_sequence + 1 if listed else head.last_sequence
        case _:
            start = head.first_sequence
    if not head.messages:
        start = max(start, head.first_sequence)
    start = max(1, start)
    return Start(first=listed[0] if listed else start, next_sequence=start, listed=listed)


def remaining_last_per_subject(
    log: StreamLog, match: SubjectFilter | None, listed_to: int, above: int
) -> list[int]:
    """Find again what a list made when the log ended at `listed_to` holds above `above`.

    A subject may have newer messages by now; its entry is the newest one that the list could know.
    """
    found: list[int] = []
    if not log.is_index_ready:
        return sorted(each for each in _last_by_reading(log, match, listed_to).values() if each > above)
    for state in log.subjects(match):
        sequence = state.last_sequence
        if sequence > listed_to:
            known = log.last_matching(SubjectFilter([state.subject]), at_most=listed_to)
            sequence = known.sequence if known is not None else 0
        if sequence > above:
            found.append(sequence)
    return sorted(found)


def _last_by_reading(log: StreamLog, match: SubjectFilter | None, last: int) -> dict[bytes, int]:
    """Find each subject's newest sequence up to `last` without the log's index."""
    newest: dict[bytes, int] = {}
    start = log.head.first_sequence
    while start <= last:
        scan = log.scan(start, last, match, messages_max=READ_MESSAGES_MAX, size_max=READ_SIZE_MAX)
        newest.update((view.subject, view.sequence) for view in scan.views)
        start = scan.next_sequence
    return newest


class Position:
    """A consumer's place in its stream's log."""

    def __init__(
        self, log: StreamLog, match: SubjectFilter | None, next_sequence: int, listed: Sequence[int] = ()
    ) -> None:
        self.match = match
        self.next_sequence = next_sequence
        self._log = log
        self._listed = listed
        self._listed_index = 0  # of the next one to deliver
        self._unlisted: set[int] = set()  # at or above that index, but removed from the stream
        self._pending = 0  # matching messages from `next_sequence` to `_counted_to`
        self._counted_to = 0
        self._is_stale = True

    # reading

    def read(self, visible: int, count_max: int, *, size_max: int = READ_SIZE_MAX) -> Read:
        """Give the next matching messages that may be shown; at least one if there is one within the log's bounds."""
        if self._listed_index < len(self._listed):
            return self._read_listed(count_max)
        if self.next_sequence > visible:
            return Read([], self.next_sequence, at_end=True)
        scan = self._log.scan(
            self.next_sequence, visible, self.match, messages_max=count_max, size_max=size_max
        )
        return Read(scan.views, scan.next_sequence, at_end=scan.next_sequence > visible)

    def advance(self, read: Read, count: int) -> None:
        """The first `count` messages of `read` were delivered; what it skipped is passed as well."""
        if self._listed_index < len(self._listed):
            if count:
                self._listed_index = bisect_right(self._listed, read.views[count - 1].sequence)
                last = self._listed[self._listed_index - 1]
                self._unlisted = {sequence for sequence in self._unlisted if sequence > last}
            return
        before = self.next_sequence
        self.next_sequence = read.next_sequence if count == len(read.views) else read.views[count].sequence
        if self._is_stale:
            return
        if before <= self._counted_to:
            self._pending -= bisect_right(
                read.views, self._counted_to, 0, count, key=lambda view: view.sequence
            )
        if self.next_sequence > self._counted_to:
            self._pending = 0
            self._counted_to = self.next_sequence - 1

    def _read_listed(self, count_max: int) -> Read:
        views: list[View] = []
        index = self._listed_index
        while index < len(self._listed) and len(views) < count_max:
            view = self._log.get(self._listed[index])
            index += 1
            if view is not None:
                views.append(view)
        if not views:
            self._listed_index = index
            self._unlisted.clear()
        return Read(views, self.next_sequence, at_end=False)

    # counting

    def num_pending(self, read: Read | None = None, *, with_waiting: bool = False) -> int:
        """Count the matching messages ahead; a `read` that reached the end spares looking at them again.

        `with_waiting`: those too of which none is durable yet, for an answer that waits until they are.
        """
        listed = len(self._listed) - self._listed_index - len(self._unlisted)
        if read is not None and read.at_end and self._listed_index >= len(self._listed):
            self._pending = len(read.views)
            self._counted_to = read.next_sequence - 1
            self._is_stale = False
        if self._is_stale:
            last = self._log.head.last_sequence
            self._pending = self._count_from(self.next_sequence, last)
            self._counted_to = max(last, self.next_sequence - 1)
            self._is_stale = False
        elif self._log.durable_sequence > self._counted_to or (
            with_waiting and self._log.head.last_sequence > self._counted_to
        ):
            last = self._log.head.last_sequence
            self._pending += self._count_from(max(self._counted_to + 1, self.next_sequence), last)
            self._counted_to = last
        return listed + self._pending

    def _count_from(self, start: int, last: int) -> int:
        if start > last:
            return 0
        if self.match is not None and last - start < COUNT_BY_READING_MAX:
            scan = self._log.scan(
                start, last, self.match, messages_max=COUNT_BY_READING_MAX, size_max=READ_SIZE_MAX
            )
            if scan.next_sequence > last:
                return len(scan.views)
        return self._log.count_matching(self.match, start)

    # what happens to the stream

    def removed(self, first: int, last: int, subject: bytes | None) -> None:
        """Messages of an inclusive range left the stream."""
        if self._listed_index < len(self._listed):
            low = max(self._listed_index, bisect_left(self._listed, first))
            self._unlisted.update(self._listed[low : bisect_right(self._listed, last)])
        if self._is_stale or last < self.next_sequence or first > self._counted_to:
            return
        is_known = first == last and (self.match is None or subject is not None)
        if not is_known:
            self._is_stale = True
        elif self.match is None or (subject is not None and self.match.matches(subject)):
            self._pending -= 1

    def purged(self, first_sequence: int) -> None:
        """The stream begins at `first_sequence` now, and more may have gone."""
        self.next_sequence = max(self.next_sequence, first_sequence)
        self.thinned()

    def thinned(self) -> None:
        """Messages left the stream, it is not said which."""
        if self._listed_index < len(self._listed):
            left = self._listed[self._listed_index :]
            self._listed = [sequence for sequence in left if self._log.next_sequence(sequence) == sequence]
            self._listed_index = 0
            self._unlisted.clear()
        self._is_stale = True

    def change_filter(self, match: SubjectFilter | None) -> None:
        """Read on with another filter."""
        self.match = match
        self._is_stale = True


def resumed(log: StreamLog, match: SubjectFilter | None, delivered_stream: int, listed_to: int) -> Position:
    """Give the place of a consumer that has come to `delivered_stream`; `listed_to`: where its list was made, or 0."""
    listed: list[int] = []
    if delivered_stream < listed_to:
        listed = remaining_last_per_subject(log, match, listed_to, delivered_stream)
    return Position(log, match, max(delivered_stream, listed_to) + 1, listed)
