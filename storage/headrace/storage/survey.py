"""What a folder says: its segments as the last checkpoint knew them, and what lies behind it.

This module only reads, so that recovery, the offline reader and the checker share it. The steps: `restore_segments`
puts up what the state log knows; `survey_segments` walks over what came after the last checkpoint, and says how far
the log goes, what is durable, what is missing and what is damaged; `replay` applies appends and removals in the
order in which they happened, by the code that runs in service.
"""

import contextlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.storage.blocks import Blocks
from headrace.storage.contents import Contents
from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    End,
    Found,
    HeaderUnreadable,
    NewerFormat,
    Read,
    parse_file_header,
    walk,
)
from headrace.storage.index_interface import LogIndex, Position
from headrace.storage.interface import CorruptRecord
from headrace.storage.record import (
    MARKS,
    NO_EXTRAS,
    Extras,
    RecordInvalid,
    RecordType,
    accounted_size,
    parse_extras,
    parse_mark,
    parse_message,
    parse_skip,
)
from headrace.storage.removals import load_removals
from headrace.storage.segment import SEGMENTS_FOLDER, Segment, parse_segment_name
from headrace.storage.segment_writer import MARK_SIZE
from headrace.storage.segments import Place, Segments
from headrace.storage.sidecar import is_missing_counted
from headrace.storage.state import DamagedPlace, Removal, State
from headrace.storage.state_log import LoadedState

PART: Final = "a part of an atomic batch that is not whole"
"""What is said of such a record in a list of damage."""

_NAMING: Final = frozenset((RecordType.MESSAGE, RecordType.ERASED, RecordType.SKIP))
"""Records that use up sequences."""


class Appended(NamedTuple):
    """A message that the survey met."""

    segment: Segment
    sequence: int
    time_ns: int
    subject: bytes
    size: int
    extras: Extras
    offset: int = 0
    record_size: int = 0


class Skipped(NamedTuple):
    """Sequences used up without messages; `is_missing`: there were messages, which cannot be read."""

    segment: Segment
    first: int
    sequence: int
    time_ns: int
    is_missing: bool
    extras: Extras = NO_EXTRAS


@dataclass
class Survey:
    """What the segments say from the checkpoint on."""

    last: int
    durable_to: int
    batch: int
    events: list[Appended | Skipped] = field(default_factory=list["Appended | Skipped"])
    damage: list[tuple[Segment, Damage, int]] = field(default_factory=list[tuple[Segment, Damage, int]])
    missing: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    empty: list[Segment] = field(default_factory=list[Segment])
    named: int = 0
    parts: list[Appended] = field(default_factory=list[Appended])
    """What there is of atomic batches that are not whole."""
    marks: list[tuple[int, Segment, int]] = field(default_factory=list[tuple[int, Segment, int]])
    """Where group commits began: the last sequence before, segment and offset."""

    def unsettled_from(self, segment: Segment) -> int:
        """Give the offset in a segment behind which nothing is known to be durable; its end where all is."""
        if segment.last <= self.durable_to:
            return segment.used
        offsets = [
            offset
            for sequence, marked, offset in self.marks
            if marked is segment and sequence <= self.durable_to
        ]
        return max(offsets, default=FILE_HEADER_SIZE)


class Restored(NamedTuple):
    """Segments whose files are not there (name, first, last), and files that nobody needs any more.

    `damage`: `.del` files that cannot be read. `is_recounted`: the checkpoint does not say which messages are
    removed, so they were counted again, and the index may have to be.
    """

    missing: list[tuple[str, int, int]]
    leftovers: list[str]
    damage: list[DamagedPlace]
    is_recounted: bool


# ---- segments as the state log knows them


def restore_segments(
    files: Files, blocks: Blocks, folder: str, loaded: LoadedState, segments: Segments
) -> Restored:
    """Add every segment as the last checkpoint knew it."""
    state = loaded.state
    leftovers: list[str] = []
    seg_folder = f"{folder}/{SEGMENTS_FOLDER}"
    names = set(files.list_folder(seg_folder))
    checkpoint = state.checkpoint
    missing: list[tuple[str, int, int]] = []
    known: dict[str, tuple[int, int]] = {}
    replaced: list[Segment] = []
    for name in names:
        parsed = parse_segment_name(name)
        base = name.partition(".")[0]
        if parsed is not None:
            known[name] = parsed
        elif name.endswith(".new") or (parse_segment_name(base) is not None and base not in names):
            leftovers.append(f"{seg_folder}/{name}")
    listed = _listed_ranges(state, names)
    is_recounted = False
    for name in sorted({*known, *state.segments}):
        row = state.segments.get(name)
        parsed = known.get(name) or parse_segment_name(name)
        if parsed is None:
            continue
        first, salt = parsed
        path = f"{seg_folder}/{name}"
        if name not in names:
            if row is not None and row.live_count:
                missing.append((name, first, row.last))
            continue
        lost_row = _row_at(first, listed[False])
        if row is None and (
            name in state.dropped
            or _row_at(first, listed[True]) is not None
            or (first <= checkpoint.sequence and lost_row is None and not loaded.damage)
        ):
            # It was dropped, durably, and only its name was still there; or it is a copy that nothing names.
            leftovers.append(path)
            continue
        handle = blocks.handle(Segment(first=first, salt=salt, path=path, capacity=0))
        segment = Segment(first=first, salt=salt, path=path, capacity=files.size(handle))
        if row is not None:
            segment.last = row.last
            segment.live_count = row.live_count
            segment.live_size = row.live_size
            segment.first_time_ns = row.first_time_ns
            segment.last_time_ns = row.last_time_ns
            segment.id_time_ns = row.id_time_ns
            segment.records = row.records
            segment.used = segment.written = row.used
            segment.has_changed = False
        elif lost_row is not None:
            # A copy whose naming was lost with a damaged record of the state log, after the old files had gone.
            _take_in(files, handle, segment)
            is_recounted = True
        segments.add(segment)
        if row is None and lost_row is not None:
            missing = [each for each in missing if not segment.first <= each[1] <= segment.last]
            replaced.append(segment)
    segments.first = checkpoint.first or state.first
    damage: list[DamagedPlace] = []
    for segment in replaced:
        _recount(segments, segment)
    for segment in segments.all:
        is_recounted = _restore_removals(files, state, segments, segment, damage) or is_recounted
    return Restored(missing, leftovers, damage, is_recounted)


def _listed_ranges(state: State, names: set[str]) -> dict[bool, list[tuple[int, int]]]:
    """Give the sequences of the segments that the state log lists: of those whose file is there, and of the others."""
    ranges: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for name, row in state.segments.items():
        parsed = parse_segment_name(name)
        if parsed is not None and (name in names or row.live_count):
            ranges[name in names].append((parsed[0], row.last))
    return ranges


def _row_at(sequence: int, ranges: list[tuple[int, int]]) -> tuple[int, int] | None:
    return next((each for each in ranges if each[0] <= sequence <= each[1]), None)


def _take_in(files: Files, handle: int, segment: Segment) -> None:
    """Find out by its records what a segment holds that no row tells of."""
    for found in walk(lambda size, offset: files.pread(handle, size, offset), segment.salt):
        if isinstance(found, End):
            segment.used = segment.written = found.offset
        elif isinstance(found, Found) and found.header.type in _NAMING:
            segment.last = max(segment.last, found.header.sequence)
            if found.header.type != RecordType.SKIP:
                segment.records += 1
                segment.note_time(found.header.time_ns)
                segment.id_time_ns = found.header.time_ns


def _restore_removals(
    files: Files, state: State, segments: Segments, segment: Segment, damage: list[DamagedPlace]
) -> bool:
    """Set the bits of what is removed in a segment; tell whether its messages had to be counted again."""
    name = segment.name
    is_recounted = False
    count = state.folded.get(name)
    if count is not None and segment.live_count:
        loaded = load_removals(files, segment.path, segment.salt, count=count)
        for each in loaded.unreadable:
            what = "removals cannot be read; " + (
                "the other copy is there" if loaded.removals is not None else "what they removed may be back"
            )
            damage.append(DamagedPlace(each, 0, 0, what, 0, 0, certain=False))
        if loaded.removals is None:
            is_recounted = True
        else:
            segment.gone = bytearray(loaded.removals.bits)
            if not loaded.unreadable:
                segment.folded = loaded.removals.bits
            is_recounted = loaded.removals.change > state.checkpoint.change
    bits = state.gone_bits.get(name)
    if bits is not None:
        segment.gone = bytearray(bits) if segment.gone is None else _united(segment.gone, bits)
    if segment.gone is not None:
        segment.take_folded(segment.folded or b"")
    for first, last in state.gone_ranges.get(name, ()):
        for sequence in range(max(first, segments.first), last + 1):
            if segment.is_dense:
                segment.set_gone(sequence - segment.first)
            else:
                place = segments.offsets(segment).place(sequence)
                if place >= 0:
                    segment.set_gone(place)
    if is_recounted:
        _recount(segments, segment)
    return is_recounted


def _united(bits: bytearray, others: bytes) -> bytearray:
    number = int.from_bytes(bits, "little") | int.from_bytes(others, "little")
    return bytearray(number.to_bytes(max(len(bits), len(others)), "little"))


def _recount(segments: Segments, segment: Segment) -> None:
    """Count what is live in a segment by its messages and their bits; those that cannot be read count as live."""
    count = size = 0
    place = segment.next_live_place(segments.place_from(segment, segments.first))
    while place < segment.records:
        count += 1
        with contextlib.suppress(CorruptRecord):
            size += segments.read(Place(segment, place)).size
        place = segment.next_live_place(place + 1)
    segment.live_count, segment.live_size = count, size


def is_closed(files: Files, state: State, segments: Segments) -> bool:
    """Tell whether the last session ended cleanly, and nothing was written since."""
    closed = state.closed
    if closed is None:
        return False
    if not segments.all:
        return not closed.segment
    segment = segments.all[-1]
    if segment.name != closed.segment or segment.used != closed.used:
        return False
    handle = files.open(segment.path)
    try:
        records = walk(
            lambda size, offset: files.pread(handle, size, offset), segment.salt, closed.used - MARK_SIZE
        )
        found, following = next(records), next(records, None)
    finally:
        files.close(handle)
    # A later session may have written behind the close record without getting as far as the state log.
    return isinstance(found, Found) and found.header.type == RecordType.CLOSE and isinstance(following, End)


# ---- the survey


def survey_segments(
    files: Files, blocks: Blocks, state: State, segments: Segments, *, is_clean: bool
) -> Survey:
    """Walk over what was written since the last checkpoint; nothing, after a clean stop."""
    checkpoint = state.checkpoint
    last = checkpoint.sequence or state.first - 1
    survey = Survey(last=last, durable_to=max(checkpoint.sequence, state.durable_to), batch=checkpoint.batch)
    # After a clean stop nothing can be missing: a consumer that names more was put ahead of its stream.
    survey.named = last if is_clean else max(last, state.named_sequence())
    for segment in () if is_clean else list(segments.all):
        if segment.name == checkpoint.segment or segment.first > checkpoint.sequence:
            segments.begin_replay(segment)
            start = checkpoint.offset if segment.name == checkpoint.segment else FILE_HEADER_SIZE
            _walk_segment(files, blocks, segment, start, survey)
            if segment.last < segment.first and all(event.segment is not segment for event in survey.events):
                # Nothing that was to go into it got there; the next one will begin with the same sequence.
                survey.empty.append(segment)
                segments.discard(segment)
    _set_parts_aside(survey)
    expected = survey.last + 1
    survey.last = max(survey.last, survey.named, survey.durable_to)
    if survey.last >= expected:
        survey.missing.append((expected, survey.last))
        if segments.all and survey.durable_to >= expected:
            survey.events.append(Skipped(segments.all[-1], expected, survey.last, 0, is_missing=True))
    return survey


def _set_parts_aside(survey: Survey) -> None:
    """Count no message of an atomic batch that is not whole.

    A batch that was durable was whole: what is missing of it is damage, and the rest stays.
    """
    counts: dict[int, int] = {}
    for event in survey.events:
        atomic = event.extras.atomic
        if isinstance(event, Appended) and atomic is not None and atomic.last > survey.durable_to:
            counts[atomic.batch_id] = counts.get(atomic.batch_id, 0) + 1
    for place, event in enumerate(survey.events):
        atomic = event.extras.atomic
        if not isinstance(event, Appended) or atomic is None:
            continue
        if counts.get(atomic.batch_id, atomic.size) < atomic.size:
            sequence = event.sequence
            survey.parts.append(event)
            survey.missing.append((sequence, sequence))
            survey.named = max(survey.named, atomic.last)
            survey.events[place] = Skipped(event.segment, sequence, sequence, event.time_ns, is_missing=True)


def _walk_segment(files: Files, blocks: Blocks, segment: Segment, start: int, survey: Survey) -> None:
    handle = blocks.handle(segment)

    def read(size: int, offset: int) -> bytes:
        return files.pread(handle, size, offset)

    for found in walk(read, segment.salt, start):
        if isinstance(found, End):
            segment.used = segment.written = max(min(found.offset, segment.capacity), start)
            if segment.capacity < _size_promised(read):
                # Files have their size before their first record; who cut this one took an unknown number of them.
                what = "the file was cut, its end is not known"
                survey.damage.append((segment, Damage(segment.used, 0, what), survey.last))
        elif isinstance(found, Damage):
            survey.damage.append((segment, found, survey.last))
            header = found.header
            if header is not None and header.type == RecordType.MESSAGE and header.sequence > survey.last:
                _note_missing(survey, segment, header.sequence)
        else:
            try:
                _note_record(segment, found, survey)
            except RecordInvalid as error:
                survey.damage.append(
                    (segment, Damage(found.offset, found.header.end, str(error), found.header), survey.last)
                )


def _size_promised(read: Read) -> int:
    """Give the size that a file has had since it was made, as its header says; where that is gone, some size."""
    header = read(FILE_HEADER_SIZE, 0)
    try:
        return parse_file_header(header, "").capacity
    except (HeaderUnreadable, NewerFormat):
        return FILE_HEADER_SIZE


def _note_record(segment: Segment, found: Found, survey: Survey) -> None:
    header, body = found.header, found.body
    if header.type == RecordType.MESSAGE:
        if header.sequence <= survey.last:
            return
        extras = parse_extras(header, body)
        view = parse_message(header, body)
        _note_missing(survey, segment, header.sequence - 1)
        survey.events.append(
            Appended(
                segment,
                header.sequence,
                header.time_ns,
                view.subject,
                accounted_size(header, extras.size),
                extras,
                found.offset,
                header.end,
            )
        )
        survey.last = header.sequence
    elif header.type == RecordType.ERASED:
        if header.sequence > survey.last:
            extras, sequence = parse_extras(header, body), header.sequence
            _note_missing(survey, segment, sequence - 1)
            survey.events.append(
                Skipped(segment, sequence, sequence, header.time_ns, is_missing=True, extras=extras)
            )
            survey.last = sequence
    elif header.type == RecordType.SKIP:
        first, last = parse_skip(header, body)
        if last > survey.last:
            _note_missing(survey, segment, first - 1)
            survey.events.append(Skipped(segment, first, last, header.time_ns, is_missing=False))
            survey.last = last
    elif header.type in MARKS:
        mark = parse_mark(header, body)
        survey.durable_to = max(survey.durable_to, mark.durable_to)
        survey.batch = max(survey.batch, mark.batch)
        survey.marks.append((header.sequence, segment, found.offset))
        survey.named = max(survey.named, header.sequence)


def _note_missing(survey: Survey, segment: Segment, last: int) -> None:
    """Sequences up to `last` should have come before this place."""
    first = max(survey.last + 1, segment.first)
    if segment.first > survey.last + 1:
        # They were in a segment before this one, or lie in a gap that an earlier recovery left.
        survey.missing.append((survey.last + 1, segment.first - 1))
        survey.last = segment.first - 1
    if last >= first:
        survey.missing.append((first, last))
        is_missing = is_missing_counted(last - first + 1)
        survey.events.append(Skipped(segment, first, last, 0, is_missing=is_missing))
        survey.last = last


# ---- the replay


def replay(state: State, segments: Segments, survey: Survey, index: LogIndex, restored: Restored) -> Contents:
    """Make the contents of a log from its checkpoint and what came after it; the index is told what it missed."""
    checkpoint = state.checkpoint
    contents = Contents(segments, index, first=state.first)
    segments.first = checkpoint.first or state.first
    contents.last = checkpoint.sequence or state.first - 1
    contents.last_time_ns = checkpoint.last_time_ns
    contents.messages = checkpoint.messages
    contents.size = checkpoint.size
    contents.lost = list(state.lost)
    if (
        restored.missing
        or restored.is_recounted
        or state.checkpoint.messages != sum(each.live_count for each in segments.all)
    ):
        contents.messages = sum(each.live_count for each in segments.all)
        contents.size = sum(each.live_size for each in segments.all)
        segments.first = segments.next_live(segments.first) or contents.last + 1
    contents.is_replaying = True
    known = index.replay_from
    if known.sequence < checkpoint.sequence or known.change < checkpoint.change or restored.is_recounted:
        # What is told from here on it will find in the segments.
        index.rebuild()
        known = index.replay_from
    removals = [each for each in state.removals if each.change > checkpoint.change]
    waiting = iter(sorted(removals))
    removal = next(waiting, None)
    for event in survey.events:
        while removal is not None and removal.after < event.sequence:
            _replay_removal(contents, removal, known)
            removal = next(waiting, None)
        _replay_event(contents, event, known)
    while removal is not None:
        _replay_removal(contents, removal, known)
        removal = next(waiting, None)
    if survey.last > contents.last:
        if not contents.messages:
            segments.first = survey.last + 1
        contents.last = survey.last
    contents.tells = True
    contents.is_replaying = False
    segments.end_replay()
    index.mark(Position(contents.last, state.change))
    return contents


def _replay_event(contents: Contents, event: Appended | Skipped, known: Position) -> None:
    if isinstance(event, Appended):
        contents.tells = event.sequence > known.sequence
        extras = event.extras
        contents.appended(
            event.segment,
            sequence=event.sequence,
            time_ns=event.time_ns,
            subject=event.subject,
            message_id=extras.message_id,
            size=event.size,
        )
        if extras.first_sequence or extras.evicted:
            contents.apply(event.sequence, extras)
    elif event.is_missing:
        contents.missed(event.segment, first=event.first, last=event.sequence)
        contents.apply(event.sequence, event.extras)
    else:
        contents.skipped(event.segment, last=event.sequence, time_ns=event.time_ns)


def _replay_removal(contents: Contents, removal: Removal, known: Position) -> None:
    contents.tells = removal.change > known.change
    contents.remove_ranges(removal.ranges, removal.change)
