"""`headrace stream backup` and `restore`: what comes back is what was there, or nothing."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from headrace.tools import backups
from headrace.tools.launch import RunningServer
from headrace.tools.wire import CommandFailed, ServerSettings, connected

pytestmark = pytest.mark.filterwarnings(
    # nats-py may leave a socket to the garbage when the server's stop closes it first
    "default::ResourceWarning",
    "default::pytest.PytestUnraisableExceptionWarning",
)

COUNT = 300
PAYLOAD = bytes(range(256)) * 16


@pytest.fixture
def settings(server: RunningServer) -> ServerSettings:
    """Give where the server is."""
    return ServerSettings(url=server.url)


@contextlib.asynccontextmanager
async def stream(url: str) -> AsyncGenerator[JetStreamContext, None]:
    """Give a JetStream context with a stream ORDERS, gaps in it, and a consumer that has acked some."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="ORDERS", subjects=["orders.>"], metadata={"who": "ada"})
    for number in range(COUNT):
        await jetstream.publish(f"orders.{number % 7}", b"%d " % number + PAYLOAD, headers={"N": str(number)})
    await jetstream.delete_msg("ORDERS", 5)
    subscription = await jetstream.pull_subscribe("orders.>", durable="billing")
    for message in await subscription.fetch(10, timeout=5):
        await message.ack_sync()
    try:
        yield jetstream
    finally:
        for name in ("ORDERS", "AGAIN"):
            with contextlib.suppress(NotFoundError):
                await jetstream.delete_stream(name)
        await client.close()


async def told(jetstream: JetStreamContext) -> tuple[Any, ...]:
    """Give what can be seen of the stream."""
    info = await jetstream.stream_info("ORDERS")
    billing = await jetstream.consumer_info("ORDERS", "billing")
    messages: list[RawStreamMsg | None] = []
    for sequence in range(1, COUNT + 1):
        try:
            messages.append(await jetstream.get_msg("ORDERS", sequence))
        except NotFoundError:
            messages.append(None)
    seen = [(each.subject, each.data, each.headers, each.time) if each else None for each in messages]
    counted = [
        (each.consumer_seq, each.stream_seq) for each in (billing.ack_floor, billing.delivered) if each
    ]
    return (
        *(info.config, info.state.first_seq, info.state.last_seq, info.state.bytes, seen),
        *(billing.config, counted, billing.num_pending),
    )


async def test_a_stream_comes_back_with_its_messages_gaps_and_consumers(
    server: RunningServer, settings: ServerSettings, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.backup")
    async with stream(server.url) as jetstream, connected(settings) as api:
        before = await told(jetstream)
        await backups.back_up(api, "ORDERS", file)
        with pytest.raises(CommandFailed, match="exists already"):
            await backups.back_up(api, "ORDERS", file)
        with pytest.raises(CommandFailed, match="10130"):
            await backups.restore(api, file)
        await jetstream.delete_stream("ORDERS")
        answer = await backups.restore(api, file)
        assert answer["state"]["consumer_count"] == 1
        assert await told(jetstream) == before


async def test_a_backup_of_a_stream_that_is_written_meanwhile_holds_what_was_there_at_its_beginning(
    server: RunningServer, settings: ServerSettings, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.backup")
    async with stream(server.url) as jetstream, connected(settings) as api:
        is_enough = False

        async def write() -> None:
            while not is_enough:
                await jetstream.publish("orders.more", PAYLOAD)

        writing = asyncio.create_task(write())
        try:
            head = await backups.back_up(api, "ORDERS", file, consumers=False)
        finally:
            # Not cancelled: a publish whose ack comes at that moment swallows it, on Python 3.11.
            is_enough = True
            await writing
        await jetstream.delete_stream("ORDERS")
        answer = await backups.restore(api, file)
        assert answer["state"]["last_seq"] >= head["state"]["last_seq"] >= COUNT
        assert answer["state"]["messages"] == answer["state"]["last_seq"] - 1
        assert answer["state"]["consumer_count"] == 0


@pytest.mark.parametrize("place", [0, 9, 40, 5000, -40, -1])
async def test_a_damaged_backup_is_refused_whole(
    server: RunningServer, settings: ServerSettings, tmp_path: Path, place: int
) -> None:
    file = tmp_path / "orders.backup"
    async with stream(server.url) as jetstream, connected(settings) as api:
        await backups.back_up(api, "ORDERS", str(file))
        await jetstream.delete_stream("ORDERS")
        content = bytearray(file.read_bytes())
        whole = bytes(content)
        content[place] ^= 1
        for damaged in (bytes(content), whole[:place], whole + b"x"):
            file.write_bytes(damaged)
            with pytest.raises(CommandFailed, match=r"damaged|no backup"):
                await backups.restore(api, str(file))
        with pytest.raises(NotFoundError):
            await jetstream.stream_info("ORDERS")


async def test_a_backup_that_fails_leaves_no_file(settings: ServerSettings, tmp_path: Path) -> None:
    async with connected(settings) as api:
        with pytest.raises(CommandFailed, match="10059"):
            await backups.back_up(api, "NONE", str(tmp_path / "none.backup"))
    assert os.listdir(tmp_path) == []


async def test_the_head_of_a_backup_tells_of_its_stream(
    server: RunningServer, settings: ServerSettings, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.backup")
    async with stream(server.url), connected(settings) as api:
        head = await backups.back_up(api, "ORDERS", file)
        assert json.loads(json.dumps(await backups.check(file))) == head
        assert head["config"]["metadata"]["who"] == "ada"
