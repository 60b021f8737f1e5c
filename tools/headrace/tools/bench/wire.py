"""The load generator's end of a connection: blocking sockets, big buffers, and checks that cost a memcmp.

What a server sends under load is known beforehand, byte for byte, or at least line for line. So nothing is parsed:
`Pattern` compares whole chunks with what has to come, `AnswerCounter` counts ends of lines. A server's own PING may
stand between two messages anywhere; both allow for it.
"""

import json
import socket
from typing import Any, Final, Self

from headrace.core.base.errors import HeadraceError

TIMEOUT_S: Final = 20.0
CHUNK_SIZE: Final = 256 * 1024
SOCKET_BUFFER_SIZE: Final = 4 * 1024 * 1024
PING: Final = b"PING\r\n"
CONNECT: Final = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":0}\r\n'
)


class BenchError(HeadraceError):
    """A server did not deliver what was asked of it: the measurement is void."""


class Wire:
    """One connection, past its handshake."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_SIZE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_SIZE)
        self._request_count = 0
        greeting = self.receive()
        while not greeting.endswith(b"\n"):
            greeting += self.receive()
        self.send(CONNECT)
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | memoryview) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """Give what is there, at least one byte; raises BenchError where the server closes."""
        chunk = self.socket.recv(CHUNK_SIZE)
        if not chunk:
            raise BenchError("the server closed the connection")
        return chunk

    def settle(self) -> None:
        """Wait until the server has handled all that was sent; nothing but its PONG may come."""
        self.send(PING)
        answer = b""
        while not answer.endswith(b"PONG\r\n"):
            answer += self.receive()
        rest = answer.removesuffix(b"PONG\r\n").replace(PING, b"")
        if rest:
            raise BenchError(f"expected PONG, found {rest[:200]!r}")

    def request(self, subject: str, body: object = None) -> dict[str, Any]:
        """Ask, and give the JSON answer; raises BenchError for an error answer. No subscription may be busy."""
        self._request_count += 1
        inbox = f"_INBOX.ask.{self._request_count}"
        payload = b"" if body is None else json.dumps(body).encode()
        self.send(
            f"SUB {inbox} ask\r\nUNSUB ask 1\r\nPUB {subject} {inbox} {len(payload)}\r\n".encode()
            + payload
            + b"\r\n"
        )
        data = b""
        while True:
            data = (data + self.receive()).replace(PING, b"")
            line, found, rest = data.partition(b"\r\n")
            if not found:
                continue
            if not line.startswith(b"MSG "):
                raise BenchError(f"{subject}: expected an answer, found {line!r}")
            size = int(line.split()[-1])
            if len(rest) >= size + 2:
                break
        answer: dict[str, Any] = json.loads(rest[:size])
        if "error" in answer:
            raise BenchError(f"{subject}: {answer['error']}")
        return answer


class Pattern:
    """Checks that a stream of bytes repeats `period` again and again, every byte of it."""

    def __init__(self, period: bytes) -> None:
        self._period_size = len(period)
        # long enough that a whole chunk can be compared from any offset within the first period
        self._text = period * (2 + CHUNK_SIZE // len(period))
        self._offset = 0
        self._held = b""
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        """Take what was received next; raises BenchError where it is not what has to come."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if len(chunk) <= CHUNK_SIZE and self._text.startswith(chunk, self._offset):
            self._advance(len(chunk))
        else:
            self._feed_slowly(chunk)

    def _advance(self, size: int) -> None:
        self.size += size
        self._offset = (self._offset + size) % self._period_size

    def _feed_slowly(self, chunk: bytes) -> None:
        """Take a chunk with a PING in it, or a part of one at its end."""
        before, found, after = chunk.partition(PING)
        if found:
            self._must_match(before)
            if after:
                self.feed(after)
            return
        for size in range(len(PING) - 1, 0, -1):
            if chunk.endswith(PING[:size]) and not self._matches(chunk):
                self._must_match(chunk[:-size])
                self._held = chunk[-size:]
                return
        self._must_match(chunk)

    def _matches(self, chunk: bytes) -> bool:
        return all(
            self._text.startswith(chunk[at : at + CHUNK_SIZE], (self._offset + at) % self._period_size)
            for at in range(0, len(chunk), CHUNK_SIZE)
        )

    def _must_match(self, chunk: bytes) -> None:
        if not self._matches(chunk):
            wanted = self._text[self._offset : self._offset + 200]
            raise BenchError(f"after {self.size} bytes expected {wanted!r}, found {chunk[:200]!r}")
        self._advance(len(chunk))


class AnswerCounter:
    """Counts one-line messages (`MSG ...` and a payload without a line's end) in a stream of bytes."""

    def __init__(self) -> None:
        self._lines = 0
        self._tail = b""

    @property
    def count(self) -> int:
        """Messages whose last byte has come."""
        return self._lines // 2

    def feed(self, chunk: bytes) -> None:
        """Take what was received next; raises BenchError for an error among it."""
        searched = self._tail + chunk
        self._lines += chunk.count(b"\n") - searched.count(PING)
        # shorter than PING, so that none is counted twice
        self._tail = chunk[-5:] if len(chunk) >= 5 else searched[-5:]
        if b'"error"' in chunk or b"-ERR" in chunk:
            raise BenchError(f"the server refuses: {chunk[:300]!r}")
