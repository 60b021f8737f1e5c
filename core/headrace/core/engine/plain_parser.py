"""Control lines: which operation, which arguments, and what is wrong before a line has even ended.

The reference reads byte by byte and fails at the first byte that cannot be right, so `FOO` is refused at `F`, long
before its line ends. Here a regular expression recognises whole lines, and another one those beginnings that may still
become one; what is neither is refused. So any split of the input is answered alike.

Quirks kept on purpose (probed): PING, PONG and +OK ignore the rest of their line; CONNECT needs no blank before its
argument; the first byte of an argument may be anything but a blank or TAB, even a line feed.
"""

import re
from typing import Final

from headrace.core.engine.plain_connection import Publish
from headrace.core.errors import ControlLineExceeded, MalformedArguments, UnknownOperation

_WORD: Final = re.compile(rb"[^ \t\r\n]+")
_SIZE: Final = re.compile(rb"[0-9]{1,9}")

CANONICAL_PUB: Final = re.compile(rb"PUB ([^ \t\r\n]+) (?:([^ \t\r\n]+) )?([0-9]{1,9})\r\n")
"""What clients really send: single blanks, upper case."""

CANONICAL_HPUB: Final = re.compile(rb"HPUB ([^ \t\r\n]+) (?:([^ \t\r\n]+) )?([0-9]{1,9}) ([0-9]{1,9})\r\n")

_LINE: Final = re.compile(
    rb"(?:(H?PUB|SUB|UNSUB|INFO|-ERR)[ \t]+([^ \t][^\n]*|\n[^\n]*)\n"
    rb"|(CONNECT)[ \t]*([^ \t][^\n]*|\n[^\n]*)\n"
    rb"|(PING|PONG|\+OK)[^\n]*\n)",
    re.IGNORECASE,
)
_UNTERMINATED: Final = re.compile(
    rb"(?:(?:H?PUB|SUB|UNSUB|INFO|-ERR)[ \t]+((?:[^ \t][^\n]*)?)"
    rb"|CONNECT[ \t]*((?:[^ \t][^\n]*)?)"
    rb"|(?:PING|PONG|\+OK)[^\n]*)\Z",
    re.IGNORECASE,
)
_NAMES: Final = (
    b"CONNECT",
    b"PING",
    b"PONG",
    b"PUB",
    b"HPUB",
    b"SUB",
    b"UNSUB",
    b"INFO",
    b"-ERR",
    b"+OK",
)


class Line:
    """A complete control line. `operation` is in upper case, `argument` without the line's end."""

    __slots__ = ("argument", "end", "operation")

    def __init__(self, operation: bytes, argument: bytes, end: int) -> None:
        self.operation = operation
        self.argument = argument
        self.end = end


def scan_line(data: bytes, position: int, max_control_line: int) -> Line | None:
    """Read the control line at `position`; None if it has not ended yet but may still be right.

    Raises UnknownOperation and ControlLineExceeded.
    """
    found = _LINE.match(data, position)
    if found is None:
        _check_beginning(data, position, max_control_line)
        return None
    name = found[1] or found[3] or found[5]
    argument = (found[2] or found[4] or b"").removesuffix(b"\r")
    if len(argument) > max_control_line:
        raise ControlLineExceeded
    return Line(name.upper(), argument, found.end())


def shortest(data: bytes) -> bytes:
    """Cut what need not be kept of an unterminated line: blanks, and what PING and its like ignore."""
    upper = data[:5].upper()
    for name in (b"PING", b"PONG", b"+OK"):
        if upper.startswith(name):
            return name
    kept = data.rstrip(b" \t")
    return kept + b" " if len(kept) < len(data) and b" " not in kept and b"\t" not in kept else data


def _check_beginning(data: bytes, position: int, max_control_line: int) -> None:
    found = _UNTERMINATED.match(data, position)
    if found is not None:
        argument = found[1] or found[2] or b""
        if len(argument) > max_control_line + argument.endswith(b"\r"):
            raise ControlLineExceeded
        return
    if len(data) - position < 8:
        beginning = data[position:].upper()
        if any(name.startswith(beginning) for name in _NAMES):
            return
    raise UnknownOperation


def words(argument: bytes) -> list[bytes]:
    """Take arguments apart at blanks and TABs."""
    return _WORD.findall(argument)


def parse_size(text: bytes) -> int:
    """Read a size; at most nine digits, as in the reference. MalformedArguments if it is none."""
    if _SIZE.fullmatch(text) is None:
        raise MalformedArguments(f"bad size {text!r}")
    return int(text)


def parse_publish(argument: bytes) -> Publish:
    """Read the arguments of PUB."""
    parts = words(argument)
    if len(parts) == 2:
        return Publish(parts[0], b"", 0, parse_size(parts[1]), parts[1] + b"\r\n")
    if len(parts) == 3:
        return Publish(parts[0], parts[1], 0, parse_size(parts[2]), b"%b %b\r\n" % (parts[1], parts[2]))
    raise MalformedArguments(f"PUB takes 2 or 3 arguments, got {len(parts)}")


def parse_header_publish(argument: bytes) -> Publish:
    """Read the arguments of HPUB."""
    parts = words(argument)
    if len(parts) not in (3, 4):
        raise MalformedArguments(f"HPUB takes 3 or 4 arguments, got {len(parts)}")
    header_size = parse_size(parts[-2])
    total_size = parse_size(parts[-1])
    if header_size > total_size:
        raise MalformedArguments(f"header size {header_size} is above total size {total_size}")
    reply = parts[1] if len(parts) == 4 else b""
    if header_size == 0:
        del parts[-2]  # nothing tells it from a PUB any more
    return Publish(parts[0], reply, header_size, total_size, b" ".join(parts[1:]) + b"\r\n")


def canonical_publish(line: bytes, *, headers: bool) -> Publish | None:
    """Read a PUB, or with `headers` an HPUB, in the form that clients send; None: it needs a closer look."""
    found = CANONICAL_PUB.fullmatch(line)
    if found is not None:
        subject, reply, size = found.groups()
        if reply is None:
            return Publish(subject, b"", 0, int(size), line[found.start(3) :])
        return Publish(subject, reply, 0, int(size), line[found.start(2) :])
    if headers and line.startswith(b"H"):
        found = CANONICAL_HPUB.fullmatch(line)
        if found is not None:
            subject, reply, header_size, size = found.groups()
            if int(header_size) == 0:
                return None  # rare, and goes out as if it were a PUB
            start = found.start(3) if reply is None else found.start(2)
            return Publish(subject, reply or b"", int(header_size), int(size), line[start:])
    return None


def parse_unsubscribe(argument: bytes) -> tuple[bytes, int]:
    """Read the arguments of UNSUB: the sid, and the count after which it ends (0: now)."""
    parts = words(argument)
    if len(parts) == 1:
        return parts[0], 0
    if len(parts) == 2:
        return parts[0], int(parts[1]) if _SIZE.fullmatch(parts[1]) else 0
    raise MalformedArguments(f"UNSUB takes 1 or 2 arguments, got {len(parts)}")


def parse_subscribe(argument: bytes) -> tuple[bytes, bytes, bytes]:
    """Read the arguments of SUB: subject, queue (or empty) and sid."""
    parts = words(argument)
    if len(parts) == 2:
        return parts[0], b"", parts[1]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    raise MalformedArguments(f"SUB takes 2 or 3 arguments, got {len(parts)}")
