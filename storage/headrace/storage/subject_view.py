"""One subject's messages, from where they are: chunks and a row on disk, differences in memory.

The parts are in order and do not overlap, so they are searched one by one: chunks (read only when somebody asks that
far back), the row's recent sequences, and what each layer added. Removed sequences are only marked, by layer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from headrace.storage.index_rows import (
    CHUNK_KEY_SIZE,
    SubjectRow,
    chunk_count,
    chunk_key,
    parse_chunk,
    unseal,
)
from headrace.storage.index_tables import Table, Transaction

CHUNKS_READ = 64
"""How many chunks are read at a time."""


class Chunks:
    """The older sequences of a subject on disk. Keys are the first sequence that the chunk held when it was made."""

    __slots__ = ("_prefix", "_transaction")

    def __init__(self, transaction: Transaction, prefix: bytes) -> None:
        self._transaction = transaction
        self._prefix = prefix

    def at(self, sequence: int) -> tuple[bytes, Sequence[int]] | None:
        """Give the chunk that holds `sequence`, if any does."""
        row = self._transaction.last_row(
            Table.CHUNKS, chunk_key(self._prefix, 0), chunk_key(self._prefix, sequence)
        )
        return None if row is None else (row[0], parse_chunk(unseal(*row)))

    def last(self) -> tuple[bytes, Sequence[int]] | None:
        row = self._transaction.last_row(Table.CHUNKS, chunk_key(self._prefix, 0), self._prefix + b"\xff" * 8)
        return None if row is None else (row[0], parse_chunk(unseal(*row)))

    def upwards(self, start: int) -> Iterator[Sequence[int]]:
        """Give the chunks that may hold sequences from `start` on, ascending."""
        for key, payload in self._payloads(start):
            assert len(key) == CHUNK_KEY_SIZE, "a chunk's key has one size"
            yield parse_chunk(payload)

    def downwards(self, limit: int) -> Iterator[Sequence[int]]:
        """Give the chunks that may hold sequences up to `limit`, descending."""
        start = chunk_key(self._prefix, 0)
        end = chunk_key(self._prefix, limit)
        while True:
            row = self._transaction.last_row(Table.CHUNKS, start, end)
            if row is None:
                return
            yield parse_chunk(unseal(*row))
            sequence = int.from_bytes(row[0][-8:], "big")
            if sequence == 0:
                return
            end = chunk_key(self._prefix, sequence - 1)

    def count_from(self, start: int) -> int:
        """Count the sequences at or above `start`; unpacks only the chunk in which `start` lies."""
        total = 0
        for key, payload in self._payloads(start):
            if int.from_bytes(key[-8:], "big") >= start:
                total += chunk_count(payload)
            else:
                sequences = parse_chunk(payload)
                total += len(sequences) - bisect_left(sequences, start)
        return total

    def _payloads(self, start: int) -> Iterator[tuple[bytes, bytes]]:
        stop = self._prefix + b"\xff" * 9
        key = chunk_key(self._prefix, start)
        before = self._transaction.last_row(Table.CHUNKS, chunk_key(self._prefix, 0), key)
        if before is not None:
            key = before[0]
        while True:
            rows = self._transaction.rows(Table.CHUNKS, key, stop, CHUNKS_READ)
            for each in rows:
                yield each[0], unseal(*each)
            if len(rows) < CHUNKS_READ:
                return
            key = rows[-1][0] + b"\0"


class SubjectView:
    """The messages of one subject, all layers counted. Valid within one transaction, while nothing is told.

    `chunks` is given where the row has more messages than it holds.
    """

    __slots__ = ("_chunks", "_lists", "_removed", "count")

    def __init__(
        self,
        row: SubjectRow | None,
        chunks: Chunks | None,
        added: Sequence[Sequence[int]],
        removed: Sequence[set[int]],
    ) -> None:
        self._chunks = chunks
        self._lists = [row.recent, *added] if row is not None else list(added)
        self._removed = removed
        base = row.total if row is not None else 0
        self.count = base + sum(map(len, added)) - sum(map(len, removed))

    def upwards(self, start: int) -> Iterator[int]:
        """Give the sequences from `start` on, ascending."""
        if self._chunks is not None and start < self._lists[0][0]:
            for chunk in self._chunks.upwards(start):
                yield from self._present(chunk, range(bisect_left(chunk, start), len(chunk)))
        for sequences in self._lists:
            if sequences and sequences[-1] >= start:
                yield from self._present(sequences, range(bisect_left(sequences, start), len(sequences)))

    def downwards(self, limit: int) -> Iterator[int]:
        """Give the sequences up to `limit`, descending."""
        for sequences in reversed(self._lists):
            if sequences and sequences[0] <= limit:
                yield from self._present(sequences, range(bisect_right(sequences, limit) - 1, -1, -1))
        if self._chunks is not None:
            for chunk in self._chunks.downwards(limit):
                yield from self._present(chunk, range(bisect_right(chunk, limit) - 1, -1, -1))

    def first(self, floor: int) -> int:
        """Give the first sequence, which is known to be no less than `floor`; 0 where there is none."""
        return next(self.upwards(floor), 0)

    def last(self, limit: int) -> int:
        """Give the last sequence that is not above `limit`; 0 where there is none."""
        return next(self.downwards(limit), 0)

    def count_from(self, start: int) -> int:
        """Count the sequences at or above `start`."""
        total = sum(len(each) - bisect_left(each, start) for each in self._lists)
        if self._chunks is not None:
            total += self._chunks.count_from(start)
        return total - sum(sum(sequence >= start for sequence in each) for each in self._removed)

    def _present(self, sequences: Sequence[int], places: range) -> Iterator[int]:
        removed = self._removed
        for place in places:
            sequence = sequences[place]
            if not any(sequence in gone for gone in removed):
                yield sequence
