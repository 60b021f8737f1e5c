"""How the command line shows things: a table for people, one JSON document for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.core.base.clock import NS_PER_S

_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_ZERO_TIME: Final = "0001-01-01T00:00:00Z"
SHOWN_PAYLOAD_SIZE_MAX: Final = 200


def print_json(document: object) -> None:
    """Write one JSON document, indented, to standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in _SIZE_UNITS:
        if value < 1024 or unit == _SIZE_UNITS[-1]:
            return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the loop ends at the last unit")


def limit(value: int | None) -> str:
    """Write a limit of which -1 and 0 mean that there is none."""
    return "unlimited" if value is None or value <= 0 else f"{value:,}"


def duration(nanoseconds: int | None) -> str:
    """Write a duration in the largest units that fit."""
    if not nanoseconds:
        return "none"
    seconds, rest = divmod(nanoseconds, NS_PER_S)
    if seconds == 0:
        return f"{nanoseconds / 1e6:g}ms"
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    whole = "".join(f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if n)
    tail = f"{seconds + rest / NS_PER_S:g}s" if seconds or rest or not whole else ""
    return whole + tail


def time_text(stamp: str | None) -> str:
    """Write a wire timestamp, or `never` for the zero time."""
    return "never" if not stamp or stamp == _ZERO_TIME else stamp


def time_of(time_ns: int) -> str:
    """Write nanoseconds since 1970 as RFC 3339 in UTC, with all nine digits."""
    if time_ns == 0:
        return "never"
    seconds, nanoseconds = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def payload_text(payload: bytes) -> str:
    """Show a payload in one line: text as it is, anything else as its first bytes in hexadecimal."""
    shown = payload[:SHOWN_PAYLOAD_SIZE_MAX]
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = shown.hex(" ")
    else:
        text = "".join(c if c.isprintable() else " " for c in text)
    more = len(payload) - len(shown)
    return f"{text} … and {more:,} bytes more" if more else text


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns that hold numbers only are set to the right."""
    kept = [[str(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(kept) and all(row[index].replace(",", "").replace(".", "").isdigit() for row in kept)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in kept:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_fields(title: str, fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values below a title."""
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(str(value)))
    Console().print(table)


def config_fields(config: dict[str, Any], known: Sequence[str]) -> list[tuple[str, object]]:
    """Give the entries of a configuration that differ from nothing and are not in `known`."""
    return [
        (name, json.dumps(value) if isinstance(value, dict | list) else value)
        for name, value in config.items()
        if name not in known and value not in (None, False, "", 0, -1, {}, [])
    ]
