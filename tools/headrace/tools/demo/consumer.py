"""The demo's consuming process: takes orders with a durable consumer and confirms each.

It ends when its standard input is closed.
"""

import argparse
import asyncio
import json
import sys

import nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from headrace.tools.demo.names import CONNECT_WAIT_S, DURABLE, STREAM, SUBJECT, report

BATCH = 100
FETCH_TIMEOUT_S = 1.0
CONFIRM_TIMEOUT_S = 2.0


async def confirm(message: Msg) -> int | None:
    """Ack an order and wait for the server's answer; None when it did not come: the order may come again."""
    try:
        await message.ack_sync(timeout=CONFIRM_TIMEOUT_S)
    except (NatsError, OSError):
        return None
    order: int = json.loads(message.data)["order"]
    return order


async def consume(url: str) -> None:
    """Fetch, report, confirm and report again, for ever."""
    client = await nats.connect(
        url,
        name="demo consumer",
        max_reconnect_attempts=-1,
        reconnect_time_wait=CONNECT_WAIT_S,
        error_cb=_ignore,
    )
    js = client.jetstream()
    subscription: JetStreamContext.PullSubscription | None = None
    while True:
        try:
            if subscription is None:
                subscription = await js.pull_subscribe(SUBJECT, durable=DURABLE, stream=STREAM)
            messages = await subscription.fetch(BATCH, timeout=FETCH_TIMEOUT_S)
        except (NatsError, OSError):
            await asyncio.sleep(CONNECT_WAIT_S)
            continue
        report("delivered", [json.loads(message.data)["order"] for message in messages])
        confirmed = await asyncio.gather(*(confirm(message) for message in messages))
        report("confirmed", [order for order in confirmed if order is not None])


async def _ignore(_: Exception) -> None:
    """Lost connections are the point of the demo."""


async def until_told(url: str) -> None:
    """Consume until standard input ends."""
    work = asyncio.create_task(consume(url))
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
    work.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    arguments = parser.parse_args()
    asyncio.run(until_told(arguments.url))
