"""What becomes of delivered messages: acks of every kind, waits, counts, and the end of patience."""

import pytest

from headrace.storage.interface import StorageError
from unit.jetstream_consumers.consumer_world import MS, ConsumerWorld, Inbox, S

NAKED = "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.C"
TERMINATED = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"
EXHAUSTED = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C"


def pulled(world: ConsumerWorld, count: int = 3, **config: object) -> Inbox:
    """A consumer that was given `count` messages, and a pull that waits for more."""
    world.create()
    world.fill(count)
    world.consumer(**config)
    inbox = world.inbox("in")
    world.pull(inbox, batch=100)
    assert len(inbox.numbers()) == count
    return inbox


@pytest.mark.parametrize("payload", [b"", b"+ACK", b"+OK"])
def test_an_ack_has_three_forms(world: ConsumerWorld, payload: bytes) -> None:
    pulled(world)
    world.ack(1, payload=payload)
    assert world.counters()["floor"] == (1, 1)


def test_an_unacked_message_comes_again_with_a_higher_count_and_a_new_consumer_sequence(
    world: ConsumerWorld,
) -> None:
    inbox = pulled(world, ack_wait=2 * S)
    world.ack(2)
    world.advance(1900 * MS)
    assert inbox.numbers() == []
    world.advance(200 * MS)
    assert inbox.numbers() == [(2, 1, 4, 0), (2, 3, 5, 0)]
    assert world.counters() == {
        "delivered": (5, 3),
        "floor": (0, 0),
        "ack_pending": 2,
        "redelivered": 2,
        "pending": 0,
    }


def test_a_redelivery_comes_before_new_messages(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, ack_wait=1 * S, max_ack_pending=1)
    world.fill(1, first=2)
    assert inbox.all() == []
    world.advance(1100 * MS)
    assert inbox.all() == ["m1"]
    world.ack(1)
    assert inbox.all() == ["m2"]


def test_progress_restarts_the_ack_wait(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, ack_wait=2 * S)
    world.advance(1500 * MS)
    world.ack(1, payload=b"+WPI")
    world.advance(1500 * MS)
    assert inbox.all() == []
    world.advance(600 * MS)
    assert inbox.all() == ["m1"]


def test_backoff_spaces_the_deliveries(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, backoff=[300 * MS, 900 * MS], max_deliver=4)
    times: list[int] = []
    for _ in range(300):
        world.advance(10 * MS)
        if inbox.all():
            times.append(round((world.scheduler.monotonic_ns()) / MS / 100))
    assert times == [3, 12, 21]


def test_a_nak_delivers_again_at_once_in_the_order_of_naks(world: ConsumerWorld) -> None:
    inbox = pulled(world)
    told = world.listen(NAKED)
    world.bus.send("$G", b"$JS.ACK.S.C.1.3.3.0.0", b"-NAK")
    world.bus.send("$G", b"$JS.ACK.S.C.1.1.1.0.0", b"-NAK")
    world.bus.turn()
    assert inbox.numbers() == [(2, 3, 4, 0), (2, 1, 5, 0)]
    assert len(told.all()) == 2
    assert (
        world.advisories(NAKED)[0].items()
        >= {
            "type": "io.nats.jetstream.advisory.v1.nak",
            "stream": "S",
            "consumer": "C",
            "consumer_seq": 3,
            "stream_seq": 3,
            "deliveries": 1,
        }.items()
    )


@pytest.mark.parametrize("argument", [b'{"delay": 2000000000}', b"2s", b"2000ms"])
def test_a_nak_may_ask_for_a_delay_in_two_ways(world: ConsumerWorld, argument: bytes) -> None:
    inbox = pulled(world, 1)
    world.ack(1, payload=b"-NAK " + argument)
    world.advance(1900 * MS)
    assert inbox.all() == []
    assert world.counters()["ack_pending"] == 1
    world.advance(200 * MS)
    assert inbox.numbers() == [(2, 1, 2, 0)]


@pytest.mark.parametrize("argument", [b"{", b'{"delay":"x"}', b"soon", b"-2s", b'{"delay":-5}'])
def test_a_delay_that_cannot_be_read_is_none(world: ConsumerWorld, argument: bytes) -> None:
    inbox = pulled(world, 1)
    world.ack(1, payload=b"-NAK " + argument)
    assert inbox.all() == ["m1"]


def test_term_settles_with_a_reason(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, ack_wait=1 * S)
    world.listen(TERMINATED)
    world.ack(1, payload=b"+TERM is broken")
    world.advance(2 * S)
    assert inbox.all() == []
    advisory = world.advisories(TERMINATED)[0]
    assert (advisory["type"], advisory["reason"]) == (
        "io.nats.jetstream.advisory.v1.terminated",
        "is broken",
    )
    assert world.counters()["ack_pending"] == 0


def test_term_without_a_reason_tells_none(world: ConsumerWorld) -> None:
    pulled(world, 1)
    world.listen(TERMINATED)
    world.ack(1, payload=b"+TERM")
    world.ack(1, payload=b"+TERM")
    (advisory,) = world.advisories(TERMINATED)
    assert "reason" not in advisory


def test_after_max_deliver_one_advisory_tells_and_the_message_stays(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, ack_wait=1 * S, max_deliver=2)
    world.listen(EXHAUSTED)
    world.advance(5 * S)
    assert inbox.numbers() == [(2, 1, 2, 0)]
    (advisory,) = world.advisories(EXHAUSTED)
    assert (
        advisory.items()
        >= {
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "stream_seq": 1,
            "deliveries": 2,
        }.items()
    )
    assert world.counters()["ack_pending"] == 0
    assert world.counters()["redelivered"] == 1
    assert world.state()["messages"] == 1


def test_a_nak_of_the_last_delivery_is_the_end_when_a_pull_is_waiting(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, max_deliver=1)
    world.listen(EXHAUSTED)
    world.ack(1, payload=b"-NAK")
    assert inbox.all() == []
    assert len(world.advisories(EXHAUSTED)) == 1
    assert world.counters()["redelivered"] == 0


@pytest.mark.parametrize("payload", [b"", b"-NAK", b"+WPI", b"+TERM", b"junk"])
def test_every_ack_that_asks_is_answered_empty(world: ConsumerWorld, payload: bytes) -> None:
    pulled(world)
    world.answer("$JS.ACK.S.C.1.1.1.0.0", payload, reply=b"ask")
    assert [sent.payload for sent in world.bus.answers(b"ask")] == [b""]


def test_an_ack_of_a_settled_message_is_answered_too(world: ConsumerWorld) -> None:
    pulled(world)
    world.ack(1)
    world.answer("$JS.ACK.S.C.1.1.1.0.0", b"", reply=b"ask")
    assert len(world.bus.answers(b"ask")) == 1


def test_an_ack_of_what_was_not_delivered_is_met_with_silence(world: ConsumerWorld) -> None:
    pulled(world)
    world.answer("$JS.ACK.S.C.1.9.9.0.0", b"", reply=b"ask")
    world.answer("$JS.ACK.S.C.x.y.z.0.0", b"", reply=b"ask")
    assert world.bus.answers(b"ask") == []


def held_world() -> ConsumerWorld:
    """A consumer that was given one message, on a store whose syncs return when the test says so."""
    world = ConsumerWorld(held=True)
    for suffix, body in (
        ("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}),
        ("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"ack_policy": "explicit"}}),
    ):
        world.post(suffix, body)
        world.release()
    world.send("s.a", b"m1")
    world.release()
    world.pull(world.inbox("in"))
    return world


def test_a_confirmation_waits_for_an_earlier_ack_that_went_out_without_a_sync() -> None:
    world = held_world()
    world.ack(1)
    world.advance(100 * MS)
    world.answer("$JS.ACK.S.C.1.1.1.0.0", b"", reply=b"ask")
    assert world.bus.answers(b"ask") == []
    world.release()
    assert len(world.bus.answers(b"ask")) == 1


def test_an_ack_is_not_confirmed_when_its_sync_fails() -> None:
    world = held_world()
    world.answer("$JS.ACK.S.C.1.1.1.0.0", b"", reply=b"ask")
    world.release(StorageError("the disk is gone"))
    assert world.bus.answers(b"ask") == []


def test_a_confirmed_ack_is_answered_only_when_it_is_durable() -> None:
    world = held_world()
    world.answer("$JS.ACK.S.C.1.1.1.0.0", b"", reply=b"ask")
    assert world.bus.answers(b"ask") == []
    world.release()
    assert len(world.bus.answers(b"ask")) == 1


def test_without_acks_nobody_listens_to_ack_subjects(world: ConsumerWorld) -> None:
    pulled(world, ack_policy="none")
    assert not world.bus.is_answered("$G", b"$JS.ACK.S.C.1.1.1.0.0")
    assert world.counters()["floor"] == (3, 3)


def test_an_ack_subject_with_another_number_of_tokens_has_no_listener(world: ConsumerWorld) -> None:
    pulled(world)
    assert world.bus.is_answered("$G", b"$JS.ACK.S.C.1.1.1.0.0")
    assert not world.bus.is_answered("$G", b"$JS.ACK.S.C.1.1.1.0")
    assert not world.bus.is_answered("$G", b"$JS.ACK.S.C.1.1.1.0.0.0")


def test_an_ack_of_all_settles_what_was_before(world: ConsumerWorld) -> None:
    pulled(world, 5, ack_policy="all")
    world.ack(3)
    assert world.counters()["floor"] == (3, 3)
    assert world.counters()["ack_pending"] == 2


def test_a_nak_with_policy_all_brings_only_its_message(world: ConsumerWorld) -> None:
    inbox = pulled(world, 3, ack_policy="all")
    world.ack(2, payload=b"-NAK")
    assert inbox.all() == ["m2"]


def test_a_changed_ack_wait_applies_to_what_is_pending(world: ConsumerWorld) -> None:
    inbox = pulled(world, 1, ack_wait=60 * S)
    world.consumer(ack_wait=1 * S)
    world.advance(1100 * MS)
    assert inbox.all() == ["m1"]


def test_sampled_acks_are_reported_with_their_time(world: ConsumerWorld) -> None:
    pulled(world, 2, sample_freq="100%")
    subject = "$JS.EVENT.METRIC.CONSUMER.ACK.S.C"
    world.listen(subject)
    world.advance(3 * S)
    world.ack(2)
    (metric,) = world.advisories(subject)
    assert (
        metric.items()
        >= {
            "type": "io.nats.jetstream.metric.v1.consumer_ack",
            "stream_seq": 2,
            "consumer_seq": 2,
            "deliveries": 1,
            "ack_time": 3 * S,
        }.items()
    )


def test_a_work_queue_loses_what_is_acked(world: ConsumerWorld) -> None:
    world.create(retention="workqueue")
    world.fill(3)
    world.consumer()
    inbox = world.inbox("in")
    world.pull(inbox, batch=3)
    world.ack(2)
    assert [sequence for sequence, _, _ in world.messages()] == [1, 3]
    world.ack(1, payload=b"+TERM")
    world.ack(3, payload=b"-NAK")
    assert [sequence for sequence, _, _ in world.messages()] == [3]
    assert world.counters()["ack_pending"] == 1


def test_a_stored_state_goes_out_soon_after_a_plain_ack(world: ConsumerWorld) -> None:
    pulled(world)
    world.ack(1)
    world.advance(100 * MS)
    (record,) = world.stream("S").log.consumers().values()
    assert record.register.numbers["floor_stream"] == 1
    assert sorted(record.register.rows) == [2, 3]
