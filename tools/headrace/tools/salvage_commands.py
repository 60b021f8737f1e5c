"""`headrace store salvage` and `repair`: what is left to do with a store that is damaged."""

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Annotated, Any, Final

import aiofiles
import typer

from headrace.storage.repair import repair_store
from headrace.storage.salvage import SalvagedStream, Saved, Unread, salvage_streams
from headrace.storage.salvage_store import SalvageStore
from headrace.tools import render
from headrace.tools.settings import JsonOption
from headrace.tools.store_folder import existing_store, salvageable
from headrace.tools.store_path import store_path
from headrace.tools.stream_commands import message_json
from headrace.tools.wire import CommandFailed

REPORT_NAME: Final = "salvage.json"
LINES_AT_ONCE: Final = 500
SHOWN_UNREAD_MAX: Final = 20
GLOBAL_ACCOUNT: Final = "$G"

FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="The folder given to the server as -sd.")]
TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A folder for what is exported; it is made.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `headrace store`."""
    app.command("repair")(repair)
    app.command("salvage")(salvage)


def repair(
    folder: FolderArgument,
    only: Annotated[str, typer.Option(help="index or sidecars; default: both.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make what is derived anew: the index, and sidecars that are missing or wrong. The server must be stopped."""
    if only not in ("", "index", "sidecars"):
        raise typer.BadParameter("--only takes index or sidecars")
    path = existing_store(folder)
    repairs = repair_store(path, with_index=only != "sidecars", with_sidecars=only != "index")
    if as_json:
        render.print_json([each._asdict() for each in repairs])
        return
    for each in repairs:
        typer.echo(
            f"{os.path.relpath(each.file, path) if os.path.isabs(each.file) else each.file}: {each.what}"
        )
    typer.echo(f"{len(repairs)} repairs")


def salvage(
    folder: FolderArgument,
    target: TargetArgument,
    stream: Annotated[str, typer.Option(help="Only this one: its name, or its folder's.")] = "",
    as_lines: Annotated[
        bool, typer.Option("--lines", help="Write newline-JSON, as `stream export` does, instead of a store.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export what can be read of a store however damaged, with a list of what cannot.

    A new store by default: a server can be started on it, and sequences, times, message ids, configuration and
    consumers are kept. Ends with status 1 where something could not be read.
    """
    if os.path.exists(target) and os.listdir(target):
        raise CommandFailed(f"{target} is not empty: give a folder that is")
    os.makedirs(target, exist_ok=True)
    found = [each for each in salvage_streams(salvageable(folder)) if _is_meant(each, stream)]
    if not found:
        raise CommandFailed(f"no stream {stream or 'at all'} in {folder}")
    reports = asyncio.run(_export(found, target)) if as_lines else _into_store(found, target)
    document = {"source": os.path.abspath(folder), "streams": reports}
    with open(os.path.join(target, REPORT_NAME), "x", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    if as_json:
        render.print_json(document)
    else:
        _tell(reports, target)
    if any(report["unread"] or not report["state_known"] for report in reports):
        raise typer.Exit(1)


def _is_meant(stream: SalvagedStream, wanted: str) -> bool:
    names = (_config(stream)["config"].get("name"), os.path.basename(stream.folder))
    return not wanted or wanted in names


def _config(stream: SalvagedStream) -> dict[str, Any]:
    """Give the stream's configuration; where it is gone, one named for its folder, on subjects of its own."""
    config = stream.config.get("config")
    if isinstance(config, dict) and "name" in config:
        return stream.config
    name = f"SALVAGED_{os.path.basename(stream.folder).partition('.')[0]}"
    return {"account": GLOBAL_ACCOUNT, "config": {"name": name, "subjects": [f"{name}.>"], "storage": "file"}}


def _into_store(streams: Sequence[SalvagedStream], target: str) -> list[dict[str, Any]]:
    store = SalvageStore(store_path(target))
    try:
        return [_report(stream, store.take(stream, _config(stream)), "") for stream in streams]
    finally:
        store.close()


async def _export(streams: Sequence[SalvagedStream], target: str) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    for stream in streams:
        config = _config(stream)
        name = f"{config.get('account', GLOBAL_ACCOUNT)}.{config['config']['name']}.jsonl".replace("/", "_")
        count = 0
        async with aiofiles.open(os.path.join(target, name), "x", encoding="utf-8") as file:
            lines: list[str] = []
            for saved in stream.messages():
                lines.append(_line(saved))
                count += 1
                if len(lines) >= LINES_AT_ONCE:
                    await file.write("".join(lines))
                    lines.clear()
            await file.write("".join(lines))
        reports.append(_report(stream, count, name))
    return reports


def _line(saved: Saved) -> str:
    view = saved.view
    subject = view.subject.decode(errors="replace")
    document = message_json(view.sequence, render.time_of(view.time_ns), subject, view.headers, view.payload)
    return json.dumps(document) + "\n"


def _report(stream: SalvagedStream, count: int, file: str) -> dict[str, Any]:
    config = _config(stream)
    return {
        "account": config.get("account", GLOBAL_ACCOUNT),
        "name": config["config"]["name"],
        "folder": stream.folder,
        "file": file,
        "messages": count,
        "state_known": stream.is_state_known,
        "config": config["config"],
        "consumers": sorted(stream.consumers),
        "unread": [each._asdict() for each in stream.unread],
    }


def _tell(reports: Sequence[dict[str, Any]], target: str) -> None:
    render.print_table(
        f"{len(reports)} streams written to {target}",
        ("account", "name", "messages", "unread", "state log"),
        [
            (
                report["account"],
                report["name"],
                f"{report['messages']:,}",
                len(report["unread"]),
                "whole" if report["state_known"] else "damaged: removed messages may be back",
            )
            for report in reports
        ],
    )
    for report in reports:
        for each in report["unread"][:SHOWN_UNREAD_MAX]:
            typer.echo(f"unread: {report['name']}: {_unread_text(Unread(**each))}")
    typer.echo(f"the whole list is in {os.path.join(target, REPORT_NAME)}")


def _unread_text(unread: Unread) -> str:
    place = f"{unread.file} at {unread.offset}: " if unread.file else ""
    which = f"sequences {unread.first} to {unread.last}: " if unread.first else ""
    return f"{place}{which}{unread.what}"
