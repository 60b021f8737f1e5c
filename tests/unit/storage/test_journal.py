"""Cycles of many logs through the journal: switching, waiting, failing, being cut off at every step."""

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.storage.interface import Entry, LogFenced, StorageError, StreamLog
from headrace.storage.journal_replay import JournalEntry, journal_entries
from headrace.storage.store import FileStore, StoreOptions, open_store

BOUNDS = Bounds(segment_size_first=64 * 1024, journal_size=8192, journal_entry_size_max=1024)


class Lab:
    """A store of some streams on a faulty disk."""

    def __init__(self, *, seed: int = 1, count: int = 3, bounds: Bounds = BOUNDS) -> None:
        self.files = FaultyFiles(seed)
        self.scheduler = VirtualScheduler()
        self.bounds = bounds
        self.store = self.open()
        self.logs = [
            self.store.create({"name": f"S{each}"}, memory=False, created_ns=each) for each in range(count)
        ]
        self.confirmed: list[set[int]] = []
        assert self.commit() is None

    def open(self, *, sync_always: bool = True) -> FileStore:
        options = StoreOptions(
            is_index_in_memory=True,
            bounds=self.bounds,
            sync_always=sync_always,
            sync_interval_ns=0 if sync_always else NS_PER_S,
        )
        return open_store(
            "/store", scheduler=self.scheduler, chance=Chance(7), files=self.files, options=options
        )

    def append(self, payload: bytes = b"hello") -> None:
        """Append one message to every log."""
        for log in self.logs:
            log.append([Entry(b"a", b"", payload, self.scheduler.now_ns())])

    def commit(self) -> StorageError | None:
        answers: list[StorageError | None] = []
        self.store.after_sync(answers.append)
        self.store.commit()
        self.scheduler.settle()
        (answer,) = answers
        if answer is None:
            self.confirmed = [
                {each for each in range(1, log.head.last_sequence + 1) if log.get(each) is not None}
                for log in self.logs
            ]
        return answer

    def go_on(self, payload: bytes, *, pause_ns: int) -> None:
        """Append and commit until the power goes."""
        while True:
            self.append(payload)
            assert self.commit() is None
            self.scheduler.advance(pause_ns)

    def come_back(self, files: FaultyFiles) -> None:
        self.files = files
        self.scheduler = VirtualScheduler(self.scheduler.now_ns())
        self.store = self.open()
        self.logs = sorted(self.store.logs(), key=lambda log: log.created_ns)

    def entries(self) -> list[JournalEntry]:
        return list(journal_entries(self.files, "/store"))

    def check(self) -> None:
        """What was confirmed is there."""
        for log, confirmed in zip(self.logs, self.confirmed, strict=True):
            assert {each for each in confirmed if log.get(each) is None} == set()
            assert log.head.last_sequence >= max(confirmed, default=0)
            assert not any(first <= each <= last for first, last in log.head.lost for each in confirmed)


def test_one_file_is_synced_by_itself() -> None:
    lab = Lab(count=1)
    lab.append()
    assert lab.commit() is None
    assert lab.entries() == []


def test_many_files_go_through_the_journal_and_a_power_cut_loses_none() -> None:
    lab = Lab()
    lab.append()
    assert lab.commit() is None
    assert {entry.stream_id for entry in lab.entries()} == {log.stream_id for log in lab.logs}
    lab.come_back(lab.files.power_cut())
    lab.check()
    assert lab.entries() == []


def test_an_entry_takes_along_what_was_written_without_a_sync() -> None:
    lab = Lab()
    lab.append()
    assert lab.commit() is None
    lab.scheduler.advance(NS_PER_S)  # marks of idle streams, not synced
    lab.append()
    assert lab.commit() is None
    ends: dict[int, int] = {}
    for entry in lab.entries():
        assert ends.get(entry.salt, entry.offset) == entry.offset, "no hole between two entries"
        ends[entry.salt] = entry.offset + entry.size
    lab.come_back(lab.files.power_cut())
    lab.check()
    assert [log.head.lost for log in lab.logs] == [()] * 3


def test_a_file_with_much_to_write_is_synced_by_itself() -> None:
    lab = Lab()
    lab.append(b"x" * 2000)
    assert lab.commit() is None
    assert lab.entries() == []
    lab.come_back(lab.files.power_cut())
    lab.check()


def test_journals_are_used_in_turn_and_the_full_one_is_retired() -> None:
    lab = Lab()
    for _ in range(100):
        lab.append(b"x" * 100)
        assert lab.commit() is None
    assert 0 < len(lab.entries()) < 60
    lab.come_back(lab.files.power_cut())
    lab.check()


def test_a_clean_stop_leaves_empty_journals() -> None:
    lab = Lab()
    lab.append()
    assert lab.commit() is None
    lab.store.close()
    assert lab.entries() == []
    lab.come_back(lab.files.power_cut())
    lab.check()


def test_a_failed_journal_sync_fences_the_store_and_reads_go_on() -> None:
    lab = Lab()
    lab.append()
    assert lab.commit() is None
    lab.append()
    lab.files.fail("sync", where="journal")
    assert lab.commit() is not None
    assert all("journal" in log.fenced for log in lab.logs)
    with pytest.raises(LogFenced):
        lab.append()
    with pytest.raises(LogFenced):
        lab.store.create({}, memory=False, created_ns=9)
    assert all(log.get(1) is not None and log.durable_sequence == 1 for log in lab.logs)
    lab.come_back(lab.files.killed())
    lab.check()


def test_a_failed_late_sync_fences_its_stream_and_keeps_the_journal_for_the_next_start() -> None:
    lab = Lab()
    doomed = lab.logs[0]
    lab.append()
    assert lab.commit() is None
    for index in range(200):
        for log in lab.logs:
            if not log.fenced:
                log.append([Entry(b"a", b"", b"x" * 100, 1)])
        lab.files.fail("sync", where=f"{doomed.stream_id:016x}") if index == 0 else None
        assert lab.commit() is None
    assert [bool(log.fenced) for log in lab.logs] == [True, False, False]
    lab.come_back(lab.files.killed())
    lab.check()


def test_the_answer_of_a_fenced_log_is_an_error_and_the_others_is_not() -> None:
    lab = Lab()
    lab.append(b"x" * 2000)  # too much for an entry: each file is synced by itself
    lab.files.fail("sync", where=f"{lab.logs[1].stream_id:016x}")
    answers: dict[int, StorageError | None] = {}

    def ask(index: int, log: StreamLog) -> None:
        lab.store.after_sync(lambda error: answers.__setitem__(index, error), log)

    for index, log in enumerate(lab.logs):
        ask(index, log)
    lab.store.commit()
    lab.scheduler.settle()
    assert [answers[each] is None for each in range(3)] == [True, False, True]
    ask(1, lab.logs[1])
    assert answers[1] is not None


def test_a_change_of_a_log_that_was_fenced_meanwhile_is_not_written_and_answered_with_an_error() -> None:
    lab = Lab(count=1)
    lab.append()
    lab.files.fail("sync")
    answers: list[StorageError | None] = []
    lab.store.after_sync(answers.append)
    lab.store.commit()
    lab.append()
    lab.store.after_sync(answers.append)
    lab.scheduler.settle()
    assert [answer is None for answer in answers] == [False, False]


def test_in_the_relaxed_mode_the_interval_syncs_what_was_written_before() -> None:
    lab = Lab()
    lab.store.close()
    lab.store = lab.open(sync_always=False)
    lab.logs = sorted(lab.store.logs(), key=lambda log: log.created_ns)
    lab.append()
    assert lab.commit() is None
    lab.scheduler.advance(2 * NS_PER_S)
    lab.come_back(lab.files.power_cut())
    lab.check()


def test_emptying_the_journal_leaves_nothing_of_it_and_loses_nothing() -> None:
    lab = Lab()
    lab.append(b"secret")
    assert lab.commit() is None
    heard: list[OSError | None] = []
    journal = lab.store._journal  # pyright: ignore[reportPrivateUsage]  (only upkeep asks for it)
    journal.empty(heard.append)
    lab.scheduler.settle()
    assert heard == [None]
    for name in ("journal-0", "journal-1"):
        handle = lab.files.open(f"/store/{name}")
        assert b"secret" not in lab.files.pread(handle, 8192, 0)
        lab.files.close(handle)
    lab.append()
    assert lab.commit() is None
    lab.come_back(lab.files.power_cut())
    lab.check()


@pytest.mark.parametrize("nth", range(1, 120, 2))
def test_a_power_cut_at_any_change_loses_nothing_confirmed(nth: int) -> None:
    lab = Lab(seed=nth)
    lab.append()
    assert lab.commit() is None
    lab.files.cut_at(nth)
    with pytest.raises(PowerLost):
        lab.go_on(b"y" * (nth * 7), pause_ns=0 if nth % 3 else NS_PER_S)
    lab.come_back(lab.files.power_cut())
    lab.check()
    lab.append()
    assert lab.commit() is None
    lab.come_back(lab.files.power_cut())
    lab.check()


@pytest.mark.parametrize("nth", range(1, 30))
def test_a_power_cut_within_the_replay_loses_nothing_confirmed(nth: int) -> None:
    lab = Lab(seed=nth)
    for _ in range(4):
        lab.append(b"z" * 200)
        assert lab.commit() is None
    files = lab.files.power_cut()
    files.cut_at(nth)
    try:
        lab.come_back(files)
    except PowerLost:
        lab.come_back(files.power_cut())
    lab.check()
