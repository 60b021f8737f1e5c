"""What a consumer has delivered and nobody has settled: a table of rows in ascending order of stream sequence.

Problem: each message costs one row made and one taken out, and an ack one look-up, so these must be cheap; and what
differs from the stored state must be known without asking every row. So the table is filled at its end by runs, gives
out rows from anywhere, knows its lowest one, and notes as ranges which sequences were touched.

`PlainPending` is a dict with notes. The compiled engine's table (`compiled_consumer.pyx`) does the same in C, and
reads acks out of a batch without making them messages. A test holds both to one model.
"""

from collections import deque
from collections.abc import Callable, Container, ItemsView, Iterable, Iterator, Sequence, ValuesView
from itertools import count, repeat
from typing import Final, Protocol

from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.message import Batch, View
from headrace.jetstream.consumers.acks import PLAIN_ACKS, ack_template, parse_ack_subject

Row = tuple[int, int, int]
"""A pending message: consumer sequence of its first delivery, time of its last one, number of deliveries."""

Ranges = list[tuple[int, int]]
"""Inclusive ranges, ascending, with gaps between them."""


class PendingTable(Container[int], Protocol):
    """Rows by stream sequence."""

    @property
    def repeated(self) -> int:
        """How many rows have more than one delivery."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        """Go through the sequences, ascending; the table does not change meanwhile."""
        ...

    def __getitem__(self, sequence: int, /) -> Row: ...

    def get(self, sequence: int, /) -> Row | None: ...

    def items(self) -> Iterable[tuple[int, Row]]: ...

    def values(self) -> Iterable[Row]: ...

    def lowest(self) -> tuple[int, int] | None:
        """Give the lowest sequence and the consumer sequence in its row; None where there is no row."""
        ...

    def extend(self, sequences: Sequence[int], first_consumer: int, time_ns: int) -> None:
        """Add rows of one delivery behind all others; consumer sequences count up from `first_consumer`."""
        ...

    def put(self, sequence: int, row: Row) -> None:
        """Change a row, or add one behind all others."""
        ...

    def pop(self, sequence: int) -> Row | None:
        """Take a row out and give it."""
        ...

    def settle_plain(
        self, batch: Batch, start: int, prefix_size: int, delivered: int, settled: list[int] | None
    ) -> tuple[int, bool]:
        """Take out the rows that plain acks are about, from the message at `start` on.

        Stops before the first message that says anything else or wants an answer, or is not plainly an ack; passes
        over acks of what is above `delivered`. Gives where it stopped, and whether there was an ack. `settled` gets
        the sequences of the rows that went.
        """
        ...

    def clear(self) -> None:
        """Take all rows out, without a note."""
        ...

    def note(self, sequence: int) -> None:
        """Count a sequence as changed."""
        ...

    @property
    def has_changes(self) -> bool: ...

    def take_changes(self) -> tuple[dict[int, Row], Ranges]:
        """Give the changed rows, and the changed sequences that have none; then nothing is changed."""
        ...

    def forget_changes(self) -> None: ...


class PlainPending:
    """See `PendingTable`."""

    def __init__(self) -> None:
        self.repeated = 0
        self._rows: dict[int, Row] = {}
        self._order: deque[int] = deque()  # the keys, and those that went and have not come to its front yet
        self._changed: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __contains__(self, sequence: object) -> bool:
        return sequence in self._rows

    def __getitem__(self, sequence: int, /) -> Row:
        return self._rows[sequence]

    def get(self, sequence: int, /) -> Row | None:
        return self._rows.get(sequence)

    def items(self) -> ItemsView[int, Row]:
        return self._rows.items()

    def values(self) -> ValuesView[Row]:
        return self._rows.values()

    def lowest(self) -> tuple[int, int] | None:
        rows, order = self._rows, self._order
        if not rows:
            return None
        while order[0] not in rows:
            order.popleft()
        return order[0], rows[order[0]][0]

    def extend(self, sequences: Sequence[int], first_consumer: int, time_ns: int) -> None:
        self._expect(sequences[0])
        self._order.extend(sequences)
        rows = zip(count(first_consumer), repeat(time_ns), repeat(1), strict=False)
        self._rows.update(zip(sequences, rows, strict=False))
        self._changed.update(sequences)

    def put(self, sequence: int, row: Row) -> None:
        old = self._rows.get(sequence)
        if old is None:
            self._expect(sequence)
            self._order.append(sequence)
        self.repeated += (row[2] > 1) - (old is not None and old[2] > 1)
        self._rows[sequence] = row
        self._changed.add(sequence)

    def pop(self, sequence: int) -> Row | None:
        row = self._rows.pop(sequence, None)
        if row is not None:
            self.repeated -= row[2] > 1
            self._changed.add(sequence)
        return row

    def settle_plain(
        self, batch: Batch, start: int, prefix_size: int, delivered: int, settled: list[int] | None
    ) -> tuple[int, bool]:
        return settle_plain(self, batch, start, prefix_size, delivered, settled)

    def clear(self) -> None:
        self._rows.clear()
        self._order.clear()
        self.repeated = 0

    def note(self, sequence: int) -> None:
        self._changed.add(sequence)

    @property
    def has_changes(self) -> bool:
        return bool(self._changed)

    def take_changes(self) -> tuple[dict[int, Row], Ranges]:
        rows = self._rows
        changed, self._changed = self._changed, set()
        puts = {sequence: rows[sequence] for sequence in sorted(changed) if sequence in rows}
        return puts, ranges(sequence for sequence in changed if sequence not in rows)

    def forget_changes(self) -> None:
        self._changed.clear()

    def _expect(self, sequence: int) -> None:
        """Rows from `sequence` on are about to be added; some that lay there may have gone."""
        if not self._rows:
            self._order.clear()
        elif self._order[-1] >= sequence:
            self._order = deque(self._rows)
            assert self._order[-1] < sequence, "rows are added behind all others"


def settle_plain(
    table: PendingTable,
    batch: Batch,
    start: int,
    prefix_size: int,
    delivered: int,
    settled: list[int] | None,
) -> tuple[int, bool]:
    """Do what `PendingTable.settle_plain` says, message by message."""
    is_any = False
    for index in range(start, len(batch)):
        message = batch[index]
        if message.reply or message.payload not in PLAIN_ACKS:
            return index, is_any
        about = parse_ack_subject(message.subject, prefix_size)
        if about is None or about.stream_sequence > delivered:
            continue
        is_any = True
        if table.pop(about.stream_sequence) is not None and settled is not None:
            settled.append(about.stream_sequence)
    return len(batch), is_any


def ranges(sequences: Iterable[int]) -> Ranges:
    """Give the inclusive ranges that hold exactly these sequences, ascending."""
    found: Ranges = []
    first = last = 0
    for sequence in sorted(sequences):
        if sequence == last + 1 and first:
            last = sequence
            continue
        if first:
            found.append((first, last))
        first = last = sequence
    if first:
        found.append((first, last))
    return found


def plain_replies(
    prefix: bytes, views: Sequence[View], consumer_sequence: int, num_pending: int
) -> list[bytes]:
    """Give the ack subjects of first deliveries; the first one has the number behind `consumer_sequence`."""
    template = ack_template(prefix)
    return [
        template % (1, view.sequence, consumer_sequence + index, view.time_ns, num_pending - index)
        for index, view in enumerate(views, 1)
    ]


_new_pending: Callable[[], PendingTable] = PlainPending
_new_replies: Callable[[bytes, Sequence[View], int, int], list[bytes]] = plain_replies
if ENGINE == "compiled":
    from headrace.jetstream.consumers.compiled_consumer import CompiledPending, compiled_replies

    _new_pending = CompiledPending
    _new_replies = compiled_replies

new_pending: Final = _new_pending
new_replies: Final = _new_replies
