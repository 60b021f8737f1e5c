"""Scripts that were kept: what the reference let its client see, step by step, held against a server of today.

A file holds one script with what was seen after each of its steps, and the reference's version.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from headrace.tools.launch import Program, Settings, start
from headrace.tools.oracle.fuzz import Found, Pair, Played, Run, restart
from headrace.tools.oracle.random_script import Script, Step
from headrace.tools.oracle.script_client import ScriptClient, Seen

NO_SEED: Final = 0


class Recorded:
    """The side of a script that was recorded."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.news = asyncio.Event()
        self.is_listening = False
        self._steps = steps
        self._seen: Seen = {}

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    def perform(self, step: Step, number: int) -> None:
        assert self._steps[number - 1]["step"] == step, "the record is of another script"
        self._seen = self._steps[number - 1]["saw"]

    def is_done(self, step: Step, number: int) -> bool:  # noqa: ARG002  (all there is was seen)
        return bool(self._seen)

    def ask_again(self, step: Step, number: int) -> None:
        """The record stays what it is."""

    def seen(self) -> Seen:
        return self._seen

    def forget(self) -> None:
        self._seen = {}


def load(path: Path) -> list[dict[str, Any]]:
    """Give a kept script: its steps, with what was seen after each."""
    steps: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["steps"]
    return steps


async def replay(steps: list[dict[str, Any]], program: Program) -> Found | None:
    """Play a kept script; give the first difference, None where there is none."""
    server = start(program, Settings(jetstream=True))
    try:
        played = Played(NO_SEED, [item["step"] for item in steps])
        run = Run(played, (Recorded(steps), ScriptClient(server.host, server.port)))
        while not run.is_over:
            await run.play_phase()
            if not run.is_over:
                await asyncio.to_thread(restart, server)
    finally:
        server.close()
    return played.found


async def record(script: Script, reference: Program) -> dict[str, Any]:
    """Play a script on two servers of the reference; give what is kept of it where they agree."""
    pair = Pair(reference, reference)
    try:
        (played,) = await pair.play([(NO_SEED, script)])
    finally:
        pair.close()
    assert played.found is None, f"two runs on the reference disagree:\n{played.found}"
    return {"reference": reference.version(), "steps": played.seen}
