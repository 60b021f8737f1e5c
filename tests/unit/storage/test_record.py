import struct
from array import array

import pytest

from headrace.core.base.message import Message, MessageBatch, View
from headrace.storage.accounting import file_size
from headrace.storage.interface import Effect, Entry
from headrace.storage.record import (
    HEADER_SIZE,
    Mark,
    RecordInvalid,
    RecordType,
    accounted_size,
    check_body,
    effect_sequences,
    encode_batch,
    encode_mark,
    encode_message,
    encode_operations,
    encode_skip,
    merged,
    message_size,
    pack_ranges,
    parse_extras,
    parse_header,
    parse_mark,
    parse_message,
    parse_operations,
    parse_skip,
    unpack_ranges,
    unpack_value,
)

GUARD = 0x1122334455667788
ENTRY = Entry(
    b"orders.new",
    b"NATS/1.0\r\nNats-Msg-Id: id-7\r\n\r\n",
    b"payload",
    123,
    b"id-7",
    5,
    Effect(first_sequence=3, evicted=(8, 4, 5), subject_before=True, all_before=True),
)


def taken_apart(data: bytes, guard: int = GUARD) -> tuple[object, bytes]:
    header = parse_header(data, 0, guard)
    body = data[HEADER_SIZE : header.end]
    check_body(header, body)
    return header, body


def test_a_message_comes_back_with_all_that_it_carries_and_causes() -> None:
    data = encode_message(ENTRY, guard=GUARD, sequence=9)
    header = parse_header(data, 0, GUARD)
    body = data[HEADER_SIZE:]
    check_body(header, body)
    assert parse_message(header, body) == View(9, 123, ENTRY.subject, ENTRY.headers, ENTRY.payload)
    extras = parse_extras(header, body)
    assert (extras.previous, extras.message_id, extras.first_sequence) == (5, b"id-7", 3)
    assert (extras.evicted, extras.subject_before, extras.all_before) == (((4, 5), (8, 8)), True, True)
    assert list(effect_sequences(extras)) == [4, 5, 8]
    assert len(data) == message_size(ENTRY) == header.end


def test_a_message_id_that_the_headers_do_not_hold_is_kept_beside_them() -> None:
    data = encode_message(ENTRY._replace(headers=b"", message_id=b"other"), guard=GUARD, sequence=9)
    header = parse_header(data, 0, GUARD)
    assert parse_extras(header, data[HEADER_SIZE:]).message_id == b"other"


def test_every_length_is_a_multiple_of_eight_and_padded_with_zeros() -> None:
    for size in range(20):
        data = encode_message(Entry(b"s", b"", b"p" * size, 1), guard=GUARD, sequence=1)
        assert len(data) % 8 == 0
        header = parse_header(data, 0, GUARD)
        assert data[header.length :] == bytes(header.end - header.length)


def test_the_accounted_size_is_the_reference_servers_formula() -> None:
    for headers in (b"", b"NATS/1.0\r\n\r\n"):
        data = encode_message(Entry(b"subject", headers, b"1234", 1, b"an-id", 7), guard=GUARD, sequence=1)
        header = parse_header(data, 0, GUARD)
        extras = parse_extras(header, data[HEADER_SIZE:])
        assert accounted_size(header, extras.size) == file_size(
            subject_size=7, headers_size=len(headers), payload_size=4
        )


def test_a_batch_is_encoded_as_its_messages_one_by_one() -> None:
    messages = [
        Message(b"s.%d" % each, b"r", b"NATS/1.0\r\n\r\n" * (each % 2), b"p" * each, 1) for each in range(9)
    ]
    offsets = array("I")
    data, count, accounted = encode_batch(
        MessageBatch(messages),
        2,
        salt=GUARD,
        offset=128,
        limit=1 << 20,
        sequence=50,
        time_ns=9,
        offsets=offsets,
    )
    singly = b""
    expected = 0
    for index, message in enumerate(messages[2:]):
        assert offsets[index] << 3 == 128 + len(singly)
        entry = Entry(message.subject, message.headers, message.payload, 9)
        singly += encode_message(entry, guard=GUARD ^ 128 + len(singly), sequence=50 + index)
        expected += file_size(
            subject_size=len(entry.subject), headers_size=len(entry.headers), payload_size=len(entry.payload)
        )
    assert (data, count, accounted) == (singly, 7, expected)


def test_a_batch_stops_at_its_limit() -> None:
    batch = MessageBatch([Message(b"s", b"", b"", b"p" * 40, 1)] * 5)
    offsets = array("I")
    data, count, _ = encode_batch(
        batch, 0, salt=GUARD, offset=0, limit=2 * 88 + 80, sequence=1, time_ns=1, offsets=offsets
    )
    assert (len(data), count, len(offsets)) == (176, 2, 2)
    assert encode_batch(batch, 0, salt=1, offset=0, limit=8, sequence=1, time_ns=1, offsets=offsets)[:2] == (
        b"",
        0,
    )


def test_marks_skips_and_operations_come_back() -> None:
    seal = encode_mark(RecordType.SEAL, Mark(4, 77, 12), guard=GUARD, sequence=80, time_ns=1)
    header, body = taken_apart(seal)
    assert parse_mark(header, body) == Mark(4, 77, 12)  # type: ignore[arg-type]
    header, body = taken_apart(encode_skip(guard=GUARD, first=5, last=9, time_ns=1))
    assert parse_skip(header, body) == (5, 9)  # type: ignore[arg-type]
    operations = [["config", {"name": "S"}], ["remove", 5, b"\x01\x00", False]]
    header, body = taken_apart(encode_operations(operations, guard=GUARD, change=3, time_ns=1))
    assert parse_operations(header, body) == operations  # type: ignore[arg-type]


def test_no_flipped_bit_of_a_record_goes_unnoticed() -> None:
    data = encode_message(ENTRY, guard=GUARD, sequence=9)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordInvalid):
            taken_apart(bytes(flipped))


def test_a_record_at_another_place_is_none() -> None:
    data = encode_message(ENTRY, guard=GUARD, sequence=9)
    with pytest.raises(RecordInvalid, match="guard"):
        parse_header(data, 0, GUARD ^ 8)


@pytest.mark.parametrize("size", [0, 20, 43, 44, 60])
def test_a_record_that_is_cut_is_none(size: int) -> None:
    data = encode_message(ENTRY, guard=GUARD, sequence=9)[:size]
    with pytest.raises(RecordInvalid, match="end within"):
        taken_apart(data)


def test_ranges_come_back_and_single_sequences_are_merged() -> None:
    for ranges in ([], [(1, 1)], [(3, 4), (9, 9)], [(1, 1 << 63), ((1 << 63) + 5, (1 << 64) - 2)]):
        assert unpack_ranges(pack_ranges(ranges)) == ranges
    assert pack_ranges([(3, 4), (9, 9)]) == bytes((3, 1, 5, 0))
    assert merged([9, 3, 4, 3]) == [(3, 4), (9, 9)]


@pytest.mark.parametrize("data", [b"\x80", b"\x01", b"\x01\x00\x02"])
def test_ranges_that_end_in_the_middle_are_refused(data: bytes) -> None:
    with pytest.raises(RecordInvalid, match="ranges"):
        unpack_ranges(data)


def test_a_value_that_is_no_msgpack_is_refused() -> None:
    with pytest.raises(RecordInvalid):
        unpack_value(b"\xc1")


def test_a_subject_that_does_not_fit_its_field_is_refused() -> None:
    with pytest.raises(struct.error):
        encode_message(Entry(b"s" * 65536, b"", b"", 1), guard=GUARD, sequence=1)
