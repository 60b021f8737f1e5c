"""Servers inside a program's own event loop."""

import logging
import os
import socket

import nats
import pytest

from headrace.core.options import ServerOptions, UserOptions
from headrace.embed import Server
from headrace.tools.compose import StartError


async def test_an_embedded_server_serves_within_its_block(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="headrace.embed")
    async with Server() as server:
        client = await nats.connect(server.url)
        subscription = await client.subscribe("a")
        await client.publish("a", b"1")
        assert (await subscription.next_msg(5)).data == b"1"
        await client.close()
        assert server.monitor_url == ""
    assert "Server is ready" in caplog.text
    with pytest.raises(OSError):  # noqa: PT011  (refused)
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


async def test_several_servers_live_in_one_loop() -> None:
    async with (
        Server() as one,
        Server(ServerOptions(host="127.0.0.1", port=-1, server_name="other")) as other,
    ):
        assert one.port != other.port
        client = await nats.connect(other.url)
        assert client.connected_server_version.major == 2
        await client.close()


async def test_options_say_everything_that_a_server_can_be_told() -> None:
    options = ServerOptions(host="127.0.0.1", port=-1, monitor_port=-1, users=(UserOptions("u", "p"),))
    async with Server(options) as server:
        client = await nats.connect(server.url, user="u", password="p")
        await client.close()
        assert server.monitor_url.startswith("http://127.0.0.1:")


async def test_a_start_that_fails_leaves_nothing_open() -> None:
    async with Server() as server:
        late = Server(port=server.port)
        with pytest.raises(StartError, match="Error listening on port"):
            await late.start()
        await late.stop()


async def test_a_store_is_temporary_unless_it_is_given_a_place() -> None:
    async with Server(jetstream=True) as server:
        client = await nats.connect(server.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="S", subjects=["s"])
        assert (await jetstream.publish("s", b"1")).seq == 1
        await client.close()
        store = server.server.composition.file_store
        assert store is not None
        assert is_there(store.path)
    assert not is_there(store.path)


def is_there(path: str) -> bool:
    return os.path.isdir(path)
