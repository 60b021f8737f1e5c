"""Writes one layer into the index tables, a step at a time.

A write goes through the layer's subjects in the order of their keys, some hundred in one transaction, then through its
message ids; with each transaction the log's row says how far it is, and in the last one that it is done. So at any
moment, and after a crash at any moment, a subject's row is either as of the position before (`key > written_key`) or as
of the layer's, and it is known which. After a crash the log tells the layer's stretch again, and the write goes on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from headrace.storage.index_interface import IndexDamaged
from headrace.storage.index_layer import Delta, Layer, as_delta
from headrace.storage.index_root import IndexRoot
from headrace.storage.index_rows import (
    KEY_SIZE_MAX,
    IdRow,
    LogRow,
    SubjectRow,
    chunk_key,
    chunk_payload,
    chunk_prefix,
    chunks_of,
    id_payload,
    name_key,
    parse_id,
    parse_subject,
    prefix_bytes,
    prefix_end,
    seal,
    subject_payload,
    unseal,
)
from headrace.storage.index_tables import Table, Transaction
from headrace.storage.subject_view import Chunks

STEP_COUNT: Final = 400
"""Rows in one transaction: about two milliseconds."""

RECENT_MAX: Final = 128
RECENT_KEPT: Final = 64
"""A row holds so many sequences; beyond the first figure all but the second go into chunks."""

SWEPT_PER_ID: Final = 2
"""For each id written so many are looked at, and go if they are outdated: the table stays within twice its need."""


class LayerWriter:
    """One write. `row` is the log's row as it is on disk; `sweep_key` is how far outdated ids were looked for."""

    def __init__(
        self, root: IndexRoot, stream_id: int, row: LogRow, layer: Layer, sweep_key: bytes = b""
    ) -> None:
        assert layer.position is not None, "only a layer that is complete is written"
        assert row.target in (None, layer.position), "a write that was begun goes on with the same layer"
        self._root = root
        self._stream_id = stream_id
        self._layer = layer
        self.row = row
        self._place = 0
        self._subjects: list[bytes] | None = None
        self._id_place = 0
        self._ids: list[bytes] | None = None
        self.sweep_key = sweep_key

    def step(self, horizon_ns: int) -> bool:
        """Do one transaction's worth; tell whether more is to do. An error leaves everything as it was."""
        if self.row.target is None:
            self._begin()
        elif self._subjects is None:
            self._subjects = self._sorted_subjects()
        elif self._place < len(self._subjects):
            self._write_subjects(self._subjects[self._place : self._place + STEP_COUNT])
        elif self._ids is None:
            self._ids = sorted(self._layer.ids)
        elif self._id_place < len(self._ids):
            self._write_ids(self._ids[self._id_place : self._id_place + STEP_COUNT], horizon_ns)
        else:
            self._end()
            return False
        return True

    def _begin(self) -> None:
        row = replace(
            self.row, target=self._layer.position, written_key=b"", is_cleared=self._layer.is_cleared
        )
        with self._root.tables.write() as transaction:
            if row.is_cleared:
                self._root.discard_subjects(transaction, row.subject_prefix)
                row = replace(row, subject_prefix=self._root.take_prefix(transaction), row_count=0)
            self._root.save_log(transaction, self._stream_id, row)
        self.row = row

    def _end(self) -> None:
        assert self._layer.position is not None, "only a layer that is complete is written"
        row = replace(self.row, position=self._layer.position, target=None, written_key=b"", is_cleared=False)
        with self._root.tables.write() as transaction:
            self._root.save_log(transaction, self._stream_id, row)
        self.row = row

    def _sorted_subjects(self) -> list[bytes]:
        """Give the subjects that are still to write, in the order of their keys."""
        deltas = self._layer.deltas
        written = self.row.written_key
        subjects: Iterable[bytes] = deltas
        if written:
            subjects = [each for each in deltas if self._key(each) > written]
        # Without hashes the order of subjects is that of keys, and sorting them takes half the time.
        if max(map(len, subjects), default=0) <= KEY_SIZE_MAX:
            return sorted(subjects)
        return sorted(subjects, key=self._key)

    def _key(self, subject: bytes) -> bytes:
        return name_key(prefix_bytes(self.row.subject_prefix), subject, self._root.secret)

    def _write_subjects(self, subjects: Sequence[bytes]) -> None:
        deltas = self._layer.deltas
        with self._root.tables.write() as transaction:
            count = self.row.row_count
            for subject in subjects:
                count += self._write_subject(transaction, self._key(subject), subject, deltas[subject])
            row = replace(self.row, written_key=self._key(subjects[-1]), row_count=count)
            self._root.save_log(transaction, self._stream_id, row)
        self.row = row
        self._place += len(subjects)

    def _write_subject(self, transaction: Transaction, key: bytes, subject: bytes, delta: int | Delta) -> int:
        """Bring a subject's row up to the layer; give by how much the number of rows changed."""
        value = transaction.get(Table.SUBJECTS, key)
        if value is None:
            if isinstance(delta, int):
                only = SubjectRow(subject, 1, delta, delta, (delta,))
                transaction.put(Table.SUBJECTS, key, seal(key, subject_payload(key, only)))
                return 1
            before = None
        else:
            before = parse_subject(key, unseal(key, value))
        after = self._rewritten(transaction, subject, before, as_delta(delta))
        if after is not None:
            transaction.put(Table.SUBJECTS, key, seal(key, subject_payload(key, after)))
        elif before is not None:
            transaction.delete(Table.SUBJECTS, key)
        return (after is not None) - (before is not None)

    def _rewritten(
        self, transaction: Transaction, subject: bytes, before: SubjectRow | None, delta: Delta
    ) -> SubjectRow | None:
        """Give the subject's row after `delta`; None where no message is left. Chunks are changed on the way."""
        removed = delta.removed
        recent = [*before.recent, *delta.added] if before is not None else delta.added
        older: list[int] = []
        if removed:
            older = sorted(each for each in removed if each < recent[0]) if recent else sorted(removed)
            recent = [each for each in recent if each not in removed]
        chunked = before.chunked if before is not None else 0
        if not chunked and not older and len(recent) <= RECENT_MAX:
            if not recent:
                return None
            return SubjectRow(subject, len(recent), recent[0], recent[-1], recent)

        prefix = chunk_prefix(prefix_bytes(self.row.subject_prefix), subject, self._root.secret)
        chunks = Chunks(transaction, prefix)
        if older:
            _remove_chunked(transaction, prefix, chunks, older)
            chunked -= len(older)
        while not recent and chunked:
            last = chunks.last()
            if last is None:
                raise IndexDamaged("a chunk of the index is missing; it is rebuilt")
            transaction.delete(Table.CHUNKS, last[0])
            recent = list(last[1])
            chunked -= len(recent)
        if not recent:
            return None
        if len(recent) > RECENT_MAX:
            for chunk in chunks_of(recent[:-RECENT_KEPT]):
                _put_chunk(transaction, chunk_key(prefix, chunk[0]), chunk)
            chunked += len(recent) - RECENT_KEPT
            recent = recent[-RECENT_KEPT:]
        first = recent[0]
        if chunked:
            first_chunk = next(chunks.upwards(0), None)
            if first_chunk is None:
                raise IndexDamaged("a chunk of the index is missing; it is rebuilt")
            first = first_chunk[0]
        return SubjectRow(subject, chunked + len(recent), first, recent[-1], recent)

    def _write_ids(self, ids: Sequence[bytes], horizon_ns: int) -> None:
        prefix = prefix_bytes(self.row.id_prefix)
        with self._root.tables.write() as transaction:
            for message_id in ids:
                sequence, time_ns = self._layer.ids[message_id]
                key = name_key(prefix, message_id, self._root.secret)
                payload = id_payload(key, IdRow(message_id, sequence, time_ns))
                transaction.put(Table.IDS, key, seal(key, payload))
            sweep_key = self._sweep_ids(transaction, SWEPT_PER_ID * len(ids), horizon_ns)
        self.sweep_key = sweep_key
        self._id_place += len(ids)

    def _sweep_ids(self, transaction: Transaction, count_max: int, horizon_ns: int) -> bytes:
        """Delete outdated ids among the next rows; give where to go on."""
        start = self.sweep_key or prefix_bytes(self.row.id_prefix)
        rows = transaction.rows(Table.IDS, start, prefix_end(self.row.id_prefix), count_max)
        for key, value in rows:
            if parse_id(key, unseal(key, value)).time_ns < horizon_ns:
                transaction.delete(Table.IDS, key)
        return rows[-1][0] + b"\0" if len(rows) == count_max else b""


def _remove_chunked(transaction: Transaction, prefix: bytes, chunks: Chunks, removed: Sequence[int]) -> None:
    """Take sequences, ascending, out of the chunks that hold them."""
    place = 0
    while place < len(removed):
        found = chunks.at(removed[place])
        if found is None:
            raise IndexDamaged("a chunk of the index is missing; it is rebuilt")
        key, sequences = found
        stop = place
        while stop < len(removed) and removed[stop] <= sequences[-1]:
            stop += 1
        gone = frozenset(removed[place:stop])
        left = [each for each in sequences if each not in gone]
        if not gone or len(left) + len(gone) != len(sequences):
            raise IndexDamaged("a removed message is in no chunk of the index; it is rebuilt")
        transaction.delete(Table.CHUNKS, key)
        # The first part keeps the key: whatever lies above that key and below the next chunk belongs here.
        for number, chunk in enumerate(chunks_of(left)):
            _put_chunk(transaction, chunk_key(prefix, chunk[0]) if number else key, chunk)
        place = stop


def _put_chunk(transaction: Transaction, key: bytes, sequences: Sequence[int]) -> None:
    transaction.put(Table.CHUNKS, key, seal(key, chunk_payload(sequences)))
