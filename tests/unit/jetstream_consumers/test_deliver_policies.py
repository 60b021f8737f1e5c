"""Where consumers begin."""

import pytest

from unit.jetstream_consumers.consumer_world import ConsumerWorld, S


def filled(world: ConsumerWorld) -> None:
    """Eight messages, a second apart: subjects a, b, c in turn."""
    world.create()
    for number in range(1, 9):
        world.publish("s." + "abc"[number % 3], b"m%d" % number)
        world.advance(1 * S)


def begins(world: ConsumerWorld, **config: object) -> tuple[tuple[int, int], int, list[str]]:
    """Give what a new consumer says of itself, and what it delivers."""
    info = world.consumer(ack_policy="none", **config)
    inbox = world.inbox("in")
    world.pull(inbox, batch=20, no_wait=True)
    delivered = info["delivered"]["stream_seq"], info["ack_floor"]["stream_seq"]
    return delivered, info["num_pending"], [each for each in inbox.all() if each.startswith("m")]


@pytest.mark.parametrize(
    ("config", "delivered", "messages"),
    [
        ({"deliver_policy": "all"}, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"deliver_policy": "undefined"}, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"deliver_policy": "last"}, 7, [8]),
        ({"deliver_policy": "last", "filter_subject": "s.b"}, 6, [7]),
        ({"deliver_policy": "last", "filter_subject": "s.none"}, 0, []),
        ({"deliver_policy": "new"}, 8, []),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 6}, 5, [6, 7, 8]),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 6, "filter_subject": "s.b"}, 5, [7]),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 100}, 99, []),
        ({"deliver_policy": "by_start_time", "opt_start_time": "2023-11-14T22:13:26Z"}, 6, [7, 8]),
        ({"deliver_policy": "by_start_time", "opt_start_time": "2030-11-14T22:13:26Z"}, 8, []),
        ({"deliver_policy": "last_per_subject", "filter_subject": ">"}, 5, [6, 7, 8]),
        ({"deliver_policy": "last_per_subject", "filter_subjects": ["s.a", "s.b"]}, 5, [6, 7]),
    ],
)
def test_a_policy_begins_at_its_message(
    world: ConsumerWorld, config: dict[str, object], delivered: int, messages: list[int]
) -> None:
    filled(world)
    assert begins(world, **config) == (
        (delivered, delivered),
        len(messages),
        [f"m{number}" for number in messages],
    )


@pytest.mark.parametrize("policy", ["all", "last", "new"])
def test_a_stream_that_never_had_messages_begins_at_one(world: ConsumerWorld, policy: str) -> None:
    world.create()
    assert begins(world, deliver_policy=policy) == ((0, 0), 0, [])
    inbox = world.inbox("in.2")
    world.pull(inbox)
    world.fill(1)
    assert inbox.numbers() == [(1, 1, 1, 0)]


def test_a_purged_stream_begins_behind_its_last_message(world: ConsumerWorld) -> None:
    filled(world)
    world.ask("STREAM.PURGE.S")
    assert begins(world, deliver_policy="all") == ((8, 8), 0, [])


def test_the_newest_of_each_subject_is_followed_by_what_comes_later(world: ConsumerWorld) -> None:
    filled(world)
    world.consumer(deliver_policy="last_per_subject", filter_subject="s.>")
    world.publish("s.a", b"m9")
    assert world.counters()["pending"] == 4
    inbox = world.inbox("in")
    world.pull(inbox, batch=2)
    assert inbox.numbers() == [(1, 6, 1, 3), (1, 7, 2, 2)]
    world.pull(inbox, batch=9, no_wait=True)
    assert inbox.numbers() == [(1, 8, 3, 1), (1, 9, 4, 0)]


def test_a_listed_message_that_went_is_neither_counted_nor_delivered(world: ConsumerWorld) -> None:
    filled(world)
    world.consumer(deliver_policy="last_per_subject", filter_subject="s.>")
    world.ask("STREAM.MSG.DELETE.S", {"seq": 7})
    assert world.counters()["pending"] == 2
    inbox = world.inbox("in")
    world.pull(inbox, batch=9, no_wait=True)
    assert inbox.numbers() == [(1, 6, 1, 1), (1, 8, 2, 0)]


def test_a_restart_finds_the_rest_of_the_list_again(world: ConsumerWorld) -> None:
    filled(world)
    world.consumer(deliver_policy="last_per_subject", filter_subject="s.>")
    inbox = world.inbox("in")
    world.pull(inbox)
    world.publish("s.b", b"m9")
    world.restart()
    assert world.counters()["pending"] == 3
    inbox = world.inbox("in")
    world.pull(inbox, batch=9, no_wait=True)
    assert inbox.numbers() == [(1, 7, 2, 2), (1, 8, 3, 1), (1, 9, 4, 0)]


def test_deleted_messages_are_passed_without_using_consumer_sequences(world: ConsumerWorld) -> None:
    filled(world)
    for sequence in (1, 3, 4):
        world.ask("STREAM.MSG.DELETE.S", {"seq": sequence})
    world.consumer()
    inbox = world.inbox("in")
    world.pull(inbox, batch=3)
    assert inbox.numbers() == [(1, 2, 1, 4), (1, 5, 2, 3), (1, 6, 3, 2)]
