"""Server processes are started, watched and ended."""

import sys
from pathlib import Path

import pytest

from headrace.tools.launch import (
    LaunchError,
    Program,
    RunningServer,
    Settings,
    free_port,
    reference_program,
    start,
)

IMPOSTOR = """
import socket, sys, time
port = int(open(sys.argv[2]).readline().rpartition(":")[2])
print("no such flag", flush=True)
if "dies" in sys.argv: sys.exit(3)
listener = socket.create_server(("127.0.0.1", port))
while True:
    client, _ = listener.accept()
    client.sendall(b"INFO {}\\r\\n")
"""


def impostor(tmp_path: Path, *arguments: str) -> Program:
    script = tmp_path / "impostor.py"
    script.write_text(IMPOSTOR.replace("sys.argv[2]", f"sys.argv[{2 + len(arguments)}]"))
    return Program("impostor", (sys.executable, str(script), *arguments))


def test_a_server_is_ready_when_it_greets_and_gone_when_closed(tmp_path: Path) -> None:
    with start(impostor(tmp_path), Settings()) as server:
        assert server.is_alive()
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert server.memory_size() > 1_000_000
        assert server.cpu_s() >= 0
    assert not server.is_alive()
    assert not server.log_path.exists()


def test_a_server_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no such flag"):
        start(impostor(tmp_path, "dies"), Settings())


def test_a_killed_server_starts_again_on_its_port(tmp_path: Path) -> None:
    with start(impostor(tmp_path), Settings()) as server:
        port = server.port
        server.kill()
        assert not server.is_alive()
        server.start()
        assert server.port == port
        assert server.is_alive()


def test_the_configuration_says_what_was_asked_for(tmp_path: Path) -> None:
    program = Program("none", ("none",))
    settings = Settings(
        jetstream=True, store_dir="/store", sync="always", config="max_payload: 5", port=7, monitoring=True
    )
    server = RunningServer(program, settings)
    assert server.config_text().splitlines() == [
        "listen: 127.0.0.1:7",
        f"http: 127.0.0.1:{server.monitor_port}",
        'jetstream {store_dir: "/store", sync_interval: "always"}',
        "max_payload: 5",
    ]
    server.close()


def test_free_ports_are_not_taken() -> None:
    assert 1024 < free_port() < 65536


def test_a_script_under_the_references_name_is_not_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nats-server"
    script.write_text("#!/bin/sh\n")
    monkeypatch.setenv("HEADRACE_REFERENCE", str(script))
    assert reference_program() is None
    monkeypatch.setenv("HEADRACE_REFERENCE", str(tmp_path / "missing"))
    assert reference_program() is None
