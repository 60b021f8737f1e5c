"""The state log: the file of a stream's operations, one generation after the other.

Operations are gathered between two group commits and go out as one record, so what changed in one turn is on disk
whole or not at all. Room is preallocated before an operation is accepted; a full disk is therefore met by who
asked for the change, not by the sync.

A generation is a snapshot, a completion record, then changes. `load_state` finds the newest complete one, and falls
back on the one before for a snapshot that is damaged.
"""

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.storage.bounds import Bounds
from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    End,
    FileHeader,
    FileKind,
    Found,
    HeaderUnreadable,
    encode_file_header,
    parse_file_header,
    walk,
)
from headrace.storage.interface import DiskFull, StorageError
from headrace.storage.record import (
    HEADER_SIZE,
    RecordInvalid,
    RecordType,
    encode,
    encode_operations,
    pack_value,
    parse_operations,
)
from headrace.storage.room import Room, is_full
from headrace.storage.state import DamagedPlace, Operation, State

STATE_SIZE_MIN: Final = 16 * 1024
STATE_GROWTH_MAX: Final = 4 * 1024 * 1024

_ARRAY_HEADER_SIZE: Final = 5
_RECORD_OVERHEAD: Final = HEADER_SIZE + _ARRAY_HEADER_SIZE + 8


class Generation(NamedTuple):
    """A state log file that is complete: its snapshot is on disk."""

    number: int
    path: str
    handle: int
    salt: int
    used: int
    allocated: int


class Written(NamedTuple):
    """A record of operations as it was handed over: the first one's change number, the time, the body."""

    change: int
    time_ns: int
    body: bytes


class LoadedState(NamedTuple):
    """What `load_state` found. `is_clean`: the file can be continued at `generation.used`."""

    state: State
    generation: Generation
    is_clean: bool
    damage: list[DamagedPlace]
    oldest_change: int


class StateUnreadable(StorageError):
    """No generation of a stream's state log is complete."""


def state_name(generation: int) -> str:
    """Give the name of a generation's file."""
    return f"state-{generation:08d}"


def parse_state_name(name: str) -> int | None:
    """Give the generation in a file's name; None where it is no state log's."""
    number = name.removeprefix("state-")
    return int(number) if number != name and len(number) == 8 and number.isdecimal() else None


class StateLog:
    """The generation that is written to, and the operations that wait."""

    def __init__(
        self,
        files: Files,
        generation: Generation,
        *,
        bounds: Bounds,
        room: Room,
        snapshot_size: int,
        change: int,
    ) -> None:
        self._files = files
        self._room = room
        self.generation = generation
        self.change = change
        self.wants_sync = False
        self.is_refused = False
        self._bounds = bounds
        self._snapshot_size = snapshot_size
        self._used = self._durable_to = self._flying_to = generation.used
        self._allocated = generation.allocated
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._kept: list[Written] | None = None
        self.kept_size = 0

    @property
    def is_dirty(self) -> bool:
        """Whether operations wait to be written."""
        return bool(self._waiting)

    @property
    def wants_generation(self) -> bool:
        """Whether the changes outweigh the snapshot."""
        return self._used - self._snapshot_size > max(
            self._bounds.generation_size_min, 2 * self._snapshot_size
        )

    def add(self, operations: Sequence[Operation], *, sync: bool) -> int:
        """Accept operations; give the first one's change number. Raises DiskFull and then has accepted none."""
        packed = [pack_value(operation) for operation in operations]
        size = sum(map(len, packed))
        self._make_room(size)
        first = self.change + 1
        self.change += len(packed)
        self._waiting += packed
        self._waiting_size += size
        self.wants_sync = self.wants_sync or sync
        return first

    def hand_over(self, time_ns: int) -> tuple[int, int, bytes] | None:
        """Give the write (handle, offset, bytes) for what waits, and count it as written; None for nothing."""
        if not self._waiting:
            return None
        count = len(self._waiting)
        body = b"".join((b"\xdd", count.to_bytes(4, "big"), *self._waiting))
        offset = self._used
        record = encode(
            RecordType.OPERATIONS,
            body,
            guard=self.generation.salt ^ offset,
            sequence=self.change - count + 1,
            time_ns=time_ns,
            headers_size=self._durable_to,
        )
        if self._kept is not None:
            self._kept.append(Written(self.change - count + 1, time_ns, body))
            self.kept_size += len(body)
        self._used += len(record)
        assert self._used <= self._allocated, "room was made before operations were accepted"
        self._waiting = []
        self._waiting_size = 0
        self.wants_sync = False
        return self.generation.handle, offset, record

    def note_synced(self) -> None:
        """The cycle that takes what was handed over last syncs the file."""
        self._flying_to = self._used

    def on_committed(self) -> None:
        """That cycle is done."""
        self._durable_to = self._flying_to

    def switch(self, generation: Generation) -> None:
        """Go on in a new generation; what waits goes there."""
        self.generation = generation
        self._kept = None
        self._snapshot_size = self._used = self._durable_to = self._flying_to = generation.used
        self._allocated = generation.allocated
        self._make_room(0)

    def keep(self) -> None:
        """Remember what is handed over from now on, for the generation that is being made."""
        self._kept = []
        self.kept_size = 0

    def take_kept(self) -> list[Written]:
        """Give what was handed over since the last time."""
        kept, self._kept = self._kept or [], []
        self.kept_size = 0
        return kept

    def postpone_generation(self) -> None:
        """A new generation could not be written: do not ask again before as much has been added once more."""
        self._kept = None
        self._snapshot_size = self._used

    def _make_room(self, size: int) -> None:
        needed = self._used + self._waiting_size + size + _RECORD_OVERHEAD
        if needed <= self._allocated:
            return
        growth = max(min(self._allocated, STATE_GROWTH_MAX), needed - self._allocated)
        growth = (growth + 4095) & ~4095
        least = (needed - self._allocated + 4095) & ~4095
        while True:
            try:
                self._files.preallocate(self.generation.handle, self._allocated, growth)
            except OSError as error:
                if not is_full(error):
                    raise StorageError(f"{self.generation.path}: {error.strerror}") from error
                if growth > least:
                    growth = least
                elif not self._room.release():
                    raise DiskFull(f"no room for {growth} bytes in {self.generation.path}") from error
            else:
                break
        self._allocated += growth


class GenerationFile:
    """A state log that is being made: without a name, and nobody's concern, until `finish`. Everything blocks."""

    def __init__(self, files: Files, folder: str, header: FileHeader) -> None:
        self._files = files
        self._folder = folder
        self._header = header
        self._path = f"{folder}/{state_name(header.subject)}"
        self._offset = self._durable_to = FILE_HEADER_SIZE
        self._count = 0
        temporary = f"{self._path}.new"
        if files.status(temporary) is not None:
            files.unlink(temporary)
        self._handle = files.create(temporary)

    def add(self, records: Sequence[Sequence[Operation]], *, change: int) -> None:
        """Write records of the snapshot; all carry the change number that it was taken at. Raises OSError."""
        start = self._offset
        content: list[bytes] = []
        for operations in records:
            guard = self._header.salt ^ self._offset
            content.append(
                encode_operations(operations, guard=guard, change=change, time_ns=self._header.created_ns)
            )
            self._offset += len(content[-1])
        self._count += len(records)
        self._files.pwrite(self._handle, b"".join(content), start)

    def complete(self, *, change: int) -> None:
        """The snapshot ends here. Raises OSError."""
        record = encode(
            RecordType.COMPLETE,
            self._count.to_bytes(8, "little"),
            guard=self._header.salt ^ self._offset,
            sequence=change,
            time_ns=self._header.created_ns,
        )
        self._files.pwrite(self._handle, record, self._offset)
        self._offset += len(record)

    def catch_up(self, changes: Sequence["Written"]) -> None:
        """Write what the generation before has got since the snapshot was taken. Raises OSError."""
        start = self._offset
        content: list[bytes] = []
        for each in changes:
            content.append(
                encode(
                    RecordType.OPERATIONS,
                    each.body,
                    guard=self._header.salt ^ self._offset,
                    sequence=each.change,
                    time_ns=each.time_ns,
                    headers_size=self._durable_to,
                )
            )
            self._offset += len(content[-1])
        if content:
            self._files.pwrite(self._handle, b"".join(content), start)

    def sync(self) -> None:
        """Make durable what was written, and the room for more. Raises OSError."""
        self._write_header()
        self._files.sync(self._handle)
        self._durable_to = self._offset

    def finish(self) -> Generation:
        """Give it its name, durably. Raises OSError, and then it has the name, or not."""
        self.sync()
        generation = self._named()
        self._files.sync_folder(self._folder)
        return generation

    def finish_draft(self) -> Generation:
        """Give it its name in a folder that is not yet part of the store. Nothing is synced. Raises OSError."""
        self._write_header()
        return self._named()

    def _write_header(self) -> None:
        allocated = self._allocated
        self._files.preallocate(self._handle, 0, allocated)
        self._files.pwrite(self._handle, encode_file_header(self._header._replace(capacity=allocated)), 0)

    def _named(self) -> Generation:
        self._files.rename(f"{self._path}.new", self._path)
        header = self._header
        return Generation(
            header.subject, self._path, self._handle, header.salt, self._offset, self._allocated
        )

    def abandon(self) -> None:
        """Let go of it; the next one, or the next start, removes it."""
        self._files.close(self._handle)

    @property
    def _allocated(self) -> int:
        return (self._offset + STATE_SIZE_MIN + 4095) & ~4095


def write_generation(
    files: Files,
    folder: str,
    header: FileHeader,
    records: Sequence[Sequence[Operation]],
    *,
    change: int,
    is_draft: bool = False,
) -> Generation:
    """Write a complete state log and sync it under its name; blocks. Raises OSError.

    `records` is the snapshot, the operations of each record; all carry the change number reached, `change`. With
    `is_draft` nothing is synced: whoever makes the folder part of the store does that first.
    """
    file = GenerationFile(files, folder, header)
    try:
        file.add(records, change=change)
        file.complete(change=change)
        return file.finish_draft() if is_draft else file.finish()
    except OSError:
        file.abandon()
        raise


def load_state(files: Files, folder: str, *, writable: bool = True) -> LoadedState:
    """Replay the newest state log of a folder. Raises StateUnreadable; damage is listed, not raised.

    A file gets its name after it was complete and synced, so an unreadable completion record is damage too.
    """
    numbers = sorted(filter(None, map(parse_state_name, files.list_folder(folder))), reverse=True)
    damage: list[DamagedPlace] = []
    newest: _Reading | None = None
    for number in numbers:
        reading = _read_generation(files, folder, number, writable=writable and newest is None)
        if isinstance(reading, DamagedPlace):
            damage.append(reading)
            continue
        damage += reading.damage
        if newest is not None:
            # Its changes are all that happened up to the newer one's snapshot, which is damaged.
            files.close(reading.generation.handle)
            return _loaded(
                newest, reading.snapshot + reading.changes + newest.changes, damage, reading.change
            )
        if not reading.is_snapshot_damaged:
            return _loaded(reading, reading.snapshot + reading.changes, damage, reading.change)
        newest = reading
    if newest is None:
        raise StateUnreadable(f"{folder}: no state log can be read")
    return _loaded(newest, newest.snapshot + newest.changes, damage, newest.change)


class _Reading(NamedTuple):
    """A file's operations with their change numbers. `change`: the number that the snapshot was taken at."""

    generation: Generation
    snapshot: list[tuple[int, Operation]]
    changes: list[tuple[int, Operation]]
    damage: list[DamagedPlace]
    is_snapshot_damaged: bool
    change: int
    is_clean: bool


def _read_generation(files: Files, folder: str, number: int, *, writable: bool) -> _Reading | DamagedPlace:
    name = state_name(number)
    path = f"{folder}/{name}"
    handle = files.open(path, writable=writable)
    try:
        header = parse_file_header(files.pread(handle, FILE_HEADER_SIZE, 0), path)
        _check_owner(header, path, number)
    except HeaderUnreadable as error:
        files.close(handle)
        return DamagedPlace(name, 0, FILE_HEADER_SIZE, str(error), 0, 0, certain=True)
    salt = header.salt
    snapshot: list[tuple[int, Operation]] = []
    changes: list[tuple[int, Operation]] = []
    damage: list[DamagedPlace] = []
    is_snapshot_damaged = False
    is_behind_snapshot = False
    snapshot_change = -1
    expected = 0
    used = FILE_HEADER_SIZE
    is_cut = False

    def read(size: int, offset: int) -> bytes:
        return files.pread(handle, size, offset)

    items = list(walk(read, salt))
    durable_to = max((each.header.headers_size for each in items if isinstance(each, Found)), default=0)
    for found in items:
        if isinstance(found, End):
            used = found.offset
            break
        if is_cut:
            continue
        what = found.what if isinstance(found, Damage) else ""
        operations: list[Operation] = []
        if isinstance(found, Found) and found.header.type == RecordType.OPERATIONS:
            try:
                operations = parse_operations(found.header, found.body)
            except RecordInvalid as error:
                what = str(error)
        if what:
            size = found.size if isinstance(found, Damage) else found.header.end
            damage.append(DamagedPlace(name, found.offset, size, what, 0, 0, certain=False))
            is_snapshot_damaged = is_snapshot_damaged or not is_behind_snapshot
            # Behind a hole that was never known to be durable nothing was answered for: it is as if never written.
            is_cut = is_behind_snapshot and found.offset >= durable_to
            continue
        assert isinstance(found, Found), "damage was dealt with"
        change = found.header.sequence
        if snapshot_change < 0:
            snapshot_change = change
        if found.header.type == RecordType.COMPLETE:
            is_behind_snapshot = True
            expected = change + 1
        elif not is_behind_snapshot and change == snapshot_change:
            snapshot += [(change, operation) for operation in operations]
        else:
            is_behind_snapshot = True
            if expected and change != expected and not damage:
                what = f"changes {expected} to {change - 1} are missing"
                damage.append(DamagedPlace(name, found.offset, 0, what, 0, 0, certain=False))
            changes += list(enumerate(operations, change))
            expected = change + len(operations)
    generation = Generation(number, path, handle, salt, used, max(files.size(handle), used))
    return _Reading(
        generation, snapshot, changes, damage, is_snapshot_damaged, max(snapshot_change, 0), not damage
    )


def _loaded(
    reading: _Reading, operations: list[tuple[int, Operation]], damage: list[DamagedPlace], oldest_change: int
) -> LoadedState:
    state = State()
    expected = 0
    for change, operation in operations:
        if expected and change > expected:
            state.is_broken = True
        expected = change + 1
        try:
            state.apply(change, operation)
        except RecordInvalid as error:
            name = state_name(reading.generation.number)
            damage.append(DamagedPlace(name, 0, 0, str(error), 0, 0, certain=False))
    return LoadedState(state, reading.generation, reading.is_clean and not damage, damage, oldest_change)


def _check_owner(header: FileHeader, path: str, number: int) -> None:
    """Make sure that a state log is this stream's: a stray page may hold another's. Raises HeaderUnreadable."""
    folder = os.path.basename(os.path.dirname(path))
    if (header.kind, header.subject, f"{header.stream_id:016x}") != (FileKind.STATE, number, folder):
        raise HeaderUnreadable(f"{path}: the file's header belongs to another file")
