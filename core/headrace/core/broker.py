"""The broker: one server's engine, accounts, connections and turn, put together.

A transport calls `accept` for each connection and tells the session it gets what happens on the wire. All of it
happens on one thread, and in *turns*: whatever was received since the last one is parsed and routed at
once, then `_end_turn` runs: sinks take what they were sent, watchers of interest are told, the turn-end hooks run, and
all output goes out. `request_turn` asks for a turn; it costs one `call_soon` however often it is asked.

What monitoring and the lame duck mode need is here as plain numbers and lists; who listens where, and when the
server stops, is the business of whoever composes it (`tools/serve.py`).
"""

import base64
import binascii
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from headrace.core.accounts import Account, Accounts, Traffic
from headrace.core.auth.gate import FetchUrl, Gate
from headrace.core.auth.keys import KeyKind, SecretBytes, SigningKey
from headrace.core.auth.login import Admission
from headrace.core.auth.permissions import PermissionRules
from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock, Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.bus import Bus, Caller, EngineBus
from headrace.core.connection_record import ConnectionRecord
from headrace.core.engine.interface import (
    Connection,
    Engine,
    EngineFactory,
    EngineSetup,
    Event,
    Gathered,
    Transport,
)
from headrace.core.engine.plain import PlainEngine
from headrace.core.errors import (
    AccountAuthenticationExpired,
    MaximumAccountConnectionsExceeded,
    MaximumConnectionsExceeded,
)
from headrace.core.imports.exchange import Exchange
from headrace.core.imports.rules import ServiceRoute, StreamRoute
from headrace.core.imports.services import Services
from headrace.core.info import ServerFacts
from headrace.core.link import Link
from headrace.core.options import AccountOptions, ServerOptions
from headrace.core.session import SERVER_SHUTDOWN, Session
from headrace.core.tracing.tracer import Tracer

GATHERED_ROUNDS_MAX: Final = 16
"""How often sinks may be called again within one turn for what they published themselves."""


@dataclass(slots=True)
class Stats:
    """Totals since the start, closed connections included."""

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    slow_consumers: int
    stale_connections: int
    stalled_clients: int
    total_connections: int


class Observer(Protocol):
    """Who wants to know of connections: the system account's events."""

    def on_entered(self, session: Session) -> None: ...

    def on_left(self, session: Session, record: ConnectionRecord) -> None: ...

    def on_lame_duck(self) -> None: ...

    def on_shutdown(self) -> None: ...


class Broker:
    """One server without its listeners.

    Public: `options`, `id`, `name`, `start_ns` and `loaded_ns` (when it started, and when its configuration was read,
    wall clock), `engine`, `bus`, `accounts`, `deadlines`, `scheduler`, `chance`, `facts` (what INFO says), `gate` (who
    may come in), `log`. Who is in `account_listeners` hears of every account that came or changed while
    the server runs.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        scheduler: Scheduler,
        chance: Chance,
        engine_factory: EngineFactory | None = None,
        log: logging.Logger | None = None,
        secret_bytes: SecretBytes = secrets.token_bytes,
        fetch_url: FetchUrl | None = None,
    ) -> None:
        self.options = options
        self.secret_bytes = secret_bytes
        self.scheduler = scheduler
        self.clock: Clock = scheduler
        self.chance = chance
        self.log = log if log is not None else logging.getLogger("headrace")
        self.start_ns = self.loaded_ns = scheduler.now_ns()
        self.deadlines = Deadlines(scheduler)
        self.accounts = Accounts(options)
        self.rules = PermissionRules()
        # The server signs only what services that decide about logins are asked; else its name needs no key.
        signs = options.callout is not None or options.operator is not None
        self.server_key = SigningKey.fresh(KeyKind.SERVER, secret_bytes) if signs else None
        self.id = self.server_key.public if self.server_key is not None else make_server_id(chance)
        self.name = options.server_name or self.id
        self.engine: Engine = (engine_factory or PlainEngine)(
            EngineSetup(
                rules=self.rules,
                chance=chance,
                clock=scheduler,
                max_pending=options.max_pending,
                max_sub_tokens=options.max_sub_tokens,
                no_fast_producer_stall=options.no_fast_producer_stall,
                system_account=options.system_account,
            )
        )
        self.account_listeners: list[Callable[[AccountOptions], None]] = []
        self.fetch_url = fetch_url
        self.services = Services(self, self._publish)
        self.bus: Bus = EngineBus(self.engine, self, self.services.responses)
        self.tracer = Tracer(self)
        self._exchange = Exchange(self.engine, self.services, chance, options.system_account)
        self._apply_exchange()
        self._sessions: dict[int, Session] = {}
        self.gate = Gate(options, self)
        self.facts = ServerFacts(
            server_id=self.id,
            server_name=self.name,
            host=options.host,
            port=options.port,
            max_payload=options.max_payload,
            headers=not options.no_header_support,
            auth_required=self.gate.main.is_required,
            has_no_auth_user=self.gate.main.has_no_auth_user,
            engine=self.engine.name,
        )
        self.is_lame_duck = False
        self.is_shut_down = False
        self._closed: deque[ConnectionRecord] = deque(maxlen=options.max_closed_clients)
        self._next_id = 0
        self._gone = Stats(0, 0, 0, 0, 0, 0, 0, 0)
        self._hooks: list[Callable[[], None]] = []
        self._observers: list[Observer] = []
        self._queued: deque[Gathered] = deque()
        self._turn_is_asked = False
        self._stalled: dict[Session, None] = {}
        self._granting: dict[Session, None] = {}

    # connections

    def accept(
        self, transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Session:
        """Take a new connection: INFO is sent, and the transport goes on with the session's methods.

        These are `receive(chunk)`, `on_full()`, `on_drained()` and `on_closed(reason)`. The session may be closed
        already when this returns, if there is no place for it.
        """
        self._next_id += 1
        self._gone.total_connections += 1
        session = Session(self, transport, self._next_id, peer_host, peer_port, link)
        maximum = self.options.max_connections
        is_full = maximum < 0 or 0 < maximum <= len(self._sessions)
        self._sessions[session.id] = session
        if self.is_shut_down or self.is_lame_duck:
            session.close(SERVER_SHUTDOWN)
        elif is_full:
            session.refuse()
        else:
            session.begin()
        return session

    def session(self, connection_id: int) -> Session | None:
        return self._sessions.get(connection_id)

    @property
    def sessions(self) -> Sequence[Session]:
        """All open connections, oldest first."""
        return list(self._sessions.values())

    @property
    def connection_count(self) -> int:
        return len(self._sessions)

    def open_records(self, *, subscriptions: bool = False) -> list[ConnectionRecord]:
        """Give what monitoring shows of each open connection, oldest first."""
        return [session.record(subscriptions=subscriptions) for session in self._sessions.values()]

    def closed_records(self) -> list[ConnectionRecord]:
        """Give what monitoring shows of connections that have closed, in the order of closing."""
        return list(self._closed)

    @property
    def stats(self) -> Stats:
        """Totals since the start, closed connections included."""
        total = replace(self._gone)
        for session in self._sessions.values():
            _add(total, session.connection)
        return total

    # turns

    def at_turn_end(self, hook: Callable[[], None]) -> None:
        """Run `hook` in every turn, after all its messages were handled and before output is flushed."""
        self._hooks.append(hook)

    def request_turn(self) -> None:
        """Make sure that a turn ends soon."""
        if not self._turn_is_asked:
            self._turn_is_asked = True
            self.scheduler.call_soon(self._end_turn)

    def enqueue(self, events: Sequence[Event]) -> None:
        """Handle these events at the end of this turn."""
        for event in events:
            assert isinstance(event, Gathered), "the server's own messages break no protocol"
            self._queued.append(event)
        self.request_turn()

    def _end_turn(self) -> None:
        self._turn_is_asked = False
        try:
            for _ in range(GATHERED_ROUNDS_MAX):
                self._call_sinks()
                self.engine.tell_watchers()
                for hook in self._hooks:
                    hook()
                if not self._queued:
                    break
            else:
                self.request_turn()
            for session in list(self._granting):
                session.collect_replies()
        finally:
            for connection in self.engine.flush():
                session_of = self._sessions.get(connection.id)
                if session_of is not None:
                    session_of.on_overflow()

    def _call_sinks(self) -> None:
        """Call the sinks for what was queued before; what they publish themselves waits for the next round."""
        for _ in range(len(self._queued)):
            gathered = self._queued.popleft()
            gathered.sink.on_messages(gathered.batch)

    # what the bus asks

    def caller(self, connection_id: int) -> Caller | None:
        session = self._sessions.get(connection_id)
        return None if session is None else session.caller()

    def hold(self, connection_id: int) -> None:
        session = self._sessions.get(connection_id)
        if session is not None:
            session.hold()

    def release(self, connection_id: int) -> None:
        session = self._sessions.get(connection_id)
        if session is not None:
            session.release()

    # what the composer says

    def set_listening(self, host: str, port: int) -> None:
        """Say where clients connect; INFO shows it. Call before the first `accept`."""
        self.facts.host = host
        self.facts.port = port

    def set_jetstream(self, *, enabled: bool, domain: str = "") -> None:
        """Say whether INFO claims JetStream."""
        self.facts.jetstream = enabled
        self.facts.domain = domain

    def reconfigure(self, options: ServerOptions) -> None:
        """Take over a changed configuration, and look again at all who are connected.

        Users that are gone or changed have to leave, lost permissions end subscriptions, and where there are too many
        connections the youngest go.
        """
        self.options = options
        self.loaded_ns = self.scheduler.now_ns()
        self.accounts.reconfigure(options)
        self._apply_exchange()
        self.gate.reconfigure(options)
        self.facts.auth_required = self.gate.main.is_required
        self.facts.has_no_auth_user = self.gate.main.has_no_auth_user
        self.facts.max_payload = options.max_payload
        for session in self.sessions:
            session.connection.max_control_line = options.max_control_line
        for name in [account.name for account in self.accounts]:
            self.review(name)
        # Accounts that nobody may use any more are empty by now.
        self.accounts.reconfigure(options)
        self._apply_exchange()
        if options.max_connections:
            for session in self.sessions[max(0, options.max_connections) :]:
                session.expire(MaximumConnectionsExceeded())
        self.request_turn()

    def observe(self, observer: "Observer") -> None:
        """Tell `observer` who comes and goes."""
        self._observers.append(observer)

    def set_account(self, options: AccountOptions) -> None:
        """Add an account while the server runs, or change what one is allowed and exchanges with others."""
        self.accounts.set(options)
        self._apply_exchange()
        for listener in self.account_listeners:
            listener(options)

    def review(self, account: str) -> None:
        """Look again at all who are connected to an account, as it changed; the youngest go where they are too many."""
        sessions = [
            each for each in self.sessions if each.account is not None and each.account.name == account
        ]
        maximum = self.accounts[account].options.max_connections
        for place, session in enumerate(sessions):
            if 0 <= maximum <= place:
                session.expire(MaximumAccountConnectionsExceeded())
            else:
                session.review()

    def expire(self, account: str) -> None:
        """Send away all who are connected to an account: its time is over."""
        for session in self.sessions:
            if session.account is not None and session.account.name == account:
                session.expire(AccountAuthenticationExpired())

    def _apply_exchange(self) -> None:
        for refused in self._exchange.apply([account.options for account in self.accounts]):
            self.log.error("Account %s: %s", refused.account, refused)
        for account in self.accounts:
            self.engine.trace_parents(account.name, wanted=account.options.trace is not None)

    def imports_of(self, account: str) -> tuple[tuple[StreamRoute, ...], tuple[ServiceRoute, ...]]:
        """Give the streams and services that an account imports."""
        return self._exchange.imports_of(account)

    def _publish(self, account: str, subject: bytes, payload: bytes) -> None:
        self.bus.publish(account, subject, payload)

    def announce_lame_duck(self) -> None:
        """Tell clients that this server is about to go, and take no new ones."""
        self.is_lame_duck = True
        self.facts.lame_duck = True
        for observer in self._observers:
            observer.on_lame_duck()
        for session in self._sessions.values():
            if session.takes_async_info:
                session.send_info()

    def close_session(self, connection_id: int, reason: str = SERVER_SHUTDOWN) -> bool:
        """Close one connection without an error; tell whether there was one."""
        session = self._sessions.get(connection_id)
        if session is None:
            return False
        session.close(reason)
        return True

    def shutdown(self) -> None:
        """Flush and close all connections; nothing is accepted afterwards."""
        self.is_shut_down = True
        for observer in self._observers:
            observer.on_shutdown()
        for session in self.sessions:
            session.close(SERVER_SHUTDOWN)

    # what sessions ask and report

    def authenticator_of(self, link: Link) -> Admission:
        """Give the rules by which who comes this way logs in: WebSocket clients may have their own."""
        return self.gate.of(link)

    def on_room(self) -> None:
        """Some client has room again: whoever was stalled may go on."""
        stalled, self._stalled = self._stalled, {}
        for session in stalled:
            session.end_stall()
        self.request_turn()

    def on_stall(self, session: Session) -> None:
        self._gone.stalled_clients += 1
        self._stalled[session] = None

    def on_grants(self, session: Session) -> None:
        self._granting[session] = None

    def on_slow_consumer(self, account: Account | None) -> None:
        self._gone.slow_consumers += 1
        if account is not None:
            account.slow_consumer_count += 1

    def on_stale_connection(self) -> None:
        self._gone.stale_connections += 1

    def on_entered(self, session: Session) -> None:
        for observer in self._observers:
            observer.on_entered(session)

    def on_left(self, session: Session, record: ConnectionRecord) -> None:
        del self._sessions[session.id]
        self._stalled.pop(session, None)
        self._granting.pop(session, None)
        self._closed.append(record)
        _add(self._gone, session.connection)
        if session.account is not None:
            _add(session.account.gone, session.connection)
        for observer in self._observers:
            observer.on_left(session, record)
        self.request_turn()


def make_server_id(chance: Chance) -> str:
    """Make a server's public name: 56 characters, in the form of a public key of kind "N".

    A byte for the kind, 32 of chance, and a checksum, in base 32, as NATS keys are written.
    """
    raw = bytes([13 << 3]) + b"".join(chance.bits64().to_bytes(8, "big") for _ in range(4))
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode()


def _add(total: Stats | Traffic, connection: Connection) -> None:
    total.in_messages += connection.in_messages
    total.in_bytes += connection.in_bytes
    total.out_messages += connection.out_messages
    total.out_bytes += connection.out_bytes
