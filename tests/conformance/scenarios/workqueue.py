"""Workqueue retention: what is acknowledged is gone."""

from headrace.tools.oracle import Lab, RawClient, scenario


async def filled(lab: Lab, count: int = 4, **config: object) -> None:
    await lab.stream("W", "w.>", retention="workqueue", **config)
    for number in range(count):
        await lab.store(f"w.{'ab'[number % 2]}", f"m{number + 1}")


async def pulled(lab: Lab, request: str, consumer: str = "C") -> tuple[RawClient, list[list[str]]]:
    client = await lab.raw()
    client.send(b"SUB in 1\r\n")
    client.publish(f"$JS.API.CONSUMER.MSG.NEXT.W.{consumer}", request, reply="in")
    return client, await client.frames(int(request))


@scenario()
async def an_ack_removes_the_message(lab: Lab) -> None:
    await filled(lab)
    await lab.consumer("W", "C")
    client, frames = await pulled(lab, "3")
    await client.request(frames[1][3], "+ACK")
    await lab.state("W", deleted_details=True)
    await client.request(frames[0][3], "+TERM")
    await lab.state("W", deleted_details=True)
    await client.request(frames[2][3], "-NAK")
    await lab.state("W")
    await lab.consumer_state("W", "C")
    lab.note("again after its removal", await client.request(frames[1][3], "+ACK"))
    await lab.consumer_state("W", "C")


@scenario()
async def workqueue_consumers_may_not_overlap(lab: Lab) -> None:
    await filled(lab)
    for name, config in (
        ("N", {"ack_policy": "none"}),
        ("L", {"ack_policy": "all"}),
        ("D", {"ack_policy": "explicit", "deliver_policy": "new"}),
        ("P", {"ack_policy": "none", "deliver_subject": "to"}),
        ("A", {"ack_policy": "explicit", "filter_subject": "w.a"}),
        ("B", {"ack_policy": "explicit", "filter_subject": "w.*"}),
        ("C", {"ack_policy": "explicit"}),
        ("E", {"ack_policy": "explicit", "filter_subject": "w.b"}),
        ("F", {"ack_policy": "explicit", "filter_subject": "w.b"}),
    ):
        await lab.api(
            f"CONSUMER.CREATE.W.{name}", {"stream_name": "W", "config": {"durable_name": name, **config}}
        )
    await lab.stream("V", "v.>", retention="workqueue")
    for name in ("ONE", "TWO"):
        config = {"durable_name": name, "ack_policy": "explicit"}
        await lab.api(f"CONSUMER.CREATE.V.{name}", {"stream_name": "V", "config": config})


@scenario()
async def filtered_consumers_share_the_queue(lab: Lab) -> None:
    await filled(lab)
    await lab.consumer("W", "A", filter_subject="w.a")
    await lab.consumer("W", "B", filter_subject="w.b")
    for consumer in ("A", "B"):
        client, frames = await pulled(lab, "2", consumer)
        lab.note(consumer, frames)
        for frame in frames:
            await client.request(frame[3], "+ACK")
        await lab.state("W")
    await lab.publish("w.a", "next")


@scenario()
async def a_new_consumer_takes_over_what_is_left(lab: Lab) -> None:
    await filled(lab)
    await lab.consumer("W", "C")
    client, frames = await pulled(lab, "2")
    await client.request(frames[0][3], "+ACK")
    await lab.do("CONSUMER.DELETE.W.C")
    await lab.state("W")
    await lab.consumer("W", "C")
    _, frames = await pulled(lab, "3")
    lab.note("left", frames)


@scenario()
async def a_full_queue_refuses_until_work_is_done(lab: Lab) -> None:
    await filled(lab, 2, max_msgs=2, discard="new")
    await lab.publish("w.a", "too many")
    await lab.consumer("W", "C")
    client, frames = await pulled(lab, "1")
    await client.request(frames[0][3], "+ACK")
    await lab.publish("w.a", "fits")
