"""Stored messages are read, deleted and purged over the API."""

import base64

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.models.times import encode_time
from unit.jetstream.world import World, data


@pytest.fixture
def filled() -> World:
    """Give a stream with messages 1 to 6 on s.a, s.b, s.a, s.b, s.a, s.b, one a second."""
    world = World()
    world.create(allow_direct=True)
    for number in range(1, 7):
        world.publish("s.a" if number % 2 else "s.b", b"m%d" % number)
        world.scheduler.advance(NS_PER_S)
    return world


@pytest.mark.parametrize(
    ("body", "sequence"),
    [
        ({"seq": 3}, 3),
        ({"last_by_subj": "s.a"}, 5),
        ({"last_by_subj": "s.*"}, 6),
        ({"next_by_subj": "s.b"}, 2),
        ({"next_by_subj": "s.b", "seq": 3}, 4),
        ({"next_by_subj": ">", "seq": 3}, 3),
    ],
)
def test_a_message_is_found_in_each_of_the_documented_ways(
    filled: World, body: dict[str, object], sequence: int
) -> None:
    message = filled.ask("STREAM.MSG.GET.S", body)["message"]
    assert message["seq"] == sequence
    assert data(message) == b"m%d" % sequence


def test_a_message_is_found_by_time(filled: World) -> None:
    start = encode_time(filled.scheduler.now_ns() - 3 * NS_PER_S)
    assert filled.ask("STREAM.MSG.GET.S", {"start_time": start})["message"]["seq"] == 4
    body = {"start_time": start, "next_by_subj": "s.a"}
    assert filled.ask("STREAM.MSG.GET.S", body)["message"]["seq"] == 5


@pytest.mark.parametrize(
    "body",
    [
        {"seq": 1, "last_by_subj": "s.a"},
        {"no_hdr": True},
        {"seq": 1, "start_time": "2026-01-01T00:00:00Z"},
        {"start_time": "2026-01-01T00:00:00Z", "last_by_subj": "s.a"},
        {"last_by_subj": "s.a", "next_by_subj": "s.a"},
        {"seq": 1, "batch": 2},
        {"seq": 1, "max_bytes": 2},
    ],
)
def test_combinations_without_a_meaning_are_refused(filled: World, body: dict[str, object]) -> None:
    assert filled.refusal("STREAM.MSG.GET.S", body) == (10003, "bad request")


@pytest.mark.parametrize(
    "body",
    [
        {"seq": 7},
        {"seq": 2**64 - 1},
        {"last_by_subj": "t"},
        {"last_by_subj": "s..x"},
        {"next_by_subj": "s.a", "seq": 6},
        {"start_time": "2099-01-01T00:00:00Z"},
    ],
)
def test_what_is_not_there_is_not_found(filled: World, body: dict[str, object]) -> None:
    assert filled.refusal("STREAM.MSG.GET.S", body) == (10037, "no message found")


def test_a_time_that_is_none_is_refused(filled: World) -> None:
    assert filled.refusal("STREAM.MSG.GET.S", {"start_time": "soon"})[0] == 10025


def test_headers_come_whole_and_may_be_left_out(filled: World) -> None:
    filled.publish("s.c", Key="value")
    message = filled.ask("STREAM.MSG.GET.S", {"seq": 7})["message"]
    assert base64.b64decode(message["hdrs"]) == b"NATS/1.0\r\nKey: value\r\n\r\n"
    assert "data" not in message
    assert "hdrs" not in filled.ask("STREAM.MSG.GET.S", {"seq": 7, "no_hdr": True})["message"]


def test_a_deleted_message_is_gone_and_the_first_one_moves_on(filled: World) -> None:
    assert filled.ask("STREAM.MSG.DELETE.S", {"seq": 3})["success"] is True
    assert filled.ask("STREAM.MSG.DELETE.S", {"seq": 1, "no_erase": True})["success"] is True
    state = filled.state()
    assert (state["messages"], state["first_seq"], state["num_deleted"], state["deleted"]) == (4, 2, 1, [3])
    assert filled.refusal("STREAM.MSG.DELETE.S", {"seq": 3}) == (10043, "sequence 3 not found")
    assert filled.refusal("STREAM.MSG.DELETE.S", {"seq": 1}) == (10057, "no message found")
    assert filled.refusal("STREAM.MSG.DELETE.S", {"seq": 7}) == (10057, "stream store EOF")


@pytest.mark.parametrize("sequence", [0, 1, 3, 7])
def test_a_message_that_a_stream_in_memory_has_not_is_not_found_wherever_it_would_be(
    world: World, sequence: int
) -> None:
    world.create(storage="memory")
    for number in range(1, 7):
        world.publish(f"s.{number}")
    for gone in (1, 3):
        world.ask("STREAM.MSG.DELETE.S", {"seq": gone})
    refusal = world.refusal("STREAM.MSG.DELETE.S", {"seq": sequence})
    assert refusal == (10043, f"sequence {sequence} not found")


def test_deleting_the_last_message_keeps_its_sequence_used(filled: World) -> None:
    filled.ask("STREAM.MSG.DELETE.S", {"seq": 6})
    assert filled.state()["last_seq"] == 6
    assert filled.publish("s.a")["seq"] == 7


def test_deletes_and_purges_may_be_denied(world: World) -> None:
    world.create(deny_delete=True, deny_purge=True)
    world.publish("s.1")
    assert world.refusal("STREAM.MSG.DELETE.S", {"seq": 1}) == (10057, "message delete not permitted")
    assert world.refusal("STREAM.PURGE.S") == (10110, "stream purge not permitted")


@pytest.mark.parametrize(
    ("body", "purged", "left"),
    [
        (b"", 6, []),
        ({"seq": 1}, 0, [1, 2, 3, 4, 5, 6]),
        ({"seq": 4}, 3, [4, 5, 6]),
        ({"keep": 2}, 4, [5, 6]),
        ({"keep": 10}, 0, [1, 2, 3, 4, 5, 6]),
        ({"filter": "s.a"}, 3, [2, 4, 6]),
        ({"filter": "s.*", "keep": 1}, 5, [6]),
        ({"filter": "s.b", "seq": 5}, 2, [1, 3, 5, 6]),
        ({"filter": ">"}, 6, []),
        ({"filter": "t"}, 0, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_purge_removes_what_it_says(filled: World, body: object, purged: int, left: list[int]) -> None:
    answer = filled.ask("STREAM.PURGE.S", body)
    assert (answer["success"], answer["purged"]) == (True, purged)
    assert [sequence for sequence, _, _ in filled.messages()] == left


def test_after_a_full_purge_sequences_go_on(filled: World) -> None:
    filled.ask("STREAM.PURGE.S")
    state = filled.state()
    assert (state["first_seq"], state["last_seq"], state["bytes"]) == (7, 6, 0)
    assert state["first_ts"] == "0001-01-01T00:00:00Z"
    assert state["last_ts"] != "0001-01-01T00:00:00Z"
    assert filled.publish("s.a")["seq"] == 7


def test_a_purge_ahead_uses_up_the_sequences(filled: World) -> None:
    assert filled.ask("STREAM.PURGE.S", {"seq": 100})["purged"] == 6
    state = filled.state()
    assert (state["first_seq"], state["last_seq"]) == (100, 99)
    assert filled.publish("s.a")["seq"] == 100


def test_a_purge_with_sequence_and_keep_is_refused(filled: World) -> None:
    assert filled.refusal("STREAM.PURGE.S", {"seq": 1, "keep": 1}) == (10003, "bad request")


def test_keeping_the_newest_counts_over_gaps(filled: World) -> None:
    filled.ask("STREAM.MSG.DELETE.S", {"seq": 4})
    assert filled.ask("STREAM.PURGE.S", {"keep": 3})["purged"] == 2
    assert [sequence for sequence, _, _ in filled.messages()] == [3, 5, 6]


def test_the_first_sequence_may_be_chosen(world: World) -> None:
    world.create(first_seq=1000)
    state = world.state()
    assert (state["first_seq"], state["last_seq"]) == (1000, 999)
    assert world.publish("s.1")["seq"] == 1000
