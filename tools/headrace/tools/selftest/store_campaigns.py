"""The campaigns against the store alone, as commands: each with a seed, a size and a time limit."""

from typing import Annotated

import typer

from headrace.core.base.chance import fresh_seed
from headrace.tools.selftest.bits import bit_count, run_bits
from headrace.tools.selftest.cuts import cut_count, run_cuts
from headrace.tools.selftest.disk_full import run_disk_full
from headrace.tools.selftest.index_loss import run_index_loss
from headrace.tools.selftest.io_errors import case_count, run_io_errors
from headrace.tools.selftest.pages import run_copies, run_pages
from headrace.tools.selftest.planted import run_planted
from headrace.tools.selftest.power import run_power_cuts
from headrace.tools.selftest.tell import tell
from headrace.tools.settings import JsonOption

SeedOption = Annotated[int, typer.Option(min=0, help="Repeats a campaign's choices; 0 takes a fresh one.")]
SecondsOption = Annotated[float, typer.Option(min=0, help="End after so long; 0: when all is done.")]
JobsOption = Annotated[int, typer.Option(min=1, max=256, help="How many processes share the work.")]


def register(app: typer.Typer) -> None:
    """Add these campaigns to a command line's."""
    app.command("power-cut")(power_cut)
    app.command("bits")(bits)
    app.command("truncate")(truncate)
    app.command("pages")(pages)
    app.command("copies")(copies)
    app.command("io-errors")(io_errors)
    app.command("index-loss")(index_loss)
    app.command("disk-full")(disk_full)
    app.command("planted")(planted)


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


def bits(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=0, help="How many drawn bits; 0: every bit.")] = 2000,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Turn single bits of a store of 200 records: it starts, and at most the record hit is lost, and named."""
    tally = run_bits(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("bits", tally.rows(f"of {bit_count():,} bits"), as_json=as_json)


def truncate(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=0, help="How many drawn lengths; 0: every one.")] = 2000,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Cut single files of a store of 200 records: what lay behind the cut is named."""
    tally = run_cuts(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("truncate", tally.rows(f"of {cut_count():,} lengths"), as_json=as_json)


def pages(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, help="How many pages, each alone.")] = 2000,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Zero, fill and exchange 4 KiB pages of a store of 200 records: at most what lay in them is lost, and named."""
    tally = run_pages(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("pages", tally.rows("pages"), as_json=as_json)


def copies(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, help="How many stores.")] = 200,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Store copies of segments in messages, with damage before them: nothing is forged."""
    tally = run_copies(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("copies", tally.rows("stores"), as_json=as_json)


def io_errors(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=0, help="How many drawn cases; 0: every one.")] = 500,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Let the n-th call of a workload fail, once or from then on: nothing acknowledged is lost."""
    tally = run_io_errors(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("io-errors", tally.rows(f"of {case_count():,} cases"), as_json=as_json)


def index_loss(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds, from this one on.")] = 200,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Delete, damage and roll back the index: every stream shows the same as before."""
    tally = run_index_loss(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("index-loss", tally.rows("seeds"), as_json=as_json)


def disk_full(
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds, from this one on.")] = 100,
    seconds: SecondsOption = 0,
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Fill the disk, free some, fill it again: refused at once, reads and acks go on, writes resume."""
    tally = run_disk_full(seed=seed or drawn(), count=count, seconds=seconds, jobs=jobs)
    tell("disk-full", tally.rows("seeds"), as_json=as_json)


def planted(as_json: JsonOption = False) -> None:
    """Plant known mistakes in the store, one at a time: the campaigns find each of them."""
    tell("planted", run_planted(), as_json=as_json)


def drawn() -> int:
    """Draw a seed short enough to be typed again."""
    return fresh_seed() >> 40
