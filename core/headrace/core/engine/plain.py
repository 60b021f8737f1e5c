"""The plain engine: `engine.interface.Engine` in Python, with what makes Python fast.

Four parts, each a module: `plain_reader` takes bytes in, `plain_subscriptions` knows who wants what, `plain_delivery`
puts bytes out, `plain_connection` is what is kept of a connection. This module puts them together and adds what the
server itself sends and takes.

What is fast in Python: one lookup of a whole control line instead of a parse, slices and one `join` for a run of equal
lines, lists of byte strings joined once a turn. Nothing is decoded, and no object is made for a message that only
passes through.
"""

from collections.abc import Callable, Sequence

from headrace.core.base.message import Batch, Message, Sink, View
from headrace.core.engine.interface import (
    Connection,
    Delivered,
    EngineSetup,
    Event,
    Forwarded,
    Outcome,
    Registration,
    Spread,
    SubscriptionInfo,
    Transport,
)
from headrace.core.engine.plain_connection import PlainConnection, Publish
from headrace.core.engine.plain_delivery import Delivery, body_of
from headrace.core.engine.plain_reader import Reader
from headrace.core.engine.plain_subscriptions import Subscriptions, describe
from headrace.core.engine.plain_traced import TracedSpread
from headrace.core.routing.entries import SinkBox, SinkEntry
from headrace.core.routing.follower import Follower
from headrace.core.routing.mapping import Mapper


class SinkRegistration:
    """A sink's place in the routes."""

    def __init__(self, engine: "PlainEngine", account: str, entry: SinkEntry) -> None:
        self._engine = engine
        self._account = account
        self._entry: SinkEntry | None = entry

    def close(self) -> None:
        """Take it out; harmless when repeated. What it was sent before is still reported."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._engine.remove_sink(self._account, entry)


class FollowRegistration:
    """A stream import's place in the exporter's routes."""

    def __init__(self, subscriptions: Subscriptions, exporter: str, follower: Follower) -> None:
        self._subscriptions = subscriptions
        self._exporter = exporter
        self._follower: Follower | None = follower

    def close(self) -> None:
        """Take it out; harmless when repeated."""
        follower, self._follower = self._follower, None
        if follower is not None:
            self._subscriptions.unfollow(self._exporter, follower)


class PlainEngine:
    """See `engine.interface.Engine`."""

    name = "plain"

    def __init__(self, setup: EngineSetup) -> None:
        self._clock = setup.clock
        self._chance = setup.chance
        self._delivery = Delivery(setup)
        self._subscriptions = Subscriptions(setup, self._delivery)
        self._reader = Reader(self._delivery, self._subscriptions)
        self._connections: dict[int, PlainConnection] = {}
        self._boxes: dict[int, SinkBox] = {}
        self._room_callbacks: list[Callable[[], None]] = []

    # connections

    def open(self, transport: Transport, connection_id: int) -> Connection:
        connection = PlainConnection(transport, connection_id)
        connection.last_activity_ns = self._clock.monotonic_ns()
        self._connections[connection_id] = connection
        return connection

    def receive(self, connection: Connection, chunk: bytes | memoryview) -> Sequence[Event]:
        assert isinstance(connection, PlainConnection)
        connection.last_activity_ns = self._clock.monotonic_ns()
        return self._reader.receive(connection, chunk if type(chunk) is bytes else bytes(chunk))

    def resume(self, connection: Connection) -> Sequence[Event]:
        assert isinstance(connection, PlainConnection)
        return self._reader.resume(connection)

    def write(self, connection: Connection, data: bytes) -> None:
        assert isinstance(connection, PlainConnection)
        self._delivery.write(connection, data)

    def drop_subscriptions(self, connection: Connection) -> None:
        assert isinstance(connection, PlainConnection)
        self._subscriptions.drop(connection)

    def revise(self, connection: Connection) -> Sequence[SubscriptionInfo]:
        assert isinstance(connection, PlainConnection)
        return self._subscriptions.revise(connection)

    def close(self, connection: Connection) -> None:
        assert isinstance(connection, PlainConnection)
        if self._connections.pop(connection.id, None) is None:
            return
        self._subscriptions.drop(connection)
        connection.data = b""
        connection.pieces.clear()
        connection.is_broken = True
        if self._delivery.forget(connection):
            self._tell_room()

    def flush(self) -> Sequence[Connection]:
        overflowed = self._delivery.flush()
        if self._delivery.expired:
            self._subscriptions.expire()
        return overflowed

    def flush_connection(self, connection: Connection) -> None:
        assert isinstance(connection, PlainConnection)
        self._delivery.hand_over(connection)

    def drained(self, connection: Connection) -> None:
        assert isinstance(connection, PlainConnection)
        if self._delivery.drained(connection):
            self._tell_room()

    def tell_watchers(self) -> None:
        self._subscriptions.watchers.tell()

    def subscriptions(self) -> Sequence[SubscriptionInfo]:
        return [
            describe(subscription)
            for connection in self._connections.values()
            for subscription in connection.subscriptions.values()
        ]

    def subscriptions_of(self, connection: Connection) -> Sequence[SubscriptionInfo]:
        assert isinstance(connection, PlainConnection)
        return [describe(subscription) for subscription in connection.subscriptions.values()]

    @property
    def subscription_count(self) -> int:
        return self._subscriptions.count

    def forget_verdicts(self, permissions: object) -> None:
        self._subscriptions.forget_verdicts(permissions)

    # what the server itself sends and takes

    def add_sink(
        self,
        account: str,
        subject: bytes,
        sink: Sink,
        *,
        queue: bytes = b"",
        answers: Callable[[bytes], bool] | None = None,
        is_service: bool = False,
    ) -> Registration:
        box = self._boxes.get(id(sink))
        if box is None:
            box = self._boxes[id(sink)] = SinkBox(sink)
        box.references += 1
        entry = SinkEntry(
            box, subject, queue, answers, order=self._subscriptions.next_order(), is_service=is_service
        )
        self._subscriptions.add(account, entry)
        return SinkRegistration(self, account, entry)

    def remove_sink(self, account: str, entry: SinkEntry) -> None:
        """Take a registration out; called by itself."""
        self._subscriptions.remove(account, entry)
        entry.box.references -= 1
        if not entry.box.references:
            del self._boxes[id(entry.box.sink)]

    def publish(
        self, account: str, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> Sequence[Event]:
        route = self._subscriptions.table(account).route(subject)
        size = len(headers) + len(payload)
        self._delivery.spread(None, route, reply, len(headers), size, body_of(reply, headers, payload))
        return self._settled()

    def publish_from(
        self, connection: Connection, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> Sequence[Event]:
        assert isinstance(connection, PlainConnection)
        events: list[Event] = []
        body = body_of(reply, headers, payload)
        size = len(headers) + len(payload)
        publish = Publish(subject, reply, len(headers), size, b"")
        scope = connection.scope or self._subscriptions.bind(connection)
        self._reader.publish(connection, scope, publish, body, events)
        self._reader.report_gathered(events)
        return events

    def forward(
        self,
        connection_id: int,
        account: str,
        subject: bytes,
        reply: bytes,
        headers: bytes,
        payload: bytes,
    ) -> Forwarded:
        route = self._subscriptions.table(account).own_route(subject)
        size = len(headers) + len(payload)
        publisher = self._connections.get(connection_id)
        body = body_of(reply, headers, payload)
        took = self._delivery.spread(publisher, route, reply, len(headers), size, body)
        return Forwarded(took, self._settled())

    def trace(
        self, account: str, message: Message, *, is_delivered: bool, is_forwarded: bool = False
    ) -> Spread:
        table = self._subscriptions.table(account)
        route = table.own_route(message.subject) if is_forwarded else table.route(message.subject)
        publisher = self._connections.get(message.connection_id)
        spread = TracedSpread(
            self._delivery, self._chance, table, publisher, message, is_delivered=is_delivered
        )
        took = spread.run(route)
        if self._delivery.expired:
            self._subscriptions.expire()
        return Spread(took, spread.fates, spread.sinks)

    def trace_parents(self, account: str, *, wanted: bool) -> None:
        self._subscriptions.trace_parents(account, wanted=wanted)

    def may_publish(self, connection: Connection, subject: bytes) -> bool:
        assert isinstance(connection, PlainConnection)
        scope = connection.scope or self._subscriptions.bind(connection)
        return scope.may_publish(subject)

    def tell_no_responders(self, connection_id: int, reply: bytes, subject: bytes) -> None:
        connection = self._connections.get(connection_id)
        if connection is not None and connection.no_responders:
            scope = connection.scope or self._subscriptions.bind(connection)
            self._reader.tell_no_responders(connection, scope, reply, subject)

    def follow(self, exporter: str, follower: Follower) -> Registration:
        self._subscriptions.follow(exporter, follower)
        return FollowRegistration(self._subscriptions, exporter, follower)

    def set_mapper(self, account: str, mapper: Mapper | None) -> None:
        self._subscriptions.set_mapper(account, mapper)

    def answer(
        self, account: str, batch: Batch, prefix: bytes, first_sequence: int, suffix: bytes
    ) -> Sequence[Event]:
        table = self._subscriptions.table(account)
        spread = self._delivery.spread
        for sequence, message in enumerate(batch, first_sequence):
            reply = message.reply
            if reply:
                payload = b"%b%d%b" % (prefix, sequence, suffix)
                size = len(payload)
                spread(None, table.route(reply), b"", 0, size, b"%d\r\n%b\r\n" % (size, payload))
                if self._delivery.expired:
                    self._subscriptions.expire()
        return self._settled()

    def deliver(
        self,
        account: str,
        route_by: bytes,
        views: Sequence[View],
        replies: Sequence[bytes],
        *,
        queue: bytes = b"",
    ) -> Delivered:
        table = self._subscriptions.table(account)
        count = 0
        for view, reply in zip(views, replies, strict=True):
            outcome = self._delivery.deliver_view(table.route(route_by), queue, view, reply)
            if self._delivery.expired:
                self._subscriptions.expire()
            if outcome is not Outcome.DELIVERED:
                return Delivered(count, outcome)
            count += 1
        return Delivered(count, Outcome.DELIVERED)

    def has_interest(self, account: str, subject: bytes, queue: bytes = b"") -> bool:
        return self._subscriptions.has_interest(account, subject, queue)

    def watch_interest(
        self, account: str, subject: bytes, callback: Callable[[bool], None], *, queue: bytes = b""
    ) -> Registration:
        return self._subscriptions.watchers.add(account, subject, queue, callback)

    def on_room(self, callback: Callable[[], None]) -> None:
        self._room_callbacks.append(callback)

    def _tell_room(self) -> None:
        for callback in self._room_callbacks:
            callback()

    def _settled(self) -> Sequence[Event]:
        if self._delivery.expired:
            self._subscriptions.expire()
        if not self._delivery.touched:
            return ()
        events: list[Event] = []
        self._reader.report_gathered(events)
        return events
