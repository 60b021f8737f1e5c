"""Streams change the subjects of what comes in, and publish what they stored under others."""

from typing import Any

import pytest

from headrace.core import headers
from headrace.storage.interface import StorageError
from unit.jetstream.world import World


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        (
            {"subject_transform": {"src": "a..b", "dest": "x"}},
            (10155, "stream transform source: invalid subject a..b"),
        ),
        (
            {"subject_transform": {"src": "s.*", "dest": "x.{{nothing(1)}}"}},
            (10156, "stream transform: invalid mapping destination: unknown function in {{nothing(1)}}"),
        ),
        (
            {"republish": {"src": "s.>", "dest": "s.again.>"}},
            (10052, "stream configuration for republish destination forms a cycle"),
        ),
        (
            {"republish": {"src": "s.>", "dest": ""}},
            (10052, "stream configuration for republish destination forms a cycle"),
        ),
        (
            {"republish": {"src": "s.>", "dest": "x.{{wildcard(1)}}"}},
            (
                10052,
                "stream configuration for republish with transform from 's.>' to 'x.{{wildcard(1)}}' not valid",
            ),
        ),
        (
            {"republish": {"dest": "x.>"}, "pedantic": True},
            (10157, "pedantic mode: republish source can not be empty"),
        ),
    ],
)
def test_a_change_of_subjects_that_cannot_be_is_refused(
    world: World, config: dict[str, Any], refusal: tuple[int, str]
) -> None:
    assert world.refusal("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], **config}) == refusal


def test_a_message_is_stored_under_the_subject_that_the_transform_makes(world: World) -> None:
    world.create(subjects=["s.>", "other"], subject_transform={"src": "s.*", "dest": "t.{{wildcard(1)}}"})
    world.publish("s.1", b"changed")
    world.publish("s.1.2", b"not matched")
    world.publish("other", b"not matched")
    assert [subject for _, subject, _ in world.messages()] == ["t.1", "s.1.2", "other"]


def test_expectations_are_about_the_subject_that_the_transform_makes(world: World) -> None:
    world.create(subject_transform={"src": "s.*", "dest": "t.{{wildcard(1)}}"})
    world.publish("s.1")
    assert world.publish_error("s.1", Nats_Expected_Last_Subject_Sequence="0") == (
        10071,
        "wrong last sequence: 1",
    )


def test_a_transform_may_come_and_go(world: World) -> None:
    world.create()
    world.publish("s.1")
    config = {"name": "S", "subjects": ["s.>"]}
    world.ask("STREAM.UPDATE.S", config | {"subject_transform": {"src": "s.*", "dest": "t.$1"}})
    world.publish("s.1")
    world.ask("STREAM.UPDATE.S", config)
    world.publish("s.1")
    assert [subject for _, subject, _ in world.messages()] == ["s.1", "t.1", "s.1"]


def test_what_is_stored_is_published_again_with_its_place(world: World) -> None:
    world.create(republish={"src": "s.>", "dest": "again.>"})
    listener = world.bus.subscribe("$G", b"again.>")
    world.publish("s.1", b"one")
    world.publish("s.1", b"two", X="y")
    (first, _), (second, _) = listener.received
    assert (first.subject, first.payload, second.payload) == (b"again.1", b"one", b"two")
    parsed = headers.parse(second.headers)
    assert parsed is not None
    assert [key for key, _ in parsed.fields] == [
        b"X",
        b"Nats-Stream",
        b"Nats-Subject",
        b"Nats-Sequence",
        b"Nats-Time-Stamp",
        b"Nats-Last-Sequence",
    ]
    assert parsed.get(b"Nats-Subject") == b"s.1"
    assert parsed.get(b"Nats-Sequence") == b"2"
    assert parsed.get(b"Nats-Last-Sequence") == b"1"


def test_messages_of_one_batch_know_the_one_before(world: World) -> None:
    world.create(republish={"src": "s.>", "dest": "again.>"})
    listener = world.bus.subscribe("$G", b"again.>")
    for _ in range(3):
        world.queue("s.1")
    world.bus.turn()
    before = [headers.get(view.headers, b"Nats-Last-Sequence") for view, _ in listener.received]
    assert before == [b"0", b"1", b"2"]


def test_headers_only_leaves_the_payload_out_and_tells_its_size(world: World) -> None:
    world.create(republish={"src": "s.>", "dest": "again.>", "headers_only": True})
    listener = world.bus.subscribe("$G", b"again.>")
    world.publish("s.1", b"12345")
    view, _ = listener.received[0]
    assert view.payload == b""
    assert headers.get(view.headers, b"Nats-Msg-Size") == b"5"


def test_only_what_the_source_matches_is_published_again(world: World) -> None:
    world.create(republish={"src": "s.a", "dest": "again"})
    listener = world.bus.subscribe("$G", b"again")
    world.publish("s.b")
    world.publish("s.a")
    assert len(listener.received) == 1


def test_everything_to_everything_follows_the_streams_own_transform(world: World) -> None:
    answer = world.ask(
        "STREAM.CREATE.S",
        {
            "name": "S",
            "subjects": ["s.>"],
            "subject_transform": {"src": "s.>", "dest": "t.>"},
            "republish": {"src": ">", "dest": ">"},
        },
    )
    assert answer["config"]["republish"] == {"src": "t.>", "dest": "t.>"}
    listener = world.bus.subscribe("$G", b"t.>")
    world.publish("s.1")
    assert [view.subject for view, _ in listener.received] == [b"t.1"]


def test_nothing_is_published_again_before_it_is_durable() -> None:
    world = World(held=True)
    reply = world.post(
        "STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "republish": {"src": "s", "dest": "again"}}
    )
    world.release()
    assert world.bus.answers(reply)
    listener = world.bus.subscribe("$G", b"again")
    world.send("s")
    assert not listener.received
    world.release()
    assert len(listener.received) == 1


def test_nothing_is_published_again_of_what_could_not_be_written() -> None:
    world = World(held=True)
    world.post(
        "STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "republish": {"src": "s", "dest": "again"}}
    )
    world.release()
    listener = world.bus.subscribe("$G", b"again")
    world.send("s")
    world.release(StorageError("no"))
    assert not listener.received
