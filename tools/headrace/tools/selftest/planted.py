"""Planted bugs: known mistakes, put into a running store by replacing a function, one at a time.

A campaign that finds nothing proves something only if it would have found these. Each is found by the campaign named
with it, within so many seeds. The product has no switch for any of them: what is replaced here is put back at the end.
"""

import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from headrace.storage import (
    framing,
    journal_replay,
    recovery,
    segments,
    snapshot,
    state,
    subject_indexes,
    survey,
    upkeep,
)
from headrace.storage.commit import GroupCommit
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.file_log import FileLog
from headrace.storage.index_interface import Position
from headrace.storage.journal import Journal
from headrace.storage.subject_index import SubjectIndex
from headrace.tools.selftest.bits import flip, record_bits
from headrace.tools.selftest.cases import Case, run_cases
from headrace.tools.selftest.growth import Row
from headrace.tools.selftest.power import power_cuts

SEEDS_MAX: Final = 300
"""Within so many cases a planted bug is found."""

Replacement = tuple[object, str, object]


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake: what is replaced by what, and which campaign finds it."""

    name: str
    replacements: Callable[[], list[Replacement]]
    campaign: str
    case: Case
    numbers: Callable[[], Iterator[int]] = itertools.count


@contextmanager
def planted(bug: Bug) -> Generator[None]:
    """Have the bug while this is open."""
    with ExitStack() as stack:
        for owner, name, value in bug.replacements():
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def run_planted(*, seconds: float = 0) -> list[Row]:
    """Plant each bug, and look for it; a row for each. `seconds`: the longest for one of them."""
    rows: list[Row] = []
    for bug in BUGS:
        started = time.monotonic()
        found = find(bug, seconds=seconds)
        took_s = time.monotonic() - started
        figure = f"{bug.campaign}: {found} ({took_s:.1f} s)" if found else f"{bug.campaign}: not found"
        rows.append(Row(bug.name, figure, passed=bool(found)))
    return rows


def find(bug: Bug, *, seconds: float = 0) -> str:
    """Run the campaign against the bug; give what it finds first and does not find without it, or nothing."""
    for number in itertools.islice(bug.numbers(), SEEDS_MAX):
        with planted(bug):
            tally = run_cases(bug.case, [number], seconds=seconds)
        if tally.findings and not run_cases(bug.case, [number]).findings:
            return f"case {number}: {tally.findings[0].text}"
    return ""


# ---- the bugs


def _do_nothing(*_: object, **__: object) -> None:
    pass


def _none_named(_: object) -> int:
    return 0


def _no_folder_sync() -> list[Replacement]:
    return [(FaultyFiles, "sync_folder", _do_nothing)]


def _ack_before_sync() -> list[Replacement]:
    def after_sync(_: GroupCommit, callback: Callable[[None], None], *__: object, **___: object) -> None:
        callback(None)

    return [(GroupCommit, "after_sync", after_sync)]


def _missing_checksum() -> list[Replacement]:
    return [(framing, "check_body", _do_nothing), (segments, "check_body", _do_nothing)]


def _confirmed_early() -> list[Replacement]:
    honest = FileLog.change_register

    def change_register(log: FileLog, name: str, change: Any, *, sync: bool) -> None:  # noqa: ANN401, ARG001
        honest(log, name, change, sync=False)

    return [(FileLog, "change_register", change_register)]


def _dedupe_forgotten() -> list[Replacement]:
    def no_operations(_: object) -> list[Any]:
        return []

    return [(upkeep, "_id_operations", no_operations)]


def _sequence_reused() -> list[Replacement]:
    honest = survey.survey_segments

    def survey_segments(*arguments: Any, **options: Any) -> survey.Survey:  # noqa: ANN401
        found = honest(*arguments, **options)
        appended = [each.sequence for each in found.events if isinstance(each, survey.Appended)]
        found.last = max(appended, default=max(found.last - 1, 0))
        return found

    return [(state.State, "named_sequence", _none_named), (recovery, "survey_segments", survey_segments)]


def _unlink_early() -> list[Replacement]:
    honest = upkeep.Upkeep.write_checkpoint

    def write_checkpoint(self: upkeep.Upkeep) -> bool:
        is_written = honest(self)
        hidden = vars(self)
        for path in hidden["_dropping"]:
            vars(upkeep)["_unlink_segment"](hidden["_files"], path)
        hidden["_dropping"].clear()
        return is_written

    return [(upkeep.Upkeep, "write_checkpoint", write_checkpoint)]


def _eviction_not_copied() -> list[Replacement]:
    def gone_operations(*_: object) -> Iterator[Any]:
        return iter(())

    honest = snapshot.capture

    def capture(*arguments: Any, **options: Any) -> snapshot.Capture:  # noqa: ANN401
        taken = honest(*arguments, **options)
        return taken._replace(operations=[each for each in taken.operations if each[0] != "gone"])

    return [(snapshot, "_gone_operations", gone_operations), (upkeep, "capture", capture)]


def _index_beyond_durable() -> list[Replacement]:
    honest = SubjectIndex.advance

    def advance(index: SubjectIndex, _: Position, budget_ns: int, *, urge: bool) -> bool:  # noqa: ARG001
        return honest(index, Position(1 << 60, 1 << 60), budget_ns, urge=True)

    def is_ahead(*_: object) -> bool:
        return False

    return [(SubjectIndex, "advance", advance), (subject_indexes, "is_ahead", is_ahead)]


def _retired_early() -> list[Replacement]:
    def sync_covered(*_: object) -> dict[str, str]:
        return {}

    return [(Journal, "_sync_covered", sync_covered)]


def _replay_creates() -> list[Replacement]:
    targets: Any = vars(journal_replay)["_Targets"]
    honest = targets.path

    def path(self: Any, entry: journal_replay.JournalEntry) -> str | None:  # noqa: ANN401
        found: str | None = honest(self, entry)
        if found is not None:
            return found
        hidden = vars(self)
        files, folder = hidden["_files"], f"{hidden['_streams']}/{entry.stream_id:016x}"
        for each in (folder, f"{folder}/seg"):
            if files.status(each) is None:
                files.make_folder(each)
        made = f"{folder}/seg/{entry.first:020d}-{entry.salt:016x}"
        files.close(files.create(made))
        hidden["_paths"].setdefault(entry.stream_id, {})[entry.salt] = made
        return made

    return [(targets, "path", path)]


def _replay_ignores_salt() -> list[Replacement]:
    targets: Any = vars(journal_replay)["_Targets"]
    honest = targets.path

    def path(self: Any, entry: journal_replay.JournalEntry) -> str | None:  # noqa: ANN401
        found: str | None = honest(self, entry)
        known = vars(self)["_paths"].get(entry.stream_id, {})
        if found is None and known:
            known[entry.salt] = max(known.values())
            return str(known[entry.salt])
        return found

    return [(targets, "path", path)]


def _with_lmdb() -> Iterator[int]:
    return itertools.count(1201, 8)


def _later() -> Iterator[int]:
    return itertools.count(80)


BUGS: Final = (
    Bug("the journal is retired before its files are synced", _retired_early, "power-cut", power_cuts),
    Bug("replay makes files that are gone", _replay_creates, "power-cut", power_cuts),
    Bug("replay ignores the salt", _replay_ignores_salt, "power-cut", power_cuts),
    Bug("no folder is synced", _no_folder_sync, "power-cut", power_cuts),
    Bug("a file is unlinked before its removal is durable", _unlink_early, "power-cut", power_cuts, _later),
    Bug("evictions are not copied before an unlink", _eviction_not_copied, "power-cut", power_cuts),
    Bug("a sequence is used again", _sequence_reused, "power-cut", power_cuts, _later),
    Bug("the index goes beyond what is durable", _index_beyond_durable, "power-cut", power_cuts, _with_lmdb),
    Bug("an answer comes before the sync", _ack_before_sync, "power-cut", power_cuts),
    Bug("a checksum is not checked", _missing_checksum, "bits", flip, record_bits),
    Bug("a confirmed ack is answered early", _confirmed_early, "power-cut", power_cuts),
    Bug("message ids are forgotten with their file", _dedupe_forgotten, "power-cut", power_cuts),
)
