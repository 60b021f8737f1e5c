"""What a running server does when it is signalled. Platforms without these signals have none of this."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from conformance.server_process import ServerProcess, run

LOOPBACK = ["-p", "-1", "-a", "127.0.0.1"]


class RawClient:
    """A client that shows every line."""

    def __init__(self, port: int) -> None:
        self._wire = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._lines = self._wire.makefile("rb")
        self.info = self.line()
        self._wire.sendall(b'CONNECT {"protocol":1,"verbose":false}\r\nPING\r\n')
        while not self.line().startswith(b"PONG"):
            pass
        self.line()  # the INFO after the first PONG

    def line(self) -> bytes:
        """Give the next line; empty at the end."""
        return self._lines.readline()

    def send(self, data: bytes) -> None:
        self._wire.sendall(data)

    def close(self) -> None:
        self._lines.close()
        self._wire.close()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")])
def test_term_and_int_stop_the_server_with_exit_code_0(number: signal.Signals, name: str) -> None:
    with ServerProcess(LOOPBACK) as server:
        client = RawClient(server.port())
        begin_s = time.monotonic()
        server.send(number)
        assert client.line() == b""
        closed_s = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - closed_s < 1, "the process does not outlive its connections"
        assert closed_s - begin_s < 5
        client.close()
        for text in (f'Trapped "{name}" signal', "Initiating Shutdown...", "Server Exiting.."):
            assert text in server.text


def test_what_was_published_before_a_stop_is_delivered() -> None:
    with ServerProcess(LOOPBACK) as server:
        subscriber, publisher = RawClient(server.port()), RawClient(server.port())
        subscriber.send(b"SUB a 1\r\nPING\r\n")
        assert subscriber.line() == b"PONG\r\n"
        publisher.send(b"PUB a 1000\r\n%b\r\n" % (b"x" * 1000) * 2000 + b"PING\r\n")
        assert publisher.line() == b"PONG\r\n"
        server.send(signal.SIGTERM)
        lines = [line for line in iter(subscriber.line, b"") if line.startswith(b"MSG ")]
        assert len(lines) == 2000
        assert server.wait() == 0
        subscriber.close()
        publisher.close()


def test_usr2_tells_clients_takes_no_new_ones_and_ends_when_they_have_left() -> None:
    with ServerProcess(LOOPBACK) as server:
        client = RawClient(server.port())
        server.send(signal.SIGUSR2)
        told = client.line()
        assert told.startswith(b"INFO ")
        assert json.loads(told[5:])["ldm"] is True
        with pytest.raises(OSError):  # noqa: PT011  (refused or reset, by platform)
            RawClient(server.port())
        server.send(signal.SIGUSR2)
        server.send(signal.SIGTERM)
        time.sleep(0.3)
        assert server.process.poll() is None, "a lame duck ignores SIGTERM"
        client.close()
        assert server.wait() == 0
        assert server.text.count("Entering lame duck mode, stop accepting new clients") == 1


def test_int_stops_a_lame_duck_at_once() -> None:
    with ServerProcess(LOOPBACK) as server:
        client = RawClient(server.port())
        server.send(signal.SIGUSR2)
        client.line()
        server.send(signal.SIGINT)
        assert server.wait() == 0
        client.close()


def test_usr2_without_clients_ends_the_server() -> None:
    with ServerProcess(LOOPBACK) as server:
        server.send(signal.SIGUSR2)
        assert server.wait() == 0


def test_usr1_opens_the_log_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ServerProcess([*LOOPBACK, "-l", str(log)], is_ready="") as server:
        deadline_s = time.monotonic() + 10
        while not (log.exists() and "Server is ready" in log.read_text()) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        log.rename(tmp_path / "old")
        server.send(signal.SIGUSR1)
        while not log.exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert server.stop() == 0
        assert "File log re-opened" in log.read_text()
        assert "Server is ready" in (tmp_path / "old").read_text()


def test_the_signal_flag_reaches_a_server_by_its_pid_file(tmp_path: Path) -> None:
    with ServerProcess([*LOOPBACK, "-P", str(tmp_path / "pid")]) as server:
        assert run(["--signal", f"quit={tmp_path / 'pid'}"]).returncode == 0
        assert server.wait() == 0
    done = run(["-sl", "quit"])
    assert done.returncode == 1
    assert "needs a process" in done.stderr
