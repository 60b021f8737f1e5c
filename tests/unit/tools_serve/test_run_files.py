"""Pid file, ports file and `--signal`."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.core.errors import ConfigError
from headrace.tools.run_files import PortsFile, write_pid_file
from headrace.tools.signals import send_signal


def test_a_pid_file_is_a_bare_number(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("something longer")
    write_pid_file(str(path), 42)
    assert path.read_bytes() == b"42"


def test_a_ports_file_names_program_and_process_and_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    ports = PortsFile(str(tmp_path), "nats-server", 42)
    ports.write({"nats": ["nats://127.0.0.1:1"], "monitoring": []})
    assert [path.name for path in tmp_path.iterdir()] == ["nats-server_42.ports"]
    assert json.loads((tmp_path / "nats-server_42.ports").read_text()) == {"nats": ["nats://127.0.0.1:1"]}
    ports.remove()
    ports.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "number"), [("term", signal.SIGTERM), ("quit", signal.SIGINT), ("stop", signal.SIGKILL)]
)
@pytest.mark.parametrize("is_file", [False, True])
def test_a_signal_reaches_a_process_by_its_id_or_by_its_pid_file(
    tmp_path: Path, command: str, number: int, is_file: bool
) -> None:
    code = (
        "import signal,sys; signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        target = str(process.pid)
        if is_file:
            (tmp_path / "pid").write_text(target)
            target = str(tmp_path / "pid")
        send_signal(f"{command}={target}")
        assert process.wait(5) == -number


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("jump=1", 'unknown signal "jump"; expected one of stop, quit, term, reopen, reload, ldm'),
        ("ldm", "--signal ldm needs a process: --signal ldm=<pid or pid file>"),
        ("term=0", '0: expected a process id, got "0"'),
        ("term=/no/such/file", "cannot read pid file /no/such/file"),
        (f"term={2**22 + 1}", "no process has the id"),
    ],
)
def test_a_signal_that_cannot_be_sent_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        send_signal(text)
    assert problem in str(caught.value)


def test_a_file_without_a_number_is_no_pid_file(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("-1")
    with pytest.raises(ConfigError, match="expected a process id"):
        send_signal(f"term={tmp_path / 'pid'}")
