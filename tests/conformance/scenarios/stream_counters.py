"""Counter streams."""

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
