"""What may differ between two runs of one scenario is replaced by a name: times, random names, ports, versions.

All else stays, so that a transcript says exactly what a server does. A value that is masked by its key must be
there on both sides; only its content is free.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

Json = Any
"""Whatever JSON can say; scenarios are free in what they note."""

MASKED_KEYS: Final = frozenset(
    {
        "_nats.ver",
        "active",
        "client_id",
        "client_ip",
        "leader",
        "nonce",
        "pause_remaining",
        "port",
        "server_id",
        "server_name",
        "version",
    }
)
"""Keys whose values say which server and which run it was."""

ABSENT_KEYS: Final = frozenset({"git_commit", "xkey", "go", "headrace", "headrace_engine"})
"""Keys that say how a server was made, or serve what is outside of the client's protocol: left out."""

PATTERNS: Final = (
    (
        re.compile(r"(?!0001-01-01T00:00:00Z)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"),
        "<time>",
    ),
    (re.compile(r"(\$JS\.ACK(?:\.[^.\s]+){5})\.\d{16,}\."), r"\1.<ns>."),
    (re.compile(r"(\$JS\.FC\.[^.\s]+\.[^.\s]+)\.\w+"), r"\1.<token>"),
    (re.compile(r"_INBOX\.[\w.]+"), "<inbox>"),
    (re.compile(r"raw\.inbox\.\d+"), "<inbox>"),
    (re.compile(r"\b[NX][A-Z2-7]{55}\b"), "<key>"),
    (re.compile(r"\b[0-9A-Za-z]{22}\b"), "<nuid>"),
    (re.compile(r"(?<!Bad Request - )invalid JSON: .*"), "invalid JSON: <why>"),
    (re.compile(r"Bad Request - (?:invalid character|invalid JSON|json:).*"), "Bad Request - <why>"),
)


def normalise(value: Json, aliases: Mapping[str, str], key: str = "") -> Json:
    """Give `value` without what is particular to one run; `aliases` names the run's own random texts."""
    match value:
        case dict():
            return {
                _text(str(name), aliases): normalise(item, aliases, str(name))
                for name, item in value.items()
                if name not in ABSENT_KEYS
            }
        case list() | tuple():
            return [normalise(item, aliases, key) for item in value]
        case _ if key in MASKED_KEYS and value not in ("", None):
            return f"<{key}>"
        case bytes():
            return _text(value.decode("latin-1"), aliases)
        case str():
            return _text(value, aliases)
        case _:
            return value


def _text(text: str, aliases: Mapping[str, str]) -> str:
    for found, name in aliases.items():
        text = text.replace(found, name)
    for pattern, name in PATTERNS:
        text = pattern.sub(name, text)
    return text
