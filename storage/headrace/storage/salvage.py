"""Getting messages out of a store however damaged: what can be read is given, what cannot is listed.

Nothing here depends on one file being good. A segment is read by the salt in its name, else by its header's, else by
the one that its own records betray (a guard is salt XOR place, and the header's checksum covers it). A state log is
read whole where it can be, else record by record, whatever its generation. Where none is left, the stream is its
segments alone: nobody knows then what was removed by request, so such messages may be back; what later messages say
that they removed stays removed. The journal is laid over the files as for any reader.

Messages come out in order of their sequences, each once, also where an old segment and its rewritten copy are there.
"""

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from headrace.core.base.message import View
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.check import is_stream_name
from headrace.storage.examined import Examined, examine
from headrace.storage.files import Files, RealFiles
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    WINDOW_SIZE,
    Damage,
    FileKind,
    Found,
    HeaderUnreadable,
    NewerFormat,
    parse_file_header,
    walk,
)
from headrace.storage.interface import ConsumerRecord, StorageError, StoreUnusable
from headrace.storage.journal_replay import OverlaidFiles
from headrace.storage.record import (
    ALIGNMENT,
    HEADER_SIZE,
    MARKS,
    Atomic,
    Extras,
    RecordInvalid,
    RecordType,
    parse_extras,
    parse_header,
    parse_mark,
    parse_message,
    parse_operations,
    parse_skip,
)
from headrace.storage.segment import SEGMENTS_FOLDER, parse_segment_name
from headrace.storage.state import State
from headrace.storage.state_log import parse_state_name
from headrace.storage.store import STREAMS_FOLDER
from headrace.storage.survey import PART
from headrace.storage.untold_index import UntoldIndex

BESIDE: Final = (".side", ".del", ".del2", ".new")


class Unread(NamedTuple):
    """What could not be got. `first` to `last`: sequences concerned, 0 where nobody knows."""

    file: str
    offset: int
    size: int
    what: str
    first: int
    last: int


class Saved(NamedTuple):
    """A message with what its record says beside it."""

    view: View
    extras: Extras


class _File(NamedTuple):
    """A file that may hold messages. `first` is the sequence that its name or its records begin with."""

    first: int
    path: str
    name: str
    salt: int


@dataclass
class SalvagedStream:
    """One stream's folder. `is_state_known`: its state log was read whole, so what was removed stays removed."""

    folder: str
    stream_id: int
    is_state_known: bool
    config: dict[str, Any]
    created_ns: int
    consumers: dict[str, ConsumerRecord]
    _unopened: list[Unread] = field(default_factory=list[Unread])
    _files: Files = field(default_factory=RealFiles)
    _sources: list[_File] = field(default_factory=list[_File])
    _examined: Examined | None = None
    _removed: set[int] = field(default_factory=set[int])
    _removed_ranges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _removed_below: int = 0
    unread: list[Unread] = field(default_factory=list[Unread])

    def messages(self) -> Iterator[Saved]:
        """Give what can be read, ascending; afterwards `unread` lists what cannot."""
        self.unread = list(self._unopened)
        if self._examined is None:
            self._gather_removals()
        expected = 0
        for first, last, saved in self._merged():
            if expected and first > expected:
                self._note_gap(expected, first - 1)
            expected = max(expected, last + 1)
            if saved is not None and self._is_there(last):
                yield saved
        if self._examined is not None:
            state = self._examined.loaded.state
            for lost in [*state.lost, *self._examined.found_lost]:
                self.unread.append(Unread("", 0, 0, "listed as lost", lost.first, lost.last))
        self.unread = list(dict.fromkeys(self.unread))

    def _is_there(self, sequence: int) -> bool:
        if self._examined is None:
            if sequence < self._removed_below or sequence in self._removed:
                return False
            place = bisect_right(self._removed_ranges, (sequence, 1 << 64)) - 1
            return place < 0 or self._removed_ranges[place][1] < sequence
        # Behind what recovery would know of, nothing can have been removed.
        contents = self._examined.contents
        return sequence > contents.last or contents.segments.find(sequence) is not None

    def _note_gap(self, first: int, last: int) -> None:
        """Sequences without a record: lost, unless they are known to have been removed."""
        if self._examined is None:
            if last >= self._removed_below:
                what = "no record: removed, or lost"
                self.unread.append(Unread("", 0, 0, what, max(first, self._removed_below), last))
            return
        segments = self._examined.contents.segments
        for begin, end in segments.runs(first, last):
            self.unread.append(Unread("", 0, 0, "no record", begin, end))

    def _gather_removals(self) -> None:
        """Learn from the messages themselves what their appends removed, and which atomic batches are not whole."""
        parts: dict[Atomic, tuple[str, Found, Extras]] = {}
        durable_to = 0
        for source in self._sources:
            for found in self._walk(source):
                if (
                    isinstance(found, Found)
                    and found.header.type == RecordType.MESSAGE
                    and found.header.flags
                ):
                    try:
                        extras = parse_extras(found.header, found.body)
                    except RecordInvalid:
                        continue
                    if extras.atomic is None:
                        self._take_removals(extras)
                    else:
                        parts[extras.atomic] = (source.name, found, extras)
                elif isinstance(found, Found) and found.header.type in MARKS:
                    durable_to = max(durable_to, _durable_to(found))
        counts = Counter(each.batch_id for each in parts)
        for atomic, (name, found, extras) in parts.items():
            if counts[atomic.batch_id] >= atomic.size or atomic.last <= durable_to:
                self._take_removals(extras)
                continue
            sequence = found.header.sequence
            self._removed.add(sequence)
            self.unread.append(Unread(name, found.offset, found.header.end, PART, sequence, sequence))

    def _take_removals(self, extras: Extras) -> None:
        self._removed_below = max(self._removed_below, extras.first_sequence)
        for first, last in extras.evicted:
            self._removed.update(range(first, last + 1))

    def _merged(self) -> Iterator[tuple[int, int, Saved | None]]:
        """Give messages and skips of all files by sequence, each once; a file is opened when it is its turn."""
        heap: list[tuple[int, int, int, Saved | None]] = []
        walks: dict[int, Iterator[tuple[int, int, Saved | None]]] = {}
        for place, source in enumerate(self._sources):
            heapq.heappush(heap, (source.first, place, -1, None))
        reached = 0
        while heap:
            first, place, last, saved = heapq.heappop(heap)
            if last < 0:
                walks[place] = self._records(self._sources[place])
            elif last > reached:
                yield max(first, reached + 1), last, saved
                reached = last
            following = next(walks[place], None)
            if following is not None:
                heapq.heappush(heap, (following[0], place, following[1], following[2]))

    def _records(self, source: _File) -> Iterator[tuple[int, int, Saved | None]]:
        for found in self._walk(source):
            if isinstance(found, Damage):
                header = found.header
                is_message = header is not None and header.type == RecordType.MESSAGE
                sequence = header.sequence if header is not None and is_message else 0
                self.unread.append(
                    Unread(source.name, found.offset, found.size, found.what, sequence, sequence)
                )
                continue
            header = found.header
            try:
                if header.type == RecordType.MESSAGE:
                    saved = Saved(parse_message(header, found.body), parse_extras(header, found.body))
                    yield header.sequence, header.sequence, saved
                elif header.type == RecordType.SKIP:
                    first, last = parse_skip(header, found.body)
                    yield first, last, None
            except RecordInvalid as error:
                self.unread.append(
                    Unread(
                        source.name,
                        found.offset,
                        header.end,
                        str(error),
                        header.sequence,
                        header.sequence,
                    )
                )

    def _walk(self, source: _File) -> Iterator[Found | Damage]:
        try:
            handle = self._files.open(source.path)
        except OSError as error:
            self.unread.append(Unread(source.name, 0, 0, f"cannot be opened: {error.strerror}", 0, 0))
            return

        def read(size: int, offset: int) -> bytes:
            return _read_around(self._files, handle, size, offset)

        try:
            for found in walk(read, source.salt):
                if isinstance(found, Found | Damage):
                    yield found
        finally:
            self._files.close(handle)


def _durable_to(found: Found) -> int:
    try:
        return parse_mark(found.header, found.body).durable_to
    except RecordInvalid:
        return 0


def salvage_streams(path: str, *, files: Files | None = None) -> Iterator[SalvagedStream]:
    """Give each stream of the store in folder `path`, which need not have a format, nor whole streams.

    A folder of one stream is taken too. Raises StoreUnusable where there is nothing like a store.
    """
    real = files if files is not None else RealFiles()
    streams = f"{path}/{STREAMS_FOLDER}"
    if real.status(streams) is not None:
        overlaid = OverlaidFiles(real, path)
        folders = [f"{streams}/{name}" for name in real.list_folder(streams)]
    elif real.status(f"{path}/{SEGMENTS_FOLDER}") is not None:
        overlaid = OverlaidFiles(real, path)
        folders = [path]
    else:
        raise StoreUnusable(f"{path} holds neither '{STREAMS_FOLDER}' nor '{SEGMENTS_FOLDER}'")
    for folder in folders:
        status = real.status(folder)
        if status is not None and status.is_folder:
            yield salvage_stream(overlaid, folder)


def salvage_stream(files: Files, folder: str) -> SalvagedStream:
    """Find out what there is of one stream."""
    name = folder.rpartition("/")[2].partition(".")[0]
    stream_id = int(name, 16) if is_stream_name(name) else 0
    examined = _examined(files, folder)
    state = _scraped_state(files, folder) if examined is None else examined.loaded.state
    sources: list[_File] = []
    unread: list[Unread] = []
    for each in (f"{folder}/{SEGMENTS_FOLDER}", folder):
        status = files.status(each)
        if status is None or not status.is_folder:
            continue
        for file_name in files.list_folder(each):
            if not file_name.endswith(BESIDE) and parse_state_name(file_name) is None:
                source = _source(files, f"{each}/{file_name}", file_name, unread)
                if source is not None:
                    sources.append(source)
    return SalvagedStream(
        folder,
        stream_id,
        examined is not None and not examined.loaded.damage,
        state.config,
        state.created_ns,
        state.consumers,
        unread,
        files,
        sorted(sources),
        examined,
        _removed_ranges=[] if examined is not None else _removed_by(state),
        _removed_below=0 if examined is not None else state.checkpoint.first,
    )


def _removed_by(state: State) -> list[tuple[int, int]]:
    """Give what the operations that could be read say was removed, ascending and disjoint."""
    ranges = [each for removal in state.removals for each in removal.ranges]
    ranges += [each for gone in state.gone_ranges.values() for each in gone]
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def guess_salt(data: bytes, kinds: frozenset[int]) -> int:
    """Find a file's salt in the records at its beginning; 0 where none of these types can be read."""
    for position in range(FILE_HEADER_SIZE, len(data) - HEADER_SIZE + 1, ALIGNMENT):
        if data[position + 12] in kinds:
            guard = int.from_bytes(data[position : position + 8], "little")
            try:
                parse_header(data, position, guard)
            except RecordInvalid:
                continue
            return guard ^ position
    return 0


_IN_SEGMENTS: Final = frozenset(range(RecordType.MESSAGE, RecordType.ERASED + 1))
_IN_STATES: Final = frozenset((RecordType.OPERATIONS, RecordType.COMPLETE))


def _examined(files: Files, folder: str) -> Examined | None:
    """Read the folder as recovery would; None where that does not come to an end."""
    try:
        examined = examine(files, Blocks(files, size_max=DEFAULT_BOUNDS.cache_size), folder, UntoldIndex())
    except (StorageError, RecordInvalid, OSError, ValueError, LookupError, AssertionError):
        # An assertion states what holds in a store that Headrace wrote; this one may have been through anything.
        return None
    # Without its first operation it is not the state of this stream.
    return examined if examined.loaded.state.created_ns else None


def _scraped_state(files: Files, folder: str) -> State:
    """Make what can be made of the operations that can be read, from the oldest file to the newest."""
    state = State()
    names = [name for name in files.list_folder(folder) if parse_state_name(name.removesuffix(".new"))]
    for name in sorted(names):
        data = _whole(files, f"{folder}/{name}")
        salt = _salt_of(data, FileKind.STATE, _IN_STATES)
        if not salt:
            continue
        for found in walk(lambda size, offset, data=data: data[offset : offset + size], salt):  # type: ignore[misc]
            if isinstance(found, Found) and found.header.type == RecordType.OPERATIONS:
                try:
                    for index, operation in enumerate(parse_operations(found.header, found.body)):
                        state.apply(found.header.sequence + index, operation)
                except RecordInvalid:
                    continue
    return state


def _source(files: Files, path: str, name: str, unread: list[Unread]) -> _File | None:
    status = files.status(path)
    if status is None or status.is_folder:
        return None
    try:
        handle = files.open(path)
    except OSError as error:
        unread.append(Unread(name, 0, 0, f"cannot be opened: {error.strerror}", 0, 0))
        return None
    try:
        beginning = _read_around(files, handle, WINDOW_SIZE, 0)
    finally:
        files.close(handle)
    named = parse_segment_name(name)
    salt = named[1] if named is not None else _salt_of(beginning, FileKind.SEGMENT, _IN_SEGMENTS)
    if named is not None and guess_salt(beginning, _IN_SEGMENTS) not in (0, salt):
        # The name is another file's: what lies in it counts.
        salt = guess_salt(beginning, _IN_SEGMENTS)
        named = None
    if not salt:
        if beginning.strip(b"\0"):
            unread.append(Unread(name, 0, status.size, "nothing in it can be read", 0, 0))
        return None
    return _File(_first_of(beginning, salt) if named is None else named[0], path, name, salt)


def _first_of(beginning: bytes, salt: int) -> int:
    for found in walk(lambda size, offset: beginning[offset : offset + size], salt):
        if isinstance(found, Found) and found.header.type == RecordType.MESSAGE:
            return found.header.sequence
    return 0


def _salt_of(data: bytes, kind: FileKind, types: frozenset[int]) -> int:
    try:
        header = parse_file_header(data[:FILE_HEADER_SIZE], "")
    except (HeaderUnreadable, NewerFormat, ValueError):
        return guess_salt(data, types)
    return header.salt if header.kind == kind else 0


def _whole(files: Files, path: str) -> bytes:
    try:
        handle = files.open(path)
    except OSError:
        return b""
    try:
        return _read_around(files, handle, files.size(handle), 0)
    finally:
        files.close(handle)


_SECTOR: Final = 4096


def _read_around(files: Files, handle: int, size: int, offset: int) -> bytes:
    """Read, with zeros where the disk gives nothing."""
    try:
        return files.pread(handle, size, offset)
    except OSError:
        pass
    parts: list[bytes] = []
    end = min(offset + size, files.size(handle))
    while offset < end:
        count = min(_SECTOR - offset % _SECTOR, end - offset)
        try:
            parts.append(files.pread(handle, count, offset))
        except OSError:
            parts.append(bytes(count))
        offset += count
    return b"".join(parts)
