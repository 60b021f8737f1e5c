"""The WebSocket listener of a server: its layers put together, and what the log says of it. Loaded where asked for."""

from headrace.core.broker import Broker
from headrace.core.config.values import format_address
from headrace.core.errors import ConfigError
from headrace.core.options import WebsocketOptions
from headrace.core.transport.tcp import Accept, TcpListener, listen
from headrace.core.transport.tls import TlsFront, secured
from headrace.core.transport.websocket import WebSocketFront
from headrace.tools.compose import StartError


class WebSocketListener:
    """What listens. `scheme`, `host` and `port` say where."""

    def __init__(self, listener: TcpListener, front: WebSocketFront, tls: TlsFront | None) -> None:
        self._listener = listener
        self._front = front
        self._tls = tls
        self.scheme = "ws" if tls is None else "wss"
        self.host = front.options.host
        self.port = listener.port

    def reload_certificates(self, options: WebsocketOptions) -> None:
        """Read certificates and keys anew, for handshakes to come. Raises ConfigError; then nothing has changed."""
        if self._tls is not None and options.tls is not None:
            self._tls.reload(options.tls)

    async def close(self) -> None:
        """Accept no more; clients stay, and who has not asked yet goes."""
        await self._listener.close()
        self._front.close()


async def listen_for_websockets(
    options: WebsocketOptions, accept: Accept, broker: Broker
) -> WebSocketListener:
    """Listen, and hand clients to `accept`; raises StartError."""
    log, scheduler = broker.log, broker.scheduler
    tls = None
    try:
        if options.tls is not None:
            tls = TlsFront(options.tls)
    except ConfigError as error:
        raise StartError(str(error)) from error
    front = WebSocketFront(
        options,
        accept,
        scheduler,
        log,
        max_payload=broker.options.max_payload,
        tls_verify=broker.options.tls is not None and broker.options.tls.verify,
    )
    entrance: Accept = front.accept
    if tls is not None:
        entrance = secured(entrance, tls, scheduler, log, prefix="websocket: ")
    try:
        listener = await listen(entrance, options.host, options.port)
    except OSError as error:
        raise StartError(
            f"Unable to listen for websocket connections: {format_address(options.host, options.port)}: "
            f"{(error.strerror or str(error)).lower()}"
        ) from error
    front.port = listener.port
    scheme = "ws" if tls is None else "wss"
    log.info(
        "Listening for websocket clients on %s://%s", scheme, format_address(options.host, listener.port)
    )
    if tls is None:
        log.warning("Websocket not configured with TLS. DO NOT USE IN PRODUCTION!")
    return WebSocketListener(listener, front, tls)
