"""One batch of publishes, judged message by message.

The checks come in the reference server's order, so that a message that breaks two rules hears about the same
one. They see all that the batch has stored before: what was taken waits in `_entries` and goes to the log
together, but a check that has to ask the log about a subject lets them go first (`_flush`). Numbers that every
check needs (next sequence, messages, bytes) are kept at hand and include what waits.

What an append causes, an older message of a full subject or the front of a full stream that goes, rides in its
`Entry`, so that the log replays it without knowing a rule.

Source: the streams reference, sections 5 and 6.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Message
from headrace.core.subject import has_wildcard, is_valid
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.models.ttl import FOREVER, parse_ttl
from headrace.jetstream.streams.batches import ATOMIC_MARK, FAST_REPLY
from headrace.jetstream.streams.counters import (
    SOURCES,
    Counter,
    added,
    check_increment,
    counter_of,
    parse_increment,
    payload_of,
)
from headrace.jetstream.streams.publish_headers import NO_WISHES, Wishes, parse_wishes, without_status
from headrace.jetstream.streams.republish import Republished
from headrace.jetstream.streams.schedules import NOTHING_PLANNED, Planned, planned
from headrace.storage.accounting import file_size, memory_size
from headrace.storage.interface import NO_EFFECT, DiskFull, Effect, Entry, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

FILE_MESSAGE_SIZE_MAX: Final = 32 * 1024 * 1024
HEADERS_SIZE_MAX: Final = 65535
SCAN_MESSAGES_MAX: Final = 4096
SCAN_SIZE_MAX: Final = 8 * 1024 * 1024
"""How much of a stream is read at once to find what a pattern means."""


class Answer(NamedTuple):
    """What a publisher is told: a refusal, or the sequence of its message and `more` fields behind it; or `body`."""

    reply: bytes
    refusal: ApiError | None
    sequence: int = 0
    is_duplicate: bool = False
    more: bytes = b""
    body: bytes | None = None


class _Duplicate(Exception):
    def __init__(self, sequence: int) -> None:
        self.sequence = sequence


def store_failed(reason: object) -> ApiError:
    return ApiError(error_table.STREAM_STORE_FAILED, err=reason)


def storage_refusal(error: StorageError) -> ApiError:
    """Give the answer to a publish that the store did not take."""
    if isinstance(error, DiskFull):
        return ApiError(error_table.INSUFFICIENT_RESOURCES)
    return store_failed(error)


class Intake:
    """Takes the messages of one batch in turn; `answers` are in their order."""

    def __init__(
        self, stream: "Stream", *, is_own: bool = False, ends: int = 0, only_judges: bool = False
    ) -> None:
        """`only_judges`: messages are looked at, and not stored."""
        self._only_judges = only_judges
        self._is_atomic = False
        self.answers: list[Answer] = []
        self.republished: list[Republished] = []
        self.stored = 0
        self._stream = stream
        self._transform = None if is_own else stream.transform
        self._is_own = is_own
        self._ends_schedule = ends
        self._config = stream.config
        self._interest = stream.interest
        self._log = stream.log
        self._now_ns = stream.time_ns()
        self._size_of = memory_size if stream.config.in_memory else file_size
        self._entries: list[Entry] = []
        self._sizes: list[int] = []
        self._subjects: dict[bytes, int] = {}
        self._counters: dict[bytes, Counter] = {}
        self._message_ids: dict[bytes, int] = {}
        self._evicted: dict[int, bytes] = {}
        self._passed_over = 0  # sequences used up for messages that nobody wants; then no entry waits
        self._ends: list[tuple[int, bytes, int]] = []
        self._first_waiting_answer = 0
        self._accounted = stream.accounted_size
        self._refresh()

    def _refresh(self) -> None:
        """Read the numbers anew; nothing waits."""
        head = self._log.head
        self._next_sequence = head.last_sequence + 1
        self._messages = head.messages
        self._size = head.size
        self._pending_size = self._size - self._accounted

    def take(self, message: Message) -> Answer:
        """Judge one message; it is stored, or refused, or was stored before."""
        if not self._is_own:
            if message.reply.endswith(FAST_REPLY):
                return self._stream.fast_batches.take(self, message)
            if ATOMIC_MARK in message.headers:
                batch_id = headers.get(message.headers, b"Nats-Batch-Id")
                if batch_id:
                    return self._take_atomic(message, batch_id)
        answer = self.judge(message)
        if message.reply:
            self.answers.append(answer)
        return answer

    def _take_atomic(self, message: Message, batch_id: bytes) -> Answer:
        answer = self._stream.atomic_batches.take(self, message, batch_id)
        if answer is None:
            return Answer(message.reply, None)
        if message.reply:
            self.answers.append(answer)
        return answer

    def judge(self, message: Message) -> Answer:
        """Judge one message by itself; its answer is the caller's to give."""
        reply = message.reply
        try:
            sequence, more = self._judge(message)
        except ApiError as refusal:
            answer = Answer(reply, refusal)
        except _Duplicate as duplicate:
            answer = Answer(reply, None, duplicate.sequence, is_duplicate=True)
        except StorageError as error:
            answer = Answer(reply, storage_refusal(error))
        else:
            answer = Answer(reply, None, sequence, more=more)
        return answer

    @contextmanager
    def aside(self) -> Generator[None]:
        """Let go what waits, and let others append to the log meanwhile. Raises StorageError."""
        self._flush()
        try:
            yield
        finally:
            self._refresh()

    def join(self, other: "Intake") -> None:
        """Take over what another intake has stored."""
        self.stored += other.stored
        self.republished += other.republished

    def finish(self) -> None:
        """Let go what waits."""
        with suppress(StorageError):  # every answer concerned says so already
            self._flush()
        for sequence, subject, end_ns in self._ends:
            self._stream.end_at(sequence, subject, end_ns)

    # the order of checks

    def _judge(self, message: Message) -> tuple[int, bytes]:
        subject, reply, block, payload, _ = message
        config = self._config
        if self._transform is not None:
            subject = self._transform.match(subject, self._stream.context.chance) or subject
        wishes = parse_wishes(block) if block else NO_WISHES
        if not config.in_memory and len(subject) + len(block) + len(payload) > FILE_MESSAGE_SIZE_MAX:
            raise store_failed("message too large")
        if config.sealed:
            raise ApiError(error_table.STREAM_SEALED)
        self._check_sizes(block, payload)
        rollup, plan = b"", NOTHING_PLANNED
        if wishes is not NO_WISHES:
            check_increment(wishes, payload, is_counting=config.allow_msg_counter)
            is_fast = reply.endswith(FAST_REPLY)
            if is_fast:  # such batches look for duplicates first
                self._check_duplicate(wishes)
            plan = self._check_expectations(subject, wishes)
            if not is_fast:
                self._check_duplicate(wishes)
            self._check_last_message_id(wishes)
            rollup = self._checked_rollup(wishes)
            if plan.due_ns is not None and not rollup:
                rollup, block = b"sub", headers.with_field(block, b"Nats-Rollup", b"sub")
        more, counter = b"", None
        if config.allow_msg_counter:
            block, counter = self._counted(subject, block, wishes)
            payload = payload_of(counter)
            more = b',"val":"%d"' % counter.total
        if block is not message.headers or counter is not None:  # it has grown since
            self._check_sizes(block, payload)
        is_wanted = not self._interest.is_on or self._interest.is_wanted(subject)
        ttl = None
        if wishes.ttl is not None and is_wanted:
            ttl = parse_ttl(wishes.ttl)
            if ttl is None:
                raise ApiError(error_table.MESSAGE_TTL_INVALID)
            ttl, block = self._lengthened(ttl, block)
        if self._only_judges:
            return 0, more
        if not is_wanted:
            return self._pass_over(wishes.message_id), more
        sequence = self._store(subject, without_status(block), payload, wishes.message_id, rollup)
        if ttl is not None and ttl != FOREVER:
            self._ends.append((sequence, subject, self._now_ns + ttl * NS_PER_S))
        if plan.due_ns is not None:
            self._stream.schedules.add(sequence, plan.due_ns)
        if counter is not None:
            self._counters[subject] = counter
        return sequence, more

    def _counted(self, subject: bytes, block: bytes, wishes: Wishes) -> tuple[bytes, Counter]:
        """Add an increment to its subject's counter; give headers and total to store."""
        increment = parse_increment(wishes.increment or b"")
        if increment is None:
            raise ApiError(error_table.MESSAGE_INCR_MISSING)
        counter = added(self._counter(subject), increment)
        if counter.sources:
            block = headers.with_field(headers.without(block, (SOURCES,)), SOURCES, counter.sources)
        return block, counter

    def _counter(self, subject: bytes) -> Counter:
        """Give where a subject stands. Raises ApiError where its last message is no counter's."""
        counter = self._counters.get(subject)
        if counter is None:
            state = self._log.subject(subject)
            counter = counter_of(self._log.get(state.last_sequence) if state is not None else None)
        return counter

    def _lengthened(self, ttl: int, block: bytes) -> tuple[int, bytes]:
        """Let a message live as long as a delete marker of its subject, which it would uncover otherwise."""
        marker_ttl = self._config.subject_delete_marker_ttl // NS_PER_S
        if ttl == FOREVER or ttl >= marker_ttl or self._config.max_msgs_per_subject == 1:
            return ttl, block
        bare = headers.without(block, (b"Nats-TTL",))
        return marker_ttl, headers.with_field(bare, b"Nats-TTL", b"%d" % marker_ttl)

    def _check_expectations(self, subject: bytes, wishes: Wishes) -> Planned:
        if wishes.expected_stream is not None and wishes.expected_stream != self._config.name.encode():
            raise ApiError(error_table.STREAM_NOT_MATCH)
        if wishes.ttl is not None and not self._config.allow_msg_ttl and parse_ttl(wishes.ttl) is not None:
            raise ApiError(error_table.MESSAGE_TTL_DISABLED)
        wanted = wishes.expected_last_subject_sequence
        if wanted is not None:
            found = self._last_sequence_of(wishes.expected_subject or subject)
            if not is_number(wanted, found):
                raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE, seq=found)
        elif wishes.expected_subject is not None:
            raise ApiError(error_table.STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID)
        wanted = wishes.expected_last_sequence
        if wanted is not None and not is_number(wanted, self._next_sequence - 1):
            raise ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE, seq=self._next_sequence - 1)
        plan = NOTHING_PLANNED
        if not self._is_own:
            plan = planned(self._config, subject, wishes, self._now_ns)
            self._ends_schedule = self._schedule_at(plan.ends) if plan.ends else 0
        if wishes.source is not None:
            raise ApiError(error_table.MESSAGE_SOURCE_HDR_NOT_ALLOWED)
        return plan

    def _schedule_at(self, subject: bytes) -> int:
        """Give the sequence of a schedule that is to end, 0 where there is none. Raises ApiError where it is none."""
        sequence = self._last_sequence_of(subject)
        view = self._log.get(sequence) if sequence else None
        if view is not None and not headers.get(view.headers, b"Nats-Schedule"):
            raise ApiError(error_table.MESSAGE_SCHEDULES_SCHEDULER_INVALID)
        return sequence

    def _last_sequence_of(self, subject: bytes) -> int:
        """Give the last sequence on a subject or pattern, 0 where there is none."""
        if self._entries:
            self._flush()
        state = self._log.subject(subject)
        if state is not None:
            return state.last_sequence
        view = self._log.last_matching(SubjectFilter((subject,))) if is_valid(subject) else None
        return view.sequence if view is not None else 0

    def _check_duplicate(self, wishes: Wishes) -> None:
        sequence = self.duplicate_of(wishes.message_id) if wishes.message_id else None
        if sequence is not None:
            raise _Duplicate(sequence)

    def duplicate_of(self, message_id: bytes) -> int | None:
        """Give the sequence of the message that has used an id; None where it is free."""
        window_ns = self._config.duplicate_window
        if window_ns == 0:
            return None
        sequence = self._message_ids.get(message_id)
        if sequence is None:
            since_ns = max(0, self._now_ns - window_ns)
            sequence = self._log.find_message_id(message_id, since_ns)
            if sequence is None and self._interest.is_on:
                sequence = self._interest.find_id(message_id, since_ns)
        return sequence

    def _check_last_message_id(self, wishes: Wishes) -> None:
        if wishes.expected_last_message_id is None:
            return
        last = self._stream.last_message_id_or_read()
        if last != wishes.expected_last_message_id:
            raise ApiError(error_table.STREAM_WRONG_LAST_MSG_ID, id=last.decode("utf-8", "replace"))

    def _checked_rollup(self, wishes: Wishes) -> bytes:
        if wishes.rollup is None:
            return b""
        if not self._config.allow_rollup_hdrs or self._config.deny_purge:
            raise ApiError(error_table.STREAM_ROLLUP_FAILED, err="rollup not permitted")
        value = wishes.rollup.lower()
        if value not in (b"sub", b"all"):
            text = wishes.rollup.decode("utf-8", "replace")
            raise ApiError(error_table.STREAM_ROLLUP_FAILED, err=f'rollup value invalid: "{text}"')
        return value

    def _check_sizes(self, block: bytes, payload: bytes) -> None:
        limit = self._config.max_msg_size
        if limit >= 0 and len(block) + len(payload) > limit:
            raise ApiError(error_table.STREAM_MESSAGE_EXCEEDS_MAXIMUM)
        if len(block) > HEADERS_SIZE_MAX:
            raise ApiError(error_table.STREAM_HEADER_EXCEEDS_MAXIMUM)

    # storing

    def _store(self, subject: bytes, block: bytes, payload: bytes, message_id: bytes, rollup: bytes) -> int:
        size = self._size_of(subject_size=len(subject), headers_size=len(block), payload_size=len(payload))
        self._stream.account.check_resources(self._pending_size, in_memory=self._config.in_memory)
        effect, previous, freed_size = NO_EFFECT, 0, 0
        if self._passed_over:
            self._flush()
        if self._config.max_msgs_per_subject > 0 or rollup == b"sub":
            if subject in self._subjects or (rollup and has_wildcard(subject)):
                self._flush()
            effect, previous, freed_size = self._subject_effect(subject, rollup)
        if self._config.discard == "new":
            self._check_discard_new(size, freed_size)
        if rollup == b"all":
            effect = Effect(all_before=True)
        ends, self._ends_schedule = self._ends_schedule, 0
        if not rollup:  # what is rolled up goes after the limits were looked at
            for evicted in effect.evicted:
                self._evicted[evicted] = subject
                self._messages -= 1
        self._size += size - freed_size
        self._messages += 1
        sequence = self._next_sequence
        self._next_sequence += 1
        entry = Entry(subject, block, payload, self._now_ns, message_id, previous, effect)
        self._prepare_republished(entry, sequence)
        self._entries.append(entry)
        self._sizes.append(size)
        self._pending_size += size
        self._subjects[subject] = sequence
        if message_id:
            self._message_ids[message_id] = sequence
        self._stream.last_message_id = message_id
        if rollup:
            self._flush()
            self._stream.tell_purged()
        if ends:
            self._flush()
            self._end_schedule(ends)
        return sequence

    def _pass_over(self, message_id: bytes) -> int:
        """Use up a sequence for a message that nobody wants."""
        if not self._passed_over:
            self._flush()
        sequence = self._next_sequence
        self._next_sequence += 1
        self._passed_over += 1
        if message_id:
            self._message_ids[message_id] = sequence
            self._interest.remember_id(message_id, sequence, self._now_ns)
        self._stream.last_message_id = message_id
        return sequence

    def _prepare_republished(self, entry: Entry, sequence: int) -> None:
        republisher = self._stream.republisher
        if not republisher.is_on:
            return
        previous = self._subjects.get(entry.subject, entry.previous)
        if not previous:
            state = self._log.subject(entry.subject)
            previous = state.last_sequence if state is not None else 0
        prepared = republisher.prepared(entry, sequence, previous)
        if prepared is not None:
            self.republished.append(prepared)

    def _end_schedule(self, sequence: int) -> None:
        view = self._log.get(sequence)
        if view is not None:
            self._log.remove([(sequence, sequence)])
            self._stream.tell_removed(sequence, sequence, view.subject)
            self._refresh()

    def _subject_effect(self, subject: bytes, rollup: bytes) -> tuple[Effect, int, int]:
        """Say which older messages of the subject go; give the effect, the subject's last sequence, the bytes freed."""
        state = self._log.subject(subject)
        if rollup == b"sub" and has_wildcard(subject):
            return Effect(evicted=self._matching(subject)), 0 if state is None else state.last_sequence, 0
        if state is None:
            return NO_EFFECT, 0, 0
        if rollup:
            return (Effect(subject_before=True) if rollup == b"sub" else NO_EFFECT), state.last_sequence, 0
        if state.count < self._config.max_msgs_per_subject:
            return NO_EFFECT, state.last_sequence, 0
        if self._config.discard_new_per_subject:
            raise store_failed("maximum messages per subject exceeded")
        oldest = state.first_sequence
        return Effect(evicted=(oldest,)), state.last_sequence, self._log.size_of(oldest)

    def _matching(self, pattern: bytes) -> tuple[int, ...]:
        """Give the messages that a stored subject means when it is read as a filter."""
        match = SubjectFilter((pattern,))
        found: list[int] = []
        start, stop = self._log.head.first_sequence, self._log.head.last_sequence
        while start <= stop:
            scan = self._log.scan(start, stop, match, messages_max=SCAN_MESSAGES_MAX, size_max=SCAN_SIZE_MAX)
            found += [view.sequence for view in scan.views]
            start = scan.next_sequence
        return tuple(found)

    def _check_discard_new(self, size: int, freed_size: int) -> None:
        """Refuse what does not fit; what takes an older message's place needs no place of its own."""
        config = self._config
        freed_messages = 1 if freed_size else 0
        if 0 < config.max_msgs <= self._messages - freed_messages:
            raise store_failed("maximum messages exceeded")
        if 0 < config.max_bytes < self._size - freed_size + size:
            raise store_failed("maximum bytes exceeded")

    def _flush(self) -> None:
        """Append what waits. Raises StorageError; then nothing of it was stored, and its answers say so."""
        entries, self._entries = self._entries, []
        sizes, self._sizes = self._sizes, []
        evicted, self._evicted = self._evicted, {}
        waiting, self._first_waiting_answer = self._first_waiting_answer, len(self.answers)
        if not entries:
            if self._passed_over:
                self._skip_passed_over(waiting)
            return
        head_first = self._log.head.first_sequence
        front = self._front(head_first, sizes, evicted)
        last = self._next_sequence - 1
        if front > head_first:
            effect = entries[-1].effect._replace(first_sequence=min(front, last))
            entries[-1] = entries[-1]._replace(effect=effect)
        try:
            self._log.append(entries, is_atomic=self._is_atomic)
        except StorageError as error:
            self._forget(waiting, error)
            raise
        else:
            self.stored += len(entries)
            for sequence, subject in evicted.items():
                self._stream.tell_removed(sequence, sequence, subject)
            if front > head_first:
                if front > last:  # a message larger than the whole stream may be
                    self._log.remove([(last, last)])
                self._stream.tell_removed(head_first, front - 1, None)
        finally:
            self._subjects.clear()
            self._refresh()

    def _skip_passed_over(self, first_answer: int) -> None:
        count, self._passed_over = self._passed_over, 0
        try:
            self._log.skip(self._next_sequence - 1, self._now_ns)
        except StorageError as error:
            self._forget(first_answer, error)
            raise
        else:
            self.stored += count
        finally:
            self._refresh()

    def _front(self, first: int, sizes: list[int], evicted: dict[int, bytes]) -> int:
        """Give the first sequence that stays so that the stream is within its limits, with all that waits."""
        config = self._config
        messages, size = self._messages, self._size
        first_waiting = self._next_sequence - len(sizes)
        sequence = first if self._log.head.messages else first_waiting
        while (0 < config.max_msgs < messages) or (0 < config.max_bytes < size):
            if sequence >= self._next_sequence:
                break
            if sequence >= first_waiting:
                if sequence not in evicted:
                    messages -= 1
                    size -= sizes[sequence - first_waiting]
                sequence += 1
                continue
            if sequence not in evicted:
                messages -= 1
                size -= self._log.size_of(sequence)
            sequence = self._log.next_sequence(sequence + 1)
        return sequence

    def _forget(self, first_answer: int, error: StorageError) -> None:
        """What waited was not stored: answers that say or suppose so become refusals."""
        refusal = storage_refusal(error)
        for index in range(first_answer, len(self.answers)):
            answer = self.answers[index]
            if answer.refusal is None or answer.refusal.kind == error_table.STREAM_WRONG_LAST_SEQUENCE:
                self.answers[index] = Answer(answer.reply, refusal)
        last = self._log.head.last_sequence
        self._ends = [end for end in self._ends if end[0] <= last]
        self.republished = [each for each in self.republished if each.sequence <= last]
        self._message_ids.clear()
        self._counters.clear()
        self._stream.fast_batches.drop()  # they count what was not stored
        self._stream.last_message_id = None


def is_number(text: bytes, number: int) -> bool:
    """Tell whether a header's value is this number; what is no number never is."""
    return text.isdigit() and len(text) <= 20 and int(text) == number
