"""The end of an atomic batch: all its messages are judged as one, and appended as one, or none is.

Every message is judged by the stream as it was before the batch, and by what the batch itself says in front of it;
nothing is appended until all have passed. What they cause (an older message of a full subject that goes, a rollup)
is worked out for all of them, so that the log takes them in one call and a crash leaves all or none.

The checks come in the reference server's order, which is another one for batches than for single messages.

Source: the streams reference, section 7.5.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Message
from headrace.core.subject import has_wildcard
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.models.ttl import FOREVER, parse_ttl
from headrace.jetstream.streams.counters import check_increment, payload_of
from headrace.jetstream.streams.intake import (
    FILE_MESSAGE_SIZE_MAX,
    HEADERS_SIZE_MAX,
    SCAN_SIZE_MAX,
    Intake,
    is_number,
    store_failed,
)
from headrace.jetstream.streams.publish_headers import Wishes, parse_wishes, without_status
from headrace.jetstream.streams.schedules import Planned, planned
from headrace.storage.interface import NO_EFFECT, Effect, Entry

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream


class _Checked(NamedTuple):
    """A message that passed, as it is going to be stored."""

    subject: bytes
    headers: bytes
    payload: bytes
    message_id: bytes
    rollup: bytes
    ttl: int | None
    plan: Planned
    ends: int


@dataclass
class _Held:
    """What a subject has: how many messages, and its oldest ones, as many as the batch may push out."""

    count: int
    last: int
    oldest: deque[int]


@dataclass
class _Staged:
    """What the batch says in front of the message that is judged."""

    counts: dict[bytes, int] = field(default_factory=dict[bytes, int])
    schedules: set[bytes] = field(default_factory=set[bytes])
    ids: set[bytes] = field(default_factory=set[bytes])
    expected: dict[bytes, int] = field(default_factory=dict[bytes, int])


class AtomicIntake(Intake):
    """Judges and takes one whole batch."""

    def __init__(self, stream: "Stream") -> None:
        super().__init__(stream)
        self._is_atomic = True
        self._staged = _Staged()
        self._held: dict[bytes, _Held] = {}

    def commit(self, messages: Sequence[Message]) -> int:
        """Append all messages; give the last one's sequence. Raises ApiError or StorageError; then none was stored."""
        checked = [self._check(message, place) for place, message in enumerate(messages)]
        unwanted: dict[int, bytes] = {}
        is_rolled_up = False
        for each in checked:
            sequence = self._add(each, len(checked))
            is_rolled_up = is_rolled_up or bool(each.rollup)
            if self._interest.is_on and not self._interest.is_wanted(each.subject):
                unwanted[sequence] = each.subject
        last = self._next_sequence - 1
        self._make_no_room_for(unwanted)
        self._flush()
        if is_rolled_up:
            self._stream.tell_purged()
        for each in checked:
            if each.ends:
                self._end_schedule(each.ends)
        for offset, each in enumerate(checked):
            if each.plan.due_ns is not None:
                self._stream.schedules.add(last - len(checked) + 1 + offset, each.plan.due_ns)
        if unwanted:
            self._log.remove([(sequence, sequence) for sequence in unwanted])
        self.finish()
        return last

    def _make_no_room_for(self, unwanted: Mapping[int, bytes]) -> None:
        """Let messages that go at once, given by sequence and subject, push no others out."""
        first = self._next_sequence - len(self._sizes)
        for sequence in unwanted:
            self._messages -= 1
            self._size -= self._sizes[sequence - first]
        self._evicted |= unwanted

    # judging

    def _check(self, message: Message, place: int) -> _Checked:
        subject, _, block, payload, _ = message
        config = self._config
        if self._transform is not None:
            subject = self._transform.match(subject, self._stream.context.chance) or subject
        wishes = parse_wishes(block)
        if wishes.expected_last_message_id is not None:
            raise ApiError(
                error_table.ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH, header="Nats-Expected-Last-Msg-Id"
            )
        if not config.in_memory and len(subject) + len(block) + len(payload) > FILE_MESSAGE_SIZE_MAX:
            raise store_failed("message too large")
        if len(block) > HEADERS_SIZE_MAX:
            raise ApiError(error_table.STREAM_HEADER_EXCEEDS_MAXIMUM)
        check_increment(wishes, payload, is_counting=config.allow_msg_counter)
        if wishes.expected_stream is not None and wishes.expected_stream != config.name.encode():
            raise ApiError(error_table.STREAM_NOT_MATCH)
        ttl = self._checked_ttl(wishes)
        self._check_id(wishes.message_id)
        if wishes.source is not None:
            raise ApiError(error_table.MESSAGE_SOURCE_HDR_NOT_ALLOWED)
        if config.allow_msg_counter:
            block, counter = self._counted(subject, block, wishes)
            payload = payload_of(counter)
            self._counters[subject] = counter
            self._check_sizes(block, payload)
        self._check_expected(subject, wishes, place)
        plan = planned(config, subject, wishes, self._now_ns)
        ends = self._ended_by(plan) if plan.ends else 0
        rollup = self._checked_batch_rollup(subject, wishes, plan)
        if plan.due_ns is not None and wishes.rollup is None:
            block = headers.with_field(block, b"Nats-Rollup", b"sub")
        self._count(subject, block, payload, plan, place, has_rollup=bool(rollup))
        if ttl is not None:
            ttl, block = self._lengthened(ttl, block)
        return _Checked(subject, without_status(block), payload, wishes.message_id, rollup, ttl, plan, ends)

    def _checked_ttl(self, wishes: Wishes) -> int | None:
        if wishes.ttl is None:
            return None
        if not self._config.allow_msg_ttl:
            raise ApiError(error_table.MESSAGE_TTL_DISABLED)
        ttl = parse_ttl(wishes.ttl)
        if ttl is None:
            raise ApiError(error_table.MESSAGE_TTL_INVALID)
        return ttl

    def _check_id(self, message_id: bytes) -> None:
        if not message_id:
            return
        if message_id in self._staged.ids or self.duplicate_of(message_id) is not None:
            raise ApiError(error_table.ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE)
        self._staged.ids.add(message_id)

    def _check_expected(self, subject: bytes, wishes: Wishes, place: int) -> None:
        staged = self._staged
        wanted = wishes.expected_last_sequence
        if wanted is not None:
            last = self._next_sequence - 1 + place
            if not is_number(wanted, last):
                raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE, seq=last)
            if staged.counts:
                raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
        wanted = wishes.expected_last_subject_sequence
        if wanted is not None:
            looked_at = wishes.expected_subject or subject
            if looked_at in staged.counts:
                raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
            found = staged.expected.get(looked_at)
            if found is None:
                found = staged.expected[looked_at] = self._last_sequence_of(looked_at)
            if not is_number(wanted, found):
                raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE, seq=found)
        elif wishes.expected_subject is not None:
            raise ApiError(error_table.STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID)

    def _ended_by(self, plan: Planned) -> int:
        """Give the schedule that a message ends; one of the same batch is rolled up with nobody to end it."""
        if plan.ends in self._staged.counts:
            if plan.ends not in self._staged.schedules:
                raise ApiError(error_table.MESSAGE_SCHEDULES_SCHEDULER_INVALID)
            return 0
        return self._schedule_at(plan.ends)

    def _checked_batch_rollup(self, subject: bytes, wishes: Wishes, plan: Planned) -> bytes:
        rollup = self._checked_rollup(wishes)
        if plan.due_ns is not None:
            rollup = b"sub"
        if rollup == b"sub" and subject in self._staged.counts:
            raise ApiError(error_table.STREAM_ROLLUP_FAILED, err="batch rollup sub invalid")
        if rollup == b"all" and self._staged.counts:
            raise ApiError(error_table.STREAM_ROLLUP_FAILED, err="batch rollup all invalid")
        return rollup

    def _count(
        self, subject: bytes, block: bytes, payload: bytes, plan: Planned, place: int, *, has_rollup: bool
    ) -> None:
        """Count the message in, and refuse the batch where a stream that discards new messages has no room for it."""
        staged, config = self._staged, self._config
        staged.counts[subject] = staged.counts.get(subject, 0) + 1
        (staged.schedules.add if plan.due_ns is not None else staged.schedules.discard)(subject)
        self._pending_size += self._size_of(
            subject_size=len(subject), headers_size=len(block), payload_size=len(payload)
        )
        if config.discard != "new":
            return
        if 0 < config.max_msgs < self._messages + place + 1:
            raise store_failed("maximum messages exceeded")
        if 0 < config.max_bytes < self._accounted + self._pending_size:
            raise store_failed("maximum bytes exceeded")
        if config.discard_new_per_subject and config.max_msgs_per_subject > 0 and not has_rollup:
            state = self._log.subject(subject)
            held = 0 if state is None else state.count
            if held + staged.counts[subject] > config.max_msgs_per_subject:
                raise store_failed("maximum messages per subject exceeded")

    # storing

    def _add(self, checked: _Checked, count: int) -> int:
        """Put a message behind those that wait; give its sequence."""
        subject, block, payload = checked.subject, checked.headers, checked.payload
        self._stream.account.check_resources(self._pending_size, in_memory=self._config.in_memory)
        sequence = self._next_sequence
        effect, previous = self._effect_of(checked, sequence, count)
        size = self._size_of(subject_size=len(subject), headers_size=len(block), payload_size=len(payload))
        self._size += size
        self._messages += 1
        self._next_sequence += 1
        entry = Entry(subject, block, payload, self._now_ns, checked.message_id, previous, effect)
        self._prepare_republished(entry, sequence)
        self._entries.append(entry)
        self._sizes.append(size)
        self._subjects[subject] = sequence
        self._stream.last_message_id = checked.message_id
        if checked.ttl is not None and checked.ttl != FOREVER:
            self._ends.append((sequence, subject, self._now_ns + checked.ttl * NS_PER_S))
        return sequence

    def _effect_of(self, checked: _Checked, sequence: int, count: int) -> tuple[Effect, int]:
        """Say what goes by a message; give the effect, and the subject's sequence before."""
        subject, limit = checked.subject, self._config.max_msgs_per_subject
        if checked.rollup == b"all":
            self._messages = self._size = 0
            self._held.clear()
            return Effect(all_before=True), 0
        if limit <= 0 and not checked.rollup:
            return NO_EFFECT, self._subjects.get(subject, 0)
        if checked.rollup and has_wildcard(subject):
            return Effect(evicted=self._matching(subject)), self._subjects.get(subject, 0)
        held = self._held_by(subject, count)
        previous, held.last = held.last, sequence
        effect = NO_EFFECT
        if checked.rollup:
            effect = Effect(subject_before=True)
            self._messages -= held.count
            held.count = 0
            held.oldest.clear()
        elif held.count >= limit:
            oldest = held.oldest.popleft()
            effect = Effect(evicted=(oldest,))
            self._evicted[oldest] = subject
            self._messages -= 1
            self._size -= self._stored_size(oldest)
            held.count -= 1
        held.count += 1
        held.oldest.append(sequence)
        return effect, previous

    def _held_by(self, subject: bytes, count: int) -> _Held:
        held = self._held.get(subject)
        if held is None:
            state = self._log.subject(subject)
            held = _Held(0, 0, deque())
            if state is not None:
                held = _Held(state.count, state.last_sequence, deque())
                start = state.first_sequence
                match = SubjectFilter((subject,))
                while start <= state.last_sequence and len(held.oldest) < count:
                    room = count - len(held.oldest)
                    scan = self._log.scan(
                        start, state.last_sequence, match, messages_max=room, size_max=SCAN_SIZE_MAX
                    )
                    held.oldest.extend(view.sequence for view in scan.views)
                    start = scan.next_sequence
            self._held[subject] = held
        return held

    def _stored_size(self, sequence: int) -> int:
        first_waiting = self._next_sequence - len(self._sizes)
        if sequence >= first_waiting:
            return self._sizes[sequence - first_waiting]
        return self._log.size_of(sequence)
