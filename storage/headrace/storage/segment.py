"""One segment as the log knows it: where its records lie, which of them are removed, and its totals.

A `Segment` is the description of a file, cheap enough to be kept for each: totals and times. Two parts are
heavier. The **offsets** (four bytes a message) are kept for the segment that is written to, and for a sealed
one only while it is read (`SegmentTables` loads and drops them). The **gone bits** (one bit a message) exist
from the first removal behind the log's first sequence; what lies below that first sequence is removed without a
bit.

A message is found by its *place*: its index among the messages of the segment. In a dense segment, where no
sequence was skipped, the place follows from the sequence alone.
"""

from array import array
from bisect import bisect_right
from typing import Final

from headrace.storage.framing import FILE_HEADER_SIZE

SEGMENTS_FOLDER: Final = "seg"
"""The folder of the segments within a stream's."""

RESERVED_SIZE: Final = 256
"""Room kept at a segment's end for its last marks."""

COMPANIONS: Final = (".side", ".del", ".del2")
"""What the files end with that belong to a segment's file and go with it."""

_FULL: Final = bytearray(b"\xff" * 64)
_EMPTY: Final = bytearray(64)


def segment_name(first: int, salt: int) -> str:
    """Give the name of a segment's file."""
    return f"{first:020d}-{salt:016x}"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Give (first sequence, salt) of a segment's file name; None where it is no such name."""
    first, dash, salt = name.partition("-")
    if dash and len(first) == 20 and len(salt) == 16 and first.isdecimal():
        try:
            return int(first), int(salt, 16)
        except ValueError:
            return None
    return None


class Offsets:
    """Where the messages of a segment lie: file offsets divided by 8, in order, and the runs of their sequences.

    `doubtful`: ranges of sequences of which some were messages that are damaged, others none; nobody knows which.
    """

    __slots__ = ("doubtful", "run_places", "run_sequences", "units")

    def __init__(self) -> None:
        self.doubtful: list[tuple[int, int]] = []
        self.units = array("I")
        self.run_sequences = array("Q")
        self.run_places = array("I")

    def __len__(self) -> int:
        return len(self.units)

    def expect(self, sequence: int) -> None:
        """Say which sequence the next unit that is appended belongs to."""
        if not self.run_sequences or sequence != self.sequence(len(self.units)):
            self.run_sequences.append(sequence)
            self.run_places.append(len(self.units))

    def sequence(self, place: int) -> int:
        """Give the sequence at a place; behind the last one it goes on counting."""
        run = bisect_right(self.run_places, place) - 1
        return self.run_sequences[run] + place - self.run_places[run]

    def place_from(self, sequence: int) -> int:
        """Give the place of the first message at or above `sequence`; the count where there is none."""
        run = bisect_right(self.run_sequences, sequence) - 1
        if run < 0:
            return 0
        place = self.run_places[run] + sequence - self.run_sequences[run]
        end = self.run_places[run + 1] if run + 1 < len(self.run_places) else len(self.units)
        return min(place, end)

    def place(self, sequence: int) -> int:
        """Give the place of the message `sequence`; -1 where there is none."""
        place = self.place_from(sequence)
        return place if place < len(self.units) and self.sequence(place) == sequence else -1


class Segment:
    """What is known of one file of messages.

    `last` is the highest sequence that it used up, skipped ones included; `first - 1` for none. `used` is where its
    next record goes, `written` how much of it the file has; `live_*` counts what is not removed. Of the gone
    bits, those in `folded` are in the segment's `.del` too, and at most `unfolded_count` are not.
    """

    __slots__ = (
        "capacity",
        "first",
        "first_time_ns",
        "folded",
        "gone",
        "has_changed",
        "id_time_ns",
        "is_being_replayed",
        "last",
        "last_time_ns",
        "live_count",
        "live_size",
        "name",
        "offsets",
        "path",
        "records",
        "salt",
        "unfolded_count",
        "used",
        "written",
    )

    def __init__(self, *, first: int, salt: int, path: str, capacity: int) -> None:
        self.first = first
        self.salt = salt
        self.name = segment_name(first, salt)
        self.path = path
        self.capacity = capacity
        self.last = first - 1
        self.first_time_ns = 0
        self.last_time_ns = 0
        self.id_time_ns = 0
        self.records = 0
        self.live_count = 0
        self.live_size = 0
        self.used = FILE_HEADER_SIZE
        self.written = FILE_HEADER_SIZE
        self.gone: bytearray | None = None
        self.folded: bytes | None = None
        self.unfolded_count = 0
        self.offsets: Offsets | None = None
        self.has_changed = True
        self.is_being_replayed = False

    @property
    def is_dense(self) -> bool:
        """Whether a message's place follows from its sequence alone."""
        return self.records == self.last - self.first + 1

    @property
    def room(self) -> int:
        """Bytes that records may still take."""
        return self.capacity - RESERVED_SIZE - self.used

    def note_time(self, time_ns: int) -> None:
        """Remember the time of the record appended last."""
        if not self.first_time_ns:
            self.first_time_ns = time_ns
        self.last_time_ns = time_ns

    def is_gone(self, place: int) -> bool:
        """Tell whether the message at `place` has its bit."""
        gone = self.gone
        if gone is None:
            return False
        byte = place >> 3
        return byte < len(gone) and bool(gone[byte] >> (place & 7) & 1)

    def set_gone(self, place: int) -> None:
        """Give the message at `place` its bit."""
        gone = self.gone
        if gone is None:
            gone = self.gone = bytearray()
        byte = place >> 3
        if byte >= len(gone):
            # To the end at once, so that a segment that is purged does not grow byte by byte.
            gone.extend(bytes(max(byte, self.records >> 3) + 1 - len(gone)))
        gone[byte] |= 1 << (place & 7)
        self.unfolded_count += 1

    def take_folded(self, bits: bytes) -> None:
        """These bits are in the segment's `.del`; they are among its own."""
        self.folded = bits
        gone = b"" if self.gone is None else self.gone
        self.unfolded_count = (int.from_bytes(gone, "little") & ~int.from_bytes(bits, "little")).bit_count()

    def next_live_place(self, place: int) -> int:
        """Give the first place at or above `place` without a bit; the count of messages where there is none."""
        gone = self.gone
        count = self.records
        if gone is None:
            return min(place, count)
        byte = place >> 3
        size = len(gone)
        if byte < size:
            free = ~gone[byte] & 0xFF & (0xFF << (place & 7))
            if free:
                return min((byte << 3) + (free & -free).bit_length() - 1, count)
            byte += 1
            while byte < size and gone[byte : byte + 64] == _FULL:
                byte += 64
            while byte < size and gone[byte] == 0xFF:
                byte += 1
            place = byte << 3
            if byte < size:
                free = ~gone[byte] & 0xFF
                place += (free & -free).bit_length() - 1
        return min(place, count)

    def next_gone_place(self, place: int) -> int:
        """Give the first place at or above `place` that has its bit; the count of messages where there is none."""
        gone = self.gone
        count = self.records
        if gone is None:
            return count
        byte = place >> 3
        size = len(gone)
        if byte >= size:
            return count
        taken = gone[byte] & (0xFF << (place & 7)) & 0xFF
        if not taken:
            byte += 1
            while byte < size and gone[byte : byte + 64] == _EMPTY:
                byte += 64
            while byte < size and not gone[byte]:
                byte += 1
            if byte >= size:
                return count
            taken = gone[byte]
        return min((byte << 3) + (taken & -taken).bit_length() - 1, count)

    def count_gone(self, place: int) -> int:
        """Count the places at or above `place` that have their bit."""
        if self.gone is None:
            return 0
        return (int.from_bytes(self.gone[place >> 3 :], "little") >> (place & 7)).bit_count()
