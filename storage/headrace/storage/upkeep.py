"""What a log does beside its service: checkpoints, dropping dead segments, new generations of its state log.

**Checkpoints** bound what a start has to replay. What holds at a cycle's boundary is captured when the cycle is
gathered, and goes to the state log once the cycle is durable and the index has followed; so a checkpoint never counts
what a crash could take away, and a start never has to tell the index what lies before it.

**Dead segments** go in three steps: the checkpoint that finds them dead says so (`drop`), a cycle syncs it, then the
files are removed. Message ids that only such a segment knew are copied first.

**A generation** is begun when changes outweigh the snapshot. Its content is taken at a boundary and written when the
cycle is durable; the next cycle waits for it. Once it may have its name, the one before is never written again.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, Clock
from headrace.storage.bounds import Bounds
from headrace.storage.contents import Contents
from headrace.storage.files import Files
from headrace.storage.framing import FileHeader, FileKind, fresh_salt
from headrace.storage.interface import ConsumerRecord, StorageError
from headrace.storage.segment import Segment
from headrace.storage.segment_writer import SegmentWriter
from headrace.storage.snapshot import Capture, capture, snapshot_records
from headrace.storage.state import DamagedPlace, Operation
from headrace.storage.state_log import Generation, StateLog, state_name, write_generation
from headrace.storage.sync import Errand, Errands

MESSAGE_ID_WINDOW_NS: Final = 120 * NS_PER_S
"""How long message ids of dropped segments are kept unless the owner says. Source: the default duplicate window."""

KnownIds = list[tuple[bytes, int, int]]
"""Message id, sequence, time of messages whose segment was dropped."""


class Facts(NamedTuple):
    """What the log's owner knows and a snapshot has to say."""

    created_ns: int
    first: int
    config: Mapping[str, Any]
    consumers: Mapping[str, ConsumerRecord]
    damage: Sequence[DamagedPlace]


class Upkeep:
    """The upkeep of one log."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        errands: Errands,
        folder: str,
        stream_id: int,
        contents: Contents,
        writer: SegmentWriter,
        state: StateLog,
        bounds: Bounds,
        known_ids: Sequence[tuple[bytes, int, int]],
    ) -> None:
        self._files = files
        self._clock = clock
        self._chance = chance
        self._errands = errands
        self._folder = folder
        self._stream_id = stream_id
        self._contents = contents
        self._writer = writer
        self._state = state
        self._bounds = bounds
        self._captured: Capture | None = None
        self._captured_last = contents.last
        self._removed_count = 0
        self._written_size = 0
        self._dropping: list[str] = []
        self._drops_flying: list[str] = []
        self._next_generation: Generation | None = None
        self.known_ids: KnownIds = list(known_ids)
        self.message_id_window_ns = MESSAGE_ID_WINDOW_NS

    @property
    def has_captured(self) -> bool:
        """Whether a checkpoint waits for the index."""
        return self._captured is not None

    @property
    def drops(self) -> bool:
        """Whether what waits in the state log drops segments, and must therefore be synced."""
        return bool(self._dropping)

    def note_written(self, size: int) -> None:
        """So many bytes of records were appended."""
        self._written_size += size

    def note_removed(self, count: int) -> None:
        """So many messages were removed."""
        self._removed_count += count

    def note_replayed(self, count: int) -> None:
        """A start had to replay so many messages behind the last checkpoint: they count towards the next."""
        self._captured_last -= count

    def at_boundary(self) -> None:
        """Everything was handed over to a cycle: keep what holds now, where a checkpoint is due."""
        self._drops_flying, self._dropping = self._dropping, []
        if self._captured is None and self._is_due():
            self._captured = self._capture()

    def write_checkpoint(self) -> bool:
        """Put the captured checkpoint into the state log, if the index has got there; tell whether it was."""
        captured = self._captured
        if captured is None:
            return False
        reached = self._contents.index.replay_from
        if captured.checkpoint.sequence > reached.sequence or captured.checkpoint.change > reached.change:
            return False
        operations: list[Operation] = list(captured.operations)
        for segment in captured.dead:
            ids = self._ids_worth_keeping(segment)
            if ids:
                self.known_ids += ids
                operations.append(["ids", [list(each) for each in ids]])
            operations.append(["drop", segment.name])
        try:
            # Nobody's answer waits for it; a cycle that drops segments syncs the state log all the same.
            self._state.add(operations, sync=False)
        except StorageError:
            # No room: it is kept, and tried again.
            return False
        self._captured = None
        for segment in captured.dead:
            self._contents.segments.discard(segment)
            self._dropping.append(segment.path)
        return True

    def on_committed(self) -> None:
        """The cycle is durable: unlink what the state log durably says is dropped."""
        doomed, self._drops_flying = self._drops_flying, []
        for path in doomed:
            self._errands.run(partial(_unlink_segment, self._files, path), _ignore)

    def closing_operations(self) -> list[Operation]:
        """Give a last checkpoint's operations, with those that still waited."""
        operations = [] if self._captured is None else self._captured.operations
        self._captured = None
        return [*operations, *self._capture().operations]

    def generation_errand(self, facts: Facts) -> Errand | None:
        """Give what writes the next generation with the state at this boundary, where one is due."""
        if not self._state.wants_generation or self._captured is not None:
            return None
        change = self._state.change
        records = snapshot_records(
            self._contents,
            stream={"created_ns": facts.created_ns, "id": f"{self._stream_id:016x}", "first": facts.first},
            config=facts.config,
            consumers=facts.consumers,
            ids=self.known_ids,
            damage=facts.damage,
            change=change,
            batch=self._writer.batch,
        )
        number = self._state.generation.number + 1
        salt = fresh_salt(self._chance)
        header = FileHeader(FileKind.STATE, salt, self._stream_id, number, self._clock.now_ns(), 0)

        def write() -> None:
            self._next_generation = write_generation(
                self._files, self._folder, header, records, change=change
            )

        return write

    def on_followed(self, error: OSError | None) -> str:
        """The next generation is on disk, or could not be written; give why the log must be fenced, or nothing."""
        generation, self._next_generation = self._next_generation, None
        if error is not None or generation is None:
            name = state_name(self._state.generation.number + 1)
            if self._files.status(f"{self._folder}/{name}") is not None:
                # It has its name, durably or not: a start may take it for the newest.
                return f"{name}: {error.strerror if error is not None else 'not written'}"
            self._state.postpone_generation()
            return ""
        self._files.close(self._state.generation.handle)
        self._state.switch(generation)
        old = f"{self._folder}/{state_name(generation.number - 2)}"
        self._errands.run(partial(_unlink_if_there, self._files, old), _ignore)
        return ""

    def _is_due(self) -> bool:
        changed = self._contents.last - self._captured_last + self._removed_count
        if not changed:
            return False
        return changed >= self._bounds.checkpoint_count or self._written_size >= self._bounds.checkpoint_size

    def _capture(self) -> Capture:
        self._captured_last = self._contents.last
        self._removed_count = self._written_size = 0
        return capture(self._contents, change=self._state.change, batch=self._writer.batch)

    def _ids_worth_keeping(self, segment: Segment) -> KnownIds:
        since_ns = self._clock.now_ns() - self.message_id_window_ns
        self.known_ids = [each for each in self.known_ids if each[2] >= since_ns]
        if segment.id_time_ns < since_ns:
            return []
        return [each for each in self._contents.segments.message_ids(segment) if each[2] >= since_ns]


def _unlink_segment(files: Files, path: str) -> None:
    for each in (path, f"{path}.side"):
        _unlink_if_there(files, each)


def _unlink_if_there(files: Files, path: str) -> None:
    if files.status(path) is not None:
        files.unlink(path)


def _ignore(_: OSError | None) -> None:
    """What was not removed now is removed at the next start."""
