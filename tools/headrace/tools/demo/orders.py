"""`headrace demo orders`: publish and consume through a server that is killed again and again.

Three child processes: a server on a temporary store, a publisher, and a durable consumer. The server is killed with
SIGKILL while orders flow, and started again on the same store. The other two only notice that their connection is
gone for a moment. In the end the books (`ledger.py`) must balance.
"""

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from headrace.core.base.chance import Chance
from headrace.tools.demo.ledger import Ledger
from headrace.tools.demo.names import DURABLE, STREAM, SUBJECT, parse_report
from headrace.tools.launch import Program, RunningServer, Settings, headrace_program
from headrace.tools.wire import CommandFailed

STALL_TIMEOUT_S: Final = 60.0
"""How long nothing may happen before the demo gives up and counts."""

POLL_S: Final = 0.02
QUIET_S: Final = 2.5
"""How long nothing happens before the server is asked whether all is done; longer than a confirmation may take."""

SHOWN_MAX: Final = 20
ACK_WAIT_S: Final = 5.0
LINE_SIZE_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo does. `kill_points`: how many confirmed orders there are when the server is killed."""

    orders: int
    kills: int
    seed: int
    program: Program = field(default_factory=headrace_program)

    def kill_points(self) -> list[int]:
        """Draw when to kill, from the seed: spread over the middle, each in its own part of the run."""
        chance = Chance(self.seed)
        part = max(1, self.orders // (self.kills + 1))
        return [index * part + chance.below(part) for index in range(self.kills)]


@dataclass(slots=True)
class Result:
    """How it went. `stored`: messages in the stream at the end."""

    ledger: Ledger
    orders: int
    stored: int
    kills: int
    seconds: float
    slowest_restart_s: float
    store_dir: str

    @property
    def is_sound(self) -> bool:
        """Whether every order was acknowledged, stored once, and delivered, and no confirmed one came again."""
        return self.ledger.is_sound and len(self.ledger.acknowledged) == self.orders == self.stored


class Demo:
    """One run."""

    def __init__(self, plan: Plan, store_dir: str, console: Console) -> None:
        self._plan = plan
        self._store_dir = store_dir
        self._console = console
        self._server = RunningServer(plan.program, Settings(jetstream=True, store_dir=store_dir))
        self._ledger = Ledger()
        self._changed_at = time.monotonic()
        self._children: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def run(self) -> Result:
        """Play the story; raises CommandFailed when a process of it cannot be started."""
        began = time.monotonic()
        ready_s = await self._start()
        self._console.print(f"server ready in {ready_s * 1000:.0f} ms on {self._server.url}")
        try:
            await self._make_stream()
            publisher = await self._spawn(
                "publisher", "--url", self._server.url, "--orders", str(self._plan.orders)
            )
            await self._spawn("consumer", "--url", self._server.url)
            self._console.print(
                f"one process publishes {self._plan.orders:,} orders to {SUBJECT!r} and keeps the acks; "
                f"another takes them with the durable {DURABLE!r} and confirms each"
            )
            slowest_s = await self._kill_and_restart()
            await self._until_done(publisher)
            stored = await self._stored()
        finally:
            await self._end_children()
            await asyncio.to_thread(self._server.close)
        return Result(
            self._ledger,
            self._plan.orders,
            stored,
            self._plan.kills,
            time.monotonic() - began,
            slowest_s,
            self._store_dir,
        )

    async def _start(self) -> float:
        began = time.monotonic()
        await asyncio.to_thread(self._server.start)
        return time.monotonic() - began

    async def _make_stream(self) -> None:
        client = await nats.connect(self._server.url)
        try:
            js = client.jetstream()
            await js.add_stream(name=STREAM, subjects=[SUBJECT])
            await js.add_consumer(
                STREAM,
                durable_name=DURABLE,
                filter_subject=SUBJECT,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_ack_pending=10_000,
            )
        finally:
            await client.close()

    async def _spawn(self, role: str, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"headrace.tools.demo.{role}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LINE_SIZE_MAX,
        )
        assert process.stdout is not None
        self._children.append(process)
        self._readers.append(asyncio.create_task(self._read_reports(process.stdout)))
        return process

    async def _read_reports(self, lines: asyncio.StreamReader) -> None:
        note = {
            "acknowledged": self._ledger.note_acknowledged,
            "delivered": self._ledger.note_delivered,
            "confirmed": self._ledger.note_confirmed,
        }
        async for line in lines:
            kind, orders = parse_report(line)
            for order in orders:
                note[kind](order)
            self._changed_at = time.monotonic()

    async def _kill_and_restart(self) -> float:
        slowest_s = 0.0
        for number, point in enumerate(self._plan.kill_points(), start=1):
            await self._until_confirmed(point)
            await asyncio.to_thread(self._server.kill)
            restart_s = await self._start()
            slowest_s = max(slowest_s, restart_s)
            self._console.print(
                f"kill -9 number {number}, with {len(self._ledger.acknowledged):,} orders acknowledged and "
                f"{len(self._ledger.confirmed):,} confirmed; back after {restart_s * 1000:.0f} ms"
            )
        return slowest_s

    async def _until_confirmed(self, count: int) -> None:
        while len(self._ledger.confirmed) < count:
            self._check_progress()
            await asyncio.sleep(POLL_S)

    async def _until_done(self, publisher: asyncio.subprocess.Process) -> None:
        with self._progress() as (progress, task):
            while publisher.returncode is None or not await self._is_worked_off():
                if self._quiet_s() > STALL_TIMEOUT_S:
                    return
                progress.update(task, completed=len(self._ledger.confirmed))
                await asyncio.sleep(POLL_S)
            progress.update(task, completed=len(self._ledger.confirmed))

    async def _is_worked_off(self) -> bool:
        """Tell whether nothing is left to deliver or to confirm.

        An ack that the server took while its answer was lost with a kill leaves an order unconfirmed for ever; so when
        all is quiet the server is asked.
        """
        if not self._ledger.acknowledged - self._ledger.confirmed:
            return True
        if self._quiet_s() < QUIET_S:
            return False
        client = await nats.connect(self._server.url)
        try:
            consumer = await client.jetstream().consumer_info(STREAM, DURABLE)
        finally:
            await client.close()
        return (consumer.num_pending, consumer.num_ack_pending) == (0, 0)

    def _quiet_s(self) -> float:
        return time.monotonic() - self._changed_at

    def _check_progress(self) -> None:
        if self._quiet_s() > STALL_TIMEOUT_S:
            raise CommandFailed(
                f"nothing happened for {STALL_TIMEOUT_S:g} s: {len(self._ledger.acknowledged):,} acknowledged, "
                f"{len(self._ledger.confirmed):,} confirmed; the store is {self._store_dir}"
            )

    @contextlib.contextmanager
    def _progress(self) -> Generator[tuple[Progress, TaskID]]:
        columns = (
            TextColumn("confirmed"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("confirmed", total=self._plan.orders)
            yield progress, task

    async def _stored(self) -> int:
        client = await nats.connect(self._server.url)
        try:
            return (await client.jetstream().stream_info(STREAM)).state.messages
        except (NatsError, OSError) as error:
            raise CommandFailed(f"no stream info after the run: {error}") from error
        finally:
            await client.close()

    async def _end_children(self) -> None:
        for process in self._children:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)


async def play(plan: Plan, *, keep: bool, console: Console) -> Result:
    """Run the demo on a temporary store, which stays only with `keep`."""
    store_dir = tempfile.mkdtemp(prefix="headrace-demo-")
    console.print(f"store {store_dir}, seed {plan.seed}")
    try:
        return await Demo(plan, store_dir, console).run()
    finally:
        if not keep:
            await asyncio.to_thread(shutil.rmtree, store_dir, ignore_errors=True)


def as_json(result: Result) -> str:
    """Give the result as one JSON document."""
    ledger = result.ledger
    return json.dumps(
        {
            "orders": result.orders,
            "acknowledged": len(ledger.acknowledged),
            "stored": result.stored,
            "delivered": len(ledger.delivered),
            "confirmed": len(ledger.confirmed),
            "redeliveries": ledger.redelivery_count,
            "kills": result.kills,
            "lost": len(ledger.lost),
            "invented": len(ledger.invented),
            "confirmed_again": len(ledger.confirmed_again),
            "examples": sorted(ledger.lost | ledger.invented | ledger.confirmed_again)[:SHOWN_MAX],
            "seconds": round(result.seconds, 3),
            "slowest_restart_seconds": round(result.slowest_restart_s, 3),
            "sound": result.is_sound,
        },
        indent=2,
    )
