"""The end of messages by time: by the stream's `max_age`, and by a TTL of their own.

A stream has one deadline, and an idle stream none. By age, messages end in the order of the log: the deadline
is that of the oldest, and what is old enough goes in one removal. Where messages may have a TTL, some may be
exempt (`Nats-TTL: never`): then what is about to go is read, exempt ones stay, and `_aged_to` remembers how far
that went.

By TTL, messages end in any order: a heap holds (when, sequence, subject). It is not stored; after a restart the
log is read through once, a piece each turn, while the stream serves already. Entries of messages that went
otherwise stay in the heap until their time and do nothing then.

With `subject_delete_marker_ttl`, what goes is looked at one by one: where it is the last of its subject, a marker
takes its place, which a roll-up makes one step.
"""

import heapq
from typing import TYPE_CHECKING, Final

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Message, View
from headrace.jetstream.models.times import duration_text
from headrace.jetstream.models.ttl import FOREVER, parse_ttl
from headrace.storage.interface import CorruptRecord, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

RETRY_NS: Final = NS_PER_S
"""When to try again after the store refused a removal."""

READ_MAX: Final = 4096
"""Messages that are read in one piece."""

READ_SIZE_MAX: Final = 4 * 1024 * 1024

MARKER_REASON: Final = b"Nats-Marker-Reason"


class Expiry:
    """Keeps one stream free of what has had its time."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._log = stream.log
        self._deadlines = stream.context.deadlines
        self._scheduler = stream.context.scheduler
        self._key = ("expiry", stream.log.stream_id)
        self._armed_ns = 0  # 0: nobody is woken
        self._aged_to = 0  # below it only exempt messages are left
        self._ends: list[tuple[int, int, bytes]] = []
        self._read_to = 0
        self._read_end = 0

    # what others tell

    def open(self) -> None:
        """Remove what has expired by age, and begin to look for TTLs. Raises StorageError."""
        self._end_aged()
        if self._stream.config.allow_msg_ttl and self._log.head.messages:
            self._read_to = self._log.head.first_sequence
            self._read_end = self._log.head.last_sequence
            self._stream.context.ready(self)

    def add(self, sequence: int, subject: bytes, end_ns: int) -> None:
        """A message that was stored ends at this time."""
        heapq.heappush(self._ends, (end_ns, sequence, subject))
        if self._ends[0][1] == sequence:
            self._wake_at(end_ns)

    def arm(self) -> None:
        """Make sure that somebody wakes when the first message ends. Called whenever there is a new head."""
        if self._armed_ns or self._stream.config.sealed:
            return
        if self._stream.config.max_age:
            oldest_ns = self._oldest_ns()
            if oldest_ns:
                self._wake_at(oldest_ns + self._stream.config.max_age)
        if self._ends:
            self._wake_at(self._ends[0][0])

    def on_config(self) -> None:
        """`max_age` may be another one."""
        self.close()
        self._aged_to = 0
        self.arm()

    def close(self) -> None:
        """Wake nobody any more."""
        self._deadlines.clear(self._key)
        self._armed_ns = 0
        self._read_to = self._read_end + 1

    def pump(self, budget: int) -> bool:  # noqa: ARG002  (a piece is small)
        """Look for TTLs in the next piece of what was stored before the start."""
        if self._read_to > self._read_end:
            return False
        views, self._read_to = self._read(self._read_to, self._read_end)
        for view in views:
            end_ns = ttl_end_ns(view)
            if end_ns is not None:
                self.add(view.sequence, view.subject, end_ns)
        return self._read_to <= self._read_end

    # deadlines

    def _wake_at(self, time_ns: int) -> None:
        if self._armed_ns and self._armed_ns <= time_ns:
            return
        self._armed_ns = time_ns
        remaining_ns = max(0, time_ns - self._scheduler.now_ns())
        self._deadlines.set(self._key, self._scheduler.monotonic_ns() + remaining_ns, self._on_time)

    def _oldest_ns(self) -> int:
        """Give the time of the oldest message that is not exempt; 0 where there is none."""
        head = self._log.head
        if head.messages == 0:
            return 0
        if self._aged_to <= head.first_sequence:
            return head.first_time_ns
        sequence = self._log.next_sequence(self._aged_to)
        while sequence <= head.last_sequence:
            try:
                view = self._log.get(sequence)
            except CorruptRecord:
                view = None
            if view is not None:
                return view.time_ns
            sequence = self._log.next_sequence(sequence + 1)
        return 0

    def _on_time(self, now_ns: int) -> int | None:
        stream = self._stream
        try:
            self._end_aged()
            self._end_by_ttl()
        except StorageError as error:
            stream.context.log.warning(f"Stream '{stream.name}': expired messages stay for now: {error}")
            return now_ns + RETRY_NS
        self._armed_ns = 0
        stream.on_changed()
        stream.context.bus.request_turn()
        return None

    # removals

    def _end_aged(self) -> None:
        config, head = self._stream.config, self._log.head
        if not config.max_age or config.sealed or not head.messages:
            return
        stays = self._log.sequence_at(max(0, self._scheduler.now_ns() - config.max_age + 1))
        first = max(head.first_sequence, self._aged_to)
        if first >= stays:
            return
        if config.subject_delete_marker_ttl:
            self._end_aged_marked(first, stays - 1)
            self._aged_to = stays
            return
        for start, end in self._not_exempt(first, stays - 1):
            self._log.remove([(start, end)])
            self._stream.tell_removed(start, end, None)
        self._aged_to = stays

    def _not_exempt(self, first: int, last: int) -> list[tuple[int, int]]:
        """Give the ranges between `first` and `last` that hold no exempt message."""
        if not self._stream.config.allow_msg_ttl:
            return [(first, last)]
        ranges: list[tuple[int, int]] = []
        position = start = first
        while position <= last:
            views, position = self._read(position, last)
            for view in views:
                if view.headers and _ttl(view) == FOREVER:
                    if start < view.sequence:
                        ranges.append((start, view.sequence - 1))
                    start = view.sequence + 1
        if start <= last:
            ranges.append((start, last))
        return ranges

    def _end_by_ttl(self) -> None:
        now_ns = self._scheduler.now_ns()
        while self._ends and self._ends[0][0] <= now_ns:
            _, sequence, subject = self._ends[0]
            if self._stream.config.subject_delete_marker_ttl:
                self._end_marked(sequence)
            elif self._log.size_of(sequence):
                self._log.remove([(sequence, sequence)])
                self._stream.tell_removed(sequence, sequence, subject)
            heapq.heappop(self._ends)

    def _end_aged_marked(self, first: int, last: int) -> None:
        position = first
        while position <= last:
            views, position = self._read(position, last)
            for view in views:
                if not view.headers or _ttl(view) != FOREVER:
                    self._end_marked(view.sequence)

    def _end_marked(self, sequence: int) -> None:
        """End one message; the last one of its subject leaves a marker, unless it is one. Raises StorageError."""
        try:
            view = self._log.get(sequence)
        except CorruptRecord:
            view = None
        if view is None:
            return
        state = self._log.subject(view.subject)
        if state is not None and state.count == 1 and not is_marker(view.headers):
            ttl = duration_text(self._stream.config.subject_delete_marker_ttl // NS_PER_S * NS_PER_S)
            block = headers.encode(
                ((MARKER_REASON, b"MaxAge"), (b"Nats-TTL", ttl.encode()), (b"Nats-Rollup", b"sub"))
            )
            if self._stream.append_own(Message(view.subject, b"", block, b"", 0)) is None:
                return
        self._log.remove([(sequence, sequence)])
        self._stream.tell_removed(sequence, sequence, view.subject)

    def _read(self, first: int, last: int) -> tuple[list[View], int]:
        found = self._log.scan(
            first, last, None, messages_max=READ_MAX, size_max=READ_SIZE_MAX, steps_max=READ_MAX
        )
        return found.views, found.next_sequence


def is_marker(block: bytes) -> bool:
    """Tell whether headers say that the subject ended: a delete marker's, or those of a purged key."""
    if not block:
        return False
    return bool(headers.get(block, MARKER_REASON)) or headers.get(block, b"KV-Operation") == b"PURGE"


def _ttl(view: View) -> int | None:
    value = headers.get(view.headers, b"Nats-TTL")
    return parse_ttl(value) if value else None


def ttl_end_ns(view: View) -> int | None:
    """Give when a stored message ends by its TTL; None where it has none."""
    if not view.headers:
        return None
    seconds = _ttl(view)
    return None if seconds is None or seconds == FOREVER else view.time_ns + seconds * NS_PER_S
