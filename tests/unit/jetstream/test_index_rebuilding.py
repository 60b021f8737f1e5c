"""While a stream's lookup index is rebuilt: what needs it waits, within bounds, and all else goes on."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.storage.interface import IndexRebuilding
from headrace.storage.memory_log import MemoryLog
from unit.jetstream.world import World

ASKING = ("subject", "subjects", "find_message_id", "last_matching", "remove_subjects")


class Gate:
    """Whether the logs of this test know their subjects."""

    def __init__(self) -> None:
        self.is_ready = True
        self.waiting: list[Callable[[], None]] = []

    def open(self) -> None:
        self.is_ready = True
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()

    def guarded(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any, **named: Any) -> Any:
            if not gate.is_ready:
                raise IndexRebuilding(gate.waiting.append)
            return ask(*arguments, **named)

        return asked

    with monkeypatch.context() as patch:
        patch.setattr(MemoryLog, "is_index_ready", property(lambda _: gate.is_ready))
        patch.setattr(MemoryLog, "when_index_ready", lambda _, callback: gate.waiting.append(callback))
        for name in ASKING:
            patch.setattr(MemoryLog, name, guarded(getattr(MemoryLog, name)))
        yield gate


def answer(world: World, reply: bytes) -> dict[str, Any] | None:
    answers = world.bus.answers(reply)
    assert len(answers) <= 1
    return json.loads(answers[0].payload) if answers else None


def test_publishes_that_need_a_lookup_wait_with_all_behind_them_and_go_in_order(
    world: World, gate: Gate
) -> None:
    world.create(max_msgs_per_subject=1)
    world.publish("s.a", b"0")
    gate.is_ready = False
    replies = [world.send("s.a", b"1", Nats_Msg_Id="x"), world.send("s.b", b"2"), world.send("s.a", b"3")]
    assert [answer(world, each) for each in replies] == [None, None, None]
    gate.open()
    world.bus.turn()
    answers = [answer(world, each) for each in replies]
    assert [each["seq"] for each in answers if each is not None] == [2, 3, 4]
    assert world.messages() == [(3, "s.b", b"2"), (4, "s.a", b"3")]


def test_publishes_that_need_no_lookup_do_not_wait(world: World, gate: Gate) -> None:
    world.create()
    gate.is_ready = False
    assert world.publish("s.a")["seq"] == 1


def test_publishes_wait_so_long_and_then_hear_why(world: World, gate: Gate) -> None:
    world.create()
    gate.is_ready = False
    reply = world.send("s.a", Nats_Msg_Id="x")
    world.scheduler.advance(5 * NS_PER_S)
    refused = answer(world, reply)
    assert refused is not None
    assert refused["error"]["description"] == "lookup index is busy"
    assert not world.messages()
    gate.open()
    assert world.publish("s.a", Nats_Msg_Id="x")["seq"] == 1


def test_gets_by_subject_wait_and_gets_by_sequence_do_not(world: World, gate: Gate) -> None:
    world.create(allow_direct=True)
    world.publish("s.a", b"1")
    gate.is_ready = False
    assert "message" in world.ask("STREAM.MSG.GET.S", {"seq": 1})
    assert world.direct("S", {"seq": 1})[0].payload == b"1"
    reply = world.post("STREAM.MSG.GET.S", {"last_by_subj": "s.a"})
    assert not world.direct("S", {"last_by_subj": "s.a"})
    assert answer(world, reply) is None
    gate.open()
    world.bus.turn()
    got = answer(world, reply)
    assert got is not None
    assert got["message"]["seq"] == 1


def test_requests_wait_so_long_and_then_hear_why(world: World, gate: Gate) -> None:
    world.create()
    world.publish("s.a", b"1")
    gate.is_ready = False
    reply = world.post("STREAM.PURGE.S", {"filter": "s.a"})
    world.scheduler.advance(5 * NS_PER_S)
    refused = answer(world, reply)
    assert refused is not None
    assert refused["error"]["description"] == "lookup index is being rebuilt"
    assert len(world.messages()) == 1


def test_an_update_that_waits_is_done_as_a_whole_later(world: World, gate: Gate) -> None:
    world.create()
    for payload in (b"1", b"2", b"3"):
        world.publish("s.a", payload)
    gate.is_ready = False
    reply = world.post("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs_per_subject": 1})
    assert answer(world, reply) is None
    assert len(world.messages()) == 3
    gate.open()
    world.bus.turn()
    assert [payload for _, _, payload in world.messages()] == [b"3"]
