"""What a publisher asks for in headers: the wishes of one message, read once.

Most messages have no header that means something to a stream; `NO_WISHES` stands for them. Values are kept as they
came: what is wrong with one is said in its turn among the checks, not here.

Source: the streams reference, section 6.1.
"""

from typing import Final, NamedTuple

from headrace.core import headers


class Wishes(NamedTuple):
    """The headers of a publish that a stream understands; None where one was not given."""

    message_id: bytes = b""
    expected_stream: bytes | None = None
    expected_last_sequence: bytes | None = None
    expected_last_subject_sequence: bytes | None = None
    expected_subject: bytes | None = None
    expected_last_message_id: bytes | None = None
    rollup: bytes | None = None
    ttl: bytes | None = None
    increment: bytes | None = None
    schedule: bytes | None = None
    schedule_target: bytes | None = None
    schedule_source: bytes | None = None
    schedule_ttl: bytes | None = None
    schedule_rollup: bytes | None = None
    schedule_zone: bytes | None = None
    schedule_next: bytes | None = None
    scheduler: bytes | None = None
    source: bytes | None = None


NO_WISHES: Final = Wishes()

_FIELDS: Final = {
    b"Nats-Msg-Id": "message_id",
    b"Nats-Expected-Stream": "expected_stream",
    b"Nats-Expected-Last-Sequence": "expected_last_sequence",
    b"Nats-Expected-Last-Subject-Sequence": "expected_last_subject_sequence",
    b"Nats-Expected-Last-Subject-Sequence-Subject": "expected_subject",
    b"Nats-Expected-Last-Msg-Id": "expected_last_message_id",
    b"Nats-Rollup": "rollup",
    b"Nats-TTL": "ttl",
    b"Nats-Incr": "increment",
    b"Nats-Schedule": "schedule",
    b"Nats-Schedule-Target": "schedule_target",
    b"Nats-Schedule-Source": "schedule_source",
    b"Nats-Schedule-TTL": "schedule_ttl",
    b"Nats-Schedule-Rollup": "schedule_rollup",
    b"Nats-Schedule-Time-Zone": "schedule_zone",
    b"Nats-Schedule-Next": "schedule_next",
    b"Nats-Scheduler": "scheduler",
    b"Nats-Stream-Source": "source",
}


def parse_wishes(block: bytes) -> Wishes:
    """Read a header block; the first of several fields with one name counts, an empty value is none.

    Only an empty time zone is one, which is wrong.
    """
    if b"Nats-" not in block:
        return NO_WISHES
    parsed = headers.parse(block)
    if parsed is None:
        return NO_WISHES
    found: dict[str, bytes] = {}
    for key, value in parsed.fields:
        name = _FIELDS.get(key)
        if name is not None and (value or name == "schedule_zone"):
            found.setdefault(name, value)
    return Wishes(**found) if found else NO_WISHES


def without_status(block: bytes) -> bytes:
    """Give a block to store: a status in its first line is not kept."""
    if not block or block.startswith(b"NATS/1.0\r\n"):
        return block
    parsed = headers.parse(block)
    if parsed is None:
        return block
    return headers.encode(parsed.fields) if parsed.fields else b""
