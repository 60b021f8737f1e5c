"""`headrace stream` and `headrace consumer`, as a person calls them, on a server with something in it."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

from headrace.tools.launch import RunningServer, Settings, free_port, headrace_program


def headrace(*arguments: str, url: str = "", status: int = 0) -> str:
    """Run the command line; give what it printed, its errors where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace.tools.cli", *(("-s", url) if url else ()), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def document(*arguments: str, url: str = "") -> Any:
    return json.loads(headrace(*arguments, "--json", url=url))


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Give the URL of a server that holds three orders, of which a durable has confirmed one."""
    with RunningServer(headrace_program(), Settings(jetstream=True, store_dir=str(tmp_path))) as server:
        server.start()
        client = await nats.connect(server.url)
        js = client.jetstream()
        await js.add_stream(name="ORDERS", subjects=["orders.>"])
        for number in range(1, 4):
            await js.publish(f"orders.{number}", f"order {number}".encode(), headers={"Customer": "ada"})
        subscription = await js.pull_subscribe("orders.>", durable="billing")
        (message,) = await subscription.fetch(1, timeout=5)
        await message.ack_sync()
        await client.close()
        yield server.url


async def test_streams_are_listed_and_described(url: str) -> None:
    (stream,) = document("stream", "ls", url=url)
    assert stream["state"]["messages"] == 3
    assert document("stream", "info", "ORDERS", url=url)["config"]["subjects"] == ["orders.>"]
    assert "ORDERS" in headrace("stream", "ls", url=url)
    assert "messages" in headrace("stream", "info", "ORDERS", url=url)


async def test_messages_are_viewed_in_order_and_by_subject(url: str) -> None:
    messages = document("stream", "view", "ORDERS", url=url)
    assert [(m["sequence"], m["text"]) for m in messages] == [(1, "order 1"), (2, "order 2"), (3, "order 3")]
    (message,) = document("stream", "view", "ORDERS", "--subject", "*.2", url=url)
    assert message["sequence"] == 2
    assert "Customer: ada" in headrace("stream", "view", "ORDERS", url=url)


async def test_a_message_is_got_by_sequence_by_subject_and_raw(url: str) -> None:
    assert document("stream", "get", "ORDERS", "2", url=url)[0]["subject"] == "orders.2"
    assert document("stream", "get", "ORDERS", "--last", "orders.>", url=url)[0]["sequence"] == 3
    assert headrace("stream", "get", "ORDERS", "1", "--raw", url=url) == "order 1"


async def test_a_stream_is_exported_one_line_a_message(url: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    assert "3 messages" in headrace("stream", "export", "ORDERS", str(file), url=url)
    assert [json.loads(line)["sequence"] for line in file.read_text().splitlines()] == [1, 2, 3]
    assert "exists" in headrace("stream", "export", "ORDERS", str(file), url=url, status=1)


async def test_consumers_are_listed_and_described(url: str) -> None:
    (consumer,) = document("consumer", "ls", "ORDERS", url=url)
    assert (consumer["name"], consumer["ack_floor"]["stream_seq"]) == ("billing", 1)
    assert document("consumer", "info", "ORDERS", "billing", url=url)["num_pending"] == 2
    assert "durable pull" in headrace("consumer", "info", "ORDERS", "billing", url=url)


async def test_a_refusal_is_one_line_with_the_servers_words(url: str) -> None:
    assert headrace("stream", "info", "NONE", url=url, status=1) == "headrace: stream not found (10059)\n"
    assert "consumer not found" in headrace("consumer", "info", "ORDERS", "none", url=url, status=1)
    assert "no message found" in headrace("stream", "get", "ORDERS", "9", url=url, status=1)


def test_without_a_server_it_says_where_it_looked() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    assert headrace("stream", "ls", url=url, status=1).startswith(f"headrace: cannot connect to {url}: ")


def test_wrong_usage_ends_with_status_two() -> None:
    headrace("stream", "get", "ORDERS", status=2)
    headrace("stream", "fly", status=2)
