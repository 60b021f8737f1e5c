"""The lookup index against dictionaries, through marks, writes, crashes and clean stops, on both kinds of tables."""

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.storage import index_root, index_rows, index_writer, subject_index, subject_indexes
from headrace.storage.files import RealFiles
from headrace.storage.index_interface import START, LogIndex, Position
from headrace.storage.index_root import IndexRoot
from headrace.storage.index_tables import MemoryTables
from headrace.storage.interface import SubjectState
from headrace.storage.subject_indexes import SubjectIndexes
from headrace.storage.sync import Wake

STREAM = 77
Note = tuple[object, ...]


class Steps:
    """A clock that moves at every look, so that a budget is a count of steps."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    def monotonic_ns(self) -> int:
        self.time_ns += 1
        return self.time_ns


@dataclass
class Model:
    """What was told and is still there, and all that was told, with the position of each note."""

    messages: dict[int, bytes] = field(default_factory=dict)
    ids: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    notes: list[tuple[Position, Note]] = field(default_factory=list)
    sequence: int = 0
    change: int = 0
    durable: Position = START

    @property
    def position(self) -> Position:
        return Position(self.sequence, self.change)

    def tell(self, index: LogIndex, note: Note) -> None:
        apply(index, note)
        self.take(note)
        self.notes.append((self.position, note))

    def take(self, note: Note) -> None:
        match note:
            case ("append", int(sequence), int(time_ns), bytes(subject), bytes(message_id)):
                self.sequence = sequence
                self.messages[sequence] = subject
                if message_id:
                    self.ids[message_id] = (sequence, time_ns)
            case ("removed", int(sequence), bytes(), int(change)):
                self.change = change or self.change
                del self.messages[sequence]
            case ("cleared", int(change)):
                self.change = change
                self.messages.clear()
            case _:
                raise AssertionError(note)


def apply(index: LogIndex, note: Note) -> None:
    match note:
        case ("append", int(sequence), int(time_ns), bytes(subject), bytes(message_id)):
            index.note_append(sequence, time_ns, subject, message_id)
        case ("removed", int(sequence), bytes(subject), int(change)):
            index.note_removed(sequence, subject, change)
        case ("cleared", int(change)):
            index.note_cleared(change)
        case _:
            raise AssertionError(note)


class Match:
    def __init__(self, start: bytes, literals: frozenset[bytes] | None = None) -> None:
        self.start = start
        self.literals = literals

    def matches(self, subject: bytes) -> bool:
        return subject in self.literals if self.literals is not None else subject.startswith(self.start)


LONG = b"long." + b"x" * 500
SUBJECTS = [
    b"a",
    b"b",
    b"b.c",
    *(b"s.%03d" % each for each in range(60)),
    LONG,
    LONG + b"1",
    LONG + b"0",
    LONG[:405],
]


def check(index: LogIndex, model: Model, random_: random.Random) -> None:
    by_subject: dict[bytes, list[int]] = {}
    for sequence in sorted(model.messages):
        by_subject.setdefault(model.messages[sequence], []).append(sequence)
    expected = {
        each: SubjectState(each, len(found), found[0], found[-1]) for each, found in by_subject.items()
    }
    if random_.random() < 0.5:
        assert index.subject_count == len(by_subject)
    for subject in random_.sample(SUBJECTS, 8):
        assert index.subject(subject) == expected.get(subject)
        start = random_.randint(0, model.sequence + 1)
        found = by_subject.get(subject, [])
        assert list(index.sequences(subject, start)) == [each for each in found if each >= start]
    assert index.subject_count == len(by_subject)
    after = random_.choice([b"", b"b", b"s.030", LONG[:405], LONG, LONG + b"0"])
    assert index.subjects(None, after=after) == [expected[each] for each in sorted(expected) if each > after]
    for match in (Match(b"s.0"), Match(b"long"), Match(b"", frozenset(random_.sample(SUBJECTS, 3)))):
        matching = [each for each, subject in sorted(model.messages.items()) if match.matches(subject)]
        limit = random_.choice([0, random_.randint(1, model.sequence + 1)])
        assert index.last_matching(match, limit) == max(
            (each for each in matching if limit == 0 or each <= limit), default=0
        )
        start = random_.randint(0, model.sequence + 1)
        assert index.count_matching(match, start) == sum(each >= start for each in matching)
        assert (
            index.subjects(match, count_max=5)
            == [expected[each] for each in sorted(expected) if match.matches(each)][:5]
        )
    for message_id in random_.sample(sorted(model.ids), min(3, len(model.ids))):
        sequence, time_ns = model.ids[message_id]
        assert index.find_message_id(message_id, 0) == sequence
        assert index.find_message_id(b"?" + message_id, 0) is None
        assert time_ns


@contextlib.contextmanager
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(subject_index, "LAYER_NOTES", 150)
        patch.setattr(subject_index, "LAYER_NOTES_MAX", 400)
        patch.setattr(subject_index, "KNOWN_MAX", 20)
        patch.setattr(subject_index, "PAGE", 7)
        patch.setattr(index_writer, "STEP_COUNT", 9)
        patch.setattr(index_writer, "RECENT_MAX", 6)
        patch.setattr(index_writer, "RECENT_KEPT", 3)
        patch.setattr(index_rows, "CHUNK_COUNT_MAX", 4)
        patch.setattr(index_rows, "RUN_COUNT_MAX", 9)
        patch.setattr(index_root, "SWEPT_AT_ONCE", 5)
        yield


@pytest.mark.parametrize("seed", range(3))
def test_an_index_that_another_process_writes_agrees_with_dictionaries_though_that_is_killed(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_ = random.Random(seed)
    wake = Wake()
    path = str(tmp_path / "index")
    with small_sizes(monkeypatch):
        model = Model()
        indexes = SubjectIndexes(path, Chance(seed), Steps(), RealFiles(), will_be_process=True)
        index = indexes.open_log(STREAM, Position(0, 0))
        indexes.start_process(wake.write_handle)
        assert not indexes.process_id, "it is started when there is something to do"
        has_started = False
        marks: list[tuple[Position, int]] = []
        for turn in range(150):
            for _ in range(random_.randint(0, 40)):
                if random_.random() < 0.7 or not model.messages:
                    message_id = b"id-%d" % model.sequence if random_.random() < 0.2 else b""
                    subject = random_.choice(SUBJECTS)
                    model.tell(index, ("append", model.sequence + 1, model.sequence + 5, subject, message_id))
                elif random_.random() < 0.99:
                    gone = random_.choice(list(model.messages))
                    model.tell(index, ("removed", gone, model.messages[gone], model.change + 1))
                else:
                    model.tell(index, ("cleared", model.change + 1))
            index.mark(model.position)
            marks.append((model.position, len(model.notes)))
            model.durable = marks[max(0, len(marks) - random_.randint(1, 3))][0]
            index.advance(model.durable, 0, urge=random_.random() < 0.3)
            if random_.random() < 0.5:
                indexes.wait()
            has_started |= indexes.process_id != 0
            if random_.random() < 0.06 and indexes.process_id:
                os.kill(indexes.process_id, signal.SIGKILL)
            if random_.random() < 0.2:
                check(index, model, random_)
            if turn % 50 == 49:
                indexes, index, model = _restarted(indexes, index, model, marks, path, random_, wake)
                check(index, model, random_)
        check(index, model, random_)
        assert has_started
        indexes.close()
    wake.close()


@pytest.mark.parametrize("kind", ["lmdb", "memory"])
@pytest.mark.parametrize("seed", range(12))
def test_the_index_agrees_with_dictionaries_through_writes_and_crashes(
    seed: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_ = random.Random(seed)
    tables = MemoryTables()
    if kind == "memory":
        # The memory tables outlive a crash here as a file would.
        def opened(path: str | None, chance: Chance) -> IndexRoot:
            return IndexRoot(tables, chance)

        monkeypatch.setattr(subject_indexes, "open_root", opened)
    path = str(tmp_path / "index")
    with small_sizes(monkeypatch):
        model = Model()
        indexes = SubjectIndexes(path, Chance(seed), Steps(), RealFiles())
        index = indexes.open_log(STREAM, Position(0, 0))
        marks: list[tuple[Position, int]] = []
        hot = random_.choice([1, 3, 60])
        for _ in range(250):
            for _ in range(random_.randint(0, 25)):
                act = random_.random()
                if act < 0.7 or not model.messages:
                    subject = random_.choice(SUBJECTS[:hot] if random_.random() < 0.8 else SUBJECTS)
                    message_id = b"id-%d" % model.sequence if random_.random() < 0.2 else b""
                    model.tell(index, ("append", model.sequence + 1, model.sequence + 5, subject, message_id))
                    mine = [each for each, name in model.messages.items() if name == subject]
                    if random_.random() < 0.4 and len(mine) > 12:
                        model.tell(index, ("removed", mine[0], subject, 0))
                elif act < 0.995:
                    gone = random_.choice(list(model.messages))
                    if random_.random() < 0.5:
                        gone = min(model.messages)
                    model.tell(index, ("removed", gone, model.messages[gone], model.change + 1))
                else:
                    model.tell(index, ("cleared", model.change + 1))
            index.mark(model.position)
            marks.append((model.position, len(model.notes)))
            if random_.random() < 0.8:
                durable = marks[max(0, len(marks) - random_.randint(1, 3))][0]
                model.durable = max(model.durable, durable)
                index.advance(model.durable, random_.randint(0, 12), urge=random_.random() < 0.2)
            if random_.random() < 0.15:
                check(index, model, random_)
            if random_.random() < 0.06:
                indexes, index, model = _restarted(indexes, index, model, marks, path, random_)
                check(index, model, random_)
        check(index, model, random_)
        indexes.close()


def _restarted(
    indexes: SubjectIndexes,
    index: LogIndex,
    model: Model,
    marks: list[tuple[Position, int]],
    path: str,
    random_: random.Random,
    process: Wake | None = None,
) -> tuple[SubjectIndexes, LogIndex, Model]:
    """End, cleanly or not; the log comes back at some mark that it had told to be durable, or a later one."""
    durable = marks[-1]
    if random_.random() < 0.4:
        index.advance(durable[0], 0)
        index.flush()
        assert index.replay_from == durable[0]
        indexes.close()
    else:
        _die(indexes)
        # A disk that lost what it had promised makes the index start anew.
        is_honest = random_.random() < 0.9
        durable = random_.choice([mark for mark in marks[-4:] if not is_honest or mark[0] >= model.durable])
    again = Model(durable=durable[0])
    again.notes = model.notes[: durable[1]]
    del marks[marks.index(durable) + 1 :]
    indexes = SubjectIndexes(path, Chance(9), Steps(), RealFiles(), will_be_process=bool(process))
    index = indexes.open_log(STREAM, durable[0])
    known = index.replay_from
    for position, note in again.notes:
        again.take(note)
        if position.sequence > known.sequence or position.change > known.change:
            apply(index, note)
    if process is not None:
        indexes.start_process(process.write_handle)
    index.mark(durable[0])
    assert again.position == durable[0]
    return indexes, index, again


def _die(indexes: SubjectIndexes) -> None:
    """The process is killed: nothing is synced, no marker is set."""
    indexes._indexer.close()
    if indexes._lock is not None:
        os.close(indexes._lock)
    environment = getattr(indexes.root.tables, "_environment", None)
    if environment is not None:
        environment.close()
