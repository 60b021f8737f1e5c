"""Consumers as a user of nats-py meets them: the same tests on Headrace and on the reference server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    RetentionPolicy,
    StreamConfig,
)

from headrace.tools.launch import RunningServer, Settings, start

_NAMES = itertools.count()


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    connected = await nats.connect(server.url)
    yield connected
    await connected.close()


@pytest.fixture
async def stream(server: RunningServer) -> AsyncIterator[str]:
    """A stream of its own, that takes `<name>.>`."""
    name = f"CONSUMERS{next(_NAMES)}"
    owner = await nats.connect(server.url)
    await owner.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    yield name
    await owner.jetstream().delete_stream(name)
    await owner.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


async def fill(js: JetStreamContext, stream: str, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        await js.publish(f"{stream}.a", b"m%d" % number)


async def test_fetch_gives_a_batch_and_its_acks_count(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 5)
    puller = await js.pull_subscribe(f"{stream}.a", "d")
    messages = await puller.fetch(3, timeout=2)
    assert [message.data for message in messages] == [b"m1", b"m2", b"m3"]
    assert [message.metadata.num_pending for message in messages] == [4, 3, 2]
    for message in messages:
        await message.ack_sync()
    info = await puller.consumer_info()
    assert info.ack_floor is not None
    assert (info.ack_floor.stream_seq, info.num_ack_pending, info.num_pending) == (3, 0, 2)


async def test_fetch_of_more_than_there_is_gives_what_there_is(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 2)
    puller = await js.pull_subscribe(f"{stream}.a", "d")
    assert len(await puller.fetch(10, timeout=0.5)) == 2
    with pytest.raises(nats.errors.TimeoutError):
        await puller.fetch(1, timeout=0.3)


async def test_fetch_with_heartbeats_outlives_a_silence(js: JetStreamContext, stream: str) -> None:
    puller = await js.pull_subscribe(f"{stream}.a", "d")
    fetching = asyncio.create_task(puller.fetch(1, timeout=3, heartbeat=0.2))
    await asyncio.sleep(0.7)
    await fill(js, stream, 1)
    assert [message.data for message in await fetching] == [b"m1"]


async def test_a_nak_brings_the_message_again_and_a_term_does_not(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 2)
    puller = await js.pull_subscribe(f"{stream}.a", "d")
    first, second = await puller.fetch(2, timeout=2)
    await second.term()
    await first.nak()
    (again,) = await puller.fetch(1, timeout=2)
    assert (again.data, again.metadata.num_delivered) == (b"m1", 2)
    await again.nak(delay=0.3)
    with pytest.raises(nats.errors.TimeoutError):
        await puller.fetch(1, timeout=0.1)
    (once_more,) = await puller.fetch(1, timeout=2)
    assert once_more.metadata.num_delivered == 3


async def test_an_unacked_message_comes_again_after_its_wait(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 1)
    puller = await js.pull_subscribe(f"{stream}.a", "d", config=ConsumerConfig(ack_wait=0.3))
    (first,) = await puller.fetch(1, timeout=1)
    await asyncio.sleep(0.2)
    await first.in_progress()
    with pytest.raises(nats.errors.TimeoutError):
        await puller.fetch(1, timeout=0.2)
    (again,) = await puller.fetch(1, timeout=1)
    assert again.metadata.num_delivered == 2


async def test_a_push_subscription_gets_messages_and_acks_them(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 2)
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_message(message: object) -> None:
        await got.put(message.data)  # type: ignore[attr-defined]

    subscription = await js.subscribe(f"{stream}.a", durable="d", cb=on_message)
    await fill(js, stream, 1, first=3)
    assert [await asyncio.wait_for(got.get(), 2) for _ in range(3)] == [b"m1", b"m2", b"m3"]
    info = await subscription.consumer_info()
    assert info.push_bound is True
    await subscription.unsubscribe()


async def test_a_queue_group_shares_a_push_consumer(js: JetStreamContext, stream: str) -> None:
    members = [await js.subscribe(f"{stream}.a", "workers", durable="workers") for _ in range(2)]
    await fill(js, stream, 20)
    await asyncio.sleep(0.3)
    counts = [member.pending_msgs for member in members]
    assert sum(counts) == 20
    assert min(counts) > 0


async def test_an_ordered_consumer_sees_every_message_once_and_in_order(
    js: JetStreamContext, stream: str
) -> None:
    await fill(js, stream, 50)
    subscription = await js.subscribe(f"{stream}.a", ordered_consumer=True, idle_heartbeat=0.3)
    seen = [(await subscription.next_msg(timeout=2)).data for _ in range(50)]
    assert seen == [b"m%d" % number for number in range(1, 51)]
    await asyncio.sleep(0.7)
    await fill(js, stream, 1, first=51)
    assert (await subscription.next_msg(timeout=2)).data == b"m51"
    await subscription.unsubscribe()


async def test_flow_control_lets_a_client_take_more_than_a_window(js: JetStreamContext, stream: str) -> None:
    for _ in range(50):
        await js.publish(f"{stream}.a", b"x" * 100_000)
    subscription = await js.subscribe(
        f"{stream}.a", flow_control=True, idle_heartbeat=0.5, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    for _ in range(50):
        message = await subscription.next_msg(timeout=3)
        assert len(message.data) == 100_000
    await subscription.unsubscribe()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DeliverPolicy.ALL, [b"1", b"2", b"3", b"4"]),
        (DeliverPolicy.LAST, [b"4"]),
        (DeliverPolicy.NEW, []),
        (DeliverPolicy.LAST_PER_SUBJECT, [b"3", b"4"]),
    ],
)
async def test_deliver_policies_begin_where_they_say(
    js: JetStreamContext, stream: str, policy: DeliverPolicy, expected: list[bytes]
) -> None:
    for number, subject in enumerate("abab", 1):
        await js.publish(f"{stream}.{subject}", b"%d" % number)
    puller = await js.pull_subscribe(f"{stream}.*", "d", config=ConsumerConfig(deliver_policy=policy))
    try:
        messages = await puller.fetch(9, timeout=0.3)
    except nats.errors.TimeoutError:
        messages = []
    assert [message.data for message in messages] == expected


async def test_a_start_sequence_and_a_start_time_begin_there(js: JetStreamContext, stream: str) -> None:
    await fill(js, stream, 4)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=3)
    puller = await js.pull_subscribe(f"{stream}.a", "d", config=config)
    assert [message.data for message in await puller.fetch(2, timeout=2)] == [b"m3", b"m4"]


async def test_a_work_queue_gives_each_message_to_one_of_several_fetchers(js: JetStreamContext) -> None:
    name = f"QUEUE{next(_NAMES)}"
    await js.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], retention=RetentionPolicy.WORK_QUEUE))
    await fill(js, name, 30)
    pullers = [await js.pull_subscribe(f"{name}.a", "workers") for _ in range(3)]
    seen: list[bytes] = []
    for puller in pullers:
        for message in await puller.fetch(10, timeout=2):
            seen.append(message.data)
            await message.ack_sync()
    assert sorted(seen) == sorted(b"m%d" % number for number in range(1, 31))
    assert (await js.stream_info(name)).state.messages == 0
    await js.delete_stream(name)


async def test_consumers_are_listed_and_deleted(js: JetStreamContext, stream: str) -> None:
    for name in ("b", "a"):
        await js.add_consumer(stream, ConsumerConfig(durable_name=name))
    assert [info.name for info in await js.consumers_info(stream)] == ["a", "b"]
    assert await js.delete_consumer(stream, "a")
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.consumer_info(stream, "a")


async def test_an_ephemeral_consumer_goes_when_its_listener_has_gone(
    server: RunningServer, client: Client, js: JetStreamContext, stream: str
) -> None:
    await js.subscribe(f"{stream}.a", config=ConsumerConfig(inactive_threshold=0.3))
    assert len(await js.consumers_info(stream)) == 1
    await asyncio.sleep(0.5)
    assert len(await js.consumers_info(stream)) == 1
    other = await nats.connect(server.url)
    assert len(await other.jetstream().consumers_info(stream)) == 1
    await client.close()
    await asyncio.sleep(1.6)
    assert await other.jetstream().consumers_info(stream) == []
    await other.close()


@pytest.fixture
def own_server(server: RunningServer) -> Iterator[RunningServer]:
    """A server that the test may kill."""
    own = start(server.program, Settings(jetstream=True))
    yield own
    own.close()


async def pulled(client: Client, inbox: str, count: int) -> list[tuple[int, int, int]]:
    """Pull from S > C; give deliveries, stream sequence and consumer sequence of `count` messages."""
    subscription = await client.subscribe(inbox)
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", b"%d" % count, reply=inbox)
    found: list[tuple[int, int, int]] = []
    for _ in range(count):
        message = await subscription.next_msg(timeout=3)
        _, _, _, _, deliveries, stream, consumer, _, _ = message.reply.split(".")
        found.append((int(deliveries), int(stream), int(consumer)))
    await subscription.unsubscribe()
    return found


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_a_consumer_goes_on_after_a_crash_as_after_a_stop(
    own_server: RunningServer, ending: str
) -> None:
    client = await nats.connect(own_server.url)
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["S.>"])
    await fill(js, "S", 6)
    await js.add_consumer("S", ConsumerConfig(durable_name="C", ack_policy=AckPolicy.EXPLICIT, ack_wait=1))
    assert len(await pulled(client, "in.1", 4)) == 4
    await client.request("$JS.ACK.S.C.1.2.2.0.0", b"", timeout=2)
    await asyncio.sleep(0.3)
    await client.close()

    getattr(own_server, ending)()
    own_server.start()

    client = await nats.connect(own_server.url)
    info = await client.jetstream().consumer_info("S", "C")
    assert info.delivered is not None
    assert info.ack_floor is not None
    assert (info.delivered.consumer_seq, info.delivered.stream_seq) == (4, 4)
    assert (info.ack_floor.consumer_seq, info.ack_floor.stream_seq, info.num_ack_pending) == (0, 0, 3)
    await asyncio.sleep(1.6)
    assert await pulled(client, "in.2", 5) == [
        (2, 1, 5),
        (2, 3, 6),
        (2, 4, 7),
        (1, 5, 8),
        (1, 6, 9),
    ]
    await client.close()
