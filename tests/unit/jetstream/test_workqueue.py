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
