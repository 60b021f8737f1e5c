"""What a log gives its lookup index when that is rebuilt: its segments, part by part, as they are at that moment."""

from collections.abc import Callable, Sequence

from headrace.storage.contents import Contents
from headrace.storage.framing import FILE_HEADER_SIZE, Unreadable
from headrace.storage.index_interface import Position
from headrace.storage.part_notes import Part
from headrace.storage.segment import Segment


class IndexFeed:
    """A log's `Feed`."""

    def __init__(
        self,
        contents: Contents,
        *,
        change: Callable[[], int],
        known_ids: Callable[[], Sequence[tuple[bytes, int, int]]],
        note_damage: Callable[[Segment, str, Sequence[Unreadable]], int],
    ) -> None:
        self._contents = contents
        self._change = change
        self._known_ids = known_ids
        self._note_damage = note_damage

    def part_after(self, sequence: int, limit: int) -> tuple[Part | None, int]:
        for segment in self._contents.segments.all:
            if segment.last <= sequence:
                continue
            if segment.first > limit:
                break
            if segment.live_count or segment.id_time_ns:
                first = max(segment.first, sequence + 1)
                last = min(segment.last, limit)
                return self._part(segment, first, last), last
        return None, limit

    def note_unreadable(self, part: Part, found: Sequence[Unreadable]) -> None:
        for segment in self._contents.segments.all:
            # One that was rewritten meanwhile was read, and its damage met, by whoever did that.
            if segment.salt == part.salt:
                self._note_damage(segment, "", found)

    def has(self, sequence: int, subject: bytes) -> bool:
        return self._contents.has(sequence, subject)

    def known_ids(self) -> Sequence[tuple[bytes, int, int]]:
        return self._known_ids()

    def position(self) -> Position:
        return Position(self._contents.last, self._change())

    def _part(self, segment: Segment, first: int, last: int) -> Part:
        segments = self._contents.segments
        start = FILE_HEADER_SIZE
        if first > segment.first:
            units = segments.offsets(segment).units
            place = segments.place_from(segment, first)
            start = units[place] << 3 or start if place < len(units) else segment.written
        runs = None if segment.is_dense else segments.offsets(segment)
        return Part(
            path=segment.path,
            salt=segment.salt,
            start=start,
            end=segment.written,
            first=first,
            last=last,
            # A dead segment has lost its bits.
            live_from=segments.first if segment.live_count else segment.last + 1,
            segment_first=segment.first,
            gone=bytes(segment.gone or b""),
            run_sequences=b"" if runs is None else runs.run_sequences.tobytes(),
            run_places=b"" if runs is None else runs.run_places.tobytes(),
        )
