"""A lookup index that is lost or wrong is rebuilt while the log serves, and then says what it said before."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, VirtualScheduler
from headrace.storage import part_notes, subject_index
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.file_log import FileLog
from headrace.storage.index_root import IndexRoot
from headrace.storage.index_rows import name_key, prefix_bytes, seal, unseal
from headrace.storage.index_tables import Table
from headrace.storage.interface import Effect, Entry, IndexRebuilding, StreamLog, SubjectState
from headrace.storage.lmdb_tables import LmdbTables
from headrace.storage.store import FileStore, StoreOptions, open_store

BOUNDS = Bounds(segment_size_first=4096, segment_size_max=8192, checkpoint_count=40, generation_size_min=2000)


class Any:
    literals = None

    def __init__(self, start: bytes = b"") -> None:
        self.start = start

    def matches(self, subject: bytes) -> bool:
        return subject.startswith(self.start)


class Literal:
    def __init__(self, *subjects: bytes) -> None:
        self.literals = frozenset(subjects)

    def matches(self, subject: bytes) -> bool:
        return subject in self.literals


class Place:
    """A store whose log is on a disk in memory, and whose index is in LMDB."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = FaultyFiles(1)
        self.seed = 0
        self.open()

    def open(self) -> None:
        self.seed += 1
        self.scheduler = VirtualScheduler(1 << 40)
        self.store: FileStore = open_store(
            self.path,
            scheduler=self.scheduler,
            chance=Chance(self.seed),
            files=self.files,
            options=StoreOptions(bounds=BOUNDS),
        )

    @property
    def log(self) -> StreamLog:
        return self.store.logs()[0]

    def commit(self) -> None:
        answers: list[object] = []
        self.store.after_sync(answers.append)
        self.store.commit()
        self.scheduler.settle()
        assert answers == [None]

    def damage(self, text: bytes) -> None:
        """Change a byte of the segment that holds `text`."""
        log = self.log
        assert isinstance(log, FileLog)
        folder = f"{log.folder}/seg"
        for name in self.files.list_folder(folder):
            handle = self.files.open(f"{folder}/{name}", writable=True)
            content = self.files.pread(handle, self.files.size(handle), 0)
            if text in content:
                self.files.pwrite(handle, b"#", content.index(text))
                return
        raise AssertionError("no segment holds it")

    def lose_index(self) -> None:
        shutil.rmtree(f"{self.path}/index")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(str(tmp_path / "store"))
    yield place
    place.store.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild takes many turns, and nobody waits for it."""
    monkeypatch.setattr(subject_index, "HURRY_NS", 0)
    monkeypatch.setattr(subject_index, "LEFT_AT_STOP", 3)
    monkeypatch.setattr(part_notes, "NOTES_MAX", 20)


def change(log: StreamLog, random_: random.Random, count: int) -> None:
    """Append, roll up, evict, delete and purge a little."""
    for _ in range(count):
        act = random_.random()
        head = log.head
        if act < 0.8 or head.messages < 10:
            subject = b"s.%d" % random_.randrange(30)
            effect = Effect()
            if random_.random() < 0.05:
                effect = Effect(subject_before=True)
            elif random_.random() < 0.1:
                effect = Effect(evicted=(log.next_sequence(random_.randint(1, head.last_sequence + 1)),))
            message_id = b"id-%d" % head.last_sequence if random_.random() < 0.3 else b""
            log.append([Entry(subject, b"", b"x" * random_.randrange(60), 1 << 40, message_id, 0, effect)])
        elif act < 0.97:
            sequence = log.next_sequence(random_.randint(1, head.last_sequence))
            log.remove([(sequence, sequence)])
        else:
            log.remove([(head.first_sequence, head.first_sequence + random_.randrange(head.messages // 2))])


def truth(log: StreamLog) -> tuple[list[SubjectState], dict[bytes, int]]:
    """Give what the index must say, from the messages alone."""
    found: dict[bytes, list[int]] = {}
    head = log.head
    views = log.scan(
        1, head.last_sequence, None, messages_max=1 << 20, size_max=1 << 40, steps_max=1 << 20
    ).views
    for view in views:
        found.setdefault(view.subject, []).append(view.sequence)
    states = [SubjectState(each, len(found[each]), found[each][0], found[each][-1]) for each in sorted(found)]
    return states, {}


def check(log: StreamLog) -> None:
    states, _ = truth(log)
    assert log.subjects(None) == states
    assert log.head.subject_count == len(states)
    for state in states[::3]:
        assert log.subject(state.subject) == state
        middle = (state.first_sequence + state.last_sequence) // 2
        match = Any(state.subject)
        views = log.scan(middle, log.head.last_sequence, match, messages_max=9999, size_max=1 << 40).views
        assert log.count_matching(match, middle) == len(views)


def known_ids(log: StreamLog, last: int) -> dict[bytes, int | None]:
    return {b"id-%d" % each: log.find_message_id(b"id-%d" % each, 0) for each in range(last)}


@pytest.mark.parametrize("seed", range(6))
def test_a_lost_index_is_rebuilt_to_what_it_was(place: Place, seed: int) -> None:
    random_ = random.Random(seed)
    log = place.store.create({}, memory=False, created_ns=1)
    for _ in range(4):
        change(log, random_, 120)
        place.commit()
        before = log.subjects(None), known_ids(log, log.head.last_sequence), log.head
        if random_.random() < 0.5:
            place.store.close()
        else:
            place.files = place.files.killed()
            place.store._indexes.close()
        place.lose_index()
        place.open()
        log = place.log
        assert log.is_index_ready
        check(log)
        assert (log.subjects(None), known_ids(log, log.head.last_sequence), log.head) == before


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("seed", range(8))
def test_a_log_that_changes_while_its_index_is_rebuilt_ends_with_the_right_one(
    place: Place, seed: int
) -> None:
    random_ = random.Random(100 + seed)
    log = place.store.create({}, memory=False, created_ns=1)
    change(log, random_, 300)
    place.commit()
    place.store.close()
    place.lose_index()
    place.open()
    log = place.log
    told: list[bool] = []
    assert not log.is_index_ready
    log.when_index_ready(lambda: told.append(True))
    with pytest.raises(IndexRebuilding):
        log.subject(b"s.1")
    turns = 0
    while not told:
        last = log.head.last_sequence
        for _ in range(random_.randrange(4)):
            if random_.random() < 0.5:
                log.append([Entry(b"s.%d" % random_.randrange(40), b"", b"y", 1 << 40)])
            else:
                sequence = log.next_sequence(random_.randint(1, last))
                log.remove([(sequence, sequence)])
        if random_.random() < 0.02:
            log.remove([(1, last)])
        place.commit()
        place.scheduler.advance(2 * NS_PER_MS)
        turns += 1
        assert turns < 2000
    check(log)
    place.commit()
    place.scheduler.advance(1000 * NS_PER_MS)
    place.store.close()
    place.open()
    assert place.log.is_index_ready, "the rebuilt rows are stamped, and trusted by the next start"
    check(place.log)


@pytest.mark.usefixtures("slow")
def test_a_rebuild_that_was_cut_short_begins_again(place: Place) -> None:
    random_ = random.Random(5)
    log = place.store.create({}, memory=False, created_ns=1)
    change(log, random_, 300)
    place.commit()
    place.store.close()
    place.lose_index()
    for _ in range(3):
        place.open()
        assert not place.log.is_index_ready
        place.scheduler.advance(NS_PER_MS)
        place.files = place.files.killed()
        place.store._indexes.close()
    place.open()
    place.scheduler.advance(3000 * NS_PER_MS)
    assert place.log.is_index_ready
    check(place.log)


@pytest.mark.usefixtures("slow")
def test_a_stream_serves_by_sequence_while_its_index_is_rebuilt(place: Place) -> None:
    log = place.store.create({}, memory=False, created_ns=1)
    log.append([Entry(b"a", b"", b"%d" % each, 1) for each in range(200)])
    place.commit()
    place.store.close()
    place.lose_index()
    place.open()
    log = place.log
    assert not log.is_index_ready
    view = log.get(77)
    assert view is not None
    assert view.payload == b"76"
    log.append([Entry(b"a", b"", b"more", 1)])
    assert log.head.messages == 201
    assert log.count_matching(None, 100) == 102
    place.commit()
    assert log.durable_sequence == 201


def damaged_in_two_places(place: Place) -> StreamLog:
    log = place.store.create({}, memory=False, created_ns=1)
    for each in range(1, 401):
        log.append([Entry(b"s.%d" % (each % 7), b"", b"payload-%05d" % each, 1 << 40)])
    log.remove([(100, 100)])
    place.commit()
    for sequence in (30, 31, 100, 250):
        place.damage(b"payload-%05d" % sequence)
    place.store.close()
    place.lose_index()
    place.open()
    return place.log


def test_a_rebuild_lists_the_damage_that_it_passes_over(place: Place) -> None:
    log = damaged_in_two_places(place)
    assert log.is_index_ready
    assert log.head.lost == ((30, 30), (31, 31), (250, 250))
    assert log.head.messages == 396
    check(log)


@pytest.mark.usefixtures("slow")
def test_a_rebuild_beside_the_service_lists_damage_once_and_does_not_begin_again(place: Place) -> None:
    log = damaged_in_two_places(place)
    lines: list[str] = []
    place.store.on_finding = lambda _, text: lines.append(text)
    told: list[bool] = []
    log.when_index_ready(lambda: told.append(True))
    for _ in range(300):
        place.scheduler.advance(2 * NS_PER_MS)
    assert told == [True]
    assert sorted(log.head.lost) == [(30, 30), (31, 31), (250, 250)]
    assert [line.split(" cannot")[0] for line in lines if "cannot" in line] == [
        "message 30",
        "message 31",
        "message 250",
    ]
    check(log)
    place.commit()
    place.store.close()
    place.lose_index()
    place.open()
    place.store.on_finding = lambda _, text: lines.append(text)
    count = len(lines)
    place.scheduler.advance(600 * NS_PER_MS)
    assert place.log.is_index_ready
    assert len(lines) == count
    assert sorted(place.log.head.lost) == [(30, 30), (31, 31), (250, 250)]
    check(place.log)


def mistaken(place: Place) -> tuple[StreamLog, list[str]]:
    """Have the index say of s.1 what it should say of s.2, with every checksum right."""
    log = place.store.create({}, memory=False, created_ns=1)
    for each in range(1, 301):
        message_id = b"id-%d" % each if each < 5 else b""
        log.append([Entry(b"s.%d" % (each % 3), b"", b"%d" % each, 1 << 40, message_id)])
    place.commit()
    place.scheduler.advance(100 * NS_PER_MS)
    stream_id = log.stream_id
    place.store.close()
    tables = LmdbTables(f"{place.path}/index")
    root = IndexRoot(tables, Chance(1))
    with tables.write() as transaction:
        row = root.load_log(transaction, stream_id)
        assert row is not None
        prefix = prefix_bytes(row.subject_prefix)
        keys = [name_key(prefix, subject, root.secret) for subject in (b"s.1", b"s.2")]
        payload = unseal(keys[1], transaction.get(Table.SUBJECTS, keys[1]) or b"")
        transaction.put(Table.SUBJECTS, keys[0], seal(keys[0], payload.replace(b"s.2", b"s.1")))
        ids = prefix_bytes(row.id_prefix)
        keys = [name_key(ids, each, root.secret) for each in (b"id-1", b"id-2")]
        payload = unseal(keys[1], transaction.get(Table.IDS, keys[1]) or b"")
        transaction.put(Table.IDS, keys[0], seal(keys[0], payload.replace(b"id-2", b"id-1")))
    tables.close()
    place.open()
    assert place.log.is_index_ready
    lines: list[str] = []
    place.store.on_finding = lambda _, text: lines.append(text)
    return place.log, lines


@pytest.mark.parametrize("ask", range(5))
def test_an_index_that_names_other_messages_than_the_log_has_is_rebuilt_before_it_answers(
    place: Place, ask: int
) -> None:
    log, lines = mistaken(place)
    literal = Literal(b"s.1")
    asked: list[Callable[[], object]] = [
        lambda: log.subject(b"s.1"),
        lambda: [each.sequence for each in log.scan(1, 300, literal, messages_max=3, size_max=1 << 20).views],
        lambda: log.find_message_id(b"id-1", 0),
        lambda: getattr(log.last_matching(literal), "sequence", 0),
        lambda: log.append([Entry(b"s.1", b"", b"", 1, b"", 0, Effect(subject_before=True))]),
    ]
    expected: list[object] = [SubjectState(b"s.1", 100, 1, 298), [1, 4, 7], 1, 298, 301]
    assert asked[ask]() == expected[ask]
    assert len(lines) == 1, "it is said once"
    assert "rebuilt" in lines[0]
    assert log.is_index_ready
    if ask == 4:
        assert log.subject(b"s.1") == SubjectState(b"s.1", 1, 301, 301)
        assert log.subject(b"s.2") == SubjectState(b"s.2", 100, 2, 299)
    check(log)


@pytest.mark.usefixtures("slow")
def test_a_scan_reads_the_log_while_a_mistaken_index_is_rebuilt(place: Place) -> None:
    log, lines = mistaken(place)
    found = log.scan(1, 300, Literal(b"s.1"), messages_max=999, size_max=1 << 20).views
    assert [each.sequence for each in found] == list(range(1, 300, 3))
    assert not log.is_index_ready
    assert len(lines) == 1
