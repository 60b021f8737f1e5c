"""A file store on a faulty disk, in virtual time: opened, killed, cut from its power, opened again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, NS_PER_S, VirtualScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.interface import StorageError, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store
from headrace.storage.subject_indexes import SubjectIndexes
from headrace.tools.selftest.cases import expect

BOUNDS: Final = Bounds(
    segment_size_first=4096,
    segment_size_max=16384,
    checkpoint_count=40,
    checkpoint_size=8192,
    generation_size_min=4096,
    fold_size_min=16,
    rewrite_share_max=0.7,
    rewrite_gain_min=512,
    offsets_size_max=4096,
    cache_size=65536,
    journal_size=16384,
    journal_entry_size_max=2048,
)
"""Small, so that a short test turns every page."""

GOLDEN_BOUNDS: Final = replace(BOUNDS, generation_size_min=1500)
STORE_PATH: Final = "/store"

ANSWER_MAX_NS: Final = NS_PER_S
INDEX_MAX_NS: Final = 10 * NS_PER_S
ANSWER_STEP_NS: Final = 10 * NS_PER_MS


class World:
    """One store at a time. With an `index_path` its index is in LMDB there, on the real disk; else in memory."""

    def __init__(
        self,
        seed: int,
        *,
        index_path: str | None = None,
        capacity: int = 0,
        bounds: Bounds = BOUNDS,
        reserve_size: int = 0,
    ) -> None:
        self._chance = Chance(seed)
        self._index_path = index_path
        self.path = index_path or STORE_PATH
        self._bounds = bounds
        self._reserve_size = reserve_size
        self._left: SubjectIndexes | None = None
        self.scheduler = VirtualScheduler()
        self.files = FaultyFiles(seed, capacity=capacity)
        folder = ""
        for name in self.path.strip("/").split("/")[:-1]:
            folder += f"/{name}"
            self.files.make_folder(folder)
            self.files.sync_folder(folder.rpartition("/")[0] or "/")
        self.store = self.open()

    def open(self) -> FileStore:
        options = StoreOptions(
            is_index_in_memory=self._index_path is None,
            bounds=self._bounds,
            reserve_size=self._reserve_size,
        )
        return open_store(
            self.path,
            scheduler=self.scheduler,
            chance=Chance(self._chance.bits64()),
            files=self.files,
            options=options,
        )

    def create(self, *, first_sequence: int = 0) -> StreamLog:
        return self.store.create({"name": "S"}, memory=False, created_ns=1, first_sequence=first_sequence)

    def commit(self) -> StorageError | None:
        """End a turn and wait for its sync; give what came of it."""
        answers: list[StorageError | None] = []
        self.store.after_sync(answers.append)
        self.store.commit()
        self.scheduler.settle()
        waited_ns = 0
        while not answers and waited_ns < ANSWER_MAX_NS:
            self.scheduler.advance(ANSWER_STEP_NS)
            waited_ns += ANSWER_STEP_NS
        expect(len(answers) == 1, f"{len(answers)} answers within 1 s")
        return answers[0]

    def reopen(self) -> Sequence[StreamLog]:
        """Stop cleanly and start again."""
        self.store.close()
        self.store = self.open()
        return self.store.logs()

    def wait(self) -> None:
        """Let the time pass in which everything goes out that asks for no sync."""
        self.scheduler.advance(NS_PER_S)

    def kill(self) -> Sequence[StreamLog]:
        """The process dies, and starts again."""
        self.leave()
        self.files = self.files.killed()
        self.store = self.open()
        return self.store.logs()

    def power_cut(self) -> Sequence[StreamLog]:
        """The machine dies, and starts again."""
        self.cut()
        self.store = self.open()
        return self.store.logs()

    def cut(self) -> None:
        """The machine dies."""
        self.leave()
        self.files = self.files.power_cut()

    def leave(self) -> None:
        """Forget the store as a dead process does: nothing is written, nothing runs any more."""
        self.scheduler = VirtualScheduler(self.scheduler.now_ns())
        indexes = getattr(self.store, "_indexes", None)
        if isinstance(indexes, SubjectIndexes) and indexes is not self._left:
            self._left = indexes
            indexes.leave()

    def wait_for_index(self) -> None:
        """Let the time pass in which an index that was lost is made again."""
        waited_ns = 0
        while not all(log.is_index_ready for log in self.store.logs()):
            expect(waited_ns < INDEX_MAX_NS, "the index is still being made after 10 s")
            self.scheduler.advance(ANSWER_STEP_NS)
            waited_ns += ANSWER_STEP_NS
