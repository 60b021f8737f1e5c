"""The examples of docs/examples do what they say, on a real server."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.tools.launch import RunningServer, Settings, headrace_program

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TIMEOUT_S = 30


async def output_of(*command: str, cwd: Path, url: str) -> str:
    """Run a program to its end and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env={**os.environ, "NATS_URL": url}, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT_S):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


def server_on(store_dir: Path) -> RunningServer:
    return RunningServer(headrace_program(), Settings(jetstream=True, store_dir=str(store_dir)))


async def test_the_python_example_gets_every_order_it_published(tmp_path: Path) -> None:
    script = str(EXAMPLES / "python" / "orders.py")
    with server_on(tmp_path) as server:
        server.start()
        first = await output_of(sys.executable, script, server.url, cwd=tmp_path, url=server.url)
        server.kill()
        server.start()
        second = await output_of(sys.executable, script, server.url, cwd=tmp_path, url=server.url)
    assert "order 3 is on disk as sequence 3 of ORDERS" in first
    assert "billing got order 3 (sequence 3)" in first
    assert "order 3 is on disk as sequence 6 of ORDERS" in second
    assert "billing got order 3 (sequence 6)" in second


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_the_node_example_sees_every_update(tmp_path: Path) -> None:
    project = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", project)
    await output_of("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=project, url="")
    with server_on(tmp_path / "store") as server:
        server.start()
        subscriber = await asyncio.create_subprocess_exec(
            *("node", "subscriber.js", "3"),
            cwd=project,
            env={**os.environ, "NATS_URL": server.url},
            stdout=subprocess.PIPE,
        )
        assert subscriber.stdout is not None
        assert b"listening on order_updates" in await subscriber.stdout.readline()
        published = await output_of("node", "publisher.js", cwd=project, url=server.url)
        async with asyncio.timeout(TIMEOUT_S):
            seen, _ = await subscriber.communicate()
    assert published.splitlines() == ["published placed", "published paid", "published shipped"]
    assert [line.split("] ", 1)[1] for line in seen.decode().splitlines()] == [
        '{"order":1042,"status":"placed"}',
        '{"order":1042,"status":"paid"}',
        '{"order":1042,"status":"shipped"}',
    ]
