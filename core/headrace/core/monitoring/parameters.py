"""Query parameters, with the reference's words for those that cannot be read."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from headrace.core.base.errors import HeadraceError

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_UNSIGNED: Final = re.compile(r"[0-9]{1,19}")


Item = TypeVar("Item")


class BadParameter(HeadraceError):
    """A parameter has no value that it can have."""


class Parameters:
    """The query of one request. A parameter that is absent or empty gives its default."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query

    def text(self, name: str) -> str:
        return self._query.get(name, "")

    def boolean(self, name: str, *, default: bool = False) -> bool:
        text = self.text(name)
        if not text:
            return default
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise BadParameter(
            f"Error decoding boolean for '{name}': strconv.ParseBool: parsing \"{text}\": invalid syntax"
        )

    def integer(self, name: str) -> int:
        text = self.text(name)
        if not text:
            return 0
        if _INTEGER.fullmatch(text) is None:
            raise BadParameter(
                f"Error decoding int for '{name}': strconv.Atoi: parsing \"{text}\": invalid syntax"
            )
        return int(text)

    def unsigned(self, name: str) -> int:
        text = self.text(name)
        if not text:
            return 0
        if _UNSIGNED.fullmatch(text) is None:
            raise BadParameter(
                f"Error decoding uint64 for '{name}': strconv.ParseUint: parsing \"{text}\": invalid syntax"
            )
        return int(text)


class Page:
    """Which part of a list is wanted: `offset` and `limit`."""

    DEFAULT_LIMIT: Final = 1024

    def __init__(self, parameters: Parameters) -> None:
        self.offset = max(0, parameters.integer("offset"))
        limit = parameters.integer("limit")
        self.limit = limit if limit > 0 else self.DEFAULT_LIMIT

    def of(self, items: "list[Item]") -> "list[Item]":
        """Give the part of `items`."""
        return items[self.offset : self.offset + self.limit]
