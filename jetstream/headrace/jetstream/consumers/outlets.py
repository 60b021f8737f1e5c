"""How a consumer's messages get out: handed to waiting pull requests, or pushed to a subject.

The consumer decides what comes next; its outlet decides how much of it can go now, sends that, and knows what it
waits for otherwise: a request, interest, room in a connection, the answer to a flow control request, time. When that
has come it calls `wake`, and the consumer tries again at the end of the turn.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from headrace.core import headers as fields
from headrace.core.base.message import Batch, View
from headrace.core.bus import Outcome, Registration
from headrace.jetstream import levels
from headrace.jetstream.consumers import status
from headrace.jetstream.consumers.groups import PIN_ID_SIZE, Load, PinEvent, PriorityGroups
from headrace.jetstream.consumers.pacing import FlowWindow, RateLimit
from headrace.jetstream.consumers.pulls import (
    BadPullRequest,
    PullLimits,
    WaitingPulls,
    parse_pull_options,
    refusal,
)
from headrace.jetstream.consumers.sinks import CallbackSink, Captures
from headrace.jetstream.context import Context
from headrace.jetstream.models.consumer_config import ConsumerConfig

SEQUENCE_DIGITS_MAX: Final = 20

PUSH_RUN_MAX: Final = 512
"""Messages that a push consumer offers at once."""


def message_size(view: View, reply: bytes) -> int:
    """Give what a delivery counts against byte limits."""
    return len(view.subject) + len(reply) + len(view.headers) + len(view.payload)


class Surroundings(Protocol):
    """What an outlet asks of its consumer."""

    @property
    def context(self) -> Context: ...

    @property
    def account_name(self) -> str: ...

    @property
    def stream_name(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> ConsumerConfig: ...

    @property
    def paused_for_ns(self) -> int: ...

    def now_ns(self) -> int: ...

    def wake(self) -> None:
        """Something may go out again."""
        ...

    def await_room(self) -> None:
        """Call the outlet's `on_room` when some connection has room again."""
        ...

    def available(self) -> int:
        """Count the messages that could be delivered, new ones and again."""
        ...

    def heartbeat(self, stalled: bytes = b"") -> bytes:
        """Give the header block of a heartbeat."""
        ...

    def on_activity(self) -> None:
        """A client showed that it is there."""
        ...

    def load(self) -> Load:
        """Give how much there is to do, the message at hand included."""
        ...

    @property
    def room(self) -> int:
        """How many new messages may be delivered before an ack is needed."""
        ...

    @property
    def num_ack_pending(self) -> int: ...

    def on_flow_ack(self, sequence: int) -> None:
        """A client has come to a stream sequence (ack policy `flow_control`)."""
        ...

    def announce_pins(self, events: Sequence[PinEvent]) -> None:
        """Say who was pinned and who is so no longer."""
        ...


class Outlet(Protocol):
    """A way out."""

    @property
    def is_active(self) -> bool:
        """Whether somebody is there to take messages."""
        ...

    def wanted(self) -> int:
        """Give how many messages to offer."""
        ...

    def send(self, views: Sequence[View], replies: Sequence[bytes], now_ns: int) -> int:
        """Send the first ones of these messages; give how many went out."""
        ...

    def run_dry(self) -> None:
        """Everything that there is was delivered."""
        ...

    def on_room(self) -> None: ...

    def next_deadline_ns(self) -> int | None: ...

    def on_time(self, now_ns: int) -> None: ...

    def configure(self, config: ConsumerConfig) -> None:
        """Go on under a changed configuration."""
        ...

    def num_waiting(self) -> int:
        """Count the pull requests that wait, those that are over or forgotten not."""
        ...

    def close(self, reason: bytes) -> None:
        """Take the subscriptions out; tell waiting requests `reason` unless it is empty."""
        ...


class PullOutlet:
    """Waiting pull requests, and the subject on which they arrive."""

    def __init__(self, consumer: Surroundings) -> None:
        self._consumer = consumer
        self._bus = consumer.context.bus
        self._account = consumer.account_name
        chance = consumer.context.chance
        self.groups = PriorityGroups(consumer.config, lambda: chance.base62(PIN_ID_SIZE).decode())
        self._pulls = WaitingPulls(_pull_limits(consumer.config), self.groups, consumer.load)
        self._captures = Captures(self._bus, self._account)
        self._is_blocked = False
        for prefix in consumer.context.api_prefixes:
            subject = f"CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}".encode()
            self._captures.add(prefix + subject, CallbackSink(self._on_requests))

    @property
    def is_active(self) -> bool:
        return len(self._pulls) > 0

    def wanted(self) -> int:
        return 0 if self._is_blocked else self._pulls.wanted_now()

    def request(self, reply: bytes, body: bytes, headers: bytes = b"") -> None:
        """Take a pull request, or refuse it."""
        if not reply:
            return
        consumer = self._consumer
        refused: bytes | None
        if headers and not levels.is_served(headers):
            refused = status.REQUIRED_API_LEVEL
        else:
            try:
                options = parse_pull_options(body)
                refused = refusal(options, self._pulls.limits) or self.groups.refusal(options.group)
            except BadPullRequest as error:
                refused = status.bad_request(str(error))
            else:
                if refused is None:
                    self.groups.renew(options.group, consumer.now_ns())
                    waits = self._pulls.offer(
                        reply,
                        options,
                        available=consumer.available() if options.no_wait else 0,
                        now_ns=consumer.now_ns(),
                        has_interest=self._has_interest,
                        is_paused=consumer.paused_for_ns > 0,
                    )
                    self._is_blocked &= not waits
        if refused is not None:
            self._bus.publish(self._account, reply, b"", headers=refused)
        consumer.on_activity()
        consumer.wake()
        self._answer()

    def _on_requests(self, batch: Batch) -> None:
        for message in batch:
            self.request(message.reply, message.payload, message.headers)

    def _has_interest(self, reply: bytes) -> bool:
        return self._bus.has_interest(self._account, reply)

    def send(self, views: Sequence[View], replies: Sequence[bytes], now_ns: int) -> int:
        pulls = self._pulls
        sent = blocked = 0
        are_alike = pulls.are_alike(now_ns)
        while sent < len(views):
            request = pulls.head(now_ns)
            if request is None:
                break
            size = 0
            if request.has_size_limit:
                size = message_size(views[sent], replies[sent])
                if not pulls.fits(request, size):
                    continue
            # Several requests take turns, so that clients that share the messages get them in order. Requests that
            # share a reply subject are one client's, which cannot tell.
            if are_alike:
                end = min(len(views), sent + pulls.wanted)
            else:
                end = min(len(views), sent + pulls.run_length(request))
            whole = sent == 0 and end == len(views)
            run = views if whole else views[sent:end]
            pin_id = self.groups.pin_for(request.group)
            if pin_id:
                run = [_with_pin(view, pin_id) for view in run]
            delivered = self._bus.deliver(
                self._account, request.reply, run, replies if whole else replies[sent:end]
            )
            if delivered.count:
                if are_alike:
                    pulls.served_in_turns(delivered.count, now_ns)
                else:
                    pulls.served(request, delivered.count, size, now_ns)
                sent += delivered.count
                blocked = 0
            elif delivered.outcome is Outcome.NO_ROOM:
                if self.groups.is_plain:
                    pulls.rotate()
                blocked += 1
                if blocked >= len(pulls) or not self.groups.is_plain:
                    self._is_blocked = True
                    self._consumer.await_room()
                    break
            else:
                pulls.drop(request)
        self._answer()
        return sent

    def run_dry(self) -> None:
        self._pulls.run_dry()
        self._answer()

    def on_room(self) -> None:
        self._is_blocked = False
        self._consumer.wake()

    def next_deadline_ns(self) -> int | None:
        return min(filter(None, (self._pulls.next_deadline_ns(), self.groups.expires_ns)), default=None)

    def unpin(self) -> None:
        """Let somebody else be pinned."""
        self.groups.unpin()
        self._answer()
        self._consumer.wake()

    def on_time(self, now_ns: int) -> None:
        if self.groups.on_time(now_ns):
            self._answer()
            self._consumer.wake()
        deadline_ns = self._pulls.next_deadline_ns()
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._pulls.on_time(now_ns, self._consumer.heartbeat)
            self._answer()
            if len(self._pulls):
                self._consumer.wake()

    def configure(self, config: ConsumerConfig) -> None:
        self._pulls.limits = _pull_limits(config)
        self.groups.configure(config)
        self._pulls.rank_anew()

    def num_waiting(self) -> int:
        self._pulls.prune(self._consumer.now_ns(), self._has_interest)
        self._answer()
        return len(self._pulls)

    def close(self, reason: bytes) -> None:
        self._captures.close()
        if reason:
            self._pulls.close(reason)
            self._answer()

    def _answer(self) -> None:
        if self._pulls.answers:
            answers, self._pulls.answers = self._pulls.answers, []
            for reply, headers in answers:
                self._bus.publish(self._account, reply, b"", headers=headers)
        if self.groups.events:
            events, self.groups.events = self.groups.events, []
            self._consumer.announce_pins(events)


def _with_pin(view: View, pin_id: str) -> View:
    return view._replace(headers=fields.with_field(view.headers, b"Nats-Pin-Id", pin_id.encode()))


def _pull_limits(config: ConsumerConfig) -> PullLimits:
    return PullLimits(
        max_waiting=config.max_waiting,
        max_batch=config.max_batch,
        max_expires_ns=config.max_expires,
        max_bytes=config.max_bytes,
    )


class PushOutlet:
    """A deliver subject, watched for interest.

    With a deliver group it is the group's members that count; once they are there, messages go out as any others do.
    Heartbeats go out while somebody listens and nothing else went for `idle_heartbeat`.

    With ack policy `flow_control` the answers to flow control requests are the acks. So there is a request also where
    no more messages may go without an ack, and behind a heartbeat while acks are missing.
    """

    def __init__(self, consumer: Surroundings, burst_size: int) -> None:
        self._consumer = consumer
        self._bus = consumer.context.bus
        self._account = consumer.account_name
        self._burst_size = burst_size
        self._captures = Captures(self._bus, self._account)
        self._window: FlowWindow | None = None
        self._rate: RateLimit | None = None
        self._resume_ns = 0  # when the rate limit lets the next message go; 0: it does not wait
        self._beat_due_ns = 0
        self._is_blocked = False
        config = consumer.config
        self._subject = config.deliver_subject.encode()
        self._group = config.deliver_group.encode()
        self._beat_ns = config.idle_heartbeat
        self._acks_by_flow = config.ack_policy == "flow_control"
        if config.flow_control:
            self._window = FlowWindow()
            self._flow_prefix = f"$JS.FC.{consumer.stream_name}.{consumer.name}.".encode()
            self._captures.add(self._flow_prefix + b"*", CallbackSink(self._on_flow))
        for prefix in consumer.context.api_prefixes:
            subject = f"CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}".encode()
            self._captures.add(prefix + subject, CallbackSink(self._on_requests))
        self._set_rate(config)
        self._is_active = self._is_closed = False
        self._registration: Registration = self._watch()

    @property
    def is_active(self) -> bool:
        return self._is_active

    def wanted(self) -> int:
        if not self._is_active or self._is_blocked:
            return 0
        if self._window is not None and self._window.is_full:
            return 0
        return PUSH_RUN_MAX if self._rate is None else 1

    def send(self, views: Sequence[View], replies: Sequence[bytes], now_ns: int) -> int:
        if self._window is None and self._rate is None:
            sent = self._deliver(views, replies)
        elif self._rate is not None:
            sent = self._send_at_rate(views[0], replies[0], now_ns)
        else:
            sent = self._send_by_window(views, replies)
        if sent and self._beat_ns:
            self._beat_due_ns = now_ns + self._beat_ns
        return sent

    def _deliver(self, views: Sequence[View], replies: Sequence[bytes]) -> int:
        delivered = self._bus.deliver(self._account, self._subject, views, replies)
        if delivered.outcome is Outcome.NO_INTEREST:
            self._on_interest(is_there=False)
        elif delivered.outcome is Outcome.NO_ROOM:
            self._is_blocked = True
            self._consumer.await_room()
        return delivered.count

    def _send_at_rate(self, view: View, reply: bytes, now_ns: int) -> int:
        """Send one message, if its time has come."""
        assert self._rate is not None, "there is a rate limit"
        if self._window is not None and self._window.is_full:
            return 0
        size = message_size(view, reply)
        at_ns = self._rate.may_send_at(size)
        if at_ns > now_ns:
            self._resume_ns = at_ns
            return 0
        self._resume_ns = 0
        sent = self._send_by_window([view], [reply])
        if sent:
            self._rate.sent(size, now_ns)
        return sent

    def _send_by_window(self, views: Sequence[View], replies: Sequence[bytes]) -> int:
        """Send in runs, with a flow control request behind the message that makes one due."""
        window = self._window
        if window is None:
            return self._deliver(views, replies)
        sizes = [message_size(view, reply) for view, reply in zip(views, replies, strict=True)]
        sent = 0
        while sent < len(views) and not window.is_full:
            run = window.run_length(sizes[sent:])
            count = self._deliver(views[sent : sent + run], replies[sent : sent + run]) if run else 0
            window.sent(sum(sizes[sent : sent + count]))
            sent += count
            if window.wants_request:
                self._request_flow(window)
            if count < run:
                break
        if self._acks_by_flow and sent and not window.reply and self._consumer.room <= sent:
            self._request_flow(window)
        return sent

    def _request_flow(self, window: FlowWindow) -> None:
        reply = self._flow_prefix + self._consumer.context.chance.base62(4)
        window.requested(reply)
        self._bus.publish(self._account, self._subject, b"", reply=reply, headers=status.FLOW_CONTROL_REQUEST)

    def _on_flow(self, batch: Batch) -> None:
        if self._window is None:
            return
        for message in batch:
            if self._window.answered(message.subject):
                reached = fields.get(message.headers, b"Nats-Last-Stream") if self._acks_by_flow else None
                if reached is not None and reached.isdigit() and len(reached) <= SEQUENCE_DIGITS_MAX:
                    self._consumer.on_flow_ack(int(reached))
                self._consumer.on_activity()
                self._consumer.wake()

    def _on_requests(self, batch: Batch) -> None:
        for message in batch:
            if message.reply:
                self._bus.publish(self._account, message.reply, b"", headers=status.PUSH_BASED)

    def run_dry(self) -> None:
        pass

    def on_room(self) -> None:
        self._is_blocked = False
        self._consumer.wake()

    def next_deadline_ns(self) -> int | None:
        beat_ns = self._beat_due_ns if self._is_active else 0
        if beat_ns and self._resume_ns:
            return min(beat_ns, self._resume_ns)
        return beat_ns or self._resume_ns or None

    def on_time(self, now_ns: int) -> None:
        if 0 < self._resume_ns <= now_ns:
            self._resume_ns = 0
            self._consumer.wake()
        if self._is_active and 0 < self._beat_due_ns <= now_ns:
            stalled = self._window.reply if self._window is not None else b""
            self._bus.publish(self._account, self._subject, b"", headers=self._consumer.heartbeat(stalled))
            self._beat_due_ns = now_ns + self._beat_ns
            window = self._window
            if self._acks_by_flow and window and not window.reply and self._consumer.num_ack_pending:
                self._request_flow(window)

    def configure(self, config: ConsumerConfig) -> None:
        self._set_rate(config)
        subject, group = config.deliver_subject.encode(), config.deliver_group.encode()
        if (subject, group) != (self._subject, self._group):
            self._subject, self._group = subject, group
            self._registration.close()
            self._registration = self._watch()
            if self._is_active:
                # The answer to the update does not show the new subject as bound yet, as on the reference.
                self._is_active = False
                self._consumer.context.scheduler.call_soon(self._look)

    def num_waiting(self) -> int:
        return 0

    def close(self, reason: bytes) -> None:  # noqa: ARG002  (nobody waits here)
        self._is_closed = True
        self._captures.close()
        self._registration.close()
        self._is_active = False

    def _set_rate(self, config: ConsumerConfig) -> None:
        bits = config.rate_limit_bps
        self._rate = RateLimit(bits, self._burst_size) if bits else None

    def _watch(self) -> Registration:
        self._is_active = self._bus.has_interest(self._account, self._subject, self._group)
        self._begin_beats()
        return self._bus.watch_interest(self._account, self._subject, self._on_watched, queue=self._group)

    def _look(self) -> None:
        if not self._is_closed:
            self._on_interest(is_there=self._bus.has_interest(self._account, self._subject, self._group))
            self._bus.request_turn()

    def _on_watched(self, is_there: bool) -> None:
        self._on_interest(is_there=is_there)

    def _on_interest(self, *, is_there: bool) -> None:
        if is_there == self._is_active:
            return
        self._is_active = is_there
        self._is_blocked = False
        if self._window is not None:
            self._window.restart()
        self._begin_beats()
        self._consumer.on_activity()
        if is_there:
            self._consumer.wake()

    def _begin_beats(self) -> None:
        self._beat_due_ns = (
            self._consumer.now_ns() + self._beat_ns if self._is_active and self._beat_ns else 0
        )
