"""What a consumer has delivered and what is still owed to it: the pure state machine.

A consumer follows its stream. Every message is *delivered* for the first time in ascending stream order, and every
delivery, first or repeated, takes the next *consumer sequence*. Where the ack policy asks for acks, a delivered
message is *pending* until it is settled: acked, terminated, removed from the stream, or given up after `max_deliver`
deliveries. The *ack floor* is the place below which all is settled.

    delivered_new ──► pending ──ack, term, removal──► settled
                      │    ▲
        ack wait over │    │ redelivered
        or a NAK      ▼    │
                      queued ──deliveries used up──► exhausted (until it is acked after all or leaves the stream)

Nothing here sends, reads or looks at a clock. The caller reports what happened, with the time where it matters, asks
`due` for what has to be delivered again, and drains `exhausted_now` for advisories. Times are nanoseconds on one
axis that never goes back; rows carry them to disk, so the axis is wall-clock time.

Invariants between calls:
- `pending` is in ascending order of stream sequence and of (first) consumer sequence.
- every sequence in `_queued` is pending and lies in `_queue`; `_queue` may hold others, which are skipped.
- every pending message that is not queued and has a deadline has an entry in `_expiries` for just that; entries
  whose deadline is no longer a message's own are stale and dropped when they come up.
- `pending` notes every row that differs from what `change` reported last, and the exhausted ones that do.

Cost: a constant time per message, amortised; batches of first deliveries run at the speed of C loops.

Source: the consumer reference, sections 2, 4, 5, 12 and 13; probed on the reference server 2.15.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from headrace.core.base.message import Batch
from headrace.jetstream.consumers.pending import PendingTable, Row, new_pending, ranges
from headrace.storage.interface import Register, RegisterChange

UNLIMITED: Final = 1 << 62
"""Room when nothing limits the pending messages."""

STALE_EXPIRIES_MAX: Final = 4096
"""How many stale expiries are kept beyond four for each pending message before all are made anew."""


class AckPolicy(Enum):
    """What an ack settles; the values are those of the wire."""

    NONE = "none"
    ALL = "all"
    EXPLICIT = "explicit"
    FLOW_CONTROL = "flow_control"


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """The part of a consumer's configuration that rules redelivery. `max_deliver`, `max_ack_pending` -1: no limit."""

    ack_policy: AckPolicy
    ack_wait_ns: int = 30_000_000_000
    backoff_ns: tuple[int, ...] = ()
    max_deliver: int = -1
    max_ack_pending: int = -1

    @property
    def has_deadlines(self) -> bool:
        """Whether a message that is not acked comes again. By flow control clients say only how far they have come."""
        return self.ack_policy is not AckPolicy.FLOW_CONTROL

    def wait_ns(self, deliveries: int) -> int:
        """Give how long an ack is waited for after the message's `deliveries`-th delivery."""
        if not self.backoff_ns:
            return self.ack_wait_ns
        return self.backoff_ns[min(deliveries, len(self.backoff_ns)) - 1]

    def is_last(self, deliveries: int) -> bool:
        """Tell whether a message delivered so often is not delivered again."""
        return 0 < self.max_deliver <= deliveries


class Exhausted(NamedTuple):
    """A message was given up: it was delivered as often as is allowed."""

    sequence: int
    deliveries: int


class Unsettled(NamedTuple):
    """A pending message that left the stream."""

    sequence: int
    consumer_sequence: int
    deliveries: int


class ConsumerState:
    """One consumer's progress. See the module's text for states and invariants."""

    def __init__(
        self, rules: DeliveryRules, *, start: int = 1, table: Callable[[], PendingTable] = new_pending
    ) -> None:
        """Begin before the message with stream sequence `start`."""
        self.rules = rules
        self.delivered_stream = max(0, start - 1)
        self.delivered_consumer = 0
        self.floor_stream = self.delivered_stream
        self.floor_consumer = 0
        self.skipped_to = 0  # what a reset passed over, and is to be kept, lies at or below
        self.pending: PendingTable = table()
        self.exhausted: dict[int, int] = {}
        self.exhausted_now: list[Exhausted] = []
        self._queue: deque[int] = deque()
        self._queued: set[int] = set()
        self._expiries: list[tuple[int, int, Sequence[int]]] = []
        self._expiry_count = 0  # sequences named by all of `_expiries`
        self._ticket = itertools.count()
        self._numbers_reported: tuple[int, ...] = ()

    # what can be asked

    @property
    def num_ack_pending(self) -> int:
        return len(self.pending)

    @property
    def num_redelivered(self) -> int:
        """Messages with more than one delivery that are pending, or exhausted and still in the stream."""
        if self.rules.max_deliver == 1:
            return 0
        return self.pending.repeated + len(self.exhausted)

    @property
    def queue_length(self) -> int:
        """Messages that wait to be delivered again."""
        return len(self._queued)

    @property
    def room(self) -> int:
        """How many new messages may be delivered before an ack is needed."""
        if self.rules.max_ack_pending <= 0 or self.rules.ack_policy is AckPolicy.NONE:
            return UNLIMITED
        return max(0, self.rules.max_ack_pending - len(self.pending))

    def is_settled(self, sequence: int) -> bool:
        """Tell whether the message needs no delivery and no ack any more, if it matches the consumer's filter.

        An exhausted message is not settled, nor one that a reset skipped: nobody has processed it.
        """
        return (
            self.skipped_to < sequence <= self.delivered_stream
            and sequence not in self.pending
            and sequence not in self.exhausted
        )

    def next_deadline_ns(self) -> int | None:
        """Give when `on_time` has something to do; it may turn out to be nothing."""
        return self._expiries[0][0] if self._expiries else None

    # deliveries

    def delivered_new(self, sequences: Sequence[int], now_ns: int) -> None:
        """First deliveries of messages, ascending and beyond `delivered_stream`; `sequences` is kept."""
        assert sequences[0] > self.delivered_stream, "first deliveries follow the stream"
        first = self.delivered_consumer + 1
        self.delivered_consumer += len(sequences)
        self.delivered_stream = sequences[-1]
        if self.rules.ack_policy is AckPolicy.NONE:
            self.floor_stream = self.delivered_stream
            self.floor_consumer = self.delivered_consumer
            return
        self.pending.extend(sequences, first, now_ns)
        self._expect(now_ns + self.rules.wait_ns(1), sequences)

    def due(self, count_max: int) -> list[int]:
        """Give what is to be delivered again, in the order of doing so, at most `count_max`.

        Asking is an attempt to deliver: a message that has used up its deliveries is given up now.
        """
        found: list[int] = []
        if len(self._queue) > 2 * len(self._queued):
            self._queue = deque(sequence for sequence in self._queue if sequence in self._queued)
        spent: list[int] = []
        for sequence in self._queue:
            if len(found) >= count_max:
                break
            if sequence not in self._queued:
                continue
            if self.rules.is_last(self.pending[sequence][2]):
                spent.append(sequence)
            else:
                found.append(sequence)
        for sequence in spent:
            self._exhaust(sequence)
        return found

    def redelivered(self, sequences: Sequence[int], now_ns: int) -> None:
        """The first ones of what `due` gave were delivered again, in that order."""
        queue = self._queue
        again: dict[int, list[int]] = {}
        for sequence in sequences:
            while queue.popleft() != sequence:
                pass
            self._queued.discard(sequence)
            first_consumer, _, deliveries = self.pending[sequence]
            deliveries += 1
            self.pending.put(sequence, (first_consumer, now_ns, deliveries))
            again.setdefault(now_ns + self.rules.wait_ns(deliveries), []).append(sequence)
        self.delivered_consumer += len(sequences)
        for deadline_ns, together in again.items():
            self._expect(deadline_ns, together)

    # what clients say

    def acked(self, sequence: int) -> bool:
        """Settle a message; tell whether it was unsettled. With policy ALL only this one, see `acked_through`."""
        if self.pending.pop(sequence) is None:
            if self.exhausted.pop(sequence, None) is None:
                return False
            self.pending.note(sequence)
        elif self._queued:
            self._queued.discard(sequence)
        self._advance_floor(sequence)
        return True

    def settle_plain(
        self, batch: Batch, start: int, prefix_size: int, settled: list[int] | None
    ) -> tuple[int, bool]:
        """Settle what plain acks are about, as `acked` would one by one; see `PendingTable.settle_plain`.

        Takes nothing while messages are queued or exhausted.
        """
        if self._queued or self.exhausted:
            return start, False
        pending = self.pending
        before = pending.lowest()
        if before is None:
            return start, False
        taken = pending.settle_plain(batch, start, prefix_size, self.delivered_stream, settled)
        lowest = pending.lowest()
        if lowest is None:
            self._settle_all()
        elif lowest != before:
            self.floor_stream, self.floor_consumer = lowest[0] - 1, lowest[1] - 1
        return taken

    def acked_through(self, sequence: int) -> int:
        """Settle all that was delivered up to `sequence`; give how many messages that were (ALL, FLOW_CONTROL)."""
        if sequence <= self.floor_stream:
            return 0
        row = self.pending.get(sequence)
        count = 0
        while (lowest := self.pending.lowest()) is not None and lowest[0] <= sequence:
            self.pending.pop(lowest[0])
            self._queued.discard(lowest[0])
            count += 1
        for given_up in [s for s in self.exhausted if s <= sequence]:
            del self.exhausted[given_up]
            self.pending.note(given_up)
            count += 1
        if not count:
            return 0
        self._advance_floor(sequence)
        if row is not None and self.pending:
            self.floor_stream, self.floor_consumer = sequence, row[0]
        return count

    def naked(self, sequence: int, now_ns: int, *, delay_ns: int = 0) -> bool:
        """Deliver a pending message again, now or after `delay_ns`; tell whether it was pending."""
        row = self.pending.get(sequence)
        if row is None:
            return False
        if delay_ns > 0:
            self._restart(sequence, row, now_ns + delay_ns)
        elif sequence not in self._queued:
            self._enqueue(sequence)
        return True

    def progressed(self, sequence: int, now_ns: int) -> bool:
        """Wait for the ack of a pending message anew; tell whether it was pending."""
        row = self.pending.get(sequence)
        if row is None:
            return False
        self._restart(sequence, row, now_ns + self.rules.wait_ns(row[2]))
        return True

    # what the stream and the time do

    def on_time(self, now_ns: int) -> None:
        """Queue, in stream order, what was not acked in time; give up what was delivered often enough."""
        expired: set[int] = set()  # a message may have two expiries for one moment
        while self._expiries and self._expiries[0][0] <= now_ns:
            deadline_ns, _, sequences = heapq.heappop(self._expiries)
            self._expiry_count -= len(sequences)
            for sequence in sequences:
                row = self.pending.get(sequence)
                if row is None or row[1] + self.rules.wait_ns(row[2]) != deadline_ns:
                    continue
                expired.add(sequence)
        for sequence in sorted(expired):
            if sequence in self._queued:
                continue
            if self.rules.is_last(self.pending[sequence][2]):
                self._exhaust(sequence)
            else:
                self._enqueue(sequence)

    def removed(self, first: int, last: int) -> list[Unsettled]:
        """Messages of an inclusive range left the stream; give those that were pending."""
        gone = [
            Unsettled(sequence, self.pending[sequence][0], self.pending[sequence][2])
            for sequence in _keys_within(self.pending, first, last)
        ]
        for given_up in _keys_within(self.exhausted, first, last):
            del self.exhausted[given_up]
            self.pending.note(given_up)
        for unsettled in gone:
            self.acked(unsettled.sequence)
        return gone

    def purged(self, first_sequence: int) -> list[int]:
        """The stream begins at `first_sequence` now: forget what was before, without redelivery; give it.

        The floor and the delivered stream sequence move up to `first_sequence - 1` at least.
        """
        gone = [sequence for sequence in self.pending if sequence < first_sequence]
        for sequence in gone:
            row = self._taken(sequence)
            self._queued.discard(sequence)
            self.floor_consumer = max(self.floor_consumer, row[0])
        lost = [sequence for sequence in self.exhausted if sequence < first_sequence]
        for sequence in lost:
            del self.exhausted[sequence]
            self.pending.note(sequence)
        self.delivered_stream = max(self.delivered_stream, first_sequence - 1)
        self.floor_stream = max(self.floor_stream, first_sequence - 1)
        if not self.pending:
            self._settle_all()
        return gone

    def keep_existing(self, exists: Callable[[int], bool]) -> None:
        """Settle what is no longer in the stream, without a word."""
        for sequence in [*self.pending, *self.exhausted]:
            if not exists(sequence):
                self.removed(sequence, sequence)

    def rolled_back(self, last_sequence: int) -> None:
        """The stream's recovered end is `last_sequence`: forget what was delivered beyond it."""
        if self.delivered_stream <= last_sequence:
            return
        gone = [s for s in itertools.chain(self.pending, self.exhausted) if s > last_sequence]
        for sequence in gone:
            self.pending.pop(sequence)
            self.pending.note(sequence)
            self.exhausted.pop(sequence, None)
            self._queued.discard(sequence)
        self._queue = deque(sequence for sequence in self._queue if sequence in self._queued)
        self.delivered_stream = last_sequence
        self.floor_stream = min(self.floor_stream, last_sequence)
        if not self.pending:
            self._settle_all()

    def reset(self, start: int, *, skipped_to: int = 0) -> None:
        """Begin anew before the message with stream sequence `start`; consumer sequences restart at 1.

        What is left of the messages up to `skipped_to` counts as unsettled from now on.
        """
        self.skipped_to = skipped_to
        for sequence in itertools.chain(self.pending, self.exhausted):
            self.pending.note(sequence)
        self.pending.clear()
        self.exhausted.clear()
        self.delivered_stream = self.floor_stream = max(0, start - 1)
        self.delivered_consumer = self.floor_consumer = 0
        self._settle_all()

    def set_rules(self, rules: DeliveryRules) -> None:
        """Go on under changed rules; deadlines of pending messages follow them. The ack policy stays."""
        assert rules.ack_policy is self.rules.ack_policy, "the ack policy of a consumer never changes"
        self.rules = rules
        self._expect_all()

    def queue_all(self) -> None:
        """Deliver everything pending again as soon as possible, in stream order."""
        for sequence in self.pending:
            if sequence not in self._queued:
                self._enqueue(sequence)

    # storage

    def register(self) -> Register:
        """Give the whole state for storage; a following `change` starts from it."""
        self.pending.forget_changes()
        numbers = self._numbers()
        self._numbers_reported = tuple(numbers.values())
        rows: dict[int, tuple[int, ...]] = dict(self.pending.items())
        rows.update((sequence, (0, 0, deliveries)) for sequence, deliveries in self.exhausted.items())
        return Register(numbers, rows)

    def change(self) -> RegisterChange | None:
        """Give what changed since `register` or the last `change`; None: nothing."""
        numbers = self._numbers()
        reported = tuple(numbers.values())
        if not self.pending.has_changes and reported == self._numbers_reported:
            return None
        self._numbers_reported = reported
        rows, drops = self.pending.take_changes()
        puts: dict[int, tuple[int, ...]] = dict(rows)
        if self.exhausted:
            for first, last in drops:
                for sequence in _keys_within(self.exhausted, first, last):
                    puts[sequence] = (0, 0, self.exhausted[sequence])
            dropped = itertools.chain.from_iterable(range(first, last + 1) for first, last in drops)
            drops = ranges(sequence for sequence in dropped if sequence not in self.exhausted)
        return RegisterChange(numbers, drops, puts)

    def forget_changes(self) -> None:
        """Nobody stores this consumer: do not gather what `change` would report."""
        self.pending.forget_changes()

    def latest_deadline_ns(self) -> int:
        """Give when the last of the waits for acks is over; 0 where nothing is pending."""
        return max((row[1] + self.rules.wait_ns(row[2]) for row in self.pending.values()), default=0)

    def restore(self, register: Register) -> None:
        """Take over a stored state; pending messages keep the deadlines that their last delivery gave them."""
        numbers = register.numbers
        self.delivered_stream = numbers.get("delivered_stream", 0)
        self.delivered_consumer = numbers.get("delivered_consumer", 0)
        self.floor_stream = numbers.get("floor_stream", 0)
        self.floor_consumer = numbers.get("floor_consumer", 0)
        self.skipped_to = numbers.get("skipped_to", 0)
        self.pending.clear()
        self.exhausted.clear()
        for sequence in sorted(register.rows):
            first_consumer, time_ns, deliveries = register.rows[sequence]
            if first_consumer:
                self.pending.put(sequence, (first_consumer, time_ns, deliveries))
            else:
                self.exhausted[sequence] = deliveries
        self._queue.clear()
        self._queued.clear()
        self.pending.forget_changes()
        self._numbers_reported = tuple(self._numbers().values())
        self._expect_all()

    # inside

    def _numbers(self) -> dict[str, int]:
        return {
            "delivered_stream": self.delivered_stream,
            "delivered_consumer": self.delivered_consumer,
            "floor_stream": self.floor_stream,
            "floor_consumer": self.floor_consumer,
            "skipped_to": self.skipped_to,
        }

    def _enqueue(self, sequence: int) -> None:
        self._queue.append(sequence)
        self._queued.add(sequence)

    def _restart(self, sequence: int, row: Row, deadline_ns: int) -> None:
        """Let a pending message fall due at `deadline_ns`, by moving its time."""
        self.pending.put(sequence, (row[0], deadline_ns - self.rules.wait_ns(row[2]), row[2]))
        if sequence not in self._queued:
            self._expect(deadline_ns, (sequence,))

    def _expect(self, deadline_ns: int, sequences: Sequence[int]) -> None:
        if not self.rules.has_deadlines:
            return
        heapq.heappush(self._expiries, (deadline_ns, next(self._ticket), sequences))
        self._expiry_count += len(sequences)
        if self._expiry_count > STALE_EXPIRIES_MAX + 4 * len(self.pending):
            self._expect_all()

    def _expect_all(self) -> None:
        """Make the expiries anew from the pending messages."""
        together: dict[int, list[int]] = {}
        waiting = self.pending.items() if self.rules.has_deadlines else ()
        for sequence, (_, time_ns, deliveries) in waiting:
            if sequence not in self._queued:
                together.setdefault(time_ns + self.rules.wait_ns(deliveries), []).append(sequence)
        self._expiries = [(deadline, next(self._ticket), found) for deadline, found in together.items()]
        heapq.heapify(self._expiries)
        self._expiry_count = len(self.pending) - len(self._queued)

    def _exhaust(self, sequence: int) -> None:
        """Give a message up; the floor follows with the next ack."""
        row = self._taken(sequence)
        self._queued.discard(sequence)
        self.exhausted[sequence] = row[2]
        self.exhausted_now.append(Exhausted(sequence, row[2]))

    def _advance_floor(self, settled: int) -> None:
        """Move the floor, if `settled` was the lowest pending message, to just below the one that is now."""
        lowest = self.pending.lowest()
        if lowest is None:
            self._settle_all()
        elif settled < lowest[0]:
            self.floor_stream, self.floor_consumer = lowest[0] - 1, lowest[1] - 1

    def _taken(self, sequence: int) -> Row:
        """Take out a row that is there."""
        row = self.pending.pop(sequence)
        assert row is not None, "the caller has just seen it"
        return row

    def _settle_all(self) -> None:
        """Nothing is pending: the floor is where the deliveries are."""
        assert not self.pending, "the floor reaches the deliveries only when nothing is pending"
        self.floor_stream = self.delivered_stream
        self.floor_consumer = self.delivered_consumer
        self._queue.clear()
        self._queued.clear()
        self._expiries.clear()
        self._expiry_count = 0


def _keys_within(table: PendingTable | dict[int, int], first: int, last: int) -> list[int]:
    """Give the keys of an inclusive range, ascending, looking at the shorter of table and range."""
    if last - first < len(table):
        return [sequence for sequence in range(first, last + 1) if sequence in table]
    return sorted(sequence for sequence in table if first <= sequence <= last)
