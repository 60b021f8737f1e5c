"""What an engine is, whichever it is: the interface that plain and compiled share.

The engine owns the bytes: it parses what clients send, finds who wants a message, and appends what they are sent
to their output. What is decided by a rule is decided in plain Python and comes out of the engine as an *event*.

    for event in engine.receive(connection, chunk):
        session.handle(event)
    engine.flush()                       # once a turn, one write per connection that has output

PUB, HPUB, SUB, UNSUB, PING and PONG are finished inside. Everything else is an event. Most events are *barriers*:
what follows them in the stream cannot be parsed before they were answered (a CONNECT may change who the client
is). After a barrier `receive` returns at once, and the caller, having handled the events, calls `resume` until it
returns no events. A refusal that does not close the connection is no barrier: the engine has written its -ERR
itself, in its place, and the event is for the log.

Order of choices, the same in both engines: a route lists its plain subscriptions by age, then its queue groups by
name, each group's members by age, then its sinks by age. Where a group has several members, the engine draws
`chance.below(len(members))` once for each message and scans on from there.

Rules reach the engine as verdicts. It asks `Rules` the first time that a permission set meets a subject and keeps
the answer until the generation of that set changes; the answer must therefore depend on nothing else. What
depends on time or count (`allow_responses`) is a table with deadlines that the session keeps: the engine reports
`PublishRefused` and the session, if a response is allowed after all, publishes the message itself.

What the server itself listens to (streams, consumers, API subjects) is a `Sink` in a route. The engine gathers
what a sink was sent and reports it as one `Gathered` event, before the next event of another kind, so order is kept
per connection. Nothing below `receive` calls a sink.

Ownership: `chunk` belongs to the caller and is not referred to after the call. A buffer handed to a transport is
never written again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, Protocol

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.core.base.message import Batch, Message, Sink, View
from headrace.core.errors import ProtocolError
from headrace.core.routing.follower import Follower
from headrace.core.routing.mapping import Mapper

STALL_SIZE: Final = 2 * 1024 * 1024
"""Pending output of a subscriber above which its fast publishers wait, bytes."""

RESUME_SIZE: Final = 256 * 1024
"""Pending output below which they go on, bytes."""


class Transport(Protocol):
    """What a connection's wire can do. Implemented over TCP and in memory (`core/transport`)."""

    @property
    def pending_size(self) -> int:
        """Bytes accepted by `write` that the operating system has not taken yet."""
        ...

    @property
    def written_size(self) -> int:
        """Bytes that `write` has accepted so far."""
        ...

    def write(self, data: bytes) -> None:
        """Send `data` after all that was written before; never blocks."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, reason: str = "") -> None:
        """Send what was written, then close; `reason` is for wires that tell the peer why."""
        ...

    def abort(self) -> None:
        """Close at once; what was not sent is dropped."""
        ...


class Phase(Enum):
    """What a connection may do next."""

    AWAITING_CONNECT = "awaiting connect"  # authorization is required and was not given yet
    OPEN = "open"
    CLOSED = "closed"


class Event:
    """Something that needs a rule. It belongs to the connection that was received from."""

    __slots__ = ()
    is_barrier: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Connect(Event):
    """CONNECT was received; `arguments` is its JSON. Barrier."""

    arguments: bytes


@dataclass(frozen=True, slots=True)
class NotConnected(Event):
    """An operation other than CONNECT came while authorization was awaited. Barrier: it is parsed again after."""


@dataclass(frozen=True, slots=True)
class PeerInfo(Event):
    """The client sent INFO; `arguments` is its JSON. Barrier."""

    arguments: bytes


@dataclass(frozen=True, slots=True)
class PeerError(Event):
    """The client sent -ERR; the connection is to be closed without a word. Barrier."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Pinged(Event):
    """A PING was answered while `Connection.awaits_ping`; the session sends its second INFO. Barrier, so order is kept.

    The engine has cleared `awaits_ping`.
    """


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """The client broke the protocol.

    Where `error.fatal`, nothing after it is parsed: the session answers and closes. Where not, the engine has
    written the -ERR already, goes on, and the event is for the log.
    """

    error: ProtocolError
    is_barrier: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class PublishRefused(Event):
    """A publish (or its reply subject) is not permitted; the message was not delivered. Barrier.

    The session answers with -ERR, or, where a response is allowed after all, with `Engine.publish_from`.
    """

    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gathered(Event):
    """`sink` was sent `batch`. No barrier: it may be called at any time before the turn ends."""

    sink: Sink
    batch: Batch
    is_barrier: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Crossed(Event):
    """A message went to the service of another account. Barrier, so that its effects come before what follows it."""


@dataclass(frozen=True, slots=True)
class Traced(Event):
    """A message came whose headers name a place for a trace of it, or its parent. Barrier.

    It was neither delivered nor looked at by any rule; `mapped` is where the account's mappings lead. The session has
    it delivered by `Engine.trace`, or as if it were not marked, by `Engine.publish_from`.
    """

    subject: bytes
    mapped: bytes
    reply: bytes
    headers: bytes
    payload: bytes


class Verdict(Enum):
    """The answer of a rule about one subject."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    FILTERED = "filtered"  # a subscription that overlaps a denied subject: allowed, and checked at delivery


class Rules(Protocol):
    """What the engine asks about permissions. `permissions` is an opaque key; None permits everything."""

    def may_publish(self, permissions: object, subject: bytes) -> Verdict: ...

    def may_subscribe(self, permissions: object, subject: bytes, queue: bytes) -> Verdict: ...

    def may_receive(self, permissions: object, subject: bytes) -> bool:
        """Tell whether a `FILTERED` subscription is delivered `subject`."""
        ...


class Connection(Protocol):
    """A connection as the engine keeps it. The session sets the first group; the engine counts the second.

    `account`, `permissions`, `headers` and `pedantic` are set before the first `receive` and while a Connect or
    NotConnected is handled, never at other times; `permissions` also before `Engine.revise`.
    """

    id: int
    transport: Transport
    phase: Phase
    account: str
    permissions: object | None
    verbose: bool
    pedantic: bool
    echo: bool
    headers: bool
    no_responders: bool
    max_payload: int
    max_control_line: int
    max_subscriptions: int  # of this connection; 0 or less: no limit
    max_account_subscriptions: int  # of its whole account, counted by the engine; 0 or less: no limit
    awaits_ping: bool  # report the next PING as `Pinged`
    delivered_replies: (
        list[bytes] | None
    )  # where a list, the engine appends the reply of each message delivered

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    pings_out: int  # PINGs sent and not answered yet; a PONG sets it to 0
    last_activity_ns: int  # monotonic time of the last bytes received
    last_pong_ns: int
    is_stalled: (
        bool  # it published to a subscriber above STALL_SIZE; the session stalls it and sets this back
    )

    @property
    def subscription_count(self) -> int: ...

    @property
    def pending_size(self) -> int:
        """Bytes queued for it: not yet flushed, and flushed but not yet taken by the operating system."""
        ...


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """A subscription, for monitoring."""

    connection_id: int
    account: str
    subject: bytes
    queue: bytes
    sid: bytes
    delivered: int
    delivered_max: int


class Outcome(Enum):
    """How a delivery on behalf of the server went."""

    DELIVERED = "delivered"
    NO_INTEREST = "no interest"  # nobody takes this subject
    NO_ROOM = "no room"  # somebody does, but has more than STALL_SIZE waiting; ask again after `on_room`


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many of the views, from the first on, were delivered, and why no more."""

    count: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What became of a message that crossed into another account: whether anybody took it, and the sinks' events.

    Sinks that stand for services of yet another account do not count; whoever forwards asks them.
    """

    took: bool
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a traced message at one subscription; `error` empty: it was, or would have been, delivered.

    `imported_as`: the subject under which another account imports it. `is_visible`: the exporter may see who took it.
    """

    connection_id: int
    account: str
    subject: bytes
    queue: bytes
    error: str
    imported_as: bytes = b""
    is_visible: bool = True


@dataclass(frozen=True, slots=True)
class Spread:
    """Where a traced message went. `sinks` were not called yet; those of services do not count for `took`."""

    took: bool
    fates: Sequence[Fate]
    sinks: Sequence[tuple[Sink, Message]]


class Registration(Protocol):
    """A sink's place in the routes."""

    def close(self) -> None:
        """Take it out; harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is made of."""

    rules: Rules
    chance: Chance
    clock: Clock
    max_pending: int
    max_sub_tokens: int = 0  # 0: no limit
    no_fast_producer_stall: bool = False
    system_account: str = "$SYS"


class Engine(Protocol):
    """Connections, routes and output of one server. Not safe for threads; used by the loop's thread alone."""

    @property
    def name(self) -> str:
        """`plain` or `compiled`."""
        ...

    # connections

    def open(self, transport: Transport, connection_id: int) -> Connection: ...

    def receive(self, connection: Connection, chunk: bytes | memoryview) -> Sequence[Event]:
        """Parse `chunk` behind what was left, and act; give the events in order. Any split gives the same."""
        ...

    def resume(self, connection: Connection) -> Sequence[Event]:
        """Go on after a barrier; the same as receiving nothing."""
        ...

    def write(self, connection: Connection, data: bytes) -> None:
        """Append protocol bytes of the session's (INFO, -ERR, +OK) to the connection's output."""
        ...

    def drop_subscriptions(self, connection: Connection) -> None: ...

    def revise(self, connection: Connection) -> Sequence[SubscriptionInfo]:
        """Go by the connection's changed `permissions`; give the subscriptions that ended, as they are refused."""
        ...

    def close(self, connection: Connection) -> None:
        """Forget the connection: subscriptions, output, parser. Its transport is the caller's affair."""
        ...

    def flush(self) -> Sequence[Connection]:
        """Hand every connection's output to its transport; give those above their pending limit.

        The limit is `Connection.transport.pending_size` plus output against `max_pending`; the caller closes them
        as slow consumers.
        """
        ...

    def flush_connection(self, connection: Connection) -> None:
        """Hand one connection's output to its transport now; what comes before a close."""
        ...

    def drained(self, connection: Connection) -> None:
        """Learn that the connection's transport has sent everything: it has room again."""
        ...

    def tell_watchers(self) -> None:
        """Call those watchers of interest whose answer changed; once a turn, before its hooks."""
        ...

    def subscriptions(self) -> Sequence[SubscriptionInfo]: ...

    def subscriptions_of(self, connection: Connection) -> Sequence[SubscriptionInfo]: ...

    @property
    def subscription_count(self) -> int:
        """Subscriptions of all clients."""
        ...

    def forget_verdicts(self, permissions: object) -> None:
        """Ask the rules anew about this permission set."""
        ...

    # what the server itself sends and takes; the bus (`core/bus.py`) is a thin cover of these

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
        """Route what is published on `subject` (wildcards allowed) to `sink`.

        `answers` tells for a literal subject whether this sink counts as a responder; None: always. It is asked
        once for a subject, when its route is resolved. `is_service`: it stands for a service of another account, is
        not seen by accounts that import streams from this one, and does not count for `forward`.
        """
        ...

    def publish(
        self, account: str, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> Sequence[Event]:
        """Route a message of the server's own to subscribers and sinks; give the sinks' events."""
        ...

    def publish_from(
        self, connection: Connection, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> Sequence[Event]:
        """Route a message on a client's behalf, permission aside."""
        ...

    def forward(
        self,
        connection_id: int,
        account: str,
        subject: bytes,
        reply: bytes,
        headers: bytes,
        payload: bytes,
    ) -> Forwarded:
        """Route a message that came through a service import, on behalf of whoever sent it (0: the server)."""
        ...

    def trace(
        self, account: str, message: Message, *, is_delivered: bool, is_forwarded: bool = False
    ) -> Spread:
        """Route a message of `message.connection_id` and note what becomes of it, permission aside.

        Not `is_delivered`: only look. `is_forwarded`: it came through a service import; see `forward`.
        """
        ...

    def trace_parents(self, account: str, *, wanted: bool) -> None:
        """Report `Traced` for this account's messages with a `traceparent` too, or no longer."""
        ...

    def may_publish(self, connection: Connection, subject: bytes) -> bool:
        """Tell whether a client is permitted a subject, time and count aside."""
        ...

    def tell_no_responders(self, connection_id: int, reply: bytes, subject: bytes) -> None:
        """Answer a client's request with status 503, if it wants that and listens to the reply itself."""
        ...

    def follow(self, exporter: str, follower: Follower) -> Registration:
        """Deliver what is published in `exporter` to those of another account who subscribe to its import of it."""
        ...

    def set_mapper(self, account: str, mapper: Mapper | None) -> None:
        """Map subjects that an account's clients publish on, before permissions and routes."""
        ...

    def answer(
        self, account: str, batch: Batch, prefix: bytes, first_sequence: int, suffix: bytes
    ) -> Sequence[Event]:
        """Answer every message of `batch` that has a reply subject with `prefix`, its number, `suffix`.

        The first message's number is `first_sequence`, and each message uses one up, answered or not. Means the same
        as a `publish` to each reply subject in turn, at a fraction of the cost; gives the sinks' events.
        """
        ...

    def deliver(
        self,
        account: str,
        route_by: bytes,
        views: Sequence[View],
        replies: Sequence[bytes],
        *,
        queue: bytes = b"",
    ) -> Delivered:
        """Send stored messages to whoever subscribes to `route_by`; they show their own subject and reply.

        With `queue`, only one member of that group receives each. Sinks on `route_by` are not served.
        """
        ...

    def has_interest(self, account: str, subject: bytes, queue: bytes = b"") -> bool:
        """Tell whether a client subscribes to `subject`; with `queue`, as a member of that group."""
        ...

    def watch_interest(
        self, account: str, subject: bytes, callback: Callable[[bool], None], *, queue: bytes = b""
    ) -> Registration:
        """Call back with the new state when `has_interest` of a literal subject may have changed."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back, whenever a connection that had no room has it again."""
        ...


EngineFactory = Callable[[EngineSetup], Engine]
