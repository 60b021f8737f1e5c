"""Push consumers: delivery, queue groups, heartbeats, flow control, ordered consumers."""

import asyncio

from nats.aio.msg import Msg

from headrace.tools.oracle import Lab, scenario

SECOND = 1_000_000_000


async def filled(lab: Lab, count: int = 5, **config: object) -> None:
    await lab.stream("S", "s.>", **config)
    for number in range(count):
        await lab.store(f"s.{'abc'[number % 3]}", f"m{number + 1}")


@scenario()
async def a_push_consumer_delivers_while_someone_listens(lab: Lab) -> None:
    await filled(lab, 3)
    await lab.consumer("S", "P", deliver_subject="to.me")
    await lab.consumer_state("S", "P")
    client = await lab.raw()
    client.send(b"SUB to.me 1\r\n")
    frames = await client.frames(3)
    lab.note("delivered", frames)
    await lab.consumer_state("S", "P")
    for frame in frames:
        await client.request(frame[3], "+ACK")
    await lab.consumer_state("S", "P")
    await lab.store("s.b", "new")
    lab.note("a new one", await client.frames(1))
    client.send(b"UNSUB 1\r\n")
    await client.until_pong()
    await lab.store("s.b", "unheard")
    lab.note("nobody listens", await client.quiet())


@scenario()
async def pushed_messages_that_are_not_acked_come_again(lab: Lab) -> None:
    await filled(lab, 2)
    client = await lab.raw()
    client.send(b"SUB to.me 1\r\n")
    await client.until_pong()
    await lab.consumer("S", "P", deliver_subject="to.me", ack_wait=300_000_000, max_deliver=2)
    lab.note("delivered twice", await client.frames(4))
    lab.note("no more", await client.quiet(0.5))


@scenario()
async def a_push_queue_group_gets_each_message_once(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "P", deliver_subject="to.us", deliver_group="g", ack_policy="none")
    plain = await lab.raw()
    plain.send(b"SUB to.us 1\r\n")
    await plain.until_pong()
    await lab.store("s.a", "early")
    lab.note("without the group", await plain.quiet())
    members = [await lab.raw() for _ in range(2)]
    early = 0
    for member in members:
        member.send(b"SUB to.us g 1\r\n")
        early += len(await member.until_pong())
    for number in range(60):
        await lab.store("s.a", str(number))
    got = [len(await member.quiet(0.3)) for member in members]
    lab.note("all members together", early + sum(got))
    lab.note("each has some", all(count > 5 for count in got))


@scenario()
async def heartbeats_say_that_nothing_is_lost(lab: Lab) -> None:
    await filled(lab, 1)
    client = await lab.raw()
    client.send(b"SUB to.me 1\r\n")
    await client.until_pong()
    await lab.consumer("S", "P", deliver_subject="to.me", ack_policy="none", idle_heartbeat=300_000_000)
    lab.note("a message, two heartbeats", await client.frames(3))


@scenario()
async def flow_control_asks_and_stalls(lab: Lab) -> None:
    await filled(lab, 0, max_msg_size=200_000)
    for _ in range(40):
        await lab.store("s.a", "x" * 100_000)
    client = await lab.raw()
    client.send(b"SUB to.me 1\r\n")
    await client.until_pong()
    await lab.consumer(
        "S", "P", deliver_subject="to.me", ack_policy="none", flow_control=True, idle_heartbeat=300_000_000
    )
    delivered, requests = 0, []
    while True:
        frame = await client.frame()
        if frame[0] == "MSG":
            delivered += 1
        elif "FlowControl" in frame[4]:
            requests.append(frame)
        else:
            stalled = frame
            break
    lab.note("stalls before all is delivered", 10 <= delivered <= 39)
    lab.note("asked", requests)
    lab.note("heartbeat while stalled", stalled[4].replace(str(delivered), "<count>"))
    client.publish(requests[0][3])
    while delivered < 40:
        frame = await client.frame()
        if frame[0] == "MSG":
            delivered += 1
        elif "FlowControl" in frame[4]:
            client.publish(frame[3])
    lab.note("goes on after the answer", delivered)


@scenario()
async def max_ack_pending_holds_back_pushes(lab: Lab) -> None:
    await filled(lab, 4)
    client = await lab.raw()
    client.send(b"SUB to.me 1\r\n")
    await client.until_pong()
    await lab.consumer("S", "P", deliver_subject="to.me", max_ack_pending=2)
    frames = await client.frames(2)
    lab.note("first", frames)
    lab.note("then", await client.quiet())
    await (await lab.raw()).request(frames[0][3])
    lab.note("after an ack", await client.frames(1))


@scenario()
async def a_deliver_subject_may_move_when_nobody_listens(lab: Lab) -> None:
    await filled(lab, 1)
    client = await lab.raw()
    client.send(b"SUB to.one 1\r\nSUB to.two 2\r\n")
    await client.until_pong()
    await lab.consumer("S", "P", deliver_subject="to.one")
    lab.note("at the first place", await client.frames(1))
    config = {"durable_name": "P", "ack_policy": "explicit", "deliver_subject": "to.two"}
    await lab.api("CONSUMER.CREATE.S.P", {"stream_name": "S", "config": config})
    client.send(b"UNSUB 1\r\n")
    await client.until_pong()
    await lab.api("CONSUMER.CREATE.S.P", {"stream_name": "S", "config": config})
    lab.note("at the second place", await client.frames(1))


@scenario()
async def a_captured_message_is_seen_by_core_and_by_push_subscribers(lab: Lab) -> None:
    await filled(lab, 0)
    client = await lab.raw()
    client.send(b"SUB s.> 1\r\nSUB to.me 2\r\n")
    await client.until_pong()
    await lab.consumer("S", "P", deliver_subject="to.me", ack_policy="none")
    await lab.store("s.a", "x")
    frames = await client.frames(2)
    lab.note("both", sorted([frame[2], frame[1], frame[4]] for frame in frames))


@scenario()
async def nats_py_subscribes_with_a_durable_push_consumer(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s.*"])
    got: list[tuple[bytes, int]] = []

    async def take(message: Msg) -> None:
        got.append((message.data, message.metadata.sequence.stream))
        await message.ack()

    await jetstream.subscribe("s.*", durable="pusher", cb=take, manual_ack=True)
    for number in range(5):
        await jetstream.publish("s.a", str(number).encode())
    for _ in range(100):
        if len(got) == 5:
            break
        await asyncio.sleep(0.02)
    lab.note("received", got)
    await lab.settled("S", "pusher", num_ack_pending=0)
    await lab.consumer_state("S", "pusher")


@scenario()
async def nats_py_shares_a_push_queue(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s.*"])
    got: list[bytes] = []

    async def take(message: Msg) -> None:
        got.append(message.data)

    for _ in range(3):
        await jetstream.subscribe("s.*", queue="workers", cb=take)
    for number in range(30):
        await jetstream.publish("s.a", str(number).encode())
    for _ in range(100):
        if len(got) == 30:
            break
        await asyncio.sleep(0.02)
    lab.note("each once", sorted(int(data) for data in got) == list(range(30)))
    await lab.api("CONSUMER.NAMES.S")


@scenario()
async def nats_py_reads_in_order(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s.*"])
    for number in range(200):
        await jetstream.publish("s.a", str(number).encode())
    subscription = await jetstream.subscribe("s.a", ordered_consumer=True)
    got = [int((await subscription.next_msg(timeout=5)).data) for _ in range(200)]
    lab.note("all in order", got == list(range(200)))
    await jetstream.publish("s.a", b"late")
    lab.note("and what comes later", (await subscription.next_msg(timeout=5)).data)
    info = await subscription.consumer_info()
    lab.alias(info.name, "<ephemeral>")
    config = info.config
    lab.note(
        "its consumer",
        [
            config.ack_policy,
            config.max_deliver,
            config.flow_control,
            config.idle_heartbeat,
            config.mem_storage,
        ],
    )
