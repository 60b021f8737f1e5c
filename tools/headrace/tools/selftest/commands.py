"""`headrace selftest`: campaigns against this very Headrace, each bounded, each ending in a table."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.tools.launch import headrace_program
from headrace.tools.selftest import clients, growth, store_campaigns
from headrace.tools.selftest import readers as reader_campaign
from headrace.tools.selftest.fuzz import NoAtheris
from headrace.tools.selftest.fuzz import fuzz as fuzz_target
from headrace.tools.selftest.fuzz_targets import SEEDS
from headrace.tools.selftest.images import NoImages, run_images
from headrace.tools.selftest.tell import tell
from headrace.tools.settings import JsonOption

app = typer.Typer(no_args_is_help=True, help="Campaigns that try to break a server.")
store_campaigns.register(app)

EngineOption = Annotated[str, typer.Option(help="plain or compiled; default: the one that is there.")]


@app.command("flood")
def flood(
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="How long.")] = 60,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Publish without reply at full speed: memory flat, every message stored."""
    tell("flood", growth.flood(headrace_program(engine), seconds), as_json=as_json)


@app.command("subjects")
def subjects(
    count: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many subjects.")] = 1_000_000,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """One message on each of many subjects: bounded memory, exact counts."""
    tell("subjects", growth.subjects(headrace_program(engine), count), as_json=as_json)


@app.command("restart")
def restart(
    messages: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many messages.")] = 5_000_000,
    subject_count: Annotated[int, typer.Option("--subjects", min=1, help="On how many subjects.")] = 100_000,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Fill a store, kill -9, and time the first exact answers."""
    tell("restart", growth.restart(headrace_program(engine), messages, subject_count), as_json=as_json)


@app.command("readers")
def readers(
    openings: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Repeats what was drawn.")] = 1,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Open the store of a server that writes and is killed: never an error, never a torn record."""
    rows = reader_campaign.readers(headrace_program(engine), openings=openings, seed=seed)
    tell("readers", rows, as_json=as_json)


@app.command("images")
def images(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many power cuts.")] = 20,
    seed: Annotated[int, typer.Option(help="Repeats what was drawn.")] = 1,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Cut the power under a server that writes to a mounted ext4 image. Needs root and loop devices."""
    try:
        result = run_images(headrace_program(engine), count=count, seed=seed)
    except NoImages as error:
        typer.echo(f"no images on this machine: {error}", err=True)
        raise typer.Exit(1) from error
    rows = [growth.Row(*row) for row in result.rows()]
    rows += [growth.Row(found.violation.value, found.text, passed=False) for found in result.findings[:20]]
    tell("images", rows, as_json=as_json)


@app.command("connections")
def connections(
    count: Annotated[int, typer.Option(min=2, max=100_000, help="How many.")] = 5_000,
    subscriptions: Annotated[int, typer.Option(min=1, max=1_000, help="Of each.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often all talk.")] = 10,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Thousands of clients that all talk: none dropped, none starved."""
    rows = clients.connections(headrace_program(engine), count, subscriptions, rounds)
    tell("connections", rows, as_json=as_json)


@app.command("churn")
def churn(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long.")] = 600,
    engine: EngineOption = "",
    as_json: JsonOption = False,
) -> None:
    """Clients come and go: memory and open files stay flat."""
    tell("churn", clients.churn(headrace_program(engine), seconds), as_json=as_json)


@app.command("fuzz")
def fuzz(
    target: Annotated[
        str, typer.Argument(help="parser, config, websocket or jwt; empty: each of them.")
    ] = "",
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long, each.")] = 600,
    findings: Annotated[Path, typer.Option(help="Where inputs that break something are left.")] = Path(
        "fuzz-findings"
    ),
    as_json: JsonOption = False,
) -> None:
    """Feed what reads strangers' bytes with inputs made by coverage: no crash, no hang, no growth."""
    names = tuple(SEEDS)
    if target and target not in names:
        raise typer.BadParameter(f"no such target: {target}; there are {', '.join(names)}")
    try:
        rows = [
            row for name in ([target] if target else names) for row in fuzz_target(name, seconds, findings)
        ]
    except NoAtheris as error:
        typer.echo(f"the package atheris makes the inputs, and is not installed: {error}", err=True)
        raise typer.Exit(1) from error
    tell("fuzz", rows, as_json=as_json)
