"""Ack policy `flow_control`: answers to flow control requests say how far a client has come."""

from typing import Any

import pytest

from unit.jetstream.world import ACCOUNT
from unit.jetstream_consumers.consumer_world import ConsumerWorld, Inbox, S


def flowing(world: ConsumerWorld, messages: int = 5, **config: Any) -> Inbox:
    world.create(**config)
    inbox = world.inbox("d")
    world.consumer(ack_policy="flow_control", deliver_subject="d", max_ack_pending=3)
    world.fill(messages)
    return inbox


def request_in(inbox: Inbox) -> bytes:
    """Give the reply subject of the last flow control request."""
    return [reply for view, reply in inbox.subscriber.received if b"FlowControl" in view.headers][-1]


def answer(world: ConsumerWorld, reply: bytes, stream: int | str) -> None:
    block = f"NATS/1.0\r\nNats-Last-Consumer: {stream}\r\nNats-Last-Stream: {stream}\r\n\r\n".encode()
    world.bus.send(ACCOUNT, reply, b"", headers=block)
    world.bus.turn()


def test_what_is_not_said_is_set(world: ConsumerWorld) -> None:
    world.create()
    config = world.consumer(ack_policy="flow_control", deliver_subject="d")["config"]
    assert (config["flow_control"], config["idle_heartbeat"], config["max_ack_pending"]) == (True, S, 1000)
    assert "ack_wait" not in config
    assert config["metadata"]["_nats.req.level"] == "4"


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, (10219, "flow control ack policy requires flow control")),
        ({"flow_control": True}, (10052, "flow control ack policy heartbeat needs to be 1s")),
        ({"flow_control": True, "idle_heartbeat": 2 * S}, (10052, "flow control ack policy heartbeat needs to be 1s")),
    ],
)  # fmt: skip
def test_a_pedantic_request_has_to_say_it(
    world: ConsumerWorld, config: dict[str, Any], error: tuple[int, str]
) -> None:
    world.create()
    full = {"durable_name": "C", "ack_policy": "flow_control", "deliver_subject": "d", **config}
    asked = {"stream_name": "S", "config": full, "pedantic": True}
    assert world.refusal("CONSUMER.CREATE.S.C", asked) == error


def test_at_max_ack_pending_a_request_follows_the_messages(world: ConsumerWorld) -> None:
    inbox = flowing(world)
    assert inbox.all() == ["m1", "m2", "m3", "100 FlowControl Request"]


def test_an_answer_acks_up_to_the_sequence_that_it_names(world: ConsumerWorld) -> None:
    inbox = flowing(world)
    inbox.all()
    answer(world, request_in(inbox), 2)
    assert inbox.all() == ["m4", "m5", "100 FlowControl Request"]
    counters = world.counters()
    assert (counters["floor"], counters["ack_pending"], counters["pending"]) == ((2, 2), 3, 0)


@pytest.mark.parametrize("stream", [0, 9, "x", "9" * 5000])
def test_an_answer_that_names_nothing_delivered_acks_nothing(world: ConsumerWorld, stream: int | str) -> None:
    inbox = flowing(world)
    answer(world, request_in(inbox), stream)
    assert world.counters()["ack_pending"] == 3


def test_an_answer_to_an_old_request_acks_nothing(world: ConsumerWorld) -> None:
    inbox = flowing(world)
    answer(world, request_in(inbox)[:-4] + b"oldx", 2)
    assert world.counters()["ack_pending"] == 3


def test_a_heartbeat_asks_where_acks_are_missing(world: ConsumerWorld) -> None:
    inbox = flowing(world, 2)
    assert inbox.all() == ["m1", "m2"]
    world.advance(S + S // 10)
    assert inbox.all() == [
        "100 Idle Heartbeat; Nats-Last-Consumer: 2; Nats-Last-Stream: 2",
        "100 FlowControl Request",
    ]
    answer(world, request_in(inbox), 2)
    world.advance(S)
    assert inbox.all() == ["100 Idle Heartbeat; Nats-Last-Consumer: 2; Nats-Last-Stream: 2"]
    assert world.counters()["ack_pending"] == 0


def test_nothing_comes_again_and_ack_subjects_are_not_heard(world: ConsumerWorld) -> None:
    inbox = flowing(world, 2)
    inbox.all()
    world.ack(1, 2)
    world.advance(100 * S)
    assert world.counters()["ack_pending"] == 2
    assert not [each for each in inbox.all() if each.startswith("m")]


def test_what_is_acked_so_leaves_a_workqueue(world: ConsumerWorld) -> None:
    inbox = flowing(world, 3, retention="workqueue")
    answer(world, request_in(inbox), 2)
    assert [sequence for sequence, _, _ in world.messages()] == [3]


def test_pending_messages_are_pending_after_a_restart(world: ConsumerWorld) -> None:
    inbox = flowing(world)
    answer(world, request_in(inbox), 1)
    before = world.counters()
    world.restart()
    assert world.counters() == before
