"""Messages with a TTL of their own end in time, before or after their stream's age limit."""

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.models.ttl import FOREVER, parse_ttl
from headrace.storage.interface import DiskFull
from unit.jetstream.world import World


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", 1),
        (b"1s", 1),
        (b"1.9s", 1),
        (b"1h30m", 5400),
        (b"NEVER", FOREVER),
        (b"0", None),
        (b"-1", None),
        (b"999ms", None),
        (b"soon", None),
        (b"", None),
        (b"\xff", None),
        (b"9" * 40, None),
        (b"1" * 100, None),
        ("\u0661".encode(), None),
    ],
)
def test_a_ttl_is_whole_seconds_a_duration_or_never(value: bytes, seconds: int | None) -> None:
    assert parse_ttl(value) == seconds


@pytest.fixture
def ttl() -> World:
    world = World()
    world.create(allow_msg_ttl=True)
    return world


def test_the_level_that_ttls_need_is_stored(ttl: World) -> None:
    assert ttl.ask("STREAM.INFO.S")["config"]["metadata"]["_nats.req.level"] == "1"


def test_a_message_ends_when_its_ttl_is_over(ttl: World) -> None:
    ttl.publish("s.1", Nats_TTL="10")
    ttl.publish("s.2", Nats_TTL="5s")
    ttl.publish("s.3")
    ttl.scheduler.advance(5 * NS_PER_S - 1)
    assert ttl.state()["messages"] == 3
    ttl.scheduler.advance(1)
    assert [subject for _, subject, _ in ttl.messages()] == ["s.1", "s.3"]
    ttl.scheduler.advance(5 * NS_PER_S)
    assert [subject for _, subject, _ in ttl.messages()] == ["s.3"]


def test_a_ttl_that_is_none_is_refused(ttl: World) -> None:
    for value in ("0", "100ms", "x"):
        assert ttl.publish_error("s.1", Nats_TTL=value) == (10165, "invalid per-message TTL")


def test_ttls_go_on_over_a_restart_from_when_the_message_was_stored(ttl: World) -> None:
    ttl.publish("s.1", Nats_TTL="10")
    ttl.publish("s.2", Nats_TTL="20")
    ttl.scheduler.advance(5 * NS_PER_S)
    ttl.jetstream.close()
    ttl.scheduler.advance(6 * NS_PER_S)
    ttl.start()
    ttl.bus.turn()
    ttl.scheduler.advance(0)
    assert [subject for _, subject, _ in ttl.messages()] == ["s.2"]
    ttl.scheduler.advance(9 * NS_PER_S)
    assert ttl.messages() == []


def test_whichever_of_ttl_and_age_limit_is_first_counts() -> None:
    world = World()
    world.create(allow_msg_ttl=True, max_age=10 * NS_PER_S)
    world.publish("s.1", Nats_TTL="20")
    world.publish("s.2", Nats_TTL="5")
    world.scheduler.advance(5 * NS_PER_S)
    assert [subject for _, subject, _ in world.messages()] == ["s.1"]
    world.scheduler.advance(5 * NS_PER_S)
    assert world.messages() == []


def test_never_exempts_from_the_age_limit_now_and_after_a_restart() -> None:
    world = World()
    world.create(allow_msg_ttl=True, max_age=10 * NS_PER_S)
    for name in ("s.1", "s.2", "s.3"):
        world.publish(name)
        world.publish(name + ".kept", Nats_TTL="never")
        world.scheduler.advance(NS_PER_S)
    world.scheduler.advance(8 * NS_PER_S)
    assert [sequence for sequence, _, _ in world.messages()] == [2, 4, 5, 6]
    world.jetstream.close()
    world.scheduler.advance(30 * NS_PER_S)
    world.start()
    world.publish("s.4")
    assert [sequence for sequence, _, _ in world.messages()] == [2, 4, 6, 7]
    world.scheduler.advance(10 * NS_PER_S)
    assert [sequence for sequence, _, _ in world.messages()] == [2, 4, 6]


def test_a_message_that_went_otherwise_does_not_end_again(ttl: World) -> None:
    ttl.publish("s.1", Nats_TTL="5")
    ttl.ask("STREAM.PURGE.S")
    ttl.publish("s.1")
    ttl.scheduler.advance(10 * NS_PER_S)
    assert [sequence for sequence, _, _ in ttl.messages()] == [2]


def test_a_message_that_was_not_stored_does_not_end(ttl: World) -> None:
    ttl.store.refuse(DiskFull("no space"))
    assert ttl.publish_error("s.1", Nats_TTL="5")[0] == 10023
    ttl.store.refuse(None)
    ttl.publish("s.1")
    ttl.scheduler.advance(10 * NS_PER_S)
    assert ttl.state()["messages"] == 1


def test_an_end_that_the_store_refuses_is_tried_again(ttl: World) -> None:
    ttl.publish("s.1", Nats_TTL="5")
    ttl.store.refuse(DiskFull("no space"))
    ttl.scheduler.advance(5 * NS_PER_S)
    assert len(ttl.messages()) == 1
    ttl.store.refuse(None)
    ttl.scheduler.advance(NS_PER_S)
    assert ttl.messages() == []
