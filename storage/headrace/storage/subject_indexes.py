"""The lookup indexes of a store: the database that they share, and who writes it.

Damage anywhere in the database makes all of it worthless, for LMDB has no checksums: it is removed, and every log's
index is rebuilt. Where no database can be made, the indexes live in memory.
"""

import contextlib
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.storage.files import FILE_MODE, FOLDER_MODE, Files
from headrace.storage.index_interface import START, IndexDamaged, IndexUnwritable, LogIndex, Position
from headrace.storage.index_jobs import DropJob, Job
from headrace.storage.index_process import HOLDER, INDEXER_MODULE, ProcessIndexer
from headrace.storage.index_root import IndexRoot, is_ahead, open_root
from headrace.storage.index_tables import MemoryTables
from headrace.storage.index_worker import Indexer, InlineIndexer, OnDone
from headrace.storage.lmdb_tables import LmdbTables, remove_index
from headrace.storage.subject_index import SubjectIndex
from headrace.storage.unheeded import unheeded

STARTS_OVER_MAX: Final = 5
"""How often a database may turn out to be damaged before the indexes stay in memory until the next start."""

MEMORY_MAX: Final = 256 * 1024 * 1024
NOTE_SIZE: Final = 300
"""What a note of a new subject of some 30 bytes takes in memory [measured]."""

LOCK_WAIT_S: Final = 5.0
LOCK_RETRY_S: Final = 0.002
"""How long a start waits for the process of a killed server. It is killed too, where the system says which it is;
else it ends with its next transaction, which can take seconds on a busy disk."""

WAIT_S: Final = 0.02
"""How long a stop waits at a time for what is being written."""


class SubjectIndexes:
    """A store's `IndexStore`: in LMDB under `path`, or (None) in memory, where every start tells everything again."""

    def __init__(
        self,
        path: str | None,
        chance: Chance,
        clock: Clock,
        files: Files,
        *,
        memory_max: int = MEMORY_MAX,
        will_be_process: bool = False,
    ) -> None:
        self.clock = clock
        self.pending_notes = 0
        """Notes in complete layers of all logs."""
        self._notes_max = max(1, memory_max // NOTE_SIZE)
        self._when_room: list[Callable[[], None]] = []
        self._path = path
        self._chance = chance
        self._files = files
        self._open: dict[int, SubjectIndex] = {}
        self._will_be_process = will_be_process
        self._wake_handle = -1
        self._lock = None if path is None else _locked(path)
        if self._lock is None:
            path = self._path = None
        self._starts_over = 0
        self.root: IndexRoot = open_root(path, chance)
        self._indexer: Indexer = InlineIndexer(self.root, files, clock)

    @property
    def is_volatile(self) -> bool:
        """Whether nothing outlives the process: then a rebuild belongs to opening a log."""
        return isinstance(self.root.tables, MemoryTables)

    @property
    def is_inline(self) -> bool:
        """Whether the loop writes."""
        return isinstance(self._indexer, InlineIndexer) and not self._will_be_process

    def start_process(self, wake_handle: int) -> None:
        """Let a process write from now on; it signals `wake_handle` when there is something to hear of."""
        tables = self.root.tables
        if self._path is None or self._lock is None or not isinstance(tables, LmdbTables):
            self._will_be_process = False
            return
        self._wake_handle = wake_handle
        assert isinstance(self._indexer, InlineIndexer), "a process is started once"
        waiting = self._indexer.unfinished()
        tables.only_read(True)
        try:
            self._indexer = ProcessIndexer(
                self._path, wake_handle=wake_handle, lock_handle=self._lock, on_given_up=self._take_back
            )
        except OSError:
            self._take_back(waiting)
        else:
            for job in waiting:
                self._indexer.submit(*job)

    @property
    def rebuilding(self) -> int:
        """How many logs' indexes are being built again."""
        return sum(not index.is_ready for index in self._open.values())

    @property
    def process_id(self) -> int:
        """The indexer's process; 0 where there is none."""
        return self._indexer.process_id if isinstance(self._indexer, ProcessIndexer) else 0

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
        # What cannot be dropped now is found at no log's open any more, and costs only room.
        self.submit(DropJob(stream_id), unheeded)

    def close(self) -> None:
        self._indexer.close()
        self.root.close()
        if self._lock is not None:
            os.close(self._lock)

    # what the logs ask

    @property
    def is_full(self) -> bool:
        """Whether as much waits to be written as may."""
        return self.pending_notes > self._notes_max

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when there is room again; there is none now."""
        self._when_room.append(callback)

    def leave(self) -> None:
        """Let go of everything as a process that dies does: nothing is written."""
        self._indexer.close()
        tables = self.root.tables
        if isinstance(tables, LmdbTables):
            tables.leave()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # what the indexes ask

    def written(self, notes: int) -> None:
        """So many notes of complete layers are on disk, or were given up."""
        self.pending_notes -= notes
        if self._when_room and self.pending_notes <= self._notes_max // 2:
            callbacks, self._when_room = self._when_room, []
            for callback in callbacks:
                callback()

    def submit(self, job: Job, on_done: OnDone) -> None:
        """Have a job done."""
        self._indexer.submit(job, on_done)

    def work(self, deadline_ns: int) -> bool:
        """Let the jobs get on."""
        return self._indexer.work(deadline_ns)

    def wait(self) -> None:
        """Let the jobs get on, at a stop."""
        self._indexer.wait(WAIT_S)

    def start_over(self) -> None:
        """The database does not check: begin another one, and rebuild every index."""
        self._starts_over += 1
        self._indexer.close()
        self.root.abandon()
        if self._path is not None:
            remove_index(self._path)
        if self._starts_over > STARTS_OVER_MAX:
            self._path = None
        self.root = open_root(self._path, self._chance)
        self._indexer = InlineIndexer(self.root, self._files, self.clock)
        for index in self._open.values():
            index.rebuild()
        if self._wake_handle >= 0:
            self.start_process(self._wake_handle)

    def _take_back(self, waiting: list[tuple[Job, OnDone]]) -> None:
        """No process can be had: the loop writes."""
        tables = self.root.tables
        assert isinstance(tables, LmdbTables), "only a database in files has a process"
        tables.only_read(False)
        self._will_be_process = False
        self._indexer = InlineIndexer(self.root, self._files, self.clock)
        for job in waiting:
            self._indexer.submit(*job)


def _locked(path: str) -> int | None:
    """Take the index's lock, which the process of a server that was killed holds until it ends; None: in vain."""
    import fcntl  # noqa: PLC0415  (absent on Windows, where this module must still import)

    name = f"{path}.lock"
    try:
        os.makedirs(os.path.dirname(name) or ".", FOLDER_MODE, exist_ok=True)
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError:
        return None
    for attempt in range(int(LOCK_WAIT_S / LOCK_RETRY_S)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not attempt:
                _end_holder(handle, path)
            time.sleep(LOCK_RETRY_S)
        else:
            return handle
    os.close(handle)
    return None


def _end_holder(handle: int, path: str) -> None:
    """End the process of a server that was killed: what it has not committed is told again in any case."""
    with contextlib.suppress(OSError, struct.error):
        process_id = HOLDER.unpack(os.pread(handle, HOLDER.size, 0))[0]
        with open(f"/proc/{process_id}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
        if {INDEXER_MODULE.encode(), os.fsencode(path)} <= set(arguments):
            os.kill(process_id, signal.SIGKILL)
