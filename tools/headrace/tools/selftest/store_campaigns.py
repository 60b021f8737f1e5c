"""The campaigns against the store alone, as commands: each with a seed, a size and a time limit."""

from typing import Annotated

import typer

from headrace.core.base.chance import fresh_seed
from headrace.tools.selftest.power import run_power_cuts
from headrace.tools.selftest.tell import tell
from headrace.tools.settings import JsonOption

SeedOption = Annotated[int, typer.Option(min=0, help="Repeats a campaign's choices; 0 takes a fresh one.")]
SecondsOption = Annotated[float, typer.Option(min=0, help="End after so long; 0: when all is done.")]
JobsOption = Annotated[int, typer.Option(min=1, max=256, help="How many processes share the work.")]


def register(app: typer.Typer) -> None:
    """Add these campaigns to a command line's."""
    app.command("power-cut")(power_cut)


def power_cut(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds, from this one on.")] = 500,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Cut the power of a store with many streams, in the middle of anything: nothing acknowledged is lost."""
    tally = run_power_cuts(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("power-cut", tally.rows("seeds"), as_json=as_json)


def drawn() -> int:
    """Draw a seed short enough to be typed again."""
    return fresh_seed() >> 40
