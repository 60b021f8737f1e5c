"""The offline reader beside a server that writes, drops segments, rewrites, and is killed with SIGKILL.

Every payload says what it is and carries its own checksum, so a torn or invented record shows. An opening is good
when it ends without an error, every message is whole and below the settled end, every subject is there that the
stream's rules keep, and nothing that was acknowledged is called lost.
"""

import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from headrace.core.base.chance import Chance
from headrace.storage.check import check_store
from headrace.storage.findings import Severity
from headrace.storage.reader import StoreReader, StreamReader
from headrace.tools.killloop.parties import Wire
from headrace.tools.launch import Program, RunningServer, Settings, free_port, start
from headrace.tools.selftest.growth import Row
from headrace.tools.store_path import store_path

OPENINGS_PER_LIFE: Final = 10
CHECKS_EVERY: Final = 10
"""Every so many openings the checker looks too, which reads everything."""

PAUSE_MS_MAX: Final = 50
BURST: Final = 150
BURST_PAUSE_S: Final = 0.03
PAYLOAD_SIZES: Final = (20, 200, 1500)
STREAMS: Final = {
    # Whole segments are dropped from its front.
    "FRONT": {"max_msgs": 3000},
    # One message a subject: its segments become sparse.
    "LATEST": {"max_msgs_per_subject": 1},
    # Purged, and messages taken out of the middle.
    "HOLES": {"max_msgs": 10_000},
}
SHOWN_MAX: Final = 20


@dataclass(slots=True)
class Outcome:
    """What the openings have seen."""

    openings: int = 0
    checks: int = 0
    kills: int = 0
    messages: int = 0
    published: int = 0
    durations_s: list[float] = field(default_factory=list[float])
    wrong: list[str] = field(default_factory=list[str])

    def rows(self) -> list[Row]:
        """Give the result as lines."""
        middle = statistics.median(self.durations_s) if self.durations_s else 0.0
        rows = [
            Row("openings", f"{self.openings:,}, {middle * 1000:.0f} ms each", self.openings > 0),
            Row("whole stores checked", f"{self.checks:,}", passed=True),
            Row("kills", f"{self.kills:,}", passed=True),
            Row("messages published meanwhile", f"{self.published:,}", self.published > 0),
            Row("messages read", f"{self.messages:,}", self.messages > 0),
            Row("errors, torn records, false losses", f"{len(self.wrong):,}", not self.wrong),
        ]
        return rows + [Row("wrong", each, passed=False) for each in self.wrong[:SHOWN_MAX]]


def readers(program: Program, *, openings: int, seed: int) -> list[Row]:
    """Open the store of a busy server `openings` times; raises LaunchError."""
    with tempfile.TemporaryDirectory(prefix="headrace-readers-", ignore_cleanup_errors=True) as store_dir:
        settings = Settings(jetstream=True, store_dir=store_dir, port=free_port())
        with start(program, settings) as server:
            return asyncio.run(_campaign(server, openings, seed)).rows()


async def _campaign(server: RunningServer, openings: int, seed: int) -> Outcome:
    outcome = Outcome()
    chance = Chance(seed)
    await _prepare(server.port)
    load = _Load(server.port, chance, outcome)
    path = store_path(str(server.store_dir))
    while outcome.openings < openings:
        load.under_way.clear()
        working = asyncio.create_task(load.run())
        await load.under_way.wait()
        for _ in range(min(OPENINGS_PER_LIFE, openings - outcome.openings)):
            await asyncio.sleep(chance.below(PAUSE_MS_MAX) / 1000)
            await asyncio.to_thread(_look, path, outcome)
            outcome.openings += 1
            if outcome.openings % CHECKS_EVERY == 0:
                await asyncio.to_thread(_check, path, outcome)
        server.kill()
        await working
        outcome.kills += 1
        # Once more while nobody runs, and nothing was cleaned up.
        await asyncio.to_thread(_look, path, outcome)
        server.start()
    return outcome


async def _prepare(port: int) -> None:
    wire = await Wire.connect(port)
    for name, limits in STREAMS.items():
        config: dict[str, object] = {"name": name, "subjects": [f"{name}.*"], "storage": "file", **limits}
        await wire.request(f"$JS.API.STREAM.CREATE.{name}", config)
    await wire.close()


class _Load:
    """Publishes in bursts, deletes and purges, until its connection ends."""

    def __init__(self, port: int, chance: Chance, outcome: Outcome) -> None:
        self._port = port
        self._chance = chance
        self._outcome = outcome
        self._numbers = itertools.count(1)
        self.under_way = asyncio.Event()

    async def run(self) -> None:
        wire = await Wire.connect(self._port)
        with contextlib.suppress(ConnectionError):
            while not wire.gone.is_set():
                await self._burst(wire)
                # A reader reads what came since the last checkpoint; a flood would measure the machine.
                await asyncio.sleep(BURST_PAUSE_S)
        await wire.close()

    async def _burst(self, wire: Wire) -> None:
        for _ in range(BURST):
            for name in STREAMS:
                number = next(self._numbers)
                wire.publish(f"{name}.{number % 500}", make_payload(number, self._chance))
                self._outcome.published += 1
        asked = asyncio.create_task(wire.request("$JS.API.STREAM.INFO.HOLES"))
        gone = asyncio.create_task(wire.gone.wait())
        await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        self.under_way.set()
        if not asked.done():
            asked.cancel()
            return
        state = asked.result()["state"]
        for _ in range(20):
            sequence = state["first_seq"] + self._chance.below(max(1, state["messages"]))
            wire.publish("$JS.API.STREAM.MSG.DELETE.HOLES", b'{"seq":%d,"no_erase":true}' % sequence)
        if self._chance.below(8) == 0:
            wire.publish(
                "$JS.API.STREAM.PURGE.HOLES", b'{"keep":%d}' % self._chance.below(state["messages"] + 1)
            )


def make_payload(number: int, chance: Chance) -> bytes:
    """Make a payload that says whether it is whole."""
    size = PAYLOAD_SIZES[chance.below(len(PAYLOAD_SIZES))]
    text = b"%d:" % number + b"*" * size
    return b"%08x:" % crc32(text) + text


def is_whole(payload: bytes) -> bool:
    """Tell whether a payload is one that `make_payload` made."""
    checksum, _, text = payload.partition(b":")
    return b"%08x" % crc32(text) == checksum


def _look(path: str, outcome: Outcome) -> None:
    started = time.monotonic()
    names: set[str] = set()
    try:
        reader = StoreReader(path)
        for stream in reader.streams():
            try:
                names.add(str(stream.config["config"]["name"]))
                outcome.wrong += _wrong(stream, outcome)
            finally:
                stream.close()
        outcome.wrong += [f"{folder}: {reason}" for folder, reason in reader.unreadable]
    except Exception as error:  # noqa: BLE001  (whatever an opening raises is what is looked for)
        outcome.wrong.append(f"{type(error).__name__}: {error}")
        return
    if names != set(STREAMS):
        outcome.wrong.append(f"streams {sorted(names)} are shown")
    outcome.durations_s.append(time.monotonic() - started)


def _wrong(stream: StreamReader, outcome: Outcome) -> list[str]:
    name = stream.config["config"]["name"]
    wrong = [f"{name}: {lost} is said to be lost" for lost in stream.lost if lost.certain]
    wrong += [f"{name}: {place} is said to be damaged" for place in stream.damage if place.certain]
    settled_to = stream.settled_to
    before = 0
    latest: set[bytes] = set()
    for message in stream.messages():
        view = message.view
        if view.sequence <= before or view.sequence > max(settled_to, stream.settled_to):
            wrong.append(f"{name}: {view.sequence} comes behind {before}, settled to {settled_to}")
        if not is_whole(view.payload):
            wrong.append(f"{name}: {view.sequence} is torn")
        before = view.sequence
        latest.add(view.subject)
        outcome.messages += 1
    if name == "LATEST" and settled_to >= 10_000 and len(latest) < 500 // len(STREAMS):
        wrong.append(f"{name}: {len(latest)} subjects are shown")
    for message in stream.messages(start=settled_to, with_unsettled=True):
        if not is_whole(message.view.payload):
            wrong.append(f"{name}: {message.view.sequence}, not settled, is torn")
    return wrong


def _check(path: str, outcome: Outcome) -> None:
    outcome.checks += 1
    try:
        report = check_store(path)
    except Exception as error:  # noqa: BLE001  (whatever a check raises is what is looked for)
        outcome.wrong.append(f"check: {type(error).__name__}: {error}")
        return
    outcome.wrong += [
        f"check: {each.severity.value}: {each.file}: {each.text}"
        for each in report.findings
        if each.severity is not Severity.NOTE
    ]
