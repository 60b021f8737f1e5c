"""TCP: an asyncio protocol for each connection, and a listener. Whatever loop runs it, uvloop or asyncio's own.

The loop's write buffer limits are zero: `pause_writing` then means "the operating system takes no more" and
`resume_writing` "everything has gone", which is what the session's deadlines and stalls are about. A close waits at
most CLOSE_DEADLINE_S for what is still queued.
"""

import asyncio
import contextlib
import socket
from typing import Final, Protocol, cast

from headrace.core.engine.interface import Transport
from headrace.core.link import Link

CLOSE_DEADLINE_S: Final = 2.0
BACKLOG: Final = 1024

_UNSPECIFIED: Final = ("", "0.0.0.0", "::")
_MAPPED_PREFIX: Final = "::ffff:"


class Receiver(Protocol):
    """Who is told what happens on a connection: a session."""

    def receive(self, chunk: bytes | memoryview) -> None: ...

    def on_full(self) -> None: ...

    def on_drained(self) -> None: ...

    def on_closed(self, reason: str) -> None: ...


class Accept(Protocol):
    """Who takes new connections: a broker, or a layer that puts itself between. No link: there is no such layer."""

    def __call__(
        self, transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Receiver: ...


class TcpConnection(asyncio.Protocol):
    """One connection: the loop's protocol on one side, the engine's `Transport` on the other."""

    def __init__(self, accept: Accept, loop: asyncio.AbstractEventLoop) -> None:
        self._accept = accept
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self.written_size = 0

    # from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, but keep its contract.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = transport.get_extra_info("peername") or ("", 0)
        self._receiver = self._accept(self, str(peer[0]).removeprefix(_MAPPED_PREFIX), int(peer[1]))

    def data_received(self, data: bytes) -> None:
        assert self._receiver is not None, "accepted when the connection was made"
        self._receiver.receive(data)

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.on_full()

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._transport = None
        if self._receiver is not None:
            self._receiver.on_closed("Client Closed" if exc is None else "Read Error")

    # for the engine and the session

    @property
    def pending_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.written_size += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, reason: str = "") -> None:  # noqa: ARG002  (a byte stream cannot say why it ends)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            self._close_timer = self._loop.call_later(CLOSE_DEADLINE_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class TcpListener:
    """Accepts connections on one address."""

    def __init__(self, server: asyncio.Server, host: str, port: int) -> None:
        self._server = server
        self.host = host
        self.port = port

    async def close(self) -> None:
        """Accept no more; connections stay."""
        self._server.close()


async def listen(accept: Accept, host: str, port: int) -> TcpListener:
    """Listen on `host` and `port`; -1 or 0: any free port. OSError if that cannot be.

    An unspecified host listens on IPv4 and IPv6 alike, as the reference does.
    """
    loop = asyncio.get_running_loop()
    sock = _bound_socket(host, max(port, 0))
    try:
        server = await loop.create_server(lambda: TcpConnection(accept, loop), sock=sock, backlog=BACKLOG)
    except BaseException:
        sock.close()
        raise
    return TcpListener(server, host, int(sock.getsockname()[1]))


def _bound_socket(host: str, port: int) -> socket.socket:
    if host in _UNSPECIFIED:
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(
                    ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
                )
            except OSError as error:
                if error.errno in _IN_USE:
                    raise
        return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)


_IN_USE: Final = frozenset({13, 98, 48, 10048, 10013})
"""Errors that mean this port, not this address family: access denied, address in use."""
