"""Publish orders to a stream and take them with a durable consumer: python orders.py [URL].

Run it, stop the server in between, run it again: what was acknowledged is there.
"""

import asyncio
import sys

import nats


async def main(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    await js.add_stream(name="ORDERS", subjects=["orders.>"])

    for number in range(1, 4):
        ack = await js.publish("orders.placed", f"order {number}".encode())
        print(f"order {number} is on disk as sequence {ack.seq} of {ack.stream}")

    subscription = await js.pull_subscribe("orders.>", durable="billing")
    for message in await subscription.fetch(3, timeout=2):
        print(f"billing got {message.data.decode()} (sequence {message.metadata.sequence.stream})")
        await message.ack_sync()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
