"""A session: what a client may do next, and what becomes of the engine's events.

States are the engine's `Phase`; `NEXT` says for each state and each kind of event what happens. A session begins
OPEN where no login is needed (a client may then begin without CONNECT), else AWAITING_CONNECT. It ends by `close` (this
side decided; -ERR is sent first where there is something to say) or by `on_closed` (the transport did); either way
`_leave` runs once, and nothing happens afterwards.

Deadlines of a session: login, the next PING, the end of a stall, and a write that makes no progress.

Source: the client protocol of NATS server 2.15, §3, §6 and §7, probed.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from headrace.core import limits
from headrace.core.accounts import Account
from headrace.core.auth.login import Admission, Identity, Login, make_nonce
from headrace.core.auth.replies import ReplyGrants
from headrace.core.base.clock import NS_PER_S
from headrace.core.bus import Caller
from headrace.core.connect import ConnectOptions, parse_connect, parse_object
from headrace.core.connection_record import ConnectionRecord
from headrace.core.engine.interface import (
    Connect,
    Connection,
    Event,
    Gathered,
    NotConnected,
    PeerError,
    PeerInfo,
    Phase,
    Pinged,
    PublishRefused,
    Refused,
    Traced,
    Transport,
)
from headrace.core.errors import (
    AuthenticationTimeout,
    AuthorizationViolation,
    InvalidClientProtocol,
    MaximumAccountConnectionsExceeded,
    MaximumConnectionsExceeded,
    MaximumSubscriptionsExceeded,
    NoRespondersRequiresHeaders,
    PeerReportedError,
    ProtocolError,
    PublishViolation,
    StaleConnection,
    SubscriptionRevoked,
    UserAuthenticationExpired,
)
from headrace.core.info import ConnectionFacts, encode_info
from headrace.core.link import Cookies, Link
from headrace.core.liveness import Ping, Pings, WriteWatch
from headrace.core.options import Permissions
from headrace.core.session_host import SessionHost
from headrace.core.session_table import NEXT, Answer

CLIENT_CLOSED: Final = "Client Closed"
SLOW_PENDING: Final = "Slow Consumer (Pending Bytes)"
SLOW_WRITE: Final = "Slow Consumer (Write Deadline)"
SERVER_SHUTDOWN: Final = "Server Shutdown"
READ_ERROR: Final = "Read Error"

_UNREADABLE: Final = frozenset({"Parse Error", "Protocol Violation"})
"""Reasons for which a WebSocket is closed without a word, as the reference takes them for errors of its framing."""


SUBSCRIPTIONS_SHOWN_MAX: Final = 64
"""Subscriptions that are remembered of a connection that has closed; their count is always right."""


class Session:
    """One client connection. The transport calls `receive`, `on_full`, `on_drained` and `on_closed`."""

    def __init__(
        self,
        host: SessionHost,
        transport: Transport,
        connection_id: int,
        peer_host: str,
        peer_port: int,
        link: Link | None = None,
    ) -> None:
        self.id = connection_id
        self.peer_host = peer_host
        self.peer_port = peer_port
        self.start_ns = host.clock.now_ns()
        self.connect = ConnectOptions()
        self.user = ""
        self.identity: Identity | None = None
        self.account: Account | None = None
        self.link = link if link is not None else Link()
        self.link.user = self
        self.nonce = make_nonce(host.secret_bytes) if host.authenticator_of(self.link).needs_nonce else ""
        self._host = host
        self._engine = host.engine
        self._transport = transport
        self._opened_ns = host.clock.monotonic_ns()
        self._pings = Pings()
        self._writes = WriteWatch(host.options.write_deadline_ns)
        self._has_connected = False
        self._was_greeted = False
        self._was_pinged = False
        self._is_deciding = False  # a login is under way
        self._waits = False  # and its answer is not here yet: `_held` is what the client sent meanwhile
        self._held = bytearray()
        self._holds = 0
        self._is_stalled = False
        self._grants: ReplyGrants | None = None
        self.connection: Connection = host.engine.open(transport, connection_id)
        options = host.options
        self.connection.max_control_line = options.max_control_line
        self.connection.max_subscriptions = options.max_subscriptions
        self.connection.max_payload = options.max_payload

    # from the broker

    def begin(self) -> None:
        """Greet the client and wait for it."""
        self._log(logging.DEBUG, "Client connection created")
        if not self.link.greets_late:
            self.greet()
        if self.link.is_ready:
            self.on_link_ready()

    def greet(self) -> None:
        """Send the first INFO, unless it was sent."""
        if not self._was_greeted and not self.is_closed:
            self._was_greeted = True
            self.send_info(is_first=True)
            if not self.link.is_ready:  # a handshake may begin in this turn, and INFO would go within it
                self._engine.flush_connection(self.connection)

    def on_link_ready(self) -> None:
        """Bytes may come now: the time for the login begins."""
        if self.is_closed:
            return
        self.greet()
        host = self._host
        now_ns = host.clock.monotonic_ns()
        if self._authenticator.is_required:
            self.connection.phase = Phase.AWAITING_CONNECT
            host.deadlines.set((self.id, "login"), now_ns + self._login_timeout_ns, self._on_login_timeout)
        else:
            self._enter(Identity(limits.GLOBAL_ACCOUNT))
        if self.connection.phase is not Phase.CLOSED:
            host.deadlines.set((self.id, "ping"), now_ns + self._ping_interval_ns, self._on_ping_time)

    def on_link_failed(self, error: ProtocolError, level: int = logging.ERROR) -> None:
        """A layer below cannot go on."""
        if not self.is_closed:
            self._log(level, str(error))
            self.close(error.reason, error)

    def refuse(self) -> None:
        """Greet a client for whom there is no place, and close."""
        if not self.link.greets_late:
            self.greet()
        self._fail(MaximumConnectionsExceeded())

    def send_info(self, *, is_first: bool = False, is_lame_duck: bool = False) -> None:
        """Send INFO with what is true now; `is_lame_duck` asks this client alone to go elsewhere."""
        facts = ConnectionFacts(
            client_id=self.id,
            client_ip=self.peer_host,
            max_payload=self.connection.max_payload,
            is_first=is_first,
            account=self.account.name if self._was_pinged and self.account is not None else "",
            is_system_account=self.account is not None and self.account.is_system,
            host=self.link.host,
            port=self.link.port,
            tls_required=self.link.tls_required,
            tls_verify=self.link.tls_verify,
            tls_available=self.link.tls_available,
            auth_required=self._authenticator.is_required if self.link.is_websocket else None,
            nonce=self.nonce,
        )
        server = replace(self._host.facts, lame_duck=True) if is_lame_duck else self._host.facts
        self._engine.write(self.connection, encode_info(server, facts))
        self._host.request_turn()

    @property
    def takes_async_info(self) -> bool:
        """Whether this client may be sent INFO at any time."""
        return self._was_pinged and self.connect.protocol >= 1

    @property
    def _authenticator(self) -> Admission:
        return self._host.authenticator_of(self.link)

    @property
    def _login_timeout_ns(self) -> int:
        websocket = self._host.options.websocket
        if self.link.is_websocket and websocket is not None and websocket.auth_timeout_ns:
            return websocket.auth_timeout_ns
        return self._host.options.auth_timeout_ns

    @property
    def _ping_interval_ns(self) -> int:
        websocket = self._host.options.websocket
        if self.link.is_websocket and websocket is not None and websocket.ping_interval_ns:
            return websocket.ping_interval_ns
        return self._host.options.ping_interval_ns

    @property
    def is_closed(self) -> bool:
        return self.connection.phase is Phase.CLOSED

    @property
    def rtt_ns(self) -> int:
        """The round trip last measured; 0 if none was."""
        return self._pings.rtt_ns(self.connection.last_pong_ns)

    def caller(self) -> Caller:
        return Caller(
            connection_id=self.id,
            account=self.account.name if self.account is not None else "",
            user=self.user,
            name=self.connect.name,
            host=self.peer_host,
            port=self.peer_port,
            language=self.connect.lang,
            version=self.connect.version,
            start_ns=self.start_ns,
            rtt_ns=self.rtt_ns,
        )

    def record(self, *, stop_ns: int = 0, reason: str = "", subscriptions: bool = False) -> ConnectionRecord:
        """Show this connection to monitoring."""
        connection = self.connection
        clock = self._host.clock
        listed = self._engine.subscriptions_of(connection) if subscriptions else ()
        return ConnectionRecord(
            id=self.id,
            host=self.peer_host,
            port=self.peer_port,
            start_ns=self.start_ns,
            last_activity_ns=clock.now_ns() - clock.monotonic_ns() + connection.last_activity_ns,
            stop_ns=stop_ns,
            reason=reason,
            rtt_ns=self.rtt_ns,
            pending_size=connection.pending_size,
            in_messages=connection.in_messages,
            in_bytes=connection.in_bytes,
            out_messages=connection.out_messages,
            out_bytes=connection.out_bytes,
            subscription_count=connection.subscription_count,
            subscriptions=tuple(listed),
            name=self.connect.name,
            language=self.connect.lang,
            version=self.connect.version,
            account=self.account.name if self.account is not None else "",
            user=self.user,
            type="websocket" if self.link.is_websocket else "nats",
            tls_version=self.link.tls_version,
            tls_cipher=self.link.tls_cipher,
            is_tls_first=self.link.is_tls_first,
            certificate=self.link.certificate,
        )

    def collect_replies(self) -> None:
        """Turn replies that were delivered into grants."""
        delivered = self.connection.delivered_replies
        if delivered and self._grants is not None:
            self._grants.grant(delivered, self._host.clock.monotonic_ns())
            delivered.clear()

    @property
    def label(self) -> str:
        """How the log names this connection."""
        kind = "wid" if self.link.is_websocket else "cid"
        forwarded = f"{self.link.forwarded_host}/" if self.link.forwarded_host else ""
        return f"{forwarded}{self.peer_host}:{self.peer_port} - {kind}:{self.id}"

    # reading

    def hold(self) -> None:
        """Read no more from this client, until `release` was called as often."""
        self._holds += 1
        if self._holds == 1 and not self.is_closed:
            self._transport.pause_reading()

    def release(self) -> None:
        assert self._holds > 0, "a hold is released once"
        self._holds -= 1
        if self._holds == 0 and not self.is_closed:
            self._transport.resume_reading()

    def end_stall(self) -> None:
        """Read on after a stall, if there is one."""
        if self._is_stalled:
            self._is_stalled = False
            self._host.deadlines.clear((self.id, "stall"))
            self.release()

    # from the transport

    def receive(self, chunk: bytes | memoryview) -> None:
        """Take what the client sent."""
        if self._waits:
            self._held += chunk
            return
        self._run(self._engine.receive(self.connection, chunk))
        if self.connection.is_stalled:
            self._stall()
        self._host.request_turn()

    def _run(self, events: Sequence[Event]) -> None:
        """Handle events, and what the engine finds behind each barrier; stop where a login is not decided."""
        while events:
            for event in events:
                self._handle(event)
            if not events[-1].is_barrier or self._is_deciding:
                return
            events = self._engine.resume(self.connection)

    def on_full(self) -> None:
        """The operating system takes no more for now: a deadline for it begins."""
        if self.is_closed:
            return
        deadline_ns = self._writes.on_full(self._host.clock.monotonic_ns(), self._transport.written_size)
        if deadline_ns is not None:
            self._host.deadlines.set((self.id, "write"), deadline_ns, self._on_write_deadline)

    def on_drained(self) -> None:
        """The operating system has taken everything."""
        if self.is_closed:
            return
        self._writes.on_drained()
        self._engine.drained(self.connection)
        self._host.on_room()

    def on_closed(self, reason: str = CLIENT_CLOSED) -> None:
        """The connection has gone."""
        if not self.is_closed:
            self._leave(reason)

    # closing

    def close(self, reason: str, error: ProtocolError | None = None) -> None:
        """Send what is queued, and the error behind it; then close."""
        if self.is_closed:
            return
        if error is not None and error.text:
            self._engine.write(self.connection, error.encode())
        self._engine.flush_connection(self.connection)
        self._transport.close(reason)
        self._leave(reason)

    def on_overflow(self) -> None:
        """More is pending than this client may have."""
        if self.is_closed:
            return
        maximum = self._host.options.max_pending
        self._log(logging.INFO, f"Slow Consumer Detected: MaxPending of {maximum} Exceeded")
        self._host.on_slow_consumer(self.account)
        self._transport.abort()
        self._leave(SLOW_PENDING)

    def _fail(self, error: ProtocolError) -> None:
        self._log(logging.ERROR, str(error))
        if self.link.is_websocket and error.reason in _UNREADABLE:
            self._transport.abort()
            self._leave(READ_ERROR)
            return
        self.close(error.reason, error)

    def _leave(self, reason: str) -> None:
        host = self._host
        record = self.record(stop_ns=host.clock.now_ns(), reason=reason, subscriptions=True)
        record = replace(record, subscriptions=record.subscriptions[:SUBSCRIPTIONS_SHOWN_MAX])
        self.connection.phase = Phase.CLOSED
        for name in ("login", "ping", "stall", "write", "expiry"):
            host.deadlines.clear((self.id, name))
        self._engine.close(self.connection)
        if self.account is not None:
            self.account.connection_count -= 1
        self._log(logging.DEBUG, f"Client connection closed: {reason}")
        host.on_left(self, record)

    # events

    def _handle(self, event: Event) -> None:
        match NEXT[self.connection.phase][type(event)]:
            case Answer.IGNORE:
                return
            case Answer.CANNOT_BE:
                raise AssertionError(f"{event!r} was reported in {self.connection.phase}")
            case Answer.ACT:
                pass
        match event:
            case Gathered(sink, batch):
                sink.on_messages(batch)
            case Connect(arguments):
                self._on_connect(arguments)
            case NotConnected():
                self._on_not_connected()
            case Pinged():
                self._was_pinged = True
                self.send_info()
            case PublishRefused():
                self._on_publish_refused(event)
            case Traced():
                self._host.tracer.on_traced(self, event)
            case PeerInfo(arguments):
                try:
                    parse_object(arguments)
                except ProtocolError as error:
                    self._fail(error)
            case PeerError(text):
                self._fail(PeerReportedError(f"Client Error {text.decode(errors='replace')}"))
            case Refused(error):
                if error.fatal:
                    self._fail(error)
                else:
                    self._log(logging.ERROR, str(error))
            case _:
                raise AssertionError(f"unknown event {event!r}")

    def _on_connect(self, arguments: bytes) -> None:
        host = self._host
        host.deadlines.clear((self.id, "login"))
        now_ns = host.clock.monotonic_ns()
        if not self._has_connected:
            self._pings.estimate(now_ns - self._opened_ns)
            first_ns = min(self._ping_interval_ns, limits.FIRST_PING_NS)
            first_ns += host.chance.below(max(1, first_ns // 5))
            host.deadlines.set((self.id, "ping"), now_ns + first_ns, self._on_ping_time)
        self._engine.drop_subscriptions(self.connection)
        try:
            connect = parse_connect(arguments, self.connect)
        except ProtocolError as error:
            self._fail(error)
            return
        self.connect = connect = _with_cookies(connect, self.link.cookies)
        self._has_connected = True
        if connect.account or connect.new_account:
            self._refuse()
            return
        self._is_deciding = True
        login = Login(connect, self.nonce, self.peer_host, self.link, self.id)
        self._authenticator.admit(login, self._on_decided)
        if self._is_deciding:
            self.hold()  # what follows waits for the answer, which comes from elsewhere
            self._waits = True

    def _on_decided(self, identity: Identity | None) -> None:
        """Go on after CONNECT; at once, or after an account or another service was asked."""
        if self.is_closed or not self._is_deciding:
            return
        self._is_deciding = False
        if identity is None:
            self._refuse()
        elif self._enter(identity):
            self._apply_connect()
        if self._waits and not self.is_closed:
            self._waits = False
            self.release()
            held, self._held = self._held, bytearray()
            self._run(self._engine.resume(self.connection))
            if held:
                self.receive(bytes(held))
        self._host.request_turn()

    def _refuse(self) -> None:
        self._fail(AuthorizationViolation(f"authentication error{_shown_user(self.connect)}"))

    def _apply_connect(self) -> None:
        host = self._host
        connect = self.connect
        headers = connect.headers and not host.options.no_header_support
        if connect.protocol not in (0, 1):
            self._fail(InvalidClientProtocol())
            return
        if connect.no_responders and not headers:
            self._fail(NoRespondersRequiresHeaders())
            return
        connection = self.connection
        connection.verbose = connect.verbose
        connection.pedantic = connect.pedantic
        connection.echo = connect.echo
        connection.headers = headers
        connection.no_responders = connect.no_responders
        connection.awaits_ping = connect.protocol >= 1 and not self._was_pinged
        if connect.verbose:
            self._engine.write(connection, b"+OK\r\n")
        host.on_entered(self)

    def _on_not_connected(self) -> None:
        identity = self._authenticator.without_credentials(self.link)
        if identity is None:
            self._fail(AuthorizationViolation("authentication error"))
            return
        self._host.deadlines.clear((self.id, "login"))
        self._enter(identity)

    def _enter(self, identity: Identity) -> bool:
        """Become who one is; tell whether the account had a place."""
        account = self._host.accounts[identity.account]
        if account is not self.account:
            if account.is_full:
                self._fail(MaximumAccountConnectionsExceeded())
                return False
            if self.account is not None:
                self.account.connection_count -= 1
            account.connection_count += 1
            account.total_connection_count += 1
        self.account = account
        self.connection.phase = Phase.OPEN
        self.connection.account = account.name
        self._take(identity)
        return True

    def _take(self, identity: Identity) -> None:
        """Have the rights that an identity gives."""
        assert self.account is not None, "who has rights has entered an account"
        host = self._host
        self.identity = identity
        self.user = identity.user
        connection = self.connection
        options = self.account.options
        connection.max_account_subscriptions = options.max_subscriptions
        connection.max_payload = self.account.max_payload(host.options.max_payload)
        if identity.max_payload >= 0:
            connection.max_payload = min(connection.max_payload, identity.max_payload)
        limits_of_subscriptions = (host.options.max_subscriptions, identity.max_subscriptions)
        connection.max_subscriptions = min((each for each in limits_of_subscriptions if each > 0), default=0)
        self._permit(identity.permissions)
        if identity.expires_ns:
            left_ns = max(0, identity.expires_ns - host.clock.now_ns())
            host.deadlines.set((self.id, "expiry"), host.clock.monotonic_ns() + left_ns, self._on_expired)
        else:
            host.deadlines.clear((self.id, "expiry"))

    def review(self) -> None:
        """Look again at who this is, as its account or the users have changed."""
        if self.is_closed or self.identity is None or self._is_deciding:
            return
        found = self._authenticator.review(self.identity)
        if isinstance(found, ProtocolError):
            self._fail(found)
            return
        connection = self.connection
        held = connection.permissions
        self._take(found)
        if held != connection.permissions:
            for ended in self._engine.revise(connection):
                error = SubscriptionRevoked(ended.subject, ended.queue, ended.sid)
                self._engine.write(connection, error.encode())
                self._log(logging.ERROR, str(error))
            self._host.request_turn()
        if 0 < connection.max_subscriptions < connection.subscription_count:
            self._fail(MaximumSubscriptionsExceeded())

    def expire(self, error: ProtocolError) -> None:
        """Send this client away, as its time or its account's is over."""
        if not self.is_closed:
            self._log(logging.DEBUG, str(error))
            self.close(error.reason, error)

    def _on_expired(self, _now_ns: int) -> None:
        self.expire(UserAuthenticationExpired())

    def _permit(self, permissions: Permissions | None) -> None:
        self.connection.permissions = permissions
        if permissions is None or permissions.responses is None:
            self._grants = None
            self.connection.delivered_replies = None
        else:
            self._grants = ReplyGrants(permissions.responses)
            self.connection.delivered_replies = []
            self._host.on_grants(self)

    def may_publish(self, subject: bytes) -> bool:
        """Tell whether this client is permitted to publish now; where it is by a grant, that is used."""
        return self._engine.may_publish(self.connection, subject) or self._use_grant(subject)

    def publish(self, event: Traced) -> None:
        """Deliver a message that turned out not to be traced, if it is permitted."""
        if not self._engine.may_publish(self.connection, event.mapped):
            self._on_publish_refused(PublishRefused(event.mapped, event.reply, event.headers, event.payload))
            return
        for following in self._engine.publish_from(
            self.connection, event.mapped, event.reply, event.headers, event.payload
        ):
            self._handle(following)

    def refuse_operation(self, error: ProtocolError) -> None:
        """Answer an operation that is refused; the connection stays."""
        self._engine.write(self.connection, error.encode())
        self._log(logging.ERROR, str(error))

    def _use_grant(self, subject: bytes) -> bool:
        self.collect_replies()
        return self._grants is not None and self._grants.use(subject, self._host.clock.monotonic_ns())

    def _on_publish_refused(self, event: PublishRefused) -> None:
        if self._use_grant(event.subject):
            for following in self._engine.publish_from(
                self.connection, event.subject, event.reply, event.headers, event.payload
            ):
                self._handle(following)
            return
        self.refuse_operation(PublishViolation(event.subject))

    def _stall(self) -> None:
        """Let a fast publisher wait for its subscribers, for a bounded time."""
        self.connection.is_stalled = False
        if self._is_stalled or self.is_closed or self._host.options.no_fast_producer_stall:
            return
        self._is_stalled = True
        self.hold()
        self._host.on_stall(self)
        deadline_ns = self._host.clock.monotonic_ns() + limits.STALL_NS
        self._host.deadlines.set((self.id, "stall"), deadline_ns, self._on_stall_time)

    # deadlines

    def _on_login_timeout(self, _now_ns: int) -> None:
        if self.connection.phase is Phase.AWAITING_CONNECT:
            self._fail(AuthenticationTimeout())

    def _on_ping_time(self, now_ns: int) -> int | None:
        interval_ns = self._ping_interval_ns
        connection = self.connection
        due = self._pings.due(
            now_ns,
            interval_ns=interval_ns,
            last_activity_ns=connection.last_activity_ns,
            last_pong_ns=connection.last_pong_ns,
            pings_out=connection.pings_out,
            ping_max=self._host.options.ping_max,
        )
        if due is Ping.STALE:
            self._host.on_stale_connection()
            self._fail(StaleConnection())
            return None
        if due is Ping.SEND:
            self._pings.on_sent(now_ns, connection.last_pong_ns)
            connection.pings_out += 1
            self._engine.write(connection, b"PING\r\n")
            self._host.request_turn()
        return now_ns + interval_ns

    def _on_stall_time(self, _now_ns: int) -> None:
        self.end_stall()

    def _on_write_deadline(self, now_ns: int) -> int | None:
        pending = self._transport.pending_size
        written = self._transport.written_size
        if not self._writes.is_late(now_ns, written - pending):
            return self._writes.on_time(now_ns, written)
        deadline_ns = self._host.options.write_deadline_ns
        self._log(
            logging.INFO,
            f"Slow Consumer Detected: WriteDeadline of {deadline_ns / NS_PER_S:g}s exceeded "
            f"with {pending} total bytes.",
        )
        if self._has_connected:
            self._host.on_slow_consumer(self.account)
        self._transport.abort()
        self._leave(SLOW_WRITE)
        return None

    def _log(self, level: int, text: str) -> None:
        log = self._host.log
        if log.isEnabledFor(level):
            log.log(level, "%s - %s", self.label, text)


def _with_cookies(connect: ConnectOptions, cookies: Cookies) -> ConnectOptions:
    """Let what came with a WebSocket's request stand in for what CONNECT leaves out."""
    return replace(
        connect,
        jwt=connect.jwt or cookies.jwt,
        user=connect.user or cookies.user,
        password=connect.password or cookies.password,
        auth_token=connect.auth_token or cookies.token,
    )


def _shown_user(connect: ConnectOptions) -> str:
    return f' - User "{connect.user}"' if connect.user else ""
