"""Atomic batches: stored together or not at all, whatever happens on the way."""

import json
from typing import Any

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.core.options import JetStreamOptions
from headrace.jetstream.streams import atomic
from headrace.storage.interface import DiskFull
from unit.jetstream.world import World


@pytest.fixture
def batching() -> World:
    world = World()
    world.create(allow_atomic=True)
    return world


def send(world: World, batch: str, number: int, subject: str = "s.1", **fields: str) -> list[bytes]:
    """Publish one message of a batch; give the payloads that answer it."""
    fields |= {"Nats_Batch_Id": batch, "Nats_Batch_Sequence": str(number)}
    reply = world.send(subject, b"%d" % number, 1, **fields)
    return [answer.payload for answer in world.bus.answers(reply)]


def refusal(answers: list[bytes]) -> int:
    (answer,) = answers
    code: int = json.loads(answer)["error"]["err_code"]
    return code


def open_batches(world: World) -> tuple[int, int]:
    opened = world.stream("S").context.open_batches
    return opened.atomic, opened.staged_size


def test_messages_wait_for_the_one_that_commits(batching: World) -> None:
    assert send(batching, "b", 1) == [b""]
    assert send(batching, "b", 2) == [b""]
    assert batching.state()["messages"] == 0
    assert open_batches(batching)[0] == 1
    (ack,) = send(batching, "b", 3, Nats_Batch_Commit="1")
    assert json.loads(ack) == {"stream": "S", "seq": 3, "batch": "b", "count": 3}
    assert [payload for _, _, payload in batching.messages()] == [b"1", b"2", b"3"]
    assert open_batches(batching) == (0, 0)


def test_an_end_without_a_message_commits_what_came_before(batching: World) -> None:
    send(batching, "b", 1)
    (ack,) = send(batching, "b", 2, Nats_Batch_Commit="eob")
    assert json.loads(ack) == {"stream": "S", "seq": 1, "batch": "b", "count": 1}


def test_the_ack_waits_until_the_batch_is_durable_and_nobody_sees_it_before() -> None:
    world = World(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_atomic": True})
    world.release()
    assert send(world, "b", 1) == [b""]
    reply = world.send("s.1", Nats_Batch_Id="b", Nats_Batch_Sequence="2", Nats_Batch_Commit="1")
    assert world.bus.answers(reply) == []
    assert world.stream("S").visible_sequence == 0
    world.release()
    assert len(world.bus.answers(reply)) == 1
    assert world.stream("S").visible_sequence == 2


def test_a_batch_that_rests_for_too_long_is_abandoned(batching: World) -> None:
    send(batching, "b", 1)
    batching.scheduler.advance(9 * NS_PER_S)
    send(batching, "b", 2)
    batching.scheduler.advance(9 * NS_PER_S)
    assert open_batches(batching)[0] == 1
    batching.scheduler.advance(2 * NS_PER_S)
    assert open_batches(batching) == (0, 0)
    assert refusal(send(batching, "b", 3, Nats_Batch_Commit="1")) == 10176
    assert batching.state()["messages"] == 0


def test_a_start_forgets_batches_that_were_not_committed(batching: World) -> None:
    send(batching, "b", 1)
    batching.jetstream.close()
    batching.start()
    assert refusal(send(batching, "b", 2, Nats_Batch_Commit="1")) == 10176


def test_a_full_disk_refuses_the_whole_batch_and_passes(batching: World) -> None:
    batching.store.refuse(DiskFull("no space"))
    send(batching, "b", 1, Nats_Msg_Id="x")
    assert refusal(send(batching, "b", 2, Nats_Batch_Commit="1")) == 10023
    assert batching.state()["messages"] == 0
    assert open_batches(batching) == (0, 0)
    batching.store.refuse(None)
    send(batching, "b", 1, Nats_Msg_Id="x")
    assert json.loads(send(batching, "b", 2, Nats_Batch_Commit="1")[0])["seq"] == 2


def test_a_refused_batch_leaves_nothing_behind(batching: World) -> None:
    send(batching, "b", 1, Nats_Msg_Id="x")
    assert refusal(send(batching, "b", 2, Nats_Batch_Commit="1", Nats_Expected_Stream="T")) == 10060
    assert batching.state()["messages"] == 0
    assert batching.publish("s.1", Nats_Msg_Id="x")["seq"] == 1


def test_other_publishes_may_come_between_the_messages_of_a_batch(batching: World) -> None:
    batching.queue("s.1", b"before")
    batching.queue("s.1", b"in", Nats_Batch_Id="b", Nats_Batch_Sequence="1")
    batching.queue("s.1", b"between")
    batching.queue("s.1", b"in", Nats_Batch_Id="b", Nats_Batch_Sequence="2", Nats_Batch_Commit="1")
    batching.queue("s.1", b"after")
    batching.bus.turn()
    found = [payload for _, _, payload in batching.messages()]
    assert found == [b"before", b"between", b"in", b"in", b"after"]


def test_what_waits_in_memory_is_bounded(batching: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "STAGED_SIZE_MAX", 150)
    assert send(batching, "b", 1) == [b""]
    assert send(batching, "b", 2) == [b""]
    assert refusal(send(batching, "b", 3)) == 10023
    assert open_batches(batching) == (0, 0)


def test_batches_end_with_their_stream_or_when_it_takes_none_any_more(batching: World) -> None:
    send(batching, "a", 1)
    batching.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"]})
    assert open_batches(batching) == (0, 0)
    assert refusal(send(batching, "a", 2)) == 10174
    batching.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_atomic": True})
    send(batching, "a", 1)
    context = batching.stream("S").context
    batching.ask("STREAM.DELETE.S")
    assert context.open_batches.atomic == context.open_batches.staged_size == 0


def test_a_subject_keeps_its_newest_messages_also_of_one_batch() -> None:
    world = World()
    world.create(allow_atomic=True, max_msgs_per_subject=2)
    for _ in range(3):
        world.publish("s.1", b"old")
    world.publish("s.2", b"old")
    for number in range(1, 5):
        send(world, "b", number, **({"Nats_Batch_Commit": "1"} if number == 4 else {}))
    assert [payload for _, _, payload in world.messages()] == [b"old", b"3", b"4"]
    state = world.state()
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (3, 4, 8)


@pytest.mark.parametrize("limit", [{"max_msgs": 3}, {"max_bytes": 120}])
def test_a_batch_larger_than_its_stream_leaves_its_end(limit: dict[str, Any]) -> None:
    world = World()
    world.create(allow_atomic=True, **limit)
    for number in range(1, 7):
        send(world, "b", number, **({"Nats_Batch_Commit": "1"} if number == 6 else {}))
    state = world.state()
    assert state["last_seq"] == 6
    assert 0 < state["messages"] <= 3
    assert state["bytes"] <= limit.get("max_bytes", 1000)


def test_the_operator_sets_how_large_and_how_many_batches_may_be() -> None:
    world = World(options=JetStreamOptions(batch_size=2, batch_inflight_total=1, batch_timeout_ns=NS_PER_S))
    world.create(allow_atomic=True)
    send(world, "a", 1)
    assert refusal(send(world, "b", 1)) == 10210
    send(world, "a", 2)
    assert refusal(send(world, "a", 3)) == 10199
    send(world, "b", 1)
    world.scheduler.advance(2 * NS_PER_S)
    assert open_batches(world) == (0, 0)


def test_what_nobody_wants_of_a_batch_takes_no_place_of_what_is_wanted() -> None:
    world = World()
    world.create(retention="interest", max_msgs=3, allow_atomic=True)
    world.ask(
        "CONSUMER.CREATE.S.A",
        {"stream_name": "S", "config": {"name": "A", "ack_policy": "explicit", "filter_subject": "s.a"}},
    )
    world.publish("s.a", b"wanted")
    for number in (1, 2):
        send(world, "b", number, f"s.{number}")
    (ack,) = send(world, "b", 3, "s.3", Nats_Batch_Commit="1")
    assert json.loads(ack)["seq"] == 4
    assert world.messages() == [(1, "s.a", b"wanted")]
    assert world.state()["last_seq"] == 4
