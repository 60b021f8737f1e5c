"""Reading a store without opening it: no locks, nothing written, at any time beside a running server.

What a server is about to write looks unfinished here: an unreadable end of a file is taken for a write in progress, and
a file that has gone (a dropped segment, an old state log) makes the reader list the folder again. What lies above the
highest `durable_to` is shown only when asked for, and marked: it may never be acknowledged.

Which messages a subject has is found by reading all of them: the index belongs to the server.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from headrace.core.base.message import View
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.contents import Contents
from headrace.storage.files import Files, RealFiles
from headrace.storage.index_interface import LogIndex
from headrace.storage.interface import (
    ConsumerRecord,
    CorruptRecord,
    Head,
    Matcher,
    StoreUnusable,
    SubjectState,
)
from headrace.storage.segments import Segments
from headrace.storage.sidecar import OffsetsCache
from headrace.storage.state import DamagedPlace, Lost
from headrace.storage.state_log import LoadedState, StateUnreadable, load_state
from headrace.storage.store import STREAMS_FOLDER, check_format
from headrace.storage.survey import Restored, Survey, is_closed, replay, restore_segments, survey_segments
from headrace.storage.untold_index import UntoldIndex

ATTEMPTS_MAX: Final = 20
"""How often a folder is listed again because a file had gone in between."""


class Message(NamedTuple):
    """A stored message. `is_settled`: it is known to have been durable when last written about."""

    view: View
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """A stream's folder, read as recovery would."""

    loaded: LoadedState
    restored: Restored
    survey: Survey
    contents: Contents
    is_clean: bool


class StreamReader:
    """One stream's folder as it was when this was made."""

    def __init__(self, files: Files, folder: str, stream_id: int) -> None:
        self.folder = folder
        self.stream_id = stream_id
        self._blocks = Blocks(files, size_max=DEFAULT_BOUNDS.cache_size)
        self._examined = examine(files, self._blocks, folder, UntoldIndex())

    @property
    def config(self) -> dict[str, Any]:
        """The stream's configuration as its owner stored it."""
        return self._examined.loaded.state.config

    @property
    def created_ns(self) -> int:
        return self._examined.loaded.state.created_ns

    @property
    def consumers(self) -> dict[str, ConsumerRecord]:
        return self._examined.loaded.state.consumers

    @property
    def lost(self) -> list[Lost]:
        """What is listed as lost, and what would be now."""
        survey = self._examined.survey
        settled = [each for each in survey.missing if each[0] <= survey.durable_to]
        found = [Lost(first, min(last, survey.durable_to), certain=True) for first, last in settled]
        found += [Lost(first, last, certain=True) for _, first, last in self._examined.restored.missing]
        listed = self._examined.loaded.state.lost
        return sorted({*listed, *found})

    @property
    def damage(self) -> list[DamagedPlace]:
        """Unreadable places, but for ends that may be writes in progress."""
        examined = self._examined
        places = list(examined.loaded.state.damage)
        end = examined.loaded.generation.used
        places += [each for each in examined.loaded.damage if each.offset + each.size < end]
        for segment, damage, before in examined.survey.damage:
            sequence = damage.header.sequence if damage.header is not None else 0
            certain = (sequence or before + 1) <= examined.survey.durable_to
            if certain or damage.offset + damage.size < segment.used:
                places.append(
                    DamagedPlace(
                        segment.name, damage.offset, damage.size, damage.what, sequence, sequence, certain
                    )
                )
        return list(dict.fromkeys(places))

    @property
    def is_clean(self) -> bool:
        """Whether the last session ended with a clean stop. False while a server has the store open."""
        return self._examined.is_clean

    @property
    def settled_to(self) -> int:
        """The highest sequence known to be durable."""
        return max(self._examined.survey.durable_to, 0 if not self.is_clean else self._examined.contents.last)

    def totals(self) -> Head:
        """Give the stream's state without what takes reading messages: `subject_count` and the first one's time."""
        contents = self._examined.contents
        first, last = contents.first, contents.last
        return Head(
            messages=contents.messages,
            size=contents.size,
            first_sequence=first if last else 0,
            last_sequence=last,
            last_time_ns=contents.last_time_ns,
            deleted_count=last - first + 1 - contents.messages,
            lost=tuple((each.first, each.last) for each in self.lost),
        )

    def head(self) -> Head:
        """Give the stream's state; reads every message to count the subjects."""
        totals = self.totals()
        view = self._read(totals.first_sequence) if totals.messages else None
        return replace(
            totals,
            first_time_ns=0 if view is None else view.time_ns,
            subject_count=len(self.subjects()),
        )

    def get(self, sequence: int) -> Message | None:
        """Give a message; None where there is none. Raises CorruptRecord."""
        where = self._examined.contents.segments.find(sequence)
        if where is None:
            return None
        return Message(self._examined.contents.segments.read(where).view, sequence <= self.settled_to)

    def messages(
        self, *, start: int = 1, match: Matcher | None = None, with_unsettled: bool = False
    ) -> Iterator[Message]:
        """Give the readable messages from `start` on that match."""
        segments = self._examined.contents.segments
        matches = _test(match)
        settled_to = self.settled_to
        for where in segments.live(start):
            try:
                view = segments.read(where).view
            except CorruptRecord:
                continue
            if view.sequence > settled_to and not with_unsettled:
                return
            if matches is None or matches(view.subject):
                yield Message(view, view.sequence <= settled_to)

    def subjects(self, match: Matcher | None = None) -> list[SubjectState]:
        """Count the messages of each subject, in byte order; reads all of them."""
        found: dict[bytes, SubjectState] = {}
        for message in self.messages(match=match, with_unsettled=True):
            sequence, _, subject, _, _ = message.view
            held = found.get(subject)
            if held is None:
                found[subject] = SubjectState(subject, 1, sequence, sequence)
            else:
                found[subject] = SubjectState(subject, held.count + 1, held.first_sequence, sequence)
        return [found[subject] for subject in sorted(found)]

    def last_of(self, subject: bytes) -> Message | None:
        """Give a subject's newest message."""
        newest = 0
        for state in self.subjects(_Literal(subject)):
            newest = state.last_sequence
        return self.get(newest) if newest else None

    def close(self) -> None:
        """Let go of the files."""
        self._blocks.close()

    def _read(self, sequence: int) -> View | None:
        try:
            message = self.get(sequence)
        except CorruptRecord:
            return None
        return None if message is None else message.view


class StoreReader:
    """A store's folder. Raises StoreUnusable where it is none."""

    def __init__(self, path: str, *, files: Files | None = None) -> None:
        self._files = files if files is not None else RealFiles()
        self.path = path
        status = self._files.status(path)
        if status is None or not status.is_folder:
            raise StoreUnusable(f"{path} is no folder")
        check_format(self._files, path)
        self.unreadable: list[tuple[str, str]] = []
        """Streams' folders whose state log cannot be read, each with the reason."""

    def streams(self) -> Iterator[StreamReader]:
        """Give each stream; close them after use. One that was deleted meanwhile is left out."""
        self.unreadable.clear()
        streams = f"{self.path}/{STREAMS_FOLDER}"
        for name in self._files.list_folder(streams):
            try:
                stream_id = int(name, 16)
            except ValueError:
                continue
            folder = f"{streams}/{name}"
            try:
                yield StreamReader(self._files, folder, stream_id)
            except FileNotFoundError:
                continue
            except StateUnreadable as error:
                self.unreadable.append((folder, str(error)))


def examine(files: Files, blocks: Blocks, folder: str, index: LogIndex) -> Examined:
    """Read a stream's folder as recovery would, changing nothing. Raises FileNotFoundError once it is gone."""
    for attempt in range(ATTEMPTS_MAX):
        try:
            examined = _examine(files, blocks, folder, index)
            if not examined.restored.missing or attempt == ATTEMPTS_MAX - 1:
                return examined
            # The server dropped segments since the state log was read, or they are lost.
            blocks.close()
        except (FileNotFoundError, StateUnreadable):
            if attempt == ATTEMPTS_MAX - 1 or files.status(folder) is None:
                raise
    raise AssertionError("the last attempt returns or raises")


def _examine(files: Files, blocks: Blocks, folder: str, index: LogIndex) -> Examined:
    loaded = load_state(files, folder, writable=False)
    files.close(loaded.generation.handle)
    segments = Segments(files, blocks, OffsetsCache(DEFAULT_BOUNDS.offsets_size_max))
    restored = restore_segments(files, blocks, folder, loaded, segments)
    is_clean = not restored.missing and loaded.is_clean and is_closed(files, loaded.state, segments)
    survey = survey_segments(files, blocks, loaded.state, segments, is_clean=is_clean)
    contents = replay(loaded.state, segments, survey, index, restored.missing)
    return Examined(loaded, restored, survey, contents, is_clean)


def _test(match: Matcher | None) -> Callable[[bytes], bool] | None:
    if match is None:
        return None
    return match.matches if match.literals is None else match.literals.__contains__


class _Literal:
    def __init__(self, subject: bytes) -> None:
        self.literals: frozenset[bytes] | None = frozenset((subject,))

    def matches(self, subject: bytes) -> bool:
        return self.literals is not None and subject in self.literals
