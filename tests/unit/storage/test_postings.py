import random
from array import array
from typing import Any

from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.postings import Postings, collect, decode
from headrace.storage.segment import Offsets, Segment
from headrace.storage.sidecar import (
    encode_sidecar,
    load_postings,
    load_sidecar,
    sidecar_path,
    write_sidecar,
)

SALT = 0xABCDEF0123456789
SUBJECTS: dict[bytes, Any] = {b"b": [1, 4], b"a.long.one": 0, b"": [3], b"a": [2, 5, 6]}


def some() -> Postings:
    return collect(SUBJECTS, array("I", range(100, 107)))


def told(postings: Postings | None) -> tuple[dict[bytes, list[int]], list[int]] | None:
    if postings is None:
        return None
    numbers = range(len(postings))
    return {postings.subject(each): list(postings.places(each)) for each in numbers}, list(postings.sizes)


def test_what_is_encoded_is_decoded() -> None:
    postings = decode(*some().encode())
    assert told(postings) == (
        {b"": [3], b"a": [2, 5, 6], b"a.long.one": [0], b"b": [1, 4]},
        list(range(100, 107)),
    )
    assert told(decode(*collect({}, array("I")).encode())) == ({}, [])


def test_a_subject_is_found_by_its_bytes_and_others_are_not() -> None:
    postings = some()
    assert [postings.find(each) for each in (b"", b"a", b"a.long.one", b"b")] == [0, 1, 2, 3]
    assert [postings.find(each) for each in (b"A", b"a.", b"a.long.onf", b"c")] == [-1] * 4
    assert [postings.count(each) for each in range(4)] == [1, 3, 1, 2]


def test_many_subjects_agree_with_a_dictionary() -> None:
    chance = random.Random(5)
    model: dict[bytes, list[int]] = {}
    for place in range(3000):
        model.setdefault(b"s.%d" % chance.randrange(700), []).append(place)
    postings = decode(*collect(model, array("I", bytes(4 * 3000))).encode())
    assert postings is not None
    assert [postings.subject(each) for each in range(len(postings))] == sorted(model)
    for subject, places in model.items():
        assert list(postings.places(postings.find(subject))) == places


def test_bodies_that_do_not_fit_each_other_are_refused() -> None:
    good, other = some().encode(), collect({b"x": 0}, array("I", (9,))).encode()
    for place in range(3):
        mixed = [*good]
        mixed[place] = other[place]
        assert decode(*mixed) is None
        for size in range(len(good[place])):
            cut = [*good]
            cut[place] = good[place][:size]
            assert decode(*cut) is None
    assert decode(*collect({b"x": 7}, array("I", (9,))).encode()) is None, "a place behind the last"


def sidecar() -> tuple[FaultyFiles, Segment, bytes]:
    files = FaultyFiles(1)
    files.make_folder("/seg")
    segment = Segment(first=10, salt=SALT, path="/seg/x", capacity=4096)
    segment.records, segment.last = 7, 16
    offsets = Offsets()
    offsets.expect(10)
    offsets.units.extend(range(16, 23))
    return files, segment, encode_sidecar(segment, offsets, stream_id=1, salt=77, time_ns=5, postings=some())


def test_every_bit_of_a_sidecar_is_checked() -> None:
    files, segment, data = sidecar()
    path = sidecar_path(segment.path)
    write_sidecar(files, path, data)
    whole, offsets = told(load_postings(files, segment)), load_sidecar(files, segment)
    assert whole is not None
    assert offsets is not None
    refused = 0
    handle = files.open(path)
    for bit in range(8 * len(data)):
        byte = bytes((data[bit >> 3] ^ 1 << (bit & 7),))
        files.pwrite(handle, byte, bit >> 3)
        postings, found = told(load_postings(files, segment)), load_sidecar(files, segment)
        assert postings in (None, whole), bit
        assert found is None or found.units == offsets.units, bit
        refused += postings is None
        files.pwrite(handle, data[bit >> 3 : (bit >> 3) + 1], bit >> 3)
    assert refused > 8 * sum(map(len, some().encode()))


def test_a_sidecar_of_another_segment_says_nothing() -> None:
    files, segment, data = sidecar()
    write_sidecar(files, sidecar_path(segment.path), data)
    segment.records = 6
    assert load_postings(files, segment) is None
    segment.records, segment.salt = 7, SALT + 1
    assert load_postings(files, segment) is None
    assert load_sidecar(files, segment) is None


def test_a_sidecar_may_say_only_where_the_messages_lie() -> None:
    files, segment, _ = sidecar()
    offsets = Offsets()
    offsets.expect(10)
    offsets.units.extend(range(16, 23))
    write_sidecar(
        files, sidecar_path(segment.path), encode_sidecar(segment, offsets, stream_id=1, salt=7, time_ns=5)
    )
    assert load_sidecar(files, segment) is not None
    assert load_postings(files, segment) is None
