"""Streams, buckets and objects as a user of nats-py meets them: the same tests on Headrace and on the reference."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError

from headrace.tools.launch import RunningServer

_NAMES = itertools.count()


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    connected = await nats.connect(server.url)
    yield connected
    await connected.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


@pytest.fixture
async def name(js: JetStreamContext) -> AsyncIterator[str]:
    """A name for a stream that takes `<name>.>`; whatever has it is deleted afterwards."""
    chosen = f"STREAMS{next(_NAMES)}"
    yield chosen
    for stream in (chosen, f"KV_{chosen}", f"OBJ_{chosen}"):
        try:
            await js.delete_stream(stream)
        except NotFoundError:
            continue


async def direct(client: Client, name: str, **body: Any) -> Msg:
    return await client.request(f"$JS.API.DIRECT.GET.{name}", json.dumps(body).encode(), timeout=2)


async def test_a_published_message_is_acknowledged_and_read_back(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    ack = await js.publish(f"{name}.a", b"one", headers={"Key": "value"})
    assert (ack.stream, ack.seq) == (name, 1)
    message = await js.get_msg(name, 1)
    assert (message.subject, message.data, message.headers) == (f"{name}.a", b"one", {"Key": "value"})
    assert (await js.get_last_msg(name, f"{name}.a")).seq == 1


async def test_many_messages_in_flight_are_stored_in_their_order(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    acks = await asyncio.gather(*(js.publish(f"{name}.a", b"%d" % number) for number in range(500)))
    assert [ack.seq for ack in acks] == list(range(1, 501))
    assert (await js.get_msg(name, 321)).data == b"320"


async def test_a_duplicate_is_told_and_not_stored(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    for expected in (None, True):
        ack = await js.publish(f"{name}.a", b"x", headers={"Nats-Msg-Id": "one"})
        assert (ack.seq, ack.duplicate) == (1, expected)
    assert (await js.stream_info(name)).state.messages == 1


async def test_a_wrong_expectation_is_refused_with_what_is_there(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    await js.publish(f"{name}.a")
    with pytest.raises(APIError) as refused:
        await js.publish(f"{name}.a", headers={"Nats-Expected-Last-Sequence": "7"})
    assert (refused.value.err_code, refused.value.description) == (10071, "wrong last sequence: 1")


async def test_the_oldest_messages_leave_a_full_stream(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"], max_msgs=3)
    for _ in range(5):
        await js.publish(f"{name}.a", b"x")
    state = (await js.stream_info(name)).state
    assert (state.messages, state.first_seq, state.last_seq) == (3, 3, 5)


async def test_a_full_stream_that_discards_new_messages_refuses(js: JetStreamContext, name: str) -> None:
    config = StreamConfig(
        name=name, subjects=[f"{name}.>"], max_msgs=1, discard=DiscardPolicy.NEW, storage=StorageType.MEMORY
    )
    await js.add_stream(config)
    await js.publish(f"{name}.a")
    with pytest.raises(APIError) as refused:
        await js.publish(f"{name}.a")
    assert (refused.value.err_code, refused.value.description) == (10077, "maximum messages exceeded")


async def test_messages_leave_at_their_age(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"], max_age=0.2)
    await js.publish(f"{name}.a", b"x")
    async with asyncio.timeout(5):
        while (await js.stream_info(name)).state.messages:  # noqa: ASYNC110  (a server can only be asked)
            await asyncio.sleep(0.05)
    assert (await js.stream_info(name)).state.first_seq == 2


async def test_purges_and_deletes_remove_what_they_say(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    for subject in ("a", "b", "a", "b"):
        await js.publish(f"{name}.{subject}", b"x")
    await js.delete_msg(name, 3)
    await js.purge_stream(name, subject=f"{name}.b", keep=1)
    state = (await js.stream_info(name)).state
    assert (state.messages, state.first_seq, state.num_deleted) == (2, 1, 2)
    await js.purge_stream(name)
    state = (await js.stream_info(name)).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 5, 4)


async def test_a_stream_is_updated_listed_and_found_by_subject(js: JetStreamContext, name: str) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    info = await js.update_stream(name=name, subjects=[f"{name}.>", f"more.{name}"], max_msgs=10)
    assert info.config.max_msgs == 10
    assert await js.find_stream_name_by_subject(f"more.{name}") == name
    assert name in [each.config.name for each in await js.streams_info()]


async def test_a_publish_where_no_stream_listens_has_no_responder(js: JetStreamContext) -> None:
    with pytest.raises(nats.js.errors.NoStreamResponseError):
        await js.publish("nobody.takes.this", b"x")


async def test_a_direct_get_of_a_stream_without_it_has_no_responder(
    client: Client, js: JetStreamContext, name: str
) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    await js.publish(f"{name}.a")
    with pytest.raises(nats.errors.NoRespondersError):
        await direct(client, name, seq=1)


async def test_a_direct_get_shows_the_message_as_it_is(
    client: Client, js: JetStreamContext, name: str
) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.>"], allow_direct=True)
    await js.publish(f"{name}.a", b"one", headers={"Key": "value"})
    found = await direct(client, name, last_by_subj=f"{name}.a")
    assert found.data == b"one"
    assert found.headers is not None
    assert list(found.headers) == ["Key", "Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"]
    missing = await direct(client, name, seq=2)
    assert missing.headers == {"Status": "404", "Description": "Message Not Found"}


async def test_keys_are_put_updated_deleted_and_created_again(js: JetStreamContext, name: str) -> None:
    bucket = await js.create_key_value(bucket=name, history=3, direct=True)
    first = await bucket.put("a.b", b"1")
    assert (await bucket.get("a.b")).value == b"1"
    second = await bucket.update("a.b", b"2", last=first)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.update("a.b", b"3", last=first)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.create("a.b", b"3")
    await bucket.delete("a.b")
    with pytest.raises(KeyNotFoundError):
        await bucket.get("a.b")
    assert await bucket.create("a.b", b"4") == second + 2
    assert [entry.revision for entry in await bucket.history("a.b")] == [second, second + 1, second + 2]
    assert await bucket.keys() == ["a.b"]


async def test_a_key_with_full_history_replaces_its_oldest_value(js: JetStreamContext, name: str) -> None:
    bucket = await js.create_key_value(bucket=name, history=2)
    for value in (b"1", b"2", b"3"):
        await bucket.put("key", value)
    assert [entry.value for entry in await bucket.history("key")] == [b"2", b"3"]


async def test_a_purged_key_leaves_one_message(js: JetStreamContext, name: str) -> None:
    bucket = await js.create_key_value(bucket=name, history=5)
    for value in (b"1", b"2"):
        await bucket.put("key", value)
    await bucket.purge("key")
    assert (await bucket.status()).values == 1


async def test_a_key_with_a_ttl_of_its_own_goes(js: JetStreamContext, name: str) -> None:
    bucket = await js.create_key_value(bucket=name)
    await bucket.create("short", b"x", msg_ttl=1)
    await bucket.put("long", b"x")
    async with asyncio.timeout(5):
        while len(await bucket.keys()) == 2:  # noqa: ASYNC110  (a server can only be asked)
            await asyncio.sleep(0.1)
    assert await bucket.keys() == ["long"]


async def test_watchers_see_what_is_there_and_what_comes(js: JetStreamContext, name: str) -> None:
    bucket = await js.create_key_value(bucket=name)
    await bucket.put("a", b"1")
    await bucket.put("b", b"2")
    watcher = await bucket.watchall()
    seen = [await watcher.updates(timeout=2) for _ in range(3)]
    assert [entry and entry.key for entry in seen] == ["a", "b", None]
    await bucket.put("a", b"3")
    update = await watcher.updates(timeout=2)
    assert update is not None
    assert (update.key, update.value) == ("a", b"3")
    await watcher.stop()


async def test_an_object_comes_back_byte_for_byte(js: JetStreamContext, name: str) -> None:
    objects = await js.create_object_store(name)
    content = bytes(range(256)) * 2000
    await objects.put("file", content)
    found = await objects.get("file")
    assert found.data == content
    await objects.put("file", b"shorter")
    assert (await objects.get("file")).data == b"shorter"
    await objects.delete("file")
    assert (await js.stream_info(f"OBJ_{name}")).state.messages == 1
