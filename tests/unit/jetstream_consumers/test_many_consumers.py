"""Many consumers: what they cost while nothing happens, and what is left of those that went."""

import gc

from headrace.jetstream.consumers.consumer import Consumer
from unit.jetstream_consumers.consumer_world import ConsumerWorld, S


def alive() -> int:
    gc.collect()
    return sum(isinstance(each, Consumer) for each in gc.get_objects())


def test_an_idle_durable_consumer_waits_for_no_moment(world: ConsumerWorld) -> None:
    world.create()
    world.fill(3)
    inbox = world.inbox("in")
    for number in range(50):
        world.consumer(f"C{number}")
        world.pull(inbox, f"C{number}", batch=1)
        world.ack(1, name=f"C{number}")
    world.advance(60 * S)
    assert len(world.stream("S").context.deadlines) == 0


def test_of_ephemerals_that_come_and_go_nothing_is_left(world: ConsumerWorld) -> None:
    world.create()
    world.fill(1)
    inbox = world.inbox("in")
    before = (alive(), len(world.bus.captures), len(world.bus.watches))
    for _ in range(20):
        for _ in range(50):
            name = world.ask("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"ack_policy": "explicit"}})[
                "name"
            ]
            world.pull(inbox, name, batch=1)
            world.ack(1, name=name)
        world.scheduler.advance(7 * S)
        world.bus.turn()
        assert not world.stream("S").consumers
    inbox.close()
    assert (alive(), len(world.bus.captures), len(world.bus.watches)) == before
    assert len(world.stream("S").context.deadlines) == 0
