"""Random scripts on two servers at once: the same steps, and all that arrives compared after each of them.

Many scripts run side by side, each in an account of its own, so that the waits of one are the work of others. A script
may restart its server: it does so together with the others of its group, at the end of a phase.

Servers answer in their own time. After a step both sides are looked at until they have what the step leads to and are
equal; a question whose answers differ is asked again until a deadline, and only then they differ. So what is compared
is what a client sees that waits, not who was faster.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from headrace.tools.launch import Program, RunningServer, Settings, start
from headrace.tools.oracle.explained import ENDING, EXPLAINED
from headrace.tools.oracle.random_script import Script, Step, write_script
from headrace.tools.oracle.script_client import ScriptClient, Seen, is_question
from headrace.tools.oracle.transcripts import compare

GROUP_SIZE: Final = 24
ACCOUNT_COUNT: Final = 192
QUIET_S: Final = 0.06
SILENCE_S: Final = 0.7
DEADLINE_S: Final = 3.0
ASK_AGAIN_S: Final = 0.15
POLL_S: Final = 0.02
SHRINK_ROUNDS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A script after whose last step the servers differed."""

    seed: int
    script: Script
    left: Seen
    right: Seen

    def __str__(self) -> str:
        step = json.dumps(self.script[-1], ensure_ascii=False)
        difference = compare(
            [{"step": step, "saw": self.left}],
            [{"step": step, "saw": self.right}],
        )
        lines = [f"seed {self.seed}, step {len(self.script)}"]
        lines += [f"  {json.dumps(item, ensure_ascii=False)}" for item in self.script]
        return "\n".join([*lines, *(str(item) for item in difference)])


@dataclass(slots=True)
class Played:
    """One playing: what was seen after each step, and the first difference."""

    seed: int
    script: Script
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    found: Found | None = None


class Pair:
    """The reference and this server, running; accounts are handed out until none is left."""

    def __init__(self, reference: Program, ours: Program) -> None:
        self._programs = (reference, ours)
        self._servers: tuple[RunningServer, ...] = ()
        self._next_account = 0

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = ()

    async def play(self, scripts: Sequence[tuple[int, Script]]) -> list[Played]:
        """Play scripts side by side, each to its end or its first difference."""
        if not self._servers or self._next_account + len(scripts) > ACCOUNT_COUNT:
            self.close()
            self._servers = tuple(
                start(program, Settings(jetstream=True, config=_accounts())) for program in self._programs
            )
            self._next_account = 0
        runs: list[Run] = []
        for seed, script in scripts:
            user = f"u{self._next_account}"
            self._next_account += 1
            clients = [ScriptClient(server.host, server.port, user) for server in self._servers]
            runs.append(Run(Played(seed, script), (clients[0], clients[1])))
        waiting = runs
        while waiting:
            await asyncio.gather(*(run.play_phase() for run in waiting))
            waiting = [run for run in waiting if not run.is_over]
            if waiting:
                await asyncio.gather(*(asyncio.to_thread(restart, server) for server in self._servers))
        return [run.played for run in runs]


class Player(Protocol):
    """One side of a script: a client of a server, or what was recorded from one."""

    news: asyncio.Event

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    @property
    def is_listening(self) -> bool: ...

    def perform(self, step: Step, number: int) -> None: ...

    def is_done(self, step: Step, number: int) -> bool: ...

    def ask_again(self, step: Step, number: int) -> None: ...

    def seen(self) -> Seen: ...

    def forget(self) -> None: ...


class Run:
    """A script on its way, on two sides."""

    def __init__(self, played: Played, clients: tuple[Player, Player]) -> None:
        self.played = played
        self._clients = clients
        self._position = 0

    @property
    def is_over(self) -> bool:
        return self.played.found is not None or self._position >= len(self.played.script)

    async def play_phase(self) -> None:
        """Play to the next restart, to the first difference, or to the end."""
        left, right = self._clients
        try:
            for client in self._clients:
                await client.open()
            while not self.is_over:
                step = self.played.script[self._position]
                self._position += 1
                if step["do"] == "restart":
                    self.played.seen.append({"step": step, "saw": {}})
                    return
                await self._play_step(step, left, right)
        finally:
            for client in self._clients:
                await client.close()

    async def _play_step(self, step: Step, left: Player, right: Player) -> None:
        number = self._position
        for client in self._clients:
            client.perform(step, number)
        is_equal = await _agree(step, number, self._clients)
        seen = left.seen(), right.seen()
        self.played.seen.append({"step": step, "saw": seen[0]})
        script = self.played.script[:number]
        if not is_equal and any(explains(script, *seen) for explains in ENDING):
            self._position = len(self.played.script)
        elif not is_equal and not any(explains(script, *seen) for explains in EXPLAINED):
            self.played.found = Found(self.played.seed, script, *seen)
        for client in self._clients:
            client.forget()


async def _agree(step: Step, number: int, clients: tuple[Player, Player]) -> bool:
    """Wait until both clients have seen the same and nothing more comes; tell whether they have."""
    left, right = clients
    started_s = asked_s = changed_s = time.monotonic()
    before: tuple[Seen, Seen] | None = None
    while True:
        now_s = time.monotonic()
        seen = left.seen(), right.seen()
        if seen != before:
            before, changed_s = seen, now_s
        is_equal = seen[0] == seen[1]
        are_done = [client.is_done(step, number) for client in clients]
        quiet_s = QUIET_S if left.is_listening or right.is_listening else 0.0
        if is_equal and all(are_done) and now_s - changed_s >= quiet_s:
            return True
        if is_equal and not any(are_done) and now_s - changed_s >= SILENCE_S:
            return True
        if now_s - started_s >= DEADLINE_S:
            return is_equal
        if all(are_done) and not is_equal and is_question(step) and now_s - asked_s >= ASK_AGAIN_S:
            asked_s = now_s
            for client in clients:
                client.ask_again(step, number)
        for client in clients:
            client.news.clear()
        await _first_news(clients)


async def _first_news(clients: tuple[Player, Player]) -> None:
    tasks = [asyncio.ensure_future(client.news.wait()) for client in clients]
    await asyncio.wait(tasks, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def restart(server: RunningServer) -> None:
    """Stop a server, and start it again on its store; blocks."""
    server.stop()
    server.start()


def _accounts() -> str:
    lines = [
        f'a{number} {{jetstream: enabled, users: [{{user: "u{number}", password: "u{number}"}}]}}'
        for number in range(ACCOUNT_COUNT)
    ]
    return "accounts {\n" + "\n".join(lines) + "\n}"


async def fuzz(
    reference: Program,
    ours: Program,
    seeds: Sequence[int],
    size: int,
    on_found: Callable[[Found], None],
    on_progress: Callable[[int], None],
) -> None:
    """Play the scripts of seeds; tell what differs again when it is played again, cut as short as it goes."""
    pair = Pair(reference, ours)
    try:
        for begin in range(0, len(seeds), GROUP_SIZE):
            scripts = [(seed, write_script(seed, size)) for seed in seeds[begin : begin + GROUP_SIZE]]
            for played in await pair.play(scripts):
                if played.found is not None:
                    shorter = await _shrink(pair, played.found)
                    if shorter is not None:
                        on_found(shorter)
            on_progress(begin + len(scripts))
    finally:
        pair.close()


async def _shrink(pair: Pair, found: Found) -> Found | None:
    """Cut out what a difference does not need; None where it does not come again."""
    (again,) = await pair.play([(found.seed, found.script)])
    if again.found is None:
        return None
    best = again.found
    for _ in range(SHRINK_ROUNDS_MAX):
        length = len(best.script)
        piece = max(1, length // GROUP_SIZE)
        shorter = [
            (best.seed, best.script[:index] + best.script[index + piece :])
            for index in range(0, length - 1, piece)
        ]
        smaller = [
            played.found
            for begin in range(0, len(shorter), GROUP_SIZE)
            for played in await pair.play(shorter[begin : begin + GROUP_SIZE])
            if played.found is not None and _is_same(played.found, best)
        ]
        if not smaller:
            break
        best = await _without_all(pair, best, smaller)
    return best


async def _without_all(pair: Pair, best: Found, smaller: list[Found]) -> Found:
    """Try to leave out at once all that could be left out singly; give the shortest that still differs."""
    kept = [step for step in best.script if all(step in found.script for found in smaller)]
    (together,) = await pair.play([(best.seed, kept)])
    if together.found is not None and _is_same(together.found, best):
        return together.found
    return min(smaller, key=lambda found: len(found.script))


def _is_same(one: Found, other: Found) -> bool:
    """Tell whether two differences show at the same step: cutting must not trade one for another."""
    return one.script[-1] == other.script[-1]
