"""CONSUMER.RESET: going back, or forward, and what that leaves of a consumer's state."""

from typing import Any

import pytest

from unit.jetstream_consumers.consumer_world import ConsumerWorld

RESET = "CONSUMER.RESET.S.C"


def half_done(world: ConsumerWorld, **config: Any) -> None:
    """Five messages, four delivered, the first and the third acked."""
    world.create()
    world.fill(5)
    world.consumer(**config)
    inbox = world.inbox("half")
    world.pull(inbox, batch=4)
    world.ack(1, 3)
    inbox.close()


def test_without_a_sequence_all_above_the_ack_floor_comes_again_as_if_new(world: ConsumerWorld) -> None:
    half_done(world)
    answer = world.ask(RESET)
    assert answer["type"] == "io.nats.jetstream.api.v1.consumer_reset_response"
    assert (answer["reset_seq"], answer["name"]) == (2, "C")
    assert world.counters() == {
        "delivered": (0, 1),
        "floor": (0, 1),
        "ack_pending": 0,
        "redelivered": 0,
        "pending": 4,
    }
    assert "last_active" not in answer["delivered"]
    inbox = world.inbox("in")
    world.pull(inbox, batch=9)
    assert inbox.numbers() == [(1, 2, 1, 3), (1, 3, 2, 2), (1, 4, 3, 1), (1, 5, 4, 0)]


@pytest.mark.parametrize(("sequence", "pending"), [(1, 5), (4, 2), (6, 0), (100, 0)])
def test_a_sequence_is_what_comes_next(world: ConsumerWorld, sequence: int, pending: int) -> None:
    half_done(world)
    assert world.ask(RESET, {"seq": sequence})["reset_seq"] == sequence
    counters = world.counters()
    assert counters["delivered"] == counters["floor"] == (0, sequence - 1)
    assert (counters["pending"], counters["ack_pending"]) == (pending, 0)


@pytest.mark.parametrize(
    ("config", "sequence", "reason"),
    [
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 2}, 1, "below start seq"),
        ({"deliver_policy": "by_start_time", "opt_start_time": "2100-01-01T00:00:00Z"}, 5, "below start time"),
        ({"deliver_policy": "new"}, 3, "not allowed"),
        ({"deliver_policy": "last"}, 5, "not allowed"),
        ({"deliver_policy": "last_per_subject", "filter_subject": "s.*"}, 5, "not allowed"),
    ],
)  # fmt: skip
def test_a_deliver_policy_may_forbid_it(
    world: ConsumerWorld, config: dict[str, Any], sequence: int, reason: str
) -> None:
    world.create()
    world.fill(5)
    world.consumer(**config)
    before = world.counters()
    assert world.refusal(RESET, {"seq": sequence}) == (10204, f"invalid reset: {reason}")
    assert world.counters() == before


def test_a_start_sequence_bounds_it_from_below(world: ConsumerWorld) -> None:
    half_done(world, deliver_policy="by_start_sequence", opt_start_seq=2)
    assert world.ask(RESET, {"seq": 2})["reset_seq"] == 2


@pytest.mark.parametrize("policy", ["new", "last", "last_per_subject"])
def test_the_ack_floor_is_allowed_with_every_policy(world: ConsumerWorld, policy: str) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a", "s.c"):
        world.publish(subject, subject.encode())
    world.consumer(deliver_policy=policy, filter_subject="s.>")
    if policy == "new":
        world.fill(1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=9, no_wait=True)
    first = inbox.acks()
    assert "error" not in world.ask(RESET)
    world.pull(inbox, batch=9, no_wait=True)
    assert [each.split(".")[4:7] for each in inbox.acks()] == [each.split(".")[4:7] for each in first]


@pytest.mark.parametrize("sequence", [2, 100])
def test_a_reset_survives_a_restart(world: ConsumerWorld, sequence: int) -> None:
    half_done(world)
    world.ask(RESET, {"seq": sequence})
    before = world.counters()
    world.restart()
    assert world.counters() == before


def test_unknown_fields_are_overlooked_and_nonsense_is_not(world: ConsumerWorld) -> None:
    half_done(world)
    assert world.ask(RESET, {"seq": 2, "surprise": 1})["reset_seq"] == 2
    assert world.refusal(RESET, {"seq": "2"})[0] == 10025
    assert world.refusal(RESET, {"seq": -1})[0] == 10025


def test_a_consumer_that_is_not_there_is_refused(world: ConsumerWorld) -> None:
    world.create()
    assert world.refusal(RESET)[0] == 10014


def test_waiting_requests_get_what_comes_again(world: ConsumerWorld) -> None:
    half_done(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=4)
    inbox.all()
    world.ask(RESET, {"seq": 1})
    world.bus.turn()
    assert inbox.all() == ["m1", "m2", "m3"]


def test_what_a_reset_skips_on_a_workqueue_stays_through_a_restart(world: ConsumerWorld) -> None:
    world.create(retention="workqueue")
    world.fill(4)
    world.consumer()
    inbox = world.inbox("in")
    world.pull(inbox, batch=1)
    world.ask(RESET, {"seq": 4})
    world.pull(inbox, batch=1)
    world.ack(4)
    world.restart()
    assert [sequence for sequence, _, _ in world.messages()] == [1, 2, 3]


def test_what_a_reset_skips_leaves_an_interest_stream(world: ConsumerWorld) -> None:
    world.create(retention="interest")
    world.consumer()
    world.fill(4)
    world.ask(RESET, {"seq": 4})
    world.bus.turn()
    assert [sequence for sequence, _, _ in world.messages()] == [4]
