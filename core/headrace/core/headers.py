"""Message headers: a block of bytes that begins with `NATS/1.0`, as in the client protocol.

    NATS/1.0[ <status>[ <description>]]CRLF
    Key: ValueCRLF ...
    CRLF

The server forwards blocks as they are and looks into them only where a feature asks. Keys are case-sensitive, a key
may occur again, and blanks around a value do not belong to it. `parse` forgives what the reference forgives:
lines without a colon are skipped.

Source: ADR-4, and the client protocol of NATS server 2.15.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

VERSION_LINE: Final = b"NATS/1.0"
_CRLF: Final = b"\r\n"


class Headers(NamedTuple):
    """A parsed block. `status` is 0 where the first line has none; `fields` keeps order and duplicates."""

    status: int
    description: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def get(self, key: bytes) -> bytes | None:
        """Give the first value of `key`."""
        for name, value in self.fields:
            if name == key:
                return value
        return None

    def all(self, key: bytes) -> list[bytes]:
        """Give every value of `key`, in order."""
        return [value for name, value in self.fields if name == key]


NO_HEADERS: Final = Headers(0, b"", ())


def parse(block: bytes) -> Headers | None:
    """Take a block apart; None if it does not begin like one. An empty block has no headers."""
    if not block:
        return NO_HEADERS
    first, _, rest = block.partition(_CRLF)
    if not first.startswith(VERSION_LINE):
        return None
    status, _, description = first[len(VERSION_LINE) :].strip().partition(b" ")
    fields: list[tuple[bytes, bytes]] = []
    for line in rest.split(_CRLF):
        name, colon, value = line.partition(b":")
        if colon and name:
            fields.append((name, value.strip(b" \t")))
    return Headers(int(status) if status.isdigit() else 0, description.strip(), tuple(fields))


def get(block: bytes, key: bytes) -> bytes | None:
    """Give the first value of `key` in a raw block, without taking all of it apart."""
    mark = _CRLF + key + b":"
    start = block.find(mark)
    if start < 0:
        return None
    start += len(mark)
    end = block.find(_CRLF, start)
    return block[start : end if end >= 0 else len(block)].strip(b" \t")


def encode(fields: Iterable[tuple[bytes, bytes]], status: int = 0, description: bytes = b"") -> bytes:
    """Make a block. The caller keeps CR and LF out of names and values."""
    parts = [VERSION_LINE]
    if status:
        parts.append(b" %d" % status)
        if description:
            parts.append(b" " + description)
    parts.append(_CRLF)
    for name, value in fields:
        parts.append(b"%b: %b\r\n" % (name, value))
    parts.append(_CRLF)
    return b"".join(parts)


def with_field(block: bytes, key: bytes, value: bytes) -> bytes:
    """Give the block with one more field at its end; an empty block becomes one."""
    line = b"%b: %b\r\n\r\n" % (key, value)
    if not block:
        return VERSION_LINE + _CRLF + line
    return block.removesuffix(_CRLF) + line


def without(block: bytes, keys: Iterable[bytes]) -> bytes:
    """Give the block without the fields named; empty if neither field nor status is left."""
    parsed = parse(block)
    if parsed is None:
        return block
    dropped = frozenset(keys)
    kept = [(name, value) for name, value in parsed.fields if name not in dropped]
    if len(kept) == len(parsed.fields):
        return block
    if not kept and not parsed.status:
        return b""
    return encode(kept, parsed.status, parsed.description)
