"""A parsed configuration: values that know where they stand.

A `Table` keeps the keys as they were written. Which keys mean the same, and which exist at all, is for the models.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headrace.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ConfigInvalid(ConfigError):
    """A configuration file cannot be used. One line a problem: where, which key, and what would be accepted."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ParseError(ConfigInvalid):
    """The text is not in the grammar."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__((f"{place}: Parse error on line {place.line}: '{text}'",))
        self.place = place


@dataclass(slots=True)
class Table:
    """A map: values by key as written, and where each key stands.

    `referenced` holds the keys that a `$variable` named. Such a key need not be known to the models.
    """

    values: "dict[str, Node]" = field(default_factory=dict[str, "Node"])
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    referenced: set[str] = field(default_factory=set[str])


Scalar = str | int | float | bool | datetime
Value = Scalar | Table | list["Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it begins."""

    value: Value
    place: Place


Plain = Scalar | dict[str, "Plain"] | list["Plain"]


def plain(value: Value) -> Plain:
    """Give the value without places."""
    if isinstance(value, Table):
        return {key: plain(node.value) for key, node in value.values.items()}
    if isinstance(value, list):
        return [plain(node.value) for node in value]
    return value


def digest(table: Table) -> str:
    """Give `sha256:` and the hash of the table as compact JSON with sorted keys and a line end.

    So the same configuration has the same digest however it is written. Source: the reference server, probed;
    like it, `<`, `>` and `&` are escaped in strings.
    """
    text = json.dumps(plain(table), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_stamp)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return "sha256:" + hashlib.sha256(text.encode() + b"\n").hexdigest()


def _stamp(value: object) -> str:
    assert isinstance(value, datetime), "only dates are no JSON values"
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
