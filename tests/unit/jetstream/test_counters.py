"""A counter stream stores the totals of what its messages add."""

import pytest

from headrace.storage.interface import DiskFull, Entry
from unit.jetstream.world import World


@pytest.fixture
def counting() -> World:
    world = World()
    world.create(allow_msg_counter=True, allow_direct=True)
    return world


def test_increments_are_added_up_by_subject(counting: World) -> None:
    assert counting.publish("s.1", Nats_Incr="5") == {"stream": "S", "seq": 1, "val": "5"}
    assert counting.publish("s.2", Nats_Incr="+7")["val"] == "7"
    assert counting.publish("s.1", Nats_Incr="-8")["val"] == "-3"
    assert counting.messages()[-1] == (3, "s.1", b'{"val":"-3"}')


def test_increments_of_one_batch_see_each_other(counting: World) -> None:
    for _ in range(3):
        counting.queue("s.1", Nats_Incr="1")
    counting.bus.turn()
    assert [payload for _, _, payload in counting.messages()] == [b'{"val":"%d"}' % n for n in (1, 2, 3)]


def test_totals_may_have_more_than_64_bits(counting: World) -> None:
    huge = str(10**100)
    counting.publish("s.1", Nats_Incr=huge)
    assert counting.publish("s.1", Nats_Incr=huge)["val"] == str(2 * 10**100)


def test_totals_go_on_after_a_restart(counting: World) -> None:
    counting.publish("s.1", Nats_Incr="5")
    counting.jetstream.close()
    counting.start()
    assert counting.publish("s.1", Nats_Incr="1")["val"] == "6"


def test_deleting_the_last_message_makes_the_value_before_count(counting: World) -> None:
    counting.publish("s.1", Nats_Incr="5")
    counting.publish("s.1", Nats_Incr="5")
    counting.ask("STREAM.MSG.DELETE.S", {"seq": 2})
    assert counting.publish("s.1", Nats_Incr="1")["val"] == "6"


@pytest.mark.parametrize(
    ("payload", "fields", "code"),
    [
        (b"", {}, 10169),
        (b"", {"Nats_Incr": "x"}, 10171),
        (b"", {"Nats_Incr": "1.5"}, 10171),
        (b"", {"Nats_Incr": "9" * 5000}, 10171),
        (b"x", {"Nats_Incr": "1"}, 10170),
        (b"", {"Nats_Incr": "1", "Nats_Rollup": "sub"}, 10171),
        (b"", {"Nats_Incr": "1", "Nats_Expected_Last_Sequence": "0"}, 10171),
        (b"", {"Nats_Incr": "1", "Nats_Expected_Stream": "S"}, 10171),
    ],
)
def test_what_is_no_increment_is_refused(
    counting: World, payload: bytes, fields: dict[str, str], code: int
) -> None:
    assert counting.publish_error("s.1", payload, **fields)[0] == code
    assert counting.messages() == []


def test_a_subject_whose_last_message_is_no_total_is_broken(counting: World) -> None:
    for payload in (b"x", b"{}", b"[]", b'{"val":5}', b'{"val":"x"}', b"[" * 100_000):
        log = counting.stream("S").log
        log.append([Entry(b"s.1", b"", payload, log.head.last_time_ns + 1)])
        assert counting.publish_error("s.1", Nats_Incr="1") == (10172, "message counter is broken")


def test_a_total_that_grows_too_large_is_refused(counting: World) -> None:
    largest = "9" * 4000
    counting.publish("s.1", Nats_Incr=largest)
    assert counting.publish_error("s.1", Nats_Incr=largest)[0] == 10171


def test_what_could_not_be_written_does_not_count(counting: World) -> None:
    log = counting.stream("S").log
    appended = log.append

    def refuse(*_: object, **__: object) -> int:
        raise DiskFull("no room")

    log.append = refuse  # type: ignore[method-assign]
    counting.queue("s.1", Nats_Incr="5")
    assert counting.publish_error("s.1", Nats_Incr="5")[0] == 10023
    log.append = appended  # type: ignore[method-assign]
    assert counting.publish("s.1", Nats_Incr="1")["val"] == "1"


def test_a_refused_increment_does_not_count(world: World) -> None:
    world.create(allow_msg_counter=True, max_msg_size=50)
    for value in ("1", "9" * 40, "1"):
        world.queue("s.1", Nats_Incr=value)
    world.bus.turn()
    assert [payload for _, _, payload in world.messages()] == [b'{"val":"1"}', b'{"val":"2"}']


def test_a_duplicate_does_not_count(counting: World) -> None:
    counting.publish("s.1", Nats_Incr="5", Nats_Msg_Id="x")
    assert counting.publish("s.1", Nats_Incr="5", Nats_Msg_Id="x")["duplicate"]
    assert counting.publish("s.1", Nats_Incr="1")["val"] == "6"


def test_the_setting_cannot_change(counting: World) -> None:
    refusal = counting.refusal("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"]})
    assert refusal == (10052, "stream configuration update can not change message counter setting")
