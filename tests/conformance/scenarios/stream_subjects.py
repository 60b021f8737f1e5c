"""Streams that change subjects, and those that publish again what they stored."""

from headrace.tools.oracle import Lab, scenario


async def kept(lab: Lab, name: str, last: int) -> None:
    for sequence in range(1, last + 1):
        await lab.api(f"STREAM.MSG.GET.{name}", {"seq": sequence})


@scenario()
async def a_stream_stores_under_transformed_subjects(lab: Lab) -> None:
    for number, (source, destination) in enumerate(
        (
            ("a..b", "x"),
            ("s.*", "x.{{nothing(1)}}"),
            ("s.*", "x.{{wildcard(2)}}"),
            ("s.*", "x.{{wildcard()}}"),
            ("s.*", "x.>"),
            ("s.*", "x..y"),
            ("", "x"),
        )
    ):
        wanted = {"name": "B", "subjects": [f"b{number}.*"]}
        await lab.api("STREAM.CREATE.B", wanted | {"subject_transform": {"src": source, "dest": destination}})
    await lab.api(
        "STREAM.CREATE.S",
        {
            "name": "S",
            "subjects": ["s.>"],
            "subject_transform": {"src": "s.*.*", "dest": "t.{{wildcard(2)}}.$1"},
            "allow_direct": True,
        },
    )
    await lab.publish("s.a.b", "changed", Nats_Expected_Last_Subject_Sequence="0")
    await lab.publish("s.a", "as it is")
    await lab.publish("s.a.b", "refused", Nats_Expected_Last_Subject_Sequence="0")
    await kept(lab, "S", 2)


@scenario()
async def a_stream_publishes_again_what_it_stored(lab: Lab) -> None:
    for source, destination in (
        ("s.>", "s.again.>"),
        ("s.>", "again.{{wildcard(1)}}"),
        ("s.>", "*.>"),
        ("", "s.>"),
        ("s..", "x"),
    ):
        republish = {"src": source, "dest": destination}
        for more in ({}, {"pedantic": True}):
            await lab.api(
                "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "republish": republish, **more}
            )
    await lab.api(
        "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "republish": {"src": "s.*", "dest": "again.$1"}}
    )
    client = await lab.raw()
    client.send(b"SUB again.> 1\r\n")
    await client.until_pong()
    await lab.store("s.a", "one")
    await lab.store("s.a", "two", Color="red")
    await lab.store("s.a.b", "is not matched")
    await lab.api(
        "STREAM.UPDATE.S",
        {"name": "S", "subjects": ["s.>"], "republish": {"dest": "again.>", "headers_only": True}},
    )
    await lab.store("s.b", "three")
    await lab.store("s.b", "four", Color="red")
    lab.note("published again", [str(frame) for frame in await client.frames(4)])


@scenario()
async def everything_may_be_published_again_as_transformed(lab: Lab) -> None:
    await lab.api(
        "STREAM.CREATE.S",
        {
            "name": "S",
            "subjects": ["s.>"],
            "subject_transform": {"src": "s.>", "dest": "t.>"},
            "republish": {"src": ">", "dest": ">"},
        },
    )
    client = await lab.raw()
    client.send(b"SUB t.> 1\r\n")
    await client.until_pong()
    await lab.store("s.a", "one")
    lab.note("published again", [str(frame) for frame in await client.frames(1)])
