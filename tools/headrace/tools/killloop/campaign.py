"""The campaign: cycles of load and SIGKILL on one store, then everything is worked off and audited."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from headrace.core.base.chance import Chance
from headrace.tools.killloop.ledger import Finding, Ledger, Violation
from headrace.tools.killloop.mixed import Mixed
from headrace.tools.killloop.parties import Publisher, Trouble, Wire, Worker, read_all
from headrace.tools.launch import Program, RunningServer, Settings, free_port, start

LIFE_MS_MIN: Final = 50
LIFE_MS_MAX: Final = 500
MESSAGES_PER_CYCLE: Final = 4000
"""Bound on what one publisher sends in one life of the server, so that the last audit is bounded too."""

ACK_WAIT_NS: Final = 1_000_000_000
WORK_OFF_S: Final = 60.0

EndLife = Callable[[RunningServer], None]
"""Ends a server's process, and what else a life ends with."""


@dataclass(slots=True)
class Result:
    """What a campaign has seen."""

    seed: int
    cycles: int = 0
    elapsed_s: float = 0.0
    restarts_s: list[float] = field(default_factory=list[float])
    published: int = 0
    acked: int = 0
    deliveries: int = 0
    confirmed: int = 0
    mixed: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def count(self, violation: Violation) -> int:
        return sum(finding.violation is violation for finding in self.findings)

    def rows(self) -> list[tuple[str, str, bool]]:
        """Give the result as lines of (what, figure, good)."""
        rows = [
            ("kills", f"{self.cycles:,}", True),
            ("messages sent", f"{self.published:,}", True),
            ("acknowledged", f"{self.acked:,}", True),
            ("deliveries", f"{self.deliveries:,}", True),
            ("acks confirmed", f"{self.confirmed:,}", True),
            ("other requests confirmed", f"{self.mixed:,}", True),
        ]
        if self.restarts_s:
            figure = f"{statistics.median(self.restarts_s):.2f} s, at most {max(self.restarts_s):.2f} s"
            rows.append(("until clients are greeted again", figure, True))
        rows += [
            (violation.value, str(self.count(violation)), not self.count(violation))
            for violation in Violation
        ]
        return rows


def run_campaign(program: Program, *, cycles: int, seed: int, sync: str = "") -> Result:
    """Kill a server `cycles` times under load; raises LaunchError, or Trouble where it does not do its work."""
    with tempfile.TemporaryDirectory(prefix="headrace-kill-", ignore_cleanup_errors=True) as store_dir:
        settings = Settings(jetstream=True, store_dir=store_dir, port=free_port(), sync=sync)
        with start(program, settings) as server:
            return asyncio.run(campaign(server, cycles=cycles, seed=seed))


async def campaign(
    server: RunningServer, *, cycles: int, seed: int, end_life: EndLife = RunningServer.kill
) -> Result:
    """Play lives on a running server that end with `end_life`, then audit; it is running again at the end."""
    chance = Chance(seed)
    ledger = Ledger()
    result = Result(seed)
    started = time.monotonic()
    await _prepare(server.port)
    mixed = Mixed(ledger.findings, Chance(seed + 1))
    wire = await Wire.connect(server.port)
    await mixed.prepare(wire)
    await wire.close()
    for _ in range(cycles):
        life_s = (LIFE_MS_MIN + chance.below(LIFE_MS_MAX - LIFE_MS_MIN)) / 1000
        await _live(server, ledger, chance, life_s, end_life, mixed)
        killed = time.monotonic()
        server.start()
        result.restarts_s.append(time.monotonic() - killed)
        result.cycles += 1
    await _work_off(server.port, ledger, chance)
    wire = await Wire.connect(server.port)
    await mixed.check(wire)
    await wire.close()
    result.mixed = mixed.confirmed
    result.elapsed_s = time.monotonic() - started
    for stream in (ledger.log, ledger.work):
        result.published += stream.sent
        result.acked += len(stream.acked)
        result.deliveries += stream.deliveries
        result.confirmed += len(stream.confirmed)
    result.findings = ledger.findings
    return result


async def _prepare(port: int) -> None:
    """Make two streams, each with its consumer: one keeps everything, one gives up what is acked."""
    wire = await Wire.connect(port)
    for name, retention in (("LOG", "limits"), ("WORK", "workqueue")):
        config = {"name": name, "subjects": [f"{name}.*"], "retention": retention, "storage": "file"}
        await wire.request(f"$JS.API.STREAM.CREATE.{name}", config)
        consumer = {
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_NS,
            "max_ack_pending": 10_000,
        }
        await wire.request(
            f"$JS.API.CONSUMER.CREATE.{name}.{name}", {"stream_name": name, "config": consumer}
        )
    await wire.close()


async def _live(
    server: RunningServer, ledger: Ledger, chance: Chance, life_s: float, end_life: EndLife, mixed: Mixed
) -> None:
    """One life of the server under load, to its violent end."""
    wires: list[Wire] = []
    for stream in (ledger.log, ledger.work):
        publishing, working = await Wire.connect(server.port), await Wire.connect(server.port)
        wires += [publishing, working]
        Worker(working, stream, chance).start()
        Publisher(publishing, stream, MESSAGES_PER_CYCLE).start()
    mixing = await Wire.connect(server.port)
    wires.append(mixing)
    await mixed.check(mixing)
    doing = asyncio.create_task(mixed.work(mixing))
    await asyncio.sleep(life_s)
    end_life(server)
    await doing
    for wire in wires:
        # what the server said before it died is still read, to the end
        await wire.gone.wait()
        await wire.close()


async def _work_off(port: int, ledger: Ledger, chance: Chance) -> None:
    """Deliver and ack everything that is left, then audit both streams."""
    working = await Wire.connect(port)
    asking = await Wire.connect(port)
    for stream in (ledger.log, ledger.work):
        worker = Worker(working, stream, chance)
        worker.is_thorough = True
        worker.start()
    deadline = time.monotonic() + WORK_OFF_S
    for name in ("LOG", "WORK"):
        while True:
            info = await asking.request(f"$JS.API.CONSUMER.INFO.{name}.{name}")
            if info["num_pending"] == 0 and info["num_ack_pending"] == 0:
                break
            if time.monotonic() > deadline:
                raise Trouble(f"consumer {name} is not done after {WORK_OFF_S:.0f} s: {info}")
            await asyncio.sleep(0.05)
    await working.close()
    ledger.log.check_stored(await read_all(asking, "LOG"))
    left = (await asking.request("$JS.API.STREAM.INFO.WORK"))["state"]["messages"]
    ledger.work.check_emptied(left)
    await asking.close()
