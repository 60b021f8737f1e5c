"""Subject transforms: from a subject that a pattern matches to another one made of its tokens.

A transform has a *source*, a pattern, and a *destination*, a subject some tokens of which are functions of the tokens
that the source's `*` stood for (counted from 1):

    orders.*.*   →  o.{{wildcard(2)}}.{{partition(8,1)}}
    events.>     →  audit.events.>

It is parsed once, into one small function for each destination token; applying it then splits the subject, calls
them, and joins. A destination that ends in `>` takes over all tokens that the source's `>` stood for, so
either both end in one or neither. Mappings of accounts, imports, stream transforms, sources and republishing all use
this module; what more each of them forbids is their own business, but for *strict* transforms, those that can be
`reversed`: nothing but wildcards, each of them used.

Source: the NATS server 2.15's documentation of subject mapping, probed.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.errors import HeadraceError
from headrace.core.subject import ANY_TAIL, ANY_TOKEN, has_empty_token, join, matches, tokens

Part = Callable[[Sequence[bytes], Chance], bytes]
"""A destination token: from the tokens of a subject to what stands in its place."""

_INTEGER: Final = re.compile(rb"[+-]?[0-9]+")
_INTEGER_MAX: Final = 2**31 - 1
_COMMA: Final = re.compile(rb",\s*")
_OLD_WILDCARD: Final = re.compile(rb"\$([+-]?[0-9]+)")

BAD_SUBJECT: Final = "invalid subject"
_PREFIX: Final = "invalid mapping destination: "
INVALID_TRANSFORM: Final = _PREFIX + "invalid transform"
NOT_ALL_WILDCARDS: Final = _PREFIX + "not using all of the token wildcard(s)"
UNKNOWN_FUNCTION: Final = _PREFIX + "unknown function"
OUT_OF_RANGE: Final = _PREFIX + "wildcard index out of range"
NOT_ENOUGH_ARGUMENTS: Final = _PREFIX + "not enough arguments passed to the function"
INVALID_ARGUMENT: Final = _PREFIX + "function argument is invalid or in the wrong format"
TOO_MANY_ARGUMENTS: Final = _PREFIX + "too many arguments passed to the function"
ONLY_WILDCARDS: Final = _PREFIX + "the only mapping function allowed for import transforms is {{Wildcard()}}"


class TransformInvalid(HeadraceError):
    """A source and a destination that are no transform; the text is the reference server's."""

    def __init__(self, text: str, token: bytes = b"") -> None:
        super().__init__(f"{text} in {token.decode(errors='replace')}" if token else text)
        self.text = text
        self.token = token


class SubjectTransform:
    """One transform, ready for use. `is_deterministic`: the same subject always becomes the same one."""

    __slots__ = ("_parts", "_tail_index", "destination", "is_deterministic", "source")

    def __init__(self, source: bytes, destination: bytes, *, strict: bool = False) -> None:
        """Parse it; raises TransformInvalid. No source stands for `>`, no destination for "as it is"."""
        self.source = source or ANY_TAIL
        self.destination = destination
        self.is_deterministic = True
        self._parts: list[Part] = []
        self._tail_index = -1  # of the source's `>`, where there is one
        if not destination:
            return
        source_tokens = tokens(self.source)
        destination_tokens = tokens(destination)
        has_tail = source_tokens[-1] == ANY_TAIL
        if (
            not _is_pattern(source_tokens)
            or not _is_pattern(destination_tokens)
            or ANY_TOKEN in destination_tokens
            or has_tail != (destination_tokens[-1] == ANY_TAIL)
        ):
            raise TransformInvalid(BAD_SUBJECT)
        if has_tail:
            self._tail_index = len(source_tokens) - 1
            destination_tokens.pop()
        wildcards = [index for index, token in enumerate(source_tokens) if token == ANY_TOKEN]
        used = 0
        for token in destination_tokens:
            call = _parse_call(token)
            if call is None:
                self._parts.append(_literal(token))
                continue
            if strict and call.name != "wildcard":
                raise TransformInvalid(ONLY_WILDCARDS, token)
            if not wildcards and not has_tail and call.name not in {"partition", "random"}:
                raise TransformInvalid(OUT_OF_RANGE, token)
            for wildcard in call.wildcards:
                if wildcard > len(wildcards):
                    raise TransformInvalid(OUT_OF_RANGE, token + b": [%d]" % wildcard)
            used += len(call.wildcards)
            # What is no wildcard's number, but below all, means the first token, as in the reference.
            indexes = [wildcards[number - 1] if number > 0 else 0 for number in call.wildcards]
            self._parts.append(call.make(indexes, call.number, call.text))
            self.is_deterministic = self.is_deterministic and call.name != "random"
        if strict and used < len(wildcards):
            raise TransformInvalid(NOT_ALL_WILDCARDS, destination)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SubjectTransform)
            and self.source == other.source
            and self.destination == other.destination
        )

    def __hash__(self) -> int:
        return hash((self.source, self.destination))

    def __repr__(self) -> str:
        return f"SubjectTransform({self.source!r}, {self.destination!r})"

    def match(self, subject: bytes, chance: Chance) -> bytes | None:
        """Give what a literal subject becomes; None where the source does not match it."""
        if not matches(self.source, subject):
            return None
        return self.apply(subject, chance)

    def apply(self, subject: bytes, chance: Chance) -> bytes:
        """Give what a subject becomes that the source is known to match."""
        if not self.destination:
            return subject
        given = tokens(subject)
        made = [part(given, chance) for part in self._parts]
        if self._tail_index >= 0:
            made += given[self._tail_index :]
        return join(made)

    def reversed(self) -> "SubjectTransform":
        """Give the way back of a strict transform."""
        pattern, placed = untokenize_wildcards(self.destination)
        numbers = {wildcard: number for number, wildcard in enumerate(placed, 1)}
        back: list[bytes] = []
        count = 0
        for token in tokens(self.source):
            if token == ANY_TOKEN:
                count += 1
                back.append(b"$%d" % numbers[count])
            else:
                back.append(token)
        return SubjectTransform(pattern, join(back), strict=True)


def check_mapping(source: bytes, destination: bytes) -> None:
    """Raise TransformInvalid if an account's mapping could not be this one.

    Source: the reference's check of mappings in configurations and claims, which knows no `Left` and `Right`.
    """
    if not destination:
        return
    parts = tokens(destination)
    for index, token in enumerate(parts):
        if not token or ANY_TAIL in parts[:index]:
            raise TransformInvalid(INVALID_TRANSFORM, token)
        if _is_call(token):
            if not any(rule.search(token) for name, rule, *_ in _FUNCTIONS if name not in {"left", "right"}):
                raise TransformInvalid(UNKNOWN_FUNCTION, token)
        elif any(blank in token for blank in b"\t\n\f\r "):
            raise TransformInvalid(INVALID_TRANSFORM)
    SubjectTransform(source, destination)


def tokenize_wildcards(pattern: bytes) -> bytes:
    """Give a pattern as a destination: its `*` as `$1`, `$2`, and so on."""
    made: list[bytes] = []
    count = 0
    for token in tokens(pattern):
        if token == ANY_TOKEN:
            count += 1
            made.append(b"$%d" % count)
        else:
            made.append(token)
    return join(made)


def untokenize_wildcards(destination: bytes) -> tuple[bytes, list[int]]:
    """Give a destination as a pattern, wildcards where it has numbers, and those numbers in their order."""
    made: list[bytes] = []
    placed: list[int] = []
    for token in tokens(destination):
        call = _parse_call(token)
        if call is not None and call.name == "wildcard":
            placed.append(call.wildcards[0])
            made.append(ANY_TOKEN)
        else:
            made.append(token)
    return join(made), placed


# parsing


class _Call:
    """A function as it stands in a destination."""

    __slots__ = ("make", "name", "number", "text", "wildcards")

    def __init__(
        self,
        name: str,
        make: "_Make",
        wildcards: Sequence[int] = (),
        number: int = 0,
        text: bytes = b"",
    ) -> None:
        self.name = name
        self.make = make
        self.wildcards = wildcards
        self.number = number
        self.text = text


_Make = Callable[[Sequence[int], int, bytes], Part]
_ReadArguments = Callable[[str, "_Make", Sequence[bytes], bytes], _Call]


def _is_pattern(parts: Sequence[bytes]) -> bool:
    return not has_empty_token(join(list(parts))) and ANY_TAIL not in parts[:-1]


def _is_call(token: bytes) -> bool:
    return len(token) > 4 and token.startswith(b"{{") and token.endswith(b"}}")


def _parse_call(token: bytes) -> _Call | None:
    """Read a destination token; None where it is a literal one."""
    old = _OLD_WILDCARD.fullmatch(token)
    if old is not None:
        return _Call("wildcard", _wildcard, (int(old[1]),))
    if not _is_call(token):
        return None
    for name, rule, read, make in _FUNCTIONS:
        found = rule.search(token)
        if found is not None:
            return read(name, make, _COMMA.split(found[1]), token)
    raise TransformInvalid(UNKNOWN_FUNCTION, token)


def _integer(text: bytes, token: bytes) -> int:
    text = text.strip(b" ")
    if _INTEGER.fullmatch(text) is None or int(text) > _INTEGER_MAX or int(text) < -_INTEGER_MAX - 1:
        raise TransformInvalid(INVALID_ARGUMENT, token)
    return int(text)


def _read_wildcard(name: str, make: _Make, arguments: Sequence[bytes], token: bytes) -> _Call:
    if not arguments[0] and len(arguments) == 1:
        raise TransformInvalid(NOT_ENOUGH_ARGUMENTS, token)
    if len(arguments) > 1:
        raise TransformInvalid(TOO_MANY_ARGUMENTS, token)
    return _Call(name, make, (_integer(arguments[0], token),))


def _read_partition(name: str, make: _Make, arguments: Sequence[bytes], token: bytes) -> _Call:
    count, *wildcards = [_integer(argument, token) for argument in arguments]
    return _Call(name, make, wildcards, count)


def _read_random(name: str, make: _Make, arguments: Sequence[bytes], token: bytes) -> _Call:
    if len(arguments) != 1:
        raise TransformInvalid(NOT_ENOUGH_ARGUMENTS, token)
    return _Call(name, make, (), _integer(arguments[0], token))


def _check_two(arguments: Sequence[bytes], token: bytes) -> None:
    if len(arguments) < 2:
        raise TransformInvalid(NOT_ENOUGH_ARGUMENTS, token)
    if len(arguments) > 2:
        raise TransformInvalid(TOO_MANY_ARGUMENTS, token)


def _read_wildcard_and_number(name: str, make: _Make, arguments: Sequence[bytes], token: bytes) -> _Call:
    _check_two(arguments, token)
    return _Call(name, make, (_integer(arguments[0], token),), _integer(arguments[1], token))


def _read_split(name: str, make: _Make, arguments: Sequence[bytes], token: bytes) -> _Call:
    _check_two(arguments, token)
    wildcard = _integer(arguments[0], token)
    if b" " in arguments[1]:
        raise TransformInvalid(INVALID_ARGUMENT, token)
    return _Call(name, make, (wildcard,), 0, arguments[1])


# functions


def _literal(token: bytes) -> Part:
    return lambda _given, _chance: token


def _wildcard(indexes: Sequence[int], _number: int, _text: bytes) -> Part:
    index = indexes[0]
    return lambda given, _chance: given[index]


def _partition(indexes: Sequence[int], number: int, _text: bytes) -> Part:
    count = number & 0xFFFFFFFF

    def part(given: Sequence[bytes], _chance: Chance) -> bytes:
        if count == 0:
            return b"0"
        key = b"".join([given[index] for index in indexes]) if indexes else join(list(given))
        return b"%d" % (fnv1a(key) % count)

    return part


def _random(_indexes: Sequence[int], number: int, _text: bytes) -> Part:
    count = abs(number)
    return lambda _given, chance: b"%d" % chance.below(count) if count else b"0"


def _split(indexes: Sequence[int], _number: int, separator: bytes) -> Part:
    index = indexes[0]

    def part(given: Sequence[bytes], _chance: Chance) -> bytes:
        token = given[index]
        if not separator:
            characters = token.decode("utf-8", "surrogateescape")
            return join([character.encode("utf-8", "surrogateescape") for character in characters])
        return join([piece for piece in token.split(separator) if piece])

    return part


def _cutting(cut: Callable[[bytes, int], list[bytes]]) -> _Make:
    """Make a function that cuts a token with a number; one that is too short for it stays whole."""

    def make(indexes: Sequence[int], number: int, _text: bytes) -> Part:
        index = indexes[0]

        def part(given: Sequence[bytes], _chance: Chance) -> bytes:
            token = given[index]
            return join(cut(token, number)) if 0 < number < len(token) else token

        return part

    return make


def _sliced(token: bytes, size: int, first: int) -> list[bytes]:
    pieces = [token[:first]] if first else []
    return pieces + [token[place : place + size] for place in range(first, len(token), size)]


def fnv1a(key: bytes) -> int:
    """Give the 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _rule(name: str) -> re.Pattern[bytes]:
    """Accept the first letter of each word of a function's name in either case."""
    spelled = "".join(f"[{letter.lower()}{letter}]" if letter.isupper() else letter for letter in name)
    return re.compile(rb"\{\{\s*" + spelled.encode() + rb"\s*\((.*)\)\s*\}\}")


_FUNCTIONS: Final[tuple[tuple[str, re.Pattern[bytes], _ReadArguments, _Make], ...]] = (
    ("wildcard", _rule("Wildcard"), _read_wildcard, _wildcard),
    ("partition", _rule("Partition"), _read_partition, _partition),
    (
        "splitfromleft",
        _rule("SplitFromLeft"),
        _read_wildcard_and_number,
        _cutting(lambda token, size: [token[:size], token[size:]]),
    ),
    (
        "splitfromright",
        _rule("SplitFromRight"),
        _read_wildcard_and_number,
        _cutting(lambda token, size: [token[:-size], token[-size:]]),
    ),
    (
        "slicefromleft",
        _rule("SliceFromLeft"),
        _read_wildcard_and_number,
        _cutting(lambda token, size: _sliced(token, size, 0)),
    ),
    (
        "slicefromright",
        _rule("SliceFromRight"),
        _read_wildcard_and_number,
        _cutting(lambda token, size: _sliced(token, size, len(token) % size)),
    ),
    ("right", _rule("Right"), _read_wildcard_and_number, _cutting(lambda token, size: [token[-size:]])),
    ("left", _rule("Left"), _read_wildcard_and_number, _cutting(lambda token, size: [token[:size]])),
    ("split", _rule("Split"), _read_split, _split),
    ("random", _rule("Random"), _read_random, _random),
)
