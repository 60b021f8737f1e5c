"""Pull consumers: requests, their ends, acks of every kind, redelivery."""

import asyncio
import time

import nats.errors

from headrace.tools.oracle import Lab, RawClient, scenario
from headrace.tools.oracle.lab import message_fields

SECOND = 1_000_000_000


async def filled(lab: Lab, count: int = 5, **config: object) -> None:
    await lab.stream("S", "s.>", **config)
    for number in range(count):
        await lab.store(f"s.{'abc'[number % 3]}", f"m{number + 1}")


async def puller(lab: Lab) -> RawClient:
    client = await lab.raw()
    client.send(b"SUB in 1\r\n")
    await client.until_pong()
    return client


def pull(client: RawClient, request: str = "", *, consumer: str = "C", reply: str = "in") -> None:
    client.publish(f"$JS.API.CONSUMER.MSG.NEXT.S.{consumer}", request, reply=reply)


@scenario()
async def pulled_messages_carry_their_ack_subject(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.store("s.h", "headers", Color="red")
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client)
    lab.note("empty request", await client.frames(1))
    pull(client, "2")
    lab.note("a number", await client.frames(2))
    pull(client, '{"batch":2,"expires":5000000000}')
    lab.note("JSON", await client.frames(2))
    await lab.consumer_state("S", "C")


@scenario()
async def no_wait_takes_what_is_there(lab: Lab) -> None:
    await filled(lab, 3)
    await lab.consumer("S", "C")
    client = await puller(lab)
    for _ in range(3):
        pull(client, '{"batch":2,"no_wait":true}')
        frames = []
        while len(frames) < 2 and (not frames or frames[-1][0] == "MSG"):
            frames.append(await client.frame())
        lab.note("no_wait of 2", frames)


@scenario()
async def a_request_expires(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, '{"batch":3,"expires":200000000}')
    lab.note("one of three, then the end", await client.frames(2))
    pull(client, '{"batch":3,"expires":200000000,"max_bytes":1000}')
    lab.note("nothing, then the end", await client.frames(1))
    pull(client, '{"batch":3,"expires":200000000,"no_wait":true}')
    lab.note("no_wait with expires", await client.frames(1))


@scenario()
async def a_waiting_request_gets_what_comes(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, '{"batch":2,"expires":5000000000}')
    await lab.settled("S", "C", num_waiting=1)
    await lab.consumer_state("S", "C")
    await lab.store("s.a", "one")
    await lab.store("s.b", "two")
    await lab.store("s.c", "three")
    lab.note("delivered", await client.frames(2))
    await lab.consumer_state("S", "C")


@scenario()
async def waiting_requests_take_turns(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C")
    client = await puller(lab)
    client.send(b"SUB r.* 2\r\n")
    pull(client, '{"batch":2,"expires":5000000000}', reply="r.1")
    pull(client, '{"batch":2,"expires":5000000000}', reply="r.2")
    await lab.settled("S", "C", num_waiting=2)
    one, two = await lab.raw(), await lab.raw()
    await one.until_pong()
    await two.until_pong()
    for number in range(4):
        await lab.store("s.a", str(number))
    lab.note("delivered", await client.frames(4))


@scenario()
async def bad_requests_are_refused_with_a_status(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C", max_batch=5, max_expires=SECOND, max_bytes=500, max_waiting=1)
    client = await puller(lab)
    for request in (
        '{"batch":6}',
        '{"batch":1,"expires":2000000000}',
        '{"batch":1,"expires":1000000000,"max_bytes":501}',
        '{"batch":1,"expires":1000000000,"idle_heartbeat":600000000}',
        "{bad",
        '{"batch":1,"priority":3}',
        '{"batch":1,"group":"g"}',
    ):
        pull(client, request)
        lab.note(request, await client.quiet(0.3))
    lab.note("missing consumer", await client.request("$JS.API.CONSUMER.MSG.NEXT.S.D"))
    lab.note("missing stream", await client.request("$JS.API.CONSUMER.MSG.NEXT.T.C"))


@scenario()
async def too_many_waiting_requests_are_refused(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C", max_waiting=1)
    client = await puller(lab)
    pull(client, '{"batch":1,"expires":5000000000}')
    await lab.settled("S", "C", num_waiting=1)
    pull(client, '{"batch":1,"expires":5000000000}')
    lab.note("second", await client.frames(1))


@scenario()
async def a_push_consumer_cannot_be_pulled(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C", deliver_subject="to.me")
    client = await puller(lab)
    pull(client)
    lab.note("pulled", await client.quiet(0.3))


@scenario()
async def max_bytes_ends_a_request(lab: Lab) -> None:
    await filled(lab, 0)
    for _ in range(5):
        await lab.store("s.a", "x" * 100)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, '{"batch":5,"expires":5000000000,"max_bytes":400}')
    lab.note("fits two", await client.frames(3))
    pull(client, '{"batch":1,"expires":5000000000,"max_bytes":50}')
    lab.note("fits none", await client.frames(1))
    pull(client, '{"batch":1,"expires":5000000000,"max_bytes":1000}')
    lab.note("batch complete", await client.frames(2))


@scenario()
async def idle_heartbeats_come_while_a_request_waits(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, '{"batch":1,"expires":700000000,"idle_heartbeat":250000000}')
    lab.note("two heartbeats, then the end", await client.frames(3))


@scenario()
async def a_confirmed_ack_is_answered(lab: Lab) -> None:
    await filled(lab, 3)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, "3")
    acks = [frame[3] for frame in await client.frames(3)]
    for body in ("", "+ACK", "junk"):
        lab.note(f"ack of the first with {body!r}", await client.request(acks[0], body))
        await lab.consumer_state("S", "C")
    lab.note("ack of the third", await client.request(acks[2], "+ACK"))
    await lab.consumer_state("S", "C")
    lab.note("ack of the second", await client.request(acks[1], "+ACK"))
    await lab.consumer_state("S", "C")


@scenario()
async def acking_all_covers_what_came_before(lab: Lab) -> None:
    await filled(lab, 5)
    await lab.consumer("S", "C", ack_policy="all")
    client = await puller(lab)
    pull(client, "4")
    acks = [frame[3] for frame in await client.frames(4)]
    await client.request(acks[2], "+ACK")
    await lab.consumer_state("S", "C")
    await client.request(acks[0], "+ACK")
    await lab.consumer_state("S", "C")


@scenario()
async def a_nak_brings_the_message_again(lab: Lab) -> None:
    await filled(lab, 2)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, "2")
    acks = [frame[3] for frame in await client.frames(2)]
    await client.request(acks[0], "-NAK")
    await lab.consumer_state("S", "C")
    pull(client, "1")
    lab.note("again", await client.frames(1))
    for body, least_s in (('-NAK {"delay": 400000000}', 0.35), ("-NAK 300ms", 0.25)):
        started = time.monotonic()
        await client.request(acks[1], body)
        pull(client, '{"batch":1,"expires":4000000000}')
        lab.note(f"after {body}", await client.frames(1))
        waited = time.monotonic() - started
        lab.note("not too early, not too late", least_s < waited < least_s + 1)
    await lab.consumer_state("S", "C")


@scenario()
async def work_in_progress_keeps_a_message(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C", ack_wait=500_000_000)
    client = await puller(lab)
    pull(client)
    ack = (await client.frame())[3]
    pull(client, '{"batch":1,"expires":4000000000}')
    started = time.monotonic()
    for _ in range(3):
        await asyncio.sleep(0.25)
        client.publish(ack, "+WPI")
    lab.note("redelivered", await client.frames(1))
    lab.note("only after the last one", time.monotonic() - started > 1.1)


@scenario()
async def a_term_ends_it(lab: Lab) -> None:
    await filled(lab, 2)
    await lab.consumer("S", "C", ack_wait=300_000_000)
    client = await puller(lab)
    pull(client, "2")
    acks = [frame[3] for frame in await client.frames(2)]
    lab.note("confirmed", await client.request(acks[0], "+TERM no good"))
    await client.request(acks[1], "+TERM")
    await lab.consumer_state("S", "C")
    pull(client, '{"batch":1,"expires":700000000}')
    lab.note("never again", await client.frames(1))


@scenario()
async def next_acks_and_asks_for_more(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client)
    ack = (await client.frame())[3]
    client.publish(ack, "+NXT", reply="in")
    frame = await client.frame()
    lab.note("one more", frame)
    client.publish(frame[3], '+NXT {"batch":2,"no_wait":true}', reply="in")
    lab.note("two more", await client.frames(2))
    await lab.consumer_state("S", "C")


@scenario()
async def unacked_messages_come_again_in_order(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.consumer("S", "C", ack_wait=300_000_000)
    client = await puller(lab)
    pull(client, "3")
    frames = await client.frames(3)
    await client.request(frames[1][3], "+ACK")
    pull(client, '{"batch":3,"expires":4000000000}')
    lab.note("the new one, then those not acked", await client.frames(3))
    await lab.consumer_state("S", "C")


@scenario()
async def a_message_is_delivered_no_more_than_max_deliver_times(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C", ack_wait=200_000_000, max_deliver=2)
    client = await puller(lab)
    client.send(b"SUB $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.> 2\r\n")
    pull(client, '{"batch":5,"expires":1200000000}')
    frames = await client.frames(4)
    lab.note("deliveries and the end", [frame for frame in frames if frame[2] == "1"])
    lab.note("advisories", [frame[1] for frame in frames if frame[2] == "2"])
    await lab.consumer_state("S", "C")
    await lab.state("S")


@scenario()
async def backoff_sets_the_waits(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C", backoff=[100_000_000, 500_000_000], max_deliver=3)
    client = await puller(lab)
    pull(client, '{"batch":3,"expires":4000000000}')
    times = []
    frames = []
    for _ in range(3):
        frames.append(await client.frame())
        times.append(time.monotonic())
    lab.note("delivered", frames)
    lab.note("waits", [0.08 < times[1] - times[0] < 0.4, 0.45 < times[2] - times[1] < 0.9])


@scenario()
async def no_more_is_delivered_than_may_be_pending(lab: Lab) -> None:
    await filled(lab, 5)
    await lab.consumer("S", "C", max_ack_pending=2)
    client = await puller(lab)
    pull(client, '{"batch":5,"expires":5000000000}')
    frames = await client.frames(2)
    lab.note("first", frames)
    lab.note("then", await client.quiet())
    await (await lab.raw()).request(frames[0][3], "+ACK")
    lab.note("after an ack", await client.frames(1))
    await lab.consumer_state("S", "C")


@scenario()
async def consumers_of_one_stream_do_not_disturb_each_other(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.consumer("S", "C", filter_subject="s.a")
    await lab.consumer("S", "D")
    client = await puller(lab)
    for consumer in ("C", "D"):
        pull(client, '{"batch":10,"no_wait":true}', consumer=consumer)
        frames = []
        while not frames or frames[-1][0] == "MSG":
            frames.append(await client.frame())
        lab.note(consumer, frames)


@scenario()
async def no_ack_consumers_need_none(lab: Lab) -> None:
    await filled(lab, 2)
    await lab.consumer("S", "C", ack_policy="none")
    client = await puller(lab)
    pull(client, "2")
    frames = await client.frames(2)
    lab.note("delivered", frames)
    await lab.consumer_state("S", "C")
    if frames[0][3]:
        lab.note("an ack", await client.request(frames[0][3], "+ACK"))


@scenario()
async def a_deleted_consumer_ends_its_requests(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, '{"batch":1,"expires":5000000000}')
    await lab.settled("S", "C", num_waiting=1)
    await lab.do("CONSUMER.DELETE.S.C")
    lab.note("request", await client.frames(1))


@scenario()
async def purges_and_deletes_reach_the_consumer(lab: Lab) -> None:
    await filled(lab, 6)
    await lab.consumer("S", "C")
    client = await puller(lab)
    pull(client, "3")
    await client.frames(3)
    await lab.do("STREAM.MSG.DELETE.S", {"seq": 2})
    await lab.settled("S", "C", num_ack_pending=2)
    await lab.consumer_state("S", "C")
    await lab.do("STREAM.MSG.DELETE.S", {"seq": 5})
    await lab.settled("S", "C", num_pending=2)
    await lab.consumer_state("S", "C")
    await lab.do("STREAM.PURGE.S", {"seq": 5})
    await lab.consumer_state("S", "C")
    await lab.do("STREAM.PURGE.S")
    await lab.consumer_state("S", "C")
    await lab.store("s.a", "after")
    pull(client)
    lab.note("after the purge", await client.frames(1))


@scenario()
async def headers_only_tells_the_size(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.store("s.h", "headers", Color="red")
    await lab.consumer("S", "C", headers_only=True)
    client = await puller(lab)
    pull(client, "2")
    lab.note("delivered", await client.frames(2))


@scenario()
async def a_paused_consumer_delivers_nothing(lab: Lab) -> None:
    await filled(lab, 1)
    await lab.consumer("S", "C")
    client = await puller(lab)
    await lab.api("CONSUMER.PAUSE.S.C", {"pause_until": "2120-01-01T00:00:00Z"})
    pull(client, '{"batch":1,"expires":300000000}')
    lab.note("paused", await client.frames(1))
    await lab.consumer_state("S", "C")
    await lab.api("CONSUMER.PAUSE.S.C")
    pull(client)
    lab.note("resumed", await client.frames(1))


@scenario()
async def nats_py_fetches_acks_and_times_out(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s.*"])
    for number in range(10):
        await jetstream.publish("s.a", str(number).encode())
    subscription = await jetstream.pull_subscribe("s.a", durable="worker")
    for size in (3, 4, 5):
        messages = await subscription.fetch(size, timeout=0.5)
        for message in messages:
            await message.ack()
        lab.note(f"fetch {size}", [message_fields(message) for message in messages])
    await lab.refused("fetch of nothing", subscription.fetch(1, timeout=0.2))
    await lab.settled("S", "worker", num_ack_pending=0)
    info = await subscription.consumer_info()
    lab.note("info", [info.num_pending, info.num_ack_pending, info.ack_floor and info.ack_floor.stream_seq])


@scenario()
async def nats_py_confirms_naks_and_terms(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s"])
    for number in range(3):
        await jetstream.publish("s", str(number).encode())
    subscription = await jetstream.pull_subscribe("s", durable="worker")
    first, second, third = await subscription.fetch(3, timeout=2)
    await first.ack_sync()
    await second.nak()
    await third.term()
    again = (await subscription.fetch(1, timeout=2))[0]
    lab.note("again", [again.data, again.metadata.num_delivered, again.metadata.sequence.stream])
    await again.in_progress()
    await again.ack_sync()
    try:
        await subscription.fetch(1, timeout=0.2)
    except nats.errors.TimeoutError:
        lab.note("then", "nothing")
    await lab.consumer_state("S", "worker")


@scenario()
async def a_one_shot_that_acks_stall_ends_at_the_next_check(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.consumer("S", "C", max_ack_pending=2)
    client = await puller(lab)
    pull(client, '{"batch":9,"expires":1900000000,"idle_heartbeat":100000000,"no_wait":true}')
    lab.note("at its heartbeat", await client.frames(3))
    await lab.consumer_state("S", "C")
    await lab.consumer("S", "D", max_ack_pending=2)
    pull(client, '{"batch":9,"expires":300000000,"no_wait":true}', consumer="D")
    lab.note("at its end", await client.frames(3))
    await lab.consumer("S", "E", max_ack_pending=2)
    pull(client, '{"batch":9,"expires":3000000000,"no_wait":true}', consumer="E")
    lab.note("served", await client.frames(2))
    client.send(b"SUB other 2\r\n")
    pull(client, '{"batch":1,"expires":200000000}', consumer="E", reply="other")
    lab.note("at the end of another", await client.frames(2))
