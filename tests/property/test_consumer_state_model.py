"""The consumer's state machine against a naive model: every step, every counter, every floor."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.core.base.engine_choice import is_compiled_available
from headrace.core.base.message import Batch, Message, MessageBatch
from headrace.jetstream.consumers.acks import PLAIN_ACKS
from headrace.jetstream.consumers.pending import PendingTable, PlainPending
from headrace.jetstream.consumers.state import AckPolicy, ConsumerState, DeliveryRules
from headrace.storage.registers import apply_change

SEQUENCES = st.integers(1, 14)
PAYLOADS = (*sorted(PLAIN_ACKS), b"-NAK")

TABLES: dict[str, Callable[[], PendingTable]] = {"plain": PlainPending}
BATCHES: dict[str, Callable[[list[Message]], Batch]] = {"plain": MessageBatch}
if is_compiled_available():
    from headrace.core.base.compiled_batch import CompiledBatch
    from headrace.jetstream.consumers.compiled_consumer import CompiledPending

    TABLES["compiled"] = CompiledPending
    BATCHES["compiled"] = CompiledBatch


@dataclass
class Owed:
    """One delivered message of the model."""

    consumer_sequence: int
    due_ns: int
    deliveries: int = 1
    gave_up: bool = False


@dataclass
class Model:
    """The rules, said as plainly as they can be; everything is recounted each time it is asked."""

    rules: DeliveryRules
    owed: dict[int, Owed] = field(default_factory=dict)
    queue: list[int] = field(default_factory=list)
    delivered: tuple[int, int] = (0, 0)
    floor: tuple[int, int] = (0, 0)
    announced: list[tuple[int, int]] = field(default_factory=list)

    @property
    def pending(self) -> dict[int, Owed]:
        return {s: owed for s, owed in sorted(self.owed.items()) if not owed.gave_up}

    def deliver(self, sequence: int, now: int) -> None:
        consumer_sequence = self.delivered[0] + 1
        self.delivered = (consumer_sequence, max(sequence, self.delivered[1]))
        if self.rules.ack_policy is AckPolicy.NONE:
            self.floor = self.delivered
        elif sequence in self.owed:
            self.queue.remove(sequence)
            owed = self.owed[sequence]
            owed.deliveries += 1
            owed.due_ns = now + self.rules.wait_ns(owed.deliveries)
        else:
            self.owed[sequence] = Owed(consumer_sequence, now + self.rules.wait_ns(1))

    def give_up(self, sequence: int) -> None:
        self.owed[sequence].gave_up = True
        self.announced.append((sequence, self.owed[sequence].deliveries))
        self.queue = [s for s in self.queue if s != sequence]

    def settle(self, sequences: list[int]) -> None:
        before = list(self.pending)
        for sequence in sequences:
            del self.owed[sequence]
        self.queue = [s for s in self.queue if s in self.owed]
        if not sequences:
            return
        pending = self.pending
        if not pending:
            self.floor = self.delivered
        elif min(sequences) < min(pending) and (
            before[:1] != list(pending)[:1] or min(sequences) < before[0]
        ):
            lowest = min(pending)
            self.floor = (pending[lowest].consumer_sequence - 1, lowest - 1)

    def on_time(self, now: int) -> None:
        for sequence, owed in self.pending.items():
            if owed.due_ns <= now and sequence not in self.queue:
                if 0 < self.rules.max_deliver <= owed.deliveries:
                    self.give_up(sequence)
                else:
                    self.queue.append(sequence)


class ConsumerMachine(RuleBasedStateMachine):
    """Both are told the same."""

    @initialize(
        policy=st.sampled_from([AckPolicy.EXPLICIT, AckPolicy.EXPLICIT, AckPolicy.ALL, AckPolicy.NONE]),
        backoff=st.sampled_from([(), (3,), (2, 5, 9)]),
        max_deliver=st.sampled_from([-1, 1, 2, 4]),
        max_ack_pending=st.sampled_from([-1, 3, 10]),
        table=st.sampled_from(list(TABLES)),
    )
    def begin(
        self, policy: AckPolicy, backoff: tuple[int, ...], max_deliver: int, max_ack_pending: int, table: str
    ) -> None:
        self.now = 0
        self.table = table
        rules = DeliveryRules(policy, 7, backoff, max_deliver, max_ack_pending)
        self.model = Model(rules)
        self.state = ConsumerState(rules, table=TABLES[table])
        self.stored = self.state.register()
        self.announced: list[tuple[int, int]] = []

    @rule(gaps=st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def deliver_new(self, gaps: list[int]) -> None:
        sequences: list[int] = []
        last = self.state.delivered_stream
        for gap in gaps[: self.state.room]:
            last += gap
            sequences.append(last)
        if sequences:
            self.state.delivered_new(sequences, self.now)
        for sequence in sequences:
            self.model.deliver(sequence, self.now)

    @rule(count=st.integers(1, 5), part=st.integers(0, 5))
    def deliver_again(self, count: int, part: int) -> None:
        spent = [
            s for s in self.model.queue if 0 < self.model.rules.max_deliver <= self.model.owed[s].deliveries
        ]
        before_end: list[int] = []
        live = 0
        for sequence in self.model.queue:
            if live == count:
                break
            if sequence in spent:
                before_end.append(sequence)
            else:
                live += 1
        for sequence in before_end:
            self.model.give_up(sequence)
        due = self.state.due(count)
        assert due == self.model.queue[:count]
        self.state.redelivered(due[:part], self.now)
        for sequence in due[:part]:
            self.model.deliver(sequence, self.now)

    @rule(acks=st.lists(st.tuples(SEQUENCES, st.sampled_from(PAYLOADS)), min_size=1, max_size=6))
    def ack_in_a_run(self, acks: list[tuple[int, bytes]]) -> None:
        """Plain acks go together, up to the first that is none; those above what was delivered count for nothing."""
        if self.model.rules.ack_policy is AckPolicy.ALL:
            return
        messages = [
            Message(b"$JS.ACK.S.C.1.%d.1.1.1" % sequence, b"", b"", payload, 1) for sequence, payload in acks
        ]
        settled: list[int] = []
        start = 0
        while start < len(messages):
            batch = BATCHES[self.table](messages)
            stop, _ = self.state.settle_plain(batch, start, len(b"$JS.ACK.S.C."), settled)
            assert start <= stop <= len(messages)
            for sequence, payload in acks[start:stop]:
                assert payload in PLAIN_ACKS
                if sequence in self.model.owed and sequence <= self.state.delivered_stream:
                    self.model.settle([sequence])
            if stop < len(messages) and acks[stop][1] in PLAIN_ACKS:
                assert self.state.queue_length or self.state.exhausted or not self.state.pending
                return
            start = stop + 1
        if not self.state.queue_length and not self.state.exhausted:
            assert not set(settled) & set(self.state.pending)

    @rule(sequence=SEQUENCES)
    def ack(self, sequence: int) -> None:
        if self.model.rules.ack_policy is AckPolicy.ALL:
            self._ack_all(sequence)
            return
        known = sequence in self.model.owed
        assert self.state.acked(sequence) is known
        if known:
            self.model.settle([sequence])

    def _ack_all(self, sequence: int) -> None:
        if sequence > self.state.delivered_stream:
            return
        below = [s for s in self.model.owed if s <= sequence] if sequence > self.model.floor[1] else []
        row = self.model.owed.get(sequence)
        assert self.state.acked_through(sequence) == len(below)
        self.model.settle(below)
        if below and row is not None and not row.gave_up and self.model.pending:
            self.model.floor = (row.consumer_sequence, sequence)

    @rule(sequence=SEQUENCES, delay=st.integers(0, 12))
    def nak(self, sequence: int, delay: int) -> None:
        owed = self.model.pending.get(sequence)
        assert self.state.naked(sequence, self.now, delay_ns=delay) is (owed is not None)
        if owed is None:
            return
        if delay:
            owed.due_ns = self.now + delay
        elif sequence not in self.model.queue:
            self.model.queue.append(sequence)

    @rule(sequence=SEQUENCES)
    def progress(self, sequence: int) -> None:
        owed = self.model.pending.get(sequence)
        assert self.state.progressed(sequence, self.now) is (owed is not None)
        if owed is not None:
            owed.due_ns = self.now + self.model.rules.wait_ns(owed.deliveries)

    @rule(duration=st.integers(1, 8))
    def pass_time(self, duration: int) -> None:
        self.now += duration
        self.state.on_time(self.now)
        self.model.on_time(self.now)

    @rule(first=SEQUENCES, length=st.integers(0, 6))
    def remove(self, first: int, length: int) -> None:
        pending = self.model.pending
        gone = [s for s in pending if first <= s <= first + length]
        assert [u.sequence for u in self.state.removed(first, first + length)] == gone
        for sequence in [
            s for s, owed in self.model.owed.items() if owed.gave_up and first <= s <= first + length
        ]:
            del self.model.owed[sequence]
        for sequence in gone:
            self.model.settle([sequence])

    @rule()
    def store(self) -> None:
        change = self.state.change()
        if change is not None:
            apply_change(self.stored, change)
        again = ConsumerState(self.state.rules, table=TABLES[self.table])
        again.restore(self.stored)
        assert again.register() == self.stored
        assert (again.num_redelivered, again.num_ack_pending) == (
            self.state.num_redelivered,
            self.state.num_ack_pending,
        )

    @rule()
    def restart(self) -> None:
        """What was queued waits for its time again: it is due at once, in stream order."""
        register = self.state.register()
        self.announced += self.state.exhausted_now
        self.state = ConsumerState(self.state.rules, table=TABLES[self.table])
        self.state.restore(register)
        self.stored = self.state.register()
        self.model.queue.clear()
        self.state.on_time(self.now)
        self.model.on_time(self.now)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        state, model = self.state, self.model
        assert {s: (o.consumer_sequence, o.deliveries) for s, o in model.pending.items()} == {
            s: (row[0], row[2]) for s, row in state.pending.items()
        }
        assert list(state.pending) == sorted(state.pending)
        assert (state.delivered_consumer, state.delivered_stream) == model.delivered
        assert (state.floor_consumer, state.floor_stream) == model.floor
        repeated = sum(owed.deliveries > 1 or owed.gave_up for owed in model.owed.values())
        assert state.num_redelivered == (0 if model.rules.max_deliver == 1 else repeated)
        assert state.queue_length == len(model.queue)
        assert [*self.announced, *state.exhausted_now] == model.announced
        waiting = [owed.due_ns for s, owed in model.pending.items() if s not in model.queue]
        deadline = state.next_deadline_ns()
        assert not waiting or (deadline is not None and deadline <= min(waiting))


TestConsumerState = ConsumerMachine.TestCase
TestConsumerState.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
