"""Schedules: messages that make others, once or again and again.

A schedule is a stored message whose headers say when and where to. One heap for each stream holds what is due; it is
not stored, but found again after a start by reading the log once, a piece a turn. What a schedule makes names the
schedule and its next time, and so tells after a restart what has been made already: a one-shot whose removal did not
get to the disk is removed then, not made again.

A newer message on the schedule's subject, a purge and a delete end it: it is looked at again when it is due.

Source: the streams reference, section 7.3.
"""

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Message, View
from headrace.core.subject import has_wildcard, is_valid, matches
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.times import encode_time, parse_time
from headrace.jetstream.models.ttl import parse_ttl
from headrace.jetstream.streams.cron import due_after, zone_of
from headrace.jetstream.streams.publish_headers import Wishes
from headrace.storage.interface import CorruptRecord, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.models.stream_config import StreamConfig
    from headrace.jetstream.streams.stream import Stream

RETRY_NS: Final = NS_PER_S
"""When to try again what the stream refused to store."""

READ_MAX: Final = 4096
READ_SIZE_MAX: Final = 4 * 1024 * 1024

PURGE: Final = b"purge"
_NOT_HANDED_ON: Final = (b"Nats-Schedule", b"Nats-Expected-")
_NOT_KEPT: Final = frozenset((b"Nats-Msg-Id", b"Nats-TTL", b"Nats-Rollup"))


class Planned(NamedTuple):
    """What a message means for schedules: when it is due, or the subject of the schedule that it ends."""

    due_ns: int | None = None
    ends: bytes = b""


NOTHING_PLANNED: Final = Planned()


def planned(config: "StreamConfig", subject: bytes, wishes: Wishes, now_ns: int) -> Planned:
    """Judge what a client's message says about schedules. Raises ApiError."""
    if wishes.schedule is not None:
        return _planned_schedule(config, subject, wishes, now_ns)
    if wishes.schedule_next is None:
        if wishes.scheduler is not None:
            raise ApiError(error_table.MESSAGE_SCHEDULES_SCHEDULER_INVALID)
        return NOTHING_PLANNED
    scheduler = wishes.scheduler or b""
    if wishes.schedule_next != PURGE or scheduler == subject or not _is_literal(scheduler):
        raise ApiError(error_table.MESSAGE_SCHEDULES_SCHEDULER_INVALID)
    if not config.allow_msg_schedules:
        raise ApiError(error_table.MESSAGE_SCHEDULES_DISABLED)
    return Planned(ends=scheduler)


def _planned_schedule(config: "StreamConfig", subject: bytes, wishes: Wishes, now_ns: int) -> Planned:
    if not config.allow_msg_schedules:
        raise ApiError(error_table.MESSAGE_SCHEDULES_DISABLED)
    due = due_after(wishes.schedule or b"", zone_of(wishes.schedule_zone), now_ns, now_ns)
    if wishes.schedule_ttl is not None and parse_ttl(wishes.schedule_ttl) is None:
        raise ApiError(error_table.MESSAGE_SCHEDULES_TTL_INVALID)
    if wishes.schedule_rollup not in (None, b"sub"):
        raise ApiError(error_table.MESSAGE_SCHEDULES_ROLLUP_INVALID)
    if wishes.schedule_ttl is not None and not config.allow_msg_ttl:
        raise ApiError(error_table.MESSAGE_TTL_DISABLED)
    target, source = wishes.schedule_target or b"", wishes.schedule_source
    if target == subject or not _is_literal(target):
        raise ApiError(error_table.MESSAGE_SCHEDULES_TARGET_INVALID)
    if source is not None and (source in (target, subject) or not _is_literal(source)):
        raise ApiError(error_table.MESSAGE_SCHEDULES_SOURCE_INVALID)
    if not _is_taken(config, target):
        raise ApiError(error_table.MESSAGE_SCHEDULES_TARGET_INVALID)
    if source is not None and not _is_taken(config, source):
        raise ApiError(error_table.MESSAGE_SCHEDULES_SOURCE_INVALID)
    if wishes.rollup not in (None, b"sub"):
        raise ApiError(error_table.MESSAGE_SCHEDULES_ROLLUP_INVALID)
    return Planned(due_ns=due.time_ns)


def _is_literal(subject: bytes) -> bool:
    return bool(subject) and is_valid(subject) and not has_wildcard(subject)


def _is_taken(config: "StreamConfig", subject: bytes) -> bool:
    return any(matches(own.encode(), subject) for own in config.subjects)


class Schedules:
    """What one stream has to make, and when."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._log = stream.log
        self._scheduler = stream.context.scheduler
        self._key = ("schedules", stream.log.stream_id)
        self._due: list[tuple[int, int]] = []
        self._found: dict[bytes, tuple[int, int]] = {}
        self._read_to = 1
        self._read_end = 0

    def open(self) -> None:
        """Begin to look for the schedules that were stored before."""
        if self._stream.config.allow_msg_schedules and self._log.head.messages:
            self._read_to = self._log.head.first_sequence
            self._read_end = self._log.head.last_sequence
            self._stream.context.ready(self)

    def add(self, sequence: int, due_ns: int) -> None:
        """A schedule was stored."""
        heapq.heappush(self._due, (due_ns, sequence))
        self._arm()

    def close(self) -> None:
        """Make nothing any more."""
        self._stream.context.deadlines.clear(self._key)
        self._due.clear()
        self._read_to = self._read_end + 1

    def pump(self, budget: int) -> bool:  # noqa: ARG002  (a piece is small)
        """Look for schedules in the next piece of what was stored before the start."""
        if self._read_to > self._read_end:
            return False
        found = self._log.scan(
            self._read_to,
            self._read_end,
            None,
            messages_max=READ_MAX,
            size_max=READ_SIZE_MAX,
            steps_max=READ_MAX,
        )
        self._read_to = found.next_sequence
        for view in found.views:
            if b"Nats-Schedule" in view.headers:
                self._find(view)
        if self._read_to <= self._read_end:
            return True
        self._due += [(due_ns, sequence) for sequence, due_ns in self._found.values()]
        heapq.heapify(self._due)
        self._found.clear()
        self._arm()
        return False

    def _find(self, view: View) -> None:
        """Learn of a stored message: a schedule, or one that a schedule made and that says when it is due next."""
        pattern = headers.get(view.headers, b"Nats-Schedule")
        try:
            if pattern:
                zone = zone_of(headers.get(view.headers, b"Nats-Schedule-Time-Zone"))
                due = due_after(pattern, zone, view.time_ns, view.time_ns)
                self._found[view.subject] = (view.sequence, due.time_ns)
                return
            maker = self._found.get(headers.get(view.headers, b"Nats-Scheduler") or b"")
            following = headers.get(view.headers, b"Nats-Schedule-Next")
            subject = headers.get(view.headers, b"Nats-Scheduler") or b""
            if maker is not None and following == PURGE:
                del self._found[subject]
                self._log.remove([(maker[0], maker[0])])
            elif maker is not None and following:
                self._found[subject] = (maker[0], parse_time(following.decode("utf-8", "replace")))
        except (ApiError, ValueError, StorageError):
            return

    def _arm(self) -> None:
        if self._due:
            remaining_ns = max(0, self._due[0][0] - self._scheduler.now_ns())
            self._stream.context.deadlines.set(
                self._key, self._scheduler.monotonic_ns() + remaining_ns, self._on_time
            )

    def _on_time(self, monotonic_ns: int) -> int | None:
        now_ns = self._scheduler.now_ns()
        while self._due and self._due[0][0] <= now_ns:
            due_ns, sequence = heapq.heappop(self._due)
            again_ns = self._fire(sequence, due_ns, now_ns)
            if again_ns:
                heapq.heappush(self._due, (again_ns, sequence))
        self._stream.context.bus.request_turn()
        return monotonic_ns + max(0, self._due[0][0] - now_ns) if self._due else None

    def _fire(self, sequence: int, due_ns: int, now_ns: int) -> int:
        """Make what a schedule says, if it is one still; give when it is due next, 0 for never."""
        try:
            return self._made(sequence, due_ns, now_ns)
        except ApiError:
            return 0
        except StorageError as error:
            name = self._stream.name
            self._stream.context.log.warning(f"Stream '{name}': a schedule waits a second: {error}")
            return now_ns + RETRY_NS

    def _made(self, sequence: int, due_ns: int, now_ns: int) -> int:
        log = self._log
        view = log.get(sequence)
        state = log.subject(view.subject) if view is not None else None
        if view is None or state is None or state.last_sequence != sequence:
            return 0
        said = headers.parse(view.headers) or headers.NO_HEADERS
        pattern, target = said.get(b"Nats-Schedule"), said.get(b"Nats-Schedule-Target")
        if not pattern or not target:
            return 0
        zone = zone_of(said.get(b"Nats-Schedule-Time-Zone"))
        due = due_after(pattern, zone, due_ns, now_ns)
        fields = [
            (b"Nats-Scheduler", view.subject),
            (b"Nats-Schedule-Next", encode_time(due.time_ns).encode() if due.repeats else PURGE),
        ]
        for key in (b"TTL", b"Rollup"):
            value = said.get(b"Nats-Schedule-" + key)
            if value:
                fields.append((b"Nats-" + key, value))
        block, payload = self._content(view, said.get(b"Nats-Schedule-Source"))
        message = Message(target, b"", headers.encode((*block, *fields)), payload, 0)
        refusal = self._stream.append_own(message, ends=0 if due.repeats else sequence)
        if due.repeats:
            return due.time_ns
        return now_ns + RETRY_NS if refusal is not None else 0

    def _content(self, schedule: View, source: bytes | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Give headers and payload to hand on: of the last message on `source`, else the schedule's own."""
        view = schedule
        state = self._log.subject(source) if source else None
        if state is not None:
            try:
                view = self._log.get(state.last_sequence) or schedule
            except CorruptRecord:
                view = schedule
        said = headers.parse(view.headers) or headers.NO_HEADERS
        kept = [
            (key, value)
            for key, value in said.fields
            if key not in _NOT_KEPT and not key.startswith(_NOT_HANDED_ON)
        ]
        return kept, view.payload
