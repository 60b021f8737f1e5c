"""The broker: one server's engine, accounts, connections and turn, put together.

A transport calls `accept` for each connection and tells the session it gets what happens on the wire. All of it
happens on one thread, and in *turns*: whatever was received since the last one is parsed and routed at
once, then `_end_turn` runs: sinks take what they were sent, watchers of interest are told, the turn-end hooks run, and
all output goes out. `request_turn` asks for a turn; it costs one `call_soon` however often it is asked.

What monitoring and the lame duck mode need is here as plain numbers and lists; who listens where, and when the
server stops, is the business of whoever composes it (`tools/serve.py`).
"""

import base64
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.core import limits
from headrace.core.accounts import Account, Accounts
from headrace.core.auth.authenticator import Authenticator
from headrace.core.auth.permissions import PermissionRules
from headrace.core.base.chance import Chance
from headrace.core.base.clock import Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.bus import Bus, EngineBus
from headrace.core.engine.interface import (
    Connection,
    Engine,
    EngineFactory,
    EngineSetup,
    Event,
    Gathered,
    Transport,
)
from headrace.core.info import ServerFacts
from headrace.core.options import ServerOptions
from headrace.core.session import ConnectionRecord, Session

CLOSED_CONNECTIONS_MAX: Final = 10_000
"""Closed connections that monitoring can still show; the reference keeps as many."""

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


class Broker:
    """One server without its listeners.

    Public: `options`, `id`, `name`, `start_ns` (wall clock), `engine`, `bus`, `accounts`, `deadlines`, `scheduler`,
    `chance`, `facts` (what INFO says).
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        scheduler: Scheduler,
        chance: Chance,
        engine_factory: EngineFactory | None = None,
        log: logging.Logger | None = None,
    ) -> None: ...

    @property
    def stats(self) -> Stats: ...

    def accept(self, transport: Transport, peer_host: str, peer_port: int) -> Session:
        """Take a new connection: INFO is sent, and the transport goes on with the session's methods.

        These are `receive(chunk)`, `on_full()`, `on_drained()` and `on_closed(reason)`.
        """

    def session(self, connection_id: int) -> Session | None: ...

    @property
    def sessions(self) -> Sequence[Session]:
        """All open connections, oldest first."""

    def open_records(self) -> list[ConnectionRecord]:
        """Give what monitoring shows of each open connection."""

    def closed_records(self) -> list[ConnectionRecord]:
        """Give what monitoring shows of connections that have closed, oldest first."""

    def at_turn_end(self, hook: Callable[[], None]) -> None: ...

    def request_turn(self) -> None: ...

    def set_listening(self, host: str, port: int) -> None:
        """Say where clients connect; INFO shows it. Call before the first `accept`."""

    def set_jetstream(self, *, enabled: bool, domain: str = "") -> None:
        """Say whether INFO claims JetStream."""

    def announce_lame_duck(self) -> None:
        """Tell clients that this server is about to go, and refuse new ones."""

    def close_session(self, connection_id: int, reason: str = "Server Shutdown") -> bool:
        """Close one connection without an error; tell whether there was one."""

    def shutdown(self) -> None:
        """Flush and close all connections; nothing is accepted afterwards."""
