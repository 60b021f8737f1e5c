"""What becomes of messages that turn out to be unreadable while a log is in service, and how a start tells.

Whoever meets one (a read, a removal, the scrub, a rebuild of the lookup index) has it taken out and listed, in the
state log too, so that it is met once and the next start knows. Each loss is told in one line.
"""

from collections.abc import Callable, Iterable, Sequence

from headrace.storage.contents import Contents
from headrace.storage.framing import Unreadable
from headrace.storage.interface import CorruptRecord
from headrace.storage.record import merged, pack_ranges
from headrace.storage.segment import Segment
from headrace.storage.segments import Place, Segments
from headrace.storage.state import DamagedPlace, Lost, Operation
from headrace.storage.unheeded import unheeded


class Losses:
    """The losses of one log. `record` takes operations for the state log, and gives the last change number."""

    def __init__(
        self, contents: Contents, damage: list[DamagedPlace], *, record: Callable[[list[Operation]], int]
    ) -> None:
        self._contents = contents
        self._damage = damage
        self._record = record
        self.tell: Callable[[str], None] = unheeded

    def meet(self, where: Place) -> None:
        """A read found that a message cannot be read."""
        self._lose([where])

    def note(self, path: str = "") -> None:
        """List what turned out to be unreadable."""
        contents = self._contents
        if not contents.newly_lost:
            return
        lost = [Lost(first, last, certain=True) for first, last in merged(contents.newly_lost)]
        contents.newly_lost.clear()
        contents.lost += lost
        self._record([["lost", *each] for each in lost])
        for first, last, _ in lost:
            self.tell(f"{_listed(first, last)}{f': {path}' if path else ''}")

    def note_damage(self, segment: Segment, suffix: str, found: Sequence[Unreadable]) -> int:
        """Meet what does not check in a segment's file, or the one beside it; give how many findings are new.

        What it costs are the live messages that a read finds unreadable too.
        """
        segments = self._contents.segments
        if not suffix:
            segments.reread(segment)
        known = {(each.file, each.offset) for each in self._damage}
        name = f"{segment.name}{suffix}"
        fresh = [each for each in found if (name, each.offset) not in known]
        for each in fresh:
            hit = [] if suffix else _unreadable_within(segments, segment, each)
            sequences = [segments.sequence(*where) for where in hit]
            first, last = min(sequences, default=0), max(sequences, default=0)
            place = DamagedPlace(name, each.offset, each.size, each.what, first, last, certain=True)
            self._damage.append(place)
            self._record([["damage", *place]])
            if hit:
                self._lose(hit)
            else:
                self.tell(f"{each.what}, no message is lost: {segment.path}{suffix} at {each.offset}")
        return len(fresh)

    def _lose(self, places: Sequence[Place]) -> None:
        contents = self._contents
        sequences = [contents.segments.sequence(*where) for where in places]
        # As a removal too, so that a replay takes them out again.
        change = self._record([["remove", contents.last, pack_ranges(merged(sequences)), False]])
        for sequence, where in zip(sequences, places, strict=True):
            if contents.segments.find(sequence) is not None:
                contents.lose(where, change)
        self.note(places[0].segment.path)


def told_at_start(operations: Iterable[Operation]) -> list[str]:
    """Say in lines what a start found, given the operations by which it notes that."""
    lines: list[str] = []
    for kind, *fields in operations:
        if kind == "damage":
            place = DamagedPlace(*fields)
            lines.append(f"{place.what}: {place.file} at {place.offset}, {place.size} bytes")
        elif kind == "lost":
            first, last, certain = fields
            doubt = "" if certain else "; what was acknowledged of it is not known"
            lines.append(f"{_listed(first, last)}{doubt}")
    return lines


def _listed(first: int, last: int) -> str:
    what = f"message {first}" if first == last else f"messages {first} to {last}"
    return f"{what} cannot be read, and listed as lost from now on"


def _unreadable_within(segments: Segments, segment: Segment, damage: Unreadable) -> list[Place]:
    hit: list[Place] = []
    for where in segments.places_within(segment, damage.offset, damage.size):
        try:
            segments.read(where)
        except CorruptRecord:
            hit.append(where)
    return hit
