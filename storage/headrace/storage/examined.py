"""A stream's folder read as recovery would read it, changing nothing, at any time beside a running server.

The server goes on while this reads, so one look may meet files that go, and writes that are half done; what looks like
trouble is looked at again, and counts only when a second look finds the same. The order makes the rest right: the
state log is read before the segments, which are therefore never older than what it says of them.

What a reader shows ends at the highest `durable_to` (`is_settled_only`): appends behind it, and what they and later
operations removed, may never have been acknowledged.
"""

from dataclasses import dataclass, replace
from typing import Final

from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.contents import Contents
from headrace.storage.files import Files
from headrace.storage.framing import FILE_HEADER_SIZE
from headrace.storage.index_interface import LogIndex
from headrace.storage.record import MARKS
from headrace.storage.segments import Segments
from headrace.storage.sidecar import OffsetsCache
from headrace.storage.state import DamagedPlace, Lost
from headrace.storage.state_log import LoadedState, StateUnreadable, load_state
from headrace.storage.survey import (
    Appended,
    Restored,
    Skipped,
    Survey,
    is_closed,
    replay,
    restore_segments,
    survey_segments,
)

ATTEMPTS_MAX: Final = 20
"""How often a folder is looked at again because something had changed in between."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A stream's folder, read as recovery would."""

    loaded: LoadedState
    restored: Restored
    survey: Survey
    contents: Contents
    is_clean: bool

    @property
    def settled_to(self) -> int:
        """The highest sequence known to be durable."""
        return max(self.survey.durable_to, self.contents.last if self.is_clean else 0)

    @property
    def found_lost(self) -> list[Lost]:
        """What is missing below the durable point and not listed yet."""
        survey = self.survey
        settled = [each for each in survey.missing if each[0] <= survey.durable_to]
        found = [Lost(first, min(last, survey.durable_to), certain=True) for first, last in settled]
        found += [Lost(first, last, certain=True) for _, first, last in self.restored.missing]
        listed = set(self.loaded.state.lost)
        return [each for each in found if each not in listed]

    @property
    def found_damage(self) -> list[DamagedPlace]:
        """Unreadable places that are not listed yet, but for ends that may be writes in progress."""
        listed = set(self.loaded.state.damage)
        end = self.loaded.generation.used
        places = [each for each in self.loaded.damage if each.offset + each.size < end]
        for segment, damage, before in self.survey.damage:
            header = damage.header
            sequence = 0 if header is None or header.type in MARKS else header.sequence
            certain = (sequence or before + 1) <= self.survey.durable_to
            if certain or damage.offset + damage.size < segment.used:
                what = damage.what
                places.append(
                    DamagedPlace(segment.name, damage.offset, damage.size, what, sequence, sequence, certain)
                )
        return [each for each in dict.fromkeys(places) if each not in listed]

    @property
    def trouble(self) -> tuple[object, ...]:
        """Whatever may come from looking while the server writes; falsy where there is none."""
        found = (tuple(self.restored.missing), tuple(self.found_lost), tuple(self.found_damage))
        return found if any(found) else ()


def examine(
    files: Files, blocks: Blocks, folder: str, index: LogIndex, *, is_settled_only: bool = False
) -> Examined:
    """Read a stream's folder. Raises FileNotFoundError once it is gone, and StateUnreadable."""
    trouble: tuple[object, ...] = ()
    for attempt in range(ATTEMPTS_MAX):
        blocks.close()
        try:
            examined = _examine(files, blocks, folder, index, is_settled_only=is_settled_only)
        except (FileNotFoundError, StateUnreadable):
            if attempt == ATTEMPTS_MAX - 1 or files.status(folder) is None:
                raise
            continue
        if not examined.trouble or examined.trouble == trouble or attempt == ATTEMPTS_MAX - 1:
            return examined
        trouble = examined.trouble
    raise AssertionError("the last attempt returns or raises")


def _examine(
    files: Files, blocks: Blocks, folder: str, index: LogIndex, *, is_settled_only: bool
) -> Examined:
    loaded = load_state(files, folder, writable=False)
    files.close(loaded.generation.handle)
    segments = Segments(files, blocks, OffsetsCache(DEFAULT_BOUNDS.offsets_size_max))
    restored = restore_segments(files, blocks, folder, loaded, segments)
    is_clean = not restored.missing and loaded.is_clean and is_closed(files, loaded.state, segments)
    survey = survey_segments(files, blocks, loaded.state, segments, is_clean=is_clean)
    shown = _settled(survey, loaded, segments) if is_settled_only and not is_clean else survey
    contents = replay(loaded.state, segments, shown, index, restored)
    return Examined(loaded, restored, survey, contents, is_clean)


def _settled(survey: Survey, loaded: LoadedState, segments: Segments) -> Survey:
    """Give the survey as if the log ended where it is known to be durable; cuts the rest off the segments."""
    end = survey.durable_to
    if survey.last <= end:
        return survey
    events: list[Appended | Skipped] = []
    cut = set[int]()
    for event in survey.events:
        if event.sequence <= end:
            events.append(event)
            continue
        cut.add(event.segment.salt)
        if isinstance(event, Skipped) and event.is_missing and event.first <= end:
            events.append(event._replace(sequence=end))
    for segment in segments.all:
        if segment.salt in cut:
            marks = [offset for last, marked, offset in survey.marks if marked is segment and last <= end]
            segment.used = segment.written = max(marks, default=segment.used)
            if segment.first > end:
                segment.used = segment.written = FILE_HEADER_SIZE
    state = loaded.state
    state.removals = [each for each in state.removals if each.after <= end]
    return replace(survey, last=end, events=events)
