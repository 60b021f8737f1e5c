"""A publisher that costs little: pre-encoded chunks over one socket, acks counted without being parsed."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from headrace.core.base.errors import HeadraceError

TIMEOUT_S: Final = 30.0
CHUNK_MESSAGES: Final = 500
ACK_MARK: Final = b'"seq":'
ERROR_MARK: Final = b'"error":'
READ_SIZE: Final = 1 << 18


class LoadFailed(HeadraceError):
    """The server did not answer as it should."""


class Publisher:
    """One connection that publishes, and may wait for pub acks.

    `acked` and `refused` count the answers; a refusal is a pub ack with an error.
    """

    def __init__(self, host: str, port: int, name: str = "load") -> None:
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = f"_INBOX.{name}{time.monotonic_ns():x}".encode()
        self._tail = b""
        self._received = 0
        self.sent = 0
        self.acked = 0
        self.refused = 0
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 0}
        self._socket.sendall(
            b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (json.dumps(options).encode(), self._inbox)
        )
        self._until(b"PONG\r\n")

    def close(self) -> None:
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            chunk = self._socket.recv(READ_SIZE)
            if not chunk:
                raise LoadFailed(f"the server closed the connection; it had sent {data[-200:]!r}")
            data += chunk
        return data

    def flush(self) -> None:
        """Wait until the server has parsed all that was sent."""
        self._socket.sendall(b"PING\r\n")
        self._until(b"PONG\r\n")

    def request(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the JetStream API. Only while no acks are outstanding."""
        payload = json.dumps(body).encode() if body else b""
        self._socket.sendall(
            b"PUB $JS.API.%b %b.api %d\r\n%b\r\n" % (subject.encode(), self._inbox, len(payload), payload)
        )
        data = b""
        while True:
            data += self._until(b"\r\n")
            line, _, rest = data.partition(b"\r\n")
            words = line.split()
            if words[0] == b"HMSG":
                raise LoadFailed(f"{subject}: no responders")
            size = int(words[-1])
            while len(rest) < size + 2:
                rest += self._socket.recv(READ_SIZE)
            answer: dict[str, Any] = json.loads(rest[:size])
            if "error" in answer:
                raise LoadFailed(f"{subject}: {answer['error']['description']}")
            return answer

    def publish(self, subjects: Iterator[bytes], payload: bytes, count: int) -> None:
        """Publish without asking for acks."""
        for size in _parts(count):
            self._socket.sendall(
                b"".join(
                    b"PUB %b %d\r\n%b\r\n" % (next(subjects), len(payload), payload) for _ in range(size)
                )
            )
            self.sent += size

    def publish_acked(self, subjects: Iterator[bytes], payload: bytes, count: int, window: int) -> None:
        """Publish `count` messages, at most about `window` of them unanswered, and wait for all answers."""
        for size in _parts(count, min(CHUNK_MESSAGES, window)):
            first = self.sent
            self._socket.sendall(
                b"".join(
                    b"PUB %b %b.%d %d\r\n%b\r\n"
                    % (next(subjects), self._inbox, number, len(payload), payload)
                    for number in range(first, first + size)
                )
            )
            self.sent += size
            self._await_answers(self.sent - max(0, window - size))
        self._await_answers(self.sent)

    def _await_answers(self, count: int) -> None:
        while self.acked + self.refused < count:
            chunk = self._socket.recv(READ_SIZE)
            if not chunk:
                raise LoadFailed("the server closed the connection")
            data = self._tail + chunk
            # a refusal holds both marks: it says "seq":0
            refused = data.count(ERROR_MARK) - self._tail.count(ERROR_MARK)
            answers = data.count(ACK_MARK) - self._tail.count(ACK_MARK)
            self.refused += refused
            self.acked += answers - refused
            self._tail = data[-(len(ERROR_MARK) - 1) :]


def _parts(count: int, size: int = CHUNK_MESSAGES) -> Iterator[int]:
    while count > 0:
        yield min(size, count)
        count -= size
