"""What clients say about messages: the sink of one consumer's ack subjects.

A batch of acks is taken as one step: each changes the state machine, plain ones in runs; then the state is stored where
somebody waits for that, the stream is told what it need not keep, and confirmations are sent once everything said is
durable. On a stream that removes what is acked, the delta of the state goes before the removal, so that a crash between
the two forgets neither.

Source: the consumer reference, section 5, probed on the reference server 2.15.
"""

from collections.abc import Callable
from typing import Protocol

from headrace.core.base.message import Batch
from headrace.jetstream.consumers.acks import (
    AckKind,
    AckSubject,
    parse_ack,
    parse_ack_subject,
    parse_nak_delay,
)
from headrace.jetstream.consumers.advisories import ConsumerAdvisories
from headrace.jetstream.consumers.state import AckPolicy, ConsumerState
from headrace.jetstream.context import Context
from headrace.storage.interface import StorageError, StreamLog


class Owner(Protocol):
    """What the intake asks of its consumer."""

    @property
    def context(self) -> Context: ...

    @property
    def account_name(self) -> str: ...

    @property
    def log(self) -> StreamLog:
        """Where its state is kept."""
        ...

    @property
    def removes_settled(self) -> bool:
        """Whether the stream may remove what is settled."""
        ...

    def now_ns(self) -> int: ...

    def wake(self) -> None: ...

    def on_acks(self, *, is_settling: bool) -> None:
        """Acks were taken; `is_settling`: some of them to settle a message."""
        ...

    def store(self, *, sync: bool) -> bool:
        """Hand the state to storage; tell whether it took it."""
        ...

    def settle(self, ranges: list[tuple[int, int]]) -> None:
        """Tell the stream what is not needed any more."""
        ...


class AckIntake:
    """Takes acks, naks and the rest."""

    def __init__(
        self,
        owner: Owner,
        state: ConsumerState,
        advisories: ConsumerAdvisories,
        *,
        prefix_size: int,
        request: Callable[[bytes, bytes], None] | None,
    ) -> None:
        self.sampling = 0
        self._owner = owner
        self._state = state
        self._advisories = advisories
        self._prefix_size = prefix_size
        self._request = request

    def on_messages(self, batch: Batch) -> None:
        """Take what was said since the last call."""
        now_ns = self._owner.now_ns()
        state, prefix_size = self._state, self._prefix_size
        had_room = state.room > 0
        floor, delivered = state.floor_stream, state.delivered_stream
        takes_runs = not self.sampling and state.rules.ack_policy is not AckPolicy.ALL
        is_settling = False
        settled: list[int] = []
        confirmed: list[bytes] = []
        keeps_settled = settled if self._owner.removes_settled else None
        index = 0
        while index < len(batch):
            if takes_runs:
                index, is_any = state.settle_plain(batch, index, prefix_size, keeps_settled)
                is_settling = is_settling or is_any
                if index == len(batch):
                    break
            message = batch[index]
            index += 1
            about = parse_ack_subject(message.subject, prefix_size)
            if about is None or about.stream_sequence > delivered:
                continue
            kind, argument = parse_ack(message.payload)
            if kind is AckKind.ACK or kind is AckKind.NEXT or kind is AckKind.TERM:
                is_settling = True
                if self._settle(about, kind, argument, now_ns):
                    settled.append(about.stream_sequence)
            elif kind is AckKind.NAK:
                self._on_nak(about, argument, now_ns)
            elif kind is AckKind.PROGRESS:
                state.progressed(about.stream_sequence, now_ns)
            if message.reply:
                if kind is not AckKind.NEXT:
                    confirmed.append(message.reply)
                elif self._request is not None:
                    self._request(message.reply, argument)
        self._owner.on_acks(is_settling=is_settling)
        if settled and keeps_settled is not None:
            self._owner.store(sync=bool(confirmed))
            self._owner.settle(self._ranges(settled, floor))
        if confirmed:
            self._confirm(confirmed)
        if not had_room or state.queue_length:
            self._owner.wake()

    def on_flow_ack(self, sequence: int) -> None:
        """A client that answers flow control requests has come to a stream sequence."""
        state = self._state
        if sequence > state.delivered_stream:
            return
        had_room = state.room > 0
        floor = state.floor_stream
        is_new = state.acked_through(sequence) > 0
        self._owner.on_acks(is_settling=is_new)
        if is_new and self._owner.removes_settled:
            self._owner.store(sync=False)
            self._owner.settle([(floor + 1, sequence)])
        if not had_room:
            self._owner.wake()

    def _settle(self, about: AckSubject, kind: AckKind, argument: bytes, now_ns: int) -> bool:
        """Settle a message, with policy ALL those before it as well; tell whether that is news."""
        sequence = about.stream_sequence
        row = self._state.pending.get(sequence)
        if self._state.rules.ack_policy is AckPolicy.ALL:
            is_new = self._state.acked_through(sequence) > 0
        else:
            is_new = self._state.acked(sequence)
        if not is_new:
            return False
        if kind is AckKind.TERM:
            reason = argument.decode("utf-8", "replace")
            self._advisories.terminated(about.consumer_sequence, sequence, about.deliveries, reason)
        elif self.sampling and row is not None and self._owner.context.chance.below(100) < self.sampling:
            self._advisories.acked(about.consumer_sequence, sequence, about.deliveries, now_ns - row[1])
        return True

    def _ranges(self, settled: list[int], floor: int) -> list[tuple[int, int]]:
        if self._state.rules.ack_policy is AckPolicy.ALL:
            return [(floor + 1, max(settled))]
        return [(sequence, sequence) for sequence in settled]

    def _on_nak(self, about: AckSubject, argument: bytes, now_ns: int) -> None:
        delay_ns = parse_nak_delay(argument) if argument else 0
        if self._state.naked(about.stream_sequence, now_ns, delay_ns=delay_ns):
            self._advisories.naked(about.consumer_sequence, about.stream_sequence, about.deliveries)

    def _confirm(self, replies: list[bytes]) -> None:
        """Answer with an empty message each, as soon as everything said so far is durable."""
        context, account = self._owner.context, self._owner.account_name

        def answer(error: StorageError | None) -> None:
            if error is not None:
                return
            for reply in replies:
                context.bus.publish(account, reply, b"")
            context.bus.request_turn()

        if self._owner.store(sync=True):
            context.store.after_sync(answer, self._owner.log)
