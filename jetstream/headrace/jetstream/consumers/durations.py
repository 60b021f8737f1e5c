"""Durations as Go reads them (`1m30s`, `250ms`): clients send them in a NAK. They are written by `models/times.py`."""

import re
from typing import Final

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile("([0-9]+(?:[.][0-9]*)?|[.][0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_WHOLE: Final = re.compile(f"[+-]?(?:{_PART.pattern})+")


def parse_duration(text: str) -> int | None:
    """Give a duration in nanoseconds, or None where it is none."""
    if text in {"0", "+0", "-0"}:
        return 0
    if not _WHOLE.fullmatch(text):
        return None
    total = 0
    for number, unit in _PART.findall(text):
        whole, _, fraction = number.partition(".")
        scale = _UNITS_NS[unit]
        total += int(whole or 0) * scale + int(fraction or 0) * scale // 10 ** len(fraction)
    return -total if text[0] == "-" else total
