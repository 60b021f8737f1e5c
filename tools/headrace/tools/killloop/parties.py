"""Who works on the server while it is killed: a publisher and a worker for each stream, and who reads all in the end.

A party ends when its connection does. Bytes that the server sent before it died are still read: what it said, it said.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from headrace.core.base.chance import Chance
from headrace.core.base.errors import HeadraceError
from headrace.tools.frames import Frame, FrameParser
from headrace.tools.killloop.ledger import StreamLedger, make_payload

READ_SIZE: Final = 256 * 1024
TIMEOUT_S: Final = 20.0
WINDOW: Final = 64
PULL_BATCH: Final = 100
CONNECT: Final = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}\r\n'
)

CONFIRMED_SHARE: Final = 60
PLAIN_SHARE: Final = 25
NAK_SHARE: Final = 5
"""Of 100 messages delivered; the rest is left alone and comes again after its ack wait."""


class Trouble(HeadraceError):
    """The server refused what it should do."""


class Wire:
    """A connection whose frames go to handlers by sid. `gone` is set once the server has closed it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers: dict[str, Callable[[Frame], None]] = {}
        self._request_count = 0
        self.gone = asyncio.Event()
        self._task = asyncio.create_task(self._read())
        self.send(CONNECT)

    @classmethod
    async def connect(cls, port: int) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def _read(self) -> None:
        parser = FrameParser()
        try:
            while data := await self._reader.read(READ_SIZE):
                for frame in parser.feed(data):
                    if frame.operation == "PING":
                        self.send(b"PONG\r\n")
                    elif frame.operation == "-ERR":
                        raise Trouble(f"the server says {frame.text!r}")
                    elif frame.sid in self._handlers:
                        self._handlers[frame.sid](frame)
        except ConnectionError:
            pass
        finally:
            self.gone.set()
            self._writer.close()

    def subscribe(self, subject: str, sid: str, handler: Callable[[Frame], None]) -> None:
        self._handlers[sid] = handler
        self.send(f"SUB {subject} {sid}\r\n".encode())

    def send(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        self.send(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    async def request(self, subject: str, body: object = None) -> dict[str, Any]:
        """Ask for JSON; raises Trouble for a refusal, TimeoutError, ConnectionError."""
        self._request_count += 1
        sid = f"r{self._request_count}"
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

        def take(frame: Frame) -> None:
            if not answer.done():
                answer.set_result(frame)

        self.subscribe(f"_INBOX.{sid}", sid, take)
        self.publish(subject, b"" if body is None else json.dumps(body).encode(), f"_INBOX.{sid}")
        async with asyncio.timeout(TIMEOUT_S):
            frame = await answer
        self.send(f"UNSUB {sid}\r\n".encode())
        fields: dict[str, Any] = json.loads(frame.payload or b'{"error": {"description": "no responders"}}')
        if "error" in fields:
            raise Trouble(f"{subject}: {fields['error']['description']}")
        return fields

    async def close(self) -> None:
        """End the connection, and raise what its reader has run into."""
        self._writer.close()
        await self._task


class Publisher:
    """Keeps `WINDOW` messages unacknowledged, up to a number of messages."""

    def __init__(self, wire: Wire, ledger: StreamLedger, count_max: int) -> None:
        self._wire = wire
        self._ledger = ledger
        self._left = count_max
        self._waiting = 0
        wire.subscribe(f"_INBOX.p{ledger.stream}.*", f"p{ledger.stream}", self._on_ack)

    def start(self) -> None:
        """Begin; from here on, every ack brings the next message."""
        for _ in range(WINDOW):
            self._publish()

    @property
    def is_done(self) -> bool:
        return self._left == 0 and self._waiting == 0

    def stop(self) -> None:
        """Publish nothing more."""
        self._left = 0

    def _publish(self) -> None:
        if self._left == 0:
            return
        self._left -= 1
        self._waiting += 1
        number = self._ledger.next_number()
        stream = self._ledger.stream
        subject = f"{stream}.{number % 7}"
        self._wire.publish(subject, make_payload(stream, number), f"_INBOX.p{stream}.{number}")

    def _on_ack(self, frame: Frame) -> None:
        self._waiting -= 1
        answer = json.loads(frame.payload)
        if "error" not in answer:  # a refusal promises nothing
            self._ledger.on_ack(int(frame.subject.rpartition(".")[2]), answer["seq"])
        self._publish()


class Worker:
    """Pulls, and acks by chance: with confirmation, without, not at all, or asks for the message again."""

    def __init__(self, wire: Wire, ledger: StreamLedger, chance: Chance) -> None:
        self._wire = wire
        self._ledger = ledger
        self._chance = chance
        self._left = 0
        self.is_thorough = False
        self._inbox = f"_INBOX.w{ledger.stream}"
        wire.subscribe(self._inbox, f"w{ledger.stream}", self._on_frame)
        wire.subscribe(f"{self._inbox}.*", f"c{ledger.stream}", self._on_confirmation)

    def start(self) -> None:
        self._pull()

    def _pull(self) -> None:
        self._left = PULL_BATCH
        stream = self._ledger.stream
        body = b'{"batch":%d,"expires":300000000}' % PULL_BATCH
        self._wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{stream}", body, self._inbox)

    def _on_frame(self, frame: Frame) -> None:
        if frame.status:
            if frame.status.startswith(("408", "404", "409")):
                self._pull()
            elif frame.status.startswith("503"):
                raise Trouble(f"consumer {self._ledger.stream} is gone")
            return
        tokens = frame.reply.split(".")
        number = self._ledger.on_delivery(frame.payload, int(tokens[5]))
        if number is not None:
            self._answer(frame.reply, number)
        self._left -= 1
        if self._left == 0:
            self._pull()

    def _answer(self, ack_subject: str, number: int) -> None:
        draw = self._chance.below(100)
        if self.is_thorough or draw < CONFIRMED_SHARE:
            self._ledger.on_answer(number)
            self._wire.publish(ack_subject, b"+ACK", f"{self._inbox}.{number}")
        elif draw < CONFIRMED_SHARE + PLAIN_SHARE:
            self._ledger.on_answer(number)
            self._wire.publish(ack_subject, b"")
        elif draw < CONFIRMED_SHARE + PLAIN_SHARE + NAK_SHARE:
            self._wire.publish(ack_subject, b"-NAK")

    def _on_confirmation(self, frame: Frame) -> None:
        if not frame.status:
            self._ledger.on_confirmation(int(frame.subject.rpartition(".")[2]))


async def read_all(wire: Wire, stream: str) -> dict[int, bytes]:
    """Give everything that a stream holds, payload by sequence."""
    config = {"name": "AUDIT", "ack_policy": "none", "inactive_threshold": 60_000_000_000}
    info = await wire.request(
        f"$JS.API.CONSUMER.CREATE.{stream}.AUDIT", {"stream_name": stream, "config": config}
    )
    wanted: int = info["num_pending"]
    found: dict[int, bytes] = {}
    batch_done = asyncio.Event()

    def take(frame: Frame) -> None:
        if not frame.status:
            found[int(frame.reply.split(".")[5])] = frame.payload
        if frame.status or len(found) % PULL_BATCH == 0 or len(found) == wanted:
            batch_done.set()

    wire.subscribe("_INBOX.audit", "audit", take)
    while len(found) < wanted:
        batch_done.clear()
        body = b'{"batch":%d,"expires":5000000000}' % min(PULL_BATCH, wanted - len(found))
        wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.AUDIT", body, "_INBOX.audit")
        before = len(found)
        async with asyncio.timeout(TIMEOUT_S):
            await batch_done.wait()
        if len(found) == before:
            break  # the audit ends short: what is missing is a finding
    await wire.request(f"$JS.API.CONSUMER.DELETE.{stream}.AUDIT")
    return found
