"""What a stream is apart from its messages, and the operations that change it.

A state log is a list of operations (docs/storage-format.md, section 5); this module says what each of them means when
it is replayed. A snapshot is the list of operations that makes the same state from nothing, so there is one
interpreter for both. It keeps no policy: a removal names sequences, a consumer is a register of numbers.

Operations are numbered over all generations (*change numbers*), so that a checkpoint can say which are counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from headrace.storage.interface import ConsumerRecord, Register, RegisterChange
from headrace.storage.record import RecordInvalid, unpack_ranges
from headrace.storage.registers import apply_change

STREAM_SEQUENCE_SUFFIX: Final = "_stream"
"""Numbers of a register whose name ends so are stream sequences, and count as named (recovery, rule 4)."""

Operation = list[Any]


class SegmentRow(NamedTuple):
    """What a checkpoint says of a segment."""

    name: str
    last: int
    live_count: int
    live_size: int
    first_time_ns: int
    last_time_ns: int
    id_time_ns: int
    records: int
    used: int


class Checkpoint(NamedTuple):
    """A boundary of a group commit and what held there."""

    segment: str = ""
    offset: int = 0
    sequence: int = 0
    change: int = 0
    messages: int = 0
    size: int = 0
    first: int = 0
    last_time_ns: int = 0
    batch: int = 0


NO_CHECKPOINT: Final = Checkpoint()


class Removal(NamedTuple):
    """Sequences that were removed, when `after` was the last one appended."""

    change: int
    after: int
    ranges: list[tuple[int, int]]


class Lost(NamedTuple):
    """Sequences that cannot be read. `certain`: they were acknowledged; else they may have been."""

    first: int
    last: int
    certain: bool


class DamagedPlace(NamedTuple):
    """Unreadable bytes. `first` and `last` are the sequences that were there, 0 where none are known."""

    file: str
    offset: int
    size: int
    what: str
    first: int
    last: int
    certain: bool


class KnownId(NamedTuple):
    """A message id whose segment was dropped."""

    message_id: bytes
    sequence: int
    time_ns: int


class Closed(NamedTuple):
    """A clean stop: nothing was written after it."""

    segment: str
    used: int
    sequence: int


@dataclass
class State:
    """The outcome of replaying a state log."""

    created_ns: int = 0
    first: int = 1
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    consumers: dict[str, ConsumerRecord] = field(default_factory=dict[str, ConsumerRecord])
    segments: dict[str, SegmentRow] = field(default_factory=dict[str, SegmentRow])
    gone_bits: dict[str, bytes] = field(default_factory=dict[str, bytes])
    folded: dict[str, int] = field(default_factory=dict[str, int])
    gone_ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])
    dropped: set[str] = field(default_factory=set[str])
    checkpoint: Checkpoint = NO_CHECKPOINT
    removals: list[Removal] = field(default_factory=list[Removal])
    ids: list[KnownId] = field(default_factory=list[KnownId])
    secure: list[Removal] = field(default_factory=list[Removal])
    """Removals behind the last checkpoint whose messages are to be overwritten."""
    erasing: dict[tuple[str, int], Operation] = field(default_factory=dict[tuple[str, int], Operation])
    """What was to be overwritten and was not said to be, by segment and offset."""
    lost: list[Lost] = field(default_factory=list[Lost])
    damage: list[DamagedPlace] = field(default_factory=list[DamagedPlace])
    closed: Closed | None = None
    durable_to: int = 0
    """What an open or a clean stop said to be durable."""
    named: int = 0
    """The highest sequence that the journal named in what could not be read of it."""
    change: int = 0
    is_broken: bool = False
    """Whether operations are missing: what builds on them is not taken in, and the last checkpoint before counts."""

    def apply(self, change: int, operation: Operation) -> None:
        """Replay one operation. Raises RecordInvalid."""
        try:
            replay = _REPLAYS.get(operation[0])
            if replay is None:
                raise RecordInvalid(f"an operation {operation[0]!r} is not known")
            if not self.is_broken or operation[0] not in _INCREMENTAL:
                replay(self, change, operation)
        except (IndexError, TypeError, ValueError, KeyError) as error:
            raise RecordInvalid(f"an operation {operation[:1]!r} does not have its fields") from error
        self.change = max(self.change, change)

    def named_sequence(self) -> int:
        """Give the highest sequence that anything in here has named."""
        highest = max(self.checkpoint.sequence, self.durable_to, self.named)
        for removal in self.removals:
            if removal.ranges:
                highest = max(highest, removal.ranges[-1][1])
        for lost in self.lost:
            highest = max(highest, lost.last)
        for consumer in self.consumers.values():
            numbers, rows = consumer.register
            highest = max(highest, max(rows, default=0))
            for name, number in numbers.items():
                if name.endswith(STREAM_SEQUENCE_SUFFIX):
                    highest = max(highest, number)
        return highest


def register_operations(name: str, register: Register, rows_max: int) -> Iterator[Operation]:
    """Give the operations that make `register` from an empty one, at most `rows_max` rows in each."""
    numbers = dict(register.numbers)
    rows = list(register.rows.items())
    for start in range(0, max(1, len(rows)), rows_max):
        puts = {sequence: list(row) for sequence, row in rows[start : start + rows_max]}
        yield ["register", name, numbers, [], puts]
        numbers = {}


def _replay_stream(state: State, _: int, operation: Operation) -> None:
    fields = operation[1]
    state.created_ns = fields["created_ns"]
    state.first = fields["first"]


def _replay_config(state: State, _: int, operation: Operation) -> None:
    state.config = operation[1]


def _replay_checkpoint(state: State, _: int, operation: Operation) -> None:
    state.checkpoint = Checkpoint(**operation[1])
    state.secure = [each for each in state.secure if each.change > state.checkpoint.change]
    state.closed = None


def _replay_segment(state: State, _: int, operation: Operation) -> None:
    row = SegmentRow._make(operation[1:])
    state.segments[row.name] = row


def _replay_gone(state: State, _: int, operation: Operation) -> None:
    state.gone_ranges.setdefault(operation[1], []).extend(unpack_ranges(operation[2]))


def _replay_bits(state: State, _: int, operation: Operation) -> None:
    state.gone_bits[operation[1]] = operation[2]


def _replay_folded(state: State, _: int, operation: Operation) -> None:
    state.folded[operation[1]] = operation[2]


def _replay_remove(state: State, change: int, operation: Operation) -> None:
    removal = Removal(change, operation[1], unpack_ranges(operation[2]))
    state.removals.append(removal)
    if operation[3]:
        state.secure.append(removal)
    state.closed = None


def _replay_erase(state: State, _: int, operation: Operation) -> None:
    state.erasing[operation[1], operation[2]] = operation


def _replay_erased(state: State, _: int, operation: Operation) -> None:
    for name, offset in operation[1]:
        state.erasing.pop((name, offset), None)


def _replay_drop(state: State, _: int, operation: Operation) -> None:
    name = operation[1]
    state.dropped.add(name)
    state.segments.pop(name, None)
    state.gone_bits.pop(name, None)
    state.folded.pop(name, None)
    state.gone_ranges.pop(name, None)


def _replay_consumer(state: State, _: int, operation: Operation) -> None:
    name, config, created_ns = operation[1:]
    held = state.consumers.get(name)
    register = Register({}, {}) if held is None else held.register
    state.consumers[name] = ConsumerRecord(name, config, created_ns, register)


def _replay_register(state: State, _: int, operation: Operation) -> None:
    name, numbers, drops, puts = operation[1:]
    held = state.consumers.get(name)
    if held is not None:
        rows = {sequence: tuple(row) for sequence, row in puts.items()}
        apply_change(held.register, RegisterChange(numbers, [(first, last) for first, last in drops], rows))


def _replay_forget(state: State, _: int, operation: Operation) -> None:
    state.consumers.pop(operation[1], None)


def _replay_ids(state: State, _: int, operation: Operation) -> None:
    state.ids.extend(KnownId._make(each) for each in operation[1])


def _replay_lost(state: State, _: int, operation: Operation) -> None:
    state.lost.append(Lost._make(operation[1:]))


def _replay_damage(state: State, _: int, operation: Operation) -> None:
    state.damage.append(DamagedPlace._make(operation[1:]))


def _replay_opened(state: State, _: int, operation: Operation) -> None:
    state.closed = None
    state.durable_to = max(state.durable_to, operation[2])


def _replay_close(state: State, _: int, operation: Operation) -> None:
    state.closed = Closed._make(operation[1:])
    state.durable_to = max(state.durable_to, state.closed.sequence)


_INCREMENTAL: Final = frozenset(("checkpoint", "segment", "gone", "drop"))

_REPLAYS: Final[dict[str, Callable[[State, int, Operation], None]]] = {
    "stream": _replay_stream,
    "config": _replay_config,
    "checkpoint": _replay_checkpoint,
    "segment": _replay_segment,
    "gone": _replay_gone,
    "bits": _replay_bits,
    "folded": _replay_folded,
    "remove": _replay_remove,
    "erase": _replay_erase,
    "erased": _replay_erased,
    "drop": _replay_drop,
    "consumer": _replay_consumer,
    "register": _replay_register,
    "forget": _replay_forget,
    "ids": _replay_ids,
    "lost": _replay_lost,
    "damage": _replay_damage,
    "opened": _replay_opened,
    "close": _replay_close,
}
