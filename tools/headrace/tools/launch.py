"""Server processes for tools and tests: Headrace and the reference, started, watched and ended in the same way.

A `Program` is a command that understands `-c FILE`; `start` writes that file, starts the command on a loopback port
and returns once a client is greeted there. What goes into the file is the same for every program, so that a
scenario, a benchmark or a kill loop runs on either without knowing which.

A `RunningServer` owns its process and its working folder. The store may lie elsewhere: one that outlives a
kill is given by `Settings.store_dir`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from headrace.core.base.errors import HeadraceError

START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10.0
GREETING_TIMEOUT_S: Final = 2.0
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
LOG_LINES_SHOWN: Final = 12
REFERENCE_VARIABLE: Final = "HEADRACE_REFERENCE"


class LaunchError(HeadraceError):
    """A server process did not start, or did not end, as it should; carries what it said."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server that can be started: its name in reports, its command line, its environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def version(self) -> str:
        """Give what `--version` prints."""
        done = subprocess.run(
            [*self.command, "--version"],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        return (done.stdout or done.stderr).strip()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def spawn(self, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start the program in a session of its own, with its output in `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.command, *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def headrace_program(engine: str = "", *, python: str = sys.executable) -> Program:
    """Give this very Headrace as a program; `engine` is `plain`, `compiled`, or empty for the default choice."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if engine:
        environment["HEADRACE_ENGINE"] = engine
    name = f"headrace ({engine})" if engine else "headrace"
    return Program(name, (python, "-m", "headrace.tools.serve"), environment)


def reference_program() -> Program | None:
    """Find the reference server; None where there is none.

    Looked for in `HEADRACE_REFERENCE`, beside the interpreter (where its Python package puts it), then on the path.
    """
    named = os.environ.get(REFERENCE_VARIABLE)
    beside = Path(sys.executable).parent / "nats-server"
    found = named or (str(beside) if beside.exists() else shutil.which("nats-server"))
    if found is None or _is_script(found):
        return None
    return Program("reference", (found,))


def _is_script(path: str) -> bool:
    """Tell whether `path` is a script: under the reference's name that is a server of our own."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server is started. `config` is more of the configuration file, as it stands in the file.

    `sync`: `""` leaves the program its own default, `always` acknowledges what is on disk, `2m` and the like
    acknowledge before.
    """

    jetstream: bool = False
    store_dir: str = ""
    sync: str = ""
    config: str = ""
    port: int = 0
    monitoring: bool = False


def free_port() -> int:
    """Give a loopback port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def greeting(host: str, port: int, timeout_s: float = GREETING_TIMEOUT_S) -> bytes:
    """Connect, and give the first line that the server sends; raises OSError where none comes."""
    with socket.create_connection((host, port), timeout=timeout_s) as wire:
        wire.settimeout(timeout_s)
        line = b""
        while not line.endswith(b"\n"):
            chunk = wire.recv(4096)
            if not chunk:
                raise ConnectionError("closed before the greeting was complete")
            line += chunk
        return line


class RunningServer:
    """A server process that greets its clients."""

    def __init__(self, program: Program, settings: Settings) -> None:
        self.program = program
        self.settings = settings
        self.host = "127.0.0.1"
        self.port = settings.port or free_port()
        self.monitor_port = free_port() if settings.monitoring else 0
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-"))
        self.store_dir = settings.store_dir or str(self._folder / "store")
        self.log_path = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{self.host}:{self.monitor_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "asked for the process of a server that was not started"
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Give what the process has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _last_lines(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_LINES_SHOWN:])

    def config_text(self) -> str:
        """Give the configuration file that it is started with."""
        lines = [f"listen: {self.host}:{self.port}"]
        if self.monitor_port:
            lines.append(f"http: {self.host}:{self.monitor_port}")
        if self.settings.jetstream:
            sync = f', sync_interval: "{self.settings.sync}"' if self.settings.sync else ""
            lines.append(f'jetstream {{store_dir: "{self.store_dir}"{sync}}}')
        if self.settings.config:
            lines.append(self.settings.config)
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start the process, again if it ran before, and wait until it greets; raises LaunchError."""
        assert not self.is_alive(), "started twice"
        config = self._folder / "server.conf"
        config.write_text(self.config_text())
        self._process = self.program.spawn(["-c", str(config)], self.log_path)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._process.poll() is not None:
                raise LaunchError(f"{self.program.name} ended at its start:\n{self._last_lines()}")
            try:
                if greeting(self.host, self.port).startswith(b"INFO "):
                    return
            except OSError as error:
                if time.monotonic() > deadline_s:
                    self.kill()
                    raise LaunchError(
                        f"{self.program.name} does not answer on port {self.port} after {START_TIMEOUT_S:.0f} s "
                        f"({error}):\n{self._last_lines()}"
                    ) from error
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask the process to end, and wait for it; raises LaunchError where it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LaunchError(
                f"{self.program.name} did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM:\n{self._last_lines()}"
            ) from None

    def kill(self) -> None:
        """End the process at once, as a crash would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the process and remove its working folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def cpu_s(self) -> float:
        """Give the processor time that it and its children have used, seconds (Linux; 0 elsewhere)."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))

    def memory_size(self) -> int:
        """Give its resident memory with that of its children, bytes (Linux; 0 elsewhere)."""
        return sum(_memory_size(pid) for pid in _family(self.pid))


def start(program: Program, settings: Settings) -> RunningServer:
    """Start a server; once more on another port where somebody took the port in between."""
    server = RunningServer(program, settings)
    try:
        server.start()
    except LaunchError as error:
        server.close()
        if settings.port or "in use" not in str(error):
            raise
        server = RunningServer(program, settings)
        server.start()
    return server


def _family(pid: int) -> list[int]:
    """Give a process and all that descend from it."""
    family = [pid]
    for member in family:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                family.extend(int(child) for child in children.read_text().split())
            except OSError:  # it ended meanwhile
                continue
    return family


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # the name in parentheses may hold blanks; user, system and the waited-for children's times follow it
    fields = text.rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / CLOCK_TICKS


def _memory_size(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
