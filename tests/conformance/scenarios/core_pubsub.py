"""Publish, subscribe, queue groups, requests and headers, as nats-py shows them."""

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg

from headrace.tools.oracle import Lab, scenario
from headrace.tools.oracle.lab import message_fields


@scenario()
async def a_subscriber_gets_what_is_published_on_its_subject(lab: Lab) -> None:
    client = await lab.connect()
    subscription = await client.subscribe("orders.new")
    await client.publish("orders.new", b"one")
    await client.publish("orders.old", b"not wanted")
    await client.publish("orders.new", b"two", reply="answers", headers={"Color": "blue"})
    for _ in range(2):
        lab.note("received", message_fields(await subscription.next_msg(timeout=5)))


@scenario()
async def wildcards_match_tokens_as_documented(lab: Lab) -> None:
    client = await lab.connect()
    got: dict[str, list[str]] = {}

    def collect(pattern: str) -> Callable[[Msg], Awaitable[None]]:
        async def take(message: Msg) -> None:
            got[pattern].append(message.subject)

        return take

    for pattern in ("a.*", "a.>", "*.b", ">", "a.b", "a.*.c", "*", "a.*.>"):
        got[pattern] = []
        await client.subscribe(pattern, cb=collect(pattern))
    await client.flush()
    for subject in ("a", "a.b", "a.b.c", "a.b.c.d", "x.b", "$x.b", "a.*"):
        await client.publish(subject)
    await client.flush()
    await asyncio.sleep(0.05)
    own = {p: [s for s in subjects if s.startswith(("a", "x", "$x"))] for p, subjects in got.items()}
    lab.note("matched", own)


@scenario()
async def a_queue_group_delivers_each_message_to_one_member(lab: Lab) -> None:
    publisher = await lab.connect()
    counts = [0, 0, 0]
    seen: list[bytes] = []
    for index in range(3):
        worker = await lab.connect()

        async def take(message: Msg, index: int = index) -> None:
            counts[index] += 1
            seen.append(message.data)

        await worker.subscribe("work", queue="workers", cb=take)
        await worker.flush()
    for number in range(300):
        await publisher.publish("work", str(number).encode())
    await publisher.flush()
    for _ in range(100):
        if len(seen) == 300:
            break
        await asyncio.sleep(0.02)
    lab.note("delivered", [len(seen), len(set(seen))])
    lab.note("every member has some", [count > 10 for count in counts])


@scenario()
async def two_queue_groups_and_a_plain_subscriber_each_get_every_message(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"SUB a.* g1 1\r\nSUB a.b g1 2\r\nSUB a.b g2 3\r\nSUB a.b 4\r\n")
    client.publish("a.b", "x")
    frames = await client.until_pong()
    sids = sorted(frame[2] for frame in frames)
    lab.note("sids of plain and of group 2", [sid for sid in sids if sid in {"3", "4"}])
    lab.note("deliveries to group 1", len([sid for sid in sids if sid in {"1", "2"}]))


@scenario()
async def a_request_gets_the_first_answer(lab: Lab) -> None:
    service, client = await lab.connect(), await lab.connect()

    async def answer(message: Msg) -> None:
        await message.respond(b"answer to " + message.data)

    await service.subscribe("service", cb=answer)
    await service.flush()
    lab.note("answered", message_fields(await client.request("service", b"question", timeout=5)))


@scenario()
async def a_request_without_responders_fails_at_once(lab: Lab) -> None:
    client = await lab.connect()
    await lab.refused("request", client.request("nobody.home", b"?", timeout=5))


@scenario()
async def a_request_that_is_not_answered_times_out(lab: Lab) -> None:
    client = await lab.connect()
    await client.subscribe("silent")
    await lab.refused("request", client.request("silent", b"?", timeout=0.1))


@scenario()
async def a_subscription_ends_after_its_limit(lab: Lab) -> None:
    client = await lab.connect()
    subscription = await client.subscribe("limited")
    await subscription.unsubscribe(limit=2)
    for number in range(4):
        await client.publish("limited", str(number).encode())
    await client.flush()
    for _ in range(2):
        lab.note("received", (await subscription.next_msg(timeout=5)).data)
    try:
        await subscription.next_msg(timeout=0.1)
    except (TimeoutError, nats.errors.Error):
        lab.note("then", "nothing")


@scenario()
async def a_client_without_echo_does_not_hear_itself(lab: Lab) -> None:
    client = await lab.raw(echo=False)
    other = await lab.raw()
    client.send(b"SUB a 1\r\n")
    client.publish("a", "own")
    lab.note("own message", await client.until_pong())
    other.publish("a", "other")
    await other.until_pong()
    lab.note("message of another", await client.frames(1))


@scenario()
async def headers_reach_those_who_understand_them_and_are_cut_off_for_others(lab: Lab) -> None:
    modern, old = await lab.raw(), await lab.raw(headers=False, no_responders=False)
    for client in (modern, old):
        client.send(b"SUB h 1\r\n")
        await client.until_pong()
    modern.publish("h", "body", headers="A: 1\r\nA: 2\r\nb: x y")
    lab.note("modern", await modern.until_pong())
    lab.note("old", await old.frames(1))


@scenario()
async def order_is_kept_from_one_publisher_to_one_subscriber(lab: Lab) -> None:
    client = await lab.connect()
    subscription = await client.subscribe("o.>")
    for number in range(2000):
        await client.publish(f"o.{number % 7}", str(number).encode())
    await client.flush()
    got = [int((await subscription.next_msg(timeout=5)).data) for _ in range(2000)]
    lab.note("in order", got == list(range(2000)))


@scenario()
async def large_and_empty_payloads_arrive_whole(lab: Lab) -> None:
    client = await lab.connect()
    subscription = await client.subscribe("big")
    for size in (0, 1, 65536, 1024 * 1024):
        await client.publish("big", b"\r\n" * (size // 2) + b"x" * (size % 2))
    await client.flush()
    for _ in range(4):
        data = (await subscription.next_msg(timeout=5)).data
        lab.note("arrived", [len(data), data == b"\r\n" * (len(data) // 2) + b"x" * (len(data) % 2)])


@scenario()
async def a_drained_subscription_gets_what_was_sent_before(lab: Lab) -> None:
    client = await lab.connect()
    got: list[bytes] = []

    async def take(message: Msg) -> None:
        got.append(message.data)

    subscription = await client.subscribe("d", cb=take)
    for number in range(10):
        await client.publish("d", str(number).encode())
    await client.flush()
    await subscription.drain()
    await client.publish("d", b"late")
    await client.flush()
    lab.note("received", got)
