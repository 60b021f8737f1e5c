"""Opening a log: what a folder holds after a clean stop, a kill, or a power cut.

The rules are section 6 of docs/storage-format.md. In short: the state log gives the last checkpoint; from there on the
segments are read once (`_Survey`), which says how far the log goes, what is durable, and what is missing; then
appends and removals are replayed in the order in which they happened, by the code that runs in service.

The survey comes before the replay because the index must hear how far the log was recovered before it is told anything.
Nothing is written unless something was damaged or the stop was not clean.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.blocks import Blocks
from headrace.storage.commit import GroupCommit
from headrace.storage.contents import Contents
from headrace.storage.file_log import FileLog, tell_all
from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    End,
    FileHeader,
    FileKind,
    Found,
    fresh_salt,
    walk,
)
from headrace.storage.index_interface import IndexStore, LogIndex, Position
from headrace.storage.record import (
    MARKS,
    Extras,
    RecordInvalid,
    RecordType,
    accounted_size,
    parse_extras,
    parse_mark,
    parse_message,
    parse_skip,
)
from headrace.storage.segment import Segment, parse_segment_name
from headrace.storage.segment_writer import MARK_SIZE, SegmentWriter
from headrace.storage.segments import Segments
from headrace.storage.sidecar import OffsetsCache, is_missing_counted
from headrace.storage.snapshot import snapshot_records
from headrace.storage.state import DamagedPlace, Lost, Operation, Removal, State
from headrace.storage.state_log import LoadedState, StateLog, load_state, parse_state_name, write_generation
from headrace.storage.sync import Errands

SEGMENTS_FOLDER: Final = "seg"
ASIDE_FOLDER: Final = "aside"
ASIDE_SIZE_MAX: Final = 16 * 1024 * 1024
"""The most that is copied of one unreadable place."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the logs of a store have in common."""

    files: Files
    clock: Clock
    chance: Chance
    errands: Errands
    commit: GroupCommit
    blocks: Blocks
    offsets: OffsetsCache
    indexes: IndexStore
    segment_size_first: int
    segment_size_max: int


class _Appended(NamedTuple):
    """A message that the survey met."""

    segment: Segment
    sequence: int
    time_ns: int
    subject: bytes
    size: int
    extras: Extras


class _Skipped(NamedTuple):
    """Sequences used up without messages; `is_missing`: there were messages, which cannot be read."""

    segment: Segment
    first: int
    sequence: int
    time_ns: int
    is_missing: bool


@dataclass
class _Survey:
    """What the segments say from the checkpoint on."""

    last: int
    durable_to: int
    batch: int
    events: list[_Appended | _Skipped] = field(default_factory=list["_Appended | _Skipped"])
    damage: list[tuple[Segment, Damage, int]] = field(default_factory=list[tuple[Segment, Damage, int]])
    missing: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    named: int = 0


def recover(shared: Shared, folder: str, stream_id: int) -> FileLog:
    """Open the log in `folder`. Raises StateUnreadable and OSError."""
    loaded = load_state(shared.files, folder)
    state = loaded.state
    segments = Segments(shared.files, shared.blocks, shared.offsets)
    lost_files = _restore_segments(shared, folder, loaded, segments)
    is_clean = loaded.is_clean and not lost_files and _is_closed(shared.files, state, segments)
    survey = _surveyed(shared, state, segments, is_clean=is_clean)
    index = shared.indexes.open_log(stream_id, Position(survey.last, state.change))
    contents = _replayed(state, segments, survey, index, lost_files)
    writer = SegmentWriter(
        files=shared.files,
        chance=shared.chance,
        clock=shared.clock,
        errands=shared.errands,
        folder=f"{folder}/{SEGMENTS_FOLDER}",
        stream_id=stream_id,
        segments=segments,
        batch=survey.batch,
        size_first=shared.segment_size_first,
        size_max=shared.segment_size_max,
    )
    if is_clean and segments.all:
        writer.continue_in(segments.all[-1])
    found = [] if is_clean else _operations_of(shared, folder, loaded, survey, contents)
    state_log = _continued(shared, folder, stream_id, loaded, contents, survey.batch)
    log = FileLog(
        files=shared.files,
        clock=shared.clock,
        chance=shared.chance,
        errands=shared.errands,
        commit=shared.commit,
        folder=folder,
        stream_id=stream_id,
        config=state.config,
        created_ns=state.created_ns,
        first=state.first,
        consumers=state.consumers,
        contents=contents,
        writer=writer,
        state=state_log,
        damage=state.damage,
    )
    if not is_clean:
        _sync_found(shared.files, segments, survey, state_log)
        log.note_opened(found)
    return log


# ---- segments as the state log knows them


def _restore_segments(
    shared: Shared, folder: str, loaded: LoadedState, segments: Segments
) -> list[tuple[int, int]]:
    """Add every segment; give the ranges of sequences whose files are missing."""
    files, state = shared.files, loaded.state
    seg_folder = f"{folder}/{SEGMENTS_FOLDER}"
    names = set(files.list_folder(seg_folder))
    checkpoint = state.checkpoint
    missing: list[tuple[int, int]] = []
    known: dict[str, tuple[int, int]] = {}
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is not None:
            known[name] = parsed
        elif name.endswith(".new"):
            files.unlink(f"{seg_folder}/{name}")
    for name in sorted({*known, *state.segments}):
        row = state.segments.get(name)
        parsed = known.get(name) or parse_segment_name(name)
        if parsed is None:
            continue
        first, salt = parsed
        path = f"{seg_folder}/{name}"
        if name not in names:
            if row is not None and row.live_count:
                missing.append((first, row.last))
            continue
        if row is None and (name in state.dropped or (first <= checkpoint.sequence and not loaded.damage)):
            # It was dropped, durably; only its name was still there.
            _unlink(files, path)
            continue
        handle = shared.blocks.handle(Segment(first=first, salt=salt, path=path, capacity=0))
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
        segments.add(segment)
    segments.first = checkpoint.first or state.first
    for segment in segments.all:
        bits = state.gone_bits.get(segment.name)
        if bits is not None:
            segment.gone = bytearray(bits)
        for first, last in state.gone_ranges.get(segment.name, ()):
            for sequence in range(max(first, segments.first), last + 1):
                if segment.is_dense:
                    segment.set_gone(sequence - segment.first)
                else:
                    place = segments.offsets(segment).place(sequence)
                    if place >= 0:
                        segment.set_gone(place)
    return missing


def _is_closed(files: Files, state: State, segments: Segments) -> bool:
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
        end = files.pread(handle, MARK_SIZE, closed.used - MARK_SIZE)
    finally:
        files.close(handle)
    found = next(
        walk(lambda size, offset: end[offset : offset + size], segment.salt ^ (closed.used - MARK_SIZE), 0)
    )
    return isinstance(found, Found) and found.header.type == RecordType.CLOSE


# ---- the survey


def _surveyed(shared: Shared, state: State, segments: Segments, *, is_clean: bool) -> _Survey:
    checkpoint = state.checkpoint
    last = checkpoint.sequence or state.first - 1
    survey = _Survey(last=last, durable_to=checkpoint.sequence, batch=checkpoint.batch)
    survey.named = max(last, state.named_sequence())
    if not is_clean:
        for segment in segments.all:
            if segment.name == checkpoint.segment:
                _survey_segment(shared, segment, checkpoint.offset, survey)
            elif segment.first > checkpoint.sequence:
                _survey_segment(shared, segment, FILE_HEADER_SIZE, survey)
    expected = survey.last + 1
    survey.last = max(survey.last, survey.named, survey.durable_to)
    if survey.last >= expected:
        survey.missing.append((expected, survey.last))
        if segments.all and survey.durable_to >= expected:
            survey.events.append(_Skipped(segments.all[-1], expected, survey.last, 0, is_missing=True))
    return survey


def _survey_segment(shared: Shared, segment: Segment, start: int, survey: _Survey) -> None:
    handle = shared.blocks.handle(segment)

    def read(size: int, offset: int) -> bytes:
        return shared.files.pread(handle, size, offset)

    for found in walk(read, segment.salt, start):
        if isinstance(found, End):
            segment.used = segment.written = max(min(found.offset, segment.capacity), start)
        elif isinstance(found, Damage):
            survey.damage.append((segment, found, survey.last))
            header = found.header
            if header is not None and header.type == RecordType.MESSAGE and header.sequence > survey.last:
                _note_missing(survey, segment, header.sequence)
        else:
            try:
                _survey_record(segment, found, survey)
            except RecordInvalid as error:
                survey.damage.append(
                    (segment, Damage(found.offset, found.header.end, str(error), found.header), survey.last)
                )


def _survey_record(segment: Segment, found: Found, survey: _Survey) -> None:
    header, body = found.header, found.body
    if header.type == RecordType.MESSAGE:
        if header.sequence <= survey.last:
            return
        extras = parse_extras(header, body)
        view = parse_message(header, body)
        _note_missing(survey, segment, header.sequence - 1)
        survey.events.append(
            _Appended(
                segment,
                header.sequence,
                header.time_ns,
                view.subject,
                accounted_size(header, extras.size),
                extras,
            )
        )
        survey.last = header.sequence
    elif header.type == RecordType.SKIP:
        first, last = parse_skip(header, body)
        if last > survey.last:
            _note_missing(survey, segment, first - 1)
            survey.events.append(_Skipped(segment, first, last, header.time_ns, is_missing=False))
            survey.last = last
    elif header.type in MARKS:
        mark = parse_mark(header, body)
        survey.durable_to = max(survey.durable_to, mark.durable_to)
        survey.batch = max(survey.batch, mark.batch)
        survey.named = max(survey.named, header.sequence)


def _note_missing(survey: _Survey, segment: Segment, last: int) -> None:
    """Sequences up to `last` should have come before this place."""
    first = max(survey.last + 1, segment.first)
    if segment.first > survey.last + 1:
        # They were in a segment before this one, or lie in a gap that an earlier recovery left.
        survey.missing.append((survey.last + 1, segment.first - 1))
        survey.last = segment.first - 1
    if last >= first:
        survey.missing.append((first, last))
        is_missing = is_missing_counted(last - first + 1)
        survey.events.append(_Skipped(segment, first, last, 0, is_missing=is_missing))
        survey.last = last


# ---- the replay


def _replayed(
    state: State, segments: Segments, survey: _Survey, index: LogIndex, lost_files: list[tuple[int, int]]
) -> Contents:
    checkpoint = state.checkpoint
    contents = Contents(segments, index, first=state.first)
    segments.first = checkpoint.first or state.first
    contents.last = checkpoint.sequence or state.first - 1
    contents.last_time_ns = checkpoint.last_time_ns
    contents.messages = checkpoint.messages
    contents.size = checkpoint.size
    contents.lost = list(state.lost)
    if lost_files or state.checkpoint.messages != sum(each.live_count for each in segments.all):
        contents.messages = sum(each.live_count for each in segments.all)
        contents.size = sum(each.live_size for each in segments.all)
        segments.first = segments.next_live(segments.first) or contents.last + 1
    contents.is_replaying = True
    known = index.replay_from
    if known.sequence < checkpoint.sequence or known.change < checkpoint.change:
        index.rebuild()
        tell_all(contents, state.ids)
        index.mark(Position(checkpoint.sequence, checkpoint.change))
        known = Position(checkpoint.sequence, checkpoint.change)
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
    index.mark(Position(contents.last, state.change))
    return contents


def _replay_event(contents: Contents, event: _Appended | _Skipped, known: Position) -> None:
    if isinstance(event, _Appended):
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
    else:
        contents.skipped(event.segment, last=event.sequence, time_ns=event.time_ns)


def _replay_removal(contents: Contents, removal: Removal, known: Position) -> None:
    contents.tells = removal.change > known.change
    contents.remove_ranges(removal.ranges, removal.change)


# ---- what was found is written down


def _operations_of(
    shared: Shared, folder: str, loaded: LoadedState, survey: _Survey, contents: Contents
) -> list[Operation]:
    """List damage and loss in the contents, copy unreadable bytes aside, and give the operations that say so."""
    state = loaded.state
    operations: list[Operation] = [["opened", shared.clock.now_ns()]]
    places = list(loaded.damage)
    for segment, damage, before in survey.damage:
        header = damage.header
        sequence = 0 if header is None else header.sequence
        certain = (sequence or before + 1) <= survey.durable_to
        places.append(
            DamagedPlace(segment.name, damage.offset, damage.size, damage.what, sequence, sequence, certain)
        )
        _set_aside(shared.files, folder, segment, damage)
    known = {(place.file, place.offset) for place in state.damage}
    fresh = [place for place in places if (place.file, place.offset) not in known]
    state.damage.extend(fresh)
    operations += [["damage", *place] for place in fresh]
    held = {(each.first, each.last) for each in contents.lost}
    for lost in _lost(survey, state, contents):
        if (lost.first, lost.last) not in held:
            contents.lost.append(lost)
            operations.append(["lost", *lost])
    contents.lost.sort()
    return operations


def _lost(survey: _Survey, state: State, contents: Contents) -> Iterator[Lost]:
    """Give what is missing and was not removed, divided by what is known to be durable."""
    removed = [each for removal in state.removals for each in removal.ranges]
    removed += [
        each for event in survey.events if isinstance(event, _Appended) for each in event.extras.evicted
    ]
    removed.sort()
    newly = [(each, each) for each in contents.newly_lost]
    contents.newly_lost.clear()
    for missing in sorted({*survey.missing, *newly}):
        for first, last in _without(missing, removed):
            if first <= survey.durable_to < last:
                yield Lost(first, survey.durable_to, certain=True)
                yield Lost(survey.durable_to + 1, last, certain=False)
            else:
                yield Lost(first, last, certain=last <= survey.durable_to)


def _without(whole: tuple[int, int], parts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    first, last = whole
    for part_first, part_last in parts:
        if part_last < first:
            continue
        if part_first > last:
            break
        if part_first > first:
            yield first, part_first - 1
        first = part_last + 1
    if first <= last:
        yield first, last


def _set_aside(files: Files, folder: str, segment: Segment, damage: Damage) -> None:
    aside = f"{folder}/{ASIDE_FOLDER}"
    path = f"{aside}/{segment.name}-{damage.offset}"
    if files.status(path) is not None:
        return
    if files.status(aside) is None:
        files.make_folder(aside)
    source = files.open(segment.path)
    try:
        data = files.pread(source, min(damage.size, ASIDE_SIZE_MAX), damage.offset)
    finally:
        files.close(source)
    copy = files.create(path)
    try:
        files.pwrite(copy, data, 0)
        files.sync(copy)
    finally:
        files.close(copy)


def _continued(
    shared: Shared, folder: str, stream_id: int, loaded: LoadedState, contents: Contents, batch: int
) -> StateLog:
    """Go on in the state log that was found, or begin a new generation where it is damaged."""
    state, generation = loaded.state, loaded.generation
    for name in shared.files.list_folder(folder):
        number = parse_state_name(name.removesuffix(".new"))
        if number is not None and (name.endswith(".new") or number < generation.number - 1):
            shared.files.unlink(f"{folder}/{name}")
    if loaded.is_clean:
        return StateLog(shared.files, generation, snapshot_size=generation.used // 2, change=state.change)
    records = snapshot_records(
        contents,
        stream={"created_ns": state.created_ns, "id": f"{stream_id:016x}", "first": state.first},
        config=state.config,
        consumers=state.consumers,
        ids=state.ids,
        damage=state.damage,
        change=state.change,
        batch=batch,
    )
    header = FileHeader(
        FileKind.STATE, fresh_salt(shared.chance), stream_id, generation.number + 1, shared.clock.now_ns(), 0
    )
    shared.files.close(generation.handle)
    written = write_generation(shared.files, folder, header, records, change=state.change)
    return StateLog(shared.files, written, snapshot_size=written.used, change=state.change)


def _sync_found(files: Files, segments: Segments, survey: _Survey, state_log: StateLog) -> None:
    """Make durable what is going to be shown as durable."""
    touched = {event.segment.salt for event in survey.events}
    for segment in segments.all:
        if segment.salt in touched:
            handle = files.open(segment.path, writable=True)
            try:
                files.sync(handle)
            finally:
                files.close(handle)
            files.sync_folder(os.path.dirname(segment.path))
    files.sync(state_log.generation.handle)


def _unlink(files: Files, path: str) -> None:
    for each in (path, f"{path}.side"):
        if files.status(each) is not None:
            files.unlink(each)
