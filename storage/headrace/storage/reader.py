"""Reading a store without opening it: no locks, nothing written, at any time beside a running server.

The journal is laid over the files (`journal_replay.py`): what is in it was acknowledged, wherever a crash has left it.
A reader shows a stream as it was when it was looked at (`examined.py`). Messages are read when they are asked for;
where the server has dropped their file by then, the folder is looked at again and the reading goes on behind what was
given. What lies above the highest `durable_to` is shown only when asked for, and marked: it may never be acknowledged.

Which messages a subject has is found by reading all of them: the index belongs to the server.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

from headrace.core.base.message import View
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.examined import Examined, examine
from headrace.storage.files import Files, RealFiles
from headrace.storage.interface import (
    ConsumerRecord,
    CorruptRecord,
    Head,
    Matcher,
    StoreUnusable,
    SubjectState,
)
from headrace.storage.journal_replay import OverlaidFiles
from headrace.storage.segments import Segments
from headrace.storage.state import DamagedPlace, Lost
from headrace.storage.state_log import StateUnreadable
from headrace.storage.store import STREAMS_FOLDER, check_format
from headrace.storage.untold_index import UntoldIndex

LOOKS_MAX: Final = 1000
"""How often one reading looks again because a file had gone, before it gives up."""


class Message(NamedTuple):
    """A stored message. `is_settled`: it is known to have been durable when last written about."""

    view: View
    is_settled: bool


class StreamReader:
    """One stream's folder as it was when this was made, or when a file of it had gone since."""

    def __init__(self, files: Files, folder: str, stream_id: int) -> None:
        self.folder = folder
        self.stream_id = stream_id
        self._files = files
        self._blocks = Blocks(files, size_max=DEFAULT_BOUNDS.cache_size)
        self._whole_blocks = Blocks(files, size_max=DEFAULT_BOUNDS.cache_size)
        self._whole: Examined | None = None
        self._examined = examine(files, self._blocks, folder, UntoldIndex(), is_settled_only=True)

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
        return sorted({*self._examined.loaded.state.lost, *self._examined.found_lost})

    @property
    def damage(self) -> list[DamagedPlace]:
        """Unreadable places, but for ends that may be writes in progress."""
        return [*self._examined.loaded.state.damage, *self._examined.found_damage]

    @property
    def is_clean(self) -> bool:
        """Whether the last session ended with a clean stop. False while a server has the store open."""
        return self._examined.is_clean

    @property
    def settled_to(self) -> int:
        """The highest sequence known to be durable."""
        return self._examined.settled_to

    @property
    def unsettled_to(self) -> int:
        """The last sequence that is there at all; `settled_to` where nothing lies above it."""
        return max(self.settled_to, self._examined.survey.last)

    def totals(self) -> Head:
        """Give the settled state without what takes reading messages: `subject_count` and the first one's time."""
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
        """Give the settled state; reads every message to count the subjects."""
        totals = self.totals()
        view = self._read(totals.first_sequence) if totals.messages else None
        return replace(
            totals,
            first_time_ns=0 if view is None else view.time_ns,
            counted=lambda: len(self.subjects()),
        )

    def get(self, sequence: int, *, with_unsettled: bool = True) -> Message | None:
        """Give a message; None where there is none. Raises CorruptRecord."""
        for _ in range(LOOKS_MAX):
            is_beyond = sequence > self.settled_to
            if is_beyond and not with_unsettled:
                return None
            try:
                segments = self._segments(with_unsettled=is_beyond)
                where = segments.find(sequence)
                if where is None:
                    return None
                return Message(segments.read(where).view, sequence <= self.settled_to)
            except FileNotFoundError:
                if not self._look_again():
                    return None
        raise FileNotFoundError(f"{self.folder}: its files are replaced faster than they can be read")

    def messages(
        self, *, start: int = 1, match: Matcher | None = None, with_unsettled: bool = False
    ) -> Iterator[Message]:
        """Give the readable messages from `start` on that match."""
        matches = _test(match)
        for _ in range(LOOKS_MAX):
            try:
                for message in self._messages(start, with_unsettled=with_unsettled):
                    start = message.view.sequence + 1
                    if matches is None or matches(message.view.subject):
                        yield message
            except FileNotFoundError:
                if not self._look_again():
                    return
            else:
                return
        raise FileNotFoundError(f"{self.folder}: its files are replaced faster than they can be read")

    def subjects(self, match: Matcher | None = None, *, with_unsettled: bool = False) -> list[SubjectState]:
        """Count the messages of each subject, in byte order; reads all of them."""
        found: dict[bytes, SubjectState] = {}
        for message in self.messages(match=match, with_unsettled=with_unsettled):
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
        self._whole_blocks.close()

    def _messages(self, start: int, *, with_unsettled: bool) -> Iterator[Message]:
        segments = self._segments(with_unsettled=with_unsettled)
        settled_to = self.settled_to
        for where in segments.live(start):
            try:
                view = segments.read(where).view
            except CorruptRecord:
                continue
            yield Message(view, view.sequence <= settled_to)

    def _segments(self, *, with_unsettled: bool) -> Segments:
        """Give the segments as settled, or as a server would find them; the latter are looked at when asked for."""
        if not with_unsettled or self.is_clean:
            return self._examined.contents.segments
        if self._whole is None:
            self._whole = examine(self._files, self._whole_blocks, self.folder, UntoldIndex())
        return self._whole.contents.segments

    def _look_again(self) -> bool:
        """A file had gone: read the folder anew; tell whether it is still there."""
        self._whole = None
        try:
            self._examined = examine(
                self._files, self._blocks, self.folder, UntoldIndex(), is_settled_only=True
            )
        except FileNotFoundError:
            return False
        return True

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
        files = OverlaidFiles(self._files, self.path)
        streams = f"{self.path}/{STREAMS_FOLDER}"
        for name in self._files.list_folder(streams):
            try:
                stream_id = int(name, 16)
            except ValueError:
                continue
            folder = f"{streams}/{name}"
            try:
                yield StreamReader(files, folder, stream_id)
            except FileNotFoundError:
                continue
            except StateUnreadable as error:
                self.unreadable.append((folder, str(error)))


def _test(match: Matcher | None) -> Callable[[bytes], bool] | None:
    if match is None:
        return None
    return match.matches if match.literals is None else match.literals.__contains__


class _Literal:
    def __init__(self, subject: bytes) -> None:
        self.literals: frozenset[bytes] | None = frozenset((subject,))

    def matches(self, subject: bytes) -> bool:
        return self.literals is not None and subject in self.literals
