"""One stream on disk: the log that JetStream holds.

Theory of operation. A change is checked for room, encoded, and applied to `Contents`, all within the call; so the
*appended* state is visible at once. Its bytes wait in a tail (messages) or in the state log (everything else) until
the group commit takes them (`hand_over`) and reports them written (`on_committed`): then they are *durable*. A failed
write or sync fences the log: nothing is written any more, reads go on.

Order within a turn does not matter to a crash: all operations of a turn are in one record of the state log, and a
message record carries all that its append removes. Between the two files a crash may keep the newer part of either;
both are replayed by `recovery.py`, which needs no more than that every removal names its sequences.

Checkpoints bound that replay; they, and what else keeps the folder small, are in `upkeep.py`.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, Clock
from headrace.core.base.message import Batch, View
from headrace.storage.accounting import file_size
from headrace.storage.bounds import Bounds
from headrace.storage.chores import Chores
from headrace.storage.codec import encode_batch
from headrace.storage.commit import GroupCommit, Handover
from headrace.storage.compaction import Facts
from headrace.storage.contents import Contents
from headrace.storage.files import Files
from headrace.storage.framing import Unreadable
from headrace.storage.index_feed import IndexFeed
from headrace.storage.index_interface import Position
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
from headrace.storage.log_reads import LogReads
from headrace.storage.losses import Losses, told_at_start
from headrace.storage.record import (
    RECORD_SIZE_MAX,
    SEQUENCE_MAX,
    SUBJECT_SIZE_MAX,
    Atomic,
    Extras,
    RecordType,
    encode_message,
    encode_skip,
    merged,
    message_size,
    pack_ranges,
)
from headrace.storage.registers import apply_change, copy_register
from headrace.storage.room import Room
from headrace.storage.segment import Segment
from headrace.storage.segment_lookups import LookupCache, SegmentLookups
from headrace.storage.segment_writer import SegmentWriter
from headrace.storage.state import DamagedPlace, Operation
from headrace.storage.state_log import StateLog
from headrace.storage.stream_folder import StreamFolder
from headrace.storage.sync import Errands
from headrace.storage.targets import FileWrite, Target
from headrace.storage.upkeep import Upkeep

INDEX_BUDGET_NS: Final = 2 * NS_PER_MS
REBUILD_BUDGET_NS: Final = 4 * NS_PER_MS
"""What a rebuild takes of a turn."""

RECORD_OVERHEAD: Final = 51
"""A record's header and the most that its padding takes."""

EVICTED_SIZE_MAX: Final = 11
"""What one evicted sequence takes at most, with its share of the field's size."""


class FileLog:
    """A stream's log in a folder of its own."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        errands: Errands,
        chores: Chores,
        commit: GroupCommit,
        folder: StreamFolder,
        stream_id: int,
        config: dict[str, Any],
        created_ns: int,
        first: int,
        consumers: dict[str, ConsumerRecord],
        contents: Contents,
        writer: SegmentWriter,
        bounds: Bounds,
        state: StateLog,
        room: Room,
        lookups: LookupCache,
        damage: list[DamagedPlace],
        known_ids: Sequence[tuple[bytes, int, int]] = (),
    ) -> None:
        self._files = files
        self._clock = clock
        self._commit = commit
        self._folder = folder
        self._stream_id = stream_id
        self._config = config
        self._created_ns = created_ns
        self._first_at_creation = first
        self._consumers = consumers
        self._contents = contents
        self._writer = writer
        self._state = state
        self._losses = Losses(contents, damage, record=self._record_finding)
        segment_lookups = SegmentLookups(
            files=files,
            clock=clock,
            chance=chance,
            chores=chores,
            stream_id=stream_id,
            segments=contents.segments,
            cache=lookups,
        )
        self._reads = LogReads(
            contents,
            segment_lookups,
            on_corrupt=self._losses.meet,
            on_mistaken=self._tell,
        )
        self._fenced = ""
        self._is_touched = False
        self._head: Head | None = None
        self._first_time = (0, 0)  # a sequence and its message's time
        self._durable = Position(contents.last, state.change)
        self._flying = self._durable
        self._upkeep = Upkeep(
            files=files,
            clock=clock,
            chance=chance,
            errands=errands,
            chores=chores,
            folder=folder.path,
            stream_id=stream_id,
            contents=contents,
            writer=writer,
            state=state,
            room=room,
            bounds=bounds,
            known_ids=known_ids,
            ask=self._ask_for_commit,
            fence=self.fence,
        )
        self._state_target = self._new_state_target()
        self._has_index_work = False
        self.damage = damage
        self.found_at_start: Sequence[str] = ()
        """What its opening found damaged or lost that was not listed before, in lines."""
        self.is_relaxed = False
        """Whether this log's answers wait for the write alone."""
        writer.durable_to = contents.last
        feed = IndexFeed(
            contents,
            change=lambda: state.change,
            known_ids=lambda: self._upkeep.known_ids,
            note_damage=self._losses.note_damage,
        )
        contents.index.use(feed, self._durable)
        if not contents.index.is_ready:
            self._has_index_work = not contents.index.hurry()

    # ---- what it is

    @property
    def stream_id(self) -> int:
        return self._stream_id

    @property
    def folder(self) -> str:
        """Where its files are."""
        return self._folder.path

    @property
    def config(self) -> dict[str, Any]:
        return self._config

    @property
    def created_ns(self) -> int:
        return self._created_ns

    @property
    def head(self) -> Head:
        head = self._head
        if head is None:
            contents = self._contents
            count = contents.messages
            first, last = contents.first, contents.last
            head = self._head = Head(
                messages=count,
                size=contents.size,
                first_sequence=first if last else 0,
                first_time_ns=self._time_of_first(first) if count else 0,
                last_sequence=last,
                last_time_ns=contents.last_time_ns,
                counted=self._reads.subject_count,
                deleted_count=last - first + 1 - count,
                lost=tuple((each.first, each.last) for each in contents.lost),
            )
        return head

    @property
    def durable_sequence(self) -> int:
        return self._durable.sequence

    @property
    def fenced(self) -> str:
        return self._fenced

    def keep_message_ids(self, window_ns: int) -> None:
        """Say how long a message id is kept after its message's segment was dropped."""
        self._upkeep.message_id_window_ns = window_ns

    # ---- changes

    def append(self, entries: Sequence[Entry], *, is_atomic: bool = False) -> int:
        self._begin_change()
        contents = self._contents
        first, count = contents.last + 1, len(entries)
        size = sum(self._size_at_most(entry, is_atomic=is_atomic) for entry in entries)
        size += EVICTED_SIZE_MAX * count * self._subject_rules(entries)
        self._writer.reserve(size, first)
        for place, entry in enumerate(entries):
            self._append(entry, Atomic(first, count, place) if is_atomic and count > 1 else None)
        self._upkeep.note_written(size)
        self._commit.note(self, sync=not self.is_relaxed)
        return first

    def append_batch(self, batch: Batch, time_ns: int) -> int:
        self._begin_change()
        contents = self._contents
        first = contents.last + 1
        size = batch.size + RECORD_OVERHEAD * len(batch)
        subjects = batch.subjects()
        if max(map(len, subjects)) > SUBJECT_SIZE_MAX:
            raise StorageError(f"a subject is longer than {SUBJECT_SIZE_MAX} bytes")
        segment = self._writer.reserve(size, first)
        offsets = segment.offsets
        assert offsets is not None, "the segment that is written to has its offsets"
        offsets.expect(first)
        data, count, accounted = encode_batch(
            batch,
            0,
            salt=segment.salt,
            offset=segment.used,
            limit=segment.used + segment.room,
            sequence=first,
            time_ns=time_ns,
            offsets=offsets.units,
        )
        assert count == len(subjects), "room was reserved for all of them"
        self._writer.add(data)
        contents.appended_batch(segment, count=count, time_ns=time_ns, subjects=subjects, size=accounted)
        self._upkeep.note_written(len(data))
        self._commit.note(self, sync=not self.is_relaxed)
        return first

    def skip(self, last_sequence: int, time_ns: int) -> None:
        self._begin_change()
        if last_sequence > self._contents.last:
            self._skip(last_sequence, time_ns)

    def remove(self, ranges: Sequence[tuple[int, int]], *, secure: bool = False) -> int:
        self._begin_change()
        contents = self._contents
        wanted = merged_ranges(ranges)
        ahead = 0
        if wanted and wanted[-1][1] > contents.last:
            # Only a range that takes in all that is there reaches beyond the end.
            if wanted[-1][0] <= contents.first:
                ahead = wanted[-1][1]
            wanted = [(first, min(last, contents.last)) for first, last in wanted if first <= contents.last]
        if ahead:
            self._writer.reserve(RECORD_OVERHEAD + 8, contents.last + 1)
        return self._remove(wanted, secure=secure, ahead=ahead)

    def remove_subjects(self, match: Matcher, *, below: int = 0, keep: int = 0) -> int:
        self._begin_change()
        stop = below or self._contents.last + 1
        doomed: list[int] = []
        for state in self._reads.subjects(match, after=b"", count_max=0):
            if state.first_sequence < stop:
                doomed.extend(each for each in self._reads.sequences(state.subject) if each < stop)
        doomed.sort()
        if keep:
            del doomed[-keep:]
        return self._remove(merged(doomed), secure=False, ahead=0) if doomed else 0

    def save_config(self, config: dict[str, Any]) -> None:
        self._record([["config", config]], sync=True)
        self._config = config

    def save_consumer(
        self, name: str, config: dict[str, Any], created_ns: int, register: Register | None
    ) -> None:
        held = self._consumers.get(name)
        operations: list[Operation] = [["consumer", name, config, created_ns]]
        if register is not None:
            if held is not None:
                operations.insert(0, ["forget", name])
            puts = {sequence: list(row) for sequence, row in register.rows.items()}
            operations.append(["register", name, dict(register.numbers), [], puts])
        self._record(operations, sync=True)
        kept = held.register if register is None and held is not None else copy_register(register)
        self._consumers[name] = ConsumerRecord(name, config, created_ns, kept)

    def delete_consumer(self, name: str) -> None:
        if name in self._consumers:
            self._record([["forget", name]], sync=True)
            del self._consumers[name]

    def change_register(self, name: str, change: RegisterChange, *, sync: bool) -> None:
        puts = {sequence: list(row) for sequence, row in change.puts.items()}
        drops = [list(each) for each in change.drops]
        self._record([["register", name, dict(change.numbers), drops, puts]], sync=sync)
        apply_change(self._consumers[name].register, change)

    def consumers(self) -> Mapping[str, ConsumerRecord]:
        return self._consumers

    # ---- reads

    def get(self, sequence: int) -> View | None:
        return self._reads.get(sequence)

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
        return self._reads.scan(
            start, stop, match, messages_max=messages_max, size_max=size_max, steps_max=steps_max
        )

    def size_of(self, sequence: int) -> int:
        return self._reads.size_of(sequence)

    def next_sequence(self, sequence: int) -> int:
        return self._reads.next_sequence(sequence)

    def sequence_at(self, time_ns: int) -> int:
        return self._reads.sequence_at(time_ns)

    def deleted(self) -> Iterable[tuple[int, int]]:
        return self._reads.deleted()

    def subject(self, subject: bytes) -> SubjectState | None:
        return self._reads.subject(subject)

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        return self._reads.subjects(match, after=after, count_max=count_max)

    def last_matching(self, match: Matcher, *, at_most: int = 0) -> View | None:
        return self._reads.last_matching(match, at_most)

    def count_matching(self, match: Matcher | None, start: int) -> int:
        return self._reads.count_matching(match, start)

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        return self._reads.find_message_id(message_id, since_ns)

    # ---- what the group commit asks and tells

    def hand_over(self, *, sync: bool, owed: bool = False) -> Handover:
        """Give what has gathered since the last time; with `owed`, files too that only have to be synced."""
        contents, state = self._contents, self._state
        self._flying = Position(contents.last, state.change)
        contents.index.mark(self._flying)
        synced = sync and (owed or not self.is_relaxed)
        before, writes = self._writer.hand_over(sync=synced, owed=owed)
        wants_sync = state.wants_sync
        written = state.hand_over(self._clock.now_ns())
        target = self._state_target
        if target.salt != state.generation.salt:
            target = self._state_target = self._new_state_target()
        if written is not None:
            asks = owed or (wants_sync and sync) or self._upkeep.drops
            writes.append(FileWrite(target, written[1], written[2], state.change, asks))
            if asks:
                state.note_synced()
        elif owed and not target.is_covered:
            writes.append(FileWrite(target, target.end, b"", state.change, sync=True))
            state.note_synced()
        self._upkeep.at_boundary(is_synced=synced)
        facts = Facts(self._created_ns, self._first_at_creation, self._config, self._consumers, self.damage)
        return Handover(before, writes, self._upkeep.generation_errand(facts))

    def on_committed(self) -> None:
        """What was handed over is durable."""
        self._durable = self._flying
        self._state.on_committed()
        self._writer.durable_to = self._durable.sequence
        self._writer.on_written()
        self._writer.prepare_spare()
        self._upkeep.on_committed()
        self.follow(INDEX_BUDGET_NS)

    def on_followed(self, error: OSError | None) -> None:
        """The next generation of the state log is on disk, or could not be written."""
        reason = self._upkeep.on_followed(error)
        if reason:
            self.fence(reason)

    def fence(self, reason: str) -> None:
        """Write nothing any more."""
        if not self._fenced:
            self._fenced = reason

    def follow(self, budget_ns: int) -> bool:
        """Let the index follow what is durable; tell whether more is to do.

        A checkpoint that waits for the index makes it write however little it has.
        """
        index = self._contents.index
        budget_ns = budget_ns if index.is_ready else max(budget_ns, REBUILD_BUDGET_NS)
        self._has_index_work = index.advance(self._durable, budget_ns, urge=self._upkeep.has_captured)
        if not self._fenced and self._upkeep.write_checkpoint():
            self._commit.note(self, sync=False)
        return self._has_index_work

    @property
    def has_index_work(self) -> bool:
        """Whether the index lags behind what is durable."""
        return self._has_index_work

    def settle(self) -> None:
        """The stream is idle: say on disk what is durable, without asking for a sync."""
        if not self._fenced:
            self._upkeep.on_idle()
        if self._fenced or self._writer.is_dirty or self._writer.marked_to >= self._durable.sequence:
            return
        if self._writer.current is not None and self._contents.last == self._durable.sequence:
            self._writer.mark(RecordType.SETTLE, self._contents.last)
            self._commit.note(self, sync=False)

    def on_finding(self, callback: Callable[[str], None]) -> None:
        """Have each damage that is met told once, in a line for the log."""
        self._losses.tell = callback

    def sealed_segments(self) -> Sequence[Segment]:
        """Give the segments that nothing is written to any more."""
        return [each for each in self._contents.segments.all[:-1] if each.written == each.used]

    def note_damage(self, segment: Segment, suffix: str, found: Sequence[Unreadable]) -> int:
        """Meet what does not check in a segment's file, or the one beside it; give how many findings are new."""
        return self._losses.note_damage(segment, suffix, found)

    def note_opened(self, operations: list[Operation], replayed_count: int) -> None:
        """The log was opened after an unclean stop: what these operations say was found, so much was replayed."""
        self._upkeep.note_replayed(replayed_count)
        self.found_at_start = told_at_start(operations)
        try:
            self._record(operations, sync=True)
        except StorageError as error:
            self.fence(str(error))

    def erase(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Overwrite messages that were removed before a crash, for which there was no time then."""
        self._upkeep.erase(ranges)

    def prepare_close(self) -> None:
        """All is durable: add the close marks, for one more commit."""
        if self._fenced or not self._is_touched:
            return
        contents = self._contents
        self._writer.mark(RecordType.CLOSE, contents.last)
        segment = contents.segments.all[-1] if contents.segments.all else None
        name, used = ("", 0) if segment is None else (segment.name, segment.used)
        operations = [*self._upkeep.closing_operations(), ["close", name, used, contents.last]]
        # Without room for them this is an unclean stop, which the next start sees through.
        with contextlib.suppress(StorageError):
            self._state.add(operations, sync=True)
        self._commit.note(self, sync=True)

    def delete(self) -> None:
        """Let the stream go: a start would not find it any more. Raises OSError, and then nothing has changed."""
        self._folder.delete()
        self.fence("the stream was deleted")

    def remove_files(self) -> None:
        """Remove the files of a deleted log that was closed; blocks. Raises OSError."""
        self._folder.remove()

    def close(self) -> None:
        """Let go of the files."""
        if not self._fenced:
            self._contents.index.flush()
            self._writer.save_sidecar()
        self._upkeep.close()
        self._writer.close()
        self._files.close(self._state.generation.handle)

    @property
    def is_index_ready(self) -> bool:
        """Whether what asks the lookup index is answered; else it raises IndexRebuilding."""
        index = self._contents.index
        return index.is_ready or index.hurry()

    @property
    def is_index_full(self) -> bool:
        """Whether the lookup index holds as much in memory as it may: appends should wait."""
        return self._contents.index.is_full

    def when_index_has_room(self, callback: Callable[[], None]) -> None:
        """Call back when it has room again; it has none now."""
        self._contents.index.when_room(callback)

    def when_index_ready(self, callback: Callable[[], None]) -> None:
        """Call back when the lookup index is ready; it is not now."""
        self._contents.index.when_ready(callback)

    # ---- private

    def _tell(self, line: str) -> None:
        self._losses.tell(line)

    def _new_state_target(self) -> Target:
        generation = self._state.generation
        return Target(
            generation.handle,
            path=generation.path,
            stream_id=self._stream_id,
            salt=generation.salt,
            end=generation.used,
            last=self._state.change,
        )

    def _time_of_first(self, first: int) -> int:
        """Give the first message's time; it is on disk, and most appends leave the first message what it was."""
        if self._first_time[0] != first:
            self._first_time = (first, self._reads.time_of(first))
        return self._first_time[1]

    def _begin_change(self) -> None:
        if self._fenced:
            raise LogFenced(self._fenced)
        self._is_touched = True
        self._head = None

    def _ask_for_commit(self) -> None:
        """Have a commit cycle take what upkeep has to say, soon."""
        if not self._fenced:
            self._commit.note(self, sync=False)
            self._commit.commit()

    def _record(self, operations: list[Operation], *, sync: bool) -> int:
        self._begin_change()
        change = self._state.add(operations, sync=sync)
        self._commit.note(self, sync=sync)
        return change

    def _record_finding(self, operations: list[Operation]) -> int:
        """Note what a read found out; where that cannot be noted, the next one finds it again."""
        self._head = None
        if not self._fenced:
            with contextlib.suppress(StorageError):
                self._record(operations, sync=False)
        return self._state.change

    def _remove(self, ranges: list[tuple[int, int]], *, secure: bool, ahead: int) -> int:
        contents = self._contents
        if not ranges and not ahead:
            return 0
        if ranges:
            change = self._record([["remove", contents.last, pack_ranges(ranges), secure]], sync=True)
            removed = contents.remove_ranges(ranges, change)
            self._upkeep.note_removed(removed)
            if secure:
                self._upkeep.erase(ranges)
        else:
            removed = 0
        if ahead > contents.last:
            self._skip(ahead, contents.last_time_ns)
        self._losses.note()
        return removed

    def _skip(self, last: int, time_ns: int) -> None:
        contents = self._contents
        first = contents.last + 1
        if last > SEQUENCE_MAX:
            raise StorageError(f"there is no sequence {last}")
        segment = self._writer.reserve(RECORD_OVERHEAD + 8, first)
        self._writer.add(
            encode_skip(guard=segment.salt ^ segment.used, first=first, last=last, time_ns=time_ns)
        )
        contents.skipped(segment, last=last, time_ns=time_ns)
        self._commit.note(self, sync=not self.is_relaxed)

    def _append(self, entry: Entry, atomic: Atomic | None) -> None:
        contents, segment = self._contents, self._writer.current
        assert segment is not None, "room was reserved"
        assert segment.offsets is not None, "the segment that is written to has its offsets"
        sequence = contents.last + 1
        extras = Extras()
        if entry.effect is not NO_EFFECT and entry.effect != NO_EFFECT:
            effect = self._made_explicit(entry, sequence)
            entry = entry._replace(effect=effect)
            extras = Extras(
                first_sequence=effect.first_sequence,
                evicted=tuple(merged(effect.evicted)) if effect.evicted else (),
            )
        segment.offsets.expect(sequence)
        segment.offsets.units.append(segment.used >> 3)
        guard = segment.salt ^ segment.used
        self._writer.add(encode_message(entry, guard=guard, sequence=sequence, atomic=atomic))
        contents.appended(
            segment,
            sequence=sequence,
            time_ns=entry.time_ns,
            subject=entry.subject,
            message_id=entry.message_id,
            size=file_size(
                subject_size=len(entry.subject),
                headers_size=len(entry.headers),
                payload_size=len(entry.payload),
            ),
        )
        if extras.first_sequence or extras.evicted:
            before = contents.messages
            contents.apply(sequence, extras)
            self._upkeep.note_removed(before - contents.messages)
            self._losses.note()

    def _made_explicit(self, entry: Entry, sequence: int) -> Effect:
        """Name every sequence that an effect means, so that replay needs no index."""
        effect = entry.effect
        first = sequence if effect.all_before else min(effect.first_sequence, sequence)
        evicted = [each for each in effect.evicted if each < sequence and self._contents.segments.find(each)]
        if effect.subject_before and not effect.all_before:
            evicted += self._reads.sequences(entry.subject)
        return Effect(first, tuple(dict.fromkeys(evicted)), effect.subject_before, effect.all_before)

    def _size_at_most(self, entry: Entry, *, is_atomic: bool) -> int:
        """Give what a message's record takes at most, its effect made explicit."""
        if len(entry.subject) > SUBJECT_SIZE_MAX:
            raise StorageError(f"a subject is longer than {SUBJECT_SIZE_MAX} bytes")
        size = message_size(entry, is_atomic=is_atomic) + 8
        if entry.effect.subject_before:
            state = self._reads.subject(entry.subject)
            size += 8 + EVICTED_SIZE_MAX * (0 if state is None else state.count)
        if entry.effect is not NO_EFFECT:
            size += 16 + EVICTED_SIZE_MAX * len(entry.effect.evicted)
        if size > RECORD_SIZE_MAX:
            raise StorageError(f"a message of {size} bytes is too large for a record")
        return size

    @staticmethod
    def _subject_rules(entries: Sequence[Entry]) -> int:
        """Count the entries that may evict others of the same call."""
        return sum(entry.effect.subject_before for entry in entries)


def merged_ranges(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Put inclusive ranges in order, and join those that touch."""
    result: list[tuple[int, int]] = []
    for first, last in sorted((max(first, 1), last) for first, last in ranges if last >= first and last > 0):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result
