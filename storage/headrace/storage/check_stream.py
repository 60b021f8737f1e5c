"""Checking one stream: every record of every segment read again, and held against what the state log says.

The folder is read as recovery would read it (`examined.py`). Then nothing of that is believed: records are counted, and
sequences, marks, totals, sidecars, removals and consumers are compared with what was counted.
"""

from collections.abc import Iterator
from typing import Final

from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.examined import Examined, examine
from headrace.storage.files import Files
from headrace.storage.findings import Finding, StreamTotals
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    End,
    FileKind,
    Found,
    HeaderUnreadable,
    NewerFormat,
    Read,
    parse_file_header,
    walk,
)
from headrace.storage.record import (
    MARKS,
    RecordInvalid,
    RecordType,
    accounted_size,
    parse_extras,
    parse_mark,
    parse_skip,
)
from headrace.storage.segment import SEGMENTS_FOLDER, Segment, parse_segment_name
from headrace.storage.sidecar import find_offsets, is_missing_counted, load_sidecar
from headrace.storage.state import STREAM_SEQUENCE_SUFFIX
from headrace.storage.state_log import parse_state_name
from headrace.storage.untold_index import UntoldIndex

KNOWN_IN_STREAM: Final = frozenset((SEGMENTS_FOLDER, "aside"))
REMOVALS: Final = (".del", ".del2")
BESIDE: Final = (".side", *REMOVALS)


class _Counted:
    """What was counted in a segment, and where the reading of it has got to."""

    def __init__(self, first: int) -> None:
        self.records = 0
        self.messages = 0
        self.size = 0
        self.expected = first
        self.batch = 0
        self.durable_to = 0


class StreamCheck:
    """The check of one stream."""

    def __init__(self, files: Files, folder: str, name: str) -> None:
        self._files = files
        self._folder = folder
        self._name = name
        self._blocks = Blocks(files, size_max=DEFAULT_BOUNDS.cache_size)
        self.findings: list[Finding] = []

    def close(self) -> None:
        self._blocks.close()

    def run(self) -> StreamTotals:
        """Check all of it. Raises StateUnreadable and FileNotFoundError."""
        examined = examine(self._files, self._blocks, self._folder, UntoldIndex())
        self._check_names(examined)
        self._check_listed(examined)
        self._check_consumers(examined)
        records = size = messages = 0
        for segment in examined.contents.segments.all:
            counted = self._check_segment(examined, segment)
            records += counted.records
            messages += counted.messages
            size += counted.size
        contents = examined.contents
        if messages != contents.messages:
            text = f"{contents.messages} messages are accounted for, {messages} are there"
            self._note("stream-totals", "", 0, text)
        # Of a damaged message nobody knows what it counted for.
        if size != contents.size and not examined.loaded.state.lost and not contents.lost:
            self._note("stream-totals", "", 0, f"{contents.size} bytes are accounted for, {size} are there")
        return StreamTotals(self._name, messages, size, records, len(contents.segments.all))

    # ---- names and headers

    def _check_names(self, examined: Examined) -> None:
        generations = 0
        for name in self._files.list_folder(self._folder):
            if name in KNOWN_IN_STREAM:
                continue
            if name.endswith(".new"):
                self._note("leftover", name, 0, "was being written")
            elif parse_state_name(name) is None:
                self._note("unknown-name", name, 0, "is not a name of Headrace's; left alone")
            else:
                generations += self._check_header(f"{self._folder}/{name}", name, FileKind.STATE, salt=None)
        if generations == 1:
            self._note("state-single", "", 0, "there is one generation of the state log only")
        segments = {segment.name: segment for segment in examined.contents.segments.all}
        for name, segment in segments.items():
            self._check_header(segment.path, name, FileKind.SEGMENT, salt=segment.salt)
        leftovers = {path.rpartition("/")[2] for path in examined.restored.leftovers}
        for name in self._files.list_folder(f"{self._folder}/{SEGMENTS_FOLDER}"):
            base = name.partition(".")[0]
            if name in segments or parse_segment_name(name) is not None:
                continue
            if name in leftovers or name.endswith(".new"):
                # A spare, or what a crash left: neither says that anything is wrong.
                continue
            if not name.endswith(BESIDE) or parse_segment_name(base) is None:
                self._note("unknown-name", name, 0, "is not a name of Headrace's; left alone")
            elif base not in segments:
                self._note("orphan", name, 0, "its segment is not there")

    def _check_header(self, path: str, name: str, kind: FileKind, *, salt: int | None) -> bool:
        """Check a file's header; tell whether it can be read."""
        data = self._beginning(path)
        try:
            header = parse_file_header(data, path)
        except (HeaderUnreadable, NewerFormat) as error:
            self._note("header-unreadable", name, 0, str(error))
            return False
        if data[: FILE_HEADER_SIZE // 2] != data[FILE_HEADER_SIZE // 2 :]:
            self._note("header-copy", name, 0, "one copy of the file's header is damaged")
        if header.kind != kind or f"{header.stream_id:016x}" != self._name or salt not in (None, header.salt):
            self._note("header-foreign", name, 0, "the file's header belongs to another file")
        return True

    def _beginning(self, path: str) -> bytes:
        handle = self._files.open(path)
        try:
            return self._files.pread(handle, FILE_HEADER_SIZE, 0)
        finally:
            self._files.close(handle)

    # ---- what the state log says

    def _check_listed(self, examined: Examined) -> None:
        state = examined.loaded.state
        for first, last, certain in state.lost:
            what = "lost" if certain else "possibly acknowledged, and cannot be read"
            self._note("lost", "", 0, f"sequences {first} to {last} are {what}", first, last, certain=certain)
        missing = {(first, last) for _, first, last in examined.restored.missing}
        for name, first, last in examined.restored.missing:
            self._note("segment-missing", name, 0, "the file is missing", first, last)
        for first, last, certain in examined.found_lost:
            if (first, last) not in missing:
                text = f"sequences {first} to {last} cannot be found"
                self._note("record-missing", "", 0, text, first, last, certain=certain)
        for place in [*state.damage, *examined.found_damage]:
            name = _kind_of_file(place.file)
            if name == "bytes-damaged" and place.first:
                name = "record-damaged"
            self._note(
                name, place.file, place.offset, place.what, place.first, place.last, certain=place.certain
            )

    def _check_consumers(self, examined: Examined) -> None:
        last = examined.survey.last
        for consumer in examined.loaded.state.consumers.values():
            numbers, rows = consumer.register
            named = [number for key, number in numbers.items() if key.endswith(STREAM_SEQUENCE_SUFFIX)]
            highest = max([*named, *rows], default=0)
            if highest > last:
                text = f"consumer {consumer.name} names sequence {highest}, the stream ends at {last}"
                self._note("consumer-ahead", "", 0, text, highest, highest)

    # ---- segments

    def _check_segment(self, examined: Examined, segment: Segment) -> _Counted:
        """Read every record of a segment."""
        counted = _Counted(segment.first)
        for found in self._walk(segment):
            if isinstance(found, Damage):
                counted.records += 1
                self._note_bytes(examined, segment, found)
            elif isinstance(found, Found):
                counted.records += 1
                try:
                    self._check_record(examined, segment, found, counted)
                except RecordInvalid as error:
                    sequence = found.header.sequence
                    self._note("record-content", segment.name, found.offset, str(error), sequence, sequence)
        size_differs = counted.size != segment.live_size and not examined.contents.lost
        if counted.messages != segment.live_count or size_differs:
            text = (
                f"{segment.live_count} messages of {segment.live_size} bytes are accounted for, "
                f"{counted.messages} of {counted.size} are there"
            )
            self._note("segment-totals", segment.name, 0, text)
        self._check_sidecar(segment)
        self._check_removals(segment)
        return counted

    def _note_bytes(self, examined: Examined, segment: Segment, damage: Damage) -> None:
        header, name = damage.header, segment.name
        # A mark names a sequence that is another record's.
        is_mark = header is not None and header.type in MARKS
        if (
            header is not None
            and not is_mark
            and examined.contents.segments.find(header.sequence) is not None
        ):
            sequence = header.sequence
            self._note("record-damaged", name, damage.offset, damage.what, sequence, sequence)
            return
        is_end = damage.offset + damage.size >= segment.used
        listed = {(each.file, each.offset) for each in examined.loaded.state.damage}
        listed |= {(each.file, each.offset) for each in examined.found_damage}
        if not is_end and (name, damage.offset) not in listed:
            self._note("bytes-damaged", name, damage.offset, damage.what)

    def _check_record(self, examined: Examined, segment: Segment, found: Found, counted: _Counted) -> None:
        header, name, offset = found.header, segment.name, found.offset
        if header.type == RecordType.MESSAGE:
            if header.sequence < counted.expected:
                text = f"sequence {header.sequence} comes behind {counted.expected - 1}"
                self._note("sequence-order", name, offset, text, header.sequence, header.sequence)
            self._check_gap(examined, segment, counted.expected, header.sequence)
            counted.expected = header.sequence + 1
            extras = parse_extras(header, found.body)
            if extras.previous is not None and extras.previous >= header.sequence:
                text = f"message {header.sequence} names {extras.previous} as its subject's previous one"
                self._note("record-previous", name, offset, text, header.sequence, header.sequence)
            if examined.contents.segments.find(header.sequence) is not None:
                counted.messages += 1
                counted.size += accounted_size(header, extras.size)
        elif header.type == RecordType.ERASED:
            self._check_gap(examined, segment, counted.expected, header.sequence)
            counted.expected = header.sequence + 1
        elif header.type == RecordType.SKIP:
            first, last = parse_skip(header, found.body)
            self._check_gap(examined, segment, counted.expected, first)
            counted.expected = last + 1
        elif header.type in MARKS:
            mark = parse_mark(header, found.body)
            if mark.batch < counted.batch or mark.durable_to < counted.durable_to:
                self._note("mark-order", name, offset, "batch number or durable sequence goes back")
            # In a rewritten segment it may be beyond the segment's end.
            if mark.durable_to > examined.survey.last:
                text = f"{mark.durable_to} is said to be durable, and {examined.survey.last} is the last one"
                self._note("mark-order", name, offset, text)
            counted.batch, counted.durable_to = mark.batch, mark.durable_to
        else:
            self._note("record-type", name, offset, f"a record of type {header.type} in a segment")

    def _check_gap(self, examined: Examined, segment: Segment, expected: int, sequence: int) -> None:
        """Account for the sequences between two records."""
        if not is_missing_counted(sequence - expected):
            return
        listed = [(lost.first, lost.last) for lost in examined.contents.lost] + examined.survey.missing
        gone = any(first <= expected and sequence - 1 <= last for first, last in listed)
        alive = [each for each in range(expected, sequence) if examined.contents.segments.find(each)]
        if alive and not gone:
            text = f"sequences {alive[0]} to {alive[-1]} have no record"
            self._note("record-missing", segment.name, 0, text, alive[0], alive[-1])

    # ---- what lies beside a segment

    def _check_sidecar(self, segment: Segment) -> None:
        path = f"{segment.path}.side"
        if self._files.status(path) is None:
            return
        name = f"{segment.name}.side"
        try:
            data = self._beginning(path)
        except FileNotFoundError:
            return  # The server has dropped it meanwhile.
        found = load_sidecar(self._files, segment)
        if found is None:
            self._note("sidecar-damaged", name, 0, "the sidecar cannot be used")
            return
        if data[: FILE_HEADER_SIZE // 2] != data[FILE_HEADER_SIZE // 2 :]:
            self._note("header-copy", name, 0, "one copy of the file's header is damaged")
        offsets = find_offsets(
            self._read_of(segment),
            segment.salt,
            first=segment.first,
            last=segment.last,
            end=segment.used,
            records=segment.records,
        )
        if (found.units, found.run_sequences, found.run_places) != (
            offsets.units,
            offsets.run_sequences,
            offsets.run_places,
        ) and 0 not in offsets.units:
            self._note("sidecar-wrong", name, 0, "the sidecar does not say where the records lie")

    def _check_removals(self, segment: Segment) -> None:
        found = {suffix: self._is_readable(f"{segment.path}{suffix}", segment) for suffix in REMOVALS}
        if all(each is None for each in found.values()):
            return
        good = [each for each in found.values() if each]
        for suffix, is_good in found.items():
            if not is_good:
                name = "removals-copy" if good else "removals-damaged"
                text = "it is not there" if is_good is None else "it does not check"
                self._note(name, f"{segment.name}{suffix}", 0, text)

    def _is_readable(self, path: str, segment: Segment) -> bool | None:
        """Tell whether a file of removals checks; None where it is not there."""
        try:
            handle = self._files.open(path)
        except FileNotFoundError:
            return None
        try:
            data = self._files.pread(handle, self._files.size(handle), 0)
        finally:
            self._files.close(handle)
        try:
            header = parse_file_header(data[:FILE_HEADER_SIZE], path)
        except (HeaderUnreadable, NewerFormat):
            return False
        if header.kind != FileKind.REMOVALS or header.subject != segment.salt:
            return False
        records = list(walk(lambda size, offset: data[offset : offset + size], header.salt))
        return len(records) > 1 and all(not isinstance(each, Damage) for each in records)

    # ---- private

    def _walk(self, segment: Segment) -> Iterator[Found | Damage | End]:
        return walk(self._read_of(segment), segment.salt)

    def _read_of(self, segment: Segment) -> Read:
        handle = self._blocks.handle(segment)

        def read(size: int, offset: int) -> bytes:
            # Not beyond what the look at the folder has seen: the server goes on.
            return self._files.pread(handle, max(0, min(size, segment.used - offset)), offset)

        return read

    def _note(
        self,
        name: str,
        file: str,
        offset: int,
        text: str,
        first: int = 0,
        last: int = 0,
        *,
        certain: bool = True,
    ) -> None:
        self.findings.append(Finding(name, self._name, file, offset, text, first, last, certain))


def _kind_of_file(name: str) -> str:
    """Say what damage of a file is called."""
    if parse_state_name(name) is not None:
        return "state-damaged"
    if name.endswith(REMOVALS):
        return "removals-copy"
    return "sidecar-damaged" if name.endswith(".side") else "bytes-damaged"
