"""A server of this repository in a process of its own, for tests of the command itself."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("core", "storage", "jetstream", "tools")
START_TIMEOUT_S = 10.0


def environment() -> dict[str, str]:
    """Give an environment in which this repository's packages are found first."""
    roots = [str(REPOSITORY / root) for root in ROOTS]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}


def run(arguments: Sequence[str], *, timeout_s: float = 10.0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "headrace.tools.serve", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class ServerProcess:
    """A running command. Its standard error is read by a thread, line by line."""

    def __init__(self, arguments: Sequence[str], *, is_ready: str = "Server is ready") -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.tools.serve", *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if is_ready:
            try:
                self.wait_for(is_ready)
            except BaseException:
                self._end()
                raise

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    @property
    def text(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    def wait_for(self, text: str, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until a line contains `text`."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while not any(text in line for line in self.lines):
                rest_s = deadline_s - time.monotonic()
                if rest_s <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.lines))
                self._news.wait(min(rest_s, 0.1))

    def port(self, what: str = "Listening for client connections on") -> int:
        """Give the port of the line that begins with `what`."""
        found = re.search(re.escape(what) + r" \S+:(\d+)", self.text)
        assert found is not None, self.text
        return int(found[1])

    @property
    def monitor_port(self) -> int:
        return self.port("Starting http monitor on")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 5.0) -> int:
        """Give the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
