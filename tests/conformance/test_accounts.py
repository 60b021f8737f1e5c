"""Two accounts and their clients: the same tests on Headrace and on the reference."""

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from headrace.tools.oracle import Servers

CONFIG = """
accounts {
  A {
    jetstream: enabled, users: [{user: a, password: p}]
    exports: [
      {service: "$JS.API.>", response: stream}, {service: "$JS.ACK.>"}, {service: "orders.>"}, {stream: "deliver.>"}
    ]
  }
  B {
    users: [{user: b, password: p}]
    imports: [
      {service: {account: A, subject: "$JS.API.>"}, to: "JS.A.API.>"}
      {service: {account: A, subject: "$JS.ACK.>"}}
      {service: {account: A, subject: "orders.>"}, to: "in.A.orders.>"}
      {stream: {account: A, subject: "deliver.>"}}
    ]
  }
}
"""


@pytest.fixture
async def clients(servers: Servers) -> AsyncIterator[tuple[Client, Client]]:
    url = servers.get(CONFIG).url
    a = await nats.connect(url, user="a", password="p")
    b = await nats.connect(url, user="b", password="p")
    yield a, b
    await a.jetstream().delete_stream("ORDERS")
    await a.close()
    await b.close()


async def test_a_stream_is_used_from_another_account(clients: tuple[Client, Client]) -> None:
    a, b = clients
    await a.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
    js = b.jetstream(prefix="JS.A.API")
    for number in range(1, 7):
        ack = await b.request("in.A.orders.new", b"%d" % number, timeout=2)
        assert f'"seq":{number}'.encode() in ack.data.replace(b" ", b"")
    assert (await js.get_msg("ORDERS", 1)).headers is None

    await js.add_consumer("ORDERS", ConsumerConfig(durable_name="pull", ack_policy=AckPolicy.EXPLICIT))
    subscription = await js.pull_subscribe_bind("pull", "ORDERS")
    pulled = await subscription.fetch(3, timeout=2) + await subscription.fetch(3, timeout=2)
    assert [(message.subject, message.data) for message in pulled] == [
        ("orders.new", b"%d" % number) for number in range(1, 7)
    ]
    for message in pulled:
        await message.ack_sync()
    consumer = await js.consumer_info("ORDERS", "pull")
    assert consumer.ack_floor is not None
    assert (consumer.num_pending, consumer.num_ack_pending, consumer.ack_floor.stream_seq) == (0, 0, 6)

    pushed: asyncio.Queue[Msg] = asyncio.Queue()
    await b.subscribe("deliver.x", cb=pushed.put)
    await b.flush()
    config = ConsumerConfig(durable_name="push", deliver_subject="deliver.x", ack_policy=AckPolicy.EXPLICIT)
    await js.add_consumer("ORDERS", config)
    for number in range(1, 7):
        message = await asyncio.wait_for(pushed.get(), 2)
        assert (message.subject, message.data) == ("orders.new", b"%d" % number)
        await message.ack_sync()
    assert (await js.consumer_info("ORDERS", "push")).num_ack_pending == 0
