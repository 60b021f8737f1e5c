"""Streams as configured: defaults, refusals, updates, lists."""

from headrace.tools.oracle import Lab, scenario


@scenario()
async def a_stream_created_with_its_name_alone_shows_all_defaults(lab: Lab) -> None:
    await lab.api("STREAM.CREATE.S", {"name": "S"})
    await lab.api("STREAM.INFO.S")
    await lab.api("STREAM.CREATE.S", {"name": "S"})
    await lab.api("STREAM.DELETE.S")
    await lab.api("STREAM.INFO.S")
    await lab.api("STREAM.DELETE.S")


@scenario()
async def a_fully_configured_stream_is_echoed(lab: Lab) -> None:
    config = {
        "name": "FULL",
        "description": "everything <set> & shown",
        "subjects": ["f.>", "g"],
        "retention": "workqueue",
        "max_consumers": 5,
        "max_msgs": 100,
        "max_bytes": 10_000,
        "max_age": 3_600_000_000_000,
        "max_msgs_per_subject": 3,
        "max_msg_size": 1000,
        "discard": "new",
        "discard_new_per_subject": True,
        "storage": "memory",
        "num_replicas": 1,
        "duplicate_window": 1_000_000_000,
        "deny_delete": True,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "consumer_limits": {"max_ack_pending": 10, "inactive_threshold": 60_000_000_000},
        "metadata": {"owner": "me"},
        "compression": "none",
    }
    await lab.api("STREAM.CREATE.FULL", config)
    await lab.api("STREAM.LIST")
    await lab.api("STREAM.NAMES")


@scenario()
async def numbers_out_of_range_become_unlimited(lab: Lab) -> None:
    config = {
        "max_msgs": 0,
        "max_bytes": -5,
        "max_consumers": -3,
        "max_msgs_per_subject": 0,
        "max_msg_size": 0,
    }
    await lab.api("STREAM.CREATE.N", {"name": "N", **config, "num_replicas": 0, "max_age": 500_000_000})


@scenario()
async def bad_stream_configurations_are_refused(lab: Lab) -> None:
    bad: list[dict[str, object]] = [
        {"name": "OTHER"},
        {"name": "B", "subjects": ["a..b"]},
        {"name": "B", "subjects": ["a", "a"]},
        {"name": "B", "subjects": ["a.>", "a.b"]},
        {"name": "B", "subjects": [">"]},
        {"name": "B", "subjects": ["$JS.API.>"]},
        {"name": "B", "subjects": ["$SYS.x"]},
        {"name": "B", "subjects": ["b"], "retention": "never"},
        {"name": "B", "subjects": ["b"], "storage": "tape"},
        {"name": "B", "subjects": ["b"], "discard": "some"},
        {"name": "B", "subjects": ["b"], "max_age": -1},
        {"name": "B", "subjects": ["b"], "max_age": 1000},
        {"name": "B", "subjects": ["b"], "duplicate_window": -1},
        {"name": "B", "subjects": ["b"], "duplicate_window": 1000},
        {"name": "B", "subjects": ["b"], "duplicate_window": 2_000_000_000, "max_age": 1_000_000_000},
        {"name": "B", "subjects": ["b"], "num_replicas": 3},
        {"name": "B", "subjects": ["b"], "num_replicas": 7},
        {"name": "B", "subjects": ["b"], "num_replicas": -1},
        {"name": "B", "subjects": ["b"], "sealed": True},
        {"name": "B", "subjects": ["b"], "discard_new_per_subject": True},
        {"name": "B", "subjects": ["b"], "discard": "new", "discard_new_per_subject": True},
        {"name": "B", "subjects": ["b"], "deny_purge": True, "allow_rollup_hdrs": True},
        {"name": "B", "subjects": ["b"], "mirror_direct": True},
        {"name": "B", "subjects": ["b"], "description": "d" * 4097},
        {"name": "B", "subjects": ["b"], "bogus": 1},
        {"name": "B", "subjects": ["b"], "max_msgs": "many"},
        {"name": "B", "subjects": "b"},
        {},
    ]
    for config in bad:
        await lab.api("STREAM.CREATE.B", config)
    await lab.api("STREAM.CREATE.B", "{not json")
    await lab.api("STREAM.CREATE.B", "")
    await lab.api("STREAM.CREATE.a*b", {"name": "a*b"})
    await lab.api("STREAM.CREATE.a/b", {"name": "a/b"})
    long = "n" * 256
    await lab.api(f"STREAM.CREATE.{long}", {"name": long, "subjects": ["long"]})
    await lab.api("STREAM.NAMES")


@scenario()
async def streams_may_not_overlap(lab: Lab) -> None:
    await lab.stream("ONE", "a.*", "b")
    for subjects in (["a.x"], ["a.>"], ["*.q"], ["c", "b"], ["*"]):
        await lab.api("STREAM.CREATE.TWO", {"name": "TWO", "subjects": subjects})
    await lab.stream("THREE", "c")
    await lab.api("STREAM.UPDATE.THREE", {"name": "THREE", "subjects": ["a.y"]})


@scenario()
async def the_same_stream_again_is_fine_and_another_is_not(lab: Lab) -> None:
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_msgs": 5})
    await lab.store("s", "kept")
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_msgs": 5})
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_msgs": 6})


@scenario()
async def updates_take_a_whole_configuration(lab: Lab) -> None:
    await lab.stream("S", "s.>", max_msgs=10, description="before", metadata={"a": "1"})
    for number in range(5):
        await lab.store(f"s.{number}", "x")
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>", "t"], "max_msgs": 3})
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["t"], "allow_direct": True})
    await lab.api("STREAM.UPDATE.MISSING", {"name": "MISSING"})


@scenario()
async def updates_that_cannot_be_are_refused(lab: Lab) -> None:
    await lab.stream("S", "s", deny_delete=True, deny_purge=True)
    changes: list[dict[str, object]] = [
        {"name": "T"},
        {"storage": "memory"},
        {"retention": "workqueue"},
        {"num_replicas": 3},
        {"deny_delete": False},
        {"deny_purge": False},
        {"max_age": 5},
        {"subjects": []},
    ]
    base = {"name": "S", "subjects": ["s"], "deny_delete": True, "deny_purge": True}
    for change in changes:
        await lab.api("STREAM.UPDATE.S", {**base, **change})


@scenario()
async def a_sealed_stream_takes_nothing_and_gives_nothing_up(lab: Lab) -> None:
    await lab.stream("S", "s")
    await lab.store("s", "x")
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "sealed": True})
    await lab.publish("s", "y")
    await lab.api("STREAM.MSG.DELETE.S", {"seq": 1})
    await lab.api("STREAM.PURGE.S")
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "sealed": False})


@scenario()
async def lists_are_sorted_filtered_and_paged(lab: Lab) -> None:
    await lab.api("STREAM.NAMES")
    await lab.api("STREAM.LIST")
    for name in ("C", "A", "B"):
        await lab.stream(name, f"{name.lower()}.>", f"x.{name}")
    await lab.api("STREAM.NAMES")
    for request in ({"subject": "a.*"}, {"subject": "x.*"}, {"subject": "q"}, {"offset": 1}, {"offset": 9}):
        await lab.api("STREAM.NAMES", request)
    await lab.api("STREAM.LIST", {"subject": "b.1"})
    await lab.api("STREAM.NAMES", {"offset": -1})
    await lab.api("STREAM.NAMES", "x")
    await lab.api("STREAM.NAMES", {"bogus": True})


@scenario()
async def info_counts_subjects_and_names_the_deleted(lab: Lab) -> None:
    await lab.stream("S", "s.>")
    for subject in ("s.a", "s.b", "s.a", "s.c.d", "s.a"):
        await lab.store(subject, "x")
    for sequence in (2, 4):
        await lab.do("STREAM.MSG.DELETE.S", {"seq": sequence})
    for request in (
        {"deleted_details": True},
        {"subjects_filter": ">"},
        {"subjects_filter": "s.*"},
        {"subjects_filter": "none"},
        {"subjects_filter": ">", "offset": 1},
    ):
        await lab.api("STREAM.INFO.S", request)


@scenario(shares_server=False)
async def account_info_counts_what_there_is(lab: Lab) -> None:
    await lab.api("INFO")
    await lab.stream("F", "f", max_bytes=10_000)
    await lab.stream("M", "m", storage="memory")
    await lab.store("f", "12345")
    await lab.store("m", "12345")
    await lab.consumer("F", "C")
    await lab.ask("STREAM.INFO.NONE")
    await lab.api("INFO")


@scenario()
async def requests_of_the_wrong_shape_are_refused(lab: Lab) -> None:
    await lab.stream("S", "s")
    await lab.api("STREAM.DELETE.S", {"x": 1})
    await lab.api("STREAM.DELETE.S", "text")
    await lab.api("STREAM.MSG.GET.S")
    await lab.api("STREAM.MSG.GET.S", {})
    await lab.api("STREAM.MSG.DELETE.S")
    await lab.api("STREAM.PURGE.S", {"seq": 1, "keep": 1})
    await lab.api("STREAM.INFO.S", "text")
    await lab.api("STREAM.INFO.S", {"bogus": 1})
    await lab.api("STREAM.LEADER.STEPDOWN.S")
    await lab.refused("an unknown endpoint", lab.ask("NOPE", timeout_s=0.2))
    client = await lab.connect()
    level = await client.request("$JS.API.STREAM.INFO.S", b"", headers={"Nats-Required-Api-Level": "99"})
    lab.note("a level too high", level.data)
    await client.publish("$JS.API.STREAM.DELETE.S")
    await client.flush()
    for _ in range(100):
        if "error" in await lab.ask("STREAM.INFO.S"):
            break
    await lab.api("STREAM.INFO.S")


@scenario()
async def compression_and_persistence_are_settings(lab: Lab) -> None:
    for number, config in enumerate(
        (
            {"compression": "s2"},
            {"compression": "S2"},
            {"compression": "lz4"},
            {"persist_mode": "async"},
            {"persist_mode": "async", "storage": "memory"},
            {"persist_mode": "async", "allow_atomic": True},
            {"persist_mode": "never"},
        )
    ):
        await lab.api(
            f"STREAM.CREATE.S{number}", {"name": f"S{number}", "subjects": [f"s{number}"], **config}
        )
    await lab.api("STREAM.UPDATE.S0", {"name": "S0", "subjects": ["s0"]})
    await lab.api("STREAM.UPDATE.S3", {"name": "S3", "subjects": ["s3"]})
    await lab.publish("s0", "x" * 1000)
    await lab.state("S0")
