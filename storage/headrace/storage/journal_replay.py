"""Reading the redo journal: what it holds for which file, and putting it there at a start.

Two journals are used in turn (`journal.py` writes them). Their order does not matter: files are only appended to, so
no two entries are for the same bytes, but for those that say the same.

**Reading** (`journal_entries`) changes nothing and may run beside a server that writes: an entry that is not whole is
given as what can be read of it. A damaged entry is taken apart into the target's records, which check by themselves;
what is left over is given with `valid` False. `OverlaidFiles` shows a store's files as they are once the journal is
replayed; the offline reader and the checker read through it.

**Replay** (`replay_journal`) writes every valid entry to its target and syncs it. A target is found by its stream's id
and its own salt; where there is none, it was dropped since. What is there already is written once more all the same:
after a failed sync the system may hold pages that it believes to be on disk. Nothing else than what the journal says
gets into a file, so a replay that was interrupted is begun again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.storage.files import Buffer, Files, FileStatus
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    WINDOW_SIZE,
    Damage,
    End,
    FileKind,
    Found,
    HeaderUnreadable,
    parse_file_header,
    walk,
)
from headrace.storage.journal_entry import (
    BLOCK_SIZE,
    DATA_START,
    JOURNAL_NAMES,
    STOP,
    EntryTarget,
    parse_target,
)
from headrace.storage.record import (
    ALIGNMENT,
    HEADER_SIZE,
    RecordInvalid,
    RecordType,
    parse_header,
    parse_header_unchecked,
)
from headrace.storage.segment import parse_segment_name

SYNC_DISK_MIN: Final = 16
"""From so many files on, everything is synced at once where the system can."""

_SPAN_MAX: Final = 1 << 20
"""A first sequence further than this below the last one is not believed where the header does not check."""

_Read = Callable[[int, int], bytes]


class JournalEntry(NamedTuple):
    """What a journal holds for one place of one file.

    With `valid`, `data` belongs at `offset` of the file with this salt. Without, `size` bytes there cannot be read, and
    `data` is empty; all of the target is 0 where even that is not known. `first` and `last` are the sequences covered
    (of a state log: change numbers).
    """

    journal: str
    place: int
    stream_id: int
    salt: int
    offset: int
    data: bytes
    first: int
    last: int
    valid: bool
    size: int
    what: str = ""


def journal_entries(files: Files, path: str) -> Iterator[JournalEntry]:
    """Give what the journals of the store in folder `path` hold."""
    for name in JOURNAL_NAMES:
        try:
            handle = files.open(f"{path}/{name}")
        except FileNotFoundError:
            continue
        try:
            yield from _entries_of(files, handle, name)
        finally:
            files.close(handle)


class Overlay:
    """Bytes of entries, by the file that they belong to."""

    def __init__(self, entries: Iterable[JournalEntry]) -> None:
        self._patches: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        self.unreadable: list[JournalEntry] = []
        for entry in entries:
            if entry.valid:
                self._patches.setdefault((entry.stream_id, entry.salt), []).append((entry.offset, entry.data))
            else:
                self.unreadable.append(entry)

    def __bool__(self) -> bool:
        return bool(self._patches)

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._patches

    def end(self, stream_id: int, salt: int) -> int:
        """Give the offset behind the last byte that is held for a file."""
        patches = self._patches.get((stream_id, salt), ())
        return max((offset + len(data) for offset, data in patches), default=0)

    def laid_over(self, stream_id: int, salt: int, data: bytes, offset: int, size: int) -> bytes:
        """Give `size` bytes at `offset` of a file that has `data` there, with what is held for it on top."""
        patches = self._patches.get((stream_id, salt))
        if patches is None:
            return data
        result = bytearray(data)
        for start, patch in patches:
            first, stop = max(start, offset), min(start + len(patch), offset + size)
            if first < stop:
                if len(result) < first - offset:
                    result.extend(bytes(first - offset - len(result)))
                result[first - offset : stop - offset] = patch[first - start : stop - start]
        return bytes(result)


class OverlaidFiles:
    """A store's files for reading, with its journal laid over them. The journal is read once, when this is made."""

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self.overlay = Overlay(journal_entries(files, path))
        self._keys: dict[int, tuple[int, int]] = {}

    def open(self, path: str, *, writable: bool = False) -> int:
        if writable:
            raise _read_only(path)
        handle = self._files.open(path)
        if self.overlay:
            key = self._key(handle, path)
            if key in self.overlay:
                self._keys[handle] = key
        return handle

    def close(self, handle: int) -> None:
        self._keys.pop(handle, None)
        self._files.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        data = self._files.pread(handle, size, offset)
        key = self._keys.get(handle)
        return data if key is None else self.overlay.laid_over(*key, data, offset, size)

    def size(self, handle: int) -> int:
        size = self._files.size(handle)
        key = self._keys.get(handle)
        return size if key is None else max(size, self.overlay.end(*key))

    def status(self, path: str) -> FileStatus | None:
        return self._files.status(path)

    def list_folder(self, path: str) -> list[str]:
        return self._files.list_folder(path)

    def free_space(self, path: str) -> int:
        return self._files.free_space(path)

    def create(self, path: str) -> int:
        raise _read_only(path)

    def pwrite(self, handle: int, data: Buffer, offset: int) -> None:
        raise _read_only(handle, data, offset)

    def preallocate(self, handle: int, offset: int, size: int) -> None:
        raise _read_only(handle, offset, size)

    def sync(self, handle: int) -> None:
        raise _read_only(handle)

    def sync_disk(self, handle: int) -> bool:
        raise _read_only(handle)

    def sync_folder(self, path: str) -> None:
        raise _read_only(path)

    def rename(self, path: str, new_path: str) -> None:
        raise _read_only(path, new_path)

    def unlink(self, path: str) -> None:
        raise _read_only(path)

    def make_folder(self, path: str) -> None:
        raise _read_only(path)

    def remove_folder(self, path: str) -> None:
        raise _read_only(path)

    def lock(self, path: str) -> int:
        raise _read_only(path)

    def _key(self, handle: int, path: str) -> tuple[int, int]:
        """Give the stream and salt of a file, as replay finds them."""
        folder, _, name = path.rpartition("/")
        named = parse_segment_name(name)
        try:
            header = parse_file_header(self._files.pread(handle, FILE_HEADER_SIZE, 0), path)
        except (HeaderUnreadable, OSError):
            stream = folder.removesuffix("/seg").rpartition("/")[2]
            try:
                return int(stream, 16), 0 if named is None else named[1]
            except ValueError:
                return 0, 0
        return header.stream_id, header.salt if named is None else named[1]


@dataclass
class Replayed:
    """What a replay came to."""

    count: int = 0
    """Entries that were written to their files."""
    unreadable: list[JournalEntry] = field(default_factory=list[JournalEntry])
    """Those that could not be read and whose file is still there, or whose file is not known."""
    failed: dict[int, str] = field(default_factory=dict[int, str])
    """Streams whose files could not be written, each with the reason: the journal must be kept for them."""


def replay_journal(files: Files, path: str, streams: str) -> Replayed:
    """Write what the journals hold to the files of the streams in folder `streams`, and sync it. Raises OSError."""
    replayed = Replayed()
    targets = _Targets(files, streams)
    try:
        for entry in journal_entries(files, path):
            if entry.stream_id and targets.path(entry) is None:
                continue
            if not entry.valid:
                replayed.unreadable.append(entry)
            elif entry.stream_id not in replayed.failed:
                try:
                    files.pwrite(targets.handle(entry), entry.data, entry.offset)
                    replayed.count += 1
                except OSError as error:
                    replayed.failed[entry.stream_id] = f"{targets.path(entry)}: {error.strerror}"
        targets.sync(replayed.failed)
    finally:
        targets.close()
    return replayed


# ---- reading


def _entries_of(files: Files, handle: int, name: str) -> Iterator[JournalEntry]:
    def read(size: int, offset: int) -> bytes:
        return files.pread(handle, size, offset)

    salt = _salt(read(WINDOW_SIZE, 0), name)
    if not salt:
        return
    for found in walk(read, salt):
        if isinstance(found, End):
            return
        if isinstance(found, Found) and found.header.type == RecordType.ENTRY:
            target = parse_target(found.body[:BLOCK_SIZE], found.header.guard)
            if target is not None:
                data = found.body[BLOCK_SIZE : BLOCK_SIZE + target.size]
                yield _entry(name, found.offset, target, target.offset, data, found.header.sequence)
            continue
        if isinstance(found, Damage) and not _is_end(read, salt, found):
            yield from _salvaged(read, salt, name, found)


def _read_only(*what: object) -> AssertionError:
    return AssertionError(f"an overlaid store is only read: {what}")


def _salt(beginning: bytes, name: str) -> int:
    """Give a journal's salt: from its header, else from the first entry that can be read; 0 where there is none."""
    try:
        header = parse_file_header(beginning[:FILE_HEADER_SIZE], name)
    except HeaderUnreadable:
        pass
    else:
        return header.salt if header.kind == FileKind.JOURNAL else 0
    for position in range(FILE_HEADER_SIZE, len(beginning) - HEADER_SIZE, ALIGNMENT):
        if beginning[position + 12] != RecordType.ENTRY:
            continue
        guard = int.from_bytes(beginning[position : position + 8], "little")
        try:
            parse_header(beginning, position, guard)
        except RecordInvalid:
            continue
        return guard ^ position
    return 0


def _is_end(read: _Read, salt: int, damage: Damage) -> bool:
    """Tell whether bytes that are no entry are the stop, and what an earlier use of the file left behind it."""
    if read(len(STOP), damage.offset) != STOP:
        return False
    following = damage.offset + damage.size
    try:
        parse_header(read(HEADER_SIZE, following), 0, salt ^ following)
    except RecordInvalid:
        return True
    return False  # an entry of this use lies behind the zeros: what they cover is gone


def _salvaged(read: _Read, salt: int, name: str, damage: Damage) -> Iterator[JournalEntry]:
    """Take a damaged place apart: what can be read of the entry that began there, and what cannot."""
    place = damage.offset
    target = parse_target(read(BLOCK_SIZE, place + HEADER_SIZE), salt ^ place)
    if target is None:
        yield JournalEntry(name, place, 0, 0, 0, b"", 0, 0, False, damage.size, damage.what)
        return
    data = read(target.size, place + DATA_START)
    offset, end = target.offset, target.offset + target.size

    def read_data(size: int, position: int) -> bytes:
        return data[position - offset : position - offset + size]

    header = damage.header
    first = header.sequence if header is not None else _plausible_first(read, place, target.last)
    covered = offset
    for found in walk(read_data, target.salt, offset):
        if isinstance(found, Found):
            if covered < found.offset:
                last = max(first, found.header.sequence - 1)
                yield _unreadable(name, place, target, covered, found.offset, (first, last), damage.what)
            record = data[found.offset - offset : found.end - offset]
            yield _entry(name, place, target, found.offset, record, first)
            first = found.header.sequence + 1
            covered = found.end
    if covered < end:
        yield _unreadable(name, place, target, covered, end, (first, target.last), damage.what)


def _plausible_first(read: _Read, place: int, last: int) -> int:
    """Guess the first sequence of an entry whose header does not check."""
    first = parse_header_unchecked(read(HEADER_SIZE, place)).sequence
    return first if last - _SPAN_MAX < first <= last else last


def _entry(name: str, place: int, target: EntryTarget, offset: int, data: bytes, first: int) -> JournalEntry:
    return JournalEntry(
        name, place, target.stream_id, target.salt, offset, data, first, target.last, True, len(data)
    )


def _unreadable(
    name: str, place: int, target: EntryTarget, offset: int, end: int, span: tuple[int, int], what: str
) -> JournalEntry:
    first, last = span
    return JournalEntry(
        name, place, target.stream_id, target.salt, offset, b"", first, last, False, end - offset, what
    )


# ---- the targets of a replay


class _Targets:
    """The files that entries are for: found by salt, opened once, synced at the end."""

    def __init__(self, files: Files, streams: str) -> None:
        self._files = files
        self._streams = streams
        self._paths: dict[int, dict[int, str]] = {}
        self._handles: dict[tuple[int, int], int] = {}

    def path(self, entry: JournalEntry) -> str | None:
        """Give the path of the file that an entry is for; None where it is there no more."""
        paths = self._paths.get(entry.stream_id)
        if paths is None:
            paths = self._paths[entry.stream_id] = dict(self._found(entry.stream_id))
        return paths.get(entry.salt)

    def handle(self, entry: JournalEntry) -> int:
        """Give that file, opened for writing."""
        key = (entry.stream_id, entry.salt)
        handle = self._handles.get(key)
        if handle is None:
            path = self.path(entry)
            assert path is not None, "the file was found"
            handle = self._handles[key] = self._files.open(path, writable=True)
        return handle

    def sync(self, failed: dict[int, str]) -> None:
        """Make all that was written durable; note the streams for which that failed."""
        handles = list(self._handles.items())
        try:
            if len(handles) >= SYNC_DISK_MIN and self._files.sync_disk(handles[0][1]):
                return
        except OSError as error:
            failed.update((stream_id, f"{self._streams}: {error.strerror}") for (stream_id, _), _ in handles)
            return
        for (stream_id, salt), handle in handles:
            try:
                self._files.sync(handle)
            except OSError as error:
                failed[stream_id] = f"{self._paths[stream_id][salt]}: {error.strerror}"

    def close(self) -> None:
        for handle in self._handles.values():
            self._files.close(handle)

    def _found(self, stream_id: int) -> Iterator[tuple[int, str]]:
        folder = f"{self._streams}/{stream_id:016x}"
        if self._files.status(folder) is None:
            return
        for name in self._files.list_folder(folder):
            if name.startswith("state-") and not name.endswith(".new"):
                salt = self._salt_of(f"{folder}/{name}")
                if salt:
                    yield salt, f"{folder}/{name}"
        segments = f"{folder}/seg"
        if self._files.status(segments) is None:
            return
        for name in self._files.list_folder(segments):
            named = parse_segment_name(name)
            if named is not None:
                yield named[1], f"{segments}/{name}"

    def _salt_of(self, path: str) -> int:
        handle = self._files.open(path)
        try:
            return parse_file_header(self._files.pread(handle, FILE_HEADER_SIZE, 0), path).salt
        except HeaderUnreadable:
            return 0
        finally:
            self._files.close(handle)
