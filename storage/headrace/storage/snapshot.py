"""Saying what a log holds, as operations: checkpoints and the snapshots that begin a generation.

Both are taken at the boundary of a commit cycle, on the loop, and are lists of plain values from then on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace.storage.contents import Contents
from headrace.storage.interface import ConsumerRecord
from headrace.storage.record import merged, pack_ranges
from headrace.storage.removals import bit_count, difference, set_places
from headrace.storage.segment import Segment
from headrace.storage.state import Checkpoint, DamagedPlace, Operation, SegmentRow, register_operations

RECORD_OPERATIONS_MAX: Final = 512
REGISTER_ROWS_MAX: Final = 4096
"""How much goes into one record of a snapshot, so that damage to one costs little."""

IDS_MAX: Final = 4096
"""How many message ids go into one operation."""

LONG_OPERATIONS: Final = frozenset(("bits", "register", "ids"))

RANGE_SIZE: Final = 4
"""What a removal in the middle of others takes as a range, about."""


class Capture(NamedTuple):
    """A checkpoint's operations, and the segments that were wholly dead at its boundary."""

    checkpoint: Checkpoint
    operations: list[Operation]
    dead: list[Segment]


def capture(contents: Contents, *, change: int, batch: int) -> Capture:
    """Say what differs from the capture before, and begin to gather for the next one."""
    operations: list[Operation] = []
    for segment in contents.segments.all:
        if segment.has_changed:
            operations.append(_segment_operation(segment))
            segment.has_changed = False
    last = contents.segments.all[-1] if contents.segments.all else None
    for segment, sequences in contents.gone_since.items():
        # A dead segment needs no bits, unless it is still written to.
        if segment.live_count or segment is last:
            operations.append(["gone", segment.name, pack_ranges(merged(sequences))])
    contents.gone_since.clear()
    checkpoint = _checkpoint(contents, change=change, batch=batch)
    operations.append(["checkpoint", checkpoint._asdict()])
    dead = [each for each in contents.segments.all if not each.live_count and each is not last]
    return Capture(checkpoint, operations, dead)


def snapshot_records(
    contents: Contents,
    *,
    stream: Mapping[str, Any],
    config: Mapping[str, Any],
    consumers: Mapping[str, ConsumerRecord],
    ids: Sequence[tuple[bytes, int, int]],
    damage: Sequence[DamagedPlace],
    erasing: Iterable[Operation],
    change: int,
    batch: int,
) -> list[list[Operation]]:
    """Give the records of operations that make this state from nothing."""
    operations: list[Operation] = [["stream", dict(stream)], ["config", dict(config)]]
    operations += consumer_operations(consumers.values())
    operations += [["lost", *each] for each in contents.lost]
    operations += [["damage", *each] for each in damage]
    operations += erasing
    operations += [["ids", ids[start : start + IDS_MAX]] for start in range(0, len(ids), IDS_MAX)]
    for segment in contents.segments.all:
        operations.append(_segment_operation(segment))
        if segment.gone is not None and (segment.live_count or segment is contents.segments.all[-1]):
            operations += _gone_operations(contents, segment)
    operations.append(["checkpoint", _checkpoint(contents, change=change, batch=batch)._asdict()])
    return in_records(operations)


def consumer_operations(consumers: Iterable[ConsumerRecord]) -> list[Operation]:
    """Give the operations that make consumers with their registers."""
    operations: list[Operation] = []
    for consumer in consumers:
        operations.append(["consumer", consumer.name, consumer.config, consumer.created_ns])
        operations += register_operations(consumer.name, consumer.register, REGISTER_ROWS_MAX)
    return operations


def in_records(operations: Iterable[Operation]) -> list[list[Operation]]:
    """Divide operations into records of a bounded size."""
    return list(_in_records(operations))


def _checkpoint(contents: Contents, *, change: int, batch: int) -> Checkpoint:
    last = contents.segments.all[-1] if contents.segments.all else None
    return Checkpoint(
        segment="" if last is None else last.name,
        offset=0 if last is None else last.used,
        sequence=contents.last,
        change=change,
        messages=contents.messages,
        size=contents.size,
        first=contents.first,
        last_time_ns=contents.last_time_ns,
        batch=batch,
    )


def _segment_operation(segment: Segment) -> Operation:
    row = SegmentRow(
        name=segment.name,
        last=segment.last,
        live_count=segment.live_count,
        live_size=segment.live_size,
        first_time_ns=segment.first_time_ns,
        last_time_ns=segment.last_time_ns,
        id_time_ns=segment.id_time_ns,
        records=segment.records,
        used=segment.used,
    )
    return ["segment", *row]


def _gone_operations(contents: Contents, segment: Segment) -> Iterator[Operation]:
    """Say which messages of a segment are removed: what its `.del` says, and what it does not."""
    gone = segment.gone or b""
    if segment.folded is not None:
        yield ["folded", segment.name, bit_count(segment.folded)]
        if not segment.unfolded_count:
            return
        if segment.is_dense and segment.unfolded_count * RANGE_SIZE < len(gone):
            places = set_places(difference(gone, segment.folded))
            sequences = (contents.segments.sequence(segment, place) for place in places)
            yield ["gone", segment.name, pack_ranges(merged(sequences))]
            return
    yield ["bits", segment.name, bytes(gone)]


def _in_records(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    record: list[Operation] = []
    for operation in operations:
        record.append(operation)
        if len(record) >= RECORD_OPERATIONS_MAX or operation[0] in LONG_OPERATIONS:
            yield record
            record = []
    if record:
        yield record
