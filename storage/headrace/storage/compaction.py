"""The next generation of a state log, made in the background.

A snapshot is begun at a boundary of a commit cycle, when changes outweigh the last one. What depends on that very
moment (checkpoint, segments, removals, lists) is taken at once. Consumers, which may be thousands, follow in
slices, one a turn: their operations name absolute values, so a consumer that is taken later and then told again
what happened since the boundary comes to the same. Every slice is encoded and written off the loop.

Meanwhile the stream goes on in the generation before, and what is handed over to it is kept. When the snapshot is
written and synced, and the index has passed it, those changes are copied behind it, and the new file gets its
name while the next cycle waits; that takes a write, a sync and a rename, whatever the size of the state.

    IDLE      begin() →
    WRITING   slices, then the end of the snapshot; what was kept, while that is much →
    READY     errand() at a boundary that the index has reached →
    NAMING    on_followed() → IDLE

A step that fails leaves the generation before as it is. Only when the new file may have its name already must
the log be fenced: a start could take it for the newest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.chores import Chores
from headrace.storage.contents import Contents
from headrace.storage.files import Files
from headrace.storage.framing import FileHeader, FileKind, fresh_salt
from headrace.storage.index_interface import Position
from headrace.storage.interface import ConsumerRecord
from headrace.storage.snapshot import consumer_operations, in_records, snapshot_records
from headrace.storage.state import DamagedPlace, Operation
from headrace.storage.state_log import Generation, GenerationFile, StateLog, Written, state_name
from headrace.storage.sync import Errand

SLICE_CONSUMERS: Final = 64
SLICE_ROWS_MAX: Final = 2048
"""What is taken of the consumers in one turn: about a millisecond."""

CATCH_UP_SIZE_MAX: Final = 256 * 1024
"""The most that is copied while a cycle waits; more than that is copied before."""


class Facts(NamedTuple):
    """What the log's owner knows and a snapshot has to say."""

    created_ns: int
    first: int
    config: Mapping[str, Any]
    consumers: Mapping[str, ConsumerRecord]
    damage: Sequence[DamagedPlace]


class Phase(Enum):
    """How far the next generation is."""

    IDLE = "idle"
    WRITING = "writing"
    READY = "ready"
    NAMING = "naming"


class Compaction:
    """Makes the generations of one state log, one at a time. Loop thread only."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        chores: Chores,
        folder: str,
        stream_id: int,
        contents: Contents,
        state: StateLog,
        ask: Callable[[], None],
    ) -> None:
        self._files = files
        self._clock = clock
        self._chance = chance
        self._chores = chores
        self._folder = folder
        self._stream_id = stream_id
        self._contents = contents
        self._state = state
        self._ask = ask
        self._phase = Phase.IDLE
        self._position = Position(0, 0)
        self._consumers: Mapping[str, ConsumerRecord] = {}
        self._names: Iterator[str] = iter(())
        self._file: GenerationFile | None = None
        self._named: Generation | None = None

    @property
    def is_idle(self) -> bool:
        """Whether a new generation may begin."""
        return self._phase is Phase.IDLE

    @property
    def waits_for_index(self) -> bool:
        """Whether the generation is written and the index has not got there."""
        return self._phase is Phase.READY and not self._has_index_passed

    def begin(
        self, facts: Facts, *, ids: Sequence[tuple[bytes, int, int]], erasing: Sequence[Operation], batch: int
    ) -> None:
        """Take what holds at this boundary, where everything was handed over."""
        assert self._phase is Phase.IDLE, "one generation at a time"
        change = self._state.change
        self._position = Position(self._contents.last, change)
        records = snapshot_records(
            self._contents,
            stream={"created_ns": facts.created_ns, "id": f"{self._stream_id:016x}", "first": facts.first},
            config=facts.config,
            consumers={},
            ids=ids,
            damage=facts.damage,
            erasing=erasing,
            change=change,
            batch=batch,
        )
        self._consumers = facts.consumers
        self._names = iter(list(facts.consumers))
        number = self._state.generation.number + 1
        salt = fresh_salt(self._chance)
        header = FileHeader(FileKind.STATE, salt, self._stream_id, number, self._clock.now_ns(), 0)
        self._state.keep()
        self._phase = Phase.WRITING

        def create() -> Iterator[int]:
            self._file = GenerationFile(self._files, self._folder, header)
            self._file.add(records, change=change)
            yield 0

        self._chores.run(create(), self._on_written)

    def errand(self, *, is_urgent: bool) -> Errand | None:
        """Give what makes the new generation the one that counts, where it is time; at a boundary.

        `is_urgent`: do not wait for the index, which a start then has to build anew.
        """
        file = self._file
        if self._phase is not Phase.READY or file is None or not (is_urgent or self._has_index_passed):
            return None
        kept = self._state.take_kept()
        if sum(len(each.body) for each in kept) > CATCH_UP_SIZE_MAX:
            self._phase = Phase.WRITING
            self._chores.run(_caught_up(file, kept), self._on_caught_up)
            return None
        self._phase = Phase.NAMING

        def name() -> None:
            file.catch_up(kept)
            self._named = file.finish()

        return name

    def on_followed(self, error: OSError | None) -> str:
        """The errand has ended; give why the log must be fenced, or nothing."""
        named, self._named = self._named, None
        if error is not None or named is None:
            name = state_name(self._state.generation.number + 1)
            self._give_up()
            if self._files.status(f"{self._folder}/{name}") is not None:
                # It has its name, durably or not: a start may take it for the newest.
                return f"{name}: {error.strerror if error is not None else 'not written'}"
            return ""
        self._phase = Phase.IDLE
        self._file = None
        self._files.close(self._state.generation.handle)
        self._state.switch(named)
        return ""

    def close(self) -> None:
        """Let go of a file that is being made; no step of it runs any more."""
        if self._file is not None:
            self._file.abandon()
            self._file = None

    @property
    def _has_index_passed(self) -> bool:
        reached = self._contents.index.replay_from
        return reached.sequence >= self._position.sequence and reached.change >= self._position.change

    def _on_written(self, error: OSError | None) -> None:
        """A slice is written: take the next one, or end the snapshot."""
        file = self._file
        if error is not None or file is None:
            self._give_up()
            return
        change = self._position.change
        records = self._slice()

        def write() -> Iterator[int]:
            if records:
                file.add(records, change=change)
            else:
                file.complete(change=change)
                file.sync()
            yield 0

        self._chores.run(write(), self._on_written if records else self._on_caught_up)

    def _slice(self) -> list[list[Operation]]:
        """Take some consumers as they are now; none where there are no more."""
        taken: list[ConsumerRecord] = []
        rows = 0
        for name in self._names:
            consumer = self._consumers.get(name)
            if consumer is None:
                continue  # It was deleted meanwhile.
            taken.append(consumer)
            rows += len(consumer.register.rows)
            if len(taken) >= SLICE_CONSUMERS or rows >= SLICE_ROWS_MAX:
                break
        return in_records(consumer_operations(taken))

    def _on_caught_up(self, error: OSError | None) -> None:
        if error is not None:
            self._give_up()
            return
        self._phase = Phase.READY
        self._ask()

    def _give_up(self) -> None:
        """The generation before goes on; the next attempt comes when as much was added once more."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._phase = Phase.IDLE
        self._state.postpone_generation()


def _caught_up(file: GenerationFile, kept: Sequence[Written]) -> Iterator[int]:
    file.catch_up(kept)
    file.sync()
    yield 0
