"""A bus made of lists: what JetStream needs of a broker, without one.

Messages that a test `send`s reach the sinks whose capture matches, at the end of `turn`, gathered per sink as the
engine does it. What JetStream publishes is recorded in `published`, and reaches sinks in the next turn. Subscribers are
names: `subscribe` makes one, and what `deliver` gave it stands in its list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.core.base.message import Batch, Message, MessageBatch, Sink, View
from headrace.core.bus import Caller, Delivered, Outcome
from headrace.core.subject import matches


@dataclass
class Published:
    """Something that JetStream sent on its own behalf."""

    account: str
    subject: bytes
    payload: bytes
    reply: bytes
    headers: bytes


@dataclass
class Subscriber:
    """Somebody who subscribes; `room` bounds how many deliveries are taken before `NO_ROOM`."""

    account: str
    subject: bytes
    queue: bytes = b""
    room: int | None = None
    received: list[tuple[View, bytes]] = field(default_factory=list)


@dataclass
class _Capture:
    bus: BusOfLists
    account: str
    subject: bytes
    sink: Sink
    answers: Callable[[bytes], bool] | None

    def close(self) -> None:
        if self in self.bus.captures:
            self.bus.captures.remove(self)


@dataclass
class _Watch:
    bus: BusOfLists
    account: str
    subject: bytes
    queue: bytes
    callback: Callable[[bool], None]

    def close(self) -> None:
        if self in self.bus.watches:
            self.bus.watches.remove(self)


class BusOfLists:
    """A `Bus` for tests."""

    def __init__(self) -> None:
        self.captures: list[_Capture] = []
        self.watches: list[_Watch] = []
        self.subscribers: list[Subscriber] = []
        self.published: list[Published] = []
        self.callers: dict[int, Caller] = {}
        self.held: dict[int, int] = {}
        self.turn_requests = 0
        self._hooks: list[Callable[[], None]] = []
        self._room_callbacks: list[Callable[[], None]] = []
        self._gathered: list[tuple[Sink, list[Message]]] = []

    # what a test does

    def send(
        self,
        account: str,
        subject: bytes,
        payload: bytes = b"",
        *,
        reply: bytes = b"",
        headers: bytes = b"",
        connection_id: int = 1,
    ) -> int:
        """Publish as a client does; give how many sinks take it. They are called in `turn`."""
        message = Message(subject, reply, headers, payload, connection_id)
        taken = [c for c in self.captures if c.account == account and matches(c.subject, subject)]
        for capture in taken:
            if self._gathered and self._gathered[-1][0] is capture.sink:
                self._gathered[-1][1].append(message)
            else:
                self._gathered.append((capture.sink, [message]))
        return len(taken)

    def is_answered(self, account: str, subject: bytes) -> bool:
        """Tell whether a request on `subject` has a responder; where it has none, a client gets 503."""
        for capture in self.captures:
            if capture.account != account or not matches(capture.subject, subject):
                continue
            if capture.answers is None or capture.answers(subject):
                return True
        return any(s.account == account and matches(s.subject, subject) for s in self.subscribers)

    def turn(self) -> None:
        """Call the sinks until nothing is left to take, then the hooks; again while that gathered more."""
        while True:
            while self._gathered:
                sink, messages = self._gathered.pop(0)
                sink.on_messages(MessageBatch(messages))
            for hook in self._hooks:
                hook()
            if not self._gathered:
                return

    def subscribe(
        self, account: str, subject: bytes, *, queue: bytes = b"", room: int | None = None
    ) -> Subscriber:
        """Make a subscriber and tell those who watch."""
        subscriber = Subscriber(account, subject, queue, room)
        self.subscribers.append(subscriber)
        self._tell(account, subject)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Take a subscriber out and tell those who watch."""
        self.subscribers.remove(subscriber)
        self._tell(subscriber.account, subscriber.subject)

    def make_room(self, subscriber: Subscriber, room: int | None) -> None:
        """Let a subscriber take more."""
        subscriber.room = room
        for callback in list(self._room_callbacks):
            callback()

    def answers(self, subject: bytes) -> list[Published]:
        """Give what was published on exactly this subject, and forget it."""
        found = [sent for sent in self.published if sent.subject == subject]
        self.published = [sent for sent in self.published if sent.subject != subject]
        return found

    def _tell(self, account: str, subject: bytes) -> None:
        for watch in list(self.watches):
            if watch.account == account and matches(subject, watch.subject):
                watch.callback(self.has_interest(account, watch.subject, watch.queue))

    # the bus

    def capture(
        self,
        account: str,
        subject: bytes,
        sink: Sink,
        *,
        queue: bytes = b"",
        answers: Callable[[bytes], bool] | None = None,
    ) -> _Capture:
        capture = _Capture(self, account, subject, sink, answers)
        self.captures.append(capture)
        return capture

    def publish(
        self, account: str, subject: bytes, payload: bytes, *, reply: bytes = b"", headers: bytes = b""
    ) -> None:
        self.published.append(Published(account, subject, payload, reply, headers))
        self.send(account, subject, payload, reply=reply, headers=headers, connection_id=0)
        view = View(0, 0, subject, headers, payload)
        for subscriber in self.subscribers:
            if subscriber.account == account and matches(subscriber.subject, subject):
                subscriber.received.append((view, reply))

    def answer(self, account: str, batch: Batch, prefix: bytes, first_sequence: int, suffix: bytes) -> None:
        for offset, message in enumerate(batch):
            if message.reply:
                self.publish(account, message.reply, b"%s%d%s" % (prefix, first_sequence + offset, suffix))

    def deliver(
        self,
        account: str,
        route_by: bytes,
        views: Sequence[View],
        replies: Sequence[bytes],
        *,
        queue: bytes = b"",
    ) -> Delivered:
        for count, (view, reply) in enumerate(zip(views, replies, strict=True)):
            takers = self._takers(account, route_by, queue)
            if not takers:
                return Delivered(count, Outcome.NO_INTEREST)
            if any(taker.room == 0 for taker in takers):
                return Delivered(count, Outcome.NO_ROOM)
            for taker in takers:
                taker.received.append((view, reply))
                if taker.room is not None:
                    taker.room -= 1
        return Delivered(len(views), Outcome.DELIVERED)

    def _takers(self, account: str, subject: bytes, queue: bytes) -> list[Subscriber]:
        found = [s for s in self.subscribers if s.account == account and matches(s.subject, subject)]
        plain = [s for s in found if not s.queue]
        grouped = [s for s in found if s.queue and (not queue or s.queue == queue)]
        groups = {s.queue: s for s in reversed(grouped)}
        return plain + list(groups.values())

    def has_interest(self, account: str, subject: bytes, queue: bytes = b"") -> bool:
        return any(
            s.account == account and matches(s.subject, subject) and queue in (b"", s.queue)
            for s in self.subscribers
        )

    def watch_interest(
        self, account: str, subject: bytes, callback: Callable[[bool], None], *, queue: bytes = b""
    ) -> _Watch:
        watch = _Watch(self, account, subject, queue, callback)
        self.watches.append(watch)
        return watch

    def on_room(self, callback: Callable[[], None]) -> None:
        self._room_callbacks.append(callback)

    def at_turn_end(self, hook: Callable[[], None]) -> None:
        self._hooks.append(hook)

    def request_turn(self) -> None:
        self.turn_requests += 1

    def caller(self, connection_id: int) -> Caller | None:
        return self.callers.get(connection_id)

    def hold(self, connection_id: int) -> None:
        self.held[connection_id] = self.held.get(connection_id, 0) + 1

    def release(self, connection_id: int) -> None:
        self.held[connection_id] -= 1
        if self.held[connection_id] == 0:
            del self.held[connection_id]
