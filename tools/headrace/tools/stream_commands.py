"""`headrace stream`: look at the streams of a running server."""

import asyncio
import base64
import contextlib
import json
from typing import Annotated, Any, Final

import aiofiles
import typer

from headrace.tools import backups, render
from headrace.tools.settings import JsonOption, settings_of
from headrace.tools.wire import Api, CommandFailed, connected

app = typer.Typer(no_args_is_help=True, help="Look at the streams of a running server.")

NameArgument = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")]
EXPORT_PAGE: Final = 1_000
_SHOWN_ELSEWHERE: Final = (
    *("name", "subjects", "retention", "storage", "discard", "max_msgs", "max_bytes", "max_age"),
    *(
        "max_msgs_per_subject",
        "max_msg_size",
        "max_consumers",
        "num_replicas",
        "duplicate_window",
        "metadata",
    ),
)


@app.command("ls")
def list_streams(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the streams, with what each holds."""

    async def run() -> list[dict[str, Any]]:
        async with connected(settings_of(context)) as api:
            return await api.pages("STREAM.LIST", "streams")

    streams = asyncio.run(run())
    if as_json:
        render.print_json(streams)
        return
    render.print_table(
        f"{len(streams)} streams",
        ("name", "subjects", "storage", "messages", "size", "first", "last", "consumers"),
        (
            (
                stream["config"]["name"],
                " ".join(stream["config"].get("subjects") or ["-"]),
                stream["config"]["storage"],
                f"{stream['state']['messages']:,}",
                render.size(stream["state"]["bytes"]),
                stream["state"]["first_seq"],
                stream["state"]["last_seq"],
                stream["state"]["consumer_count"],
            )
            for stream in streams
        ),
    )


@app.command("info")
def show_stream(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a stream's configuration and state."""

    async def run() -> dict[str, Any]:
        async with connected(settings_of(context)) as api:
            return await api.request(f"STREAM.INFO.{name}", {"deleted_details": True})

    stream = asyncio.run(run())
    if as_json:
        render.print_json(stream)
        return
    config, state = stream["config"], stream["state"]
    render.print_fields(
        f"Stream {name}, created {stream['created']}",
        [
            ("subjects", " ".join(config.get("subjects") or ["-"])),
            ("retention", f"{config['retention']}, discard {config['discard']}"),
            ("storage", config["storage"]),
            ("messages at most", render.limit(config["max_msgs"])),
            ("per subject at most", render.limit(config["max_msgs_per_subject"])),
            ("bytes at most", render.limit(config["max_bytes"])),
            ("message size at most", render.limit(config.get("max_msg_size"))),
            ("age at most", render.duration(config["max_age"])),
            ("duplicate window", render.duration(config.get("duplicate_window"))),
            *render.config_fields(config, _SHOWN_ELSEWHERE),
            ("", ""),
            ("messages", f"{state['messages']:,} ({render.size(state['bytes'])})"),
            ("first", f"{state['first_seq']} at {render.time_text(state['first_ts'])}"),
            ("last", f"{state['last_seq']} at {render.time_text(state['last_ts'])}"),
            ("subjects held", f"{state.get('num_subjects', 0):,}"),
            ("deleted between", f"{state.get('num_deleted', 0):,}"),
            ("consumers", state["consumer_count"]),
            *([("lost", state["lost"])] if state.get("lost") else []),
        ],
    )


@app.command("view")
def view_stream(
    context: typer.Context,
    name: NameArgument,
    start: Annotated[int, typer.Option("--from", min=1, help="The first sequence to show.")] = 1,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 20,
    subject: Annotated[str, typer.Option(help="Only this subject; wildcards allowed.")] = ">",
    as_json: JsonOption = False,
) -> None:
    """Show messages in order, without consuming them."""

    async def run() -> list[dict[str, Any]]:
        async with connected(settings_of(context)) as api:
            return await _messages(api, name, start, count, subject)

    _print_messages(asyncio.run(run()), as_json=as_json)


@app.command("get")
def get_message(
    context: typer.Context,
    name: NameArgument,
    sequence: Annotated[int | None, typer.Argument(min=1, help="The message's sequence.")] = None,
    last: Annotated[str, typer.Option(help="Instead: the newest message on this subject.")] = "",
    raw: Annotated[bool, typer.Option(help="Write only the payload, as it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one message: by sequence, or the newest on a subject."""
    if (sequence is None) == (last == ""):
        raise typer.BadParameter("give a sequence or --last SUBJECT")
    wanted: dict[str, Any] = {"last_by_subj": last} if last else {"seq": sequence}

    async def run() -> dict[str, Any]:
        async with connected(settings_of(context)) as api:
            answer = await api.request(f"STREAM.MSG.GET.{name}", wanted)
            return _readable(answer["message"])

    message = asyncio.run(run())
    if raw:
        typer.get_binary_stream("stdout").write(message["payload"])
        return
    _print_messages([message], as_json=as_json)


@app.command("export")
def export_stream(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    start: Annotated[int, typer.Option("--from", min=1, help="The first sequence.")] = 1,
    subject: Annotated[str, typer.Option(help="Only this subject; wildcards allowed.")] = ">",
) -> None:
    """Write messages to a file, one JSON object a line, without consuming them."""

    async def run() -> int:
        count, sequence = 0, start
        async with (
            connected(settings_of(context)) as api,
            aiofiles.open(file, "x", encoding="utf-8") as lines,
        ):
            while page := await _messages(api, name, sequence, EXPORT_PAGE, subject):
                await lines.writelines([json.dumps(message_json(**message)) + "\n" for message in page])
                count += len(page)
                sequence = page[-1]["sequence"] + 1
        return count

    try:
        count = asyncio.run(run())
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from error
    typer.echo(f"{count:,} messages of {name} written to {file}")


@app.command("backup")
def back_up_stream(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    consumers: Annotated[bool, typer.Option(help="With the consumers and how far each has come.")] = True,
) -> None:
    """Write a stream, with its consumers, to a file that `restore` takes; the stream may be in use."""

    async def run() -> dict[str, Any]:
        async with connected(settings_of(context)) as api:
            return await backups.back_up(api, name, file, consumers=consumers)

    try:
        state = asyncio.run(run())["state"]
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from error
    typer.echo(f"{name} up to message {state['last_seq']:,} written to {file}")


@app.command("restore")
def restore_stream(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that `backup` has written.")],
    name: Annotated[str, typer.Option(help="Restore under this name instead.")] = "",
) -> None:
    """Make a stream of a backup; there must be none of its name, and a damaged file is refused whole."""

    async def run() -> dict[str, Any]:
        async with connected(settings_of(context)) as api:
            return await backups.restore(api, file, name=name)

    try:
        stream = asyncio.run(run())
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from error
    state = stream["state"]
    typer.echo(
        f"{stream['config']['name']} restored: {state['messages']:,} messages, {state['consumer_count']} consumers"
    )


async def _messages(api: Api, name: str, start: int, count: int, subject: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    sequence = start
    while len(found) < count:
        try:
            answer = await api.request(f"STREAM.MSG.GET.{name}", {"seq": sequence, "next_by_subj": subject})
        except CommandFailed as error:
            if "no message found" not in str(error):
                raise
            break
        message = _readable(answer["message"])
        found.append(message)
        sequence = message["sequence"] + 1
    return found


def _readable(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "sequence": message["seq"],
        "time": message["time"],
        "subject": message["subject"],
        "headers": base64.b64decode(message.get("hdrs") or ""),
        "payload": base64.b64decode(message.get("data") or ""),
    }


def _print_messages(messages: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        render.print_json([message_json(**message) for message in messages])
        return
    print_messages(messages)


def message_json(sequence: int, time: str, subject: str, headers: bytes, payload: bytes) -> dict[str, Any]:
    """Give a message as JSON: bytes in base64, and the payload as text where it is text."""
    document: dict[str, Any] = {
        "sequence": sequence,
        "time": time,
        "subject": subject,
        "headers": base64.b64encode(headers).decode(),
        "payload": base64.b64encode(payload).decode(),
    }
    with contextlib.suppress(UnicodeDecodeError):
        document["text"] = payload.decode()
    return document


def print_messages(messages: list[dict[str, Any]]) -> None:
    """Print messages for people, one a row, with headers where there are any."""
    columns = ["sequence", "time", "subject", "payload"]
    rows: list[list[object]] = [
        [m["sequence"], m["time"], m["subject"], render.payload_text(m["payload"])] for m in messages
    ]
    if any(m["headers"] for m in messages):
        columns.append("headers")
        for row, message in zip(rows, messages, strict=True):
            row.append(_headers_text(message["headers"]))
    render.print_table(f"{len(messages)} messages", columns, rows)


def _headers_text(headers: bytes) -> str:
    return headers.decode(errors="replace").removeprefix("NATS/1.0").strip().replace("\r\n", "; ")
