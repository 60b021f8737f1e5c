"""A client that shows every byte's meaning: what a server sends, frame by frame, as JSON-able lists.

A frame is `["MSG", subject, sid, reply, payload]`, `["HMSG", subject, sid, reply, headers, payload]`,
`["INFO", {...}]`, `["-ERR", text]`, or the bare operation: `["PONG"]`, `["+OK"]`, `["PING"]`. Texts are decoded as
Latin-1, so that no byte is lost. The end of the connection is `["closed"]`.

It hides nothing but the server's PINGs, which come at a time of the server's choice: it answers them, unless
`answers_pings` is off.
"""

import asyncio
import json
from collections import deque
from typing import Any, Final

from headrace.tools import frames

Frame = list[Any]

TIMEOUT_S: Final = 5.0
QUIET_S: Final = 0.15
CLOSED: Final = "closed"
READ_SIZE: Final = 64 * 1024


class RawClient:
    """One connection. Made by `Lab.raw`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = frames.FrameParser()
        self._waiting: deque[Frame] = deque()
        self.answers_pings = True
        self._inbox_count = 0

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def frame(self, timeout_s: float = TIMEOUT_S) -> Frame:
        """Give the next frame; raises TimeoutError where none comes."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self._next_frame()
                if frame != ["PING"] or not self.answers_pings:
                    return frame
                self.send(b"PONG\r\n")

    async def _next_frame(self) -> Frame:
        while not self._waiting:
            try:
                data = await self._reader.read(READ_SIZE)
            except ConnectionError:
                return [CLOSED]
            if not data:
                return [CLOSED]
            self._waiting.extend(_listed(frame) for frame in self._parser.feed(data))
        return self._waiting.popleft()

    async def frames(self, count: int, timeout_s: float = TIMEOUT_S) -> list[Frame]:
        """Give the next `count` frames, fewer where the connection ends."""
        found: list[Frame] = []
        while len(found) < count and [CLOSED] not in found:
            found.append(await self.frame(timeout_s))
        return found

    async def until_pong(self) -> list[Frame]:
        """Send a PING, and give all frames before its PONG; all to the end where the server closes instead."""
        self.send(b"PING\r\n")
        return await self._until("PONG")

    async def until_closed(self) -> list[Frame]:
        """Give all frames to the end of the connection, its end included."""
        return await self._until(CLOSED)

    async def _until(self, operation: str) -> list[Frame]:
        found: list[Frame] = []
        while True:
            frame = await self.frame()
            if frame[0] == operation:
                return [*found, frame] if operation == CLOSED else found
            found.append(frame)
            if frame[0] == CLOSED:
                return found

    async def quiet(self, duration_s: float = QUIET_S) -> list[Frame]:
        """Give the frames that come within `duration_s`: none, where all is quiet."""
        found: list[Frame] = []
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + duration_s
        while (rest_s := deadline_s - loop.time()) > 0:
            try:
                found.append(await self.frame(rest_s))
            except TimeoutError:
                break
        return found

    async def request(self, subject: str, payload: bytes | str = b"", timeout_s: float = TIMEOUT_S) -> Frame:
        """Subscribe to a reply subject, publish with it, and give the first frame that comes."""
        body = payload.encode() if isinstance(payload, str) else payload
        self._inbox_count += 1
        sid = 900_000 + self._inbox_count
        inbox = f"raw.inbox.{sid}"
        self.send(
            f"SUB {inbox} {sid}\r\nUNSUB {sid} 1\r\nPUB {subject} {inbox} {len(body)}\r\n".encode()
            + body
            + b"\r\n"
        )
        return await self.frame(timeout_s)

    def publish(self, subject: str, payload: str = "", *, reply: str = "", headers: str = "") -> None:
        """Publish; `headers` is the block without its `NATS/1.0` line and blank line."""
        body = payload.encode("latin-1")
        target = f"{subject} {reply}" if reply else subject
        if headers:
            block = f"NATS/1.0\r\n{headers}\r\n\r\n".encode("latin-1")
            self.send(
                f"HPUB {target} {len(block)} {len(block) + len(body)}\r\n".encode() + block + body + b"\r\n"
            )
        else:
            self.send(f"PUB {target} {len(body)}\r\n".encode() + body + b"\r\n")

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


def _listed(frame: frames.Frame) -> Frame:
    """Give a frame as a transcript shows it."""
    match frame.operation:
        case "MSG":
            return ["MSG", frame.subject, frame.sid, frame.reply, frame.payload.decode("latin-1")]
        case "HMSG":
            texts = [block.decode("latin-1") for block in (frame.headers, frame.payload)]
            return ["HMSG", frame.subject, frame.sid, frame.reply, *texts]
        case "INFO":
            return ["INFO", json.loads(frame.text)]
        case "-ERR":
            return ["-ERR", frame.text]
        case _:
            return [frame.operation]
