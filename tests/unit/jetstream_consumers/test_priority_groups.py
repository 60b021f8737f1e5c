"""Priority groups: who of a consumer's clients gets messages, who is told why not, and what is said about it."""

from typing import Any

import pytest

from headrace.core import headers
from headrace.jetstream.models.times import ZERO_TIME
from unit.jetstream_consumers.consumer_world import ConsumerWorld, Inbox, S

PINNED = "$JS.EVENT.ADVISORY.CONSUMER.PINNED.S.C"
UNPINNED = "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.C"


def grouped(world: ConsumerWorld, policy: str, messages: int = 0, **config: Any) -> None:
    world.create()
    world.fill(messages)
    world.consumer(priority_policy=policy, priority_groups=["A"], **config)


def pins(inbox: Inbox) -> list[str]:
    """Give the pin ids on what came since the last look, empty where there is none."""
    return [(headers.get(block, b"Nats-Pin-Id") or b"").decode() for block in inbox.headers()]


def pin_of(world: ConsumerWorld) -> dict[str, Any]:
    (state,) = world.info()["priority_groups"]
    return dict(state)


@pytest.mark.parametrize(
    ("policy", "options", "answer"),
    [
        ("none", {"min_pending": 1}, "400 Bad Request - Not a Overflow Priority consumer"),
        ("none", {"id": "x"}, "400 Bad Request - Not a Pinned Client Priority consumer"),
        ("none", {"priority": 10}, "400 Bad Request - Priority must be between 0 and 9"),
        ("none", {"priority": -1}, "400 Bad Request - Priority must be between 0 and 9"),
        ("overflow", {}, "400 Bad Request - Priority Group missing"),
        ("overflow", {"group": "B"}, "400 Bad Request - Invalid Priority Group"),
        ("overflow", {"group": "A", "id": "x"}, "400 Bad Request - Not a Pinned Client Priority consumer"),
        ("pinned_client", {"group": "A", "min_ack_pending": 1}, "400 Bad Request - Not a Overflow Priority consumer"),
        ("prioritized", {"group": "A", "priority": 11}, "400 Bad Request - Priority must be between 0 and 9"),
    ],
)  # fmt: skip
def test_a_request_that_does_not_fit_the_policy_is_refused(
    world: ConsumerWorld, policy: str, options: dict[str, Any], answer: str
) -> None:
    world.create()
    groups = {} if policy == "none" else {"priority_groups": ["A"], "priority_policy": policy}
    world.consumer(**groups)
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, **options)
    assert inbox.all() == [answer]


def test_a_group_is_no_business_of_a_consumer_without_groups(world: ConsumerWorld) -> None:
    world.create()
    world.fill(1)
    world.consumer()
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, group="whatever", priority=3)
    assert inbox.all() == ["m1"]


@pytest.mark.parametrize("body", [b"", b"2"])
def test_a_body_that_is_no_json_passes_the_group_checks(world: ConsumerWorld, body: bytes) -> None:
    grouped(world, "overflow", 1)
    inbox = world.inbox("in")
    world.pull_raw(inbox, body)
    assert inbox.all() == ["m1"]


# overflow


def test_overflow_serves_a_request_only_from_its_min_pending_on(world: ConsumerWorld) -> None:
    grouped(world, "overflow", 2)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5, group="A", min_pending=3)
    assert inbox.all() == []
    world.fill(3, first=3)
    assert inbox.all() == ["m1", "m2", "m3"]  # with two to come it is not busy enough any more
    assert world.info()["num_waiting"] == 1


def test_overflow_serves_a_request_from_its_min_ack_pending_on(world: ConsumerWorld) -> None:
    grouped(world, "overflow", 4)
    busy, helper = world.inbox("busy"), world.inbox("helper")
    world.pull(helper, batch=5, group="A", min_ack_pending=2)
    assert helper.all() == []
    world.pull(busy, batch=2, group="A")
    assert (busy.all(), helper.all()) == (["m1", "m2"], ["m3", "m4"])


def test_overflow_gives_requests_without_a_minimum_everything(world: ConsumerWorld) -> None:
    grouped(world, "overflow", 3)
    first, second = world.inbox("first"), world.inbox("second")
    world.pull(first, batch=1, group="A", min_pending=10)
    world.pull(second, batch=3, group="A")
    assert (first.all(), second.all()) == ([], ["m1", "m2", "m3"])


def test_an_overflow_request_that_was_not_busy_enough_for_expires(world: ConsumerWorld) -> None:
    grouped(world, "overflow", 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=2, group="A", min_pending=5, expires=S)
    world.advance(2 * S)
    assert inbox.all() == ["408 Request Timeout; Nats-Pending-Messages: 2; Nats-Pending-Bytes: 0"]


# pinned


def test_the_first_client_that_is_served_is_pinned_and_told_so(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 2)
    watcher = world.listen(PINNED)
    assert pin_of(world) == {"group": "A", "pinned_ts": ZERO_TIME}
    inbox = world.inbox("in")
    world.pull(inbox, batch=2, group="A")
    first, second = pins(inbox)
    assert first == second == pin_of(world)["pinned_client_id"]
    assert len(first) == 22
    assert pin_of(world)["pinned_ts"] != ZERO_TIME
    (advisory,) = world.advisories(PINNED)
    assert advisory["type"] == "io.nats.jetstream.advisory.v1.consumer_group_pinned"
    assert (advisory["group"], advisory["pinned_id"]) == ("A", first)
    watcher.close()


def test_only_the_pinned_client_is_served(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1)
    pinned, other = world.inbox("pinned"), world.inbox("other")
    world.pull(pinned, batch=1, group="A")
    (pin,) = pins(pinned)
    world.pull(other, batch=5, group="A", expires=60 * S)
    world.fill(3, first=2)
    assert other.all() == []
    world.pull(pinned, batch=5, group="A", id=pin)
    assert pinned.all() == ["m2", "m3", "m4"]
    assert other.all() == []


def test_another_pin_id_is_refused_at_once_while_somebody_is_pinned(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, group="A")
    inbox.all()
    world.pull(inbox, batch=1, group="A", id="wrong")
    assert inbox.all() == ["423 Nats-Pin-Id mismatch"]


def test_a_pin_id_that_is_gone_is_refused_when_a_message_is_there(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client")
    inbox = world.inbox("in")
    world.pull(inbox, batch=4, max_bytes=900, group="A", id="old", expires=60 * S)
    assert inbox.all() == []
    world.fill(1)
    assert inbox.all() == ["423 Nats-Wrong-Pin-Id; Nats-Pending-Messages: 4; Nats-Pending-Bytes: 900"]


def test_a_pin_goes_when_its_client_is_silent_for_priority_timeout(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1, priority_timeout=3 * S)
    world.listen(UNPINNED)
    pinned, other = world.inbox("pinned"), world.inbox("other")
    world.pull(pinned, batch=1, group="A")
    (pin,) = pins(pinned)
    world.pull(other, batch=1, group="A", expires=60 * S)
    world.advance(2 * S)
    world.pull(pinned, batch=1, group="A", id=pin, expires=S)  # it is still there
    world.advance(2 * S)
    world.fill(1, first=2)
    assert other.all() == []
    world.advance(2 * S)
    assert other.all() == ["m2"]
    (advisory,) = world.advisories(UNPINNED)
    assert (advisory["group"], advisory["reason"]) == ("A", "timeout")
    assert pin_of(world)["pinned_client_id"] != pin


def test_a_pin_lasts_two_minutes_where_nothing_else_is_said(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client")
    assert world.info()["config"]["priority_timeout"] == 120 * S


def test_unpinning_lets_the_next_client_be_pinned(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1)
    world.listen(UNPINNED)
    pinned, other = world.inbox("pinned"), world.inbox("other")
    world.pull(pinned, batch=2, group="A", expires=60 * S)
    (pin,) = pins(pinned)
    world.pull(other, batch=1, group="A", expires=60 * S)
    answer = world.ask("CONSUMER.UNPIN.S.C", {"group": "A"})
    assert answer == {"type": "io.nats.jetstream.api.v1.consumer_unpin_response"}
    assert [each["reason"] for each in world.advisories(UNPINNED)] == ["admin"]
    world.fill(1, first=2)
    assert pinned.all() == ["423 Nats-Wrong-Pin-Id; Nats-Pending-Messages: 1; Nats-Pending-Bytes: 0"]
    assert pins(other) not in ([pin], [""])


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, 10025), ({"group": ""}, 10025), ({"group": "a b"}, 10162), ({"group": "B"}, 10160)],
)
def test_unpinning_names_a_group_that_there_is(world: ConsumerWorld, body: dict[str, Any], code: int) -> None:
    grouped(world, "pinned_client")
    assert world.refusal("CONSUMER.UNPIN.S.C", body)[0] == code


def test_unpinning_a_consumer_that_is_not_there_is_refused(world: ConsumerWorld) -> None:
    world.create()
    assert world.refusal("CONSUMER.UNPIN.S.C", {"group": "A"})[0] == 10014
    assert world.refusal("CONSUMER.UNPIN.X.C", {"group": "A"})[0] == 10059


def test_a_client_that_is_gone_before_its_first_message_is_not_pinned(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client")
    world.listen(PINNED)
    gone, there = world.inbox("gone"), world.inbox("there")
    world.pull(gone, batch=1, group="A", expires=60 * S)
    world.pull(there, batch=1, group="A", expires=60 * S)
    gone.close()
    world.fill(1)
    assert there.all() == ["m1"]
    assert len(world.advisories(PINNED)) == 1


def test_a_request_without_a_group_waits_while_somebody_is_pinned(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1)
    pinned, bare = world.inbox("pinned"), world.inbox("bare")
    world.pull(pinned, batch=1, group="A")
    pinned.all()
    world.pull_raw(bare, b"1")
    world.fill(1, first=2)
    assert bare.all() == []


def test_another_policy_forgets_who_was_pinned(world: ConsumerWorld) -> None:
    grouped(world, "pinned_client", 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, group="A")
    world.consumer(priority_policy="overflow", priority_groups=["A"])
    assert pin_of(world) == {"group": "A", "pinned_ts": ZERO_TIME}


# prioritized


def test_a_lower_priority_number_is_served_first(world: ConsumerWorld) -> None:
    grouped(world, "prioritized")
    low, high, plain = world.inbox("low"), world.inbox("high"), world.inbox("plain")
    world.pull_raw(plain, b"1")
    world.pull(low, batch=2, group="A", priority=5)
    world.pull(high, batch=2, group="A", priority=1)
    world.fill(5)
    assert (high.all(), low.all(), plain.all()) == (["m1", "m2"], ["m3", "m4"], ["m5"])


def test_equal_priorities_take_turns(world: ConsumerWorld) -> None:
    grouped(world, "prioritized")
    first, second, last = world.inbox("first"), world.inbox("second"), world.inbox("last")
    world.pull(last, batch=2, group="A", priority=2)
    world.pull(first, batch=2, group="A")
    world.pull(second, batch=2, group="A")
    world.fill(6)
    assert (first.all(), second.all(), last.all()) == (["m1", "m3"], ["m2", "m4"], ["m5", "m6"])


def test_a_policy_that_comes_later_ranks_those_who_wait(world: ConsumerWorld) -> None:
    grouped(world, "overflow")
    low, high = world.inbox("low"), world.inbox("high")
    world.pull(low, batch=1, group="A", priority=5)
    world.pull(high, batch=1, group="A", priority=1)
    world.consumer(priority_policy="prioritized", priority_groups=["A"])
    world.fill(1)
    assert (high.all(), low.all()) == (["m1"], [])
