"""Reading and removing single messages, and purging."""

from headrace.tools.oracle import Lab, scenario


async def filled(lab: Lab, name: str = "S", subject: str = "s", **config: object) -> None:
    await lab.stream(name, f"{subject}.>", **config)
    for number, rest in enumerate(("a", "b", "a", "c.d", "b", "a")):
        await lab.store(f"{subject}.{rest}", f"m{number + 1}")


@scenario()
async def messages_are_got_in_every_way(lab: Lab) -> None:
    await filled(lab)
    await lab.store("s.h", "with headers", Color="red")
    await lab.store("s.e", "")
    requests: tuple[dict[str, object], ...] = (
        {"seq": 1},
        {"seq": 7},
        {"seq": 8},
        {"seq": 99},
        {"seq": 0},
        {"last_by_subj": "s.a"},
        {"last_by_subj": "s.*"},
        {"last_by_subj": "none"},
        {"next_by_subj": "s.b"},
        {"next_by_subj": "s.b", "seq": 3},
        {"next_by_subj": "s.b", "seq": 6},
        {"next_by_subj": "s.*.*", "seq": 1},
        {"seq": 1, "last_by_subj": "s.a"},
        {"last_by_subj": "s.a", "next_by_subj": "s.a"},
        {"seq": 7, "no_hdr": True},
        {"batch": 3, "seq": 1},
        {"start_time": "2020-01-01T00:00:00Z"},
        {"start_time": "2120-01-01T00:00:00Z"},
    )
    for request in requests:
        await lab.api("STREAM.MSG.GET.S", request)


@scenario()
async def deleted_messages_are_gone(lab: Lab) -> None:
    await filled(lab)
    for request in (
        {"seq": 1},
        {"seq": 1},
        {"seq": 3, "no_erase": True},
        {"seq": 6},
        {"seq": 99},
        {"seq": 0},
    ):
        await lab.api("STREAM.MSG.DELETE.S", request)
        await lab.state("S", deleted_details=True, subjects_filter=">")
    await lab.api("STREAM.MSG.GET.S", {"seq": 3})
    await lab.api("STREAM.MSG.GET.S", {"last_by_subj": "s.a"})
    await lab.publish("s.a", "next")


@scenario()
async def what_a_stream_in_memory_has_not_cannot_be_deleted(lab: Lab) -> None:
    await filled(lab, storage="memory")
    for sequence in (1, 1, 3, 3, 7, 99, 0):
        await lab.api("STREAM.MSG.DELETE.S", {"seq": sequence})


@scenario()
async def deletes_and_purges_may_be_denied(lab: Lab) -> None:
    await filled(lab, deny_delete=True, deny_purge=True)
    await lab.api("STREAM.MSG.DELETE.S", {"seq": 1})
    await lab.api("STREAM.PURGE.S")


@scenario()
async def every_form_of_purge(lab: Lab) -> None:
    forms: tuple[dict[str, object] | None, ...] = (
        None,
        {"seq": 4},
        {"seq": 1},
        {"seq": 20},
        {"keep": 2},
        {"keep": 20},
        {"filter": "s.a"},
        {"filter": "s.*"},
        {"filter": "none"},
        {"filter": "s.a", "seq": 3},
        {"filter": "s.a", "keep": 1},
        {"filter": "s.b", "keep": 5},
        {"seq": 2, "keep": 2},
    )
    for index, form in enumerate(forms):
        name, subject = f"S{index}", f"s{index}"
        if form and "filter" in form:
            form = {**form, "filter": str(form["filter"]).replace("s.", f"{subject}.")}
        await filled(lab, name, subject)
        await lab.api(f"STREAM.PURGE.{name}", form)
        await lab.state(name, deleted_details=True, subjects_filter=">")
        await lab.publish(f"{subject}.after", "x")


@scenario()
async def direct_get_gives_the_message_itself(lab: Lab) -> None:
    await filled(lab, allow_direct=True)
    await lab.store("s.h", "with headers", Color="red")
    client = await lab.raw()
    requests = (
        '{"seq":1}',
        '{"seq":7}',
        '{"seq":7,"no_hdr":true}',
        '{"seq":99}',
        '{"last_by_subj":"s.a"}',
        '{"last_by_subj":"none"}',
        '{"next_by_subj":"s.b","seq":3}',
        '{"start_time":"2020-01-01T00:00:00Z"}',
        "",
        "{}",
        "{bad",
        '{"seq":1,"last_by_subj":"s.a"}',
        '{"last_by_subj":"s.a","next_by_subj":"s.a"}',
    )
    for request in requests:
        lab.note(f"DIRECT.GET.S {request}", await client.request("$JS.API.DIRECT.GET.S", request))
    for subject in ("s.a", "s.c.d", "s.none"):
        lab.note(f"DIRECT.GET.S.{subject}", await client.request(f"$JS.API.DIRECT.GET.S.{subject}"))


@scenario()
async def direct_get_of_a_batch_ends_with_a_status(lab: Lab) -> None:
    await filled(lab, allow_direct=True)
    client = await lab.raw()
    client.send(b"SUB in 1\r\n")
    for request, count in (
        ('{"batch":2,"seq":1}', 3),
        ('{"batch":10,"next_by_subj":"s.a","seq":2}', 3),
        ('{"multi_last":["s.a","s.b"]}', 3),
        ('{"multi_last":["none"]}', 1),
    ):
        client.publish("$JS.API.DIRECT.GET.S", request, reply="in")
        lab.note(request, await client.frames(count))


@scenario()
async def direct_get_must_be_allowed(lab: Lab) -> None:
    await filled(lab)
    client = await lab.raw()
    lab.note("not allowed", await client.request("$JS.API.DIRECT.GET.S", '{"seq":1}'))
    lab.note("no stream", await client.request("$JS.API.DIRECT.GET.T", '{"seq":1}'))


@scenario()
async def a_message_keeps_its_headers_and_bytes(lab: Lab) -> None:
    await lab.stream("S", "s")
    client = await lab.raw()
    client.publish("s", "\x00\xff\r\nMSG", headers="Nats-Msg-Id: 1\r\nX:  two  blanks \r\nX: again")
    await client.until_pong()
    lab.note("acknowledged", await lab.publish("s", "y"))
    await lab.api("STREAM.MSG.GET.S", {"seq": 1})
