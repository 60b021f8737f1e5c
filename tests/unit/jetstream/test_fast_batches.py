"""Fast-ingest batches: stored one by one, acknowledged many at once."""

import json
from typing import Any

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.streams.fast import FastStep, parse_step
from headrace.storage.interface import DiskFull
from unit.jetstream.world import ACCOUNT, World


@pytest.fixture
def batching() -> World:
    world = World()
    world.create(allow_batched=True)
    return world


def queue(world: World, step: str, payload: bytes = b"") -> bytes:
    reply = f"_INBOX.{step}.$FI".encode()
    world.bus.send(ACCOUNT, b"s.1", payload, reply=reply)
    return reply


def send(world: World, step: str) -> list[Any]:
    """Publish one message of a batch; give what answers it."""
    reply = queue(world, step)
    world.bus.turn()
    return [json.loads(answer.payload) for answer in world.bus.answers(reply)]


def test_a_reply_subject_says_batch_flow_gaps_number_and_operation() -> None:
    assert parse_step(b"_INBOX.x.id.7.fail.3.1.$FI") == FastStep(
        b"id", 7, takes_gaps=False, number=3, operation=1
    )
    step = parse_step(b"a.id.99999.ok.1.2.$FI")
    assert step is not None
    assert (step.flow, step.is_commit) == (65535, True)


@pytest.mark.parametrize(
    "reply",
    [
        b".$FI",
        b"id.7.fail.1.0.$FI",
        b"a.id.7.no.1.0.$FI",
        b"a.id.7.ok.1.5.$FI",
        b"a.id.7.ok.1.x.$FI",
        b"a.id.7.ok.0.0.$FI",
        b"a.id.7.ok.2.0.$FI",
        b"a.id.7.ok.1.1.$FI",
        b"a.id.7.ok.1.3.$FI",
        b"a.id.7.ok." + b"9" * 5000 + b".1.$FI",
    ],
)
def test_a_reply_subject_that_does_not_follow_the_pattern_is_none(reply: bytes) -> None:
    assert parse_step(reply) is None


def test_a_flow_that_is_no_number_is_the_usual_one() -> None:
    for flow in (b"0", b"-1", b"x", b""):
        step = parse_step(b"a.id.%b.ok.1.0.$FI" % flow)
        assert step is not None
        assert step.flow == 10


def test_acks_come_for_as_many_messages_as_was_agreed(batching: World) -> None:
    assert send(batching, "b.2.ok.1.0") == [{"type": "ack", "seq": 0, "msgs": 2}]
    assert send(batching, "b.2.ok.2.1") == [{"type": "ack", "seq": 2, "msgs": 2}]
    assert send(batching, "b.2.ok.3.1") == []
    assert send(batching, "b.2.ok.4.2") == [{"stream": "S", "seq": 4, "batch": "b", "count": 4}]
    assert batching.stream("S").context.open_batches.fast == 0


def test_what_is_said_of_stored_messages_waits_for_their_sync() -> None:
    world = World(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True})
    world.release()
    replies = [queue(world, step) for step in ("b.2.ok.1.0", "b.2.ok.2.1", "b.2.ok.3.2")]
    world.bus.turn()
    assert [world.bus.answers(reply) for reply in replies] == [[], [], []]
    world.release()
    assert [len(world.bus.answers(reply)) for reply in replies] == [1, 1, 1]


def test_a_batch_among_others_starts_slowly_and_goes_faster(batching: World) -> None:
    send(batching, "first.9.ok.1.0")
    assert send(batching, "b.9.ok.1.0") == [
        {"type": "ack", "seq": 0, "msgs": 1},
        {"type": "ack", "seq": 1, "msgs": 2},
    ]
    assert send(batching, "b.9.ok.2.1") == []
    assert send(batching, "b.9.ok.3.1") == [{"type": "ack", "seq": 3, "msgs": 4}]


def test_a_batch_that_rests_for_too_long_is_forgotten(batching: World) -> None:
    send(batching, "b.2.ok.1.0")
    batching.scheduler.advance(11 * NS_PER_S)
    assert send(batching, "b.2.ok.2.1")[0]["error"]["err_code"] == 10208
    assert batching.stream("S").context.open_batches.fast == 0
    assert batching.state()["messages"] == 1


def test_after_a_write_that_failed_no_batch_counts_what_is_not_there(batching: World) -> None:
    send(batching, "b.9.fail.1.0")
    batching.store.refuse(DiskFull("no space"))
    assert send(batching, "b.9.fail.2.2")[0]["error"]["err_code"] == 10023
    batching.store.refuse(None)
    assert send(batching, "b.9.fail.3.1")[0]["error"]["err_code"] == 10208
    assert batching.state()["messages"] == 1


def test_a_stream_that_takes_no_batches_refuses_them() -> None:
    world = World()
    world.create()
    assert send(world, "b.9.ok.1.0")[0]["error"]["err_code"] == 10205
    assert world.state()["messages"] == 0
