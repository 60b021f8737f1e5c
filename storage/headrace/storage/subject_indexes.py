"""The lookup indexes of a store: the database that they share, and who writes it.

Damage anywhere in the database makes all of it worthless, for LMDB has no checksums: it is removed, and every log's
index is rebuilt. Where no database can be made, the indexes live in memory.
"""

from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, Clock
from headrace.storage.files import Files
from headrace.storage.index_interface import START, IndexDamaged, IndexUnwritable, LogIndex, Position
from headrace.storage.index_jobs import DropJob, Job
from headrace.storage.index_root import IndexRoot, is_ahead, open_root
from headrace.storage.index_tables import MemoryTables
from headrace.storage.index_worker import Indexer, InlineIndexer, OnDone
from headrace.storage.lmdb_tables import remove_index
from headrace.storage.subject_index import SubjectIndex

STARTS_OVER_MAX: Final = 5
"""How often a database may turn out to be damaged before the indexes stay in memory until the next start."""

WAIT_NS: Final = 20 * NS_PER_MS
"""How long a stop waits at a time for what is being written."""


class SubjectIndexes:
    """A store's `IndexStore`: in LMDB under `path`, or (None) in memory, where every start tells everything again."""

    def __init__(self, path: str | None, chance: Chance, clock: Clock, files: Files) -> None:
        self.clock = clock
        self.pending_notes = 0
        """Notes in complete layers of all logs."""
        self._path = path
        self._chance = chance
        self._files = files
        self._open: dict[int, SubjectIndex] = {}
        self._starts_over = 0
        self.root: IndexRoot = open_root(path, chance)
        self._indexer: Indexer = InlineIndexer(self.root, files, clock)

    @property
    def is_volatile(self) -> bool:
        """Whether nothing outlives the process: then a rebuild belongs to opening a log."""
        return isinstance(self.root.tables, MemoryTables)

    def open_log(self, stream_id: int, recovered: Position) -> LogIndex:
        index = SubjectIndex(self, stream_id, None)
        try:
            with self.root.tables.read() as transaction:
                row = self.root.load_log(transaction, stream_id)
            if row is not None and (is_ahead(row, recovered) or row.position == START):
                # Rows at START are those of a rebuild, or of a first write, that was cut short.
                with self.root.tables.write() as transaction:
                    self.root.drop_log(transaction, stream_id)
                row = None
        except IndexDamaged:
            self.start_over()
            row = None
        except IndexUnwritable:
            row = None
        index = self._open[stream_id] = SubjectIndex(self, stream_id, row)
        return index

    def drop_log(self, stream_id: int) -> None:
        self._open.pop(stream_id, None)
        self.submit(DropJob(stream_id), _ignore)

    def close(self) -> None:
        self._indexer.close()
        self.root.close()

    # what the indexes ask

    def submit(self, job: Job, on_done: OnDone) -> None:
        """Have a job done."""
        self._indexer.submit(job, on_done)

    def work(self, deadline_ns: int) -> bool:
        """Let the jobs get on."""
        return self._indexer.work(deadline_ns)

    def wait(self) -> None:
        """Let the jobs get on, at a stop."""
        self._indexer.work(self.clock.monotonic_ns() + WAIT_NS)

    def start_over(self) -> None:
        """The database does not check: begin another one, and rebuild every index."""
        self._starts_over += 1
        self._indexer.close()
        self.root.abandon()
        path = self._path
        if path is not None:
            remove_index(path)
        is_given_up = self._starts_over > STARTS_OVER_MAX
        self.root = open_root(None if is_given_up else path, self._chance)
        self._indexer = InlineIndexer(self.root, self._files, self.clock)
        for index in self._open.values():
            index.rebuild()


def _ignore(*_: object) -> None:
    """What could not be dropped now is found at no log's open any more, and costs only room."""
