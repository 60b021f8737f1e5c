"""Programs as their users write them, with the server ended under them and started again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, KeyValueConfig, RetentionPolicy
from nats.js.kv import KeyValue
from taskiq.api import run_receiver_task
from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker, PushBasedJetStreamBroker

from headrace.tools.launch import RunningServer, Settings, headrace_program, start

pytestmark = pytest.mark.filterwarnings(
    # the packages under test warn of their own matters
    "default::DeprecationWarning",
    "default::RuntimeWarning",
    "default::ResourceWarning",
    "default::pytest.PytestUnraisableExceptionWarning",
)

COUNT = 30
PATIENCE_S = 30.0
ATTEMPT_S = 2.0
PAUSE_S = 0.05
CONNECTING: dict[str, Any] = {"reconnect_time_wait": 0.1, "max_reconnect_attempts": -1}

Restart = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningServer]:
    """Give a server whose store outlives it."""
    server = start(headrace_program(), Settings(jetstream=True, store_dir=str(tmp_path / "store")))
    yield server
    server.close()


@pytest.fixture(params=["kill", "stop"])
def restart(running: RunningServer, request: pytest.FixtureRequest) -> Restart:
    """Give what ends the server, by `kill -9` or as an operator does, and starts it again."""
    end = running.kill if request.param == "kill" else running.stop

    def again() -> None:
        end()
        running.start()

    return lambda: asyncio.to_thread(again)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  (what is waited for tells nobody)
            await asyncio.sleep(PAUSE_S)


async def insist(action: Callable[[], Awaitable[Any]]) -> Any:
    """Do it until it is done, as a program must that wants its message stored."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asyncio.wait_for(action(), ATTEMPT_S)
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def connected(server: RunningServer) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    """Give a connection that comes back by itself."""

    async def unheard(_: Exception) -> None:
        """A lost connection is what the test is about."""

    client = await nats.connect(server.url, error_cb=unheard, **CONNECTING)
    try:
        yield client, client.jetstream(timeout=ATTEMPT_S)
    finally:
        await client.close()


async def no_sign(_: object = None) -> None:
    """Say nothing."""


@pytest.mark.parametrize("pull", [False, PullSub(batch_size=5, timeout=0.5)], ids=["push", "pull"])
async def test_a_faststream_program_handles_every_order_through_a_restart(
    running: RunningServer, restart: Restart, pull: Any
) -> None:
    broker = NatsBroker(running.url, logger=None, error_cb=no_sign, **CONNECTING)
    handled: set[int] = set()

    @broker.subscriber(  # type: ignore[untyped-decorator]  (as the library has it)
        "orders.*",
        stream=JStream("ORDERS", subjects=["orders.>"]),
        durable="worker",
        pull_sub=pull,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(order: dict[str, int]) -> None:
        handled.add(order["number"])

    await broker.start()
    try:
        for number in range(COUNT):
            if number == COUNT // 2:
                restarted = asyncio.create_task(restart())
            await insist(partial(broker.publish, {"number": number}, "orders.new", stream="ORDERS"))
        await restarted
        await until(lambda: handled == set(range(COUNT)))
    finally:
        await broker.stop()


@pytest.mark.parametrize("kind", [PushBasedJetStreamBroker, PullBasedJetStreamBroker], ids=["push", "pull"])
async def test_a_taskiq_worker_runs_every_task_through_a_restart(
    running: RunningServer, restart: Restart, kind: type[PullBasedJetStreamBroker]
) -> None:
    results: Any = NATSObjectStoreResultBackend(running.url, error_cb=no_sign, **CONNECTING)
    # without a limit a request to pull waits for ever, also one that the server has forgotten
    broker = kind(
        [running.url], subject="tasks", pull_consume_timeout=1.0, error_cb=no_sign, **CONNECTING
    ).with_result_backend(results)
    done: set[int] = set()

    @broker.task
    async def double(value: int) -> int:
        done.add(value)
        return 2 * value

    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker))
    try:
        before = await double.kiq(0)
        assert (await before.wait_result(timeout=PATIENCE_S)).return_value == 0
        restarted = asyncio.create_task(restart())
        for value in range(1, COUNT):
            await insist(partial(double.kiq, value))
        await restarted
        await until(lambda: done == set(range(COUNT)))
        after = await insist(partial(double.kiq, COUNT))
        for task, expected in ((before, 0), (after, 2 * COUNT)):
            assert (await task.wait_result(timeout=PATIENCE_S)).return_value == expected
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await broker.shutdown()


async def test_buckets_objects_and_consumers_of_nats_py_go_on_after_a_restart(
    running: RunningServer, restart: Restart
) -> None:
    pushed: list[bytes] = []

    async def on_push(message: Msg) -> None:
        pushed.append(message.data)
        await message.ack()

    async with connected(running) as (_, jetstream):
        await jetstream.add_stream(name="WORK", subjects=["work.>"])
        pulling = await jetstream.pull_subscribe("work.>", durable="pull")
        await jetstream.subscribe("work.>", durable="push", cb=on_push, manual_ack=True)
        settings = await jetstream.create_key_value(KeyValueConfig(bucket="SETTINGS", history=5))
        files = await jetstream.create_object_store("FILES")
        content = bytes(range(256)) * 2048
        await files.put("big", content)
        await settings.put("a", b"1")
        for number in range(COUNT):
            await jetstream.publish("work.new", b"%d" % number)
        for message in await pulling.fetch(COUNT // 2, timeout=ATTEMPT_S):
            await message.ack_sync()

        await restart()

        await insist(lambda: settings.put("a", b"2"))
        await settings.delete("a")
        assert [entry.value for entry in await settings.history("a")][:2] == [b"1", b"2"]
        assert (await files.get("big")).data == content
        await insist(lambda: jetstream.publish("work.new", b"last"))
        rest: list[bytes] = []
        while len(rest) < COUNT + 1 - COUNT // 2:
            for message in await insist(lambda: pulling.fetch(COUNT, timeout=ATTEMPT_S / 2)):
                rest.append(message.data)
                await message.ack_sync()
        assert rest == [b"%d" % number for number in range(COUNT // 2, COUNT)] + [b"last"]
        await until(lambda: set(pushed) == {b"%d" % number for number in range(COUNT)} | {b"last"})


async def watched(watcher: KeyValue.KeyWatcher, seen: list[bytes | None]) -> None:
    """Note the values that a watcher gives."""
    async for entry in watcher:
        seen += [entry.value] if entry is not None else []


async def test_a_watcher_of_nats_py_sees_what_is_there_after_a_restart(
    running: RunningServer, restart: Restart
) -> None:
    async with connected(running) as (_, jetstream):
        settings = await jetstream.create_key_value(KeyValueConfig(bucket="SETTINGS"))
        await settings.put("a", b"1")
        await restart()
        seen: list[bytes | None] = []
        watching = asyncio.create_task(watched(await insist(settings.watchall), seen))
        await insist(lambda: settings.put("a", b"2"))
        await until(lambda: seen == [b"1", b"2"])
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.campaign
async def test_a_watcher_of_nats_py_goes_on_by_itself_after_a_restart(
    running: RunningServer, restart: Restart
) -> None:
    """The client misses the heartbeats of its consumer, which was in memory, and makes another."""
    async with connected(running) as (_, jetstream):
        settings = await jetstream.create_key_value(KeyValueConfig(bucket="SETTINGS"))
        seen: list[bytes | None] = []
        watching = asyncio.create_task(watched(await settings.watchall(), seen))
        await settings.put("a", b"1")
        await restart()
        await insist(lambda: settings.put("a", b"2"))
        await until(lambda: seen == [b"1", b"2"])
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_ids_are_known_for_the_whole_window_after_a_restart_though_their_messages_were_removed(
    running: RunningServer, restart: Restart
) -> None:
    async def publish(jetstream: JetStreamContext, number: int) -> bool:
        headers = {"Nats-Msg-Id": f"id-{number}"}
        return bool((await jetstream.publish("ids.a", b"%d" % number, headers=headers)).duplicate)

    async with connected(running) as (_, jetstream):
        await jetstream.add_stream(name="IDS", subjects=["ids.>"], duplicate_window=60.0)
        assert [await publish(jetstream, number) for number in range(COUNT)] == [False] * COUNT
        await jetstream.delete_msg("IDS", COUNT)
        await jetstream.purge_stream("IDS", seq=COUNT // 2)

        await restart()

        assert [await insist(partial(publish, jetstream, number)) for number in range(COUNT)] == [
            True
        ] * COUNT
        assert (await jetstream.stream_info("IDS")).state.last_seq == COUNT
        assert await publish(jetstream, COUNT) is False


async def test_what_a_worker_gave_up_or_left_unacked_is_left_for_the_next_after_a_restart(
    running: RunningServer, restart: Restart
) -> None:
    async with connected(running) as (_, jetstream):
        await jetstream.add_stream(name="JOBS", subjects=["jobs"], retention=RetentionPolicy.WORK_QUEUE)
        for number in range(COUNT):
            await jetstream.publish("jobs", b"%d" % number)
        given_up = ConsumerConfig(max_deliver=1, ack_wait=0.1)
        worker = await jetstream.pull_subscribe("jobs", durable="once", config=given_up)
        assert len(await worker.fetch(COUNT // 2, timeout=ATTEMPT_S)) == COUNT // 2
        await asyncio.sleep(0.3)
        await jetstream.delete_consumer("JOBS", "once")
        ephemeral = await jetstream.pull_subscribe("jobs")
        (acked, *_) = await ephemeral.fetch(COUNT, timeout=ATTEMPT_S)
        await acked.ack_sync()
        await jetstream.delete_consumer("JOBS", (await ephemeral.consumer_info()).name)

        await restart()

        last = await insist(lambda: jetstream.pull_subscribe("jobs", durable="last"))
        rest = [message.data for message in await last.fetch(COUNT, timeout=ATTEMPT_S)]
        assert rest == [b"%d" % number for number in range(1, COUNT)]
