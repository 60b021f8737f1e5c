"""Header blocks: reading what clients send, and writing our own."""

import pytest

from headrace.core import headers


def test_a_block_keeps_order_and_duplicates() -> None:
    parsed = headers.parse(b"NATS/1.0\r\nA: 1\r\nB:2\r\nA:  3 \r\n\r\n")
    assert parsed is not None
    assert parsed.fields == ((b"A", b"1"), (b"B", b"2"), (b"A", b"3"))
    assert parsed.all(b"A") == [b"1", b"3"]
    assert parsed.get(b"A") == b"1"
    assert parsed.get(b"a") is None


def test_the_first_line_may_carry_a_status_and_its_description() -> None:
    parsed = headers.parse(b"NATS/1.0 408 Request Timeout\r\nX: y\r\n\r\n")
    assert parsed is not None
    assert (parsed.status, parsed.description) == (408, b"Request Timeout")


def test_an_empty_block_has_no_headers_and_garbage_is_no_block() -> None:
    assert headers.parse(b"") == headers.NO_HEADERS
    assert headers.parse(b"HTTP/1.1 200\r\n\r\n") is None


def test_a_line_without_a_colon_is_skipped() -> None:
    parsed = headers.parse(b"NATS/1.0\r\nnothing\r\nA: 1\r\n\r\n")
    assert parsed is not None
    assert parsed.fields == ((b"A", b"1"),)


@pytest.mark.parametrize("key", [b"Nats-Msg-Id", b"X"])
def test_get_finds_the_first_value_without_a_full_parse(key: bytes) -> None:
    block = b"NATS/1.0\r\nNats-Msg-Id2: no\r\n" + key + b": yes \r\n" + key + b": later\r\n\r\n"
    assert headers.get(block, key) == b"yes"


def test_get_finds_nothing_where_the_key_is_only_part_of_a_value() -> None:
    assert headers.get(b"NATS/1.0\r\nA: X: 1\r\n\r\n", b"X") is None


def test_what_was_encoded_parses_to_the_same() -> None:
    block = headers.encode([(b"A", b"1"), (b"A", b"2")], 503, b"No Responders")
    assert block == b"NATS/1.0 503 No Responders\r\nA: 1\r\nA: 2\r\n\r\n"
    assert headers.parse(block) == (503, b"No Responders", ((b"A", b"1"), (b"A", b"2")))


def test_a_status_may_stand_without_description() -> None:
    assert headers.encode([], 503) == b"NATS/1.0 503\r\n\r\n"


def test_a_field_is_added_at_the_end_of_a_block_or_makes_one() -> None:
    one = headers.with_field(b"", b"A", b"1")
    assert one == b"NATS/1.0\r\nA: 1\r\n\r\n"
    assert headers.with_field(one, b"B", b"2") == b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"


def test_fields_are_taken_out_and_an_empty_block_disappears() -> None:
    block = b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"
    assert headers.without(block, [b"A"]) == b"NATS/1.0\r\nB: 2\r\n\r\n"
    assert headers.without(block, [b"A", b"B"]) == b""
    assert headers.without(block, [b"C"]) == block
    assert headers.without(b"garbage", [b"A"]) == b"garbage"
