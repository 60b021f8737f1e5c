"""Direct gets give stored messages as they are, alone and in batches."""

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.streams import direct_get
from unit.jetstream.world import ACCOUNT, World, block


@pytest.fixture
def filled() -> World:
    """Give a stream with messages 1 to 6 on s.a, s.b, s.a, s.b, s.a, s.b, one a second."""
    world = World()
    world.create(allow_direct=True)
    for number in range(1, 7):
        world.publish("s.a" if number % 2 else "s.b", b"m%d" % number)
        world.scheduler.advance(NS_PER_S)
    return world


def fields(headers: bytes) -> dict[str, str]:
    lines = headers.decode().split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines)


def test_an_answer_shows_the_message_and_where_it_is_from(world: World) -> None:
    world.create(allow_direct=True)
    world.publish("s.1", b"body", K="v")
    (answer,) = world.direct("S", {"seq": 1})
    time = encode_time(world.scheduler.now_ns())
    assert answer.headers == (
        b"NATS/1.0\r\nK: v\r\nNats-Stream: S\r\nNats-Subject: s.1\r\nNats-Sequence: 1\r\n"
        b"Nats-Time-Stamp: " + time.encode() + b"\r\n\r\n"
    )
    assert answer.payload == b"body"


def test_headers_may_be_left_out(filled: World) -> None:
    (answer,) = filled.direct("S", {"seq": 1, "no_hdr": True})
    assert (answer.headers, answer.payload) == (b"", b"m1")


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ({"seq": 2}, b"m2"),
        ({"last_by_subj": "s.a"}, b"m5"),
        ({"last_by_subj": "s.>"}, b"m6"),
        ({"next_by_subj": "s.b", "seq": 3}, b"m4"),
        ({"next_by_subj": "s.b"}, b"m2"),
    ],
)
def test_one_message_is_found(filled: World, body: dict[str, object], payload: bytes) -> None:
    assert [answer.payload for answer in filled.direct("S", body)] == [payload]


def test_the_subject_may_stand_in_the_request_s_subject(filled: World) -> None:
    assert filled.direct("S.s.a")[0].payload == b"m5"
    assert filled.direct("S.s.a", {"no_hdr": True})[0].headers == b""
    assert filled.status("S.t") == b"404 Message Not Found"
    assert filled.status("S.s.a", {"seq": 1}) == b"408 Bad Request"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", b"408 Empty Request"),
        (b"{}", b"408 Empty Request"),
        ({"no_hdr": True}, b"408 Empty Request"),
        (b"{", b"408 Malformed Request"),
        (b"[]", b"408 Malformed Request"),
        (b"\xff", b"408 Malformed Request"),
        ({"start_time": "soon"}, b"408 Malformed Request"),
        ({"seq": 1, "last_by_subj": "s.a"}, b"408 Bad Request"),
        ({"seq": 1, "start_time": "2026-01-01T00:00:00Z"}, b"408 Bad Request"),
        ({"last_by_subj": "s.a", "next_by_subj": "s.a"}, b"408 Bad Request"),
        ({"last_by_subj": "s.a", "batch": 2}, b"408 Bad Request"),
        ({"last_by_subj": "s.a", "multi_last": ["s.a"]}, b"408 Bad Request"),
        ({"next_by_subj": "s.a", "multi_last": ["s.a"]}, b"408 Bad Request"),
        (
            {"multi_last": ["s.a"], "up_to_seq": 1, "up_to_time": "2026-01-01T00:00:00Z"},
            b"408 Bad Request",
        ),
        ({"seq": 7}, b"404 Message Not Found"),
        ({"seq": 7, "batch": 3}, b"404 Message Not Found"),
        ({"last_by_subj": "t"}, b"404 Message Not Found"),
        ({"multi_last": ["t"]}, b"404 No Results"),
        ({"multi_last": ["s.a"], "up_to_time": "2001-01-01T00:00:00Z"}, b"404 No Results"),
    ],
)
def test_a_request_without_a_result_gets_the_documented_status(
    filled: World, body: object, status: bytes
) -> None:
    assert filled.status("S", body) == status


def test_an_api_level_that_is_not_ours_gets_a_status(filled: World) -> None:
    headers = block(Nats_Required_Api_Level="6")
    assert filled.status("S", {"seq": 1}, headers=headers) == b"412 Required Api Level"


def test_unknown_fields_are_ignored_here(filled: World) -> None:
    assert filled.direct("S", {"seq": 1, "bogus": 2})[0].payload == b"m1"


def test_a_batch_counts_down_and_ends_with_a_mark(filled: World) -> None:
    *answers, end = filled.direct("S", {"seq": 2, "batch": 2})
    assert [answer.payload for answer in answers] == [b"m2", b"m3"]
    places = [fields(answer.headers) for answer in answers]
    assert [(place["Nats-Num-Pending"], place["Nats-Last-Sequence"]) for place in places] == [
        ("4", "0"),
        ("3", "2"),
    ]
    assert end.headers == b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 3\r\n\r\n"


def test_a_batch_of_a_subject_steps_over_the_others(filled: World) -> None:
    *answers, end = filled.direct("S", {"next_by_subj": "s.b", "seq": 3, "batch": 10})
    assert [answer.payload for answer in answers] == [b"m4", b"m6"]
    assert fields(end.headers) == {"Nats-Num-Pending": "0", "Nats-Last-Sequence": "6"}


def test_a_batch_of_one_ends_with_a_mark_too(filled: World) -> None:
    assert len(filled.direct("S", {"seq": 1, "batch": 1})) == 2


def test_the_message_that_crosses_the_size_limit_is_the_last(filled: World) -> None:
    *answers, end = filled.direct("S", {"seq": 1, "batch": 10, "max_bytes": 6})
    assert len(answers) == 2
    assert fields(end.headers)["Nats-Num-Pending"] == "4"


def test_the_last_message_of_each_of_many_subjects(filled: World) -> None:
    *answers, end = filled.direct("S", {"multi_last": ["s.*"]})
    assert [answer.payload for answer in answers] == [b"m5", b"m6"]
    assert fields(end.headers) == {
        "Nats-Num-Pending": "0",
        "Nats-Last-Sequence": "6",
        "Nats-UpTo-Sequence": "6",
    }


def test_the_last_messages_as_they_were_at_a_sequence_or_a_time(filled: World) -> None:
    *answers, end = filled.direct("S", {"multi_last": ["s.a", "s.b"], "up_to_seq": 3})
    assert [answer.payload for answer in answers] == [b"m2", b"m3"]
    assert fields(end.headers)["Nats-UpTo-Sequence"] == "3"
    moment = encode_time(filled.scheduler.now_ns() - 3 * NS_PER_S)
    *answers, end = filled.direct("S", {"multi_last": ["s.>"], "up_to_time": moment})
    assert [answer.payload for answer in answers] == [b"m2", b"m3"]


def test_many_subjects_are_given_in_pages(filled: World) -> None:
    first, end = filled.direct("S", {"multi_last": ["s.>"], "batch": 1})
    assert first.payload == b"m5"
    assert fields(end.headers)["Nats-Num-Pending"] == "1"
    second, _ = filled.direct("S", {"multi_last": ["s.>"], "batch": 1, "seq": 6, "up_to_seq": 6})
    assert second.payload == b"m6"


def test_too_many_subjects_are_refused(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_get, "SUBJECTS_MAX", 1)
    assert filled.status("S", {"multi_last": ["s.>"]}) == b"413 Too Many Results"


def test_a_request_without_reply_is_not_answered(filled: World) -> None:
    filled.bus.published.clear()
    filled.bus.send(ACCOUNT, b"$JS.API.DIRECT.GET.S", b'{"seq":1}')
    filled.bus.turn()
    assert filled.bus.published == []


def test_direct_gets_come_and_go_with_the_setting(filled: World) -> None:
    filled.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"]})
    assert not filled.bus.is_answered(ACCOUNT, b"$JS.API.DIRECT.GET.S")
    filled.ask("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True})
    assert filled.bus.is_answered(ACCOUNT, b"$JS.API.DIRECT.GET.S.s.a")


def test_direct_gets_are_not_counted(filled: World) -> None:
    before = filled.ask("INFO")["api"]["total"]
    filled.direct("S", {"seq": 1})
    filled.status("S", b"")
    assert filled.ask("INFO")["api"]["total"] == before + 1


def test_a_read_waits_for_what_it_shows_to_be_durable() -> None:
    world = World(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True})
    world.release()
    world.send("s.1", b"x")
    assert world.direct("S", {"seq": 1}) == []
    published = world.bus.published
    world.release()
    assert [sent.payload for sent in published if b"Nats-Stream" in sent.headers] == [b"x"]


def test_answers_that_wait_are_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_get, "WAITING_SIZE_MAX", 1000)
    world = World(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True})
    world.release()
    world.send("s.1", b"x" * 600)
    world.bus.published.clear()
    for _ in range(3):
        assert world.direct("S", {"seq": 1}) == []
    world.release()
    lines = [sent.headers.split(b"\r\n")[0] for sent in world.bus.published if sent.headers]
    assert sorted(lines) == [b"NATS/1.0", *[b"NATS/1.0 429 Too Many Requests"] * 2]
    world.send("s.1")
    world.direct("S", {"seq": 1})
    world.release()
    assert b"Nats-Stream: S" in world.bus.published[-1].headers
