"""The load generator's checks: nothing lost or wrong goes by, and a PING disturbs nothing."""

import pytest

from headrace.tools.bench.wire import PING, AnswerCounter, BenchError, Pattern
from headrace.tools.bench.workers import DELIVERED, delivered, published, subject_names

PERIOD = b"MSG a.0 1 3\r\nxyz\r\nMSG a.1 1 3\r\nxyz\r\n"
ACKS = b"MSG _INBOX.p.1 1 5\r\n{...}\r\nMSG _INBOX.p.2 1 5\r\n{...}\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_repeating_stream_is_accepted_however_it_is_cut(step: int) -> None:
    text = PERIOD * 20
    pattern = Pattern(PERIOD)
    for at in range(0, len(text), step):
        pattern.feed(text[at : at + step])
    assert pattern.size == len(text)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_a_ping_between_messages_is_left_out_however_it_is_cut(step: int) -> None:
    frame = len(PERIOD) // 2
    text = PERIOD + PERIOD[:frame] + PING + PERIOD[frame:] + PING
    pattern = Pattern(PERIOD)
    for at in range(0, len(text), step):
        pattern.feed(text[at : at + step])
    assert pattern.size == 2 * len(PERIOD)


def test_one_wrong_byte_is_found() -> None:
    pattern = Pattern(PERIOD)
    with pytest.raises(BenchError, match="expected"):
        pattern.feed((PERIOD * 3).replace(b"xyz", b"xYz", 1))


def test_a_lost_message_is_found() -> None:
    pattern = Pattern(PERIOD)
    with pytest.raises(BenchError):
        pattern.feed(PERIOD + PERIOD[len(PERIOD) // 2 :] + PERIOD)


@pytest.mark.parametrize("step", [1, 2, 5, 6, 11, 1000])
def test_answers_are_counted_by_their_lines_and_pings_are_not(step: int) -> None:
    text = ACKS + PING + ACKS + ACKS + PING
    counter = AnswerCounter()
    for at in range(0, len(text), step):
        counter.feed(text[at : at + step])
    assert counter.count == 6


def test_half_an_answer_does_not_count() -> None:
    counter = AnswerCounter()
    counter.feed(ACKS[:-1])
    assert counter.count == 1


def test_an_error_among_the_answers_voids_the_measurement() -> None:
    with pytest.raises(BenchError, match="refuses"):
        AnswerCounter().feed(b'MSG i 1 9\r\n{"error":{}}\r\n')


def test_all_messages_of_a_load_have_the_same_size() -> None:
    names = subject_names("bench", 1000)
    assert len(set(names)) == 1000
    assert len({len(published([name], b"x")) for name in names}) == 1
    assert subject_names("bench", 1) == ["bench"]


def test_what_is_delivered_repeats_what_was_published() -> None:
    assert published(["a"], b"xyz") == b"PUB a 3\r\nxyz\r\n"
    assert delivered(["a"], b"xyz") == b"MSG a 1 3\r\nxyz\r\n"
    headers = b"NATS/1.0\r\n\r\n"
    assert published(["a"], b"x", headers) == b"HPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n"
    assert delivered(["a"], b"x", headers) == b"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n"


def test_a_redelivered_message_is_none_of_a_first_delivery() -> None:
    assert DELIVERED.fullmatch(b"MSG s 1 $JS.ACK.S.C.1.7.9.1795446701648646060.0 128\r\n")
    assert not DELIVERED.search(b"MSG s 1 $JS.ACK.S.C.2.7.9.1795446701648646060.0 128\r\n")
