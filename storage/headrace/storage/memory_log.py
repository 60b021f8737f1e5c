"""A stream's log in memory: the `StreamLog` behind memory streams, durable as soon as it is changed.

Messages are plain tuples with the fields of a `View`, by sequence in a `SparseRecords`; `MemorySubjects` knows the
sequences of each subject. A tuple of plain values is soon left alone by the garbage collector, a named one never is,
so a `View` is made for those who read.

Invariants between calls: `_first` is the lowest sequence that holds a message, or `_last + 1`; `_size` is the sum of
the accounted sizes of what is held; every message held is in its subject's sequences.

Message ids are kept until a search asks only for later ones: what lies before the highest `since_ns` ever asked
for is forgotten, a few at each search, so that no search pays for all.

A log can be *held* (tests): it then plays a file log whose sync has not returned, see `MemoryStore`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from headrace.core.base.message import Batch, View
from headrace.storage.accounting import MEMORY_OVERHEAD
from headrace.storage.interface import (
    NO_EFFECT,
    ConsumerRecord,
    Effect,
    Entry,
    Head,
    LogFenced,
    Matcher,
    Register,
    RegisterChange,
    Scan,
    StorageError,
    SubjectState,
)
from headrace.storage.memory_records import SparseRecords
from headrace.storage.memory_subjects import MemorySubjects
from headrace.storage.registers import apply_change, copy_register

FORGOTTEN_IDS_MAX: Final = 256
"""How many outdated message ids one search forgets at most."""

MERGED_LITERALS_MAX: Final = 64
"""With more literal subjects than this a scan walks the log instead of merging their sequences."""

_Row = tuple[int, int, bytes, bytes, bytes]


class Hold:
    """What keeps changes from being durable, shared by the logs of a store that is held; and what refuses them."""

    __slots__ = ("is_held", "pending", "refusal")

    def __init__(self, *, is_held: bool) -> None:
        self.is_held = is_held
        self.pending = False
        self.refusal: StorageError | None = None


class MessageIds:
    """Deduplication ids of appends, for as long as anybody may ask for them."""

    __slots__ = ("_by_id", "_horizon_ns", "_in_order")

    def __init__(self) -> None:
        self._by_id: dict[bytes, tuple[int, int]] = {}
        self._in_order: deque[tuple[int, int, bytes]] = deque()
        self._horizon_ns = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def append(self, message_id: bytes, sequence: int, time_ns: int) -> None:
        self._by_id[message_id] = (sequence, time_ns)
        self._in_order.append((time_ns, sequence, message_id))

    def find(self, message_id: bytes, since_ns: int) -> int | None:
        """Give the sequence of the newest append with this id at or after `since_ns`."""
        self._horizon_ns = max(self._horizon_ns, since_ns)
        self._forget()
        found = self._by_id.get(message_id)
        return found[0] if found is not None and found[1] >= since_ns else None

    def _forget(self) -> None:
        in_order = self._in_order
        for _ in range(min(FORGOTTEN_IDS_MAX, len(in_order))):
            time_ns, sequence, message_id = in_order[0]
            if time_ns >= self._horizon_ns:
                return
            in_order.popleft()
            if self._by_id[message_id][0] == sequence:
                del self._by_id[message_id]


class MemoryLog:
    """One stream, in memory."""

    def __init__(
        self,
        *,
        stream_id: int,
        config: dict[str, Any],
        created_ns: int,
        first_sequence: int = 0,
        hold: Hold | None = None,
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        self._created_ns = created_ns
        self._hold = hold if hold is not None else Hold(is_held=False)
        self._records: SparseRecords[_Row] = SparseRecords()
        self._by_sequence = self._records.by_sequence
        self._subjects = MemorySubjects(self._by_sequence)
        self._message_ids = MessageIds()
        self._consumers: dict[str, ConsumerRecord] = {}
        self._first = max(1, first_sequence)
        self._last = self._first - 1
        self._last_time_ns = 0
        self._size = 0
        self._durable_sequence = self._last
        self._fenced = ""
        self._head: Head | None = None

    @property
    def stream_id(self) -> int:
        return self._stream_id

    @property
    def config(self) -> dict[str, Any]:
        return self._config

    @property
    def created_ns(self) -> int:
        return self._created_ns

    @property
    def head(self) -> Head:
        if self._head is None:
            count = len(self._records)
            self._head = Head(
                messages=count,
                size=self._size,
                first_sequence=self._first if self._last else 0,
                first_time_ns=self._by_sequence[self._first][1] if count else 0,
                last_sequence=self._last,
                last_time_ns=self._last_time_ns,
                counted=self._subjects.__len__,
                deleted_count=self._last - self._first + 1 - count,
            )
        return self._head

    @property
    def is_index_ready(self) -> bool:
        return True

    @property
    def is_index_full(self) -> bool:
        return False

    def when_index_has_room(self, callback: Callable[[], None]) -> None:
        callback()

    def when_index_ready(self, callback: Callable[[], None]) -> None:
        callback()

    @property
    def durable_sequence(self) -> int:
        return self._durable_sequence if self._hold.is_held else self._last

    @property
    def fenced(self) -> str:
        return self._fenced

    def settle(self) -> None:
        """All that was changed is durable now; for a log that is held."""
        self._durable_sequence = self._last

    def fence(self, reason: str) -> None:
        """Refuse every change from now on."""
        self._fenced = reason

    # changes

    def append(self, entries: Sequence[Entry], *, is_atomic: bool = False) -> int:  # noqa: ARG002  (no disk)
        self._begin_change()
        first = self._last + 1
        for subject, headers, payload, time_ns, message_id, _, effect in entries:
            sequence = self._add(subject, headers, payload, time_ns)
            if message_id:
                self._message_ids.append(message_id, sequence, time_ns)
            if effect is not NO_EFFECT:
                self._apply(effect, sequence, subject)
        return first

    def append_batch(self, batch: Batch, time_ns: int) -> int:
        self._begin_change()
        first = self._last + 1
        for message in batch:
            self._add(message.subject, message.headers, message.payload, time_ns)
        return first

    def skip(self, last_sequence: int, time_ns: int) -> None:
        self._begin_change()
        if last_sequence > self._last:
            if not self._records:
                self._first = last_sequence + 1
            self._last = last_sequence
            self._last_time_ns = time_ns

    def remove(self, ranges: Sequence[tuple[int, int]], *, secure: bool = False) -> int:  # noqa: ARG002  (no disk)
        self._begin_change()
        before = len(self._records)
        for first, last in ranges:
            if first <= self._first:
                self._remove_below(last + 1)
                if last > self._last:
                    self._first = last + 1
                    self._last = last
            else:
                for sequence in list(self._records.sequences(first, min(last, self._last))):
                    self._remove_one(sequence)
        return before - len(self._records)

    def remove_subjects(self, match: Matcher, *, below: int = 0, keep: int = 0) -> int:
        self._begin_change()
        present = self._by_sequence
        stop = below or self._last + 1
        doomed: list[int] = []
        for sequences in self._subjects.matching(match):
            if sequences.first < stop:
                doomed.extend(each for each in sequences.at_or_after(1, present) if each < stop)
        doomed.sort()
        if keep:
            del doomed[-keep:]
        for sequence in doomed:
            self._remove_one(sequence)
        return len(doomed)

    def save_config(self, config: dict[str, Any]) -> None:
        self._begin_change()
        self._config = config

    def save_consumer(
        self, name: str, config: dict[str, Any], created_ns: int, register: Register | None
    ) -> None:
        self._begin_change()
        held = self._consumers.get(name)
        kept = held.register if register is None and held is not None else copy_register(register)
        self._consumers[name] = ConsumerRecord(name, config, created_ns, kept)

    def delete_consumer(self, name: str) -> None:
        self._begin_change()
        self._consumers.pop(name, None)

    def change_register(self, name: str, change: RegisterChange, *, sync: bool) -> None:
        self._begin_change(sync=sync)
        apply_change(self._consumers[name].register, change)

    def consumers(self) -> Mapping[str, ConsumerRecord]:
        return self._consumers

    # reads

    def get(self, sequence: int) -> View | None:
        row = self._by_sequence.get(sequence)
        return None if row is None else View(*row)

    def scan(
        self,
        start: int,
        stop: int,
        match: Matcher | None,
        *,
        messages_max: int,
        size_max: int,
        steps_max: int = 20_000,
    ) -> Scan:
        matches = None
        last = min(stop, self._last)
        if match is None:
            candidates = self._records.sequences(start, last)
        elif match.literals is not None and len(match.literals) <= MERGED_LITERALS_MAX:
            candidates = self._sequences_of(match.literals, start)
        else:
            candidates = self._records.sequences(start, last)
            matches = match.matches if match.literals is None else match.literals.__contains__
        views: list[View] = []
        size = 0
        for sequence in islice(candidates, steps_max):
            if sequence > last:
                return Scan(views, stop + 1)
            row = self._by_sequence[sequence]
            start = sequence + 1
            if matches is not None and not matches(row[2]):
                continue
            views.append(View(*row))
            size += len(row[2]) + len(row[3]) + len(row[4])
            if len(views) >= messages_max or size >= size_max:
                return Scan(views, start if start <= last else stop + 1)
        is_over = next(iter(candidates), None) is None or start > last
        return Scan(views, stop + 1 if is_over else start)

    def size_of(self, sequence: int) -> int:
        row = self._by_sequence.get(sequence)
        return 0 if row is None else _row_size(row)

    def next_sequence(self, sequence: int) -> int:
        if sequence <= self._first:
            return self._first
        found = self._records.next(sequence)
        return self._last + 1 if found is None else found

    def sequence_at(self, time_ns: int) -> int:
        low, high = self._first, self._last + 1
        found = high
        while low < high:
            middle = (low + high) // 2
            sequence = self.next_sequence(middle)
            if sequence >= high:
                high = middle
            elif self._by_sequence[sequence][1] >= time_ns:
                found = sequence
                high = middle
            else:
                low = sequence + 1
        return found

    def deleted(self) -> Iterable[tuple[int, int]]:
        if len(self._records) == self._last - self._first + 1:
            return ()
        return self._records.gaps(self._first, self._last)

    def subject(self, subject: bytes) -> SubjectState | None:
        sequences = self._subjects.get(subject)
        if sequences is None:
            return None
        return SubjectState(subject, sequences.count, sequences.first, sequences.last)

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        return self._subjects.states(match, after=after, count_max=count_max)

    def last_matching(self, match: Matcher, *, at_most: int = 0) -> View | None:
        limit = min(at_most or self._last, self._last)
        if match.literals is None and len(self._records) < len(self._subjects) * 2:
            return self._last_walking_back(match, limit)
        newest = 0
        for sequences in self._subjects.matching(match):
            if sequences.last > newest and sequences.first <= limit:
                last = sequences.last
                newest = max(
                    newest, last if last <= limit else sequences.at_or_before(limit, self._by_sequence)
                )
        return self.get(newest)

    def count_matching(self, match: Matcher | None, start: int) -> int:
        if match is None:
            return len(self._records) if start <= self._first else self._records.count_from(start)
        present = self._by_sequence
        return sum(
            sequences.count_from(start, present)
            for sequences in self._subjects.matching(match)
            if sequences.last >= start
        )

    def keep_message_ids(self, window_ns: int) -> None:
        """Nothing to do: ids do not live in files here, and are forgotten by what is asked for."""

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        return self._message_ids.find(message_id, since_ns)

    # the one place for each change of state

    def _begin_change(self, *, sync: bool = True) -> None:
        if self._fenced:
            raise LogFenced(self._fenced)
        hold = self._hold
        if hold.refusal is not None:
            raise hold.refusal
        if sync:
            hold.pending = True
        self._head = None

    def _add(self, subject: bytes, headers: bytes, payload: bytes, time_ns: int) -> int:
        sequence = self._last + 1
        self._records.append(sequence, (sequence, time_ns, subject, headers, payload))
        self._subjects.append(sequence, subject)
        self._size += MEMORY_OVERHEAD + len(subject) + len(headers) + len(payload)
        self._last = sequence
        self._last_time_ns = time_ns
        return sequence

    def _apply(self, effect: Effect, sequence: int, subject: bytes) -> None:
        if effect.all_before:
            self._remove_below(sequence)
        elif effect.first_sequence:
            self._remove_below(min(effect.first_sequence, sequence))
        for evicted in effect.evicted:
            if evicted < sequence:
                self._remove_one(evicted)
        if effect.subject_before:
            sequences = self._subjects.get(subject)
            if sequences is not None:
                present = self._by_sequence
                for earlier in [each for each in sequences.at_or_after(1, present) if each < sequence]:
                    self._remove_one(earlier)

    def _remove_below(self, sequence: int) -> None:
        if sequence > self._last:
            self._records.clear()
            self._subjects.clear()
            self._size = 0
            self._first = self._last + 1
            return
        while self._first < sequence:
            self._remove_one(self._first)

    def _remove_one(self, sequence: int) -> None:
        row = self._records.pop(sequence)
        if row is None:
            return
        self._subjects.remove(sequence, row[2])
        self._size -= _row_size(row)
        if sequence == self._first:
            following = self._records.next(sequence + 1)
            self._first = self._last + 1 if following is None else following

    def _sequences_of(self, literals: frozenset[bytes], start: int) -> Iterator[int]:
        present = self._by_sequence
        found = [self._subjects.get(subject) for subject in literals]
        return iter(merge(*(each.at_or_after(start, present) for each in found if each is not None)))

    def _last_walking_back(self, match: Matcher, limit: int) -> View | None:
        for sequence in range(limit, self._first - 1, -1):
            row = self._by_sequence.get(sequence)
            if row is not None and match.matches(row[2]):
                return View(*row)
        return None


def _row_size(row: _Row) -> int:
    return MEMORY_OVERHEAD + len(row[2]) + len(row[3]) + len(row[4])
