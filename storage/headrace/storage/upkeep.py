"""What a log does beside its service: checkpoints, giving space back, new generations of its state log.

**Checkpoints** bound what a start has to replay. What holds at a cycle's boundary is captured when the cycle is
gathered, and goes to the state log once the cycle is durable and the index has followed; so a checkpoint never
counts what a crash could take away, and a start never has to tell the index what lies before it. Where an
answer does not wait for a sync, the files that the capture counts are synced for it.

**Work** may need a checkpoint that is durable: segments are folded (`removals.py`) and rewritten (`rewrite.py`)
as they were at the capture. It is planned with the capture, and begins when the cycle that writes the
checkpoint is done. A segment that something is done with is *busy* and not touched by anything else.

**Segments go** in three steps: the checkpoint that finds them dead, or names their replacement, says so
(`drop`), a cycle syncs it, then the files are removed. Message ids that only such a segment knows are looked up
off the loop and copied into the state log before.

**A generation** is begun when changes outweigh the snapshot, after what may be folded was folded (`compaction.py`).
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, Clock
from headrace.storage.bounds import Bounds
from headrace.storage.chores import Chores
from headrace.storage.compaction import Compaction, Facts
from headrace.storage.contents import Contents
from headrace.storage.erasure import Erasure, erase, erasures
from headrace.storage.files import Files, sync_path
from headrace.storage.framing import fresh_salt
from headrace.storage.interface import StorageError
from headrace.storage.removals import Fold, Removals, encode_removals, fold
from headrace.storage.rewrite import (
    Plan,
    Rewritten,
    Source,
    is_sparse,
    message_ids,
    needed_size,
    rewrite,
)
from headrace.storage.room import Room, is_full
from headrace.storage.segment import COMPANIONS, Segment, parse_segment_name
from headrace.storage.segment_writer import SegmentWriter
from headrace.storage.snapshot import IDS_MAX, RANGE_SIZE, Capture, capture
from headrace.storage.state import Operation
from headrace.storage.state_log import StateLog, state_name
from headrace.storage.sync import Errand, Errands
from headrace.storage.unheeded import unheeded

MESSAGE_ID_WINDOW_NS: Final = 120 * NS_PER_S
"""How long message ids of dropped segments are kept unless the owner says. Source: the default duplicate window."""

FOLDS_MAX: Final = 64
"""How many segments are folded at a time: their bits are copied at once."""

FOLD_SHARE: Final = 8
"""A segment is folded again when what its `.del` does not say takes this part of its bits."""

MERGED_MAX: Final = 16
"""How many neighbouring segments are rewritten into one."""

KnownId = tuple[bytes, int, int]
"""Message id, sequence, time of a message whose segment was dropped."""


@dataclass(slots=True)
class _Work:
    """What begins when the checkpoint is durable."""

    folds: list[tuple[Segment, bytes]] = field(default_factory=list[tuple[Segment, bytes]])
    rewrite: Rewritten | None = None
    erasures: list[Erasure] = field(default_factory=list[Erasure])

    def __bool__(self) -> bool:
        return bool(self.folds) or self.rewrite is not None or bool(self.erasures)


@dataclass(slots=True)
class _Captured:
    """A checkpoint that waits.

    `replaced`: segments whose place another one has taken. `is_safe`: what it counts is synced.
    """

    capture: Capture
    replaced: list[Segment]
    work: _Work
    unsynced: list[str]
    is_safe: bool = False


class Upkeep:
    """The upkeep of one log. `ask` has a commit cycle come soon; `fence` ends all writing to the log."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        errands: Errands,
        chores: Chores,
        folder: str,
        stream_id: int,
        contents: Contents,
        writer: SegmentWriter,
        state: StateLog,
        room: Room,
        bounds: Bounds,
        known_ids: Sequence[KnownId],
        ask: Callable[[], None],
        fence: Callable[[str], None],
    ) -> None:
        self._files = files
        self._clock = clock
        self._chance = chance
        self._errands = errands
        self._chores = chores
        self._folder = folder
        self._stream_id = stream_id
        self._contents = contents
        self._writer = writer
        self._state = state
        self._room = room
        self._bounds = bounds
        self._ask = ask
        self._fence = fence
        self._captured: _Captured | None = None
        self._captured_last = contents.last
        self._removed_count = 0
        self._written_size = 0
        self._is_wanted = False
        self._dropping: list[str] = []
        self._drops_flying: list[str] = []
        self._work = _Work()
        self._work_flying = _Work()
        self._busy: set[Segment] = set()
        self._unfit: set[Segment] = set()
        self._rewritten: Rewritten | None = None
        self._to_erase: list[Erasure] = []
        self._erasing: dict[tuple[str, int], Erasure] = {}
        self._held_back: list[str] = []
        self._ids_of_erased: list[KnownId] = []
        self._is_rewriting = False
        self._is_folding = False
        self._has_folded = False
        self._compaction = Compaction(
            files=files,
            clock=clock,
            chance=chance,
            chores=chores,
            folder=folder,
            stream_id=stream_id,
            contents=contents,
            state=state,
            ask=ask,
        )
        self.known_ids: deque[KnownId] = deque(known_ids)
        self.message_id_window_ns = MESSAGE_ID_WINDOW_NS

    @property
    def has_captured(self) -> bool:
        """Whether a checkpoint, or a generation, waits for the index."""
        return self._captured is not None or self._compaction.waits_for_index

    @property
    def drops(self) -> bool:
        """Whether something waits for what is in the state log, which must therefore be synced."""
        return bool(self._dropping) or bool(self._work)

    def note_written(self, size: int) -> None:
        """So many bytes of records were appended."""
        self._written_size += size

    def note_removed(self, count: int) -> None:
        """So many messages were removed."""
        self._removed_count += count

    def note_replayed(self, count: int) -> None:
        """A start had to replay so many messages behind the last checkpoint: they count towards the next."""
        self._captured_last -= count

    def erase(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Have messages overwritten, which were removed just now."""
        since_ns = self._clock.now_ns() - self.message_id_window_ns
        for each in erasures(self._contents.segments, ranges):
            self._to_erase.append(each.erasure)
            if each.message_id and each.time_ns >= since_ns:
                self._ids_of_erased.append((each.message_id, each.sequence, each.time_ns))

    def on_idle(self) -> None:
        """Nothing was appended for a while: where space is to be given back, do not wait for a checkpoint to be due."""
        if self._removed_count and not self._is_wanted and self._has_waste():
            self._is_wanted = True
            self._ask()

    # ---- what a commit cycle asks and tells

    def at_boundary(self, *, is_synced: bool) -> None:
        """Everything was handed over to a cycle, which syncs it or not; where a checkpoint is due, capture it."""
        self._drops_flying, self._dropping = self._dropping, []
        self._work_flying, self._work = self._work, _Work()
        if self._captured is None and self._is_due():
            before = self._captured_last
            self._captured = self._capture()
            if not is_synced:
                touched = (each for each in self._contents.segments.all if each.last > before)
                self._captured.unsynced += [each.path for each in touched]

    def on_committed(self) -> None:
        """The cycle is done: unlink what the state log durably says is dropped, begin what waited for it."""
        doomed, self._drops_flying = self._drops_flying, []
        self._unlink(doomed)
        work, self._work_flying = self._work_flying, _Work()
        if work:
            self._begin(work)
        captured = self._captured
        if captured is not None and not captured.is_safe:
            if captured.unsynced:
                paths, captured.unsynced = captured.unsynced, []
                self._chores.run(_synced(self._files, paths), partial(self._on_synced, captured))
            else:
                captured.is_safe = True

    def write_checkpoint(self) -> bool:
        """Put the captured checkpoint into the state log, if the index has got there; tell whether it was."""
        captured = self._captured
        if captured is None or not captured.is_safe:
            return False
        # On a full disk the index may be what cannot be written; without it a start builds it anew.
        gives_back = self._room.is_short and bool(captured.capture.dead or captured.replaced)
        if not gives_back and not self._has_index_passed(captured.capture):
            return False
        dead, knowing = self._dead_segments(captured)
        operations = [*_operations(captured), *(["drop", each.name] for each in dead)]
        try:
            # Nobody's answer waits for it; a cycle that drops segments syncs the state log all the same.
            self._state.add(operations, sync=False)
        except StorageError:
            # No room: it is kept, and tried again.
            return False
        self._captured = None
        for segment in dead:
            self._contents.segments.discard(segment)
        self._dropping += [each.path for each in (*captured.replaced, *dead)]
        self._work = captured.work
        self._erasing.update(((each.name, each.offset), each) for each in captured.work.erasures)
        for segment in knowing:
            self._look_up_ids(segment)
        return True

    def closing_operations(self) -> list[Operation]:
        """Give a last checkpoint's operations, with those that still waited."""
        operations: list[Operation] = []
        for captured in (self._captured, self._capture()):
            if captured is not None:
                operations += _operations(captured)
        self._captured = None
        return operations

    def generation_errand(self, facts: Facts) -> Errand | None:
        """Give what makes the next generation count, where it is ready; begin one where it is due. At a boundary."""
        if not self._compaction.is_idle:
            return self._compaction.errand(is_urgent=self._room.is_short)
        is_ready = self._captured is None and not self._is_folding and not self._to_erase
        if self._state.wants_generation and is_ready:
            self._has_folded = False
            erasing = [each.operation for each in self._erasing.values()]
            self._compaction.begin(facts, ids=list(self.known_ids), erasing=erasing, batch=self._writer.batch)
        return None

    def on_followed(self, error: OSError | None) -> str:
        """The next generation is on disk, or could not be written; give why the log must be fenced, or nothing."""
        if error is not None and is_full(error):
            self._room.release()
        reason = self._compaction.on_followed(error)
        old = f"{self._folder}/{state_name(self._state.generation.number - 2)}"
        if error is None and not reason:
            # What is not removed now is removed at the next start.
            self._errands.run(partial(_unlink_if_there, self._files, old), unheeded)
        return reason

    def close(self) -> None:
        """Let go of files that are being made."""
        self._compaction.close()

    # ---- checkpoints

    def _is_due(self) -> bool:
        if self._is_wanted or self._to_erase or self._rewritten is not None:
            return True
        if self._state.wants_generation and not self._has_folded and self._foldable():
            return True
        if self._room.is_short and self._removed_count and self._has_waste():
            return True
        changed = self._contents.last - self._captured_last + self._removed_count
        if not changed:
            return False
        return changed >= self._bounds.checkpoint_count or self._written_size >= self._bounds.checkpoint_size

    def _capture(self) -> _Captured:
        self._captured_last = self._contents.last
        self._removed_count = self._written_size = 0
        self._is_wanted = False
        operations, replaced = self._put_in_place()
        taken = capture(self._contents, change=self._state.change, batch=self._writer.batch)
        taken.operations[:0] = [*operations, *_id_operations(self._ids_of_erased)]
        self.known_ids += self._ids_of_erased
        self._ids_of_erased = []
        work = _Work(erasures=self._to_erase)
        self._to_erase = []
        if not self._is_rewriting:
            work.rewrite = self._planned_rewrite()
        if self._state.wants_generation:
            self._has_folded = True
            work.folds = [(each, bytes(each.gone or b"")) for each in self._foldable()]
            self._is_folding = bool(work.folds)
            self._busy.update(each for each, _ in work.folds)
        return _Captured(taken, replaced, work, [])

    def _has_index_passed(self, taken: Capture) -> bool:
        reached = self._contents.index.replay_from
        return reached.sequence >= taken.checkpoint.sequence and reached.change >= taken.checkpoint.change

    def _on_synced(self, captured: _Captured, error: OSError | None) -> None:
        if error is not None:
            self._fence(f"a sync failed: {error.strerror}")
            return
        captured.is_safe = True
        self._ask()

    # ---- segments that go

    def _sealed(self) -> list[Segment]:
        """Give the segments that nothing is written to, or done with."""
        segments = self._contents.segments.all[:-1]
        return [each for each in segments if each.written == each.used and each not in self._busy]

    def _has_waste(self) -> bool:
        return any(not each.live_count or self._is_sparse(each) for each in self._sealed())

    def _dead_segments(self, captured: _Captured) -> tuple[list[Segment], list[Segment]]:
        """Give the dead segments that may go, and those that know message ids which are still wanted."""
        since_ns = self._clock.now_ns() - self.message_id_window_ns
        while self.known_ids and self.known_ids[0][2] < since_ns:
            self.known_ids.popleft()
        held = set(self._contents.segments.all)
        dead = [each for each in captured.capture.dead if each in held and each not in self._busy]
        knowing = [each for each in dead if each.id_time_ns >= since_ns]
        return [each for each in dead if each.id_time_ns < since_ns], knowing

    def _look_up_ids(self, segment: Segment) -> None:
        self._busy.add(segment)
        found: list[KnownId] = []
        since_ns = self._clock.now_ns() - self.message_id_window_ns
        chore = message_ids(self._files, segment, since_ns, found)
        self._chores.run(chore, partial(self._on_ids, segment, found))

    def _on_ids(self, segment: Segment, found: list[KnownId], error: OSError | None) -> None:
        """A dead segment's ids were read: copy them, and drop it with the same record."""
        self._busy.discard(segment)
        operations = [*_id_operations(found), ["drop", segment.name]]
        try:
            if error is not None:
                raise StorageError(str(error))
            self._state.add(operations, sync=False)
        except StorageError:
            # It stays, and is found dead by a later checkpoint.
            self._is_wanted = True
            return
        self.known_ids += found
        self._contents.segments.discard(segment)
        self._dropping.append(segment.path)
        self._ask()

    # ---- work

    def _begin(self, work: _Work) -> None:
        if work.folds:
            folds = [self._fold(*each) for each in work.folds]
            self._chores.run(fold(self._files, folds), partial(self._on_folded, work.folds))
        if work.rewrite is not None:
            self._chores.queue(rewrite(self._files, work.rewrite), partial(self._on_rewritten, work.rewrite))
        if work.erasures:
            self._chores.empty_journal(partial(self._on_journal_empty, work.erasures))

    def _on_journal_empty(self, todo: Sequence[Erasure], error: OSError | None) -> None:
        if error is None:
            self._chores.run(erase(self._files, todo), partial(self._on_erased, todo))

    def _on_erased(self, todo: Sequence[Erasure], error: OSError | None) -> None:
        """Records were overwritten; where they were not, the next start does it."""
        if error is not None:
            return
        for each in todo:
            self._erasing.pop((each.name, each.offset), None)
            named = parse_segment_name(each.name)
            if named is not None:
                self._contents.segments.forget_blocks(named[1])
        # Nobody waits for it: what is not said to be erased is erased once more.
        with contextlib.suppress(StorageError):
            self._state.add([["erased", [[each.name, each.offset] for each in todo]]], sync=False)
        held, self._held_back = self._held_back, []
        self._unlink(held)
        self._ask()

    def _unlink(self, paths: Sequence[str]) -> None:
        """Remove files, after what is to be overwritten in them is."""
        waiting = {each.path for each in self._erasing.values()}
        for path in paths:
            if path in waiting:
                self._held_back.append(path)
            else:
                self._errands.run(partial(_unlink_segment, self._files, path), unheeded)

    def _foldable(self) -> list[Segment]:
        """Give segments whose removals take much room in the state log."""
        found = [
            each
            for each in self._sealed()
            if each.gone is not None
            and each.live_count
            and each.unfolded_count * RANGE_SIZE
            >= max(self._bounds.fold_size_min, 0 if each.folded is None else len(each.gone) // FOLD_SHARE)
        ]
        return found[:FOLDS_MAX]

    def _fold(self, segment: Segment, bits: bytes) -> Fold:
        copies = [
            encode_removals(
                Removals(self._state.change, bits),
                segment_salt=segment.salt,
                first=segment.first,
                stream_id=self._stream_id,
                salt=fresh_salt(self._chance),
                time_ns=self._clock.now_ns(),
            )
            for _ in range(2)
        ]
        return Fold(segment.path, (copies[0], copies[1]))

    def _on_folded(self, folds: Sequence[tuple[Segment, bytes]], error: OSError | None) -> None:
        self._is_folding = False
        for segment, bits in folds:
            self._busy.discard(segment)
            if error is None:
                segment.take_folded(bits)
            self._is_wanted = self._is_wanted or not segment.live_count
        self._ask()

    def _is_sparse(self, segment: Segment) -> bool:
        bounds = self._bounds
        return (
            segment.live_count > 0
            and segment not in self._unfit
            and is_sparse(segment, share_max=bounds.rewrite_share_max, gain_min=bounds.rewrite_gain_min)
        )

    def _planned_rewrite(self) -> Rewritten | None:
        """Choose the segments that give most back, with neighbours that are sparse or small."""
        sealed = self._sealed()
        sparse = [each for each in sealed if self._is_sparse(each)]
        if not sparse:
            return None
        best = max(sparse, key=lambda each: each.used - needed_size(each))
        chosen = self._with_neighbours(best, set(sealed))
        sources = [Source(each, bytes(each.gone or b"")) for each in chosen]
        self._busy.update(chosen)
        self._is_rewriting = True
        return Rewritten(
            Plan(
                sources=sources,
                first=self._contents.first,
                ids_since_ns=self._clock.now_ns() - self.message_id_window_ns,
                durable_to=self._contents.last,
                batch=self._writer.batch,
                stream_id=self._stream_id,
                salt=fresh_salt(self._chance),
                sidecar_salt=fresh_salt(self._chance),
                time_ns=self._clock.now_ns(),
            )
        )

    def _with_neighbours(self, best: Segment, allowed: set[Segment]) -> list[Segment]:
        size_max = self._bounds.segment_size_max // 2
        segments = self._contents.segments.all
        start = stop = segments.index(best)
        size = needed_size(best)

        def fits(segment: Segment) -> bool:
            is_small = segment.used <= size_max // 4
            # A dead one goes by itself, and may have no bits that say what is gone in it.
            wanted = segment in allowed and segment not in self._unfit and segment.live_count > 0
            return (
                wanted and (is_small or self._is_sparse(segment)) and size + needed_size(segment) <= size_max
            )

        while stop - start + 1 < MERGED_MAX:
            if start > 0 and fits(segments[start - 1]):
                start -= 1
                size += needed_size(segments[start])
            elif stop + 1 < len(segments) and fits(segments[stop + 1]):
                stop += 1
                size += needed_size(segments[stop])
            else:
                break
        return segments[start : stop + 1]

    def _on_rewritten(self, rewritten: Rewritten, error: OSError | None) -> None:
        sources = [source.segment for source in rewritten.plan.sources]
        if error is not None or rewritten.segment is None:
            self._is_rewriting = False
            self._busy.difference_update(sources)
            if error is None:
                self._unfit.update(sources)
            elif is_full(error):
                # It is tried again with the next checkpoint, in the room that this leaves.
                self._room.release()
            return
        self._rewritten = rewritten
        self._ask()

    def _put_in_place(self) -> tuple[list[Operation], list[Segment]]:
        """Let a rewritten segment take the place of its sources; give the ids that went with them, and these."""
        rewritten, self._rewritten = self._rewritten, None
        if rewritten is None or rewritten.segment is None:
            return [], []
        sources = [(source.segment, source.gone) for source in rewritten.plan.sources]
        self._contents.replace(sources, rewritten.segment, rewritten.offsets)
        self._is_rewriting = False
        self._busy.difference_update(segment for segment, _ in sources)
        self.known_ids += rewritten.ids
        return _id_operations(rewritten.ids), [segment for segment, _ in sources]


def _operations(captured: _Captured) -> list[Operation]:
    operations = list(captured.capture.operations)
    operations += [each.operation for each in captured.work.erasures]
    return operations + [["drop", each.name] for each in captured.replaced]


def _id_operations(ids: Sequence[KnownId]) -> list[Operation]:
    return [["ids", ids[start : start + IDS_MAX]] for start in range(0, len(ids), IDS_MAX)]


def _synced(files: Files, paths: Sequence[str]) -> Iterator[int]:
    """Sync files by name; a chore."""
    for path in paths:
        sync_path(files, path)
        yield 0


def _unlink_segment(files: Files, path: str) -> None:
    for suffix in ("", *COMPANIONS):
        _unlink_if_there(files, f"{path}{suffix}")


def _unlink_if_there(files: Files, path: str) -> None:
    if files.status(path) is not None:
        files.unlink(path)
