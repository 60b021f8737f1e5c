"""The examples of docs/inspection.md and docs/embedding.md, run as they stand there.

A fenced block is run where a word behind its language says so: `python run` as a program, `python test` by pytest,
`console run` line by line. In a console block `$` begins a command, and what follows is its output: blanks count as
one, and `…` stands for anything. Commands are `headrace`, run in this process, `curl -s`, and `echo $?`.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import nats
import pytest

from headrace.storage.reader import StoreReader
from headrace.tools import cli
from headrace.tools.launch import RunningServer, Settings, headrace_program
from headrace.tools.store_path import store_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+) (run|test)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MONITORING = "http://127.0.0.1:8222"


def blocks(document: str, kind: str) -> list[str]:
    """Give the blocks of a document that are marked as `kind`, which is `python run` and the like."""
    text = (DOCS / document).read_text()
    return [found[3] for found in BLOCK.finditer(text) if f"{found[1]} {found[2]}" == kind]


def exchanges(block: str) -> list[tuple[str, str]]:
    """Give the commands of a console block, each with its output."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0].strip() == "", "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def fits(expected: str, shown: str) -> bool:
    """Tell whether `shown` is what the document promises."""
    words = [
        r"\S*".join(map(re.escape, word.split("…"))) if word != "…" else ".*" for word in expected.split()
    ]
    pattern = r"\s+".join(words).replace(r"\s+.*", r"(?:\s.*)?").replace(r".*\s+", r"(?:.*\s)?")
    return re.fullmatch(pattern, shown.strip(), re.DOTALL) is not None


class Shell:
    """Runs the commands of the documents on a server, in a folder that holds its store."""

    def __init__(
        self, server: RunningServer, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self._server = server
        self._capture = capture
        self._patch = patch
        self._status = 0

    def run(self, command: str) -> str:
        """Run one command and give what it shows."""
        if command == "echo $?":
            return str(self._status)
        program, *arguments = shlex.split(command)
        if program == "curl":
            return self._fetch(arguments[-1])
        assert program == "headrace", f"no way to run {command!r}"
        return self._headrace(arguments)

    def _fetch(self, url: str) -> str:
        assert url.startswith(MONITORING), url
        try:
            with urlopen(self._server.monitor_url + url.removeprefix(MONITORING), timeout=5) as response:
                return str(response.read().decode())
        except HTTPError as error:
            with error:
                return error.read().decode()

    def _headrace(self, arguments: list[str]) -> str:
        self._patch.setattr(sys, "argv", ["headrace", *arguments])
        self._status = 0
        try:
            cli.main()
        except SystemExit as ended:
            self._status = int(ended.code or 0)
        shown = self._capture.readouterr()
        return shown.out + shown.err


@pytest.fixture
async def orders(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Give the server of docs/inspection.md: three orders, of which a durable has confirmed the first."""
    settings = Settings(jetstream=True, monitoring=True, store_dir=str(tmp_path / "store"))
    with RunningServer(headrace_program(), settings) as server:
        server.start()
        client = await nats.connect(server.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="ORDERS", subjects=["orders.>"])
        for number in range(1, 4):
            await jetstream.publish(
                f"orders.{number}", f"order {number}".encode(), headers={"Customer": "ada"}
            )
        subscription = await jetstream.pull_subscribe("orders.>", durable="billing")
        (message,) = await subscription.fetch(1, timeout=5)
        await message.ack_sync()
        await client.close()
        await settled(server.store_dir, 3)
        yield server


async def settled(store_dir: str, sequence: int) -> None:
    """Wait until the files say that a message is known to be durable; a server says so once it is idle."""
    async with asyncio.timeout(10):
        while settled_to(store_dir) < sequence:  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.02)


def settled_to(store_dir: str) -> int:
    """Give how far the only stream of a store is known to be durable."""
    (stream,) = StoreReader(store_path(store_dir)).streams()
    try:
        return stream.settled_to
    finally:
        stream.close()


@pytest.fixture
def shell(
    orders: RunningServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NATS_URL", orders.url)
    monkeypatch.setenv("COLUMNS", "160")
    return Shell(orders, capsys, monkeypatch)


def test_the_commands_of_inspection_show_what_is_written_there(shell: Shell) -> None:
    commands = [each for block in blocks("inspection.md", "console run") for each in exchanges(block)]
    assert len(commands) >= 15
    for command, expected in commands:
        shown = shell.run(command)
        assert fits(expected, shown), (
            f"$ {command}\n{shown}\n--- is not what docs/inspection.md says:\n{expected}"
        )


@pytest.mark.parametrize("program", blocks("embedding.md", "python run"))
def test_the_programs_of_embedding_run(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/embedding.md", "exec"), {"__name__": "__main__"})


def test_the_tests_of_embedding_pass(tmp_path: Path) -> None:
    tests = blocks("embedding.md", "python test")
    assert tests
    for number, text in enumerate(tests):
        (tmp_path / f"test_example_{number}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_output_that_differs_from_a_document_is_noticed() -> None:
    assert fits("a  …  c\n", "a\nb b\nc\n")
    assert fits("a …\n", "a\n")
    assert fits("first 1 at …", "first  1 at 2026-01-01")
    assert not fits("a …\n", "b\n")
    assert not fits("a b\n", "a b c\n")
