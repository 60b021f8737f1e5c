"""`headrace store`: look into a store's folder, with its server running, stopped or dead.

Nothing is locked and nothing is written, but for `repair` and `salvage` (`salvage_commands.py`). What a running server
has not synced yet is shown only with `--unsettled`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final

import typer

from headrace.core.subject import has_wildcard, is_valid, matches
from headrace.storage.check import check_store
from headrace.storage.findings import Finding, Severity
from headrace.storage.interface import CorruptRecord, StorageError
from headrace.storage.reader import Message, StoreReader, StreamReader
from headrace.tools import render, salvage_commands
from headrace.tools.settings import JsonOption
from headrace.tools.store_folder import existing_store
from headrace.tools.stream_commands import message_json, print_messages
from headrace.tools.wire import CommandFailed

app = typer.Typer(no_args_is_help=True, help="Look into a store's folder, with or without a server running.")

salvage_commands.register(app)

FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="The folder given to the server as -sd.")]
NameArgument = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name, or ACCOUNT/NAME.")]
UnsettledOption = Annotated[
    bool, typer.Option("--unsettled", help="Show also what is not known to be durable; it is marked.")
]
SHOWN_FINDINGS_MAX: Final = 200
CANNOT_CHECK: Final = 2
"""The status of a check that could not look: no store, a later version's, files that may not be read."""


@dataclass(frozen=True, slots=True)
class SubjectMatcher:
    """A NATS filter as storage asks about it."""

    pattern: bytes

    @property
    def literals(self) -> frozenset[bytes] | None:
        return None if has_wildcard(self.pattern) else frozenset((self.pattern,))

    def matches(self, subject: bytes) -> bool:
        return matches(self.pattern, subject)


@app.command("ls")
def list_streams(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """List the streams of a store."""
    reader = _reader(folder)
    rows: list[dict[str, Any]] = []
    for stream in reader.streams():
        rows.append(_summary(stream))
        stream.close()
    rows.sort(key=lambda row: (row["account"], row["name"]))
    if as_json:
        render.print_json(rows)
    else:
        columns = ("account", "name", "messages", "size", "first", "last", "consumers", "lost", "state")
        render.print_table(
            f"{len(rows)} streams in {reader.path}",
            columns,
            [
                [
                    *(row["account"], row["name"], f"{row['messages']:,}", render.size(row["bytes"])),
                    *(row["first_seq"], row["last_seq"], len(row["consumers"]), row["lost_count"]),
                    "stopped" if row["clean"] else "running or crashed",
                ]
                for row in rows
            ],
        )
    for place, reason in reader.unreadable:
        typer.echo(f"unreadable: {place}: {reason}", err=True)
    if reader.unreadable:
        raise typer.Exit(1)


@app.command("info")
def show_stream(folder: FolderArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a stream's configuration, state, consumers, and what is lost."""
    with _stream(folder, name) as stream:
        summary = _summary(stream)
        head = stream.head()
        summary |= {
            "config": stream.config.get("config", {}),
            "num_subjects": head.subject_count,
            "num_deleted": head.deleted_count,
            "first_ts": render.time_of(head.first_time_ns),
            "last_ts": render.time_of(head.last_time_ns),
            "lost": [lost._asdict() for lost in stream.lost],
            "damage": [place._asdict() for place in stream.damage],
        }
    if as_json:
        render.print_json(summary)
        return
    render.print_fields(
        f"Stream {summary['name']} of account {summary['account']}, created {summary['created']}",
        [
            ("folder", summary["folder"]),
            ("state", "stopped cleanly" if summary["clean"] else "in use, or not stopped cleanly"),
            ("messages", f"{summary['messages']:,} ({render.size(summary['bytes'])})"),
            ("first", f"{summary['first_seq']} at {summary['first_ts']}"),
            ("last", f"{summary['last_seq']} at {summary['last_ts']}"),
            ("known durable to", summary["settled_to"]),
            *([("not known durable to", unsettled)] if (unsettled := summary["unsettled_to"]) else ()),
            ("subjects held", f"{summary['num_subjects']:,}"),
            ("deleted between", f"{summary['num_deleted']:,}"),
            *(("lost", _lost_text(lost)) for lost in summary["lost"]),
            *(
                ("damage", f"{place['what']}: {place['file']} at {place['offset']}")
                for place in summary["damage"]
            ),
            ("", ""),
            *render.config_fields(summary["config"], ("name",)),
        ],
    )
    if summary["consumers"]:
        typer.echo()
        render.print_table(
            "Consumers",
            ("name", "ack floor", "delivered", "ack pending"),
            [
                (each["name"], each["ack_floor"], each["delivered"], each["ack_pending"])
                for each in summary["consumers"]
            ],
        )


@app.command("view")
def view_stream(
    folder: FolderArgument,
    name: NameArgument,
    start: Annotated[int, typer.Option("--from", min=1, help="The first sequence to show.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    subject: Annotated[str, typer.Option(help="Only this subject; wildcards allowed.")] = ">",
    with_unsettled: UnsettledOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show messages in order."""
    with _stream(folder, name) as stream:
        found = stream.messages(start=start, match=_matcher(subject), with_unsettled=with_unsettled)
        messages = list(islice(found, count))
    _print(messages, as_json=as_json)


@app.command("get")
def get_message(
    folder: FolderArgument,
    name: NameArgument,
    sequence: Annotated[int | None, typer.Argument(min=1, help="The message's sequence.")] = None,
    last: Annotated[str, typer.Option(help="Instead: the newest message on this subject.")] = "",
    raw: Annotated[bool, typer.Option(help="Write only the payload, as it is.")] = False,
    with_unsettled: UnsettledOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one message: by sequence, or the newest on a subject."""
    if (sequence is None) == (last == ""):
        raise typer.BadParameter("give a sequence or --last SUBJECT")
    with _stream(folder, name) as stream:
        if sequence is None:
            message = _newest(stream, last, with_unsettled=with_unsettled)
            wanted = f"message on {last!r}"
        else:
            message = stream.get(sequence, with_unsettled=with_unsettled)
            wanted = f"message {sequence}"
    if message is None:
        raise CommandFailed(f"stream {name} holds no {wanted}")
    if raw:
        typer.get_binary_stream("stdout").write(message.view.payload)
        return
    _print([message], as_json=as_json)


@app.command("check")
def check(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Verify every record and every total of a store.

    Ends with status 0 where all is sound, 1 where something is lost, damaged or contradictory, 2 where it cannot tell.
    """
    try:
        report = check_store(existing_store(folder))
    except (CommandFailed, StorageError, OSError) as error:
        typer.echo(f"headrace: {error}", err=True)
        raise typer.Exit(CANNOT_CHECK) from error
    if as_json:
        render.print_json(
            {
                "sound": report.is_sound,
                "streams": [totals._asdict() for totals in report.totals],
                "findings": [finding.fields() for finding in report.findings],
            }
        )
    else:
        render.print_table(
            f"{len(report.totals)} streams checked",
            ("stream", "messages", "size", "records", "segments"),
            [
                (total.stream, f"{total.messages:,}", render.size(total.size), total.records, total.segments)
                for total in report.totals
            ],
        )
        for finding in report.findings[:SHOWN_FINDINGS_MAX]:
            _tell_finding(finding)
        if len(report.findings) > SHOWN_FINDINGS_MAX:
            typer.echo(f"and {len(report.findings) - SHOWN_FINDINGS_MAX:,} findings more; --json shows all")
        worst = [each for each in report.findings if each.severity is not Severity.NOTE]
        typer.echo("sound" if not worst else f"{len(worst):,} findings")
    if not report.is_sound:
        raise typer.Exit(1)


def _tell_finding(finding: Finding) -> None:
    place = f"{finding.file} at {finding.offset}: " if finding.file else ""
    stream = f"stream {finding.stream}: " if finding.stream else ""
    typer.echo(f"{finding.severity.value}: {finding.name}: {stream}{place}{finding.text}")
    if finding.severity is not Severity.NOTE:
        typer.echo(f"  {finding.advice}")


def _reader(folder: str) -> StoreReader:
    return StoreReader(existing_store(folder))


@contextmanager
def _stream(folder: str, name: str) -> Generator[StreamReader]:
    """Give the one stream of that name; raises CommandFailed where there is none, or more than one."""
    account, _, wanted = name.rpartition("/")
    found: list[StreamReader] = []
    others: list[str] = []
    for stream in _reader(folder).streams():
        its_account, its_name = _names(stream)
        if its_name == wanted and account in ("", its_account):
            found.append(stream)
        else:
            others.append(its_name)
            stream.close()
    try:
        if not found:
            there = f"it holds {', '.join(sorted(others)[:10])}" if others else "it holds no streams"
            raise CommandFailed(f"no stream {name} in {folder}: {there}")
        if len(found) > 1:
            names = ", ".join("/".join(_names(stream)) for stream in found)
            raise CommandFailed(f"several accounts have a stream {name}: say which, as {names}")
        yield found[0]
    except CorruptRecord as error:
        raise CommandFailed(str(error)) from error
    finally:
        for stream in found:
            stream.close()


def _names(stream: StreamReader) -> tuple[str, str]:
    config: dict[str, Any] = stream.config.get("config", {})
    return str(stream.config.get("account", "")), str(config.get("name", ""))


def _summary(stream: StreamReader) -> dict[str, Any]:
    account, name = _names(stream)
    totals = stream.totals()
    return {
        "account": account,
        "name": name,
        "folder": stream.folder,
        "created": render.time_of(stream.created_ns),
        "clean": stream.is_clean,
        "messages": totals.messages,
        "bytes": totals.size,
        "first_seq": totals.first_sequence,
        "last_seq": totals.last_sequence,
        "settled_to": stream.settled_to,
        "unsettled_to": stream.unsettled_to if stream.unsettled_to > stream.settled_to else 0,
        "lost_count": sum(lost.last - lost.first + 1 for lost in stream.lost),
        "consumers": [
            {
                "name": consumer.name,
                "ack_floor": consumer.register.numbers.get("floor_stream", 0),
                "delivered": consumer.register.numbers.get("delivered_stream", 0),
                "ack_pending": len(consumer.register.rows),
            }
            for consumer in stream.consumers.values()
        ],
    }


def _lost_text(lost: dict[str, Any]) -> str:
    certainty = "acknowledged" if lost["certain"] else "possibly acknowledged"
    return f"{lost['first']} to {lost['last']} ({certainty})"


def _matcher(subject: str) -> SubjectMatcher | None:
    pattern = subject.encode()
    if not is_valid(pattern):
        raise CommandFailed(
            f"{subject!r} is no subject: tokens between dots, `*` for one, `>` at the end for all"
        )
    return None if pattern == b">" else SubjectMatcher(pattern)


def _newest(stream: StreamReader, subject: str, *, with_unsettled: bool) -> Message | None:
    states = stream.subjects(_matcher(subject), with_unsettled=with_unsettled)
    newest = max((state.last_sequence for state in states), default=0)
    return stream.get(newest) if newest else None


def _print(messages: list[Message], *, as_json: bool) -> None:
    readable: list[dict[str, Any]] = [
        {
            "sequence": message.view.sequence,
            "time": render.time_of(message.view.time_ns),
            "subject": message.view.subject.decode(errors="replace"),
            "headers": message.view.headers,
            "payload": message.view.payload,
        }
        for message in messages
    ]
    if as_json:
        render.print_json(
            [
                message_json(**fields) | {"settled": message.is_settled}
                for fields, message in zip(readable, messages, strict=True)
            ]
        )
        return
    print_messages(readable)
    unsettled = sum(not message.is_settled for message in messages)
    if unsettled:
        typer.echo(f"the last {unsettled} of these are not known to be durable")
