"""A stream goes out as chunks and comes back as it was; what is not whole becomes no stream."""

import json
from typing import Any

import pytest

from headrace.core.base.clock import NS_PER_S
from unit.jetstream.bus_of_lists import Subscriber
from unit.jetstream.world import ACCOUNT, World


def _backup(world: World, name: str = "S", **more: object) -> tuple[dict[str, Any], list[bytes]]:
    """Give the answer, and the chunks, all of which were taken at once."""
    if not any(subscriber.subject == b"to.me" for subscriber in world.bus.subscribers):
        world.bus.subscribers.append(Subscriber(ACCOUNT, b"to.me"))
    before = len(world.bus.published)
    answer = world.ask(f"STREAM.SNAPSHOT.{name}", {"deliver_subject": "to.me", **more})
    chunks: list[bytes] = []
    answered = 0
    for _ in range(200):
        world.scheduler.advance(1)
        world.bus.turn()
        sent = [each for each in world.bus.published[before:] if each.subject == b"to.me"]
        for each in sent[answered:]:
            if each.reply:
                world.bus.send(ACCOUNT, each.reply)
        answered = len(sent)
        chunks = [each.payload for each in sent]
        if chunks and not chunks[-1]:
            break
    return answer, chunks


def _restore(world: World, config: object, chunks: list[bytes], name: str = "S") -> dict[str, Any]:
    answer = world.ask(f"STREAM.RESTORE.{name}", {"config": config, "state": {}})
    assert "error" not in answer, answer
    last: dict[str, Any] = {}
    for number, chunk in enumerate(chunks):
        reply = b"restored.%d" % number
        world.bus.send(ACCOUNT, answer["deliver_subject"].encode(), chunk, reply=reply)
        world.bus.turn()
        payload = world.bus.answers(reply)[0].payload
        last = json.loads(payload) if payload else {}
        if last:
            break
    return last


def _filled() -> World:
    world = World()
    world.create(max_msgs=1000)
    for number in range(50):
        world.publish(f"s.{number}", b"x" * 200, Some="header")
    world.ask("STREAM.MSG.DELETE.S", {"seq": 7})
    world.ask("STREAM.MSG.DELETE.S", {"seq": 50})
    config = {"durable_name": "D", "ack_policy": "explicit"}
    world.ask("CONSUMER.DURABLE.CREATE.S.D", {"stream_name": "S", "config": config})
    return world


def test_what_was_backed_up_comes_back_as_it_was() -> None:
    world = _filled()
    messages, state = world.messages(), world.state()
    consumer = world.ask("CONSUMER.INFO.S.D")
    answer, chunks = _backup(world, chunk_size=1024)
    assert len(chunks) > 5
    assert answer["state"]["messages"] == 48
    world.ask("STREAM.DELETE.S")
    restored = _restore(world, answer["config"], chunks)
    assert restored["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert world.messages() == messages
    assert world.state() == state
    again = world.ask("CONSUMER.INFO.S.D")
    assert again["config"] == consumer["config"]
    assert again["num_pending"] == consumer["num_pending"]
    assert world.publish("s.new")["seq"] == 51


@pytest.mark.parametrize("spoil", ["cut", "changed", "empty", "foreign"])
def test_what_is_not_whole_becomes_no_stream(spoil: str) -> None:
    world = _filled()
    answer, chunks = _backup(world, chunk_size=1024)
    world.ask("STREAM.DELETE.S")
    spoiled = {
        "cut": [*chunks[:3], b""],
        "changed": [chunks[0], bytes(len(chunks[1])), *chunks[2:]],
        "empty": [b""],
        "foreign": [b"no snapshot at all", b""],
    }[spoil]
    refusal = _restore(world, answer["config"], spoiled)["error"]
    assert refusal["err_code"] == 10062
    assert spoil != "empty" or refusal["description"] == "restore failed: EOF"
    assert world.refusal("STREAM.INFO.S")[0] == 10059
    assert len(world.store.logs()) == 0


def test_a_restore_that_stops_leaves_nothing() -> None:
    world = _filled()
    answer, chunks = _backup(world, chunk_size=1024)
    world.ask("STREAM.DELETE.S")
    deliver = world.ask("STREAM.RESTORE.S", {"config": answer["config"], "state": {}})["deliver_subject"]
    world.bus.send(ACCOUNT, deliver.encode(), b"".join(chunks[:3]), reply=b"r")
    world.bus.turn()
    assert len(world.store.logs()) == 1
    world.scheduler.advance(6 * NS_PER_S)
    assert len(world.store.logs()) == 0


def test_a_server_that_stops_in_a_restore_starts_without_the_stream() -> None:
    world = _filled()
    answer, chunks = _backup(world, chunk_size=1024)
    world.ask("STREAM.DELETE.S")
    deliver = world.ask("STREAM.RESTORE.S", {"config": answer["config"], "state": {}})["deliver_subject"]
    world.bus.send(ACCOUNT, deliver.encode(), b"".join(chunks[:3]), reply=b"r")
    world.bus.turn()
    world.start()
    assert world.refusal("STREAM.INFO.S")[0] == 10059


def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    world = _filled()
    world.bus.subscribers.append(Subscriber(ACCOUNT, b"to.me"))
    world.ask("STREAM.SNAPSHOT.S", {"deliver_subject": "to.me", "chunk_size": 1024, "window_size": 2048})
    for _ in range(12):
        world.scheduler.advance(NS_PER_S)
        world.bus.turn()
    sent = [each for each in world.bus.published if each.subject == b"to.me"]
    assert len(sent) == 3
    assert sent[-1].headers.startswith(b"NATS/1.0 408 No Flow Response")


def test_requests_that_cannot_be_are_refused() -> None:
    world = _filled()
    assert world.refusal("STREAM.SNAPSHOT.S", {"deliver_subject": "to.*"})[0] == 10015
    assert world.refusal("STREAM.SNAPSHOT.X", {"deliver_subject": "to.me"})[0] == 10059
    assert world.refusal("STREAM.RESTORE.S", {"config": {"name": "S"}, "state": {}})[0] == 10130
    assert world.refusal("STREAM.RESTORE.T", {"config": {"name": "U"}, "state": {}})[0] == 10056
