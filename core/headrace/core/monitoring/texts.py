"""How monitoring writes times and durations. Source: the reference server 2.15, probed."""

import time

from headrace.core.base.clock import NS_PER_S

_UNITS = ((365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def timestamp(time_ns: int) -> str:
    """Give RFC 3339 in UTC, with the nanoseconds that are not zero."""
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    fraction = f".{rest_ns:09d}".rstrip("0") if rest_ns else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}{fraction}Z"


def uptime(duration_ns: int) -> str:
    """Give a duration in whole seconds for people: `0s`, `1m5s`, `2h3m4s`, `1d2h3m4s`, `1y2d3h4m5s`."""
    rest_s = max(0, duration_ns) // NS_PER_S
    text = ""
    for size_s, letter in _UNITS:
        count, rest_s = divmod(rest_s, size_s)
        if count or text or letter == "s":
            text += f"{count}{letter}"
    return text


def go_duration(duration_ns: int) -> str:
    """Give a short duration as Go prints it: `0s`, `920µs`, `1.5ms`, `2.000001s`; minutes and up as `uptime`."""
    if duration_ns == 0:
        return "0s"
    if duration_ns >= 60 * NS_PER_S:
        return uptime(duration_ns)
    for size_ns, unit in ((NS_PER_S, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if duration_ns >= size_ns:
            whole, rest = divmod(duration_ns, size_ns)
            fraction = f".{rest:0{len(str(size_ns)) - 1}d}".rstrip("0") if rest else ""
            return f"{whole}{fraction}{unit}"
    return f"{duration_ns}ns"
