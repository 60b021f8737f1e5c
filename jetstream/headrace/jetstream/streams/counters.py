"""Counters: messages that say how much is to be added, stored as the total of their subject.

A total is an integer of any size. It stands in the payload of the subject's last message, `{"val":"<total>"}`, so that
deleting that message makes the one before count again. Beside it, `Nats-Counter-Sources` keeps what sourced streams
have contributed, by stream and subject; an increment takes it over. A sourced message carries its origin's total, so
what it adds is the difference to the total that was seen before.

Source: the streams reference, section 7.4.
"""

import json
import re
from typing import Final, NamedTuple

from headrace.core import headers
from headrace.core.base.message import View
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.streams.publish_headers import Wishes

DIGITS_MAX: Final = 4000
"""The most digits of an increment or a total: conversions beyond cost quadratic time."""

SOURCES: Final = b"Nats-Counter-Sources"

_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,%d}" % DIGITS_MAX)
_TOTAL_MAX: Final = 10**DIGITS_MAX


class Counter(NamedTuple):
    """Where one subject stands; `sources` is the header's value, or empty."""

    total: int = 0
    sources: bytes = b""


def parse_increment(value: bytes) -> int | None:
    """Give the increment that a header says, None where it says none."""
    return int(value) if _INTEGER.fullmatch(value) else None


def counter_of(view: View | None) -> Counter:
    """Read a subject's last message; none counts from 0. Raises ApiError where it is no counter's."""
    if view is None:
        return Counter()
    return Counter(total_of(view.payload), headers.get(view.headers, SOURCES) or b"")


def total_of(payload: bytes) -> int:
    """Read what is stored of a counter. Raises ApiError where it is none."""
    try:
        value = json.loads(payload)["val"].encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        value = b""
    total = parse_increment(value)
    if total is None:
        raise ApiError(error_table.MESSAGE_COUNTER_BROKEN)
    return total


def joined(counter: Counter, origin: str, subject: str, total: int) -> tuple[Counter, int]:
    """Give a counter with the total that an origin's subject has now, and what that adds. Raises ApiError."""
    try:
        sources: dict[str, dict[str, str]] = json.loads(counter.sources) if counter.sources else {}
        seen = sources.setdefault(origin, {})
        before = parse_increment(seen.get(subject, "0").encode()) or 0
        seen[subject] = str(total)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ApiError(error_table.MESSAGE_COUNTER_BROKEN) from error
    text = json.dumps(sources, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    increment = total - before
    return added(Counter(counter.total, text.encode()), increment), increment


def added(counter: Counter, increment: int) -> Counter:
    """Give what an increment makes of a counter. Raises ApiError where that is too large."""
    total = counter.total + increment
    if abs(total) >= _TOTAL_MAX:
        raise ApiError(error_table.MESSAGE_INCR_INVALID)
    return counter._replace(total=total)


def payload_of(counter: Counter) -> bytes:
    """Give what is stored."""
    return b'{"val":"%d"}' % counter.total


def check_increment(wishes: Wishes, payload: bytes, *, is_counting: bool) -> None:
    """Refuse an increment where none may be, or what may not be beside one. Raises ApiError."""
    if wishes.increment is None:
        return
    if parse_increment(wishes.increment) is None:
        raise ApiError(error_table.MESSAGE_INCR_INVALID)
    if not is_counting:
        raise ApiError(error_table.MESSAGE_INCR_DISABLED)
    if payload:
        raise ApiError(error_table.MESSAGE_INCR_PAYLOAD)
    others = (
        wishes.rollup,
        wishes.expected_stream,
        wishes.expected_last_message_id,
        wishes.expected_subject,
        wishes.expected_last_sequence,
        wishes.expected_last_subject_sequence,
    )
    if any(other is not None for other in others):
        raise ApiError(error_table.MESSAGE_INCR_INVALID)
