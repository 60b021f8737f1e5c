"""Which messages a subject has, in memory: its sequences in order, and the subjects in byte order.

A subject's sequences are a list with a start, so that the oldest goes without moving the rest. One that goes from the
middle stays in the list as a hole until holes are the majority; the ends of the list are always messages that are
there. Whether a sequence is a hole is asked of the log's records: a sequence is never used twice.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator

from headrace.storage.interface import Matcher, SubjectState


class SubjectSequences:
    """The messages of one subject. Never empty: the last one takes its subject with it."""

    __slots__ = ("_list", "_start", "count")

    def __init__(self, sequence: int) -> None:
        self._list = [sequence]
        self._start = 0
        self.count = 1

    @property
    def first(self) -> int:
        return self._list[self._start]

    @property
    def last(self) -> int:
        return self._list[-1]

    def append(self, sequence: int) -> None:
        self._list.append(sequence)
        self.count += 1

    def remove(self, sequence: int, present: Container[int]) -> None:
        """Let go of `sequence`, which is no longer among those `present`. Others must remain."""
        self.count -= 1
        assert self.count > 0, "a subject without messages is dropped, not emptied"
        sequences = self._list
        if sequences[self._start] == sequence:
            self._start += 1
            while sequences[self._start] not in present:
                self._start += 1
        elif sequences[-1] == sequence:
            sequences.pop()
            while sequences[-1] not in present:
                sequences.pop()
        if len(sequences) > 2 * self.count + 8:
            self._list = [each for each in sequences[self._start :] if each in present]
            self._start = 0

    def at_or_after(self, start: int, present: Container[int]) -> Iterator[int]:
        """Give the sequences from `start` on, ascending. None may go meanwhile."""
        sequences = self._list
        for place in range(bisect_left(sequences, start, self._start), len(sequences)):
            if sequences[place] in present:
                yield sequences[place]

    def at_or_before(self, sequence: int, present: Container[int]) -> int:
        """Give the newest that is not above `sequence`; 0 where there is none."""
        sequences = self._list
        for place in range(bisect_left(sequences, sequence + 1, self._start) - 1, self._start - 1, -1):
            if sequences[place] in present:
                return sequences[place]
        return 0

    def count_from(self, start: int, present: Container[int]) -> int:
        """Count those at or above `start`."""
        if start <= self.first:
            return self.count
        sequences = self._list
        place = bisect_left(sequences, start, self._start)
        if len(sequences) - self._start == self.count:
            return len(sequences) - place
        return sum(sequences[each] in present for each in range(place, len(sequences)))


class MemorySubjects:
    """All subjects of one log. `present` holds the sequences of the messages that are there."""

    def __init__(self, present: Container[int]) -> None:
        self._present = present
        self._by_subject: dict[bytes, SubjectSequences] = {}
        self._in_order: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._by_subject)

    def get(self, subject: bytes) -> SubjectSequences | None:
        return self._by_subject.get(subject)

    def append(self, sequence: int, subject: bytes) -> None:
        sequences = self._by_subject.get(subject)
        if sequences is None:
            self._by_subject[subject] = SubjectSequences(sequence)
            self._in_order = None
        else:
            sequences.append(sequence)

    def remove(self, sequence: int, subject: bytes) -> None:
        """Let go of a message that is no longer present."""
        sequences = self._by_subject[subject]
        if sequences.count == 1:
            del self._by_subject[subject]
            self._in_order = None
        else:
            sequences.remove(sequence, self._present)

    def clear(self) -> None:
        self._by_subject.clear()
        self._in_order = None

    def matching(self, match: Matcher | None) -> Iterator[SubjectSequences]:
        """Give the sequences of every matching subject, in no order."""
        if match is None:
            yield from self._by_subject.values()
        elif match.literals is not None:
            for subject in match.literals:
                sequences = self._by_subject.get(subject)
                if sequences is not None:
                    yield sequences
        else:
            matches = match.matches
            for subject, sequences in self._by_subject.items():
                if matches(subject):
                    yield sequences

    def states(self, match: Matcher | None, *, after: bytes, count_max: int) -> list[SubjectState]:
        """Give matching subjects in byte order, those behind `after`, at most `count_max` unless 0."""
        found: list[SubjectState] = []
        if match is not None and match.literals is not None:
            subjects = sorted(match.literals & self._by_subject.keys())
            match = None
        else:
            if self._in_order is None:
                self._in_order = sorted(self._by_subject)
            subjects = self._in_order
        place = bisect_right(subjects, after) if after else 0
        for subject in (
            subjects[place : place + count_max] if match is None and count_max else subjects[place:]
        ):
            if match is not None and not match.matches(subject):
                continue
            sequences = self._by_subject[subject]
            found.append(SubjectState(subject, sequences.count, sequences.first, sequences.last))
            if len(found) == count_max:
                break
        return found
