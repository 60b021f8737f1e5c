"""Records by sequence, with holes, in memory.

Sequences only grow at the end and go anywhere. One dictionary finds a record; beside it, blocks of `BLOCK_SIZE`
sequences are counted, and the numbers of those that hold anything are kept in order. So a search for the next record
looks at one block at most and jumps over any gap behind it, and a count from some sequence on adds up blocks.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

BLOCK_BITS: Final = 9
BLOCK_SIZE: Final = 1 << BLOCK_BITS

Record = TypeVar("Record")


class SparseRecords(Generic[Record]):
    """A map from sequence to record that finds neighbours. `by_sequence` is for looking only."""

    __slots__ = ("_block_counts", "_block_numbers", "by_sequence")

    def __init__(self) -> None:
        self.by_sequence: dict[int, Record] = {}
        self._block_counts: dict[int, int] = {}
        self._block_numbers: list[int] = []

    def __len__(self) -> int:
        return len(self.by_sequence)

    def append(self, sequence: int, record: Record) -> None:
        """Add a record; its sequence is higher than any before."""
        number = sequence >> BLOCK_BITS
        counts = self._block_counts
        if number in counts:
            counts[number] += 1
        else:
            assert not self._block_numbers or self._block_numbers[-1] < number, "sequences only grow"
            counts[number] = 1
            self._block_numbers.append(number)
        self.by_sequence[sequence] = record

    def pop(self, sequence: int) -> Record | None:
        """Take a record out; None where there is none."""
        record = self.by_sequence.pop(sequence, None)
        if record is None:
            return None
        number = sequence >> BLOCK_BITS
        count = self._block_counts[number] - 1
        if count:
            self._block_counts[number] = count
        else:
            del self._block_counts[number]
            del self._block_numbers[bisect_left(self._block_numbers, number)]
        return record

    def clear(self) -> None:
        self.by_sequence.clear()
        self._block_counts.clear()
        self._block_numbers.clear()

    def next(self, sequence: int) -> int | None:
        """Give the first sequence at or above `sequence` that has a record."""
        records = self.by_sequence
        if sequence in records:
            return sequence
        number = sequence >> BLOCK_BITS
        if number in self._block_counts:
            for candidate in range(sequence + 1, (number + 1) << BLOCK_BITS):
                if candidate in records:
                    return candidate
        place = bisect_right(self._block_numbers, number)
        if place == len(self._block_numbers):
            return None
        candidate = self._block_numbers[place] << BLOCK_BITS
        while candidate not in records:
            candidate += 1
        return candidate

    def count_from(self, sequence: int) -> int:
        """Count the records at or above `sequence`."""
        number = sequence >> BLOCK_BITS
        counts = self._block_counts
        behind = self._block_numbers[bisect_right(self._block_numbers, number) :]
        total = sum(map(counts.__getitem__, behind))
        if number in counts:
            records = self.by_sequence
            total += sum(candidate in records for candidate in range(sequence, (number + 1) << BLOCK_BITS))
        return total

    def sequences(self, start: int, stop: int) -> Iterator[int]:
        """Give the sequences from `start` to `stop` inclusive that have a record. None may be taken out meanwhile."""
        records = self.by_sequence
        numbers = self._block_numbers
        for place in range(bisect_left(numbers, start >> BLOCK_BITS), len(numbers)):
            block_start = numbers[place] << BLOCK_BITS
            if block_start > stop:
                return
            for sequence in range(max(start, block_start), min(stop, block_start + BLOCK_SIZE - 1) + 1):
                if sequence in records:
                    yield sequence

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Give the inclusive ranges from `start` to `stop` that hold no record, ascending."""
        expected = start
        for number in self._block_numbers[bisect_left(self._block_numbers, start >> BLOCK_BITS) :]:
            block_start = number << BLOCK_BITS
            if block_start > stop:
                break
            if self._block_counts[number] == BLOCK_SIZE and expected <= block_start:
                if expected < block_start:
                    yield expected, block_start - 1
                expected = block_start + BLOCK_SIZE
                continue
            for sequence in range(max(expected, block_start), min(stop, block_start + BLOCK_SIZE - 1) + 1):
                if sequence in self.by_sequence:
                    if expected < sequence:
                        yield expected, sequence - 1
                    expected = sequence + 1
        if expected <= stop:
            yield expected, stop
