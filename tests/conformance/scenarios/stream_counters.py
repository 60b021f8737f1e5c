"""Counter streams."""

import asyncio
import base64

from headrace.tools.oracle import Lab, scenario


@scenario()
async def increments_are_added_up(lab: Lab) -> None:
    for config in (
        {"discard": "new"},
        {"allow_msg_ttl": True},
        {"retention": "workqueue"},
        {"allow_msg_schedules": True},
    ):
        await lab.api(
            "STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_msg_counter": True, **config}
        )
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_msg_counter": True})
    for value in ("1", "+2", "-10", "123456789012345678901234567890", "0"):
        await lab.publish("s.a", Nats_Incr=value)
    await lab.publish("s.b", Nats_Incr="5", Nats_Msg_Id="x")
    await lab.publish("s.b", Nats_Incr="5", Nats_Msg_Id="x")
    await lab.api("STREAM.MSG.GET.S", {"last_by_subj": "s.a"})
    for payload, headers in (
        ("", {}),
        ("x", {"Nats_Incr": "1"}),
        ("", {"Nats_Incr": "x"}),
        ("", {"Nats_Incr": "1.5"}),
        ("", {"Nats_Incr": "1", "Nats_Rollup": "sub"}),
        ("", {"Nats_Incr": "1", "Nats_Expected_Last_Sequence": "6"}),
    ):
        await lab.publish("s.a", payload, **headers)
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"]})
    await lab.stream("P", "p")
    await lab.publish("p", Nats_Incr="1")
    await lab.publish("p", Nats_Incr="x")


@scenario()
async def sourced_counters_add_what_their_origins_added(lab: Lab) -> None:
    await lab.stream("A", "a.*", allow_msg_counter=True)
    await lab.stream("B", "b.*", allow_msg_counter=True)
    for subject, value in (("a.x", "5"), ("a.x", "-2"), ("b.x", "10"), ("a.y", "1")):
        await lab.store(subject, Nats_Incr=value)
    transforms = {"subject_transforms": [{"src": "a.*", "dest": "t.$1"}]}
    sources: list[dict[str, object]] = [{"name": "A", **transforms}]
    await lab.stream("T", "t.*", allow_msg_counter=True, sources=sources)
    await _until(lab, "T", 3)
    await lab.store("t.x", Nats_Incr="100")
    await lab.store("a.x", Nats_Incr="7")
    await _until(lab, "T", 5)
    sources.append({"name": "B", "subject_transforms": [{"src": "b.*", "dest": "t.$1"}]})
    await lab.do(
        "STREAM.UPDATE.T",
        {"name": "T", "subjects": ["t.*"], "allow_msg_counter": True, "sources": sources},
    )
    await _until(lab, "T", 6)
    for sequence in range(1, 7):
        message = (await lab.ask("STREAM.MSG.GET.T", {"seq": sequence}))["message"]
        lines = base64.b64decode(message["hdrs"]).decode().split("\r\n")
        # The last word of a source header tells streams of one name apart, and is never the same.
        shown = [line.rpartition(" ")[0] if line.startswith("Nats-Stream-Source") else line for line in lines]
        lab.note(
            f"message {sequence}", [message["subject"], base64.b64decode(message["data"]).decode(), shown]
        )


async def _until(lab: Lab, stream: str, count: int) -> None:
    for _ in range(400):
        if (await lab.ask(f"STREAM.INFO.{stream}"))["state"]["messages"] >= count:
            return
        await asyncio.sleep(0.05)
