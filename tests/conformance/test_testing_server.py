"""What `headrace.testing` gives users: a real server for the length of a block."""

from pathlib import Path

import nats
import pytest

import headrace.testing
from headrace.tools.launch import LaunchError


async def test_a_block_has_a_server_of_its_own() -> None:
    with headrace.testing.server() as running:
        client = await nats.connect(running.url)
        subscription = await client.subscribe("greeting")
        await client.publish("greeting", b"hello")
        assert (await subscription.next_msg(timeout=5)).data == b"hello"
        await client.close()
    assert not running.is_alive()


async def test_a_store_outlives_a_kill(tmp_path: Path) -> None:
    with headrace.testing.server(jetstream=True, store_dir=str(tmp_path)) as running:
        client = await nats.connect(running.url, allow_reconnect=False)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="S", subjects=["s"])
        ack = await jetstream.publish("s", b"kept")
        await client.close()
        running.kill()
        running.start()
        client = await nats.connect(running.url)
        message = await client.jetstream().get_msg("S", ack.seq)
        assert message.data == b"kept"
        await client.close()


def test_a_bad_configuration_says_what_is_wrong() -> None:
    with (
        pytest.raises(LaunchError, match="no_such_thing"),
        headrace.testing.server(config="no_such_thing: 1"),
    ):
        pass
