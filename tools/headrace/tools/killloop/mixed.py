"""What else a server does that is killed: message ids, deletes, purges, limits by subject, streams made and deleted.

One request at a time, each confirmed by its answer or not; at the start of the next life everything that was
confirmed is asked for again.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.core.base.chance import Chance
from headrace.tools.frames import Frame
from headrace.tools.killloop.ledger import Finding, Violation
from headrace.tools.killloop.parties import Wire

SUBJECTS: Final = 5
STREAMS: Final[dict[str, dict[str, object]]] = {
    "IDS": {"max_age": 0, "duplicate_window": 600_000_000_000},
    "HOLES": {},
    "LAST": {"max_msgs_per_subject": 1},
    "SHORT": {"max_msgs": 50},
    "MEMORY": {"storage": "memory"},
}
IDS_CHECKED: Final = 20
DELETED_CHECKED: Final = 20


class Gone(Exception):
    """The server went before it answered."""


@dataclass(slots=True)
class Mixed:
    """What was confirmed so far."""

    findings: list[Finding]
    chance: Chance
    count: int = 0
    ids: dict[int, int] = field(default_factory=dict[int, int])
    holes: list[int] = field(default_factory=list[int])
    deleted: set[int] = field(default_factory=set[int])
    purged_below: int = 0
    last: dict[int, int] = field(default_factory=dict[int, int])
    made: set[str] = field(default_factory=set[str])
    unmade: set[str] = field(default_factory=set[str])
    confirmed: int = 0

    async def prepare(self, wire: Wire) -> None:
        """Make the streams."""
        for name, options in STREAMS.items():
            config: dict[str, object] = {
                "name": name,
                "subjects": [f"{name}.*"],
                "storage": "file",
                **options,
            }
            await wire.request(f"$JS.API.STREAM.CREATE.{name}", config)

    async def work(self, wire: Wire) -> None:
        """Do one thing after the other until the server goes."""
        acts = (self._store_id, self._fill_hole, self._delete, self._purge, self._store_last, self._others)
        try:
            while True:
                await acts[self.chance.below(len(acts))](wire)
                self.confirmed += 1
        except Gone:
            pass

    async def check(self, wire: Wire) -> None:
        """Ask for everything that was confirmed."""
        for number in list(self.ids)[-IDS_CHECKED:]:
            answer = await _publish(wire, "IDS.a", b"again", number)
            if not answer.get("duplicate") or answer["seq"] != self.ids[number]:
                self._find(Violation.LOST, f"IDS: id {number} of {self.ids[number]} is new: {answer}")
        for sequence in sorted(self.deleted)[-DELETED_CHECKED:]:
            answer = await _ask(wire, "$JS.API.STREAM.MSG.GET.HOLES", {"seq": sequence})
            if "error" not in answer:
                self._find(Violation.BACK, f"HOLES: {sequence} was deleted and is there")
        state = (await _ask(wire, "$JS.API.STREAM.INFO.HOLES"))["state"]
        if state["first_seq"] < self.purged_below:
            self._find(
                Violation.BACK, f"HOLES: purged below {self.purged_below}, first is {state['first_seq']}"
            )
        for sequence in self.holes[-DELETED_CHECKED:]:
            answer = await _ask(wire, "$JS.API.STREAM.MSG.GET.HOLES", {"seq": sequence})
            if "error" in answer:
                self._find(Violation.LOST, f"HOLES: {sequence} was acknowledged: {answer['error']}")
        for subject, sequence in self.last.items():
            answer = await _ask(wire, "$JS.API.STREAM.MSG.GET.LAST", {"last_by_subj": f"LAST.{subject}"})
            if "error" in answer or answer["message"]["seq"] < sequence:
                self._find(Violation.LOST, f"LAST.{subject}: {sequence} was acknowledged: {answer}")
        names = set((await _ask(wire, "$JS.API.STREAM.NAMES"))["streams"])
        if lost := self.made - names:
            self._find(Violation.LOST, f"streams {sorted(lost)} were made")
        if back := self.unmade & names:
            self._find(Violation.BACK, f"streams {sorted(back)} were deleted")
        # Memory streams begin anew.
        if "MEMORY" not in names:
            config = {"name": "MEMORY", "subjects": ["MEMORY.*"], "storage": "memory"}
            await _ask(wire, "$JS.API.STREAM.CREATE.MEMORY", config)

    def _find(self, violation: Violation, text: str) -> None:
        self.findings.append(Finding(violation, text))

    async def _store_id(self, wire: Wire) -> None:
        self.count += 1
        number = self.count
        answer = await _publish(wire, "IDS.a", b"%d" % number, number)
        if "error" not in answer:
            self.ids[number] = answer["seq"]

    async def _fill_hole(self, wire: Wire) -> None:
        answer = await _publish(wire, "HOLES.a", b"x" * self.chance.below(2000))
        if "error" not in answer:
            self.holes.append(answer["seq"])

    async def _delete(self, wire: Wire) -> None:
        if self.holes:
            sequence = self.holes.pop(self.chance.below(len(self.holes)))
            body = {"seq": sequence, "no_erase": bool(self.chance.below(2))}
            answer = await _ask(wire, "$JS.API.STREAM.MSG.DELETE.HOLES", body)
            if answer.get("success"):
                self.deleted.add(sequence)

    async def _purge(self, wire: Wire) -> None:
        if self.holes and self.chance.below(10) == 0:
            below = self.holes[self.chance.below(len(self.holes))]
            self.holes = [each for each in self.holes if each >= below]
            answer = await _ask(wire, "$JS.API.STREAM.PURGE.HOLES", {"seq": below})
            if answer.get("success"):
                self.purged_below = max(self.purged_below, below)

    async def _store_last(self, wire: Wire) -> None:
        subject = self.chance.below(SUBJECTS)
        answer = await _publish(wire, f"LAST.{subject}", b"value")
        if "error" not in answer:
            self.last[subject] = answer["seq"]

    async def _others(self, wire: Wire) -> None:
        """Streams with limits, in memory, made and deleted."""
        for name in ("SHORT", "MEMORY"):
            await _publish(wire, f"{name}.a", b"y" * self.chance.below(500))
        if self.chance.below(4) == 0:
            self.count += 1
            name = f"T{self.count}"
            answer = await _ask(
                wire, f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.a"]}
            )
            if "error" not in answer:
                self.made.add(name)
        if len(self.made) > 3:
            name = min(self.made)
            self.made.discard(name)
            if (await _ask(wire, f"$JS.API.STREAM.DELETE.{name}")).get("success"):
                self.unmade.add(name)


async def _publish(wire: Wire, subject: str, payload: bytes, message_id: int = 0) -> dict[str, Any]:
    headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n\r\n".encode() if message_id else b""
    return await _sent(wire, subject, headers, payload)


async def _ask(wire: Wire, subject: str, body: object = None) -> dict[str, Any]:
    return await _sent(wire, subject, b"", b"" if body is None else json.dumps(body).encode())


async def _sent(wire: Wire, subject: str, headers: bytes, payload: bytes) -> dict[str, Any]:
    """Send a request and give the answer; raises Gone."""
    answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def take(frame: Frame) -> None:
        if not answer.done():
            answer.set_result(frame)

    wire.subscribe("_INBOX.mixed", "mixed", take)
    size = len(headers) + len(payload)
    line = (
        f"HPUB {subject} _INBOX.mixed {len(headers)} {size}"
        if headers
        else f"PUB {subject} _INBOX.mixed {size}"
    )
    wire.send(line.encode() + b"\r\n" + headers + payload + b"\r\n")
    gone = asyncio.create_task(wire.gone.wait())
    gone.add_done_callback(lambda _: answer.cancel())
    await asyncio.wait([answer])
    gone.cancel()
    if answer.cancelled():
        raise Gone
    wire.send(b"UNSUB mixed\r\n")
    fields: dict[str, Any] = json.loads(
        answer.result().payload or b'{"error": {"description": "no responders"}}'
    )
    return fields
