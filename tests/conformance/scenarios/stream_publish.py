"""Publishing to a stream: acks, duplicates, expectations, rollups, limits."""

import asyncio
import json

from headrace.tools.oracle import Lab, scenario


@scenario()
async def a_publish_is_acknowledged_with_its_sequence(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    for number in range(3):
        await lab.publish(f"s.{number}", "x" * number)
    await lab.state("S")


@scenario()
async def a_publish_without_a_stream_has_no_responders(lab: Lab) -> None:
    client = await lab.connect()
    await lab.refused("publish", client.jetstream().publish("nowhere", b"x"))


@scenario()
async def a_core_publish_is_stored_and_delivered_too(lab: Lab) -> None:
    await lab.stream("S", "s")
    client = await lab.raw()
    client.send(b"SUB s 1\r\n")
    client.publish("s", "hello", headers="A: b")
    lab.note("delivered", await client.until_pong())
    for _ in range(100):
        if (await lab.ask("STREAM.INFO.S"))["state"]["messages"] == 1:
            break
        await asyncio.sleep(0.01)
    await lab.api("STREAM.MSG.GET.S", {"seq": 1})


@scenario()
async def no_ack_streams_stay_silent(lab: Lab) -> None:
    await lab.stream("S", "s", no_ack=True)
    client = await lab.raw()
    client.send(b"SUB reply 1\r\n")
    client.publish("s", "x", reply="reply")
    lab.note("answers", await client.quiet())
    await lab.state("S")


@scenario()
async def bytes_are_accounted_by_the_documented_formulas(lab: Lab) -> None:
    for name, storage in (("F", "file"), ("M", "memory")):
        await lab.stream(name, f"{name}.>", storage=storage)
        await lab.store(f"{name}.abc", "12345")
        await lab.state(name)
        await lab.store(f"{name}.abc", "12345", Color="red")
        await lab.state(name)
        await lab.store(f"{name}.d", "")
        await lab.state(name)


@scenario()
async def a_repeated_message_id_is_a_duplicate(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    await lab.publish("s.1", "a", Nats_Msg_Id="one")
    await lab.publish("s.1", "b", Nats_Msg_Id="two")
    await lab.publish("s.2", "c", Nats_Msg_Id="one")
    await lab.do("STREAM.MSG.DELETE.S", {"seq": 1})
    await lab.publish("s.1", "d", Nats_Msg_Id="one")
    await lab.do("STREAM.PURGE.S")
    await lab.publish("s.1", "e", Nats_Msg_Id="two")
    await lab.state("S")


@scenario()
async def an_id_may_come_again_after_the_window(lab: Lab) -> None:
    await lab.stream("S", "s", duplicate_window=300_000_000)
    await lab.publish("s", "a", Nats_Msg_Id="one")
    await lab.publish("s", "a", Nats_Msg_Id="one")
    await asyncio.sleep(0.9)
    await lab.publish("s", "a", Nats_Msg_Id="one")


@scenario()
async def expectations_are_checked(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    await lab.publish("s.a", "1", Nats_Expected_Last_Sequence="0", Nats_Msg_Id="m1")
    await lab.publish("s.b", "2", Nats_Expected_Last_Sequence="1")
    await lab.publish("s.b", "3", Nats_Expected_Last_Sequence="1")
    await lab.publish("s.b", "3", Nats_Expected_Last_Sequence="x")
    await lab.publish("s.b", "3", Nats_Expected_Stream="T")
    await lab.publish("s.b", "3", Nats_Expected_Stream="S")
    await lab.publish("s.a", "4", Nats_Expected_Last_Subject_Sequence="1")
    await lab.publish("s.a", "5", Nats_Expected_Last_Subject_Sequence="1")
    await lab.publish("s.new", "5", Nats_Expected_Last_Subject_Sequence="0")
    await lab.publish("s.new", "5", Nats_Expected_Last_Subject_Sequence="0")
    await lab.publish("s.none", "5", Nats_Expected_Last_Subject_Sequence="7")
    await lab.publish(
        "s.q", "6", Nats_Expected_Last_Subject_Sequence="4", Nats_Expected_Last_Subject_Sequence_Subject="s.a"
    )
    await lab.publish("s.q", "7", Nats_Expected_Last_Subject_Sequence_Subject="s.a")
    await lab.publish("s.a", "8", Nats_Expected_Last_Msg_Id="m1")
    await lab.publish("s.a", "9", Nats_Msg_Id="m2")
    await lab.publish("s.a", "10", Nats_Expected_Last_Msg_Id="m2")
    await lab.publish("s.a", "11", Nats_Msg_Id="m1", Nats_Expected_Last_Sequence="0")
    await lab.state("S")


@scenario()
async def rollups_replace_what_came_before(lab: Lab) -> None:
    await lab.stream("S", "s.>", allow_rollup_hdrs=True)
    for subject in ("s.a", "s.b", "s.a", "s.c"):
        await lab.store(subject, "x")
    await lab.publish("s.a", "roll", Nats_Rollup="sub")
    await lab.state("S", deleted_details=True, subjects_filter=">")
    await lab.publish("s.z", "roll", Nats_Rollup="sub")
    await lab.publish("s.b", "roll", Nats_Rollup="ALL")
    await lab.state("S")
    await lab.publish("s.b", "roll", Nats_Rollup="most")
    await lab.stream("N", "n")
    await lab.publish("n", "roll", Nats_Rollup="sub")


@scenario()
async def messages_too_large_are_refused(lab: Lab) -> None:
    await lab.stream("S", "s", max_msg_size=20)
    await lab.publish("s", "x" * 20)
    await lab.publish("s", "x" * 21)
    await lab.publish("s", "x" * 10, Key="value")


@scenario()
async def the_oldest_go_when_the_stream_is_full(lab: Lab) -> None:
    await lab.stream("COUNT", "c.>", max_msgs=3)
    for number in range(5):
        await lab.publish(f"c.{number}", "x")
    await lab.state("COUNT")
    await lab.stream("SIZE", "z", max_bytes=100)
    for _ in range(4):
        await lab.publish("z", "x" * 10)
    await lab.state("SIZE")
    await lab.publish("z", "x" * 100)
    await lab.state("SIZE")
    await lab.stream("SUBJECT", "p.>", max_msgs_per_subject=2)
    for subject in ("p.a", "p.b", "p.a", "p.a", "p.b", "p.b"):
        await lab.publish(subject, "x")
    await lab.state("SUBJECT", deleted_details=True)


@scenario()
async def a_full_stream_that_discards_new_refuses(lab: Lab) -> None:
    await lab.stream("COUNT", "c.>", max_msgs=2, discard="new")
    for number in range(3):
        await lab.publish(f"c.{number}", "x")
    await lab.stream("SIZE", "z", max_bytes=60, discard="new")
    await lab.publish("z", "x" * 10)
    await lab.publish("z", "x" * 10)
    await lab.state("SIZE")
    await lab.stream("SUBJECT", "p.>", max_msgs_per_subject=1, discard="new")
    for subject in ("p.a", "p.a", "p.b"):
        await lab.publish(subject, "x")
    await lab.state("SUBJECT")
    await lab.stream("EACH", "e.>", max_msgs_per_subject=1, discard="new", discard_new_per_subject=True)
    for subject in ("e.a", "e.a", "e.b"):
        await lab.publish(subject, "x")
    await lab.state("EACH")


@scenario()
async def a_full_subject_of_a_full_stream_is_replaced(lab: Lab) -> None:
    await lab.stream("S", "s.>", max_msgs=2, max_msgs_per_subject=1, discard="new")
    for subject in ("s.a", "s.b", "s.a", "s.c", "s.b"):
        await lab.publish(subject, "x")
    await lab.state("S")


@scenario()
async def messages_leave_at_their_age(lab: Lab) -> None:
    await lab.stream("S", "s", max_age=400_000_000)
    await lab.publish("s", "x")
    await lab.state("S")
    for _ in range(100):
        if (await lab.ask("STREAM.INFO.S"))["state"]["messages"] == 0:
            break
        await asyncio.sleep(0.05)
    await lab.state("S")
    await lab.publish("s", "y")


@scenario()
async def lowered_limits_bite_at_once(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    for number in range(9):
        await lab.store(f"s.{number % 3}", str(number))
    await lab.do("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs_per_subject": 2})
    await lab.state("S", deleted_details=True)
    await lab.do("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 2})
    await lab.state("S", deleted_details=True)


@scenario()
async def many_outstanding_publishes_are_acknowledged_in_order(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    client = await lab.raw()
    client.send(b"SUB acks.* 1\r\n")
    for number in range(500):
        client.publish(f"s.{number % 10}", str(number), reply=f"acks.{number}")
    frames = await client.frames(500)
    lab.note("replies in order", [frame[1] for frame in frames] == [f"acks.{n}" for n in range(500)])
    lab.note("sequences", [json.loads(frame[4])["seq"] for frame in frames] == list(range(1, 501)))
    lab.note("first and last", [frames[0], frames[-1]])


@scenario()
async def a_first_sequence_is_kept_to(lab: Lab) -> None:
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "first_seq": 100})
    await lab.publish("s", "x")
    await lab.state("S")


@scenario()
async def nats_py_publishes_with_its_jetstream_context(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    await jetstream.add_stream(name="S", subjects=["s.*"])
    ack = await jetstream.publish("s.a", b"x", stream="S", headers={"Nats-Msg-Id": "1"})
    lab.note("ack", [ack.stream, ack.seq, ack.duplicate])
    ack = await jetstream.publish("s.a", b"x", headers={"Nats-Msg-Id": "1"})
    lab.note("again", [ack.stream, ack.seq, ack.duplicate])
    await lab.refused("wrong stream", jetstream.publish("s.a", b"x", stream="T"))
    info = await jetstream.stream_info("S")
    lab.note("info", [info.config.subjects, info.state.messages, info.state.last_seq])
    await lab.refused("missing", jetstream.stream_info("T"))


@scenario()
async def a_rollup_on_a_pattern_removes_what_it_matches(lab: Lab) -> None:
    await lab.stream("S", "s.>", allow_rollup_hdrs=True)
    for subject in ("s.a", "s.b", "s.a.b", "s.*", "s.c"):
        await lab.store(subject, "old")
    await lab.store("s.*", "new", Nats_Rollup="sub")
    await lab.state("S", deleted_details=True)
    await lab.store("s.d", "again")
    await lab.store("s.>", "all", Nats_Rollup="sub")
    await lab.state("S", deleted_details=True)
