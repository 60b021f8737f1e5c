"""Streams are made, changed, listed and deleted over the API."""

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.core.options import AccountJetStreamOptions
from headrace.storage.memory_log import MemoryLog
from unit.jetstream.world import ACCOUNT, World

LONG = "x" * 256


def test_a_stream_named_only_shows_every_default(world: World) -> None:
    answer = world.ask("STREAM.CREATE.A", {"name": "A", "subjects": ["a.>"]})
    assert answer["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert answer["did_create"] is True
    assert answer["config"] == {
        "name": "A",
        "subjects": ["a.>"],
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "duplicate_window": 120_000_000_000,
        "compression": "none",
        "allow_direct": False,
        "mirror_direct": False,
        "sealed": False,
        "deny_delete": False,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "consumer_limits": {},
        "allow_msg_ttl": False,
        "metadata": {"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1"},
    }
    assert answer["state"] == {
        "messages": 0,
        "bytes": 0,
        "first_seq": 0,
        "first_ts": "0001-01-01T00:00:00Z",
        "last_seq": 0,
        "last_ts": "0001-01-01T00:00:00Z",
        "consumer_count": 0,
    }


def test_without_subjects_a_stream_takes_its_own_name(world: World) -> None:
    assert world.ask("STREAM.CREATE.A", {"name": "A"})["config"]["subjects"] == ["A"]


def test_the_duplicate_window_is_never_longer_than_the_age_limit(world: World) -> None:
    assert world.create(max_age=1_000_000_000)["config"]["duplicate_window"] == 1_000_000_000


def test_creating_the_same_stream_again_succeeds(world: World) -> None:
    first = world.create(metadata={"who": "me"})
    again = world.create(metadata={"who": "me", "_nats.req.level": "9"})
    assert again["created"] == first["created"]


def test_creating_another_stream_of_the_same_name_is_refused(world: World) -> None:
    world.create()
    assert world.refusal("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 1}) == (
        10058,
        "stream name already in use with a different configuration",
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"name": ""}, (10056, "stream name in subject does not match request")),
        ({"name": "T"}, (10056, "stream name in subject does not match request")),
        ({"description": "x" * 4097}, (10052, "stream description is too long, maximum allowed is 4096")),
        ({"sealed": True}, (10052, "stream configuration for create can not be sealed")),
        ({"mirror_direct": True}, (10052, "stream has no mirror but does have mirror direct")),
        ({"num_replicas": 6}, (10052, "maximum replicas is 5")),
        ({"num_replicas": -1}, (10133, "replicas count cannot be negative")),
        ({"num_replicas": 3}, (10074, "replicas > 1 not supported in non-clustered mode")),
        ({"max_age": -1}, (10052, "max age can not be negative")),
        ({"max_age": 1}, (10052, "max age needs to be >= 100ms")),
        ({"duplicate_window": -1}, (10052, "duplicates window can not be negative")),
        ({"duplicate_window": 1}, (10052, "duplicates window needs to be >= 100ms")),
        (
            {"max_age": 10**9, "duplicate_window": 2 * 10**9},
            (10052, "duplicates window can not be larger then max age"),
        ),
        (
            {"deny_purge": True, "allow_rollup_hdrs": True},
            (10052, "roll-ups require the purge permission"),
        ),
        (
            {"discard_new_per_subject": True},
            (10052, "discard new per subject requires discard new policy to be set"),
        ),
        (
            {"discard_new_per_subject": True, "discard": "new"},
            (10052, "discard new per subject requires max msgs per subject > 0"),
        ),
        ({"subjects": ["a..b"]}, (10052, "invalid subject")),
        ({"subjects": ["a", "a"]}, (10052, 'subject "a" overlaps with "a"')),
        ({"subjects": ["a.b", "a.>"]}, (10052, 'subject "a.b" overlaps with "a.>"')),
        ({"subjects": [">"]}, (10052, "capturing all subjects requires no-ack to be true")),
        (
            {"subjects": ["$JS.API.>"]},
            (10052, "subjects that overlap with jetstream api require no-ack to be true"),
        ),
        (
            {"subjects": ["$SYS.X"]},
            (10052, "subjects that overlap with system api require no-ack to be true"),
        ),
        ({"mirror": {"name": "O"}, "subjects": ["a"]}, (10034, "stream mirrors can not contain subjects")),
        (
            {"mirror": {"name": "O"}, "sources": [{"name": "O"}]},
            (10031, "stream mirrors can not also contain other sources"),
        ),
        (
            {"mirror": {"name": "O"}, "first_seq": 1},
            (10143, "stream mirrors can not have first sequence configured"),
        ),
        ({"mirror": {"name": "a.b"}}, (10142, "mirrored stream name is invalid")),
        (
            {"persist_mode": "async", "storage": "memory"},
            (10052, "async persist mode is only supported on file storage"),
        ),
        (
            {"persist_mode": "async", "allow_atomic": True},
            (10052, "async persist mode is not supported with atomic batch publish"),
        ),
        ({"subject_delete_marker_ttl": 1}, (10052, "subject delete marker TTL must be at least 1 second")),
        ({"metadata": {"k": "v" * 131072}}, (10052, "stream metadata exceeds maximum size of 131072 bytes")),
        ({"pedantic": True, "max_msgs": -5}, (10157, "pedantic mode: max_msgs must be set to -1")),
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused_in_the_documented_words(
    world: World, config: dict[str, object], expected: tuple[int, str]
) -> None:
    assert world.refusal("STREAM.CREATE.S", {"name": "S", **config}) == expected
    assert world.ask("STREAM.NAMES")["streams"] is None


def test_a_name_with_a_path_separator_is_refused(world: World) -> None:
    assert world.refusal("STREAM.CREATE.a/b", {"name": "a/b"})[0] == 10128


def test_a_name_of_more_than_255_bytes_is_refused(world: World) -> None:
    assert world.refusal(f"STREAM.CREATE.{LONG}", {"name": LONG}) == (
        10052,
        "stream name is too long, maximum allowed is 255",
    )


def test_subjects_of_two_streams_may_not_overlap(world: World) -> None:
    world.create("A", subjects=["x.*"])
    expected = (10065, "subjects overlap with an existing stream")
    assert world.refusal("STREAM.CREATE.B", {"name": "B", "subjects": ["x.y"]}) == expected
    world.create("B", subjects=["y"])
    assert world.refusal("STREAM.UPDATE.B", {"name": "B", "subjects": ["x.>"]}) == expected


@pytest.mark.parametrize(("first", "second"), [("*.b", "a.b"), ("a.b", "*.b"), ("a.b", ">"), (">", "a.b")])
def test_overlaps_are_found_where_the_first_token_is_a_wildcard(
    world: World, first: str, second: str
) -> None:
    world.create("A", subjects=[first], no_ack=True)
    assert world.refusal("STREAM.CREATE.B", {"name": "B", "subjects": [second], "no_ack": True})[0] == 10065


def test_no_ack_streams_may_take_everything_and_answer_nothing(world: World) -> None:
    world.create(subjects=[">"], no_ack=True)
    reply = world.send("any.thing", b"x")
    assert world.bus.answers(reply) == []
    assert ("any.thing", b"x") in [(subject, payload) for _, subject, payload in world.messages()]


def test_an_update_replaces_the_whole_configuration(world: World) -> None:
    world.create(max_msgs=5, description="old")
    answer = world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>", "t"], "max_bytes": 100})
    assert answer["type"].endswith("stream_update_response")
    assert answer["config"]["max_msgs"] == -1
    assert answer["config"]["max_bytes"] == 100
    assert "description" not in answer["config"]
    assert world.publish("t")["seq"] == 1


def test_an_update_that_drops_a_subject_keeps_its_messages_and_takes_no_more(world: World) -> None:
    world.create(subjects=["a", "b"])
    world.publish("b")
    world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["a"]})
    assert world.state()["messages"] == 1
    assert not world.bus.is_answered(ACCOUNT, b"b")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, {"storage": "memory"}, "stream configuration update can not change storage type"),
        (
            {},
            {"retention": "workqueue"},
            "stream configuration update can not change retention policy to/from workqueue",
        ),
        ({"deny_delete": True}, {}, "stream configuration update can not cancel deny message deletes"),
        ({"deny_purge": True}, {}, "stream configuration update can not cancel deny purge"),
        ({"allow_msg_ttl": True}, {}, "message TTL status can not be disabled"),
    ],
)
def test_some_settings_can_not_be_changed(
    world: World, before: dict[str, object], after: dict[str, object], text: str
) -> None:
    world.create(**before)
    body = {"name": "S", "subjects": ["s.>"], **after}
    assert world.refusal("STREAM.UPDATE.S", body) == (10052, text)


def test_sealing_forces_what_it_means_and_can_not_be_undone(world: World) -> None:
    world.create(max_age=10**12, allow_rollup_hdrs=True)
    world.publish("s.1")
    sealed = world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "sealed": True})["config"]
    assert sealed["deny_delete"] is True
    assert sealed["deny_purge"] is True
    assert sealed["discard"] == "new"
    assert sealed["max_age"] == 0
    assert world.publish_error("s.2") == (10109, "invalid operation on sealed stream")
    assert world.refusal("STREAM.PURGE.S")[0] == 10109
    assert world.refusal("STREAM.MSG.DELETE.S", {"seq": 1})[0] == 10109
    body = {"name": "S", "subjects": ["s.>"], "deny_delete": True, "deny_purge": True}
    assert world.refusal("STREAM.UPDATE.S", body) == (
        10052,
        "stream configuration update can not unseal a sealed stream",
    )


def test_a_lower_limit_is_enforced_at_once(world: World) -> None:
    world.create()
    for number in range(6):
        world.publish(f"s.{number % 2}")
    world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs_per_subject": 2})
    assert [sequence for sequence, _, _ in world.messages()] == [3, 4, 5, 6]
    world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 1})
    assert [sequence for sequence, _, _ in world.messages()] == [6]


def test_an_update_is_judged_before_its_stream_is_looked_for(world: World) -> None:
    assert world.refusal("STREAM.UPDATE.X", {"name": "Y", "subjects": ["a..b"]}) == (10052, "invalid subject")
    assert world.refusal("STREAM.UPDATE.X", {"name": "Y"})[0] == 10056


def test_what_does_not_exist_is_not_found(world: World) -> None:
    for request in ("STREAM.INFO.X", "STREAM.DELETE.X", "STREAM.PURGE.X"):
        assert world.refusal(request) == (10059, "stream not found")
    assert world.refusal("STREAM.UPDATE.X", {"name": "X"})[0] == 10059
    assert world.refusal("STREAM.MSG.GET.X", {"seq": 1})[0] == 10059


def test_a_deleted_stream_takes_nothing_and_leaves_nothing(world: World) -> None:
    world.create(allow_direct=True)
    world.publish("s.1", b"x")
    assert world.ask("STREAM.DELETE.S")["success"] is True
    assert world.store.logs() == []
    assert not world.bus.is_answered(ACCOUNT, b"s.1")
    assert not world.bus.is_answered(ACCOUNT, b"$JS.API.DIRECT.GET.S")
    assert world.ask("INFO")["storage"] == 0


def test_streams_come_back_as_they_were(world: World) -> None:
    created = world.create(max_msgs=3, metadata={"a": "b"})
    world.publish("s.1", b"one")
    world.start()
    info = world.ask("STREAM.INFO.S")
    assert info["config"] == created["config"]
    assert info["created"] == created["created"]
    assert info["cluster"] == {"leader": "here"}
    assert world.publish("s.2")["seq"] == 2
    assert not [sent for sent in world.bus.published if b"CREATED" in sent.subject]


def test_a_stream_that_needs_a_newer_server_is_offline(world: World) -> None:
    world.create()
    log = world.store.logs()[0]
    config = dict(log.config)
    config["config"] = config["config"] | {"metadata": {"_nats.req.level": "6"}}
    log.save_config(config)
    world.start()
    reason = "unsupported - required API level: 6, current API level: 5"
    assert world.refusal("STREAM.INFO.S") == (10194, f"stream is offline: {reason}")
    assert world.ask("STREAM.LIST")["offline"] == {"S": reason}
    assert not world.bus.is_answered(ACCOUNT, b"s.1")


def test_a_stream_of_an_account_without_jetstream_stays_closed(world: World) -> None:
    world.create()
    world.accounts = {ACCOUNT: None}
    world.start()
    assert world.refusal("STREAM.INFO.S") == (10039, "JetStream not enabled for account")
    assert not world.bus.is_answered(ACCOUNT, b"s.1")


def test_names_and_lists_are_paged_and_sorted(world: World) -> None:
    for number in range(300):
        world.create(f"N{number:03d}")
    first = world.ask("STREAM.LIST")
    assert (first["total"], first["offset"], first["limit"], len(first["streams"])) == (300, 0, 256, 256)
    second = world.ask("STREAM.LIST", {"offset": 256})
    assert [stream["config"]["name"] for stream in second["streams"]][::43] == ["N256", "N299"]
    past = world.ask("STREAM.NAMES", {"offset": 1000})
    assert (past["total"], past["offset"], past["limit"], past["streams"]) == (300, 300, 1024, None)
    assert world.ask("STREAM.NAMES", {"offset": -4})["streams"][0] == "N000"


def test_a_list_shows_only_stored_metadata(world: World) -> None:
    world.create(metadata={"k": "v"})
    (stream,) = world.ask("STREAM.LIST")["streams"]
    assert stream["config"]["metadata"] == {"k": "v", "_nats.req.level": "0"}
    assert "cluster" not in stream


def test_streams_are_found_by_subject(world: World) -> None:
    world.create("A", subjects=["a.*"])
    world.create("B", subjects=["b.>"])
    assert world.ask("STREAM.NAMES", {"subject": "a.x"})["streams"] == ["A"]
    assert world.ask("STREAM.NAMES", {"subject": "*.x"})["streams"] == ["A", "B"]
    assert world.ask("STREAM.NAMES", {"subject": "c"})["streams"] is None
    assert world.ask("STREAM.LIST", {"subject": "c"})["streams"] == []


def test_subjects_are_counted_on_request(world: World) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a"):
        world.publish(subject)
    found = world.ask("STREAM.INFO.S", {"subjects_filter": "s.>"})
    assert found["state"]["subjects"] == {"s.a": 2, "s.b": 1}
    assert (found["total"], found["offset"], found["limit"]) == (2, 0, 100_000)
    none = world.ask("STREAM.INFO.S", {"subjects_filter": "t"})
    assert "subjects" not in none["state"]
    assert (none["total"], none["limit"]) == (0, 0)


def test_account_limits_bound_streams_and_reservations() -> None:
    world = World(limits=AccountJetStreamOptions(max_streams=2, max_storage=100, max_memory=50))
    world.create("A", max_bytes=60)
    world.create("A", max_bytes=60)
    refused = world.refusal("STREAM.CREATE.B", {"name": "B", "max_bytes": 41})
    assert refused == (10047, "insufficient storage resources available")
    refused = world.refusal("STREAM.CREATE.B", {"name": "B", "max_bytes": 51, "storage": "memory"})
    assert refused == (10028, "insufficient memory resources available")
    world.create("B", max_bytes=40)
    assert world.refusal("STREAM.CREATE.C", {"name": "C"}) == (10027, "maximum number of streams reached")
    assert world.refusal("STREAM.UPDATE.B", {"name": "B", "max_bytes": 41})[0] == 10047
    info = world.ask("INFO")
    assert info["reserved_storage"] == 100
    assert info["limits"]["max_streams"] == 2


def test_an_account_may_require_or_cap_the_size_of_streams() -> None:
    world = World(limits=AccountJetStreamOptions(max_bytes_required=True, storage_max_stream_bytes=10))
    assert world.refusal("STREAM.CREATE.A", {"name": "A"})[0] == 10113
    assert world.refusal("STREAM.CREATE.A", {"name": "A", "max_bytes": 11})[0] == 10122
    world.create("A", max_bytes=10)


def test_coming_changing_and_going_is_advised(world: World) -> None:
    world.create()
    world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 1})
    world.ask("STREAM.DELETE.S")
    advised = [
        sent.subject.decode().removeprefix("$JS.EVENT.ADVISORY.STREAM.")
        for sent in world.bus.published
        if sent.subject.startswith(b"$JS.EVENT.ADVISORY.STREAM.")
    ]
    assert advised == ["CREATED.S", "UPDATED.S", "DELETED.S"]


def test_nothing_is_answered_before_it_is_durable() -> None:
    world = World(held=True)
    reply = world.post("STREAM.CREATE.S", {"name": "S"})
    assert world.bus.published == []
    world.release()
    assert len(world.bus.answers(reply)) == 1


def test_work_that_fails_is_logged_and_keeps_nobody_else_waiting(world: World) -> None:
    class Broken:
        def pump(self, budget: int) -> bool:
            raise RuntimeError("oh")

    class Fine:
        pumped = 0

        def pump(self, budget: int) -> bool:
            self.pumped += 1
            return self.pumped < 2

    fine = Fine()
    world.jetstream.context.ready(Broken())
    world.jetstream.context.ready(fine)
    world.bus.turn()
    world.bus.turn()
    assert fine.pumped == 2
    assert any("stopped in its work" in line for line in world.log.lines)


def test_the_log_is_told_how_long_message_ids_are_wanted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ids of dropped segments would be forgotten after the default window, whatever the stream asks for."""
    windows_ns: list[int] = []
    monkeypatch.setattr(MemoryLog, "keep_message_ids", lambda _log, window_ns: windows_ns.append(window_ns))
    world.create("A", subjects=["a.>"], duplicate_window=600 * NS_PER_S)
    world.ask("STREAM.UPDATE.A", {"name": "A", "subjects": ["a.>"], "duplicate_window": 900 * NS_PER_S})
    assert windows_ns == [600 * NS_PER_S, 900 * NS_PER_S]


def test_compression_is_taken_and_shown_and_may_change(world: World) -> None:
    assert world.create(compression="s2")["config"]["compression"] == "s2"
    answer = world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "compression": "none"})
    assert answer["config"]["compression"] == "none"


def test_an_asynchronous_stream_is_taken_and_stays_one(world: World) -> None:
    assert world.create(persist_mode="async")["config"]["persist_mode"] == "async"
    assert world.publish("s.1")["seq"] == 1
    refusal = world.refusal("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"]})
    assert refusal == (10052, "stream configuration update can not change persist mode")
