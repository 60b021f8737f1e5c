"""A server in an event loop: a composition, its listeners, and how it starts and ends.

    server = Server(options)
    await server.start()         # raises StartError, with everything taken back
    await server.wait_stopped()
    ...
    await server.stop()          # from anywhere: a signal, the end of an embedder's block

`stop` loses nothing that was accepted: listeners close, reading stops, the store syncs and acknowledges, and output
is sent.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from headrace.core.auth.gate import FetchUrl
from headrace.core.base.chance import Chance
from headrace.core.base.clock import LoopScheduler
from headrace.core.base.errors import HeadraceError
from headrace.core.config.values import format_address
from headrace.core.engine.interface import Transport
from headrace.core.errors import ConfigError
from headrace.core.link import Link
from headrace.core.log import make_logger
from headrace.core.options import JetStreamOptions, ResolverKind, ServerOptions
from headrace.core.system.requests import RequestFailed
from headrace.core.transport.tcp import Accept, Receiver, TcpListener, listen
from headrace.tools.compose import Composition, StartError, compose
from headrace.tools.lame_duck import LameDuck

if TYPE_CHECKING:
    from ssl import SSLContext

    from headrace.core.monitoring.http import HttpConnection
    from headrace.core.monitoring.monitor import Monitor
    from headrace.core.transport.tls import TlsFront
    from headrace.tools.websocket_listener import WebSocketListener

MONITOR_HOST: Final = "127.0.0.1"
"""Monitoring shows names and subjects to whoever asks, so it stays on this machine unless told otherwise."""

FLUSH_DEADLINE_S: Final = 2.0
"""How long a stop waits for clients to take what was sent to them."""

_FLUSH_POLL_S: Final = 0.005
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})


@dataclass(slots=True)
class _MonitorListener:
    monitor: "Monitor"
    server: asyncio.Server
    connections: "set[HttpConnection]"
    host: str
    port: int

    def close(self) -> None:
        self.server.close()
        for connection in list(self.connections):
            connection.close()


class Server:
    """One server on this machine's network. `exit_code` says, after the stop, how it went.

    Who reads a configuration sets `on_reload`: it reads it again, calls `reconfigure`, and gives "" or a refusal.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        log: logging.Logger | None = None,
        chance: Chance | None = None,
        config_digest: str = "",
    ) -> None:
        self.options = options
        self.log = log if log is not None else make_logger()
        self._chance = chance
        self._config_digest = config_digest
        self._composition: Composition | None = None
        self._clients: TcpListener | None = None
        self._monitoring: _MonitorListener | None = None
        self.on_reload: Callable[[], str] | None = None
        self.exit_code = 0
        self._lame_duck: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._tls: TlsFront | None = None
        self._websocket: WebSocketListener | None = None

    # how it is now

    @property
    def composition(self) -> Composition:
        """The running server's parts."""
        assert self._composition is not None, "the server was started"
        return self._composition

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._clients is not None, "the server was started"
        return self._clients.port

    @property
    def url(self) -> str:
        """What a client on this machine connects to."""
        scheme = "nats" if self._tls is None or self._tls.allow_non_tls else "tls"
        return f"{scheme}://{format_address(_reachable(self.options.host), self.port)}"

    @property
    def websocket_url(self) -> str:
        """Where WebSocket clients on this machine connect; "" without."""
        if self._websocket is None:
            return ""
        return f"{self._websocket.scheme}://{format_address(_reachable(self._websocket.host), self._websocket.port)}"

    @property
    def monitor_url(self) -> str:
        """Where monitoring is; "" without."""
        if self._monitoring is None:
            return ""
        scheme = "https" if self.options.monitor_is_tls else "http"
        return f"{scheme}://{format_address(_reachable(self._monitoring.host), self._monitoring.port)}"

    @property
    def is_lame_duck(self) -> bool:
        return self._lame_duck is not None

    # start

    async def start(self) -> None:
        """Open the store, listen, and serve. Raises StartError; then nothing is left open."""
        scheduler = LoopScheduler(asyncio.get_running_loop())
        self._composition = compose(
            self.options,
            scheduler=scheduler,
            chance=self._chance,
            log=self.log,
            is_threaded=True,
            fetch_url=_url_fetcher(self.options, self.log),
        )
        if self._composition.system is not None:
            self._composition.system.config_digest = self._config_digest
            self._composition.system.reload = self._reload_asked
        store = self._composition.file_store
        if store is not None:
            asyncio.get_running_loop().add_reader(store.ready_handle, store.on_ready)
        try:
            self._tls = _tls_front(self.options)
            self._log_banner(self._composition)
            await self._listen(self._composition)
        except BaseException:
            await self.stop()
            raise
        self.log.info("Server is ready")

    def _log_banner(self, composition: Composition) -> None:
        broker, log = composition.broker, self.log
        log.info("Starting headrace-server")
        log.info("  Version:  %s", broker.facts.version)
        log.info("  Engine:   %s", broker.engine.name)
        log.info("  Name:     %s", broker.name)
        log.info("  ID:       %s", broker.id)
        if self._config_digest:
            log.info("Using configuration file: %s (%s)", self.options.config_file, self._config_digest)
        if any(user.password and not user.password.startswith("$2") for user in self.options.users):
            log.warning("Plaintext passwords detected, use nkeys or bcrypt")
        if composition.file_store is not None:
            log.info("Starting JetStream")
            assert composition.jetstream is not None, "a store is opened for JetStream"
            self._log_jetstream(composition.jetstream.context.options)

    def _log_jetstream(self, options: JetStreamOptions) -> None:
        from headrace.tools.room import shown_size  # noqa: PLC0415  (only where JetStream is on)

        acknowledged = "what is on disk" if options.sync_always else "before it is on disk"
        self.log.info("  Max Memory:      %s", shown_size(options.max_memory))
        self.log.info("  Max Storage:     %s", shown_size(options.max_file))
        self.log.info('  Store Directory: "%s"', options.store_dir)
        self.log.info("  Acknowledged:    %s", acknowledged)

    async def _listen(self, composition: Composition) -> None:
        options, broker = self.options, composition.broker
        if options.monitor_port:
            self._monitoring = await self._listen_for_monitoring(composition)
        accept: Accept = self._accept
        if options.websocket is not None:
            from headrace.tools.websocket_listener import listen_for_websockets  # noqa: PLC0415  (only where asked for)

            self._websocket = await listen_for_websockets(options.websocket, accept, broker)
        if self._tls is not None:
            from headrace.core.transport.tls import secured  # noqa: PLC0415  (only where it is asked for)

            accept = secured(accept, self._tls, broker.scheduler, self.log)
        try:
            self._clients = await listen(accept, options.host, options.port)
        except OSError as error:
            address = format_address(options.host, options.port)
            raise StartError(
                f'Error listening on port: {address}, "{reason_of(error)}"; choose another with --port or --addr'
            ) from error
        broker.set_listening(*_advertised(options, self._clients.port))
        if self._monitoring is not None:
            self._monitoring.monitor.client_port = self._clients.port
            if self._websocket is not None:
                self._monitoring.monitor.websocket_port = self._websocket.port
            self._monitoring.monitor.is_listening = True
        self.log.info(
            "Listening for client connections on %s", format_address(options.host, self._clients.port)
        )
        if self._tls is not None:
            is_optional = self._tls.allow_non_tls and not self._tls.is_first_only
            self.log.info("TLS %s for client connections", "available" if is_optional else "required")
            if self._tls.is_first_only:
                self.log.warning(
                    'Clients that are not using "TLS Handshake First" option will fail to connect'
                )

    def _accept(
        self, transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Receiver:
        """Take a connection; it is traced if that is asked for when it comes."""
        accept: Accept = self.composition.broker.accept
        if self.options.trace:
            from headrace.tools.trace import traced  # noqa: PLC0415  (only where it is asked for)

            accept = traced(accept, self.log)
        return accept(transport, peer_host, peer_port, link)

    async def _listen_for_monitoring(self, composition: Composition) -> _MonitorListener:
        # Imported here, as most servers in tests and embedders have no monitoring.
        from headrace.core.monitoring.http import HttpConnection  # noqa: PLC0415
        from headrace.core.monitoring.monitor import Monitor  # noqa: PLC0415
        from headrace.core.monitoring.process import OwnProcess  # noqa: PLC0415

        broker = composition.broker
        monitor = Monitor(
            broker,
            OwnProcess(broker.scheduler),
            jetstream=composition.jetstream_view,
            config_digest=self._config_digest,
        )
        monitor.is_listening = False
        connections: set[HttpConnection] = set()
        host, port = self.options.monitor_host or MONITOR_HOST, self.options.monitor_port
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: HttpConnection(monitor.handle, broker.scheduler, connections),
                host,
                max(port, 0),
                ssl=_monitoring_context(self.options),
            )
        except OSError as error:
            raise StartError(
                f"Can't start monitoring: can't listen to the monitor port: {format_address(host, port)}: "
                f"{reason_of(error)}; choose another with --http_port or --http_host"
            ) from error
        port = int(server.sockets[0].getsockname()[1])
        monitor.http_host, monitor.http_port = host, port
        scheme = "https" if self.options.monitor_is_tls else "http"
        self.log.info("Starting %s monitor on %s", scheme, format_address(host, port))
        return _MonitorListener(monitor, server, connections, host, port)

    def reconfigure(self, options: ServerOptions, *, digest: str = "") -> None:
        """Take over changed options, all or nothing; raises ConfigError, and then everything is as it was.

        Who may not be here any more is sent away; `tools/reload.py` says which options can change.
        """
        from headrace.tools.reload import ReloadRefused, plan  # noqa: PLC0415  (few servers reload)

        if self._clients is None or self._stopping is not None:
            raise ReloadRefused("the server does not run")
        planned = plan(self.options, options, port=self.port)
        self.reload_certificates(planned.options)
        self.options, self._config_digest = planned.options, digest
        for line in planned.lines:
            self.log.info("Reloaded: %s", line)
        composition = self.composition
        broker = composition.broker
        broker.set_listening(*_advertised(planned.options, self.port))
        broker.reconfigure(planned.options)
        if composition.jetstream is not None and planned.options.operator is None:
            composition.follow_accounts(planned.options)
        if composition.system is not None:
            composition.system.config_digest = digest
        if self._monitoring is not None:
            self._monitoring.monitor.config_digest = digest

    def _reload_asked(self) -> None:
        """Reload because somebody in the system account asks for it."""
        refusal = (
            "this server has no configuration file to reload" if self.on_reload is None else self.on_reload()
        )
        if refusal:
            raise RequestFailed(refusal)

    def reload_certificates(self, options: ServerOptions) -> None:
        """Read certificates and keys anew, for handshakes to come; connections stay. Raises ConfigError.

        Whether there is TLS at all cannot change; then nothing is done. A listener whose files cannot be used keeps
        those that it has.
        """
        if self._tls is not None and options.tls is not None:
            self._tls.reload(options.tls, allow_non_tls=options.allow_non_tls)
        if self._websocket is not None and options.websocket is not None:
            self._websocket.reload_certificates(options.websocket)

    # end

    def enter_lame_duck(self) -> None:
        """Take no new clients, let the others leave, then stop; see `tools/lame_duck.py`. Once."""
        if self._lame_duck is None and self._stopping is None and self._clients is not None:
            self.log.info("Entering lame duck mode, stop accepting new clients")
            self._lame_duck = asyncio.get_running_loop().create_task(self._run_lame_duck(self._clients))

    async def _run_lame_duck(self, clients: TcpListener) -> None:
        await clients.close()
        if self._websocket is not None:
            await self._websocket.close()
        LameDuck(self.composition.broker, self.request_stop).start()

    def request_stop(self) -> None:
        """Begin to stop, if that has not begun."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def stop(self) -> None:
        """Stop, or wait until a stop that has begun is over."""
        self.request_stop()
        await self._stopped.wait()

    async def wait_stopped(self) -> None:
        """Wait until the server has stopped."""
        await self._stopped.wait()

    async def _stop(self) -> None:
        try:
            if self._clients is not None:
                self.log.info("Initiating Shutdown...")
                await self._clients.close()
            if self._websocket is not None:
                await self._websocket.close()
            if self._monitoring is not None:
                self._monitoring.close()
            if self._composition is not None:
                transports = [session.connection.transport for session in self._composition.broker.sessions]
                store = self._composition.file_store
                if store is not None:
                    asyncio.get_running_loop().remove_reader(store.ready_handle)
                self._composition.close()
                await _flushed(transports)
        except HeadraceError as error:
            self.exit_code = 1
            self.log.error("The store did not close as it should: %s", error)  # noqa: TRY400  (no place in our code)
        except Exception:
            self.exit_code = 1
            self.log.exception("Internal error while stopping")
        finally:
            self._stopped.set()
        if self._clients is not None:
            self.log.info("Server Exiting..")


async def _flushed(transports: Sequence[Transport]) -> None:
    """Wait until clients have taken what was sent to them, or had their time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + FLUSH_DEADLINE_S
    # Transports have no event for this, so they are asked.
    while any(transport.pending_size for transport in transports) and loop.time() < deadline_s:  # noqa: ASYNC110
        await asyncio.sleep(_FLUSH_POLL_S)


def _advertised(options: ServerOptions, port: int) -> tuple[str, int]:
    """Give the host and port that clients are told of."""
    advertise = options.client_advertise
    if not advertise:
        return options.host, port
    host, colon, text = advertise.rpartition(":")
    if colon and text.isdecimal():
        return host.strip("[]"), int(text)
    return advertise, port


def _monitoring_context(options: ServerOptions) -> "SSLContext | None":
    """Give what monitoring needs to speak TLS, if it is to; browsers are asked for no certificate."""
    if not options.monitor_is_tls or options.tls is None:
        return None
    from headrace.core.transport.tls_context import build  # noqa: PLC0415  (only where it is asked for)

    try:
        return build(replace(options.tls, verify=False, map_users=False)).default
    except ConfigError as error:
        raise StartError(str(error)) from error


def _tls_front(options: ServerOptions) -> "TlsFront | None":
    if options.tls is None:
        return None
    from headrace.core.transport.tls import TlsFront  # noqa: PLC0415  (only where it is asked for)

    try:
        return TlsFront(options.tls, allow_non_tls=options.allow_non_tls)
    except ConfigError as error:
        raise StartError(str(error)) from error


def _url_fetcher(options: ServerOptions, log: logging.Logger) -> FetchUrl | None:
    """Give the means to ask a web server for accounts, where the configuration names one."""
    if options.operator is None or options.operator.resolver.kind is not ResolverKind.URL:
        return None
    from headrace.core.transport.url_fetch import UrlFetcher  # noqa: PLC0415  (only with a URL resolver)

    return UrlFetcher(log).fetch


def _reachable(host: str) -> str:
    """Give an address that reaches a listener on `host` from this machine."""
    return "127.0.0.1" if host in _EVERYWHERE else host


def reason_of(error: OSError) -> str:
    """Say in a few words why one cannot listen."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    if error.errno is None:
        return str(error).lower()
    return os.strerror(error.errno).lower()
