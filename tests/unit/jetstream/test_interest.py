"""With interest retention a message stays while a consumer that wants it has not settled it."""

import pytest

from headrace.storage.interface import DiskFull
from unit.jetstream.world import World


@pytest.fixture
def interest() -> World:
    world = World()
    world.create(retention="interest")
    return world


def consumer(world: World, name: str, **config: object) -> None:
    wanted = {"name": name, "durable_name": name, "ack_policy": "explicit", **config}
    answer = world.ask(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": wanted})
    assert "error" not in answer, answer


def fetch(world: World, name: str, count: int) -> list[bytes]:
    """Take messages; give their ack subjects."""
    inbox = world.bus.subscribe("$G", b"inbox")
    world.bus.send(
        "$G",
        b"$JS.API.CONSUMER.MSG.NEXT.S." + name.encode(),
        b'{"batch": %d, "no_wait": true}' % count,
        reply=b"inbox",
    )
    world.bus.turn()
    world.bus.unsubscribe(inbox)
    return [reply for view, reply in inbox.received if reply.startswith(b"$JS.ACK")]


def ack(world: World, *subjects: bytes, said: bytes = b"") -> None:
    for subject in subjects:
        world.bus.send("$G", subject, said)
    world.bus.turn()


def sequences(world: World) -> list[int]:
    return [sequence for sequence, _, _ in world.messages()]


def test_what_nobody_wants_uses_up_a_sequence_and_is_not_stored(interest: World) -> None:
    consumer(interest, "A", filter_subject="s.a")
    acks = [interest.publish(subject)["seq"] for subject in ("s.b", "s.b", "s.a", "s.b")]
    assert acks == [1, 2, 3, 4]
    assert sequences(interest) == [3]
    state = interest.state()
    assert (state["first_seq"], state["last_seq"], state["messages"]) == (3, 4, 1)


def test_one_batch_may_mix_what_is_wanted_and_what_is_not(interest: World) -> None:
    consumer(interest, "A", filter_subject="s.a")
    for subject in ("s.a", "s.b", "s.b", "s.a", "s.b"):
        interest.queue(subject)
    interest.bus.turn()
    assert sequences(interest) == [1, 4]
    assert interest.state()["last_seq"] == 5


def test_an_id_of_what_was_not_stored_is_remembered(interest: World) -> None:
    interest.publish("s.a", Nats_Msg_Id="x")
    answer = interest.publish("s.a", Nats_Msg_Id="x")
    assert answer["duplicate"]
    assert answer["seq"] == 1


def test_a_message_goes_when_the_last_that_wants_it_has_settled_it(interest: World) -> None:
    consumer(interest, "A")
    consumer(interest, "B")
    consumer(interest, "C", filter_subject="s.c")
    interest.publish("s.a")
    ack(interest, *fetch(interest, "A", 1))
    assert sequences(interest) == [1]
    ack(interest, *fetch(interest, "B", 1), said=b"+TERM")
    assert sequences(interest) == []


def test_a_message_that_was_delivered_and_not_acked_stays(interest: World) -> None:
    consumer(interest, "A")
    interest.publish("s.a")
    (reply,) = fetch(interest, "A", 1)
    ack(interest, reply, said=b"-NAK")
    assert sequences(interest) == [1]


def test_an_ack_of_all_before_releases_them_all(interest: World) -> None:
    consumer(interest, "A", ack_policy="all")
    consumer(interest, "B", filter_subject="s.b")
    for subject in ("s.a", "s.b", "s.a"):
        interest.publish(subject)
    ack(interest, fetch(interest, "A", 3)[-1])
    assert sequences(interest) == [2]


def test_a_consumer_without_acks_settles_by_delivery(interest: World) -> None:
    consumer(interest, "A", ack_policy="none")
    interest.publish("s.a")
    fetch_plain = interest.bus.subscribe("$G", b"in2")
    interest.bus.send("$G", b"$JS.API.CONSUMER.MSG.NEXT.S.A", b"1", reply=b"in2")
    interest.bus.turn()
    assert fetch_plain.received
    assert sequences(interest) == []


def test_a_consumer_that_starts_later_does_not_hold_what_it_skips(interest: World) -> None:
    consumer(interest, "A")
    interest.publish("s.a")
    consumer(interest, "B", deliver_policy="new")
    ack(interest, *fetch(interest, "A", 1))
    assert sequences(interest) == []


def test_a_deleted_consumer_releases_what_it_alone_held(interest: World) -> None:
    consumer(interest, "A", filter_subject="s.a")
    consumer(interest, "B", filter_subject="s.b")
    interest.publish("s.a")
    interest.publish("s.b")
    interest.ask("CONSUMER.DELETE.S.A")
    assert sequences(interest) == [2]
    interest.ask("CONSUMER.DELETE.S.B")
    assert sequences(interest) == []


def test_another_filter_releases_what_it_no_longer_means(interest: World) -> None:
    consumer(interest, "A", filter_subject="s.>")
    interest.publish("s.a")
    interest.publish("s.b")
    consumer(interest, "A", filter_subject="s.b")
    assert sequences(interest) == [2]


def test_a_message_given_up_after_max_deliver_stays(interest: World) -> None:
    consumer(interest, "A", max_deliver=1)
    interest.publish("s.a")
    (reply,) = fetch(interest, "A", 1)
    ack(interest, reply, said=b"-NAK")
    assert fetch(interest, "A", 1) == []
    assert sequences(interest) == [1]


def test_what_was_settled_but_not_removed_goes_after_a_restart(interest: World) -> None:
    consumer(interest, "A")
    interest.publish("s.a")
    interest.publish("s.a")
    replies = fetch(interest, "A", 2)
    log = interest.stream("S").log
    removed, log.remove = log.remove, _refuse_to_remove  # type: ignore[method-assign,assignment]
    ack(interest, replies[0])
    log.remove = removed  # type: ignore[method-assign]
    assert sequences(interest) == [1, 2]
    interest.jetstream.close()
    interest.start()
    interest.bus.turn()
    assert sequences(interest) == [2]


def _refuse_to_remove(*_: object, **__: object) -> int:
    raise DiskFull("no room")


def test_limits_still_hold() -> None:
    world = World()
    world.create(retention="interest", max_msgs=2)
    consumer(world, "A")
    for _ in range(3):
        world.publish("s.a")
    assert sequences(world) == [2, 3]


def test_a_change_to_interest_removes_what_nobody_wants(world: World) -> None:
    world.create()
    world.publish("s.a")
    world.publish("s.b")
    consumer(world, "A", filter_subject="s.b")
    world.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "retention": "interest"})
    assert sequences(world) == [2]


def test_what_could_not_be_skipped_is_refused(interest: World) -> None:
    log = interest.stream("S").log

    def refuse(*_: object) -> None:
        raise DiskFull("no room")

    log.skip = refuse  # type: ignore[method-assign]
    interest.queue("s.a")
    assert interest.publish_error("s.a")[0] == 10023
    assert interest.state()["last_seq"] == 0
