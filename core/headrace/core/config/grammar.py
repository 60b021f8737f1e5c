"""The grammar of NATS configuration files: text in, a tree of values with their places out.

    # a comment, and // another
    port: 4222                      # `=`, `:` or blanks between key and value
    max_payload = 1MB
    authorization {
        users = [ {user: ada, password: "s3cret"}, {user: bob, password: $BOBS_PASSWORD} ]
    }
    include ./more.conf

Keys end at blanks, `=` and `:`. Bare values end at blanks, `,`, `;` and closing brackets; they are booleans, integers
with a size suffix, floats, dates, variables or, when nothing else, strings. JSON is a configuration too. A variable is
looked up in the enclosing maps from the inside out, among the keys that stand before it, then in the environment.

The parser walks the text once, one method for each kind of value, and keeps only the position and the maps that are
open. It knows no key but `include`.

Source: the reference server 2.15 ("Configuration"), probed; its messages are kept where a person reads them.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn

from headrace.core.config.tree import ConfigInvalid, Node, ParseError, Place, Table, Value

NESTING_MAX: Final = 100
"""How deep maps and arrays may stand in each other."""

INCLUDES_MAX: Final = 16
"""How deep files may include each other; more is taken for a circle."""

_BLANK: Final = " \t\r"
_KEY: Final = re.compile(r"[^\s=:]+")
_TOKEN: Final = re.compile(r"[^\s,;\]}]+")
_INTEGER: Final = re.compile(r"(-?[0-9]+)([kmgtpe](?:i?b|i)?)?", re.IGNORECASE)
_FLOAT: Final = re.compile(r"-?[0-9]+\.[0-9]+")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}")
_BLOCK_END: Final = re.compile(r"\n[ \t\r]*\)")
_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\"}
_POWERS: Final = {letter: power for power, letter in enumerate("kmgtpe", start=1)}
_BCRYPT_PREFIX: Final = "2a$"


def parse_integer(text: str) -> int | None:
    """Read an integer with its size suffix: `64` is 64, `1k` 1000, `1kb`, `1ki` and `1KiB` are 1024; else None."""
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    suffix = (found[2] or "").lower()
    if not suffix:
        return int(found[1])
    base = 1000 if len(suffix) == 1 else 1024
    return int(found[1]) * int(base ** _POWERS[suffix[0]])


def load_file(path: str, environment: Mapping[str, str] | None = None) -> Table:
    """Parse a file and all that it includes; raises ConfigInvalid, with ParseError for the grammar."""
    return _parse_file(path, os.environ if environment is None else environment, 0)


def parse(text: str, file: str = "configuration", environment: Mapping[str, str] | None = None) -> Table:
    """Parse a text; `file` is what errors call it, and its folder is where includes are looked for."""
    return _Parser(text, file, os.environ if environment is None else environment, 0).parse()


def _parse_file(path: str, environment: Mapping[str, str], depth: int) -> Table:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigInvalid([f"open {path}: {(error.strerror or str(error)).lower()}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid([f"{path}: not UTF-8 text (byte {error.start})"]) from error
    except ValueError as error:  # a path with a NUL in it
        raise ConfigInvalid([f"open {path!r}: invalid argument"]) from error
    return _Parser(text, path, environment, depth).parse()


class _Parser:
    def __init__(self, text: str, file: str, environment: Mapping[str, str], depth: int) -> None:
        self._text = text
        self._file = file
        self._environment = environment
        self._depth = depth  # of includes
        self._at = 0
        self._nesting = 0
        self._open: list[Table] = []

    # where we are

    def _place(self, at: int) -> Place:
        line = self._text.count("\n", 0, at) + 1
        return Place(self._file, line, at - self._text.rfind("\n", 0, at))

    def _fail(self, text: str, at: int | None = None) -> NoReturn:
        raise ParseError(self._place(self._at if at is None else at), text)

    def _seen(self) -> str:
        """Give the character at hand, "" at the end."""
        return self._text[self._at : self._at + 1]

    def _skip_comment(self) -> bool:
        if not self._text.startswith(("#", "//"), self._at):
            return False
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end
        return True

    def _skip(self, ignored: str) -> None:
        """Skip blanks, comments and the characters of `ignored`."""
        while (seen := self._seen()) and (
            seen in _BLANK or seen in ignored or self._text.startswith("//", self._at) or seen == "#"
        ):
            if not self._skip_comment():
                self._at += 1

    # maps

    def parse(self) -> Table:
        table = Table()
        self._at = 1 if self._text.startswith("\ufeff") else 0
        self._skip("\n")
        if self._seen() == "{":
            # A whole file in braces, as JSON is; what follows the brace is parsed as if there were none.
            self._at += 1
            self._parse_pairs(table, closing="}")
            self._at += 1
        self._parse_pairs(table, closing="")
        return table

    def _parse_pairs(self, table: Table, *, closing: str) -> None:
        """Parse pairs up to `closing`, which is not consumed; "" is the end of the text."""
        self._open.append(table)
        while True:
            self._skip("\n,;")
            seen = self._seen()
            if seen == closing:
                break
            if not seen:
                self._fail("Unexpected EOF processing map.")
            if seen == "}":
                self._fail("Unexpected map terminator '}'")
            self._parse_pair(table, closing)
            self._end_of_pair(closing)
        self._open.pop()

    def _end_of_pair(self, closing: str) -> None:
        self._skip("")
        seen = self._seen()
        if seen in {"", "\n", ",", ";"} or (closing and seen == closing):
            return
        if closing:
            self._fail(
                f'Expected a map value terminator "," or a map terminator "}}", but got {seen!r} instead.'
            )
        self._fail(
            f"Expected a top-level value to end with a new line, comment or EOF, but got {seen!r} instead."
        )

    def _parse_pair(self, table: Table, closing: str) -> None:
        at = self._at
        quoted = self._seen() in {'"', "'"}
        key = self._parse_key()
        if key == "include" and not quoted and self._seen() in {" ", "\t"}:
            self._parse_include(table, at)
            return
        self._skip("\n")
        if self._seen() in {"=", ":"}:
            self._at += 1
            self._skip("\n" if closing else "")
            if self._seen() == "\n":
                self._fail("Expected value but found new line")
        table.values[key] = self._parse_value(f"the value of {key!r}")
        table.places[key] = self._place(at)

    def _parse_key(self) -> str:
        seen = self._seen()
        if seen in {'"', "'"}:
            return self._parse_quoted()
        found = _KEY.match(self._text, self._at)
        if found is None:
            self._fail(f"Unexpected key separator {seen!r}")
        self._at = found.end()
        return found[0]

    def _parse_include(self, table: Table, at: int) -> None:
        self._skip("")
        seen = self._seen()
        path = self._parse_quoted() if seen in {'"', "'"} else self._parse_token()
        if self._depth >= INCLUDES_MAX:
            self._fail(f"include {path!r}: files include each other more than {INCLUDES_MAX} deep", at)
        full_path = os.path.join(os.path.dirname(self._file), path)
        try:
            included = _parse_file(full_path, self._environment, self._depth + 1)
        except ParseError:
            raise
        except ConfigInvalid as error:
            raise ConfigInvalid(
                [f"{self._place(at)}: error parsing include file {path!r}, {error}"]
            ) from error
        table.values.update(included.values)
        table.places.update(included.places)
        table.referenced.update(included.referenced)

    # values

    def _parse_value(self, what: str) -> Node:
        place = self._place(self._at)
        seen = self._seen()
        if seen == "{":
            return Node(self._parse_map(), place)
        if seen == "[":
            return Node(self._parse_array(), place)
        if seen in {'"', "'"}:
            return Node(self._parse_quoted(), place)
        if seen == "(":
            return Node(self._parse_block(), place)
        if not seen or seen in ",;]}":
            self._fail(
                f"Expected {what} but got {seen!r}"
                if seen
                else f"Expected {what} but found the end of the file"
            )
        return self._parse_bare(place)

    def _nest(self) -> None:
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            self._fail(f"Maps and arrays stand more than {NESTING_MAX} deep in each other")

    def _parse_map(self) -> Table:
        self._nest()
        table = Table()
        self._at += 1
        self._parse_pairs(table, closing="}")
        self._at += 1
        self._nesting -= 1
        return table

    def _parse_array(self) -> list[Node]:
        self._nest()
        opened = self._at
        items: list[Node] = []
        self._at += 1
        while True:
            self._skip("\n,")
            if self._seen() == "]":
                break
            if not self._seen():
                self._fail("Unexpected EOF processing array.", opened)
            items.append(self._parse_value("a value of the array"))
            self._skip("")
            seen = self._seen()
            if seen not in {"\n", ",", "]", ""}:
                self._fail(
                    f'Expected an array value terminator "," or an array terminator "]", but got {seen!r} instead.'
                )
        self._at += 1
        self._nesting -= 1
        return items

    def _parse_quoted(self) -> str:
        """Parse `"..."` with escapes, or `'...'` without."""
        opened = self._at
        quote = self._seen()
        self._at += 1
        parts: list[str] = []
        while (seen := self._seen()) != quote:
            if not seen:
                self._fail("Unexpected EOF in a string that began here.", opened)
            self._at += 1
            parts.append(self._parse_escape() if seen == "\\" and quote == '"' else seen)
        self._at += 1
        return "".join(parts)

    def _parse_escape(self) -> str:
        seen = self._seen()
        if seen == "x":
            found = _HEX.match(self._text, self._at + 1)
            if found is None:
                self._fail("Expected two hexadecimal digits after '\\x'.")
            self._at = found.end()
            return chr(int(found[0], 16))
        if seen not in _ESCAPES:
            self._fail(
                f"Invalid escape character {seen!r}. Only the following escape characters are allowed: "
                '\\xXX, \\t, \\n, \\r, \\", \\\\.'
            )
        self._at += 1
        return _ESCAPES[seen]

    def _parse_block(self) -> str:
        """Parse `( ... )`, whose closing bracket stands alone on its line."""
        found = _BLOCK_END.search(self._text, self._at)
        if found is None:
            self._fail("Unexpected EOF in a block that began here; it ends with ')' alone on a line.")
        text = self._text[self._at + 1 : found.start() + 1]
        self._at = found.end()
        return text

    def _parse_token(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self._fail(f"Expected a value but got {self._seen()!r}")
        self._at = found.end()
        return found[0]

    def _parse_bare(self, place: Place) -> Node:
        at = self._at
        token = self._parse_token()
        if token.startswith("$") and not token.startswith(_BCRYPT_PREFIX, 1):
            return self._variable(token[1:], place)
        if token.startswith("-") and not token[1:2].isdigit():
            self._fail(f"Expected a digit but got {token[1:2]!r}.", at)
        return Node(_scalar(token), place)

    def _variable(self, name: str, place: Place) -> Node:
        for table in reversed(self._open):
            if name in table.values:
                table.referenced.add(name)
                return Node(table.values[name].value, place)
        if name not in self._environment:
            raise ConfigInvalid(
                [f"{place}: variable reference for {name!r} on line {place.line} can not be found"]
            )
        # The text of a variable is parsed as a value stands in a file, so numbers and arrays can come from there.
        # It sees no other variable: that one could name itself.
        text = self._environment[name]
        inner = _Parser(f"{name} = {text}", f"${name}", {}, self._depth).parse()
        return Node(inner.values[name].value, place)


def _scalar(token: str) -> Value:
    as_boolean = _BOOLEANS.get(token.lower())
    if as_boolean is not None:
        return as_boolean
    as_integer = parse_integer(token)
    if as_integer is not None:
        return as_integer
    if _FLOAT.fullmatch(token):
        return float(token)
    if _DATE.fullmatch(token):
        try:
            return datetime.strptime(token, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            return token
    return token
