"""Opening a log: what a folder holds after a clean stop, a kill, or a power cut.

The rules are section 6 of docs/storage-format.md. In short: the state log gives the last checkpoint; from there on the
segments are read once (`Survey`), which says how far the log goes, what is durable, and what is missing; then
appends and removals are replayed in the order in which they happened, by the code that runs in service.

The survey comes before the replay because the index must hear how far the log was recovered before it is told anything.
Nothing is written unless something was damaged or the stop was not clean.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Final

from headrace.storage.contents import Contents
from headrace.storage.erasure import Erasure, erase
from headrace.storage.file_log import FileLog
from headrace.storage.files import Files
from headrace.storage.framing import (
    Damage,
    FileHeader,
    FileKind,
    fresh_salt,
)
from headrace.storage.index_interface import Position
from headrace.storage.journal_replay import JournalEntry
from headrace.storage.record import MARKS, NO_EXTRAS, encode_erased, parse_header
from headrace.storage.segment import COMPANIONS, SEGMENTS_FOLDER, Segment, parse_segment_name
from headrace.storage.segments import Segments
from headrace.storage.shared import Shared
from headrace.storage.snapshot import snapshot_records
from headrace.storage.state import DamagedPlace, Lost, Operation, State
from headrace.storage.state_log import LoadedState, StateLog, load_state, parse_state_name, write_generation
from headrace.storage.stream_folder import StreamFolder
from headrace.storage.survey import (
    PART,
    Appended,
    Restored,
    Survey,
    is_closed,
    replay,
    restore_segments,
    survey_segments,
)

ASIDE_FOLDER: Final = "aside"
ASIDE_SIZE_MAX: Final = 16 * 1024 * 1024
"""The most that is copied of one unreadable place."""

REWRITTEN_AT_ONCE: Final = 4 * 1024 * 1024


def recover(shared: Shared, folder: str, stream_id: int, entries: Sequence[JournalEntry] = ()) -> FileLog:
    """Open the log in `folder`, of which the journal held unreadable `entries`. Raises StateUnreadable and OSError."""
    loaded = load_state(shared.files, folder)
    if entries:
        loaded = _without_entries(shared.files, folder, loaded, entries)
    state = loaded.state
    segments = shared.segments()
    redone = _redo_erasures(shared.files, folder, state)
    restored = restore_segments(shared.files, shared.blocks, folder, loaded, segments)
    for path in restored.leftovers:
        _unlink(shared.files, path)
    is_sound = loaded.is_clean and not restored.missing and not restored.damage
    is_sound = is_sound and not redone and not state.secure
    is_clean = is_sound and is_closed(shared.files, state, segments)
    survey = survey_segments(shared.files, shared.blocks, state, segments, is_clean=is_clean)
    index = shared.indexes.open_log(stream_id, Position(survey.last, state.change))
    contents = replay(state, segments, survey, index, restored)
    stream_folder = StreamFolder(shared.files, folder)
    writer = shared.writer(stream_folder, stream_id, segments, batch=survey.batch)
    if is_clean and segments.all:
        writer.continue_in(segments.all[-1])
    found = [] if is_clean else _operations_of(shared, folder, loaded, restored, survey, contents)
    state_log = _continued(shared, folder, stream_id, loaded, contents, survey.batch)
    log = shared.log(
        stream_folder,
        stream_id,
        config=state.config,
        created_ns=state.created_ns,
        first=state.first,
        consumers=state.consumers,
        contents=contents,
        writer=writer,
        state=state_log,
        damage=state.damage,
        known_ids=state.ids,
    )
    if not is_clean:
        _sync_found(shared.files, segments, survey, state_log)
        log.note_opened([*found, *redone], len(survey.events))
        for removal in state.secure:
            log.erase(removal.ranges)
    return log


def _redo_erasures(files: Files, folder: str, state: State) -> list[Operation]:
    """Overwrite what was to be overwritten when the process ended; give the operations that say so."""
    todo = [
        Erasure(f"{folder}/{SEGMENTS_FOLDER}/{name}", name, offset, head, size)
        for _, name, offset, head, size in state.erasing.values()
    ]
    for _ in erase(files, todo):
        pass
    state.erasing.clear()
    return [["erased", [[each.name, each.offset] for each in todo]]] if todo else []


def _without_entries(
    files: Files, folder: str, loaded: LoadedState, entries: Sequence[JournalEntry]
) -> LoadedState:
    """List what the journal held for this log and could not be read; what that named is not used again."""
    state = loaded.state
    named = map(parse_segment_name, files.list_folder(f"{folder}/{SEGMENTS_FOLDER}"))
    salts = {each[1] for each in named if each is not None}
    places: list[DamagedPlace] = []
    for each in entries:
        if each.salt in salts:
            state.named = max(state.named, each.last)
            first, last = each.first, each.last
        else:
            state.change = max(state.change, each.last)
            first = last = 0
        places.append(
            DamagedPlace(each.journal, each.place, each.size, each.what, first, last, certain=False)
        )
    return loaded._replace(is_clean=False, damage=[*loaded.damage, *places])


# ---- what was found is written down


def _operations_of(
    shared: Shared,
    folder: str,
    loaded: LoadedState,
    restored: Restored,
    survey: Survey,
    contents: Contents,
) -> list[Operation]:
    """List damage and loss in the contents, copy unreadable bytes aside, and give the operations that say so."""
    state = loaded.state
    operations: list[Operation] = [["opened", shared.clock.now_ns(), survey.last]]
    places = [*loaded.damage, *restored.damage]
    for name, first, last in restored.missing:
        places.append(DamagedPlace(name, 0, 0, "the file is missing", first, last, certain=True))
        survey.missing.append((first, last))
        operations.append(["drop", name])
    for segment, damage, before in survey.damage:
        header = damage.header
        # A mark names a sequence that is another record's.
        sequence = 0 if header is None or header.type in MARKS else header.sequence
        certain = (sequence or before + 1) <= survey.durable_to
        places.append(
            DamagedPlace(segment.name, damage.offset, damage.size, damage.what, sequence, sequence, certain)
        )
        if damage.size:
            _set_aside(shared.files, folder, segment, damage)
    for part in survey.parts:
        _set_aside(shared.files, folder, part.segment, Damage(part.offset, part.record_size, PART))
        places.append(
            DamagedPlace(
                part.segment.name,
                part.offset,
                part.record_size,
                PART,
                part.sequence,
                part.sequence,
                certain=False,
            )
        )
    _erase_parts(shared.files, survey.parts)
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
    for segment in survey.empty:
        _unlink(shared.files, segment.path)
    return operations


def _erase_parts(files: Files, parts: Sequence[Appended]) -> None:
    """Overwrite what was set aside of atomic batches, so that no later reader takes it for messages."""
    todo: list[Erasure] = []
    for part in parts:
        segment = part.segment
        handle = files.open(segment.path)
        try:
            data = files.pread(handle, part.record_size, part.offset)
        finally:
            files.close(handle)
        head = encode_erased(parse_header(data, 0, segment.salt ^ part.offset), NO_EXTRAS)
        todo.append(Erasure(segment.path, segment.name, part.offset, head, part.record_size))
    for _ in erase(files, todo):
        pass


def _lost(survey: Survey, state: State, contents: Contents) -> Iterator[Lost]:
    """Give what is missing and was not removed, divided by what is known to be durable."""
    removed = [each for removal in state.removals for each in removal.ranges]
    removed += [
        each for event in survey.events if isinstance(event, Appended) for each in event.extras.evicted
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
        return shared.state_log(generation, snapshot_size=generation.used // 2, change=state.change)
    records = snapshot_records(
        contents,
        stream={"created_ns": state.created_ns, "id": f"{stream_id:016x}", "first": state.first},
        config=state.config,
        consumers=state.consumers,
        ids=state.ids,
        damage=state.damage,
        erasing=list(state.erasing.values()),
        change=state.change,
        batch=batch,
    )
    header = FileHeader(
        FileKind.STATE, fresh_salt(shared.chance), stream_id, generation.number + 1, shared.clock.now_ns(), 0
    )
    shared.files.close(generation.handle)
    written = write_generation(shared.files, folder, header, records, change=state.change)
    return shared.state_log(written, snapshot_size=written.used, change=state.change)


def _sync_found(files: Files, segments: Segments, survey: Survey, state_log: StateLog) -> None:
    """Make durable what is going to be shown as durable.

    A sync alone would not do: where one failed before the stop, the system holds pages that it believes to be on disk
    and will not write again. So what is not known to be durable is written once more, as it is.
    """
    touched = {event.segment.salt for event in survey.events}
    for segment in segments.all:
        if segment.salt in touched:
            handle = files.open(segment.path, writable=True)
            try:
                _write_again(files, handle, survey.unsettled_from(segment), segment.used)
                files.sync(handle)
            finally:
                files.close(handle)
            files.sync_folder(os.path.dirname(segment.path))
    generation = state_log.generation
    _write_again(files, generation.handle, 0, generation.used)
    files.sync(generation.handle)


def _write_again(files: Files, handle: int, offset: int, end: int) -> None:
    """Write a part of a file as it is, so that the next sync has something to do."""
    while offset < end:
        data = files.pread(handle, min(REWRITTEN_AT_ONCE, end - offset), offset)
        if not data:
            return
        files.pwrite(handle, data, offset)
        offset += len(data)


def _unlink(files: Files, path: str) -> None:
    for each in (path, *(f"{path}{suffix}" for suffix in COMPANIONS)):
        if files.status(each) is not None:
            files.unlink(each)
