"""The demo's publishing process: places orders, and places each again until the server acknowledged it.

Each order carries its number as `Nats-Msg-Id`, so an order whose acknowledgement was lost with the server is
stored once, however often it is placed.
"""

import argparse
import asyncio
import json

import nats
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from headrace.tools.demo.names import CONNECT_WAIT_S, STREAM, SUBJECT, report

WINDOW = 100
ACK_TIMEOUT_S = 2.0
REPORT_EVERY = 50


async def place(js: JetStreamContext, order: int) -> None:
    """Publish one order until it is acknowledged."""
    payload = json.dumps(
        {"order": order, "item": f"article {order % 97}", "quantity": 1 + order % 5}
    ).encode()
    while True:
        try:
            ack = await js.publish(
                SUBJECT, payload, timeout=ACK_TIMEOUT_S, headers={"Nats-Msg-Id": f"order-{order}"}
            )
        except (NatsError, OSError):
            await asyncio.sleep(CONNECT_WAIT_S)
            continue
        assert ack.stream == STREAM, f"acknowledged by {ack.stream}"
        return


async def publish_all(url: str, orders: int) -> None:
    """Place all orders, `WINDOW` at a time, and report those that were acknowledged."""
    client = await nats.connect(
        url,
        name="demo publisher",
        max_reconnect_attempts=-1,
        reconnect_time_wait=CONNECT_WAIT_S,
        error_cb=_ignore,
    )
    js = client.jetstream()
    numbers = iter(range(1, orders + 1))
    acknowledged: list[int] = []

    async def worker() -> None:
        for order in numbers:
            await place(js, order)
            acknowledged.append(order)
            if len(acknowledged) >= REPORT_EVERY:
                report("acknowledged", acknowledged.copy())
                acknowledged.clear()

    await asyncio.gather(*(worker() for _ in range(WINDOW)))
    report("acknowledged", acknowledged)
    await client.close()


async def _ignore(_: Exception) -> None:
    """Lost connections are the point of the demo."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--orders", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(publish_all(arguments.url, arguments.orders))
