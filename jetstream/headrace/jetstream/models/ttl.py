"""The value of a `Nats-TTL` header: how long a message stays.

Source: the streams reference, section 7.1.
"""

from typing import Final

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.consumers.durations import parse_duration

SIZE_MAX: Final = 64
"""No duration is longer."""


def is_ttl(value: bytes) -> bool:
    """Tell whether a header's value is a TTL: `never`, seconds, or a duration of a second at least."""
    text = value.decode("utf-8", "replace")
    if len(text) > SIZE_MAX:
        return False
    if text.lower() == "never":
        return True
    if text.isdigit() and text.isascii():
        return int(text) >= 1
    duration_ns = parse_duration(text)
    return duration_ns is not None and duration_ns >= NS_PER_S
