import pytest

from headrace.core.base.chance import Chance
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    WINDOW_SIZE,
    Damage,
    End,
    FileHeader,
    FileKind,
    Found,
    HeaderUnreadable,
    NewerFormat,
    encode_file_header,
    fresh_salt,
    parse_file_header,
    walk,
)
from headrace.storage.interface import Entry
from headrace.storage.record import encode_message

SALT = 0xABCDEF0123456789
HEADER = FileHeader(FileKind.SEGMENT, SALT, 5, 6, 7, 4096)


def file_of(payloads: list[bytes], rest: int = 200) -> bytes:
    data = bytes(FILE_HEADER_SIZE)
    for index, payload in enumerate(payloads):
        data += encode_message(Entry(b"s", b"", payload, 1), guard=SALT ^ len(data), sequence=index + 1)
    return data + bytes(rest)


def walked(data: bytes) -> list[Found | Damage | End]:
    return list(walk(lambda size, offset: data[offset : offset + size], SALT))


def sequences(data: bytes) -> list[int]:
    return [each.header.sequence for each in walked(data) if isinstance(each, Found)]


def test_a_file_header_comes_back_from_either_copy() -> None:
    data = encode_file_header(HEADER)
    assert len(data) == FILE_HEADER_SIZE
    assert parse_file_header(data, "f") == HEADER
    assert parse_file_header(bytes(64) + data[64:], "f") == HEADER
    assert parse_file_header(data[:64] + bytes(64), "f") == HEADER


def test_a_file_header_with_two_bad_copies_is_refused() -> None:
    with pytest.raises(HeaderUnreadable, match="neither copy"):
        parse_file_header(bytes(128), "f")
    with pytest.raises(HeaderUnreadable):
        parse_file_header(b"", "f")


def test_a_file_of_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.storage.framing.FORMAT_VERSION", 2)
    data = encode_file_header(HEADER)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="format 2"):
        parse_file_header(data, "f")


def test_a_salt_has_an_upper_half_that_can_be_searched_for() -> None:
    chance = Chance(1)
    assert all(fresh_salt(chance) >> 32 for _ in range(100))


def test_records_are_found_in_order_and_then_the_end() -> None:
    data = file_of([b"one", b"two" * 50, b"", b"four"])
    found = walked(data)
    assert sequences(data) == [1, 2, 3, 4]
    assert found[-1] == End(len(data) - 200)


def test_a_file_without_records_or_without_anything_has_an_end() -> None:
    assert walked(file_of([])) == [End(FILE_HEADER_SIZE)]
    assert walked(bytes(FILE_HEADER_SIZE)) == [End(FILE_HEADER_SIZE)]


def test_damage_is_stepped_over_wherever_it_is() -> None:
    data = file_of([b"one", b"two", b"three", b"four"])
    places = [each.offset for each in walked(data) if isinstance(each, Found)]
    for place in range(places[1], places[2]):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        assert sequences(bytes(damaged)) == [1, 3, 4]
        (damage,) = [each for each in walked(bytes(damaged)) if isinstance(each, Damage)]
        assert (damage.offset, damage.size) == (places[1], places[2] - places[1])


def test_a_hole_of_zeros_before_a_record_is_damage() -> None:
    data = file_of([b"one", b"two", b"three"])
    places = [each.offset for each in walked(data) if isinstance(each, Found)]
    holed = data[: places[1]] + bytes(places[2] - places[1]) + data[places[2] :]
    assert sequences(holed) == [1, 3]


def test_an_unreadable_end_is_damage_up_to_the_last_byte_that_is_not_zero() -> None:
    data = file_of([b"one"], rest=0) + b"torn!" + bytes(100)
    damage, end = walked(data)[-2:]
    assert isinstance(damage, Damage)
    assert (damage.size, end) == (8, End(damage.offset + 8))


def test_a_file_that_was_cut_within_a_record_gives_those_before() -> None:
    data = file_of([b"one", b"two" * 40], rest=0)
    for size in range(len(data) - 1, len(data) - 120, -7):
        assert sequences(data[:size]) == [1]


def test_records_within_a_payload_are_never_taken_for_records() -> None:
    inner = file_of([b"inner"])[FILE_HEADER_SIZE:]
    data = file_of([b"one", inner, b"three"])
    damaged = bytearray(data)
    damaged[FILE_HEADER_SIZE] ^= 1
    assert sequences(bytes(damaged)) == [2, 3]
    damaged = bytearray(data)
    damaged[[each.offset for each in walked(data) if isinstance(each, Found)][1]] ^= 1
    assert sequences(bytes(damaged)) == [1, 3]


def test_records_longer_than_a_window_and_damage_longer_than_one_are_dealt_with() -> None:
    data = file_of([b"one", b"x" * (WINDOW_SIZE + 100), b"three"])
    assert sequences(data) == [1, 2, 3]
    damaged = bytearray(data)
    damaged[FILE_HEADER_SIZE + 56] ^= 1
    assert sequences(bytes(damaged)) == [1, 3]
