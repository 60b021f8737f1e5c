"""Which subjects a sealed segment has, and where: its sorted dictionary, postings, and its messages' sizes.

A *posting* is the place of a message (see `segment.py`). Messages that are removed have theirs too: whether a message
is there is the gone bits' to say. The empty subject stands for places whose record says no subject, because it is
damaged or erased: they are meant by every filter, so that reading them shows what they are.

Three records of a sidecar hold this; docs/storage-format.md, section 7. Whoever decodes them gets arrays, not objects:
a subject is made from the dictionary's bytes when it is asked for.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from operator import le
from typing import Final

UNKNOWN: Final = b""
"""The subject of places whose record says none."""

_COUNTS: Final = struct.Struct("<II")


class Postings:
    """The subjects of a segment and the places of each, ascending; `sizes` holds what each place counts for.

    Subjects have numbers, in byte order. A size of 0 is one that nobody knows.
    """

    __slots__ = ("_ends", "_names", "_places", "_starts", "sizes")

    def __init__(
        self,
        names: bytes,
        ends: "array[int]",
        starts: "array[int]",
        places: "array[int]",
        sizes: "array[int]",
    ) -> None:
        self._names = names
        self._ends = ends
        self._starts = starts
        self._places = places
        self.sizes = sizes

    def __len__(self) -> int:
        """Count the subjects."""
        return len(self._ends) - 1

    @property
    def memory_size(self) -> int:
        """Bytes that this takes in memory, about."""
        numbers = len(self._ends) + len(self._starts) + len(self._places) + len(self.sizes)
        return 4 * numbers + len(self._names) + 512

    def subject(self, number: int) -> bytes:
        """Give a subject."""
        return self._names[self._ends[number] : self._ends[number + 1]]

    def places(self, number: int) -> "array[int]":
        """Give the places of a subject's messages."""
        return self._places[self._starts[number] : self._starts[number + 1]]

    def count(self, number: int) -> int:
        """Count the places of a subject."""
        return self._starts[number + 1] - self._starts[number]

    def find(self, subject: bytes) -> int:
        """Give a subject's number; -1 where the segment has no message of it."""
        number = bisect_left(range(len(self)), subject, key=self.subject)
        return number if number < len(self) and self.subject(number) == subject else -1

    def encode(self) -> tuple[bytes, bytes, bytes]:
        """Give the bodies of the records: dictionary, postings, sizes."""
        dictionary = _COUNTS.pack(len(self), len(self._names)) + self._ends.tobytes() + self._names
        places = _COUNTS.pack(len(self), len(self._places)) + self._starts.tobytes() + self._places.tobytes()
        return dictionary, places, _COUNTS.pack(len(self.sizes), 0) + self.sizes.tobytes()


def collect(places_by_subject: Mapping[bytes, int | Iterable[int]], sizes: "array[int]") -> Postings:
    """Make postings; each subject's places ascend, and every place of `sizes` belongs to one subject."""
    subjects = sorted(places_by_subject)
    starts, places = array("I", (0,)), array("I")
    for subject in subjects:
        found = places_by_subject[subject]
        if isinstance(found, int):
            places.append(found)
        else:
            places.extend(found)
        starts.append(len(places))
    ends = array("I", accumulate(map(len, subjects), initial=0))
    return Postings(b"".join(subjects), ends, starts, places, sizes)


def decode(dictionary: bytes, postings: bytes, sizes: bytes) -> Postings | None:
    """Read the bodies of the three records; None where they do not fit each other."""
    try:
        count, names_size = _COUNTS.unpack_from(dictionary)
        count_again, places_count = _COUNTS.unpack_from(postings)
        sizes_count, _ = _COUNTS.unpack_from(sizes)
    except struct.error:
        return None
    numbers_size = 4 * (count + 1)
    if (
        count_again != count
        or sizes_count != places_count
        or len(dictionary) < _COUNTS.size + numbers_size + names_size
        or len(postings) < _COUNTS.size + numbers_size + 4 * places_count
        or len(sizes) < _COUNTS.size + 4 * sizes_count
    ):
        return None
    middle = _COUNTS.size + numbers_size
    ends = array("I", dictionary[_COUNTS.size : middle])
    names = dictionary[middle : middle + names_size]
    starts = array("I", postings[_COUNTS.size : middle])
    places = array("I", postings[middle : middle + 4 * places_count])
    held = array("I", sizes[_COUNTS.size : _COUNTS.size + 4 * sizes_count])
    return (
        Postings(names, ends, starts, places, held) if _is_whole(ends, starts, names_size, places) else None
    )


def _is_whole(ends: "array[int]", starts: "array[int]", names_size: int, places: "array[int]") -> bool:
    """Tell whether the numbers lie within what they point into."""
    if ends[0] or starts[0] or ends[-1] != names_size or starts[-1] != len(places):
        return False
    if places and max(places) >= len(places):
        return False
    return all(map(le, ends, ends[1:])) and all(map(le, starts, starts[1:]))
