"""What a message's headers ask for: `Nats-Trace-Dest`, `Nats-Trace-Only`, or a sampled `traceparent`.

Keys are case-sensitive, but for `traceparent`; fields without a value do not count.

Source: message tracing of the NATS server 2.15, probed; W3C Trace Context.
"""

from dataclasses import dataclass
from typing import Final

from headrace.core import headers as header_block

DESTINATION: Final = b"Nats-Trace-Dest"
DISABLED: Final = b"trace disabled"
"""A destination that is none: it stands where a message was traced already, or must not be."""

_ONLY: Final = "Nats-Trace-Only"
_ORIGIN_ACCOUNT: Final = "Nats-Trace-Origin-Account"
_ENCODING: Final = "Accept-Encoding"
_YES: Final = frozenset({"1", "true", "on"})
_SAMPLED_BIT: Final = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """`destination` "": the account's own. `is_only`: the message is not to be delivered."""

    destination: str
    is_only: bool
    origin_account: str
    takes_gzip: bool
    fields: dict[str, list[str]]


def wish_of(block: bytes) -> Wish | None:
    """Read a message's headers; None where they ask for no trace."""
    parsed = header_block.parse(block)
    fields: dict[str, list[str]] = {}
    is_external = False
    for name, value in () if parsed is None else parsed.fields:
        if not value:
            continue
        if name == DESTINATION and value == DISABLED:
            return None
        is_external = is_external or (name.lower() == b"traceparent" and _is_sampled(value))
        fields.setdefault(name.decode("utf-8", "replace"), []).append(value.decode("utf-8", "replace"))

    def first(name: str) -> str:
        return fields.get(name, [""])[0]

    destination = first(DESTINATION.decode())
    if not destination and not is_external:
        return None
    return Wish(
        destination=destination,
        is_only=bool(destination) and first(_ONLY).lower() in _YES,
        origin_account=first(_ORIGIN_ACCOUNT),
        takes_gzip="gzip" in first(_ENCODING).lower(),
        fields=dict(sorted(fields.items())),
    )


def disabled(block: bytes) -> bytes:
    """Give the headers so that nobody traces the message any further."""
    return redirected(block, DISABLED)


def redirected(block: bytes, destination: bytes) -> bytes:
    """Give the headers with another place for the trace."""
    return header_block.with_field(header_block.without(block, (DESTINATION,)), DESTINATION, destination)


def _is_sampled(value: bytes) -> bool:
    parts = value.split(b"-")
    if len(parts) != 4 or len(parts[3]) != 2:
        return False
    try:
        return bool(int(parts[3], 16) & _SAMPLED_BIT)
    except ValueError:
        return False
