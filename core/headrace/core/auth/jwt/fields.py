"""Typed reading of JSON objects that somebody else wrote.

Every reader gives a default for what is missing or null, and raises BadToken for what has the wrong type: a token
that cannot be understood as a whole is not understood at all.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar, cast

from headrace.core.base.errors import HeadraceError

Kind = TypeVar("Kind")

INT64_MAX: Final = 2**63 - 1


class BadToken(HeadraceError):
    """A token that is malformed, wrongly signed, or says what cannot be."""


class Fields:
    """One JSON object; `where` names it in errors."""

    __slots__ = ("_values", "_where")

    def __init__(self, values: Mapping[str, object], where: str = "") -> None:
        self._values = values
        self._where = where

    @classmethod
    def of(cls, value: object, where: str = "") -> "Fields":
        """Cover a value that must be an object; null counts as an empty one."""
        if value is None:
            return cls({}, where)
        if not isinstance(value, dict):
            raise BadToken(f"{where or 'the claims'}: expected an object, got {type(value).__name__}")
        return cls(cast("dict[str, object]", value), where)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def text(self, name: str) -> str:
        value = self._values.get(name, "")
        return "" if value is None else self._checked(name, value, str)

    def number(self, name: str, default: int = 0) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > INT64_MAX:
            raise self._mistyped(name, "a 64-bit integer")
        return value

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        return False if value is None else self._checked(name, value, bool)

    def texts(self, name: str) -> tuple[str, ...]:
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self._mistyped(name, "a list of strings")
        return cast("tuple[str, ...]", items)

    def items(self, name: str) -> tuple[object, ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._mistyped(name, "a list")
        return tuple(cast("list[object]", value))

    def inner(self, name: str) -> "Fields":
        return Fields.of(self._values.get(name), self._path(name))

    def objects(self, name: str) -> tuple["Fields", ...]:
        """Give a list of objects; null is none of them."""
        items = self.items(name)
        if any(item is None for item in items):
            raise self._mistyped(name, "a list of objects")
        return tuple(Fields.of(item, self._path(name)) for item in items)

    def numbers(self, name: str) -> dict[str, int]:
        """Give an object whose values are integers."""
        held = self.inner(name)
        return {key: held.number(key) for key in held}

    def raw(self, name: str) -> object:
        return self._values.get(name)

    def _checked(self, name: str, value: object, kind: type[Kind]) -> Kind:
        if not isinstance(value, kind):
            raise self._mistyped(name, "a string" if kind is str else "true or false")
        return value

    def _mistyped(self, name: str, wanted: str) -> BadToken:
        return BadToken(f"{self._path(name)}: expected {wanted}, got {type(self._values.get(name)).__name__}")

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name
