"""A store: the folder of all streams of one server.

`open_store` takes the lock, recovers every stream, and gives a `FileStore`. Everything in it runs on the loop's thread,
but for the sync worker and the errands (`sync.py`), which report through one handle: the composition root watches
`ready_handle` and calls `on_ready`. Without threads (virtual time, tests) there is no handle, and the scheduler
calls back instead.
"""

import contextlib
import errno
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, Scheduler, Timer
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS, Bounds
from headrace.storage.chores import Chores
from headrace.storage.codec import sync_thread
from headrace.storage.commit import GroupCommit
from headrace.storage.creation import create
from headrace.storage.file_log import FileLog
from headrace.storage.files import Files, RealFiles, make_folders, remove_tree
from headrace.storage.interface import (
    DiskFull,
    LogFenced,
    StorageError,
    StoreLocked,
    StoreUnusable,
    StreamLog,
)
from headrace.storage.journal import Journal
from headrace.storage.journal_replay import JournalEntry, replay_journal
from headrace.storage.memory_log import MemoryLog
from headrace.storage.recovery import recover
from headrace.storage.room import Room
from headrace.storage.scrub import Scrub, ScrubState
from headrace.storage.segment_lookups import LookupCache
from headrace.storage.shared import Shared
from headrace.storage.sidecar import OffsetsCache
from headrace.storage.state_log import StateUnreadable
from headrace.storage.subject_indexes import SubjectIndexes
from headrace.storage.sync import Errands, InlineWorker, SyncWorker, Wake
from headrace.storage.sync_times import SyncTimes
from headrace.storage.unheeded import unheeded

FORMAT_TEXT: Final = "headrace store "
STORE_FORMAT: Final = 1
STREAMS_FOLDER: Final = "streams"
INDEX_FOLDER: Final = "index"
IDLE_NS: Final = 200 * NS_PER_MS
"""How long after its last commit a stream counts as idle, and says on disk what is durable."""

LOOKS_MAX: Final = 8
INDEX_BUDGET_NS: Final = NS_PER_MS
CATCH_UP_NS: Final = 4 * NS_PER_MS
"""How long an index that lags behind an idle stream waits for its next turn."""

_TEXT_SIZE_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is run. `is_threaded`: sync in a thread; else inline, for virtual time."""

    sync_always: bool = True
    sync_interval_ns: int = 0
    is_threaded: bool = False
    is_index_in_memory: bool = False
    is_indexer_process: bool = False
    """With threads: let a process of its own write the lookup index."""
    index_memory: int = 256 * 1024 * 1024
    """About how many bytes of what the index has yet to write are kept before publishes have to wait."""
    scrub_rate: int = 0
    """Bytes a second of sealed segments that are read again in the background; 0: none."""
    reserve_size: int = 0
    """Bytes kept free for deletes, acks and state logs when the disk is full (`room.py`)."""
    rewrite_rate: int = 0
    """Bytes a second that copying sparse segments may read and write; 0: what the bounds say."""
    bounds: Bounds = DEFAULT_BOUNDS


DEFAULT_OPTIONS: Final = StoreOptions()


def open_store(
    path: str,
    *,
    scheduler: Scheduler,
    chance: Chance,
    files: Files | None = None,
    options: StoreOptions = DEFAULT_OPTIONS,
) -> "FileStore":
    """Open the store in folder `path`, made where it is missing. Raises StoreLocked and StoreUnusable."""
    if files is None:
        files = RealFiles()
    _prepare_folder(files, path)
    lock = _locked(files, path)
    try:
        check_format(files, path, create=True)
        return FileStore(path, lock=lock, scheduler=scheduler, chance=chance, files=files, options=options)
    except BaseException:
        files.close(lock)
        raise


def check_format(files: Files, path: str, *, create: bool = False) -> None:
    """Make sure that this version reads the store. Raises StoreUnusable."""
    name = f"{path}/format"
    if files.status(name) is None:
        if not create:
            raise StoreUnusable(f"{path} is no Headrace store: it has no file 'format'")
        if files.status(f"{path}/{STREAMS_FOLDER}") is None:
            files.make_folder(f"{path}/{STREAMS_FOLDER}")
        handle = files.create(f"{name}.new")
        try:
            files.pwrite(handle, f"{FORMAT_TEXT}{STORE_FORMAT}\n".encode(), 0)
            files.sync(handle)
        finally:
            files.close(handle)
        files.rename(f"{name}.new", name)
        files.sync_folder(path)
        return
    handle = files.open(name)
    try:
        text = files.pread(handle, _TEXT_SIZE_MAX, 0).decode("ascii", "replace").strip()
    finally:
        files.close(handle)
    number = text.removeprefix(FORMAT_TEXT)
    if number == text or not number.isdecimal():
        raise StoreUnusable(f"{name} reads {text!r}, expected '{FORMAT_TEXT}{STORE_FORMAT}'")
    if int(number) > STORE_FORMAT:
        raise StoreUnusable(
            f"the store {path} has format {number}; this version of Headrace reads up to {STORE_FORMAT}: "
            "use the version that wrote it"
        )


class FileStore:
    """All logs of one server."""

    def __init__(
        self,
        path: str,
        *,
        lock: int,
        scheduler: Scheduler,
        chance: Chance,
        files: Files,
        options: StoreOptions,
    ) -> None:
        self.path = path
        self._lock = lock
        self._scheduler = scheduler
        self._chance = chance
        self._files = files
        self._options = options
        self._wake = Wake() if options.is_threaded else None
        self._errands = Errands(scheduler, self._wake)
        self._chore_errands = Errands(scheduler, self._wake)
        self._chores = Chores(
            scheduler, self._chore_errands, rate=options.rewrite_rate or options.bounds.rewrite_rate
        )
        self._late_errands = Errands(scheduler, self._wake, name="headrace-late-sync")
        self._journal = Journal(
            files,
            path,
            scheduler=scheduler,
            chance=chance,
            errands=self._late_errands,
            bounds=options.bounds,
        )
        self._commit = GroupCommit(
            scheduler=scheduler,
            errands=self._errands,
            journal=self._journal,
            sync_always=options.sync_always,
            sync_interval_ns=options.sync_interval_ns,
            files=files,
        )
        self._worker: SyncWorker
        if self._wake is None:
            self._worker = InlineWorker(files, scheduler, self._on_done)
        else:
            self._worker = sync_thread(files, self._wake)
        self._commit.use(self._worker)
        self._commit.on_store_failed = self._fence
        self._chores.empty_journal = self._journal.empty
        self._indexes = SubjectIndexes(
            None if options.is_index_in_memory else f"{path}/{INDEX_FOLDER}",
            chance,
            scheduler,
            files,
            memory_max=options.index_memory,
            will_be_process=options.is_threaded and options.is_indexer_process,
        )
        self._room = Room(files, path, scheduler, reserve_size=options.reserve_size)
        self._shared = Shared(
            files=files,
            clock=scheduler,
            chance=chance,
            errands=self._errands,
            chores=self._chores,
            commit=self._commit,
            blocks=Blocks(files, size_max=options.bounds.cache_size),
            offsets=OffsetsCache(options.bounds.offsets_size_max),
            indexes=self._indexes,
            bounds=options.bounds,
            room=self._room,
            lookups=LookupCache(),
        )
        self._sync_streams = partial(files.sync_folder, f"{self.path}/{STREAMS_FOLDER}")
        self._logs: dict[int, FileLog] = {}
        self._memory_logs: dict[int, MemoryLog] = {}
        self._buried: list[FileLog] = []
        self._idle_timer: Timer | None = None
        self._is_closed = False
        self._failed = ""
        self.unreadable_entries: list[JournalEntry] = []
        """What the journal held at the start and could not be read; possibly acknowledged."""
        self.unreadable: list[tuple[str, str]] = []
        """Folders of streams whose state log cannot be read, each with the reason; left as they are."""
        self.found_at_start: list[tuple[StreamLog, str]] = []
        """Damage and losses that this start listed, each in a line."""
        self.on_finding: Callable[[StreamLog, str], None] = unheeded
        """Told of each damage that is met, once, in a line for the log."""
        try:
            self._recover()
        except BaseException:
            self._indexes.leave()
            raise
        if self._wake is not None and options.is_indexer_process:
            self._indexes.start_process(self._wake.write_handle)
        self._begin_rebuilds()
        self._scrub_errands = Errands(scheduler, self._wake)
        self._scrub = Scrub(
            files=files,
            scheduler=scheduler,
            errands=self._scrub_errands,
            chance=chance,
            rate=options.scrub_rate,
            logs=self._logs.values,
            is_busy=lambda: not self.is_settled,
        )

    @property
    def scrub_state(self) -> ScrubState:
        """What the background check of sealed segments has done."""
        return self._scrub.state

    @property
    def sync_times(self) -> SyncTimes:
        """How long the disk took."""
        return self._commit.sync_times

    @property
    def is_full(self) -> bool:
        """Whether publishes are refused for want of room; reads, acks and deletes go on."""
        return self._room.is_short

    @property
    def rebuilding(self) -> int:
        """How many streams' lookup indexes are being built again."""
        return self._indexes.rebuilding

    @property
    def ready_handle(self) -> int:
        """Becomes readable when `on_ready` is to be called; -1 where nothing has to be watched."""
        return -1 if self._wake is None else self._wake.read_handle

    def on_ready(self) -> None:
        """A thread has reported."""
        if self._wake is not None and not self._is_closed:
            self._wake.clear()
            self._on_done()

    def logs(self) -> Sequence[StreamLog]:
        return [*self._logs.values(), *self._memory_logs.values()]

    def create(
        self, config: dict[str, Any], *, memory: bool, created_ns: int, first_sequence: int = 0
    ) -> StreamLog:
        stream_id = self._fresh_id()
        if memory:
            log = MemoryLog(
                stream_id=stream_id, config=config, created_ns=created_ns, first_sequence=first_sequence
            )
            self._memory_logs[stream_id] = log
            return log
        if self._failed:
            raise LogFenced(self._failed)
        folder = f"{self.path}/{STREAMS_FOLDER}/{stream_id:016x}"
        first = max(1, first_sequence)
        try:
            made = create(self._shared, folder, stream_id, config=config, created_ns=created_ns, first=first)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"no room for a stream in {self.path}") from error
            raise StorageError(f"{self.path}: a stream cannot be made: {error.strerror}") from error
        made.on_finding(partial(self._on_finding, made))
        self._logs[stream_id] = made
        self._commit.run_before(self._sync_streams)
        return made

    def delete(self, log: StreamLog) -> None:
        if self._memory_logs.pop(log.stream_id, None) is not None:
            return
        file_log = self._logs[log.stream_id]
        try:
            file_log.delete()
        except OSError as error:
            raise StorageError(f"{file_log.folder}: cannot be deleted: {error.strerror}") from error
        del self._logs[log.stream_id]
        self._commit.forget(file_log)
        self._commit.recent.pop(file_log, None)
        self._indexes.drop_log(log.stream_id)
        self._commit.run_before(self._sync_streams)
        self._buried.append(file_log)

    @property
    def is_settled(self) -> bool:
        return self._commit.is_settled

    def after_sync(
        self, callback: Callable[[StorageError | None], None], log: StreamLog | None = None
    ) -> None:
        self._commit.after_sync(callback, log if isinstance(log, FileLog) else None)

    def commit(self) -> None:
        self._commit.commit()
        self._follow_up()

    def close(self) -> None:
        if self._is_closed:
            return
        self._scrub.close()
        self._scrub_errands.close()
        self._chores.stop()
        self._chore_errands.close()
        self._commit.drain(self._wait)
        for log in self._logs.values():
            log.prepare_close()
        self._commit.drain(self._wait)
        self._bury()
        self._commit.close()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for log in self._logs.values():
            log.follow(1 << 62)
            log.close()
        self._worker.close()
        self._errands.close()
        self._late_errands.close()
        self._journal.close()
        self._indexes.close()
        self._shared.blocks.close()
        self._is_closed = True
        if self._wake is not None:
            self._wake.close()
        self._files.close(self._lock)

    def _fence(self, reason: str) -> None:
        """The journal failed: nothing is written any more."""
        self._failed = reason
        for log in self._logs.values():
            log.fence(reason)

    def _recover(self) -> None:
        streams = f"{self.path}/{STREAMS_FOLDER}"
        replayed = replay_journal(self._files, self.path, streams)
        self.unreadable_entries = replayed.unreadable
        unreadable: dict[int, list[JournalEntry]] = {}
        for entry in replayed.unreadable:
            unreadable.setdefault(entry.stream_id, []).append(entry)
        if replayed.failed:
            self._journal.keep()
        else:
            self._journal.take_over()
        for name in self._files.list_folder(streams):
            folder = f"{streams}/{name}"
            if name.endswith((".new", ".dead")):
                remove_tree(self._files, folder)
                continue
            try:
                stream_id = int(name, 16)
            except ValueError:
                continue
            if stream_id in replayed.failed:
                reason = f"the journal cannot be replayed: {replayed.failed[stream_id]}"
                self.unreadable.append((folder, reason))
                continue
            try:
                entries = unreadable.get(stream_id, ())
                log = self._logs[stream_id] = recover(self._shared, folder, stream_id, entries)
                log.on_finding(partial(self._on_finding, log))
                self.found_at_start += [(log, text) for text in log.found_at_start]
            except StateUnreadable as error:
                self.unreadable.append((folder, str(error)))

    def _on_finding(self, log: StreamLog, text: str) -> None:
        self.on_finding(log, text)

    def _fresh_id(self) -> int:
        while True:
            stream_id = self._chance.bits64()
            if stream_id and stream_id not in self._logs and stream_id not in self._memory_logs:
                return stream_id

    def _on_done(self) -> None:
        self._errands.deliver()
        self._chore_errands.deliver()
        self._late_errands.deliver()
        self._scrub_errands.deliver()
        self._commit.on_worker_done()
        if not self._is_closed:
            self._indexes.work(0)
            self._follow_up()

    def _follow_up(self) -> None:
        """Do what comes after commits: indexes that lag, streams that fall idle, deleted ones' files."""
        # A few of the latest: with thousands of streams, a look at each would cost more than the cycle.
        for log in islice(self._commit.recent, LOOKS_MAX):
            if isinstance(log, FileLog) and log.has_index_work and not log.fenced:
                log.follow(INDEX_BUDGET_NS)
                break
        if self._commit.recent and self._idle_timer is None:
            self._idle_timer = self._scheduler.call_at(
                self._scheduler.monotonic_ns() + IDLE_NS, self._on_idle
            )
        if self._buried:
            self._bury()

    def _begin_rebuilds(self) -> None:
        """Get on with the indexes that the start found unusable, without anybody committing."""
        self._commit.recent.update(dict.fromkeys(log for log in self._logs.values() if log.has_index_work))
        if self._commit.recent:
            self._idle_timer = self._scheduler.call_at(
                self._scheduler.monotonic_ns() + CATCH_UP_NS, self._on_idle
            )

    def _on_idle(self) -> None:
        self._idle_timer = None
        recent = list(self._commit.recent)
        self._commit.recent.clear()
        deadline_ns = self._scheduler.monotonic_ns() + CATCH_UP_NS
        followed: list[FileLog] = []
        for log in recent:
            if isinstance(log, FileLog) and log.stream_id in self._logs:
                log.settle()
                if not log.has_index_work or log.fenced:
                    continue
                if self._scheduler.monotonic_ns() < deadline_ns:
                    log.follow(INDEX_BUDGET_NS)
                    followed.append(log)
                else:
                    self._commit.recent[log] = None
        # Whoever had to wait comes first the next time.
        self._commit.recent.update(dict.fromkeys(followed))
        if self._commit.recent:
            self._idle_timer = self._scheduler.call_at(
                self._scheduler.monotonic_ns() + CATCH_UP_NS, self._on_idle
            )
        self.commit()

    def _bury(self) -> None:
        """Close and remove the files of deleted streams that no commit cycle uses any more."""
        waiting: list[FileLog] = []
        for log in self._buried:
            if self._commit.holds(log):
                waiting.append(log)
                continue
            log.close()
            # What cannot be removed now is removed at the next start.
            self._errands.run(log.remove_files, unheeded)
        self._buried = waiting

    def _wait(self) -> None:
        if self._wake is not None:
            select.select([self._wake.read_handle], [], [], 1.0)
            self._wake.clear()
        self._errands.deliver()
        self._late_errands.deliver()
        self._commit.on_worker_done()


def _prepare_folder(files: Files, path: str) -> None:
    try:
        status = files.status(path)
        if status is not None and not status.is_folder:
            raise StoreUnusable(f"storage directory is not a directory: {path}")
        if status is None:
            make_folders(files, path)
        if files.status(f"{path}/{STREAMS_FOLDER}") is None:
            files.make_folder(f"{path}/{STREAMS_FOLDER}")
            files.sync_folder(path)
    except OSError as error:
        raise StoreUnusable(f"could not create storage directory: {path}: {error.strerror}") from error


def _locked(files: Files, path: str) -> int:
    name = f"{path}/lock"
    try:
        handle = files.lock(name)
    except BlockingIOError as error:
        raise StoreLocked(
            f"the store {path} is in use by process {_lock_owner(files, name)}; stop it, or use another folder"
        ) from error
    except OSError as error:
        raise StoreUnusable(f"could not write to the storage directory: {path}: {error.strerror}") from error
    # On a full disk nobody can be told who holds it; it is held all the same.
    with contextlib.suppress(OSError):
        files.pwrite(handle, f"{os.getpid()}\n".ljust(_TEXT_SIZE_MAX).encode(), 0)
    return handle


def _lock_owner(files: Files, name: str) -> str:
    try:
        handle = files.open(name)
    except OSError:
        return "(unknown)"
    try:
        return files.pread(handle, _TEXT_SIZE_MAX, 0).decode("ascii", "replace").strip() or "(unknown)"
    finally:
        files.close(handle)
