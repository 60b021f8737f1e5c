"""What is written to the lookup index: jobs, and who carries them out.

A job is complete in itself, so that the process which carries it out needs to know nothing of the log: a `LayerJob`
brings a log's rows from one position to the next, a `PartJob` tells rows that are made anew the messages of a part of
a segment, which it reads itself, and a `DropJob` lets the rows of a log go. All of them are cut into transactions of
some hundred rows, and one that was cut short may be given again.

Rows that are being made anew stand at `START` until the first layer behind them is written: a start that finds rows at
`START` makes them anew.
"""

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from headrace.storage.files import Files
from headrace.storage.framing import Unreadable
from headrace.storage.index_interface import START, IndexDamaged, Position
from headrace.storage.index_layer import Delta, Layer
from headrace.storage.index_root import IndexRoot
from headrace.storage.index_rows import LogRow
from headrace.storage.index_writer import LayerWriter
from headrace.storage.part_notes import Part, notes_of

UNREADABLE_MAX: Final = 64
"""So many damaged places of a part are named one by one: an answer has to be small."""

Ids = list[tuple[bytes, int, int]]
"""Message id, sequence, time."""


class LayerJob(NamedTuple):
    """Bring a log's rows to the position of `layer`. Ids older than `horizon_ns` may go."""

    stream_id: int
    layer: Layer
    horizon_ns: int


class PartJob(NamedTuple):
    """Tell a log's new rows a part of a segment; `is_first`: begin them. `ids` are known without their messages."""

    stream_id: int
    part: Part | None
    is_first: bool
    ids: Ids


class DropJob(NamedTuple):
    """A log was deleted."""

    stream_id: int


Job = LayerJob | PartJob | DropJob


class Done(NamedTuple):
    """What a job led to: the log's row, and what of a part's records could not be read."""

    row: LogRow | None
    unreadable: Sequence[Unreadable] = ()


class Executor:
    """Carries out jobs, a transaction at a time."""

    def __init__(self, root: IndexRoot, files: Files) -> None:
        self._root = root
        self._files = files
        self._sweep_keys: dict[int, bytes] = {}

    def run(self, job: Job) -> Generator[None, None, Done]:
        """Do a job. Raises IndexDamaged, IndexUnwritable, and OSError where a part has no file."""
        if isinstance(job, LayerJob):
            return Done((yield from self._write(job.stream_id, job.layer, job.horizon_ns)))
        if isinstance(job, DropJob):
            self._sweep_keys.pop(job.stream_id, None)
            with self._root.tables.write() as transaction:
                self._root.drop_log(transaction, job.stream_id)
            return Done(None)
        return (yield from self._tell(job))

    def _tell(self, job: PartJob) -> Generator[None, None, Done]:
        row = self._begun(job.stream_id, is_new=job.is_first)
        if job.ids:
            layer = Layer()
            for each in job.ids:
                layer.add_id(*each)
            row = yield from self._write(job.stream_id, _at_start(layer), 0)
        unreadable: list[Unreadable] = []
        for notes in notes_of(self._files, job.part, unreadable) if job.part is not None else ():
            if notes is None:
                yield
            else:
                row = yield from self._write(job.stream_id, _at_start(notes), 0)
        return Done(row, _few(unreadable))

    def _write(self, stream_id: int, layer: Layer, horizon_ns: int) -> Generator[None, None, LogRow]:
        row = self._begun(stream_id)
        if layer.position == row.position != START and row.target is None:
            return row  # it was written, and whoever wanted it did not hear of it
        writer = LayerWriter(self._root, stream_id, row, layer, self._sweep_keys.get(stream_id, b""))
        while writer.step(horizon_ns):
            yield
        self._sweep_keys[stream_id] = writer.sweep_key
        return writer.row

    def _begun(self, stream_id: int, *, is_new: bool = False) -> LogRow:
        """Give a log's row, made where there is none."""
        with self._root.tables.read() as transaction:
            row = self._root.load_log(transaction, stream_id)
        if row is None or is_new:
            with self._root.tables.write() as transaction:
                row = self._root.begin_log(transaction, stream_id)
        return row


def _few(unreadable: list[Unreadable]) -> list[Unreadable]:
    """Make one of all damaged places beyond so many: what lies in between is read again, and found good."""
    rest = unreadable[UNREADABLE_MAX:]
    if not rest:
        return unreadable
    offset, end = rest[0].offset, rest[-1].offset + rest[-1].size
    return [*unreadable[:UNREADABLE_MAX], Unreadable(offset, end - offset, f"{len(rest)} places are damaged")]


def _at_start(layer: Layer) -> Layer:
    layer.position = START
    return layer


# ---- between processes

_LAYER: Final = 0
_PART: Final = 1
_DROP: Final = 2


def encode_job(job: Job) -> bytes:
    """Encode a job for another process."""
    if isinstance(job, LayerJob):
        layer = job.layer
        assert layer.position is not None, "only a layer that is complete is written"
        value: list[Any] = [
            _LAYER,
            job.stream_id,
            list(layer.position),
            layer.is_cleared,
            layer.notes,
            layer.deltas,
            layer.ids,
            job.horizon_ns,
        ]
        return _packed(value)
    if isinstance(job, PartJob):
        part = None if job.part is None else list(job.part)
        return _packed([_PART, job.stream_id, part, job.is_first, job.ids])
    return _packed([_DROP, job.stream_id])


def decode_job(data: bytes) -> Job:
    """Decode what `encode_job` made."""
    kind, stream_id, *rest = msgpack.unpackb(data, strict_map_key=False)
    if kind == _LAYER:
        position, is_cleared, notes, deltas, ids, horizon_ns = rest
        layer = Layer()
        layer.position = Position(*position)
        layer.is_cleared = is_cleared
        layer.notes = notes
        layer.deltas = {
            subject: delta if isinstance(delta, int) else Delta(delta[0], set(delta[1]))
            for subject, delta in deltas.items()
        }
        layer.ids = ids
        return LayerJob(stream_id, layer, horizon_ns)
    if kind == _PART:
        part, is_first, ids = rest
        return PartJob(stream_id, None if part is None else Part(*part), is_first, ids)
    if kind == _DROP:
        return DropJob(stream_id)
    raise IndexDamaged(f"there is no job {kind}")


def _packed(value: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, default=_plain)
    return packed


def _plain(delta: Any) -> Any:  # noqa: ANN401  (msgpack asks about anything)
    return [delta.added, list(delta.removed)]
