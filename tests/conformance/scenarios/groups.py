"""Priority groups, resets, and acks by flow control."""

import re

from headrace.tools.oracle import Lab, RawClient, scenario

MINUTE = 60_000_000_000


async def filled(lab: Lab, count: int) -> None:
    await lab.stream("S", "s.>")
    for number in range(count):
        await lab.store("s.a", f"m{number + 1}")


async def listener(lab: Lab, *subjects: str) -> RawClient:
    client = await lab.raw()
    for sid, subject in enumerate(subjects, 1):
        client.send(f"SUB {subject} {sid}\r\n".encode())
    await client.until_pong()
    return client


def pull(client: RawClient, request: str, reply: str) -> None:
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", request, reply=reply)


@scenario()
async def a_group_request_has_to_fit_the_policy(lab: Lab) -> None:
    await filled(lab, 3)
    client = await listener(lab, "in")
    for policy in ("overflow", "pinned_client", "prioritized"):
        await lab.consumer("S", "C", priority_policy=policy, priority_groups=["A"])
        for request in (
            "{}",
            '{"group":"B"}',
            '{"group":"A","id":"x","min_pending":1}',
            '{"group":"A","priority":10}',
        ):
            pull(client, request, "in")
            lab.note(f"{policy} {request}", (await client.frames(1))[0][4])
        await lab.api("CONSUMER.DELETE.S.C")


@scenario()
async def overflow_waits_for_its_minimum(lab: Lab) -> None:
    await filled(lab, 4)
    await lab.consumer("S", "C", priority_policy="overflow", priority_groups=["A"])
    client = await listener(lab, "helper", "busy")
    pull(client, '{"batch":3,"group":"A","min_pending":6}', "helper")
    lab.note("too little to do", await client.quiet())
    await lab.store("s.a", "m5")
    await lab.store("s.a", "m6")
    await lab.store("s.a", "m7")
    lab.note("enough to do", [frame[1] for frame in await client.frames(2)])
    lab.note("and then not any more", await client.quiet())
    pull(client, '{"batch":2,"group":"A"}', "busy")
    lab.note("no minimum", [frame[1] for frame in await client.frames(2)])
    pull(client, '{"batch":1,"group":"A","min_ack_pending":4}', "helper")
    lab.note("many are not acked", [frame[1] for frame in await client.frames(1)])


@scenario()
async def one_client_is_pinned(lab: Lab) -> None:
    await filled(lab, 2)
    created = {"durable_name": "C", "ack_policy": "explicit", "priority_policy": "pinned_client"}
    await lab.api(
        "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {**created, "priority_groups": ["A"]}}
    )
    await lab.consumer_state("S", "C")
    client = await listener(lab, "one", "two")
    watcher = await listener(
        lab, "$JS.EVENT.ADVISORY.CONSUMER.PINNED.>", "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.>"
    )
    pull(client, '{"batch":1,"group":"A"}', "one")
    (first,) = await client.frames(1)
    lab.note("the first is pinned", first)
    lab.note("and that is said", await watcher.frames(1))
    found = re.search(r"Nats-Pin-Id: (\w+)", first[4])
    assert found is not None, "a pinned client is told its id"
    await lab.consumer_state("S", "C")
    pull(client, '{"batch":1,"group":"A","id":"wrong"}', "two")
    lab.note("another id", await client.frames(1))
    pull(client, f'{{"batch":1,"group":"A","expires":{MINUTE}}}', "two")
    lab.note("no id", await client.quiet())
    pull(client, f'{{"batch":2,"group":"A","expires":{MINUTE},"id":"{found[1]}"}}', "one")
    lab.note("the right id", await client.frames(1))
    for body in ({}, {"group": "a b"}, {"group": "B"}, {"group": "A"}):
        await lab.api("CONSUMER.UNPIN.S.C", body)
    lab.note("unpinned, said", await watcher.frames(1))
    await lab.store("s.a", "m3")
    lab.note("somebody else's turn", await client.frames(1))
    await lab.store("s.a", "m4")
    lab.note("the old id is stale", await client.frames(1))


@scenario()
async def a_lower_priority_number_goes_first(lab: Lab) -> None:
    await filled(lab, 0)
    await lab.consumer("S", "C", priority_policy="prioritized", priority_groups=["A"])
    client = await listener(lab, "nine", "one", "also", "plain")
    pull(client, "1", "plain")
    for priority, reply in ((9, "nine"), (1, "one"), (1, "also")):
        pull(client, f'{{"batch":2,"group":"A","priority":{priority}}}', reply)
    await client.until_pong()
    for number in range(7):
        await lab.store("s.a", str(number))
    lab.note("who got it", [frame[1] for frame in await client.frames(7)])


@scenario()
async def a_consumer_is_reset(lab: Lab) -> None:
    await filled(lab, 5)
    await lab.consumer("S", "C")
    client = await listener(lab, "in")
    pull(client, "4", "in")
    frames = await client.frames(4)
    await client.request(frames[0][3], "+ACK")
    await client.request(frames[2][3], "+ACK")
    for body in (None, {"seq": 4}, {"seq": 100}, {"seq": 1, "x": 2}):
        await lab.api("CONSUMER.RESET.S.C", body)
        await lab.consumer_state("S", "C")
    pull(client, "2", "in")
    lab.note("again from the first", await client.frames(2))
    await lab.consumer("S", "N", deliver_policy="new")
    await lab.api("CONSUMER.RESET.S.N", {"seq": 2})
    await lab.api("CONSUMER.RESET.S.N")
    await lab.consumer("S", "F", deliver_policy="by_start_sequence", opt_start_seq=3)
    for sequence in (2, 3):
        await lab.api("CONSUMER.RESET.S.F", {"seq": sequence})


@scenario()
async def answers_to_flow_control_are_acks(lab: Lab) -> None:
    await filled(lab, 5)
    client = await listener(lab, "to.me")
    config = {"durable_name": "C", "ack_policy": "flow_control", "deliver_subject": "to.me"}
    body = {"stream_name": "S", "config": {**config, "max_ack_pending": 3}}
    for wrong in ({"ack_wait": 1}, {"max_deliver": 2}, {"max_ack_pending": -1}, {"deliver_subject": ""}):
        await lab.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {**config, **wrong}})
    await lab.api("CONSUMER.CREATE.S.C", {**body, "pedantic": True})
    await lab.api("CONSUMER.CREATE.S.C", body)
    frames = await client.frames(4)
    lab.note("as many as may be, and a request", frames)
    headers = "NATS/1.0\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n\r\n"
    client.publish(frames[3][3], headers=headers)
    lab.note("the rest, and a request", await client.frames(3))
    await lab.consumer_state("S", "C")
