"""Both engines write the same records, byte for byte."""

import zlib
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.base.message import Message, MessageBatch, View
from headrace.storage import record

compiled_log = pytest.importorskip("headrace.storage.compiled_log", reason="not built")
compiled_batch = pytest.importorskip("headrace.core.base.compiled_batch", reason="not built")

U64 = st.integers(0, (1 << 64) - 1)
MESSAGES = st.lists(
    st.builds(
        Message,
        subject=st.sampled_from([b"a", b"orders.new", b"x" * 4000]),
        reply=st.sampled_from([b"", b"_INBOX.1"]),
        headers=st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"]),
        payload=st.binary(max_size=300),
        connection_id=U64,
    ),
    min_size=1,
    max_size=20,
)


@given(messages=MESSAGES, data=st.data(), salt=U64, sequence=st.integers(1, 1 << 63), time_ns=U64)
def test_a_batch_becomes_the_same_records(
    messages: list[Message], data: st.DataObject, salt: int, sequence: int, time_ns: int
) -> None:
    start = data.draw(st.integers(0, len(messages)))
    offset = data.draw(st.integers(16, 1 << 31)) * 8
    limit = offset + data.draw(st.integers(0, 20_000))
    plain_offsets, compiled_offsets = array("I", [1]), array("I", [1])
    plain = record.encode_batch(
        MessageBatch(messages),
        start,
        salt=salt,
        offset=offset,
        limit=limit,
        sequence=sequence,
        time_ns=time_ns,
        offsets=plain_offsets,
    )
    compiled = compiled_log.encode_batch(
        compiled_batch.CompiledBatch(messages),
        start,
        salt=salt,
        offset=offset,
        limit=limit,
        sequence=sequence,
        time_ns=time_ns,
        offsets=compiled_offsets,
    )
    assert compiled == plain
    assert compiled_offsets == plain_offsets


@given(data=st.binary(max_size=100), before=st.integers(0, (1 << 32) - 1))
def test_the_checksum_is_that_of_zlib(data: bytes, before: int) -> None:
    assert compiled_log.crc32(data, before) == zlib.crc32(data, before)


def test_a_subject_too_long_for_a_record_is_refused() -> None:
    batch = compiled_batch.CompiledBatch([Message(b"x" * 65536, b"", b"", b"", 0)])
    with pytest.raises(ValueError, match="65536 bytes"):
        compiled_log.encode_batch(
            batch, 0, salt=0, offset=0, limit=1 << 30, sequence=1, time_ns=0, offsets=array("I")
        )


def test_a_batch_of_the_plain_engine_is_encoded_too() -> None:
    messages = [Message(b"a", b"", b"", b"payload", 0)]
    arguments = {"salt": 1, "offset": 128, "limit": 1 << 20, "sequence": 1, "time_ns": 2}
    plain = record.encode_batch(MessageBatch(messages), 0, offsets=array("I"), **arguments)
    assert compiled_log.encode_batch(MessageBatch(messages), 0, offsets=array("I"), **arguments) == plain


@given(
    messages=MESSAGES,
    data=st.data(),
    salt=U64,
    sequence=st.integers(1, 1 << 63),
    time_ns=st.integers(0, (1 << 63) - 1),
)
def test_a_run_is_decoded_as_far_as_it_is_right(
    messages: list[Message], data: st.DataObject, salt: int, sequence: int, time_ns: int
) -> None:
    units = array("I")
    encoded, count, _ = record.encode_batch(
        MessageBatch(messages),
        0,
        salt=salt,
        offset=128,
        limit=1 << 20,
        sequence=sequence,
        time_ns=time_ns,
        offsets=units,
    )
    assert count == len(messages)
    block = bytearray(encoded[: data.draw(st.integers(0, len(encoded)))])
    damage = data.draw(st.integers(0, len(encoded)))
    if damage < len(block):
        block[damage] ^= 0x40
    place = data.draw(st.integers(0, count - 1))
    views = compiled_log.decode_run(
        bytes(block),
        128,
        salt=salt,
        units=units,
        place=place,
        sequence=sequence + place,
        count_max=data.draw(st.integers(1, 30)),
        size_max=1 << 40,
    )
    for view in views:
        position = (units[place] << 3) - 128
        header = record.parse_header(bytes(block), position, salt ^ (units[place] << 3))
        body = bytes(block[position + record.HEADER_SIZE : position + header.end])
        record.check_body(header, body)
        assert view == record.parse_message(header, body)
        assert view.subject == messages[place].subject
        place += 1
    if damage >= len(block) == len(encoded) and place < count:
        assert len(views) > 0


def test_a_run_ends_when_its_bytes_reach_the_size_asked_for() -> None:
    units = array("I")
    messages = MessageBatch([Message(b"a", b"", b"", bytes(99), 0)] * 5)
    encoded, _, _ = record.encode_batch(
        messages, 0, salt=1, offset=128, limit=1 << 20, sequence=1, time_ns=2, offsets=units
    )
    views = compiled_log.decode_run(
        encoded, 128, salt=1, units=units, place=0, sequence=1, count_max=5, size_max=201
    )
    assert [view.sequence for view in views] == [1, 2, 3]


@pytest.mark.parametrize("change", ["salt", "sequence", "base"])
def test_a_record_of_another_place_is_not_decoded(change: str) -> None:
    units = array("I")
    messages = MessageBatch([Message(b"a", b"", b"", b"x", 0)])
    encoded, _, _ = record.encode_batch(
        messages, 0, salt=1, offset=128, limit=1 << 20, sequence=1, time_ns=2, offsets=units
    )
    wrong = {"salt": 1, "sequence": 1, "base": 128}
    wrong[change] += 8
    views = compiled_log.decode_run(
        encoded,
        wrong["base"],
        salt=wrong["salt"],
        units=units,
        place=0,
        sequence=wrong["sequence"],
        count_max=5,
        size_max=1000,
    )
    assert views == []


def test_both_measure_views_alike() -> None:
    views = [View(1, 2, b"abc", b"", b"1234"), View(2, 2, b"a", b"NATS/1.0\r\n\r\n", b"")]
    assert compiled_log.views_size(views) == record.views_size(views) == 7 + 13
    assert compiled_log.views_size([]) == record.views_size([]) == 0
