"""On a workqueue a message goes when it was acknowledged, once and for good."""

from headrace.core.base.message import View
from unit.jetstream.world import ACCOUNT, World


def worker(world: World, name: str, filter_subject: str) -> None:
    config = {"durable_name": name, "ack_policy": "explicit", "filter_subject": filter_subject}
    answer = world.ask(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": config})
    assert "error" not in answer, answer


def fetch(world: World, name: str, count: int) -> list[tuple[View, bytes]]:
    inbox = world.bus.subscribe(ACCOUNT, b"pull.%b" % name.encode())
    subject = f"$JS.API.CONSUMER.MSG.NEXT.S.{name}".encode()
    body = b'{"batch":%d,"no_wait":true}' % count
    world.bus.send(ACCOUNT, subject, body, reply=inbox.subject)
    world.bus.turn()
    world.bus.unsubscribe(inbox)
    return [(view, reply) for view, reply in inbox.received if reply]


def ack(world: World, reply: bytes) -> None:
    world.bus.send(ACCOUNT, reply, b"+ACK")
    world.bus.turn()


def test_an_acknowledged_message_goes(world: World) -> None:
    world.create(retention="workqueue")
    for _ in range(3):
        world.publish("s.a")
    worker(world, "A", "s.a")
    for _, reply in fetch(world, "A", 2):
        ack(world, reply)
    state = world.state()
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (1, 3, 3)
    assert world.ask("INFO")["storage"] == state["bytes"]


def test_messages_of_other_workers_stay_over_a_restart(world: World) -> None:
    world.create(retention="workqueue")
    worker(world, "A", "s.a")
    worker(world, "B", "s.b")
    for subject in ("s.b", "s.a", "s.b", "s.a"):
        world.publish(subject)
    for _, reply in fetch(world, "A", 2):
        ack(world, reply)
    world.scheduler.advance(10**9)
    assert [sequence for sequence, _, _ in world.messages()] == [1, 3]
    world.jetstream.close()
    world.start()
    world.bus.turn()
    assert [sequence for sequence, _, _ in world.messages()] == [1, 3]
    assert [view.sequence for view, _ in fetch(world, "B", 2)] == [1, 3]


def test_a_stream_of_limits_keeps_what_was_acknowledged(world: World) -> None:
    world.create()
    world.publish("s.a")
    worker(world, "A", "s.a")
    for _, reply in fetch(world, "A", 1):
        ack(world, reply)
    assert world.state()["messages"] == 1


def test_a_message_given_up_at_max_deliver_is_left_for_the_next_worker(world: World) -> None:
    world.create(retention="workqueue")
    config = {"durable_name": "A", "ack_policy": "explicit", "max_deliver": 1, "ack_wait": 10**9}
    world.ask("CONSUMER.CREATE.S.A", {"stream_name": "S", "config": config})
    world.publish("s.a")
    assert len(fetch(world, "A", 1)) == 1
    world.scheduler.advance(5 * 10**9)
    world.bus.turn()
    assert world.state()["messages"] == 1
    world.jetstream.close()
    world.start()
    world.bus.turn()
    world.scheduler.advance(10**9)
    assert world.state()["messages"] == 1
    assert world.ask("CONSUMER.DELETE.S.A")["success"]
    worker(world, "B", "s.a")
    assert [view.sequence for view, _ in fetch(world, "B", 1)] == [1]


def test_deleting_an_ephemeral_with_pending_messages_loses_none(world: World) -> None:
    world.create(retention="workqueue")
    for _ in range(3):
        world.publish("s.a")
    config = {"name": "E", "ack_policy": "explicit", "inactive_threshold": 60 * 10**9}
    world.ask("CONSUMER.CREATE.S.E", {"stream_name": "S", "config": config})
    delivered = fetch(world, "E", 3)
    ack(world, delivered[1][1])
    assert world.ask("CONSUMER.DELETE.S.E")["success"]
    assert [sequence for sequence, _, _ in world.messages()] == [1, 3]
    worker(world, "B", "s.a")
    assert [view.sequence for view, _ in fetch(world, "B", 3)] == [1, 3]
