import random

from headrace.storage.bounds import Bounds
from headrace.storage.framing import FILE_HEADER_SIZE
from headrace.storage.interface import Entry
from headrace.storage.record import encode_message, encode_skip
from headrace.storage.segment import Offsets, Segment, parse_segment_name, segment_name
from headrace.storage.sidecar import OffsetsCache, find_offsets

SALT = 0xABCDEF0123456789


def test_a_segments_name_says_where_it_begins_and_its_salt() -> None:
    name = segment_name(42, SALT)
    assert name == "00000000000000000042-abcdef0123456789"
    assert parse_segment_name(name) == (42, SALT)
    for other in ("", "1-2", f"{name}.side", "abcdef0123456789.new", "0000000000000000004x-abcdef0123456789"):
        assert parse_segment_name(other) is None


def test_places_and_sequences_belong_together_across_gaps() -> None:
    offsets = Offsets()
    sequences = [5, 6, 7, 20, 21, 1000]
    for sequence in sequences:
        offsets.expect(sequence)
        offsets.units.append(sequence)
    assert list(offsets.run_sequences) == [5, 20, 1000]
    for place, sequence in enumerate(sequences):
        assert offsets.sequence(place) == sequence
        assert offsets.place(sequence) == place
    for missing in (0, 4, 8, 19, 22, 999, 1001):
        assert offsets.place(missing) == -1
    assert [offsets.place_from(each) for each in (0, 5, 8, 20, 22, 1001)] == [0, 0, 3, 3, 5, 6]


def test_gone_bits_agree_with_a_set() -> None:
    chance = random.Random(3)
    segment = Segment(first=1, salt=SALT, path="", capacity=1)
    segment.records = 3000
    assert segment.next_live_place(17) == 17
    gone: set[int] = set()
    for _ in range(40):
        start = chance.randrange(3000)
        for place in range(start, min(3000, start + chance.randrange(200))):
            segment.set_gone(place)
            gone.add(place)
        at = chance.randrange(3001)
        assert segment.next_live_place(at) == min((x for x in range(at, 3000) if x not in gone), default=3000)
        assert segment.next_gone_place(at) == min((x for x in gone if x >= at), default=3000)
        assert segment.count_gone(at) == sum(place >= at for place in gone)
        assert segment.is_gone(at) == (at in gone)


def written(parts: list[bytes | int]) -> tuple[bytes, list[int]]:
    """Write messages (bytes) and skips (how many) from sequence 1 on."""
    data = bytes(FILE_HEADER_SIZE)
    places: list[int] = []
    sequence = 1
    for part in parts:
        places.append(len(data))
        if isinstance(part, int):
            data += encode_skip(guard=SALT ^ len(data), first=sequence, last=sequence + part - 1, time_ns=1)
            sequence += part
        else:
            data += encode_message(Entry(b"s", b"", part, 1), guard=SALT ^ len(data), sequence=sequence)
            sequence += 1
    return data, places


def found(data: bytes, last: int, records: int = -1) -> Offsets:
    return find_offsets(
        lambda size, offset: data[offset : offset + size],
        SALT,
        first=1,
        last=last,
        end=len(data),
        records=records,
    )


def test_offsets_are_found_by_walking_over_a_segment() -> None:
    data, places = written([b"one", b"two", 5, b"eight"])
    offsets = found(data, 8)
    assert [unit << 3 for unit in offsets.units] == [places[0], places[1], places[3]]
    assert [offsets.sequence(each) for each in range(3)] == [1, 2, 8]


def test_a_message_with_a_damaged_header_keeps_its_place() -> None:
    data, places = written([b"one", b"two", b"three"])
    for hit in range(3):
        damaged = bytearray(data)
        damaged[places[hit] + 20] ^= 1
        offsets = found(bytes(damaged), 3)
        expected = [unit << 3 for unit in offsets.units]
        assert expected == [0 if each == hit else place for each, place in enumerate(places)]
        assert [offsets.place(each) for each in (1, 2, 3)] == [0, 1, 2]


def test_a_damaged_skip_record_takes_no_places_where_the_count_of_messages_is_known() -> None:
    data, places = written([b"one", 5, b"seven"])
    damaged = bytearray(data)
    damaged[places[1]] ^= 1
    assert [found(bytes(damaged), 7, records=2).sequence(each) for each in range(2)] == [1, 7]
    assert len(found(bytes(damaged), 7)) == 7


def test_the_offsets_not_used_for_longest_are_dropped() -> None:
    cache = OffsetsCache(200)
    segments = [Segment(first=each, salt=each, path="", capacity=1) for each in range(1, 5)]
    loads: list[int] = []

    def use(segment: Segment) -> None:
        def load() -> Offsets:
            loads.append(segment.salt)
            return Offsets()

        cache.use(segment, load)

    for index in (0, 1, 0, 2, 3, 0):
        use(segments[index])
    assert loads == [1, 2, 3, 4]
    assert segments[1].offsets is None
    assert Bounds().segment_size_max == 64 * 1024 * 1024
