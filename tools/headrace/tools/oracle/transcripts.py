"""Playing scenarios, and the transcripts of the reference: recorded once, kept as JSON, compared with ever after.

One file holds the transcripts of one module of scenarios, with the reference's version. Objects are compared without
regard to the order of their keys; lists in order.
"""

import asyncio
import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace.tools.launch import Program, RunningServer, Settings, start
from headrace.tools.oracle.lab import Lab
from headrace.tools.oracle.normalise import Json
from headrace.tools.oracle.scenario import Scenario

SCENARIO_TIMEOUT_S: Final = 40.0

Transcript = list[dict[str, Any]]


class Servers:
    """Servers of one program, one for each configuration that is asked for, kept until `close`.

    `shared` False gives every scenario a server of its own. The reference needs that: a stream that is made anew
    while the folder of its deleted namesake is still being removed has been seen to hold the old one's messages.
    """

    def __init__(self, program: Program, *, shared: bool) -> None:
        self.program = program
        self.shared = shared
        self._running: dict[str, RunningServer] = {}

    def get(self, config: str) -> RunningServer:
        """Give a running server with this configuration; a new one where the old one has died."""
        server = self._running.get(config)
        if server is None or not server.is_alive():
            if server is not None:
                server.close()
            server = start(self.program, Settings(jetstream=True, config=config))
            self._running[config] = server
        return server

    def drop(self, config: str) -> None:
        """End the server with this configuration: the next one to ask gets a fresh one."""
        server = self._running.pop(config, None)
        if server is not None:
            server.close()

    def close(self) -> None:
        for config in list(self._running):
            self.drop(config)


async def play(
    scenario: Scenario, servers: Servers, on_answer: Callable[[dict[str, Any]], None] | None = None
) -> Transcript:
    """Play a scenario and give its transcript. A server on which one failed is not used again."""
    is_shared = servers.shared and scenario.shares_server
    if not is_shared:
        servers.drop(scenario.config)
    server = servers.get(scenario.config)
    lab = Lab(server.host, server.port, on_answer)
    finished = False
    try:
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            await scenario.story(lab)
        finished = True
    finally:
        try:
            async with asyncio.timeout(SCENARIO_TIMEOUT_S):
                await lab.close()
        finally:
            if not (finished and is_shared):
                servers.drop(scenario.config)
    return lab.transcript()


@dataclass(frozen=True, slots=True)
class Difference:
    """A step in which two transcripts differ, with both sides as text."""

    step: str
    text: str

    def __str__(self) -> str:
        return f"differs at: {self.step}\n{self.text}"


def compare(expected: Transcript, found: Transcript) -> list[Difference]:
    """Give every step that differs; none where both transcripts are the same."""
    differences: list[Difference] = []
    for index in range(max(len(expected), len(found))):
        wanted = expected[index] if index < len(expected) else None
        got = found[index] if index < len(found) else None
        if wanted != got:
            either = wanted or got or {}
            differences.append(Difference(f"{index + 1}. {either['step']}", _difference_text(wanted, got)))
    return differences


def _difference_text(wanted: Json, got: Json) -> str:
    return "\n".join(
        difflib.unified_diff(_lines(wanted), _lines(got), "reference", "this server", n=2, lineterm="")
    )


def _lines(value: Json) -> list[str]:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def load_transcripts(folder: Path) -> dict[str, Transcript]:
    """Load what was recorded, by scenario title."""
    found: dict[str, Transcript] = {}
    for path in sorted(folder.glob("*.json")):
        recorded = json.loads(path.read_text(encoding="utf-8"))
        for name, transcript in recorded["scenarios"].items():
            found[f"{path.stem}.{name}"] = transcript
    return found


def save_transcripts(folder: Path, version: str, transcripts: dict[str, Transcript]) -> None:
    """Write transcripts by title, one file for each module; files of modules not named are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    modules: dict[str, dict[str, Transcript]] = {}
    for title, transcript in transcripts.items():
        module, _, name = title.partition(".")
        modules.setdefault(module, {})[name] = transcript
    for module, scenarios in modules.items():
        document = {"reference": version, "scenarios": scenarios}
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / f"{module}.json").write_text(text + "\n", encoding="utf-8")
