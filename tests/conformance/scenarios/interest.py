"""Interest retention: a message stays until everybody who wants it has acknowledged it."""

from headrace.tools.oracle import Lab, scenario


@scenario()
async def interest_keeps_a_message_until_all_have_acked(lab: Lab) -> None:
    await lab.stream("I", "i.>", retention="interest")
    await lab.publish("i.a", "nobody wants it")
    await lab.state("I")
    await lab.consumer("I", "A")
    await lab.consumer("I", "B", filter_subject="i.b")
    await lab.publish("i.a", "for one")
    await lab.publish("i.b", "for two")
    client = await lab.raw()
    client.send(b"SUB in 1\r\n")
    for consumer, count in (("A", 2), ("B", 1)):
        client.publish(f"$JS.API.CONSUMER.MSG.NEXT.I.{consumer}", str(count), reply="in")
        for frame in await client.frames(count):
            await client.request(frame[3], "+ACK")
        await lab.state("I")


@scenario()
async def retention_may_change_between_limits_and_interest(lab: Lab) -> None:
    await lab.stream("S", "s")
    await lab.store("s", "x")
    for retention in ("interest", "workqueue", "limits"):
        await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "retention": retention})


@scenario()
async def interest_goes_with_consumers_and_filters(lab: Lab) -> None:
    await lab.stream("I", "i.>", retention="interest")
    await lab.publish("i.a", "nobody", Nats_Msg_Id="x")
    await lab.publish("i.a", "nobody", Nats_Msg_Id="x")
    await lab.state("I")
    await lab.consumer("I", "A", filter_subject="i.>")
    await lab.consumer("I", "B", filter_subject="i.b")
    for subject in ("i.a", "i.b", "i.c"):
        await lab.publish(subject)
    await lab.do("CONSUMER.DELETE.I.A")
    await lab.state("I", deleted_details=True)
    await lab.do("CONSUMER.DELETE.I.B")
    await lab.state("I")
