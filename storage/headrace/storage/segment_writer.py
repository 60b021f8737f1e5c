"""Appending to the segments of a log: room, rolling over, and marks.

Records are gathered in a `Tail` until the group commit takes it. Every tail of a segment begins with a batch record. A
segment is made as `<salt>.new` with its header and all its room; it gets its name by an errand that the commit cycle
runs before it writes, so no answer depends on a file without a name. The next segment is prepared in the background
when the current one is half full; where that was too slow, or the first record comes, it is made on the spot.

A full disk is met here, when room is made, and nothing has changed then.
"""

import contextlib
from functools import partial
from typing import Final, NamedTuple

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.bounds import Bounds
from headrace.storage.files import Files
from headrace.storage.framing import FILE_HEADER_SIZE, FileHeader, FileKind, encode_file_header, fresh_salt
from headrace.storage.interface import DiskFull, StorageError
from headrace.storage.record import Mark, RecordType, encode_mark
from headrace.storage.room import Room, is_full
from headrace.storage.segment import RESERVED_SIZE, Segment, segment_name
from headrace.storage.segments import Segments, Tail
from headrace.storage.sidecar import encode_sidecar, sidecar_path, write_sidecar
from headrace.storage.stream_folder import StreamFolder
from headrace.storage.sync import Errand, Errands
from headrace.storage.targets import FileWrite, Target
from headrace.storage.unheeded import unheeded

MARK_SIZE: Final = 64
"""What a batch, settle or close record takes; a seal takes 8 more."""

_PAGE: Final = 4096


class PreparedFile(NamedTuple):
    """A segment's file that has no records and no name yet, `name` being a temporary one."""

    name: str
    handle: int
    salt: int
    capacity: int
    is_synced: bool


class SegmentWriter:
    """The segment that is written to, and what has to be done for it by the next commit cycle."""

    def __init__(
        self,
        *,
        files: Files,
        chance: Chance,
        clock: Clock,
        errands: Errands,
        folder: StreamFolder,
        stream_id: int,
        segments: Segments,
        batch: int,
        bounds: Bounds,
        room: Room,
    ) -> None:
        self._files = files
        self._room = room
        self._chance = chance
        self._clock = clock
        self._errands = errands
        self._folder = folder
        self._stream_id = stream_id
        self._segments = segments
        self._bounds = bounds
        self._spare: PreparedFile | None = None
        self._is_preparing = False
        self._naming: list[Errand] = []
        self._sidecars: dict[int, tuple[str, bytes]] = {}
        self._flying: list[Tail] = []
        self._resumed: Segment | None = None
        self._targets: dict[int, Target] = {}
        self._tail: Tail | None = None
        self.current: Segment | None = None
        self.batch = batch
        self.durable_to = 0
        self.marked_to = 0

    @property
    def is_dirty(self) -> bool:
        """Whether bytes wait to be written."""
        return self._tail is not None

    def continue_in(self, segment: Segment) -> None:
        """Go on in a segment that a clean stop left, once there is something to append."""
        self._resumed = segment

    def reserve(self, size: int, sequence: int) -> Segment:
        """Make sure that records of `size` bytes fit, of which `sequence` is the first; give their segment.

        A batch mark was put in front of them where it was due. Raises DiskFull or StorageError, and then nothing
        has changed.
        """
        self._resume()
        segment = self.current
        mark_size = 0 if self._tail is not None else MARK_SIZE
        if segment is None or segment.room < size + mark_size:
            segment = self._roll(size + MARK_SIZE, sequence)
        if self._tail is None:
            self._begin_tail(segment)
        return segment

    def add(self, data: bytes) -> None:
        """Append encoded records to the current segment; their room was reserved."""
        segment = self.current
        assert segment is not None, "room was reserved"
        assert self._tail is not None, "room was reserved"
        self._tail.data += data
        segment.used += len(data)
        segment.has_changed = True

    def mark(self, kind: RecordType, last: int) -> None:
        """Append a settle or close mark, for which room is always kept; `last` is the log's last sequence."""
        segment = self.current
        if segment is None:
            return
        if self._tail is None:
            self._tail = Tail(segment, segment.used)
            self._segments.tails.append(self._tail)
        self._put_mark(segment, kind, last)

    def hand_over(self, *, sync: bool, owed: bool = False) -> tuple[list[Errand], list[FileWrite]]:
        """Give what names the files, and the writes; with `owed`, of files too that only have to be synced."""
        naming, self._naming = self._naming, []
        self._flying = list(self._segments.tails)
        targets = self._targets
        writes = [
            FileWrite(targets[tail.segment.salt], tail.offset, tail.data, tail.segment.last, sync)
            for tail in self._flying
        ]
        self._tail = None
        if owed:
            written = {write.target.salt for write in writes}
            writes += [
                FileWrite(each, each.end, b"", each.covered_last, sync=True)
                for each in targets.values()
                if not each.is_covered and each.salt not in written
            ]
        return naming, writes

    def on_written(self) -> None:
        """What was handed over is on disk: files that are full are closed, and get their sidecars."""
        flown, self._flying = self._flying, []
        for tail in flown:
            tail.segment.written = tail.offset + len(tail.data)
            self._segments.tails.remove(tail)
            if tail.segment is not self.current:
                self._segments.adopt(tail.segment)
        waiting = {tail.segment.salt for tail in self._segments.tails}
        if self.current is not None:
            waiting.add(self.current.salt)
        # What is not covered is synced by an interval's cycle, which needs the file to be open.
        done = [each for salt, each in self._targets.items() if salt not in waiting and each.is_covered]
        for target in done:
            salt = target.salt
            self._files.close(self._targets.pop(salt).handle)
            sidecar = self._sidecars.pop(salt, None)
            if sidecar is not None:
                self._errands.run(partial(write_sidecar, self._files, *sidecar), unheeded)

    def save_sidecar(self) -> None:
        """Write the current segment's sidecar, at a clean stop; so the next start need not look for its offsets."""
        segment = self.current
        if segment is not None and segment.records:
            with contextlib.suppress(OSError):
                write_sidecar(self._files, sidecar_path(segment.path), self._encode_sidecar(segment))

    def close(self) -> None:
        """Close the files; nothing is written any more. An unused spare file goes."""
        for target in self._targets.values():
            self._files.close(target.handle)
        self._targets.clear()
        if self._spare is not None:
            self._discard(self._spare)
            self._spare = None

    def prepare_spare(self) -> None:
        """Make the next segment's file in the background where the current one is half full."""
        segment = self.current
        if (
            segment is None
            or self._spare is not None
            or self._is_preparing
            or self._room.is_short
            or segment.room * 2 > segment.capacity
        ):
            return
        self._is_preparing = True
        made: list[PreparedFile] = []
        capacity = self._next_capacity(0)
        salt = fresh_salt(self._chance)

        def prepare() -> None:
            made.append(self._make_file(capacity, salt, sync=True))

        def on_prepared(error: OSError | None) -> None:
            # Without a spare the roll makes its file itself and meets the error there.
            self._is_preparing = False
            if error is None:
                self._spare = made[0]

        self._errands.run(prepare, on_prepared)

    def _resume(self) -> None:
        segment, self._resumed = self._resumed, None
        if segment is not None:
            try:
                handle = self._files.open(segment.path, writable=True)
            except OSError as error:
                raise StorageError(f"{segment.path}: {error.strerror}") from error
            self._segments.resume(segment)
            self._add_target(segment, handle)
            self.current = segment

    def _next_capacity(self, size: int) -> int:
        current = self.current
        bounds = self._bounds
        planned = (
            bounds.segment_size_first
            if current is None
            else min(2 * current.capacity, bounds.segment_size_max)
        )
        return self._capacity(planned, size)

    @staticmethod
    def _capacity(planned: int, size: int) -> int:
        needed = FILE_HEADER_SIZE + size + RESERVED_SIZE
        return max(planned, (needed + _PAGE - 1) & ~(_PAGE - 1))

    def _roll(self, size: int, sequence: int) -> Segment:
        prepared, self._spare = self._spare, None
        if prepared is not None and prepared.capacity < FILE_HEADER_SIZE + size + RESERVED_SIZE:
            self._discard(prepared)
            prepared = None
        if prepared is None:
            prepared = self._make_file_now(size)
        if self.current is not None:
            self._seal(self.current)
        path = f"{self._folder.segments}/{segment_name(sequence, prepared.salt)}"
        segment = Segment(first=sequence, salt=prepared.salt, path=path, capacity=prepared.capacity)
        self._add_target(segment, prepared.handle)
        self._naming.append(self._naming_errand(prepared, path))
        self._tail = None
        self.current = segment
        self._segments.begin(segment)
        return segment

    def _add_target(self, segment: Segment, handle: int) -> None:
        self._targets[segment.salt] = Target(
            handle,
            path=segment.path,
            stream_id=self._stream_id,
            salt=segment.salt,
            end=segment.used,
            last=segment.last,
        )

    def _make_file_now(self, size: int) -> PreparedFile:
        """Make a segment's file for records of `size` bytes: as large as planned, or as small as they allow."""
        planned, least = self._next_capacity(size), self._capacity(self._bounds.segment_size_first, size)
        self._room.admit(least)
        for capacity in (planned, least):
            try:
                prepared = self._make_file(capacity, fresh_salt(self._chance), sync=False)
            except OSError as error:
                if not is_full(error):
                    raise StorageError(
                        f"{self._folder.segments}: a segment cannot be made: {error.strerror}"
                    ) from error
            else:
                self._room.admitted()
                return prepared
        self._room.refused()
        raise DiskFull(f"no room for a segment of {least} bytes in {self._folder.segments}")

    def _make_file(self, capacity: int, salt: int, *, sync: bool) -> PreparedFile:
        name = f"{salt:016x}.new"
        header = FileHeader(FileKind.SEGMENT, salt, self._stream_id, 0, self._clock.now_ns(), capacity)
        handle = self._folder.create_segment(name)
        try:
            self._files.preallocate(handle, 0, capacity)
            self._files.pwrite(handle, encode_file_header(header), 0)
            if sync:
                self._files.sync(handle)
        except OSError:
            self._discard(PreparedFile(name, handle, salt, capacity, is_synced=False))
            raise
        return PreparedFile(name, handle, salt, capacity, sync)

    def _discard(self, prepared: PreparedFile) -> None:
        """Remove a file that is not needed; where that fails, the next start does it."""
        self._files.close(prepared.handle)
        with contextlib.suppress(OSError):
            self._folder.unlink_segment(prepared.name)

    def _naming_errand(self, prepared: PreparedFile, path: str) -> Errand:
        files, folder = self._files, self._folder.segments

        def name() -> None:
            if not prepared.is_synced:
                files.sync(prepared.handle)
            files.rename(f"{folder}/{prepared.name}", path)
            files.sync_folder(folder)

        return name

    def _seal(self, segment: Segment) -> None:
        if self._tail is None:
            self._tail = Tail(segment, segment.used)
            self._segments.tails.append(self._tail)
        self._put_mark(segment, RecordType.SEAL, segment.last)
        self._sidecars[segment.salt] = (sidecar_path(segment.path), self._encode_sidecar(segment))

    def _encode_sidecar(self, segment: Segment) -> bytes:
        return encode_sidecar(
            segment,
            self._segments.offsets(segment),
            stream_id=self._stream_id,
            salt=fresh_salt(self._chance),
            time_ns=self._clock.now_ns(),
        )

    def _begin_tail(self, segment: Segment) -> None:
        self._tail = Tail(segment, segment.used)
        self._segments.tails.append(self._tail)
        self.batch += 1
        self._put_mark(segment, RecordType.BATCH, segment.last)

    def _put_mark(self, segment: Segment, kind: RecordType, last: int) -> None:
        assert self._tail is not None, "a mark goes into a tail"
        mark = Mark(self.batch, self.durable_to, segment.records)
        data = encode_mark(
            kind, mark, guard=segment.salt ^ segment.used, sequence=last, time_ns=self._clock.now_ns()
        )
        self._tail.data += data
        segment.used += len(data)
        self.marked_to = self.durable_to
