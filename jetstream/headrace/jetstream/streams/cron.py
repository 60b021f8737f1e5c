"""When a schedule is due: once at a time, every so often, or by a cron pattern.

A cron pattern has six fields, seconds first, and is read in a time zone, UTC where none is named. Patterns are parsed
and followed by the library cronsim, whose extensions are refused here.

Source: the streams reference, section 7.3.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream import error_table
from headrace.jetstream.consumers.durations import parse_duration
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.times import parse_time

PATTERN_SIZE_MAX: Final = 256

_NAMED: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_FIELD: Final = re.compile(r"(?:[0-9]+|[A-Za-z]{3}|\*|\?)(?:-(?:[0-9]+|[A-Za-z]{3}))?(?:/[0-9]+)?")
_SUNDAY_AS_SEVEN: Final = re.compile(r"(?<![0-9/])7(?![0-9])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Due(NamedTuple):
    """When a schedule is due next, and whether it is again after that."""

    time_ns: int
    repeats: bool


def zone_of(value: bytes | None) -> str:
    """Give the name of the time zone that a header names, empty where there is none. Raises ApiError 10223."""
    if value is None:
        return ""
    name = value.decode("utf-8", "replace")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ApiError(error_table.MESSAGE_SCHEDULES_TIME_ZONE_INVALID) from None
    return name


def due_after(pattern: bytes, zone: str, after_ns: int, now_ns: int) -> Due:
    """Give the first time after `after_ns` that a pattern means. Raises ApiError 10189.

    Of a repeating one, what would have been due before `now_ns` is passed over.
    """
    text = pattern.decode("utf-8", "replace")
    try:
        return _due_after(text, zone, after_ns, now_ns)
    except (ValueError, OverflowError, CronSimError, StopIteration):
        raise ApiError(error_table.MESSAGE_SCHEDULES_PATTERN_INVALID) from None


def _due_after(text: str, zone: str, after_ns: int, now_ns: int) -> Due:
    if len(text) > PATTERN_SIZE_MAX:
        raise ValueError("too long")
    kind, _, rest = text.partition(" ")
    if kind in {"@at", "@every"} and zone:
        raise ValueError("no zone may be named")
    if kind == "@at":
        return Due(parse_time(rest), repeats=False)
    if kind == "@every":
        every_ns = parse_duration(rest)
        if every_ns is None or every_ns < NS_PER_S:
            raise ValueError("no duration of a second at least")
        due_ns = _whole_second(after_ns) + every_ns
        return Due(due_ns if due_ns >= now_ns else _whole_second(now_ns) + every_ns, repeats=True)
    cron = _checked_cron(_NAMED.get(text, text))
    due_ns = _cron_after(cron, zone, after_ns)
    return Due(due_ns if due_ns >= now_ns else _cron_after(cron, zone, _whole_second(now_ns)), repeats=True)


def _whole_second(time_ns: int) -> int:
    return (time_ns + NS_PER_S // 2) // NS_PER_S * NS_PER_S


@lru_cache(maxsize=256)
def _checked_cron(text: str) -> str:
    fields = text.split()
    if len(fields) != 6:
        raise ValueError("six fields are needed")
    for field in fields:
        if not all(_FIELD.fullmatch(part) for part in field.split(",")):
            raise ValueError(f"{field!r} is no field")
    if _SUNDAY_AS_SEVEN.search(fields[5]):
        raise ValueError("days of the week end with 6")
    return " ".join(field.replace("?", "*") for field in fields)


def _cron_after(cron: str, zone: str, after_ns: int) -> int:
    after = (_EPOCH + timedelta(microseconds=after_ns // 1000)).astimezone(ZoneInfo(zone) if zone else UTC)
    moment = next(CronSim(cron, after)).astimezone(UTC)
    return (moment - _EPOCH) // timedelta(seconds=1) * NS_PER_S
