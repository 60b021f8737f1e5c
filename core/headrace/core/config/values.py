"""Values that configuration and flags write as text: durations, addresses, storage sizes.

Each function raises ValueError with a sentence that says what would be accepted.
"""

import re
from typing import Final, NamedTuple

from headrace.core.base.clock import NS_PER_MS, NS_PER_S

_DURATION: Final = re.compile(r"(?P<sign>[-+]?)(?P<parts>(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)")
_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS_NS: Final = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,  # the micro sign
    "μs": 1000,  # the Greek letter, which Go accepts as well
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}
_STORAGE_SIZE: Final = re.compile(r"(-?\d+)([kmgt])(?:i?b)?", re.IGNORECASE)
_STORAGE_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

PORT_MAX: Final = 65535
PORT_ANY: Final = -1


class Address(NamedTuple):
    """Where to listen; `host` "" leaves it to others."""

    host: str
    port: int


def parse_duration(text: str) -> int:
    """Read a duration as Go writes it ("300ms", "1m30s", "1.5h"); gives nanoseconds."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text!r} is no duration; expected a number with a unit, such as "300ms", "20s" or "1m30s"'
        )
    total_ns = 0
    for number, unit in _DURATION_PART.findall(found["parts"]):
        whole, _, fraction = number.partition(".")
        total_ns += int(whole or "0") * _UNITS_NS[unit]
        if fraction:
            total_ns += int(fraction) * _UNITS_NS[unit] // int(10 ** len(fraction))
    return -total_ns if found["sign"] == "-" else total_ns


def checked_port(port: int) -> int:
    """Give `port` back if one can listen on it; -1 stands for any free port."""
    if not PORT_ANY <= port <= PORT_MAX:
        raise ValueError(f"{port} is no port; expected 0 to {PORT_MAX}, or -1 for any free port")
    return port


def parse_address(text: str) -> Address:
    """Read `host:port`, `[IPv6]:port` or `:port`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon:
        raise ValueError(f'could not parse address string "{text}"; expected "host:port"')
    try:
        return Address(host, checked_port(int(port)))
    except ValueError:
        raise ValueError(f'could not parse port "{port}"; expected 0 to {PORT_MAX}, or -1') from None


def parse_storage_size(text: str) -> int:
    """Read a size that stands in quotes ("10G", "64MB", "1GiB"); such sizes are binary, unlike bare ones."""
    found = _STORAGE_SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no size; sizes defined as strings must end in K, M, G, T")
    return int(found[1]) * _STORAGE_UNITS[found[2].lower()]


def format_address(host: str, port: int) -> str:
    """Give `host:port`, with IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
