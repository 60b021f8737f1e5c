"""Which messages of a segment a filter means, without reading them.

A sealed segment's sidecar has its subjects and where they are (`postings.py`). A filter is asked once about each of
them; the answer is kept as a bit a message (a **verdict**), which makes counting from anywhere and finding the next one
cheap. Where a sidecar has no postings, they are made in the background, and the records are read until then.

For the segment that is written to, whoever counts has its new messages read and adds to the verdict what they say.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.chores import Chores
from headrace.storage.files import Files
from headrace.storage.framing import fresh_salt
from headrace.storage.interface import Matcher
from headrace.storage.postings import UNKNOWN, Postings
from headrace.storage.segment import Segment
from headrace.storage.segments import Segments
from headrace.storage.sidecar import load_postings
from headrace.storage.sidecar_making import make_sidecar

POSTINGS_SIZE_MAX: Final = 64 * 1024 * 1024
"""Bytes of sidecars' postings that a store keeps in memory."""

VERDICTS_SIZE_MAX: Final = 32 * 1024 * 1024
"""Bytes of verdicts that a store keeps in memory."""

SUBJECTS_A_STEP: Final = 4
PLACES_A_STEP: Final = 32
"""What takes about as long as reading a record."""

RUN_MAX: Final = 256
"""Messages in a row that are read together."""


class Verdict:
    """Which places of a segment a filter means: a bit each.

    Of the subjects in its sidecar those below `reached` were asked about; or its records below `read_to` were read.
    `unknown` are places whose record says no subject: they have a bit, and do not count.
    """

    __slots__ = ("bits", "is_whole", "reached", "read_to", "unknown")

    def __init__(self) -> None:
        self.bits = bytearray()
        self.reached = 0
        self.read_to = 0
        self.is_whole = False
        self.unknown: list[int] = []

    @property
    def memory_size(self) -> int:
        return len(self.bits) + 200

    def add(self, places: Iterable[int]) -> None:
        """Places are meant."""
        bits = self.bits
        for place in places:
            bits[place >> 3] |= 1 << (place & 7)

    def live(self, segment: Segment, place: int, end: int) -> int:
        """Give a bit for each place from `place` to before `end` that is meant and is there."""
        low, high = place >> 3, end + 7 >> 3
        bits = int.from_bytes(self.bits[low:high], "little")
        if segment.gone is not None:
            bits &= ~int.from_bytes(segment.gone[low:high], "little")
        return (bits & ((1 << (end - (low << 3))) - 1)) >> (place & 7)

    def count(self, segment: Segment, place: int) -> int:
        """Count the messages from `place` on that are meant and are there."""
        unknown = sum(each >= place and not segment.is_gone(each) for each in self.unknown)
        return self.live(segment, place, segment.records).bit_count() - unknown

    def next(self, segment: Segment, place: int) -> int:
        """Give the first place from `place` on that is meant and is there; the count of messages for none."""
        records, step = segment.records, 512
        while place < records:
            end = min(records, place + step)
            found = self.live(segment, place, end)
            if found:
                return place + (found & -found).bit_length() - 1
            place, step = end, step * 4
        return records

    def run_end(self, place: int, end: int) -> int:
        """Give the place behind the run of bits that begins at `place`, at most `end`, and not far away."""
        end = min(end, place + RUN_MAX)
        bits = self.bits
        while place < end and bits[place >> 3] >> (place & 7) & 1:
            place += 1
        return place

    def last(self, segment: Segment, place: int, end: int) -> int:
        """Give the last place from `place` to before `end` that is meant and is there; -1 for none."""
        return place + self.live(segment, place, end).bit_length() - 1 if place < end else -1


class _Sized(Protocol):
    @property
    def memory_size(self) -> int: ...


_Key = TypeVar("_Key")
_Held = TypeVar("_Held", bound=_Sized)


class SizedCache(Generic[_Key, _Held]):
    """What was used last, up to so many bytes; at least one."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._held: dict[_Key, tuple[_Held, int]] = {}
        self._size = 0

    def get(self, key: _Key) -> _Held | None:
        """Give what is kept under a key, and keep it for longer."""
        held = self._held.pop(key, None)
        if held is None:
            return None
        self._held[key] = held
        return held[0]

    def put(self, key: _Key, value: _Held) -> None:
        """Keep something, or say that its size has changed."""
        before = self._held.pop(key, None)
        self._size += value.memory_size - (0 if before is None else before[1])
        self._held[key] = (value, value.memory_size)
        while self._size > self._size_max and len(self._held) > 1:
            self._size -= self._held.pop(next(iter(self._held)))[1]


class LookupCache:
    """What the logs of a store keep of sealed segments' subjects. Salts are random, and never used again."""

    def __init__(
        self, *, postings_size_max: int = POSTINGS_SIZE_MAX, verdicts_size_max: int = VERDICTS_SIZE_MAX
    ) -> None:
        self.postings = SizedCache[int, Postings](postings_size_max)
        self.verdicts = SizedCache[tuple[int, Matcher], Verdict](verdicts_size_max)


class SegmentLookups:
    """The subjects of one log's segments."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        chores: Chores,
        stream_id: int,
        segments: Segments,
        cache: LookupCache,
    ) -> None:
        self._files = files
        self._clock = clock
        self._chance = chance
        self._chores = chores
        self._stream_id = stream_id
        self._segments = segments
        self._cache = cache
        self._making: set[int] = set()
        self._unfit: set[int] = set()
        segments.on_sealed = self.make

    def is_sealed(self, segment: Segment) -> bool:
        """Tell whether a segment is not written to any more."""
        return segment is not self._segments.all[-1] and segment.written == segment.used

    def make(self, segment: Segment) -> None:
        """Have a sealed segment's sidecar made in the background."""
        salt = segment.salt
        if salt not in self._making and salt not in self._unfit and segment.records:
            self._making.add(salt)
            chore = make_sidecar(
                self._files,
                segment,
                stream_id=self._stream_id,
                salt=fresh_salt(self._chance),
                time_ns=self._clock.now_ns(),
            )
            self._chores.queue(chore, partial(self._on_made, salt))

    def postings(self, segment: Segment) -> Postings | None:
        """Give a sealed segment's postings; where it has none they are made, and a later call has them."""
        held = self._cache.postings.get(segment.salt)
        if held is None and segment.salt not in self._making and segment.salt not in self._unfit:
            held = load_postings(self._files, segment)
            if held is None:
                self.make(segment)
            else:
                self._cache.postings.put(segment.salt, held)
        return held

    def verdict(self, segment: Segment, match: Matcher, steps_max: int = 0) -> tuple[Verdict | None, int]:
        """Give which messages of a sealed segment are meant, and how many steps that took; None: nobody knows.

        After `steps_max` (0: any number) the verdict may not be whole; the next call goes on with it.
        """
        key = (segment.salt, match)
        verdict = self._cache.verdicts.get(key)
        if verdict is not None and (verdict.is_whole or verdict.read_to == segment.records):
            return verdict, 0
        postings = self.postings(segment)
        if postings is None:
            return None, 0
        if verdict is None or verdict.read_to:
            verdict = Verdict()
            verdict.bits = bytearray(segment.records + 7 >> 3)
        steps = _judge(verdict, postings, match, steps_max)
        self._cache.verdicts.put(key, verdict)
        return verdict, steps

    def tail_verdict(
        self, segment: Segment, match: Matcher, subject_at: Callable[[int], bytes | None], steps_max: int
    ) -> Verdict | None:
        """Give which messages of the segment that is written to are meant; None where too many were not read yet.

        `subject_at` gives the subject of a place; None where no message can be read.
        """
        key = (segment.salt, match)
        verdict = self._cache.verdicts.get(key) or Verdict()
        verdict.bits.extend(bytes((segment.records + 7 >> 3) - len(verdict.bits)))
        end = min(segment.records, verdict.read_to + steps_max)
        for place in range(verdict.read_to, end):
            subject = subject_at(place)
            if subject is not None and match.matches(subject):
                verdict.add((place,))
        verdict.read_to = end
        self._cache.verdicts.put(key, verdict)
        return verdict if end == segment.records else None

    def _on_made(self, salt: int, _: OSError | None) -> None:
        self._making.discard(salt)
        for segment in self._segments.all:
            if segment.salt == salt and load_postings(self._files, segment) is None:
                # Damaged, or no room: its records are read until the next start.
                self._unfit.add(salt)


def _judge(verdict: Verdict, postings: Postings, match: Matcher, steps_max: int) -> int:
    """Ask about subjects from `reached` on; give how many steps that took."""
    steps = 0
    count = len(postings)
    if match.literals is not None:
        for subject in (UNKNOWN, *match.literals):
            number = postings.find(subject)
            if number >= 0:
                verdict.add(postings.places(number))
                if subject == UNKNOWN:
                    verdict.unknown = list(postings.places(number))
                steps += 1 + postings.count(number) // PLACES_A_STEP
        verdict.is_whole = True
        return steps
    parts = 0
    most = steps_max * SUBJECTS_A_STEP
    matches, subject_of = match.matches, postings.subject
    for number in range(verdict.reached, count):
        if most and parts >= most:
            break
        parts += 1
        verdict.reached = number + 1
        subject = subject_of(number)
        if subject == UNKNOWN:
            verdict.unknown = list(postings.places(number))
        elif not matches(subject):
            continue
        verdict.add(postings.places(number))
        parts += postings.count(number) * SUBJECTS_A_STEP // PLACES_A_STEP
    verdict.is_whole = verdict.reached == count
    return steps + -(-parts // SUBJECTS_A_STEP)
