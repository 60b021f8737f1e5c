"""A connection without a socket, for virtual time: bytes go from one end to the other when the scheduler says so.

The server's end is a `Transport`; the client's end sends, and keeps what it received until somebody looks. A client
that stops reading makes the server's output pend, as a full socket would.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from headrace.core.base.clock import Scheduler
from headrace.core.transport.tcp import Accept, Receiver

SOCKET_SIZE: Final = 64 * 1024
"""What a client that does not read leaves room for, as a socket's buffers would, bytes."""


class _Broker(Protocol):
    @property
    def accept(self) -> Accept: ...


class MemoryTransport:
    """The server's end."""

    def __init__(self, scheduler: Scheduler, client: "MemoryClient") -> None:
        self._scheduler = scheduler
        self._client = client
        self._unsent: deque[bytes] = deque()
        self._is_closing = False
        self._is_full = False
        self.pending_size = 0
        self.written_size = 0
        self.is_paused = False
        self.receiver: Receiver | None = None

    def write(self, data: bytes) -> None:
        if self._is_closing or self._client.is_closed:
            return
        self.written_size += len(data)
        self.pending_size += len(data)
        self._unsent.append(data)
        self.drain()
        if self.pending_size and not self._is_full:
            self._is_full = True
            if self.receiver is not None:
                self._scheduler.call_soon(self.receiver.on_full)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        self._scheduler.call_soon(self._client.push)

    def close(self, reason: str = "") -> None:  # noqa: ARG002  (a byte stream cannot say why it ends)
        self._is_closing = True
        if not self.pending_size:
            self._client.is_closed = True

    def abort(self) -> None:
        self._is_closing = True
        self._unsent.clear()
        self.pending_size = 0
        self._client.is_closed = True

    def drain(self) -> None:
        """Hand over what the client has room for."""
        while self._unsent and self._client.room > 0:
            data = self._unsent.popleft()
            taken = data[: self._client.room]
            self.pending_size -= len(taken)
            self._client.take_in(taken)
            if len(taken) < len(data):
                self._unsent.appendleft(data[len(taken) :])
        if self.pending_size:
            return
        if self._is_closing:
            self._client.is_closed = True
        elif self._is_full:
            self._is_full = False
            if self.receiver is not None:
                self._scheduler.call_soon(self.receiver.on_drained)


class MemoryClient:
    """The client's end. `is_closed`: the server has closed the connection and all it sent has arrived."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._received = bytearray()
        self._to_send: deque[bytes] = deque()
        self._is_reading = True
        self.transport = MemoryTransport(scheduler, self)
        self.is_closed = False
        self.on_arrival: Callable[[], None] | None = None
        """Called in the turn after bytes have arrived."""

    @property
    def room(self) -> int:
        """Bytes it can be sent now."""
        return 1 << 62 if self._is_reading else SOCKET_SIZE - len(self._received)

    def send(self, data: bytes) -> None:
        """Send bytes to the server; they arrive in the next turn."""
        self._to_send.append(data)
        self._scheduler.call_soon(self.push)

    def received(self) -> bytes:
        """Take what has arrived since the last call."""
        data = bytes(self._received)
        self._received.clear()
        self.transport.drain()
        return data

    def stop_reading(self) -> None:
        """Read no more: the server's output pends once SOCKET_SIZE has arrived."""
        self._is_reading = False

    def start_reading(self) -> None:
        self._is_reading = True
        self.transport.drain()

    def close(self) -> None:
        """Hang up."""
        if not self.is_closed:
            self.is_closed = True
            self._scheduler.call_soon(self._hang_up)

    def push(self) -> None:
        """Let the server receive what was sent, unless it has stopped reading."""
        while self._to_send and not self.transport.is_paused and not self.is_closed:
            assert self.transport.receiver is not None, "connected before it sends"
            self.transport.receiver.receive(self._to_send.popleft())

    def take_in(self, data: bytes) -> None:
        self._received += data
        if self.on_arrival is not None:
            self._scheduler.call_soon(self.on_arrival)

    def _hang_up(self) -> None:
        if self.transport.receiver is not None:
            self.transport.receiver.on_closed("Client Closed")


def connect(
    broker: _Broker, scheduler: Scheduler, peer_host: str = "127.0.0.1", peer_port: int = 50_000
) -> MemoryClient:
    """Make a connection to a broker."""
    client = MemoryClient(scheduler)
    client.transport.receiver = broker.accept(client.transport, peer_host, peer_port)
    return client
