"""The consumer part of the API: forms of creating, rules, updates, lists; codes and texts to the letter."""
# ruff: noqa: E501  (tables of the reference's texts, one case a line)

from typing import Any

import pytest

from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from unit.jetstream_consumers.consumer_world import ConsumerWorld, S


def create_error(world: ConsumerWorld, suffix: str = "CREATE.S", **config: Any) -> tuple[int, str]:
    return world.refusal(f"CONSUMER.{suffix}", {"stream_name": "S", "config": config})


def created(world: ConsumerWorld, suffix: str = "CREATE.S.C", **config: Any) -> dict[str, Any]:
    answer = world.ask(f"CONSUMER.{suffix}", {"stream_name": "S", "config": config})
    assert "error" not in answer, answer
    return answer


def test_a_durable_consumer_shows_what_was_filled_in(world: ConsumerWorld) -> None:
    world.create()
    info = created(world, "DURABLE.CREATE.S.C", durable_name="C", ack_policy="explicit")
    assert info["type"] == "io.nats.jetstream.api.v1.consumer_create_response"
    assert info["config"] == {
        "durable_name": "C",
        "name": "C",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": 30 * S,
        "max_deliver": -1,
        "replay_policy": "instant",
        "max_waiting": 512,
        "max_ack_pending": 1000,
        "num_replicas": 0,
        "metadata": {"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1"},
    }
    assert info["delivered"] == info["ack_floor"] == {"consumer_seq": 0, "stream_seq": 0}


def test_without_acks_there_is_no_ack_wait(world: ConsumerWorld) -> None:
    world.create()
    config = created(world)["config"]
    assert "ack_wait" not in config
    assert "max_ack_pending" not in config
    assert config["inactive_threshold"] == 5 * S


def test_an_unnamed_consumer_gets_a_name_that_its_configuration_does_not_show(world: ConsumerWorld) -> None:
    world.create()
    info = created(world, "CREATE.S")
    assert len(info["name"]) == 8
    assert "name" not in info["config"]
    assert world.info(info["name"])["name"] == info["name"]


def test_the_name_in_the_subject_wins_over_the_one_in_the_configuration(world: ConsumerWorld) -> None:
    world.create()
    info = created(world, name="other")
    assert (info["name"], info["config"]["name"]) == ("C", "C")


@pytest.mark.parametrize(
    ("suffix", "config", "error"),
    [
        ("CREATE.S", {"durable_name": "x"}, (10020, "consumer expected to be ephemeral but a durable name was set in request")),
        ("CREATE.S.C", {"durable_name": "x"}, (10017, "consumer name in subject does not match durable name in request")),
        ("DURABLE.CREATE.S", {"durable_name": "x"}, (10016, "consumer expected to be durable but no durable name set in subject")),
        ("DURABLE.CREATE.S.C", {}, (10018, "consumer expected to be durable but a durable name was not set")),
        ("DURABLE.CREATE.S.C", {"durable_name": "x"}, (10017, "consumer name in subject does not match durable name in request")),
        ("CREATE.S.C.s.a", {}, (10131, "Consumer create request did not match filtered subject from create subject")),
        ("CREATE.S.C.s.a", {"filter_subjects": ["s.a"]}, (10137, "consumer with multiple subject filters cannot use subject based API")),
        ("CREATE.X", {}, (10056, "stream name in subject does not match request")),
        ("CREATE.S.a/b", {}, (10127, "Consumer name can not contain path separators")),
        ("CREATE.S", {"name": "a/b"}, (10127, "Consumer name can not contain path separators")),
        ("CREATE.S", {"name": "x.x"}, (10052, "consumer name can not contain '.', '*', '>', '\\', '/'")),
        ("CREATE.S", {"name": "x" * 256}, (10012, "error creating store for consumer")),
        ("CREATE.S." + "x" * 256, {}, (10012, "error creating store for consumer")),
        ("CREATE.S." + "x" * 256, {"durable_name": "x" * 256}, (10102, "consumer name is too long, maximum allowed is 255")),
        ("CREATE.S", {"num_replicas": 3}, (10074, "replicas > 1 not supported in non-clustered mode")),
        ("CREATE.S", {"num_replicas": -1}, (10133, "replicas count cannot be negative")),
        ("CREATE.S", {"ack_policy": "foo"}, (10025, 'invalid JSON: can not unmarshal "\\"foo\\""')),
        ("CREATE.S", {"bogus": 1}, (10025, 'invalid JSON: json: unknown field "bogus"')),
        ("CREATE.S", {"ack_wait": -1}, (10183, "consumer ack wait needs to be positive")),
        ("CREATE.S", {"backoff": [1, -1]}, (10184, "consumer backoff needs to be positive")),
        ("CREATE.S", {"backoff": [1, 2], "max_deliver": 1}, (10116, "max deliver is required to be > length of backoff values")),
        ("CREATE.S", {"description": "x" * 4097}, (10107, "consumer description is too long, maximum allowed is 4096")),
        ("CREATE.S", {"deliver_subject": "x.*"}, (10079, "consumer deliver subject has wildcards")),
        ("CREATE.S", {"deliver_subject": "x..y"}, (10112, "invalid push consumer deliver subject")),
        ("CREATE.S", {"deliver_subject": "s.b"}, (10081, "consumer deliver subject forms a cycle")),
        ("CREATE.S", {"deliver_subject": "x", "max_waiting": 4}, (10080, "consumer in push mode can not set max waiting")),
        ("CREATE.S", {"deliver_subject": "x", "max_ack_pending": 4}, (10082, "consumer requires ack policy for max ack pending")),
        ("CREATE.S", {"deliver_subject": "x", "idle_heartbeat": 5}, (10083, "consumer idle heartbeat needs to be >= 100ms")),
        ("CREATE.S", {"deliver_subject": "x", "flow_control": True}, (10108, "consumer with flow control also needs heartbeats")),
        ("CREATE.S", {"rate_limit_bps": 5}, (10086, "consumer in pull mode can not have rate limit set")),
        ("CREATE.S", {"idle_heartbeat": S}, (10088, "consumer idle heartbeat requires a push based consumer")),
        ("CREATE.S", {"flow_control": True}, (10089, "consumer flow control requires a push based consumer")),
        ("CREATE.S", {"max_expires": 5}, (10115, "consumer max request expires needs to be >= 1ms")),
        ("CREATE.S", {"direct": True}, (10090, "consumer direct requires a push based consumer")),
        ("CREATE.S.C", {"direct": True, "deliver_subject": "x", "durable_name": "C"}, (10091, "consumer direct requires an ephemeral consumer")),
        ("CREATE.S", {"filter_subject": "s.a", "filter_subjects": ["s.b"]}, (10136, "consumer cannot have both FilterSubject and FilterSubjects specified")),
        ("CREATE.S", {"filter_subjects": ["s.a", ""]}, (10139, "consumer filter in FilterSubjects cannot be empty")),
        ("CREATE.S", {"filter_subjects": ["s.a", "s.*"]}, (10138, "consumer subject filters cannot overlap")),
        ("CREATE.S", {"filter_subject": "a..b"}, (10052, "invalid subject")),
        ("CREATE.S", {"sample_freq": "abc"}, (10095, 'failed to parse consumer sampling configuration: strconv.Atoi: parsing "abc": invalid syntax')),
        ("CREATE.S", {"sample_freq": "-5"}, (10095, "failed to parse consumer sampling configuration: <nil>")),
        ("CREATE.S", {"metadata": {"k": "x" * 131072}}, (10135, "consumer metadata exceeds maximum size of 128KB")),
        ("CREATE.S", {"priority_groups": ["A"]}, (10196, "consumer can not have priority groups when policy is none")),
        ("CREATE.S", {"priority_timeout": 5}, (10197, "PinnedTTL cannot be set when PriorityPolicy is none")),
        ("CREATE.S", {"priority_policy": "overflow"}, (10159, "Setting PriorityPolicy requires at least one PriorityGroup to be set")),
        ("CREATE.S", {"priority_policy": "overflow", "priority_groups": [""]}, (10161, "Group name cannot be an empty string")),
        ("CREATE.S", {"priority_policy": "overflow", "priority_groups": ["a b"]}, (10162, "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters")),
        ("CREATE.S", {"priority_policy": "overflow", "priority_groups": ["a"], "deliver_subject": "x"}, (10178, "priority groups can not be used with push consumers")),
        ("CREATE.S", {"ack_policy": "flow_control"}, (10218, "flow control ack policy requires a push based consumer")),
        ("CREATE.S", {"ack_policy": "flow_control", "deliver_subject": "x", "max_ack_pending": -1}, (10220, "flow control ack policy requires max ack pending")),
        ("CREATE.S", {"ack_policy": "flow_control", "deliver_subject": "x", "ack_wait": 5}, (10221, "flow control ack policy requires unset ack wait")),
        ("CREATE.S", {"ack_policy": "flow_control", "deliver_subject": "x", "backoff": [5]}, (10221, "flow control ack policy requires unset ack wait")),
        ("CREATE.S", {"ack_policy": "flow_control", "deliver_subject": "x", "max_deliver": 3}, (10222, "flow control ack policy requires unset max deliver")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    world: ConsumerWorld, suffix: str, config: dict[str, Any], error: tuple[int, str]
) -> None:
    world.create()
    assert create_error(world, suffix, **config) == error


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"deliver_policy": "all", "opt_start_seq": 1}, "all, but optional start sequence is also set"),
        ({"deliver_policy": "last", "opt_start_seq": 1}, "last, but optional start sequence is also set"),
        ({"deliver_policy": "new", "opt_start_time": "2020-01-01T00:00:00Z"}, "new, but optional start time is also set"),
        ({"deliver_policy": "last_per_subject"}, "last per subject, but optional filter subject is not set"),
        ({"deliver_policy": "by_start_sequence"}, "by start sequence, but optional start sequence is not set"),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 1, "opt_start_time": "2020-01-01T00:00:00Z"}, "by start sequence, but optional start time is also set"),
        ({"deliver_policy": "by_start_time"}, "by start time, but optional start time is not set"),
        ({"deliver_policy": "by_start_time", "opt_start_seq": 1, "opt_start_time": "2020-01-01T00:00:00Z"}, "by start time, but optional start start sequence is also set"),
    ],
)  # fmt: skip
def test_a_deliver_policy_and_its_options_have_to_agree(
    world: ConsumerWorld, config: dict[str, Any], text: str
) -> None:
    world.create()
    assert create_error(world, **config) == (10094, f"consumer delivery policy is deliver {text}")


def test_a_missing_stream_and_a_missing_consumer_have_codes_of_their_own(world: ConsumerWorld) -> None:
    assert create_error(world) == (10059, "stream not found")
    world.create()
    for endpoint in ("INFO", "DELETE", "PAUSE", "RESET"):
        assert world.refusal(f"CONSUMER.{endpoint}.S.none") == (10014, "consumer not found")


def test_a_time_that_is_none_is_invalid(world: ConsumerWorld) -> None:
    world.create()
    assert create_error(world, deliver_policy="by_start_time", opt_start_time="noon")[0] == 10025
    world.consumer()
    assert world.refusal("CONSUMER.PAUSE.S.C", {"pause_until": "noon"})[0] == 10025


def test_the_same_consumer_may_be_made_again(world: ConsumerWorld) -> None:
    world.create()
    first = world.consumer(metadata={"k": "v"})
    assert world.consumer(metadata={"k": "v"})["created"] == first["created"]


def test_an_action_says_what_must_not_be(world: ConsumerWorld) -> None:
    world.create()
    body = {"stream_name": "S", "config": {"ack_policy": "explicit", "durable_name": "C"}}
    assert world.refusal("CONSUMER.CREATE.S.C", body | {"action": "update"}) == (
        10149,
        "consumer does not exist",
    )
    assert "error" not in world.ask("CONSUMER.CREATE.S.C", body | {"action": "create"})
    assert "error" not in world.ask("CONSUMER.CREATE.S.C", body | {"action": "create"})
    body["config"] = {"ack_policy": "explicit", "durable_name": "C", "max_deliver": 7}
    assert world.refusal("CONSUMER.CREATE.S.C", body | {"action": "create"}) == (
        10148,
        "consumer already exists",
    )
    assert world.ask("CONSUMER.CREATE.S.C", body | {"action": "update"})["config"]["max_deliver"] == 7


def test_an_ephemeral_that_is_there_cannot_be_created_again(world: ConsumerWorld) -> None:
    world.create()
    body = {"stream_name": "S", "config": {"ack_policy": "explicit"}, "action": "create"}
    assert "error" not in world.ask("CONSUMER.CREATE.S.C", body)
    assert world.refusal("CONSUMER.CREATE.S.C", body) == (10148, "consumer already exists")
    assert "error" not in world.ask("CONSUMER.CREATE.S.C", body | {"action": "update"})


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"deliver_policy": "new"}, "deliver policy can not be updated"),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}, "deliver policy can not be updated"),
        ({"ack_policy": "all"}, "ack policy can not be updated"),
        ({"replay_policy": "original"}, "replay policy can not be updated"),
        ({"max_waiting": 7}, "max waiting can not be updated"),
        ({"mem_storage": True}, "storage type can not be updated"),
        ({"sourcing": True}, "sourcing can not be updated"),
        ({"deliver_subject": "out"}, "can not update pull consumer to push based"),
    ],
)
def test_some_things_stay_as_they_are(world: ConsumerWorld, config: dict[str, Any], text: str) -> None:
    world.create()
    world.consumer()
    config = {"ack_policy": "explicit", "durable_name": "C"} | config
    assert create_error(world, "CREATE.S.C", **config) == (10012, text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "can not update push consumer to pull based"),
        ({"deliver_subject": "out", "idle_heartbeat": S}, "heart beats can not be updated"),
    ],
)
def test_some_things_of_push_consumers_stay_too(
    world: ConsumerWorld, config: dict[str, Any], text: str
) -> None:
    world.create()
    world.consumer(deliver_subject="out")
    config = {"ack_policy": "explicit", "durable_name": "C"} | config
    assert create_error(world, "CREATE.S.C", **config) == (10012, text)


def test_start_options_stay(world: ConsumerWorld) -> None:
    world.create()
    world.consumer(deliver_policy="by_start_sequence", opt_start_seq=3)
    config = {"durable_name": "C", "ack_policy": "explicit", "deliver_policy": "by_start_sequence"}
    assert create_error(world, "CREATE.S.C", **config, opt_start_seq=4) == (
        10012,
        "start sequence can not be updated",
    )


def test_an_update_keeps_the_state(world: ConsumerWorld) -> None:
    world.create()
    world.fill(3)
    world.consumer()
    world.pull(world.inbox("in"), batch=2)
    info = world.consumer(max_ack_pending=5, description="changed", metadata={"k": "v"}, sample_freq="50%")
    assert info["num_ack_pending"] == 2
    assert info["config"]["max_ack_pending"] == 5
    assert info["config"]["metadata"]["k"] == "v"


def test_a_pedantic_request_hears_of_what_would_be_changed(world: ConsumerWorld) -> None:
    world.create(consumer_limits={"max_ack_pending": 10, "inactive_threshold": 60 * S})

    def pedantic(**config: Any) -> tuple[int, str]:
        return world.refusal("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config, "pedantic": True})

    assert pedantic(backoff=[S], ack_policy="explicit") == (
        10157,
        "pedantic mode: first backoff value has to equal batch AckWait",
    )
    assert pedantic(ack_policy="explicit") == (
        10157,
        "pedantic mode: max_ack_pending must be set if it's configured in stream limits",
    )
    assert pedantic(max_ack_pending=5, ack_policy="explicit") == (
        10157,
        "pedantic mode: inactive_threshold must be set if it's configured in stream limits",
    )
    assert pedantic(max_deliver=-5)[0] == 10157


def test_the_streams_limits_are_defaults_and_bounds(world: ConsumerWorld) -> None:
    world.create(consumer_limits={"max_ack_pending": 10, "inactive_threshold": 60 * S})
    config = world.consumer()["config"]
    assert (config["max_ack_pending"], config["inactive_threshold"]) == (10, 60 * S)
    assert create_error(world, ack_policy="explicit", max_ack_pending=11) == (
        10121,
        "consumer max ack pending exceeds system limit of 10",
    )
    assert create_error(world, inactive_threshold=61 * S)[0] == 10153


def test_the_servers_and_the_accounts_limits_bound_pending_acks() -> None:
    world = ConsumerWorld(
        options=JetStreamOptions(max_ack_pending=50), limits=AccountJetStreamOptions(max_ack_pending=20)
    )
    world.create()
    assert world.consumer()["config"]["max_ack_pending"] == 20
    assert create_error(world, ack_policy="explicit", max_ack_pending=21)[0] == 10121


def test_the_number_of_consumers_has_limits() -> None:
    world = ConsumerWorld(limits=AccountJetStreamOptions(max_consumers=2))
    world.create(max_consumers=1)
    world.consumer("A")
    assert create_error(world) == (10026, "maximum consumers limit reached")
    world.create("T")
    world.consumer("A", "T")
    assert world.refusal("CONSUMER.CREATE.T.B", {"stream_name": "T"})[0] == 10026


def test_a_work_queue_has_rules_of_its_own(world: ConsumerWorld) -> None:
    world.create(retention="workqueue")
    assert create_error(world) == (
        10084,
        "consumer in pull mode requires explicit ack policy on workqueue stream",
    )
    assert create_error(world, ack_policy="all") == (10098, "workqueue stream requires explicit ack")
    assert create_error(world, ack_policy="explicit", deliver_policy="new") == (
        10101,
        "consumer must be deliver all on workqueue stream",
    )
    world.consumer("A", filter_subject="s.a")
    assert create_error(world, ack_policy="explicit") == (
        10099,
        "multiple non-filtered consumers not allowed on workqueue stream",
    )
    assert create_error(world, ack_policy="explicit", filter_subject="s.*") == (
        10100,
        "filtered consumer not unique on workqueue stream",
    )
    world.consumer("B", filter_subject="s.b")
    config = {"ack_policy": "explicit", "durable_name": "B", "filter_subject": "s.>"}
    assert create_error(world, "CREATE.S.B", **config)[0] == 10100


def test_lists_are_sorted_and_paged_and_show_stored_metadata_only(world: ConsumerWorld) -> None:
    world.create()
    for name in ("B", "A", "C"):
        world.consumer(name)
    assert world.ask("CONSUMER.NAMES.S", {"offset": 1}) == {
        "type": "io.nats.jetstream.api.v1.consumer_names_response",
        "total": 3,
        "offset": 1,
        "limit": 1024,
        "consumers": ["B", "C"],
    }
    answer = world.ask("CONSUMER.LIST.S")
    assert [info["name"] for info in answer["consumers"]] == ["A", "B", "C"]
    assert answer["limit"] == 256
    assert answer["consumers"][0]["config"]["metadata"] == {"_nats.req.level": "0"}
    assert world.state()["consumer_count"] == 3


def test_a_stream_without_consumers_lists_none(world: ConsumerWorld) -> None:
    world.create()
    assert world.ask("CONSUMER.NAMES.S")["consumers"] == []
    assert world.ask("CONSUMER.LIST.S")["consumers"] == []


def test_refused_lists_keep_their_paging_fields(world: ConsumerWorld) -> None:
    answer = world.ask("CONSUMER.NAMES.none")
    assert (answer["total"], answer["consumers"], answer["error"]["err_code"]) == (0, [], 10059)


def test_info_and_delete_take_no_body(world: ConsumerWorld) -> None:
    world.create()
    world.consumer()
    for endpoint in ("INFO", "DELETE"):
        assert world.refusal(f"CONSUMER.{endpoint}.S.C", {"x": 1})[0] == 10038


def test_creating_and_deleting_are_told(world: ConsumerWorld) -> None:
    world.create()
    events = {}
    for event, action in (("CREATED", "create"), ("DELETED", "delete")):
        events[event] = action
        world.listen(f"$JS.EVENT.ADVISORY.CONSUMER.{event}.S.C")
    world.consumer()
    world.ask("CONSUMER.DELETE.S.C")
    for event, action in events.items():
        (advisory,) = world.advisories(f"$JS.EVENT.ADVISORY.CONSUMER.{event}.S.C")
        assert advisory["type"] == "io.nats.jetstream.advisory.v1.consumer_action"
        assert (advisory["stream"], advisory["consumer"], advisory["action"]) == ("S", "C", action)


def test_a_deleted_consumer_is_forgotten_by_the_log(world: ConsumerWorld) -> None:
    world.create()
    world.consumer()
    world.ask("CONSUMER.DELETE.S.C")
    world.restart()
    assert world.refusal("CONSUMER.INFO.S.C")[0] == 10014


def test_a_consumer_may_be_made_paused(world: ConsumerWorld) -> None:
    world.create()
    subject = "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C"
    world.listen(subject)
    info = world.consumer(pause_until="2030-01-01T00:00:00Z")
    assert (info["paused"], info["config"]["metadata"]["_nats.req.level"]) == (True, "1")
    assert (
        world.advisories(subject)[0].items()
        >= {"paused": True, "pause_until": "2030-01-01T00:00:00Z"}.items()
    )
    assert "pause_until" in world.consumer(description="x")["config"]
