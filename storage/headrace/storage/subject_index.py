"""The lookup index of one log: layers in memory over rows on disk.

What the log tells goes into the newest **layer**; `mark` closes it with the position that it reaches. `advance` merges
the layers that are durable by now into the oldest one, and when that holds enough, gives it to the indexer, which
writes it some hundred rows at a time, here or in a process of its own; then it is dropped. A lookup takes the row on
disk and lays the layers over it, oldest first, leaving out the one that is being written where the row has it already;
how far that write is stands in the log's row, read in the same transaction.

Beside the layers there is a bounded cache of what is *known* of subjects in the appended state, so that a subject
in constant use costs no lookup on disk. It also keeps `subject_count` exact: for subjects that are not in it the number
of messages that came and went is *unsettled* until somebody asks; then one look at each tells whether it is a new
subject, or one that went.

After a crash in the middle of a write the log tells the stretch of that layer again; it is collected up to the same
position (`_resumed`), and the write goes on where it stopped.

**Rebuild.** The rows are begun anew and told the log's segments part by part; `told_to` is how far parts were given
out, each with what was there at that moment. So appends above it are not noted (their part will show them), nor are
removals above it; removals below it are. When little is left, `stop` is fixed: appends above it are noted from then
on. Once everything up to there is told, the index is ready: what was noted is one layer over the new rows. Until
that layer is written the rows stand at `START`, which makes the next start begin again.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.storage.index_interface import (
    Feed,
    IndexDamaged,
    IndexRebuilding,
    Position,
)
from headrace.storage.index_jobs import Done, LayerJob, PartJob
from headrace.storage.index_layer import Layer, as_delta
from headrace.storage.index_listing import rows_behind
from headrace.storage.index_rows import (
    LogRow,
    SubjectRow,
    chunk_prefix,
    name_key,
    new_row,
    parse_id,
    parse_subject,
    prefix_bytes,
    unseal,
)
from headrace.storage.index_tables import Table, Transaction
from headrace.storage.index_worker import JobCut
from headrace.storage.interface import Matcher, SubjectState
from headrace.storage.known_subject import Known
from headrace.storage.part_notes import Part
from headrace.storage.subject_view import Chunks, SubjectView

if TYPE_CHECKING:
    from headrace.storage.subject_indexes import SubjectIndexes

LAYER_NOTES: Final = 16_384
"""A durable layer of so many notes is written: large enough that keys share pages, small enough to sort in a turn."""

LAYER_NOTES_MAX: Final = 65_536
"""Layers are not merged beyond this."""

PENDING_NOTES_MAX: Final = 262_144
"""When all logs together hold more notes, smaller layers are written too."""

LEFT_AT_STOP: Final = 100_000
"""When so many sequences are left to be told to a rebuild, what comes behind them is noted."""

MAX_SEQUENCE: Final = (1 << 64) - 1

BUDGET_SHARES_MAX: Final = 12
"""How many times its budget an index may take that is far behind."""

KNOWN_MAX: Final = 16_384
UNSETTLED_MAX: Final = 8192
"""More unsettled subjects are settled without anybody asking, lest the one who asks has to wait."""

RETRY_AFTER_NS: Final = NS_PER_S
"""How long nothing is written after the disk refused."""

HURRY_NS: Final = 200 * NS_PER_MS
"""For so long after a rebuild began, whoever asks waits for it: that is enough for a small log."""

PAGE: Final = 512
"""How many rows or sequences are taken in one read transaction."""


class _Rebuild:
    """How far a rebuild is. `stop` is the last sequence that it reads from segments."""

    __slots__ = ("is_begun", "is_passing_over", "is_telling", "stop", "told_to")

    def __init__(self) -> None:
        self.told_to = 0
        self.stop = MAX_SEQUENCE
        self.is_begun = False
        self.is_telling = False
        self.is_passing_over = False
        """Whether what is lost just now was not told."""


class SubjectIndex:
    """A log's `LogIndex`."""

    def __init__(self, owner: "SubjectIndexes", stream_id: int, row: LogRow | None) -> None:
        self._owner = owner
        self._clock = owner.clock
        self._stream_id = stream_id
        self._row = new_row() if row is None else row
        self._layers = [Layer()]
        self._is_writing = False
        self._has_failed = False
        self._is_unstamped = False
        self._resumed = self._row.target
        self._rebuild: _Rebuild | None = None
        self._feed: Feed | None = None
        self._when_ready: list[Callable[[], None]] = []
        self._era = 0
        self._durable = self._row.position
        self._known: dict[bytes, Known] = {}
        self._unsettled: dict[bytes, int] = {}
        self._subject_count = self._row.row_count
        self._horizon_ns = 0
        self._retry_ns = 0
        self._hurry_until_ns = 0
        self._ordered_cache: tuple[tuple[tuple[int, int], ...], list[bytes]] = ((), [])

    @property
    def replay_from(self) -> Position:
        return self._row.position

    @property
    def is_ready(self) -> bool:
        return self._rebuild is None

    def when_ready(self, callback: Callable[[], None]) -> None:
        self._when_ready.append(callback)

    @property
    def is_full(self) -> bool:
        return self._owner.is_full

    def when_room(self, callback: Callable[[], None]) -> None:
        self._owner.when_room(callback)

    def use(self, feed: Feed, durable: Position) -> None:
        self._feed = feed
        self._durable = durable

    # telling

    def note_append(self, sequence: int, time_ns: int, subject: bytes, message_id: bytes = b"") -> None:
        if self._rebuild is not None:
            if sequence > self._rebuild.stop:
                self._layers[-1].add(sequence, subject)
                if message_id:
                    self._layers[-1].add_id(message_id, sequence, time_ns)
            return
        if self._resumed is not None and sequence > self._resumed.sequence:
            self._end_resumed()
        layer = self._layers[-1]
        layer.add(sequence, subject)
        if message_id:
            layer.add_id(message_id, sequence, time_ns)
        known = self._known.get(subject)
        if known is not None:
            self._subject_count += known.count == 0
            known.add(sequence)
        elif self._resumed is None:
            self._unsettled[subject] = self._unsettled.get(subject, 0) + 1

    def note_appends(self, first_sequence: int, subjects: Sequence[bytes]) -> None:
        if self._resumed is not None or self._rebuild is not None:
            for sequence, subject in enumerate(subjects, first_sequence):
                self.note_append(sequence, 0, subject)
            return
        count = len(subjects)
        known_by_subject = self._known
        unsettled = self._unsettled
        if count > 1 and subjects.count(subjects[0]) == count:  # what most publishers send
            subject = subjects[0]
            self._layers[-1].add_run(first_sequence, count, subject)
            known = known_by_subject.get(subject)
            if known is None:
                unsettled[subject] = unsettled.get(subject, 0) + count
                return
            if not known.count:
                self._subject_count += 1
                known.add(first_sequence)
                count -= 1
            known.count += count
            known.last = first_sequence + len(subjects) - 1
            return
        add = self._layers[-1].add
        for sequence, subject in enumerate(subjects, first_sequence):
            add(sequence, subject)
            known = known_by_subject.get(subject)
            if known is None:
                unsettled[subject] = unsettled.get(subject, 0) + 1
            elif known.count:
                known.count += 1
                known.last = sequence
            else:
                self._subject_count += 1
                known.add(sequence)

    def note_removed(self, sequence: int, subject: bytes, change: int = 0) -> None:
        rebuild = self._rebuild
        if rebuild is not None:
            if sequence <= rebuild.told_to or sequence > rebuild.stop:
                self._layers[-1].remove(sequence, subject)
            return
        if self._resumed is not None and change > self._resumed.change:
            self._end_resumed()
        self._layers[-1].remove(sequence, subject)
        known = self._known.get(subject)
        if known is not None:
            known.remove(sequence)
            self._subject_count -= known.count == 0
        elif self._resumed is None:
            self._unsettled[subject] = self._unsettled.get(subject, 0) - 1

    def note_cleared(self, change: int = 0) -> None:
        if self._resumed is not None and change > self._resumed.change:
            self._end_resumed()
        self._layers[-1].clear()
        self._known.clear()
        self._unsettled.clear()
        if self._resumed is None:
            self._subject_count = 0

    def note_id(self, message_id: bytes, sequence: int, time_ns: int) -> None:
        if self._rebuild is not None and sequence <= self._rebuild.stop:
            return
        self._layers[-1].add_id(message_id, sequence, time_ns)

    def mark(self, position: Position) -> None:
        if self._rebuild is not None:
            return
        if self._resumed is not None:
            if not _is_beyond(position, self._resumed) and position != self._resumed:
                return
            if self._end_resumed() == position:
                return
        layer = self._layers[-1]
        reached = self._layers[-2].position if len(self._layers) > 1 else self._row.position
        if layer.notes == 0 and not layer.is_cleared and position == reached:
            return
        layer.position = position
        self._owner.pending_notes += layer.notes
        self._layers.append(Layer())

    def advance(self, durable: Position, budget_ns: int, *, urge: bool = False) -> bool:
        if self._resumed is not None:
            self._end_resumed()
        self._durable = durable
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._retry_ns:
            return False
        # The further behind, the longer: so the index slows down who publishes, instead of growing without end.
        share = min(BUDGET_SHARES_MAX, 1 + self._owner.pending_notes // LAYER_NOTES)
        if self._rebuild is not None:
            self._tell_part(self._rebuild)
        else:
            self._settle_some(now_ns + budget_ns // 2)
            self._begin_write(urge=urge)
        is_more = self._owner.work(now_ns + share * budget_ns)
        return is_more or self._rebuild is not None or (urge and self._is_writing and not self._has_failed)

    def flush(self) -> None:
        if self._resumed is not None:
            self._end_resumed()
        while self._rebuild is None and self._begin_write(urge=True):
            self._owner.wait()
            if self._has_failed:
                return

    def distrust(self) -> None:
        self._owner.start_over()

    def hurry(self) -> bool:
        deadline_ns = self._hurry_until_ns
        while self._rebuild is not None and (
            self._owner.is_volatile or self._clock.monotonic_ns() < deadline_ns
        ):
            rebuild = self._rebuild
            before = (rebuild.told_to, rebuild.is_telling)
            self._tell_part(rebuild)
            self._owner.wait()
            if before == (rebuild.told_to, rebuild.is_telling):
                break  # it waits for what is not durable yet
            if self._rebuild not in (None, rebuild):
                break  # it failed, and begins again a little later
        return self.is_ready

    def note_lost(self, sequence: int) -> None:
        rebuild = self._rebuild
        if rebuild is None or (sequence <= rebuild.told_to and not rebuild.is_passing_over):
            self.rebuild()

    def rebuild(self) -> None:
        self._forget_pending(self._layers)
        self._era += 1
        self._row = new_row()
        self._layers = [Layer()]
        self._is_writing = False
        self._has_failed = False
        self._is_unstamped = False
        self._resumed = None
        self._rebuild = _Rebuild()
        self._hurry_until_ns = self._clock.monotonic_ns() + HURRY_NS if self._owner.is_inline else 0
        self._retry_ns = 0
        self._known.clear()
        self._unsettled.clear()
        self._subject_count = 0
        self._ordered_cache = ((), [])

    # asking

    @property
    def subject_count(self) -> int:
        self._make_sure()
        self._settle()
        return self._subject_count

    def subject(self, subject: bytes) -> SubjectState | None:
        self._make_sure()
        known = self._known.get(subject)
        if known is None or (known.count and not (known.first and known.last)):
            with self._owner.root.tables.read() as transaction:
                known = self._look(transaction, subject)
        if known.count == 0:
            return None
        return SubjectState(subject, known.count, known.first, known.last)

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        self._make_sure()
        states = self._states(match, after)
        return list(islice(states, count_max) if count_max else states)

    def sequences(self, subject: bytes, start: int) -> Iterator[int]:
        self._make_sure()
        if self._resumed is not None:
            self._end_resumed()
        while True:
            with self._owner.root.tables.read() as transaction:
                page = list(islice(self._view(transaction, subject).upwards(start), PAGE))
            yield from page
            if len(page) < PAGE:
                return
            start = page[-1] + 1

    def last_matching(self, match: Matcher, at_most: int = 0) -> int:
        self._make_sure()
        newest = 0
        for state in self._states(match, b""):
            if at_most == 0 or state.last_sequence <= at_most:
                newest = max(newest, state.last_sequence)
            elif newest < at_most and state.first_sequence <= at_most:
                with self._owner.root.tables.read() as transaction:
                    newest = max(newest, self._view(transaction, state.subject).last(at_most))
        return newest

    def count_matching(self, match: Matcher | None, start: int) -> int:
        self._make_sure()
        total = 0
        for state in self._states(match, b""):
            if start <= state.first_sequence:
                total += state.count
            elif start <= state.last_sequence:
                with self._owner.root.tables.read() as transaction:
                    total += self._view(transaction, state.subject).count_from(start)
        return total

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        self._make_sure()
        self._horizon_ns = max(self._horizon_ns, since_ns)
        for layer in reversed(self._layers):
            found = layer.ids.get(message_id)
            if found is not None:
                return found[0] if found[1] >= since_ns else None
        with self._owner.root.tables.read() as transaction:
            row = self._current(transaction)
            key = name_key(prefix_bytes(row.id_prefix), message_id, self._owner.root.secret)
            value = transaction.get(Table.IDS, key)
        if value is None:
            return None
        known = parse_id(key, unseal(key, value))
        return known.sequence if known.time_ns >= since_ns and known.message_id == message_id else None

    # writing

    def _end_resumed(self) -> Position:
        """All of the layer is told whose write a crash cut short: the write goes on. Gives the layer's position."""
        position = self._resumed
        assert position is not None, "there was a write to go on with"
        layer = self._layers[-1]
        if layer.is_cleared != self._row.is_cleared:
            raise IndexDamaged("the log does not tell the index what it told before; it is rebuilt")
        self._resumed = None
        layer.position = position
        self._owner.pending_notes += layer.notes
        self._layers.append(Layer())
        for subject, delta in layer.deltas.items():
            if self._key(self._row, subject) > self._row.written_key:
                self._unsettled[subject] = as_delta(delta).net
        self._submit()
        return position

    def _begin_write(self, *, urge: bool) -> bool:
        """Have the oldest layer written where it is due; tell whether one is being written."""
        if self._is_writing:
            if self._has_failed:
                self._submit()
            return True
        self._merge()
        layer = self._layers[0]
        if layer.position is None or _is_beyond(layer.position, self._durable):
            return False
        is_due = (
            urge
            or layer.notes >= LAYER_NOTES
            or self._is_unstamped
            or (layer.notes and self._owner.pending_notes > PENDING_NOTES_MAX)
        )
        if is_due:
            self._submit()
        return bool(is_due)

    def _submit(self) -> None:
        self._is_writing = True
        self._has_failed = False
        job = LayerJob(self._stream_id, self._layers[0], self._horizon_ns)
        self._owner.submit(job, partial(self._on_written, self._era))

    def _on_written(self, era: int, done: Done | None, error: Exception | None) -> None:
        if era != self._era:
            return  # of rows that are none any more
        if isinstance(error, IndexDamaged):
            self._owner.start_over()
        elif isinstance(error, JobCut):
            self._submit()
        elif error is not None:
            # Part of it may be written; that it was begun stays true until it is done.
            self._has_failed = True
            self._retry_ns = self._clock.monotonic_ns() + RETRY_AFTER_NS
        else:
            assert done is not None, "there is an error, or what the job led to"
            assert done.row is not None, "a layer belongs to a log"
            self._row = done.row
            self._is_unstamped = False
            self._is_writing = False
            self._forget_pending(self._layers[:1])
            del self._layers[0]
            self._begin_write(urge=False)

    def _merge(self) -> None:
        """Merge complete layers that are durable, from the oldest that is not being written."""
        place = 1 if self._is_writing else 0
        layers = self._layers
        while place + 2 < len(layers):
            older, later = layers[place], layers[place + 1]
            if later.position is None or _is_beyond(later.position, self._durable):
                return
            if older.notes + later.notes > LAYER_NOTES_MAX:
                place += 1
                continue
            older.absorb(later)
            del layers[place + 1]

    def _forget_pending(self, layers: Sequence[Layer]) -> None:
        self._owner.written(sum(each.notes for each in layers if each.position is not None))

    # rebuilding

    def _tell_part(self, rebuild: _Rebuild) -> None:
        """Have the next part told, unless one is."""
        feed = self._feed
        if rebuild.is_telling or feed is None:
            return
        last = feed.position().sequence
        if rebuild.stop == MAX_SEQUENCE and last - rebuild.told_to <= LEFT_AT_STOP:
            rebuild.stop = last
        limit = min(self._durable.sequence, rebuild.stop)
        part, reached = feed.part_after(rebuild.told_to, limit) if rebuild.told_to < limit else (None, limit)
        rebuild.told_to = max(rebuild.told_to, reached)
        if part is None and rebuild.is_begun:
            if rebuild.told_to >= rebuild.stop:
                self._end_rebuild(feed)
            return
        ids = [] if rebuild.is_begun else list(feed.known_ids())
        rebuild.is_telling = True
        job = PartJob(self._stream_id, part, not rebuild.is_begun, ids)
        rebuild.is_begun = True
        self._owner.submit(job, partial(self._on_told, self._era, part))

    def _on_told(self, era: int, part: Part | None, done: Done | None, error: Exception | None) -> None:
        rebuild = self._rebuild
        if era != self._era or rebuild is None:
            return
        rebuild.is_telling = False
        if error is None:
            assert done is not None, "there is an error, or what the job led to"
            assert done.row is not None, "a part belongs to a log"
            self._row = done.row
            if done.unreadable and part is not None and self._feed is not None:
                rebuild.is_passing_over = True
                self._feed.note_unreadable(part, done.unreadable)
                rebuild.is_passing_over = False
            self._tell_part(rebuild)
        elif isinstance(error, IndexDamaged):
            self._owner.start_over()
        else:
            # No room, or a segment's file that went meanwhile: from the beginning, a little later.
            self.rebuild()
            if isinstance(error, JobCut):
                return
            self._retry_ns = self._clock.monotonic_ns() + RETRY_AFTER_NS

    def _end_rebuild(self, feed: Feed) -> None:
        """Everything up to `stop` is told: what was noted since lies over it."""
        self._rebuild = None
        self._subject_count = self._row.row_count
        layer = self._layers[0]
        if layer.is_cleared:
            self._subject_count = 0
        for subject, delta in layer.deltas.items():
            self._unsettled[subject] = as_delta(delta).net
        layer.position = feed.position()
        self._is_unstamped = True
        self._owner.pending_notes += layer.notes
        self._layers.append(Layer())
        self._begin_write(urge=False)
        callbacks, self._when_ready = self._when_ready, []
        for callback in callbacks:
            callback()

    # looking

    def _make_sure(self) -> None:
        if self._rebuild is not None:
            raise IndexRebuilding(self.when_ready)

    def _current(self, transaction: Transaction) -> LogRow:
        """Give the log's row as this transaction sees it: while a layer is written, it moves."""
        if not self._is_writing:
            return self._row
        return self._owner.root.load_log(transaction, self._stream_id) or self._row

    def _key(self, row: LogRow, subject: bytes) -> bytes:
        return name_key(prefix_bytes(row.subject_prefix), subject, self._owner.root.secret)

    def _layers_above(self, log: LogRow, key: bytes) -> list[Layer]:
        """Give the layers that the row with this key does not have yet."""
        if self._is_writing and (
            key <= log.written_key if log.target is not None else log.position == self._layers[0].position
        ):
            return self._layers[1:]
        return self._layers

    def _view(self, transaction: Transaction, subject: bytes) -> SubjectView:
        log = self._current(transaction)
        key = self._key(log, subject)
        value = transaction.get(Table.SUBJECTS, key)
        row = None if value is None else parse_subject(key, unseal(key, value))
        if row is not None and row.subject != subject:
            row = None
        added: list[Sequence[int]] = []
        removed: list[set[int]] = []
        for layer in self._layers_above(log, key):
            if layer.is_cleared:
                row = None
                added.clear()
                removed.clear()
            delta = layer.deltas.get(subject)
            if delta is None:
                continue
            if isinstance(delta, int):
                added.append((delta,))
                continue
            if delta.added:
                added.append(delta.added)
            if delta.removed:
                removed.append(delta.removed)
        chunks = None
        if row is not None and row.chunked:
            prefix = chunk_prefix(prefix_bytes(log.subject_prefix), subject, self._owner.root.secret)
            chunks = Chunks(transaction, prefix)
        return SubjectView(row, chunks, added, removed)

    def _look(self, transaction: Transaction, subject: bytes) -> Known:
        """Find out all about a subject, and know it from now on."""
        if self._resumed is not None:
            self._end_resumed()
        view = self._view(transaction, subject)
        known = self._settle_one(subject, view.count)
        if known.count:
            known.first = known.first or view.first(known.floor)
            known.last = known.last or view.last(MAX_SEQUENCE)
            if not (known.first and known.last):
                raise IndexDamaged(
                    "a subject of the index counts messages that it does not have; it is rebuilt"
                )
            known.floor = known.first
            feed = self._feed
            if feed is not None and not all(feed.has(each, subject) for each in {known.first, known.last}):
                raise IndexDamaged("a subject of the index has other messages in the log; it is rebuilt")
        return known

    def _settle(self, count_max: int = 0) -> None:
        """Find out of unsettled subjects whether they came or went; of `count_max`, or (0) of all."""
        if self._resumed is not None:
            self._end_resumed()
        if self._unsettled:
            subjects = sorted(islice(self._unsettled, count_max) if count_max else self._unsettled)
            with self._owner.root.tables.read() as transaction:
                for subject in subjects:
                    self._settle_one(subject, self._count(transaction, subject))

    def _settle_some(self, deadline_ns: int) -> None:
        """Find out a part of it without anybody asking, lest the one who asks has to wait."""
        while len(self._unsettled) > UNSETTLED_MAX:
            self._settle(PAGE)
            if self._clock.monotonic_ns() >= deadline_ns:
                return

    def _count(self, transaction: Transaction, subject: bytes) -> int:
        """Count a subject's messages: what `_view` does, without looking at them."""
        log = self._current(transaction)
        key = self._key(log, subject)
        value = transaction.get(Table.SUBJECTS, key)
        count = 0
        if value is not None:
            row = parse_subject(key, unseal(key, value))
            count = row.total if row.subject == subject else 0
        for layer in self._layers_above(log, key):
            if layer.is_cleared:
                count = 0
            delta = layer.deltas.get(subject)
            if delta is not None:
                count += 1 if isinstance(delta, int) else delta.net
        return count

    def _settle_one(self, subject: bytes, count: int) -> Known:
        """Take note that a subject has `count` messages now."""
        net = self._unsettled.pop(subject, None)
        if net is not None:
            self._subject_count += (count > 0) - (count - net > 0)
        known = self._known.get(subject)
        if known is None:
            if count < 0:
                raise IndexDamaged("a subject of the index lost more messages than it had; it is rebuilt")
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[subject] = Known(count)
        return known

    def _states(self, match: Matcher | None, after: bytes) -> Iterator[SubjectState]:
        """Give the matching subjects behind `after`, in byte order."""
        if self._resumed is not None:
            self._end_resumed()
        if match is not None and match.literals is not None:
            for subject in sorted(match.literals):
                if subject > after and (state := self.subject(subject)) is not None:
                    yield state
            return
        for subject, row in self._merged(after):
            if match is not None and not match.matches(subject):
                continue
            if row is not None:
                yield SubjectState(subject, row.total, row.first, row.last)
                continue
            state = self.subject(subject)
            if state is not None:
                yield state

    def _merged(self, after: bytes) -> Iterator[tuple[bytes, SubjectRow | None]]:
        """Give subjects behind `after` in byte order; with the row where no layer changes it."""
        in_layers = self._subjects_in_layers()
        place = bisect_right(in_layers, after) if after else 0
        is_cleared = any(layer.is_cleared for layer in self._layers)
        # One transaction for all: another process may be writing meanwhile.
        with self._owner.root.tables.read() as transaction:
            log = self._current(transaction)
            for row in rows_behind(transaction, log, after):
                while place < len(in_layers) and in_layers[place] < row.subject:
                    yield in_layers[place], None
                    place += 1
                if place < len(in_layers) and in_layers[place] == row.subject:
                    yield row.subject, None
                    place += 1
                elif not is_cleared or not any(
                    layer.is_cleared for layer in self._layers_above(log, self._key(log, row.subject))
                ):
                    yield row.subject, row
        for subject in in_layers[place:]:
            yield subject, None

    def _subjects_in_layers(self) -> list[bytes]:
        signature = tuple((id(layer), len(layer.deltas)) for layer in self._layers)
        if self._ordered_cache[0] != signature:
            subjects: set[bytes] = set()
            for layer in self._layers:
                subjects.update(layer.deltas)
            self._ordered_cache = (signature, sorted(subjects))
        return self._ordered_cache[1]


def _is_beyond(position: Position, other: Position) -> bool:
    """Tell whether `position` covers something that `other` does not."""
    return position.sequence > other.sequence or position.change > other.change
