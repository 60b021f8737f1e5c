"""Consumers as configured: defaults, refusals, updates, lists, lifetimes."""

import asyncio

from headrace.tools.oracle import Lab, scenario


async def filled(lab: Lab, count: int = 5, **config: object) -> None:
    await lab.stream("S", "s.>", **config)
    for number in range(count):
        await lab.store(f"s.{'abc'[number % 3]}", f"m{number + 1}")


@scenario()
async def a_pull_consumer_shows_its_defaults(lab: Lab) -> None:
    await filled(lab)
    await lab.api(
        "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}
    )
    await lab.api("CONSUMER.INFO.S.C")
    await lab.api("CONSUMER.CREATE.S.N", {"stream_name": "S", "config": {"name": "N"}})
    await lab.api(
        "CONSUMER.DURABLE.CREATE.S.D",
        {"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "all", "description": "old form"}},
    )
    await lab.api(
        "CONSUMER.CREATE.S.F.s.a",
        {
            "stream_name": "S",
            "config": {"durable_name": "F", "ack_policy": "explicit", "filter_subject": "s.a"},
        },
    )
    await lab.api("CONSUMER.NAMES.S")
    await lab.api("CONSUMER.LIST.S")
    await lab.api("CONSUMER.DELETE.S.C")
    await lab.api("CONSUMER.DELETE.S.C")
    await lab.api("CONSUMER.INFO.S.C")


@scenario()
async def a_push_consumer_shows_its_defaults(lab: Lab) -> None:
    await filled(lab)
    await lab.api(
        "CONSUMER.CREATE.S.P",
        {
            "stream_name": "S",
            "config": {"durable_name": "P", "deliver_subject": "to.me", "ack_policy": "explicit"},
        },
    )
    await lab.api(
        "CONSUMER.CREATE.S.Q",
        {
            "stream_name": "S",
            "config": {
                "durable_name": "Q",
                "deliver_subject": "to.us",
                "deliver_group": "g",
                "ack_policy": "none",
                "flow_control": True,
                "idle_heartbeat": 1_000_000_000,
                "headers_only": True,
                "replay_policy": "original",
                "rate_limit_bps": 1024,
            },
        },
    )
    await lab.api("CONSUMER.LIST.S")


@scenario()
async def an_ephemeral_gets_a_name(lab: Lab) -> None:
    await filled(lab)
    answer = await lab.ask("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"ack_policy": "explicit"}})
    lab.note("length of the name", len(answer["name"]))
    lab.alias(answer["name"], "<ephemeral>")
    lab.note("created", answer)
    await lab.api("CONSUMER.NAMES.S")
    await lab.api(
        "CONSUMER.CREATE.S", {"stream_name": "S", "config": {"durable_name": "X", "ack_policy": "explicit"}}
    )


@scenario()
async def bad_consumer_configurations_are_refused(lab: Lab) -> None:
    await filled(lab)
    second = 1_000_000_000
    bad: tuple[dict[str, object], ...] = (
        {"ack_policy": "sometimes"},
        {"deliver_policy": "first"},
        {"replay_policy": "slow"},
        {"ack_wait": -1},
        {"backoff": [-1]},
        {"backoff": [second, second, second], "max_deliver": 2},
        {"opt_start_seq": 5},
        {"deliver_policy": "by_start_sequence"},
        {"deliver_policy": "by_start_time"},
        {"deliver_policy": "last_per_subject"},
        {"deliver_policy": "new", "opt_start_seq": 5},
        {"deliver_policy": "by_start_time", "opt_start_seq": 5, "opt_start_time": "2030-01-01T00:00:00Z"},
        {"filter_subject": "s.a", "filter_subjects": ["s.b"]},
        {"filter_subjects": ["s.a", ""]},
        {"filter_subjects": ["s.a", "s.*"]},
        {"filter_subject": "s..a"},
        {"rate_limit_bps": 5},
        {"flow_control": True},
        {"idle_heartbeat": second},
        {"max_expires": 5},
        {"sample_freq": "much"},
        {"num_replicas": 3},
        {"num_replicas": -1},
        {"description": "d" * 4097},
        {"deliver_subject": "to.*", "ack_policy": "explicit"},
        {"deliver_subject": "s.a", "ack_policy": "explicit"},
        {"deliver_subject": "to..me", "ack_policy": "explicit"},
        {"deliver_subject": "to", "max_waiting": 5, "ack_policy": "explicit"},
        {"deliver_subject": "to", "max_ack_pending": 5, "ack_policy": "none"},
        {"deliver_subject": "to", "idle_heartbeat": 5, "ack_policy": "explicit"},
        {"deliver_subject": "to", "flow_control": True, "ack_policy": "explicit"},
        {"durable_name": "other"},
        {"bogus": 1},
    )
    for config in bad:
        await lab.api(
            "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"ack_policy": "explicit", **config}}
        )
    await lab.api("CONSUMER.CREATE.S.C", {"stream_name": "T", "config": {}})
    await lab.api("CONSUMER.CREATE.T.C", {"stream_name": "T", "config": {}})
    await lab.api("CONSUMER.CREATE.S.C", "{")
    await lab.api("CONSUMER.CREATE.S.C.s.a", {"stream_name": "S", "config": {"filter_subject": "s.b"}})
    await lab.api("CONSUMER.CREATE.S.C.s.a", {"stream_name": "S", "config": {"filter_subjects": ["s.b"]}})
    await lab.api("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {}})
    await lab.api("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "D"}})
    await lab.api("CONSUMER.CREATE.S.a/b", {"stream_name": "S", "config": {}})
    await lab.api("CONSUMER.INFO.S.C", '{"x":1}')
    await lab.api("CONSUMER.INFO.T.C")
    await lab.api("CONSUMER.NAMES.T")
    await lab.api("CONSUMER.LIST.S")


@scenario()
async def action_says_whether_a_consumer_may_be_there(lab: Lab) -> None:
    await filled(lab)
    config: dict[str, object] = {"durable_name": "C", "ack_policy": "explicit"}
    for action, change in (
        ("update", {}),
        ("create", {}),
        ("create", {}),
        ("create", {"max_deliver": 5}),
        ("update", {"max_deliver": 5}),
        ("", {"max_deliver": 6}),
        ("bogus", {}),
    ):
        body = {"stream_name": "S", "config": {**config, **change}, "action": action}
        await lab.api("CONSUMER.CREATE.S.C", body)


@scenario()
async def only_some_of_a_consumer_may_change(lab: Lab) -> None:
    await filled(lab)
    await lab.consumer("S", "C")
    base: dict[str, object] = {"durable_name": "C", "ack_policy": "explicit"}
    for change in (
        {"description": "new", "ack_wait": 5_000_000_000, "max_deliver": 9, "max_ack_pending": 7},
        {"filter_subject": "s.a"},
        {"filter_subjects": ["s.a", "s.b"]},
        {"metadata": {"k": "v"}, "headers_only": True},
        {"ack_policy": "all"},
        {"deliver_policy": "new"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
        {"replay_policy": "original"},
        {"max_waiting": 9},
        {"deliver_subject": "to.me"},
        {"mem_storage": True},
    ):
        await lab.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {**base, **change}})


@scenario()
async def consumer_lists_are_paged(lab: Lab) -> None:
    await filled(lab)
    await lab.api("CONSUMER.NAMES.S")
    await lab.api("CONSUMER.LIST.S")
    for name in ("C", "A", "B"):
        await lab.consumer("S", name)
    for request in (None, {"offset": 1}, {"offset": 7}):
        await lab.api("CONSUMER.NAMES.S", request)
    await lab.state("S")


@scenario()
async def consumers_are_limited_in_number(lab: Lab) -> None:
    await filled(lab, max_consumers=1)
    await lab.consumer("S", "A")
    await lab.api("CONSUMER.CREATE.S.B", {"stream_name": "S", "config": {"durable_name": "B"}})
    await lab.stream("L", "l", consumer_limits={"max_ack_pending": 5, "inactive_threshold": 60_000_000_000})
    await lab.api(
        "CONSUMER.CREATE.L.A", {"stream_name": "L", "config": {"name": "A", "ack_policy": "explicit"}}
    )
    for change in ({"max_ack_pending": 6}, {"inactive_threshold": 61_000_000_000}):
        config = {"name": "B", "ack_policy": "explicit", **change}
        await lab.api("CONSUMER.CREATE.L.B", {"stream_name": "L", "config": config})


@scenario()
async def an_idle_consumer_is_deleted_at_its_threshold(lab: Lab) -> None:
    await filled(lab)
    config = {"name": "E", "ack_policy": "explicit", "inactive_threshold": 200_000_000}
    await lab.api("CONSUMER.CREATE.S.E", {"stream_name": "S", "config": config})
    for _ in range(100):
        if not (await lab.ask("CONSUMER.NAMES.S"))["consumers"]:
            break
        await asyncio.sleep(0.05)
    await lab.api("CONSUMER.INFO.S.E")


@scenario()
async def a_consumer_starts_where_it_is_told(lab: Lab) -> None:
    await filled(lab, 7)
    await lab.do("STREAM.MSG.DELETE.S", {"seq": 1})
    policies: tuple[dict[str, object], ...] = (
        {"deliver_policy": "all"},
        {"deliver_policy": "last"},
        {"deliver_policy": "new"},
        {"deliver_policy": "last_per_subject", "filter_subject": "s.*"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 1},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 20},
        {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        {"deliver_policy": "last", "filter_subject": "s.b"},
        {"deliver_policy": "all", "filter_subjects": ["s.a", "s.c"]},
        {"deliver_policy": "all", "filter_subject": "other"},
    )
    client = await lab.raw()
    client.send(b"SUB in 1\r\n")
    for index, policy in enumerate(policies):
        name = f"C{index}"
        answer = await lab.ask(
            f"CONSUMER.CREATE.S.{name}",
            {"stream_name": "S", "config": {"durable_name": name, "ack_policy": "explicit", **policy}},
        )
        lab.note(f"{policy}", {key: answer.get(key) for key in ("delivered", "ack_floor", "num_pending")})
        client.publish(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", '{"batch":20,"no_wait":true}', reply="in")
        frames = []
        while not frames or frames[-1][0] == "MSG":
            frames.append(await client.frame())
        lab.note("delivered", frames)


@scenario()
async def creating_what_is_there_depends_on_its_kind(lab: Lab) -> None:
    await filled(lab)
    for name, config in (
        ("E", {"ack_policy": "explicit"}),
        ("F", {"name": "F", "ack_policy": "explicit"}),
        ("D", {"durable_name": "D", "ack_policy": "explicit"}),
    ):
        for action in ("create", "create", "", "update"):
            body: dict[str, object] = {"stream_name": "S", "config": config}
            if action:
                body["action"] = action
            answer = await lab.ask(f"CONSUMER.CREATE.S.{name}", body)
            lab.note(f"{name} {action}", answer.get("error"))
    for action in ("create", "create"):
        created: dict[str, object] = {"stream_name": "S", "config": {"name": "N"}, "action": action}
        lab.note(f"N {action}", (await lab.ask("CONSUMER.CREATE.S", created)).get("error"))


@scenario()
async def a_long_name_is_refused_by_the_form_of_the_request(lab: Lab) -> None:
    await filled(lab)
    name = "x" * 256
    for subject, config in (
        ("CONSUMER.CREATE.S", {"name": name}),
        (f"CONSUMER.CREATE.S.{name}", {}),
        (f"CONSUMER.CREATE.S.{name}", {"name": name}),
        (f"CONSUMER.CREATE.S.{name}", {"durable_name": name}),
        (f"CONSUMER.CREATE.S.{name}.s.a", {"filter_subject": "s.a"}),
        (f"CONSUMER.CREATE.S.{name}.s.a", {"name": name, "filter_subject": "s.a"}),
        (f"CONSUMER.DURABLE.CREATE.S.{name}", {"durable_name": name}),
    ):
        lab.note(subject, (await lab.ask(subject, {"stream_name": "S", "config": config})).get("error"))
