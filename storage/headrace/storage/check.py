"""Checking a store: every invariant of the format, over every byte that is used. Behind `headrace store check`.

The checker believes nothing that it can count itself. It reads a stream the way recovery does, then reads every record
of every segment again and compares: what the totals say with what is there, what a sidecar says with where
records lie, what consumers name with how far the stream goes.

It needs no lock. Beside a running server it sees a moment of each stream; an unreadable end of a file is then a write
in progress and no finding.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.examined import Examined, examine
from headrace.storage.files import Files, RealFiles
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
from headrace.storage.interface import StoreUnusable
from headrace.storage.record import (
    MARKS,
    RecordInvalid,
    RecordType,
    accounted_size,
    parse_extras,
    parse_mark,
    parse_skip,
)
from headrace.storage.segment import Segment
from headrace.storage.sidecar import find_offsets, is_missing_counted, load_sidecar
from headrace.storage.state import STREAM_SEQUENCE_SUFFIX
from headrace.storage.state_log import StateUnreadable, parse_state_name
from headrace.storage.store import STREAMS_FOLDER, check_format
from headrace.storage.survey import SEGMENTS_FOLDER
from headrace.storage.untold_index import UntoldIndex

KNOWN_IN_STREAM: Final = frozenset((SEGMENTS_FOLDER, "aside"))


class Severity(Enum):
    """How bad a finding is."""

    LOSS = "loss"  # messages that were acknowledged, or may have been, cannot be read
    DAMAGE = "damage"  # unreadable bytes that cost no message
    MISMATCH = "mismatch"  # two places of the store disagree; a fault of Headrace
    NOTE = "note"  # worth knowing, nothing wrong


class Finding(NamedTuple):
    """One thing that the checker has to say. `first` to `last`: sequences concerned, 0 for none."""

    severity: Severity
    stream: str
    file: str
    offset: int
    text: str
    first: int = 0
    last: int = 0


class StreamTotals(NamedTuple):
    """What was counted in a stream."""

    stream: str
    messages: int
    size: int
    records: int
    segments: int


class Report(NamedTuple):
    """The outcome of a check."""

    totals: list[StreamTotals]
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost, damaged or contradictory."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


def check_store(path: str, *, files: Files | None = None) -> Report:
    """Check every stream of the store in folder `path`. Raises StoreUnusable where it is none."""
    if files is None:
        files = RealFiles()
    status = files.status(path)
    if status is None or not status.is_folder:
        raise StoreUnusable(f"{path} is no folder")
    check_format(files, path)
    totals: list[StreamTotals] = []
    findings: list[Finding] = []
    streams = f"{path}/{STREAMS_FOLDER}"
    for name in files.list_folder(streams):
        folder = f"{streams}/{name}"
        if not _is_stream_name(name):
            if not name.endswith((".new", ".dead")):
                findings.append(
                    Finding(Severity.NOTE, name, "", 0, "is not a name of Headrace's; left alone")
                )
            continue
        checker = _StreamCheck(files, folder, name)
        try:
            totals.append(checker.run())
        except FileNotFoundError:
            if files.status(folder) is not None:
                findings.append(Finding(Severity.LOSS, name, "", 0, "its files cannot be found"))
            continue
        except StateUnreadable as error:
            findings.append(Finding(Severity.LOSS, name, "", 0, str(error)))
        finally:
            findings += checker.findings
            checker.close()
    return Report(totals, findings)


def _is_stream_name(name: str) -> bool:
    return len(name) == 16 and not name.strip("0123456789abcdef")


class _StreamCheck:
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
        records = 0
        size = messages = 0
        for segment in examined.contents.segments.all:
            counted = self._check_segment(examined, segment)
            records += counted[0]
            messages += counted[1]
            size += counted[2]
        contents = examined.contents
        if messages != contents.messages:
            self._mismatch("", 0, f"{contents.messages} messages are accounted for, {messages} are there")
        if size != contents.size:
            self._mismatch("", 0, f"{contents.size} bytes are accounted for, {size} are there")
        return StreamTotals(self._name, messages, size, records, len(contents.segments.all))

    def _check_names(self, examined: Examined) -> None:
        for name in self._files.list_folder(self._folder):
            if name in KNOWN_IN_STREAM or name.endswith(".new"):
                continue
            if parse_state_name(name) is None:
                self._note(Severity.NOTE, name, 0, "is not a name of Headrace's; left alone")
                continue
            self._check_header(f"{self._folder}/{name}", name, FileKind.STATE, salt=None)
        for segment in examined.contents.segments.all:
            self._check_header(segment.path, segment.name, FileKind.SEGMENT, salt=segment.salt)

    def _check_header(self, path: str, name: str, kind: FileKind, *, salt: int | None) -> None:
        try:
            handle = self._files.open(path)
        except FileNotFoundError:
            return  # The server has dropped it meanwhile.
        try:
            data = self._files.pread(handle, FILE_HEADER_SIZE, 0)
        finally:
            self._files.close(handle)
        try:
            header = parse_file_header(data, path)
        except (HeaderUnreadable, NewerFormat) as error:
            self._note(Severity.DAMAGE, name, 0, str(error))
            return
        if data[: FILE_HEADER_SIZE // 2] != data[FILE_HEADER_SIZE // 2 :]:
            self._note(Severity.DAMAGE, name, 0, "one copy of the file's header is damaged")
        if header.kind != kind or f"{header.stream_id:016x}" != self._name or salt not in (None, header.salt):
            self._mismatch(name, 0, "the file's header belongs to another file")

    def _check_listed(self, examined: Examined) -> None:
        state, survey = examined.loaded.state, examined.survey
        for first, last, certain in state.lost:
            what = "lost" if certain else "possibly acknowledged, and cannot be read"
            self._note(Severity.LOSS, "", 0, f"sequences {first} to {last} are {what}", first, last)
        for name, first, last in examined.restored.missing:
            self._note(Severity.LOSS, name, 0, "the file is missing", first, last)
        for first, last in survey.missing:
            if first <= survey.durable_to:
                self._note(Severity.LOSS, "", 0, f"sequences {first} to {last} cannot be found", first, last)
        end = examined.loaded.generation.used
        for place in [*state.damage, *examined.loaded.damage]:
            if place in state.damage or place.offset + place.size < end:
                self._note(Severity.DAMAGE, place.file, place.offset, place.what, place.first, place.last)

    def _check_consumers(self, examined: Examined) -> None:
        last = examined.contents.last
        for consumer in examined.loaded.state.consumers.values():
            numbers, rows = consumer.register
            named = [number for key, number in numbers.items() if key.endswith(STREAM_SEQUENCE_SUFFIX)]
            highest = max([*named, *rows], default=0)
            if highest > last:
                self._mismatch(
                    "", 0, f"consumer {consumer.name} names sequence {highest}, the stream ends at {last}"
                )

    def _check_segment(self, examined: Examined, segment: Segment) -> tuple[int, int, int]:
        """Read every record of a segment; give the count of records, and of live messages and their size."""
        segments = examined.contents.segments
        records = messages = size = 0
        expected = segment.first
        batch = durable_to = 0
        for found in self._walk(segment):
            if isinstance(found, End):
                continue
            records += 1
            if isinstance(found, Damage):
                is_end = found.offset + found.size >= segment.used
                header = found.header
                live = header is not None and segments.find(header.sequence) is not None
                if live and header is not None:
                    self._note(
                        Severity.LOSS,
                        segment.name,
                        found.offset,
                        found.what,
                        header.sequence,
                        header.sequence,
                    )
                elif not is_end and not self._is_known(examined, segment, found.offset):
                    self._note(Severity.DAMAGE, segment.name, found.offset, found.what)
                continue
            header = found.header
            try:
                if header.type == RecordType.MESSAGE:
                    if header.sequence < expected:
                        self._mismatch(segment.name, found.offset, f"sequence {header.sequence} comes twice")
                    expected = self._after_gap(examined, segment, expected, header.sequence) + 1
                    if segments.find(header.sequence) is not None:
                        messages += 1
                        size += accounted_size(header, parse_extras(header, found.body).size)
                elif header.type == RecordType.SKIP:
                    first, last = parse_skip(header, found.body)
                    self._after_gap(examined, segment, expected, first)
                    expected = last + 1
                elif header.type in MARKS:
                    mark = parse_mark(header, found.body)
                    if mark.batch < batch or mark.durable_to < durable_to:
                        self._mismatch(segment.name, found.offset, "batch or durable sequence goes back")
                    batch, durable_to = mark.batch, mark.durable_to
                else:
                    self._mismatch(segment.name, found.offset, f"a record of type {header.type} in a segment")
            except RecordInvalid as error:
                self._note(Severity.DAMAGE, segment.name, found.offset, str(error))
        if messages != segment.live_count or (size != segment.live_size and not examined.contents.lost):
            self._mismatch(
                segment.name,
                0,
                f"{segment.live_count} messages of {segment.live_size} bytes are accounted for, "
                f"{messages} of {size} are there",
            )
        self._check_sidecar(segment)
        return records, messages, size

    def _after_gap(self, examined: Examined, segment: Segment, expected: int, sequence: int) -> int:
        """Account for the sequences between two records; give the later one."""
        if sequence > expected and is_missing_counted(sequence - expected):
            listed = [(lost.first, lost.last) for lost in examined.contents.lost] + examined.survey.missing
            gone = any(first <= expected and sequence - 1 <= last for first, last in listed)
            alive = [each for each in range(expected, sequence) if examined.contents.segments.find(each)]
            if alive or not gone:
                what = f"sequences {expected} to {sequence - 1} have no record"
                severity = Severity.LOSS if alive else Severity.NOTE
                self._note(severity, segment.name, 0, what, expected, sequence - 1)
        return sequence

    def _check_sidecar(self, segment: Segment) -> None:
        found = load_sidecar(self._files, segment)
        if found is None:
            return
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
            self._mismatch(f"{segment.name}.side", 0, "the sidecar does not say where the records lie")

    def _walk(self, segment: Segment) -> Iterator[Found | Damage | End]:
        return walk(self._read_of(segment), segment.salt)

    def _read_of(self, segment: Segment) -> Read:
        handle = self._blocks.handle(segment)

        def read(size: int, offset: int) -> bytes:
            return self._files.pread(handle, size, offset)

        return read

    def _is_known(self, examined: Examined, segment: Segment, offset: int) -> bool:
        return any(
            each.file == segment.name and each.offset == offset for each in examined.loaded.state.damage
        )

    def _note(
        self, severity: Severity, file: str, offset: int, text: str, first: int = 0, last: int = 0
    ) -> None:
        self.findings.append(Finding(severity, self._name, file, offset, text, first, last))

    def _mismatch(self, file: str, offset: int, text: str) -> None:
        self._note(Severity.MISMATCH, file, offset, text)
