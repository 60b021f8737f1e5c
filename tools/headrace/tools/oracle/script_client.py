"""The client that plays a script: sends a step, and gathers all that arrives, by what it was asked for.

What arrives is kept by label: `answer N` for the N-th step, `pN` for a pull request, the deliver subject of a push
consumer. It is read and dropped step by step, so that two clients, or a client and a record, can be held against
each other after each step.
"""

import asyncio
import contextlib
import json
from typing import Any, Final

from headrace.tools import frames
from headrace.tools.oracle.normalise import Json, normalise
from headrace.tools.oracle.random_script import Step

READ_SIZE: Final = 64 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
READ_ONLY: Final = ("INFO", "NAMES", "LIST", "GET")
LEFT_OUT: Final = frozenset({"api"})
"""Counts of calls: who asks twice because an answer is awaited counts more."""

Seen = dict[str, list[Json]]


class ScriptClient:
    """One connection to one server, playing one script. `user` is an account's user; empty for none."""

    def __init__(self, host: str, port: int, user: str = "") -> None:
        self.host = host
        self.port = port
        self.user = user
        self.news = asyncio.Event()
        self._labels: dict[str, str] = {}
        self._listening: dict[str, str] = {}
        self._seen: Seen = {}
        self._acks: dict[tuple[str, str], list[str]] = {}
        self._sid = 0
        self._is_anew = False
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and wait until the server has taken the login; listen anew to what was listened to."""
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=8 * 1024 * 1024)
        options: dict[str, Any] = {"verbose": False, "protocol": 1, "headers": True, "no_responders": True}
        if self.user:
            options.update(user=self.user, **{"pass": self.user})
        self._writer = writer
        self._ponged = asyncio.Event()
        self._reading = asyncio.create_task(self._read(reader))
        writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        listening, self._listening = self._listening, {}
        for subject, group in listening.items():
            self._listen(subject, group)
        await asyncio.wait_for(self._ponged.wait(), CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        self._is_anew = True
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    @property
    def is_listening(self) -> bool:
        """Tell whether something may come that no step asked for."""
        return bool(self._listening)

    def seen(self) -> Seen:
        """Give what has arrived since `forget`, normalised."""
        return {label: list(found) for label, found in sorted(self._seen.items())}

    def forget(self) -> None:
        self._seen = {}

    # steps

    def perform(self, step: Step, number: int) -> None:
        """Send a step; what it leads to arrives later."""
        label = f"answer {number}"
        match step["do"]:
            case "api":
                self._request(label, f"$JS.API.{step['subject']}", _body(step["body"]))
            case "direct":
                self._request(label, f"$JS.API.{step['subject']}", _body(step["body"]))
            case "publish":
                self._request(label, step["subject"], step["payload"].encode(), step["headers"])
            case "pull":
                target = f"$JS.API.CONSUMER.MSG.NEXT.{step['stream']}.{step['consumer']}"
                if "no_wait" not in step["request"]:
                    self._listening[f"in.{step['label']}"] = ""
                self._request(step["label"], target, _body(step["request"]))
            case "ack":
                delivered = self._acks.get((step["stream"], step["consumer"]), [])
                if delivered:
                    target = delivered[step["which"] % len(delivered)]
                    self._request(label, target, step["payload"].encode())
            case "listen":
                self._listen(step["subject"], step["group"])
            case "unlisten":
                self._unlisten(step["subject"])
            case other:
                raise AssertionError(f"no such step: {other}")

    def is_done(self, step: Step, number: int) -> bool:
        """Tell whether all has arrived that a step leads to for sure."""
        found = self._seen.get(f"answer {number}", [])
        match step["do"]:
            case "api" | "publish":
                return bool(found)
            case "direct":
                body = step["body"] or {}
                is_many = "multi_last" in body or body.get("batch")
                return any(_is_status(frame) for frame in found) if is_many else bool(found)
            case "ack":
                return bool(found) or (step["stream"], step["consumer"]) not in self._acks
            case "pull":
                if "no_wait" not in step["request"]:
                    return True
                arrived = self._seen.get(step["label"], [])
                is_full = len(arrived) >= step["request"]["batch"] and "max_bytes" not in step["request"]
                return is_full or any(_is_status(frame) for frame in arrived)
            case _:
                return True

    def ask_again(self, step: Step, number: int) -> None:
        """Ask a question anew whose answer may have been early; what it answered is dropped."""
        self._seen.pop(f"answer {number}", None)
        self.perform(step, number)

    # the wire

    def _send(self, data: bytes) -> None:
        assert self._writer is not None, "a step before the connection is open"
        self._writer.write(data)

    def _subscribe(self, subject: str, label: str, group: str = "") -> str:
        self._sid += 1
        self._labels[str(self._sid)] = label
        self._send(f"SUB {subject} {group} {self._sid}\r\n".encode())
        return str(self._sid)

    def _request(
        self, label: str, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> None:
        inbox = f"in.{label.replace(' ', '.')}.{self._sid}"
        self._subscribe(inbox, label)
        if headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = f"{len(block)} {len(block) + len(payload)}"
            self._send(f"HPUB {subject} {inbox} {sizes}\r\n".encode() + block + payload + b"\r\n")
        else:
            self._send(f"PUB {subject} {inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def _listen(self, subject: str, group: str) -> None:
        if subject not in self._listening and subject.startswith("push."):
            self._listening[subject] = group
            self._labels[f"sid of {subject}"] = self._subscribe(subject, subject, group)

    def _unlisten(self, subject: str) -> None:
        if subject in self._listening:
            del self._listening[subject]
            self._send(f"UNSUB {self._labels[f'sid of {subject}']}\r\n".encode())

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = frames.FrameParser()
        while data := await reader.read(READ_SIZE):
            for frame in parser.feed(data):
                self._on_frame(frame)
            self.news.set()

    def _on_frame(self, frame: frames.Frame) -> None:
        if frame.operation == "PING":
            self._send(b"PONG\r\n")
        elif frame.operation == "PONG":
            self._ponged.set()
        elif frame.operation in {"MSG", "HMSG"}:
            if frame.reply.startswith("$JS.ACK."):
                stream, consumer = frame.reply.split(".")[2:4]
                self._acks.setdefault((stream, consumer), []).append(frame.reply)
            self._seen.setdefault(self._labels[frame.sid], []).append(_noted(frame, is_anew=self._is_anew))
        elif frame.operation == "-ERR":
            self._seen.setdefault("error", []).append(frame.text)


def is_question(step: Step) -> bool:
    """Tell whether a step changes nothing, so that it may be asked again."""
    if step["do"] == "direct":
        return True
    return step["do"] == "api" and any(
        part in READ_ONLY for part in step["subject"].split(".")[:3] if part != "CONSUMER"
    )


def _body(body: Json) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _is_status(frame: Json) -> bool:
    return bool(frame.get("status"))


def _leave_out(answer: dict[str, Any]) -> None:
    """Leave out how far copies are in their first second, and where a stream begins that never had a message."""
    if answer.get("type", "").endswith(("stream_create_response", "stream_update_response")):
        for copied in ("mirror", "sources"):  # it is a matter of time how far they are
            answer.pop(copied, None)
    state = answer.get("state")
    if isinstance(state, dict) and state.get("last_seq") == 0:
        for field in ("deleted", "num_deleted", "first_seq"):
            state.pop(field, None)


def _forget_activity(answer: dict[str, Any]) -> None:
    listed = answer.get("consumers")
    for consumer in [answer, *(listed if isinstance(listed, list) else [])]:
        for place in ("delivered", "ack_floor"):
            if isinstance(consumer, dict) and place in consumer:
                consumer[place].pop("last_active", None)


def _noted(frame: frames.Frame, *, is_anew: bool) -> dict[str, Any]:
    """Give a message as it is compared: JSON as what it says, status and headers apart from the body.

    `is_anew`: the server was restarted, and when its consumers were last active counts no more.
    """
    noted: dict[str, Any] = {}
    payload = frame.payload.decode("latin-1")
    if frame.headers:
        if frame.status:
            noted["status"] = frame.status
        noted["headers"] = frame.headers.decode("latin-1").split("\r\n")[1:-2]
    if payload.startswith("{"):
        content = json.loads(payload)
        noted["answer"] = {key: value for key, value in content.items() if key not in LEFT_OUT}
        _leave_out(noted["answer"])
        if is_anew:
            _forget_activity(noted["answer"])
    elif payload:
        noted["data"] = payload
    if not frame.subject.startswith("in."):
        noted["subject"] = frame.subject
    if frame.reply:
        noted["reply"] = frame.reply
    normal: dict[str, Any] = normalise(noted, {})
    return normal
