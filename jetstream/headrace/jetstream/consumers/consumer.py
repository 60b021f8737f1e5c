"""A running consumer: its state machine, its place in the stream and its outlet, held together.

What happens comes from four sides. The stream says what is visible, removed and purged; clients ask, ack and listen;
time passes; the API changes and ends it. Each of these changes the state and, where something may now be delivered,
makes the consumer *ready*; at the end of the turn `pump` delivers, bounded, and is asked again if more waits.

One scheduling step takes what is due again, first, and then what is new. Messages are read for as many as the outlet
wants, offered to it, and only those that it sent count as delivered; nothing is kept for later.

Time is wall-clock time that never goes back: `now_ns` is monotonic time plus the offset between the two clocks at the
consumer's start. So deadlines are steady while the server runs, and rows keep their meaning on disk.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

from headrace.core import headers
from headrace.core.base.message import View
from headrace.jetstream import levels
from headrace.jetstream.consumers import status
from headrace.jetstream.consumers.ack_intake import AckIntake
from headrace.jetstream.consumers.acks import ack_prefix, ack_template
from headrace.jetstream.consumers.advisories import ConsumerAdvisories
from headrace.jetstream.consumers.groups import Load, PinEvent
from headrace.jetstream.consumers.info import group_states, place
from headrace.jetstream.consumers.leftovers import settled_messages
from headrace.jetstream.consumers.lifetime import Lifetime
from headrace.jetstream.consumers.outlets import Outlet, PullOutlet, PushOutlet
from headrace.jetstream.consumers.pacing import OriginalPace
from headrace.jetstream.consumers.pending import new_replies
from headrace.jetstream.consumers.position import Position, Read, make_filter, resumed
from headrace.jetstream.consumers.resets import reset_sequence
from headrace.jetstream.consumers.rules import delivery_rules, level, sampling
from headrace.jetstream.consumers.sinks import Captures
from headrace.jetstream.consumers.state import AckPolicy, ConsumerState
from headrace.jetstream.consumers.stored import StoredState
from headrace.jetstream.context import Context
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.streams.attached import CloseReason
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import ConsumerRecord, CorruptRecord, IndexRebuilding, StorageError, StreamLog

RUN_MAX: Final = 512
"""Messages read and offered at once."""

_UNACKED_DELETED: Final = "Unacknowledged message was deleted"
_DELETED_BY_LIMITS: Final = "Message deleted by stream limits"


class _Result(Enum):
    """How one step of a pump went."""

    SENT = "sent"
    HELD = "held"  # the outlet or a limit lets nothing more go now
    DRY = "dry"  # there is nothing more to deliver
    SEARCHING = "searching"  # the search for the next message has used up its share of the turn


class Consumer:
    """One consumer of a stream. Loop thread only."""

    def __init__(
        self,
        stream: Stream,
        name: str,
        config: ConsumerConfig,
        created_ns: int,
        *,
        state: ConsumerState,
        position: Position,
        listed_to: int,
        await_room: Callable[["Consumer"], None],
        expire: Callable[["Consumer"], None],
    ) -> None:
        self.stream = stream
        self.context: Context = stream.context
        self.name = name
        self.config = config
        self.created_ns = created_ns
        scheduler = self.context.scheduler
        self._offset_ns = scheduler.now_ns() - scheduler.monotonic_ns()
        self._state = state
        self._position = position
        self._await_room = await_room
        self._expire = expire
        self._is_closed = False
        self._is_awaiting_index = False
        self._stored = StoredState(
            self.context,
            stream.log,
            name,
            created_ns,
            state,
            listed_to=listed_to,
            is_stored=not config.mem_storage,
        )
        self._armed_ns = 0  # the deadline that was asked for; 0: none
        self._last_delivery_ns = 0
        self._last_ack_ns = 0
        self._lifetime = Lifetime(config, self.context.chance, self.now_ns())
        self._resume_ns = 0  # when the original pace lets the next message go
        self._paused_until_ns = config.pause_until_ns
        self._advisories = ConsumerAdvisories(self.context, self.account_name, stream.name, name)
        self._pace = (
            OriginalPace(stream.log.head.last_sequence) if config.replay_policy == "original" else None
        )
        prefix = ack_prefix(stream.name, name)
        self._prefix = prefix
        self._template = ack_template(prefix)
        self._outlet: Outlet = self._make_outlet()
        self._captures = Captures(self.context.bus, self.account_name)
        self._intake = AckIntake(
            self,
            state,
            self._advisories,
            prefix_size=len(prefix),
            request=self._outlet.request if isinstance(self._outlet, PullOutlet) else None,
        )
        self._intake.sampling = sampling(config.sample_freq)
        if state.rules.ack_policy in {AckPolicy.ALL, AckPolicy.EXPLICIT}:
            self._captures.add(prefix + b"*.*.*.*.*", self._intake)
        if self._paused_until_ns and self._paused_until_ns <= self.now_ns():
            self._paused_until_ns = 0
        self._arm()

    def __repr__(self) -> str:
        return f"Consumer({self.stream.name!r}, {self.name!r})"

    def _make_outlet(self) -> Outlet:
        if not self.config.is_push:
            return PullOutlet(self)
        size = self.stream.config.max_msg_size
        return PushOutlet(self, burst_size=size if size > 0 else 1024 * 1024)

    # what the stream asks

    @property
    def account_name(self) -> str:
        return self.stream.account.name

    @property
    def log(self) -> StreamLog:
        """The log that keeps its state."""
        return self.stream.log

    @property
    def stream_name(self) -> str:
        return self.stream.name

    @property
    def inactive_threshold_ns(self) -> int:
        return self.config.inactive_threshold

    @property
    def max_ack_pending(self) -> int:
        return self.config.max_ack_pending

    @property
    def advisories(self) -> ConsumerAdvisories:
        return self._advisories

    @property
    def removes_settled(self) -> bool:
        """Whether the stream may remove what this consumer has settled."""
        return self.stream.config.retention != "limits"

    def wants(self, subject: bytes) -> bool:
        """Tell whether its filters mean this subject."""
        return self._position.match is None or self._position.match.matches(subject)

    def is_settled(self, sequence: int) -> bool:
        """Tell whether a message that its filters mean is needed no more."""
        return self._state.is_settled(sequence)

    def settled_messages(self) -> list[tuple[int, int]]:
        """Give the messages that are settled and still there; after a crash there may be some."""
        return settled_messages(self.stream.log, self._position.match, self._state)

    def on_visible(self, last_sequence: int) -> None:  # noqa: ARG002  (the log is asked when it is read)
        """More messages are durable."""
        if self._outlet.is_active:
            self.wake()

    def on_removed(self, first: int, last: int, subject: bytes | None) -> None:
        """Messages of an inclusive range left the stream."""
        self._position.removed(first, last, subject)
        if not self._state.pending and not self._state.exhausted:
            return
        had_room = self._state.room > 0
        for gone in self._state.removed(first, last):
            self._last_ack_ns = self.now_ns()
            self._advisories.terminated(
                gone.consumer_sequence, gone.sequence, gone.deliveries, _UNACKED_DELETED
            )
        self._changed()
        if not had_room:
            self.wake()

    def on_thinned(self) -> None:
        """Messages went by the stream's limits, it is not said which."""
        log = self.stream.log
        self._position.thinned()
        for sequence in [*self._state.pending, *self._state.exhausted]:
            if log.next_sequence(sequence) != sequence:
                self.on_removed(sequence, sequence, None)

    def on_purged(self) -> None:
        """Messages went, it is not said which."""
        log = self.stream.log
        head = log.head
        first = max(head.first_sequence, 1)
        self._position.purged(first)
        if self._state.purged(first):
            self._last_ack_ns = self.now_ns()
        self._state.keep_existing(lambda sequence: log.next_sequence(sequence) == sequence)
        self._changed()
        self.wake()

    # what the outlet asks

    def now_ns(self) -> int:
        """Give the time on this consumer's axis: wall-clock time that never goes back."""
        return self.context.scheduler.monotonic_ns() + self._offset_ns

    def wake(self) -> None:
        """Deliver what can be delivered at the end of the turn."""
        if not self._is_closed:
            self.context.ready(self)

    def await_room(self) -> None:
        self._await_room(self)

    def on_room(self) -> None:
        """Some connection has room again."""
        if not self._is_closed:
            self._outlet.on_room()

    def on_activity(self) -> None:
        """A client showed that it is there."""
        self._lifetime.activity_ns = self.now_ns()
        self._arm()

    def available(self) -> int:
        """Give how many messages could be delivered; at least one where that is not known yet."""
        try:
            return self._position.num_pending() + self._state.queue_length
        except IndexRebuilding:
            return 1

    @property
    def room(self) -> int:
        """How many new messages may be delivered before an ack is needed."""
        return self._state.room

    @property
    def num_ack_pending(self) -> int:
        return self._state.num_ack_pending

    def on_flow_ack(self, sequence: int) -> None:
        """The answer to a flow control request says how far the client has come."""
        self._intake.on_flow_ack(sequence)

    def load(self) -> Load:
        """Give how much there is to do; a message that is due again is at hand, and not among those to come."""
        state = self._state
        return Load(self._position.num_pending() + (state.queue_length > 0), state.num_ack_pending)

    def announce_pins(self, events: Sequence[PinEvent]) -> None:
        group = self.config.priority_groups[0] if self.config.priority_groups else ""
        for event in events:
            if event.reason:
                self._advisories.unpinned(group, event.reason)
            else:
                self._advisories.pinned(group, event.pin_id)

    def heartbeat(self, stalled: bytes = b"") -> bytes:
        return status.idle_heartbeat(
            self._state.delivered_consumer, self._state.delivered_stream, stalled=stalled
        )

    # delivering

    def pump(self, budget: int) -> bool:
        """Deliver at most `budget` messages; tell whether more is waiting."""
        if self._is_closed or self._paused_until_ns or self._awaits_index():
            return False
        now_ns = self.now_ns()
        before = self._state.delivered_consumer
        left = budget
        result = _Result.SENT
        while result is _Result.SENT and left > 0:
            wanted = min(self._outlet.wanted(), left, RUN_MAX)
            if wanted <= 0:
                result = _Result.HELD
                break
            reached = self._state.delivered_consumer
            result = self._step(wanted, now_ns)
            left -= self._state.delivered_consumer - reached
        if result is _Result.DRY:
            self._outlet.run_dry()
        if self._state.delivered_consumer != before:
            self._lifetime.activity_ns = self._last_delivery_ns = now_ns
            self._changed()
        elif self._state.exhausted_now:
            self._changed()
        else:
            self._arm()
        return result in {_Result.SENT, _Result.SEARCHING}

    def _awaits_index(self) -> bool:
        """Tell whether messages have to wait for the log's index, which alone counts what a filter leaves to come."""
        log = self.stream.log
        if self._position.match is None or log.is_index_ready:
            return False
        if not self._is_awaiting_index:
            self._is_awaiting_index = True
            log.when_index_ready(self._on_index_ready)
        return True

    def _on_index_ready(self) -> None:
        self._is_awaiting_index = False
        self.wake()
        self.context.bus.request_turn()

    def _step(self, wanted: int, now_ns: int) -> _Result:
        """Offer what is due again, or else what is new."""
        state = self._state
        if state.queue_length:
            due = state.due(wanted)
            if due:
                return self._send_again(due, now_ns)
        room = state.room
        if room <= 0:
            return _Result.HELD
        position = self._position
        read = position.read(self.stream.visible_sequence, min(wanted, room))
        if not read.views:
            position.advance(read, 0)
            return _Result.DRY if read.at_end else _Result.SEARCHING
        if self._pace is not None:
            read = self._paced(read, self._pace, now_ns)
            if not read.views:
                return _Result.HELD
        return self._send_new(read, now_ns)

    def _send_new(self, read: Read, now_ns: int) -> _Result:
        state = self._state
        pending = self._position.num_pending(read)
        consumer_sequence = state.delivered_consumer
        replies = new_replies(self._prefix, read.views, consumer_sequence, pending)
        views: Sequence[View] = read.views
        if self.config.headers_only:
            views = [_without_payload(view) for view in views]
        sent = self._outlet.send(views, replies, now_ns)
        self._position.advance(read, sent)
        if sent:
            first, last = read.views[0].sequence, read.views[sent - 1].sequence
            sequences: Sequence[int] = range(first, last + 1)
            if len(sequences) != sent:
                sequences = [view.sequence for view in read.views[:sent]]
            state.delivered_new(sequences, now_ns)
            if self._pace is not None:
                self._pace.sent(read.views[sent - 1].time_ns, now_ns)
            if state.rules.ack_policy is AckPolicy.NONE and self.removes_settled:
                self.settle([(sequence, sequence) for sequence in sequences])
        return _Result.SENT if sent == len(read.views) else _Result.HELD

    def _send_again(self, due: list[int], now_ns: int) -> _Result:
        state = self._state
        views: list[View] = []
        for sequence in due:
            try:
                view = self.stream.log.get(sequence)
            except CorruptRecord:
                view = None
            if view is not None:
                views.append(_without_payload(view) if self.config.headers_only else view)
                continue
            for gone in state.removed(sequence, sequence):
                self._advisories.terminated(
                    gone.consumer_sequence, sequence, gone.deliveries, _DELETED_BY_LIMITS
                )
        if not views:
            return _Result.SENT
        pending = self._position.num_pending()
        replies = [
            self._template
            % (
                state.pending[view.sequence][2] + 1,
                view.sequence,
                state.delivered_consumer + index,
                view.time_ns,
                pending,
            )
            for index, view in enumerate(views, 1)
        ]
        sent = self._outlet.send(views, replies, now_ns)
        if sent:
            state.redelivered([view.sequence for view in views[:sent]], now_ns)
        return _Result.SENT if sent == len(views) else _Result.HELD

    def _paced(self, read: Read, pace: OriginalPace, now_ns: int) -> Read:
        """Cut what was read to what the original pace lets go now: one message, or nothing."""
        view = read.views[0]
        if pace.is_over(view.sequence):
            self._pace = None
            return read
        at_ns = pace.may_send_at(view.time_ns)
        if at_ns > now_ns:
            self._resume_ns = at_ns
            return Read([], view.sequence, at_end=False)
        self._resume_ns = 0
        return Read([view], view.sequence + 1, at_end=False)

    def on_acks(self, *, is_settling: bool) -> None:
        """Clients said something about messages; `is_settling`: that some need no more."""
        now_ns = self.now_ns()
        self._lifetime.activity_ns = now_ns
        if is_settling:
            self._last_ack_ns = now_ns
        self._changed()

    def settle(self, ranges: list[tuple[int, int]]) -> None:
        """Tell the stream what is not needed any more."""
        try:
            self.stream.settle(self, ranges)
        except StorageError as error:
            # The acks stand; what should have gone goes after a restart, as `settled_messages` says.
            self.context.log.warning(f"Consumer '{self.stream.name} > {self.name}': acked but kept: {error}")

    # storage

    def save(self) -> None:
        """Store the consumer as it is. Raises StorageError."""
        self._stored.save(self.config)

    def record(self) -> ConsumerRecord:
        """Give what a store or a snapshot holds of it."""
        return self._stored.record(self.config, self.now_ns())

    def store(self, *, sync: bool) -> bool:
        """Hand the changes of the state to storage; tell whether it took them."""
        return self._stored.store(self.config, self.now_ns(), sync=sync)

    def _changed(self) -> None:
        """The state is another one: announce what was given up, store it soon, look at the deadlines again."""
        if self._state.exhausted_now:
            given_up, self._state.exhausted_now = self._state.exhausted_now, []
            for sequence, deliveries in given_up:
                self._advisories.exhausted(sequence, deliveries)
        self._stored.changed(self.now_ns())
        self._arm()

    # time

    def _arm(self) -> None:
        """Ask to be woken at the earliest deadline, unless that is asked for already."""
        if self._is_closed:
            return
        due_ns = self._next_deadline_ns()
        if due_ns and (not self._armed_ns or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self.context.deadlines.set(self, due_ns - self._offset_ns, self._on_time)

    def _next_deadline_ns(self) -> int:
        deadlines = [
            self._state.next_deadline_ns() or 0,
            self._outlet.next_deadline_ns() or 0,
            self._stored.due_ns,
            self._paused_until_ns,
            self._resume_ns,
            self._inactive_at_ns(),
        ]
        return min(filter(None, deadlines), default=0)

    def _on_time(self, monotonic_ns: int) -> int | None:
        now_ns = monotonic_ns + self._offset_ns
        self._armed_ns = 0
        deadline_ns = self._state.next_deadline_ns()
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._state.on_time(now_ns)
            if self._state.exhausted_now:
                self._changed()
            if self._state.queue_length:
                self.wake()
        self._outlet.on_time(now_ns)
        if 0 < self._resume_ns <= now_ns:
            self._resume_ns = 0
            self.wake()
        if 0 < self._paused_until_ns <= now_ns:
            self._resume()
        if 0 < self._stored.due_ns <= now_ns:
            self.store(sync=False)
        if 0 < self._inactive_at_ns() <= now_ns:
            self._on_inactive(now_ns)
        self.context.bus.request_turn()
        if self._is_closed:
            return None
        self._armed_ns = self._next_deadline_ns()
        return self._armed_ns - self._offset_ns if self._armed_ns else None

    def _inactive_at_ns(self) -> int:
        """Give when the consumer ends for want of clients; 0: it does not."""
        if self.config.is_push and self._outlet.is_active:
            return 0
        return self._lifetime.ends_ns

    def _on_inactive(self, now_ns: int) -> None:
        """Nobody was there for too long: end, unless a client waits or works after all."""
        if not self.config.is_push:
            if self._outlet.num_waiting():
                self._lifetime.activity_ns = now_ns
                return
            working_until_ns = self._state.latest_deadline_ns()
            if working_until_ns > now_ns:
                self._lifetime.activity_ns = working_until_ns
                return
        self._expire(self)

    # pause

    def pause(self, pause_until_ns: int) -> None:
        """Deliver nothing until some time; 0, or one that has passed, resumes."""
        is_paused = pause_until_ns > self.now_ns()
        stored_ns = pause_until_ns if is_paused else 0
        if stored_ns == self.config.pause_until_ns:
            return
        config = self.config.replaced(pause_until=encode_time(stored_ns) if stored_ns else "")
        self._save_config(config.replaced(metadata=levels.own_metadata(config.metadata, level(config))))
        self._paused_until_ns = stored_ns
        self._advisories.paused(stored_ns, is_paused=is_paused)
        self._arm()
        self.wake()

    def _resume(self) -> None:
        """The pause is over; its time stays in the configuration."""
        until_ns, self._paused_until_ns = self._paused_until_ns, 0
        self._advisories.paused(until_ns, is_paused=False)
        self.wake()

    # what the API does

    def _save_config(self, config: ConsumerConfig) -> None:
        self._stored.save_config(config)
        self.config = config

    def update(self, config: ConsumerConfig) -> None:
        """Go on under another configuration; it was checked. Raises StorageError, and has then changed nothing."""
        old = self.config
        self._save_config(config)
        self._state.set_rules(delivery_rules(config))
        self._intake.sampling = sampling(config.sample_freq)
        if config.filters != old.filters:
            self._position.change_filter(make_filter(config))
            self.stream.interest.sweep()
        if config.deliver_subject != old.deliver_subject:
            self._state.queue_all()
        self._outlet.configure(config)
        if config.inactive_threshold != old.inactive_threshold:
            self._lifetime.configure(config)
        self._armed_ns = 0
        self._changed()
        self.wake()

    def reset(self, asked: int) -> int:
        """Deliver again from a stream sequence on, or, with 0, all that is not acked; give where that is.

        Raises ApiError where the deliver policy does not allow it. On a workqueue what is skipped stays in the stream.
        """
        state, log = self._state, self.stream.log
        start = reset_sequence(self.config, asked, state.floor_stream, log)
        keeps_skipped = self.stream.config.retention == "workqueue"
        state.reset(start, skipped_to=start - 1 if keeps_skipped else 0)
        self._position = resumed(log, self._position.match, state.delivered_stream, self._stored.listed_to)
        self._last_delivery_ns = self._last_ack_ns = self._resume_ns = 0
        self._changed()
        self.store(sync=True)
        self.stream.interest.sweep_later()
        self.wake()
        return start

    def unpin(self) -> None:
        """Let another client than the pinned one have the messages."""
        if isinstance(self._outlet, PullOutlet):
            self._outlet.unpin()

    @property
    def is_bound(self) -> bool:
        """Whether somebody takes messages from the deliver subject."""
        return self.config.is_push and self._outlet.is_active

    @property
    def paused_for_ns(self) -> int:
        """How long the consumer is still paused; 0: it is not."""
        return max(0, self._paused_until_ns - self.now_ns()) if self._paused_until_ns else 0

    def info(self, *, is_listed: bool = False) -> dict[str, Any]:
        """Give its ConsumerInfo; in lists the metadata are as stored."""
        state = self._state
        config = self.config.fields()
        if not is_listed:
            config["metadata"] = levels.shown_metadata(self.config.metadata, self.context.version)
        info: dict[str, Any] = {
            "stream_name": self.stream.name,
            "name": self.name,
            "created": encode_time(self.created_ns),
            "config": config,
            "delivered": place(state.delivered_consumer, state.delivered_stream, self._last_delivery_ns),
            "ack_floor": place(state.floor_consumer, state.floor_stream, self._last_ack_ns),
            "num_ack_pending": state.num_ack_pending,
            "num_redelivered": state.num_redelivered,
            "num_waiting": self._outlet.num_waiting(),
            "num_pending": self._position.num_pending(with_waiting=True),
            "ts": encode_time(self.context.scheduler.now_ns()),
        }
        if self.is_bound:
            info["push_bound"] = True
        if self.config.priority_groups and isinstance(self._outlet, PullOutlet):
            info["priority_groups"] = group_states(self._outlet.groups)
        if self.paused_for_ns:
            info |= {"paused": True, "pause_remaining": self.paused_for_ns}
        return info

    def close(self, reason: CloseReason) -> None:
        """End. What was said is stored, unless the consumer goes with all it has."""
        if self._is_closed:
            return
        if reason is CloseReason.SHUTDOWN:
            self.store(sync=True)
        self._is_closed = True
        self.context.deadlines.clear(self)
        self._captures.close()
        told = status.SERVER_SHUTDOWN if reason is CloseReason.SHUTDOWN else status.CONSUMER_DELETED
        self._outlet.close(told)


def _without_payload(view: View) -> View:
    """Give a message without its payload, whose size stands in a header."""
    block = headers.with_field(view.headers, b"Nats-Msg-Size", b"%d" % len(view.payload))
    return view._replace(headers=block, payload=b"")
