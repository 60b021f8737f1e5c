"""What the tests of storage share: a store on a disk in memory, in virtual time."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.interface import Entry, StorageError, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store

SMALL = Bounds(
    segment_size_first=4096,
    segment_size_max=8192,
    checkpoint_count=30,
    generation_size_min=2000,
    journal_size=16384,
    journal_entry_size_max=4096,
)


class Disk:
    """A store that can be committed, killed and opened again."""

    def __init__(self, **options: Any) -> None:
        self.options = StoreOptions(is_index_in_memory=True, bounds=SMALL, **options)
        self.files = FaultyFiles(1)
        self.scheduler = VirtualScheduler()
        self.seed = 1
        self.store = self.open()

    def open(self) -> FileStore:
        self.seed += 1
        self.store = open_store(
            "/store",
            scheduler=self.scheduler,
            chance=Chance(self.seed),
            files=self.files,
            options=self.options,
        )
        return self.store

    def log(self, name: str = "S", first_sequence: int = 0) -> StreamLog:
        return self.store.create({"name": name}, memory=False, created_ns=7, first_sequence=first_sequence)

    def entry(self, subject: bytes = b"a", payload: bytes = b"x", **rest: Any) -> Entry:
        return Entry(subject, rest.pop("headers", b""), payload, self.scheduler.now_ns(), **rest)

    def commit(self) -> StorageError | None:
        answers: list[StorageError | None] = []
        self.store.after_sync(answers.append)
        self.store.commit()
        self.scheduler.settle()
        assert len(answers) == 1
        return answers[0]

    def idle(self) -> None:
        self.scheduler.advance(NS_PER_S)

    def kill(self) -> Sequence[StreamLog]:
        self.scheduler = VirtualScheduler(self.scheduler.now_ns())
        self.files = self.files.killed()
        return self.open().logs()

    def reopen(self) -> Sequence[StreamLog]:
        self.store.close()
        return self.open().logs()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def make_disk() -> Callable[..., Disk]:
    return Disk
