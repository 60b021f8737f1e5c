"""Campaigns about many clients: thousands that all talk at once, and clients that come and go without end.

Each returns rows of (what, figure, pass). The clients are bare protocols in this process, so that the server is what
is measured.
"""

import asyncio
import os
import time
from typing import Final, Self, cast

from headrace.tools.launch import Program, RunningServer, Settings
from headrace.tools.selftest.growth import Row

OPENED_AT_ONCE: Final = 100
ROUND_TIMEOUT_S: Final = 120.0
CHURN_CLIENTS: Final = 50
CHURN_GROWTH_MAX: Final = 8 * 1024 * 1024
CLOSED_REMEMBERED: Final = 100
"""Closed connections that the server remembers meanwhile, so that this memory is full at once."""


class _Client(asyncio.Protocol):
    """Counts messages, answers PING, and notes what goes wrong."""

    def __init__(self) -> None:
        self.messages = 0
        self.errors: list[str] = []
        self.is_closed = False
        self._wanted = 0
        self._reached: asyncio.Future[None] | None = None
        self.ponged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def opened(cls, server: RunningServer) -> Self:
        """Connect, and wait for the first PONG."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, server.host, server.port)
        client.send(b'CONNECT {"verbose":false}\r\n')
        await client.flush()
        return client

    async def flush(self) -> None:
        """Wait until the server has taken what was sent."""
        self.ponged = asyncio.get_running_loop().create_future()
        self.send(b"PING\r\n")
        await asyncio.wait_for(self.ponged, ROUND_TIMEOUT_S)

    def send(self, data: bytes) -> None:
        assert self._transport is not None, "connected before it sends"
        self._transport.write(data)

    async def wait_for(self, messages: int) -> None:
        """Wait until so many messages have come, or the connection has gone."""
        if self.messages < messages and not self.is_closed:
            self._wanted = messages
            self._reached = asyncio.get_running_loop().create_future()
            await self._reached

    def close(self) -> None:
        assert self._transport is not None, "connected before it closes"
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line.startswith(b"MSG "):
                self.messages += 1
            elif line == b"PING":
                self.send(b"PONG\r\n")
            elif line == b"PONG" and not self.ponged.done():
                self.ponged.set_result(None)
            elif line.startswith(b"-ERR"):
                self.errors.append(line.decode(errors="replace"))
        if self.messages >= self._wanted:
            self._tell()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (that it went is what counts)
        self.is_closed = True
        self._tell()

    def _tell(self) -> None:
        if self._reached is not None and not self._reached.done():
            self._reached.set_result(None)


def connections(program: Program, count: int, subscriptions: int, rounds: int) -> list[Row]:
    """Let `count` clients with so many subscriptions each all talk to one another: none dropped, none starved."""
    with RunningServer(program, Settings(config=f"max_connections: {count + 10}")) as server:
        server.start()
        return asyncio.run(_talk(server, count, subscriptions, rounds))


async def _talk(server: RunningServer, count: int, subscriptions: int, rounds: int) -> list[Row]:
    base = server.memory_size()
    clients: list[_Client] = []
    while len(clients) < count:
        batch = min(OPENED_AT_ONCE, count - len(clients))
        clients += await asyncio.gather(*(_Client.opened(server) for _ in range(batch)))
    for number, client in enumerate(clients):
        client.send(b"".join(b"SUB c.%d.%d %d\r\n" % (number, one, one) for one in range(subscriptions)))
    await asyncio.gather(*(client.flush() for client in clients))
    idle = server.memory_size()
    slowest_s = 0.0
    starved = 0
    for turn in range(rounds):
        began_s = time.monotonic()
        for number, client in enumerate(clients):
            peer = (number + 1 + turn) % count
            client.send(b"".join(b"PUB c.%d.%d 1\r\nx\r\n" % (peer, one) for one in range(subscriptions)))
        wanted = subscriptions * (turn + 1)
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            await asyncio.gather(*(client.wait_for(wanted) for client in clients))
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        starved += sum(client.messages != wanted for client in clients)
    dropped = sum(client.is_closed or bool(client.errors) for client in clients)
    for client in clients:
        client.close()
    return [
        Row("connections", f"{count:,}", passed=True),
        Row("subscriptions", f"{count * subscriptions:,}", passed=True),
        Row("messages", f"{count * subscriptions * rounds:,}", passed=True),
        Row("connections dropped", f"{dropped:,}", passed=dropped == 0),
        Row("connections without all their messages", f"{starved:,}", passed=starved == 0),
        Row("slowest round", f"{slowest_s:.2f} s", passed=True),
        Row("memory of a connection", f"{(idle - base) / count / 1024:.1f} KiB", passed=True),
    ]


def churn(program: Program, seconds: float) -> list[Row]:
    """Let clients come and go: memory and descriptors stay flat after the first quarter."""
    with RunningServer(program, Settings(config=f"max_closed_clients: {CLOSED_REMEMBERED}")) as server:
        server.start()
        return asyncio.run(_come_and_go(server, seconds))


async def _come_and_go(server: RunningServer, seconds: float) -> list[Row]:
    samples: list[tuple[int, int]] = []
    came = 0
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        clients = await asyncio.gather(*(_Client.opened(server) for _ in range(CHURN_CLIENTS)))
        for number, client in enumerate(clients):
            client.send(b"SUB churn.%d 1\r\nPUB churn.%d 1\r\nx\r\n" % (came + number, came + number))
        await asyncio.gather(*(client.wait_for(1) for client in clients))
        samples.append((server.memory_size(), _open_files(server.pid)))
        for client in clients:
            client.close()
        came += len(clients)
    settled = samples[len(samples) // 4 :]
    growth = max(memory for memory, _ in settled) - settled[0][0]
    files = [count for _, count in settled]
    return [
        Row("connections that came and went", f"{came:,}", passed=True),
        Row("a second", f"{came / seconds:,.0f}", passed=True),
        Row(
            "growth after the first quarter",
            f"{growth / 1024 / 1024:.1f} MiB",
            passed=growth <= CHURN_GROWTH_MAX,
        ),
        Row("open files, at least and at most", f"{min(files)} to {max(files)}", passed=_is_flat(files)),
    ]


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # not Linux
        return 0


def _is_flat(files: list[int]) -> bool:
    """Tell whether no more are open than two batches explain: one may still be closing."""
    return max(files) - min(files) <= 2 * CHURN_CLIENTS
