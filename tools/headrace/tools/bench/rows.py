"""The rows of the benchmark: which load, and how durable the acks are on either side."""

from dataclasses import dataclass
from typing import Final

from headrace.tools.bench.loads import Deliver, Load, Publish, Pull, Push, Request, StreamPublish

HEADERS: Final = b"NATS/1.0\r\nNats-Trace: 0123456789abcdef\r\n\r\n"

SYNCED: Final = "always"
UNSYNCED: Final = "2m"
"""The reference's default: an ack does not wait for the disk."""

DURABILITY: Final = {SYNCED: "synced", UNSYNCED: "unsynced", "": "-"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `ours` and `theirs` are the `sync_interval`s, empty where nothing is stored."""

    name: str
    title: str
    load: Load
    ours: str = ""
    theirs: str = ""


def _stream_rows() -> list[Row]:
    rows: list[Row] = []
    for name, ours, theirs in (
        ("durable", SYNCED, SYNCED),
        ("durable-default", SYNCED, UNSYNCED),
        ("unsynced", UNSYNCED, UNSYNCED),
    ):
        for window in (1, 64, 256, 4096):
            title = f"stream publish, window {window}"
            rows.append(Row(f"{name}-{window}", title, StreamPublish(window=window), ours, theirs))
        load = StreamPublish(window=1, clients=16)
        rows.append(Row(f"{name}-16x1", "stream publish, 16 clients, window 1", load, ours, theirs))
    return rows


def _consumer_rows() -> list[Row]:
    return [
        Row(f"{name}{suffix}", title, load, ours, UNSYNCED)
        for suffix, ours in (("", SYNCED), ("-unsynced", UNSYNCED))
        for name, title, load in (
            ("pull-500", "pull 500, each acked", Pull(batch=500)),
            ("push", "push without acks", Push()),
        )
    ]


ROWS: Final[tuple[Row, ...]] = (
    Row("publish-16", "publish 16 B, nobody listens", Publish(size=16)),
    Row("publish-128", "publish 128 B, nobody listens", Publish(size=128)),
    Row("publish-128-100", "publish 128 B, 100 subjects", Publish(size=128, subjects=100)),
    Row("publish-128-60000", "publish 128 B, 60,000 subjects", Publish(size=128, subjects=60_000)),
    Row("deliver-128", "1 → 1, 128 B", Deliver(size=128)),
    Row("deliver-128-100", "1 → 1, 128 B, 100 subjects", Deliver(size=128, subjects=100)),
    Row("deliver-128-60000", "1 → 1, 128 B, 60,000 subjects", Deliver(size=128, subjects=60_000)),
    Row("deliver-headers", "1 → 1, 128 B and headers", Deliver(size=128, headers=HEADERS)),
    Row("deliver-1k", "1 → 1, 1 KiB", Deliver(size=1024)),
    Row("fanout-8", "1 → 8, 128 B, by delivery", Deliver(size=128, fanout=8)),
    Row("queue-8", "queue group of 8, 128 B", Deliver(size=128, members=8)),
    Row("pairs-4", "4 pairs 1 → 1, 128 B", Deliver(size=128, pairs=4)),
    Row(
        "deliver-wildcards",
        "1 → 1 beside 100,000 wildcards",
        Deliver(size=128, subjects=100, wildcards=100_000),
    ),
    Row("request-1", "request and reply, 1 in flight", Request(in_flight=1)),
    Row("request-50", "request and reply, 50 in flight", Request(in_flight=50)),
    *_stream_rows(),
    *_consumer_rows(),
)


def selected(names: str) -> list[Row]:
    """Give the rows named, separated by commas; a name that ends with `*` means all that begin so. Empty: all.

    Raises ValueError for a name that means no row.
    """
    if not names:
        return list(ROWS)
    found: list[Row] = []
    for name in names.split(","):
        wanted = name.strip()
        matching = [row for row in ROWS if row.name == wanted or _begins(row.name, wanted)]
        if not matching:
            raise ValueError(f"no row is named {wanted!r}; --list shows them all")
        found.extend(row for row in matching if row not in found)
    return found


def _begins(name: str, wanted: str) -> bool:
    return wanted.endswith("*") and name.startswith(wanted[:-1])
