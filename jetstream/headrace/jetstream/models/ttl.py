"""The value of a `Nats-TTL` header: how long a message stays.

Source: the streams reference, section 7.1.
"""

from typing import Final

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.consumers.durations import parse_duration

FOREVER: Final = -1
"""The TTL of a message that no age limit ends."""

SIZE_MAX: Final = 64
"""No duration is longer."""

SECONDS_MAX: Final = (2**63 - 1) // NS_PER_S


def parse_ttl(value: bytes) -> int | None:
    """Give a TTL in whole seconds, `FOREVER` for `never`, or None for what is no TTL of a second at least."""
    text = value.decode("utf-8", "replace")
    if len(text) > SIZE_MAX:
        return None
    if text.lower() == "never":
        return FOREVER
    is_number = text.isdigit() and text.isascii()
    seconds = int(text) if is_number else (parse_duration(text) or 0) // NS_PER_S
    return seconds if 1 <= seconds <= SECONDS_MAX else None
