"""Times and durations as the JetStream API writes them.

A time is RFC 3339 in UTC with up to nine fractional digits, trailing zeros dropped; a moment that never was is
year 1. A duration in JSON is an integer of nanoseconds; in texts it is written as in `1m30s`.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from headrace.core.base.clock import NS_PER_S

ZERO_TIME: Final = "0001-01-01T00:00:00Z"

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND: Final = timedelta(seconds=1)


@lru_cache(maxsize=64)
def _whole_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def encode_time(time_ns: int) -> str:
    """Give a time of nanoseconds since 1970 as RFC 3339; 0 is the zero time."""
    if time_ns == 0:
        return ZERO_TIME
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    text = _whole_second(seconds)
    if rest_ns == 0:
        return text + "Z"
    return f"{text}.{rest_ns:09d}".rstrip("0") + "Z"


def parse_time(text: str) -> int:
    """Give the nanoseconds since 1970 of an RFC 3339 time; the zero time is 0. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time such as 2006-01-02T15:04:05Z")
    day, clock, fraction, zone = found.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    if moment.year == 1:
        return 0
    return (moment - _EPOCH) // _ONE_SECOND * NS_PER_S + int((fraction or "0").ljust(9, "0")[:9])


def duration_text(duration_ns: int) -> str:
    """Write a duration as `1h0m0s`, `1m30s`, `1.5s`, `250ms`, `10µs` or `5ns`."""
    if duration_ns == 0:
        return "0s"
    sign = "-" if duration_ns < 0 else ""
    rest = abs(duration_ns)
    for unit_ns, unit in ((1_000, "ns"), (1_000_000, "µs"), (NS_PER_S, "ms")):
        if rest < unit_ns:
            return f"{sign}{_decimal(rest, unit_ns // 1000)}{unit}"
    minutes, seconds_ns = divmod(rest, 60 * NS_PER_S)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(seconds_ns, NS_PER_S)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if fraction == 0:
        return str(whole)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
