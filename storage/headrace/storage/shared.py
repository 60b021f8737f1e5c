"""What the logs of a store have in common, and how one is put together of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import Bounds
from headrace.storage.chores import Chores
from headrace.storage.commit import GroupCommit
from headrace.storage.contents import Contents
from headrace.storage.file_log import FileLog
from headrace.storage.files import Files
from headrace.storage.index_interface import IndexStore
from headrace.storage.interface import ConsumerRecord
from headrace.storage.room import Room
from headrace.storage.segment_lookups import LookupCache
from headrace.storage.segment_writer import SegmentWriter
from headrace.storage.segments import Segments
from headrace.storage.sidecar import OffsetsCache
from headrace.storage.state import DamagedPlace
from headrace.storage.state_log import Generation, StateLog
from headrace.storage.stream_folder import StreamFolder
from headrace.storage.sync import Errands


@dataclass(frozen=True, slots=True)
class Shared:
    """What the logs of a store have in common."""

    files: Files
    clock: Clock
    chance: Chance
    errands: Errands
    chores: Chores
    commit: GroupCommit
    blocks: Blocks
    offsets: OffsetsCache
    indexes: IndexStore
    bounds: Bounds
    room: Room
    lookups: LookupCache

    def segments(self) -> Segments:
        """Give the table of a log's segments, empty."""
        return Segments(self.files, self.blocks, self.offsets)

    def writer(
        self, folder: StreamFolder, stream_id: int, segments: Segments, *, batch: int
    ) -> SegmentWriter:
        """Give what appends to a log's segments."""
        return SegmentWriter(
            files=self.files,
            chance=self.chance,
            clock=self.clock,
            errands=self.errands,
            folder=folder,
            stream_id=stream_id,
            segments=segments,
            batch=batch,
            bounds=self.bounds,
            room=self.room,
        )

    def state_log(self, generation: Generation, *, snapshot_size: int, change: int) -> StateLog:
        """Give what appends to a generation of a state log."""
        return StateLog(
            self.files,
            generation,
            bounds=self.bounds,
            room=self.room,
            snapshot_size=snapshot_size,
            change=change,
        )

    def log(
        self,
        folder: StreamFolder,
        stream_id: int,
        *,
        config: dict[str, Any],
        created_ns: int,
        first: int,
        consumers: dict[str, ConsumerRecord],
        contents: Contents,
        writer: SegmentWriter,
        state: StateLog,
        damage: list[DamagedPlace],
        known_ids: Sequence[tuple[bytes, int, int]] = (),
    ) -> FileLog:
        """Give a log of its parts."""
        return FileLog(
            files=self.files,
            clock=self.clock,
            chance=self.chance,
            errands=self.errands,
            chores=self.chores,
            commit=self.commit,
            folder=folder,
            stream_id=stream_id,
            config=config,
            created_ns=created_ns,
            first=first,
            consumers=consumers,
            contents=contents,
            writer=writer,
            bounds=self.bounds,
            state=state,
            room=self.room,
            lookups=self.lookups,
            damage=damage,
            known_ids=known_ids,
        )
