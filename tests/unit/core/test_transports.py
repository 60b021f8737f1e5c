"""The transports: in memory, and TCP on a loopback port."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from headrace.core.base.clock import VirtualScheduler
from headrace.core.engine.interface import Transport
from headrace.core.transport import memory, tcp


class Receiver:
    """Keeps what a transport tells."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.told: list[str] = []
        self.transport: Transport | None = None
        self.peer = ("", 0)

    def accept(self, transport: Transport, host: str, port: int) -> "Receiver":
        self.transport = transport
        self.peer = (host, port)
        return self

    def receive(self, chunk: bytes | memoryview) -> None:
        self.data += chunk

    def on_full(self) -> None:
        self.told.append("full")

    def on_drained(self) -> None:
        self.told.append("drained")

    def on_closed(self, reason: str) -> None:
        self.told.append(reason)


def pair() -> tuple[VirtualScheduler, Receiver, memory.MemoryClient]:
    scheduler = VirtualScheduler()
    receiver = Receiver()
    return scheduler, receiver, memory.connect(receiver, scheduler)


def test_memory_carries_bytes_both_ways_when_the_scheduler_runs() -> None:
    scheduler, receiver, client = pair()
    client.send(b"a")
    client.send(b"b")
    assert not receiver.data
    scheduler.settle()
    assert receiver.data == b"ab"
    client.transport.write(b"c")
    assert client.received() == b"c"
    assert client.transport.written_size == 1


def test_memory_keeps_back_what_a_paused_server_does_not_read() -> None:
    scheduler, receiver, client = pair()
    client.transport.pause_reading()
    client.send(b"a")
    scheduler.settle()
    assert not receiver.data
    client.transport.resume_reading()
    scheduler.settle()
    assert receiver.data == b"a"


def test_memory_fills_up_like_a_socket_and_says_when_it_has_drained() -> None:
    scheduler, receiver, client = pair()
    client.stop_reading()
    client.transport.write(b"x" * (memory.SOCKET_SIZE + 10))
    scheduler.settle()
    assert client.transport.pending_size == 10
    assert receiver.told == ["full"]
    client.start_reading()
    scheduler.settle()
    assert receiver.told == ["full", "drained"]
    assert len(client.received()) == memory.SOCKET_SIZE + 10


def test_memory_closes_once_everything_was_taken_and_aborts_at_once() -> None:
    scheduler, receiver, client = pair()
    client.stop_reading()
    client.transport.write(b"x" * (memory.SOCKET_SIZE + 10))
    client.transport.close()
    assert not client.is_closed
    client.transport.write(b"lost")
    client.start_reading()
    assert client.is_closed
    scheduler, receiver, client = pair()
    client.transport.abort()
    assert client.is_closed
    scheduler, receiver, client = pair()
    client.close()
    client.close()
    scheduler.settle()
    assert receiver.told == ["Client Closed"]


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for one in opened:
        one.close()


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("did not happen within two seconds")


async def connect(address: tuple[str, int], sockets: list[socket.socket]) -> socket.socket:
    client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sockets.append(client)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, address)
    return client


async def test_tcp_carries_bytes_both_ways_and_tells_the_end(sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    listener = await tcp.listen(receiver.accept, "127.0.0.1", -1)
    client = await connect(("127.0.0.1", listener.port), sockets)
    await loop.sock_sendall(client, b"ping")
    await until(lambda: receiver.data == b"ping")
    assert receiver.peer == client.getsockname()
    assert receiver.transport is not None
    receiver.transport.write(b"pong")
    assert await loop.sock_recv(client, 10) == b"pong"
    assert (receiver.transport.written_size, receiver.transport.pending_size) == (4, 0)
    client.close()
    await until(lambda: receiver.told == ["Client Closed"])
    receiver.transport.write(b"nobody")
    receiver.transport.close()
    assert receiver.transport.pending_size == 0
    await listener.close()


async def test_tcp_sends_what_is_queued_before_it_closes(sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    listener = await tcp.listen(receiver.accept, "127.0.0.1", 0)
    client = await connect(("127.0.0.1", listener.port), sockets)
    await until(lambda: receiver.transport is not None)
    assert receiver.transport is not None
    receiver.transport.write(b"x" * 5_000_000)
    await until(lambda: receiver.told == ["full"])
    assert receiver.transport.pending_size > 0
    receiver.transport.close()
    got = 0
    while chunk := await loop.sock_recv(client, 1_000_000):
        got += len(chunk)
    assert got == 5_000_000
    await until(lambda: "Client Closed" in receiver.told)
    await listener.close()


async def test_tcp_pauses_aborts_and_reports_a_drained_buffer(sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    listener = await tcp.listen(receiver.accept, "127.0.0.1", 0)
    client = await connect(("127.0.0.1", listener.port), sockets)
    await until(lambda: receiver.transport is not None)
    assert receiver.transport is not None
    receiver.transport.pause_reading()
    await loop.sock_sendall(client, b"later")
    await asyncio.sleep(0.02)
    assert not receiver.data
    receiver.transport.resume_reading()
    await until(lambda: receiver.data == b"later")
    receiver.transport.write(b"x" * 5_000_000)
    await until(lambda: receiver.told == ["full"])
    got = 0
    while got < 5_000_000:
        got += len(await loop.sock_recv(client, 1_000_000))
    await until(lambda: receiver.told == ["full", "drained"])
    receiver.transport.abort()
    await until(lambda: len(receiver.told) == 3)
    await listener.close()


async def test_an_unspecified_host_takes_both_address_families(sockets: list[socket.socket]) -> None:
    receiver = Receiver()
    listener = await tcp.listen(receiver.accept, "0.0.0.0", 0)
    await connect(("127.0.0.1", listener.port), sockets)
    await until(lambda: receiver.peer[0] == "127.0.0.1")
    if socket.has_dualstack_ipv6():
        first = receiver.transport
        await connect(("::1", listener.port), sockets)
        await until(lambda: receiver.peer[0] == "::1")
        assert first is not None
        first.abort()
    assert receiver.transport is not None
    receiver.transport.abort()
    await until(lambda: len(receiver.told) == (2 if socket.has_dualstack_ipv6() else 1))
    await listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_port_that_is_taken_is_an_error(host: str) -> None:
    receiver = Receiver()
    listener = await tcp.listen(receiver.accept, host, 0)
    with pytest.raises(OSError, match="in use"):
        await tcp.listen(receiver.accept, host, listener.port)
    await listener.close()
