"""A client of a virtual server: raw bytes where a test is about the protocol, a few words where it is not."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from headrace.core.base.errors import HeadraceError
from headrace.core.transport.memory import MemoryClient
from headrace.tools.frames import Frame, FrameParser

REQUEST_TIMEOUT_S: Final = 5.0
REQUEST_STEP_S: Final = 0.01
CONNECT: Final[dict[str, Any]] = {
    "verbose": False,
    "pedantic": False,
    "protocol": 1,
    "headers": True,
    "no_responders": True,
    "lang": "python",
    "name": "virtual",
}


class NoAnswer(HeadraceError):
    """A request was not answered in its (virtual) time."""


class Refused(HeadraceError):
    """A JetStream request was refused; `code`, `err_code` and `description` are the server's."""

    def __init__(self, subject: str, error: dict[str, Any]) -> None:
        super().__init__(f"{subject}: {error['description']} ({error.get('err_code', error['code'])})")
        self.code: int = error["code"]
        self.err_code: int = error.get("err_code", 0)
        self.description: str = error["description"]


class _Time(Protocol):
    def settle(self) -> None: ...

    def advance(self, seconds: float) -> None: ...


class VirtualSubscription:
    """What came to one subscription and was not taken yet."""

    def __init__(self, sid: str, collect: Callable[[], None]) -> None:
        self.sid = sid
        self._collect = collect
        self.waiting: deque[Frame] = deque()

    def take(self) -> list[Frame]:
        """Give everything that has come since the last call."""
        self._collect()
        taken = list(self.waiting)
        self.waiting.clear()
        return taken

    def payloads(self) -> list[bytes]:
        """Give the payloads of everything that has come since the last call."""
        return [frame.payload for frame in self.take()]


class VirtualClient:
    """One connection. Every act lets the server handle it at once; only `advance` of the server lets time pass.

    `record`: set to a bytearray, it gathers every byte that comes. `answers_pings` off: the server's PINGs are frames.
    """

    def __init__(self, wire: MemoryClient, time: _Time, arguments: dict[str, Any] | None) -> None:
        self.wire = wire
        self.answers_pings = True
        self.record: bytearray | None = None
        self._time = time
        self._parser = FrameParser()
        self._frames: list[Frame] = []
        self._subscriptions: dict[str, VirtualSubscription] = {}
        self._sid_count = 0
        wire.on_arrival = self._collect
        if arguments is not None:
            self.send(f"CONNECT {json.dumps({**CONNECT, **arguments})}\r\nPING\r\n".encode())

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection, or `close` did."""
        return self.wire.is_closed

    # bytes

    def send(self, data: bytes) -> None:
        """Send bytes, and let the server handle them."""
        self.wire.send(data)
        self._time.settle()

    def frames(self) -> list[Frame]:
        """Take the frames that have come and belong to no subscription made with `subscribe`."""
        self._collect()
        frames, self._frames = self._frames, []
        return frames

    def _collect(self) -> None:
        while data := self.wire.received():
            if self.record is not None:
                self.record += data
            pinged = False
            for frame in self._parser.feed(data):
                subscription = self._subscriptions.get(frame.sid)
                if subscription is not None:
                    subscription.waiting.append(frame)
                elif frame.operation == "PING" and self.answers_pings:
                    pinged = True
                else:
                    self._frames.append(frame)
            if pinged:
                self.wire.send(b"PONG\r\n")

    def close(self) -> None:
        """Hang up."""
        self.wire.close()
        self._time.settle()

    # messages

    def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish one message."""
        self.publish_all([(subject, payload)], reply=reply, headers=headers)

    def publish_all(
        self, messages: Iterable[tuple[str, bytes]], *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish many messages, which the server receives in one turn."""
        block = _header_block(headers)
        self.send(b"".join(_encode(subject, reply, block, payload) for subject, payload in messages))

    def subscribe(self, subject: str, *, queue: str = "", limit: int = 0) -> VirtualSubscription:
        """Subscribe; with `limit`, to so many messages only."""
        self._sid_count += 1
        sid = str(self._sid_count)
        subscription = VirtualSubscription(sid, self._collect)
        self._subscriptions[sid] = subscription
        command = f"SUB {subject} {queue} {sid}\r\n"
        if limit:
            command += f"UNSUB {sid} {limit}\r\n"
        self.send(command.encode())
        return subscription

    def unsubscribe(self, subscription: VirtualSubscription) -> None:
        self.send(f"UNSUB {subscription.sid}\r\n".encode())

    def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Frame:
        """Publish with a reply subject and give the first answer, letting time pass until it comes.

        The answer may be a status, such as `503` where nobody takes the subject. Raises NoAnswer.
        """
        inbox = f"_INBOX.virtual.{self._sid_count + 1}"
        subscription = self.subscribe(inbox, limit=1)
        self.publish(subject, payload, reply=inbox, headers=headers)
        waited_s = 0.0
        while not (answers := subscription.take()):
            if waited_s >= timeout_s or self.is_closed:
                raise NoAnswer(f"{subject}: no answer within {timeout_s:g} s")
            self._time.advance(REQUEST_STEP_S)
            waited_s += REQUEST_STEP_S
        del self._subscriptions[subscription.sid]
        return answers[0]

    # JetStream

    def api(self, endpoint: str, body: object = None) -> dict[str, Any]:
        """Ask `$JS.API.<endpoint>` and give the answer; raises Refused, NoAnswer."""
        subject = f"$JS.API.{endpoint}"
        return self._answer(subject, b"" if body is None else json.dumps(body).encode(), None)

    def store(self, subject: str, payload: bytes = b"", *, headers: dict[str, str] | None = None) -> int:
        """Publish to a stream, wait for its ack and give the sequence; raises Refused, NoAnswer."""
        sequence: int = self._answer(subject, payload, headers)["seq"]
        return sequence

    def _answer(self, subject: str, payload: bytes, headers: dict[str, str] | None) -> dict[str, Any]:
        frame = self.request(subject, payload, headers=headers)
        if not frame.payload:
            raise NoAnswer(f"{subject}: {frame.status or 'an empty answer'}")
        answer: dict[str, Any] = json.loads(frame.payload)
        if "error" in answer:
            raise Refused(subject, answer["error"])
        return answer


def _header_block(headers: dict[str, str] | None) -> bytes:
    if not headers:
        return b""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _encode(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    target = f"{subject} {reply}" if reply else subject
    if not headers:
        return f"PUB {target} {len(payload)}\r\n".encode() + payload + b"\r\n"
    sizes = f"{len(headers)} {len(headers) + len(payload)}"
    return f"HPUB {target} {sizes}\r\n".encode() + headers + payload + b"\r\n"
