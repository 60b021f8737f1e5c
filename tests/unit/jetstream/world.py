"""JetStream over a bus made of lists and a store in memory, in virtual time: the surroundings of these tests."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.service import JetStream
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import StorageError
from headrace.storage.memory_store import MemoryStore
from unit.jetstream.bus_of_lists import BusOfLists, Published

ACCOUNT = "$G"


class Lines:
    """An event log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = error = info


class World:
    """One server's JetStream and the hands to drive it."""

    def __init__(
        self,
        *,
        limits: AccountJetStreamOptions | None = None,
        options: JetStreamOptions | None = None,
        held: bool = False,
        accounts: dict[str, AccountJetStreamOptions | None] | None = None,
    ) -> None:
        self.scheduler = VirtualScheduler()
        self.store = MemoryStore(Chance(7), held=held)
        self.options = options or JetStreamOptions()
        self.accounts = accounts or {ACCOUNT: limits or AccountJetStreamOptions()}
        self.log = Lines()
        self._replies = itertools.count()
        self.start()

    def start(self) -> None:
        """Start a server on the store as it is."""
        self.bus = BusOfLists()
        self.jetstream = JetStream(
            bus=self.bus,
            store=self.store,
            scheduler=self.scheduler,
            deadlines=Deadlines(self.scheduler),
            chance=Chance(1),
            options=self.options,
            accounts=self.accounts,
            system_account="$SYS",
            server_name="here",
            server_id="NHERE",
            version="2.15.1",
            log=self.log,
        )
        self.jetstream.start()

    def stream(self, name: str) -> Stream:
        return self.jetstream.accounts[ACCOUNT].streams[name]

    # the API

    def ask(
        self, suffix: str, body: object = b"", *, headers: bytes = b"", account: str = ACCOUNT
    ) -> dict[str, Any]:
        """Send an API request, let it be done, and give its one answer."""
        reply = self.post(suffix, body, headers=headers, account=account)
        answers = self.bus.answers(reply)
        assert len(answers) == 1, f"{suffix}: {answers}"
        answer: dict[str, Any] = json.loads(answers[0].payload)
        return answer

    def post(self, suffix: str, body: object = b"", *, headers: bytes = b"", account: str = ACCOUNT) -> bytes:
        """Send an API request; give the subject that its answer goes to."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = b"_INBOX.%d" % next(self._replies)
        self.bus.send(account, b"$JS.API." + suffix.encode(), payload, reply=reply, headers=headers)
        self.bus.turn()
        return reply

    def refusal(self, suffix: str, body: object = b"", **more: Any) -> tuple[int, str]:
        """Send an API request that is refused; give error code and description."""
        error = self.ask(suffix, body, **more)["error"]
        return error["err_code"], error["description"]

    def create(self, name: str = "S", **config: Any) -> dict[str, Any]:
        """Make a stream; without subjects it takes `<name in small>.>`."""
        config.setdefault("subjects", [f"{name.lower()}.>"])
        answer = self.ask(f"STREAM.CREATE.{name}", {"name": name, **config})
        assert "error" not in answer, answer
        return answer

    def state(self, name: str = "S") -> dict[str, Any]:
        state: dict[str, Any] = self.ask(f"STREAM.INFO.{name}", {"deleted_details": True})["state"]
        return state

    def messages(self, name: str = "S") -> list[tuple[int, str, bytes]]:
        """Give sequence, subject and payload of every message."""
        log = self.stream(name).log
        found = log.scan(1, log.head.last_sequence, None, messages_max=10**6, size_max=10**9).views
        return [(view.sequence, view.subject.decode(), view.payload) for view in found]

    # publishing

    def publish(
        self, subject: str, payload: bytes = b"", connection_id: int = 1, **fields: str
    ) -> dict[str, Any]:
        """Publish, let it be done, and give the pub ack. Fields are headers, `Nats_Msg_Id` for `Nats-Msg-Id`."""
        answers = self.bus.answers(self.send(subject, payload, connection_id, **fields))
        assert len(answers) == 1, answers
        answer: dict[str, Any] = json.loads(answers[0].payload)
        return answer

    def send(self, subject: str, payload: bytes = b"", connection_id: int = 1, **fields: str) -> bytes:
        """Publish and end the turn; give the subject that the pub ack goes to."""
        reply = self.queue(subject, payload, connection_id, **fields)
        self.bus.turn()
        return reply

    def queue(self, subject: str, payload: bytes = b"", connection_id: int = 1, **fields: str) -> bytes:
        """Publish without ending the turn, so that several make one batch."""
        reply = b"_INBOX.%d" % next(self._replies)
        taken = self.bus.send(
            ACCOUNT,
            subject.encode(),
            payload,
            reply=reply,
            headers=block(**fields),
            connection_id=connection_id,
        )
        assert taken, f"no stream takes {subject}"
        return reply

    def publish_error(self, subject: str, payload: bytes = b"", **fields: str) -> tuple[int, str]:
        answer = self.publish(subject, payload, **fields)
        return answer["error"]["err_code"], answer["error"]["description"]

    # direct get

    def direct(self, name: str, body: object = b"", *, headers: bytes = b"") -> list[Published]:
        """Send a direct get; give what came back."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = b"_INBOX.%d" % next(self._replies)
        subject = f"$JS.API.DIRECT.GET.{name}".encode()
        self.bus.send(ACCOUNT, subject, payload, reply=reply, headers=headers)
        self.bus.turn()
        return self.bus.answers(reply)

    def status(self, name: str, body: object = b"", *, headers: bytes = b"") -> bytes:
        """Send a direct get that has no result; give its status line without the version."""
        answers = self.direct(name, body, headers=headers)
        assert len(answers) == 1, answers
        assert answers[0].payload == b""
        return answers[0].headers.split(b"\r\n")[0].removeprefix(b"NATS/1.0 ")

    def release(self, error: StorageError | None = None) -> None:
        """The sync that was waited for returns."""
        self.store.release(error)
        self.bus.turn()


def block(**fields: str) -> bytes:
    """Make a header block; `_` in names stands for `-`."""
    if not fields:
        return b""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def data(message: dict[str, Any]) -> bytes:
    """Give the payload of a MSG.GET answer's message."""
    return base64.b64decode(message.get("data", ""))
