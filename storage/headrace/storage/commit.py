"""Group commit: what all logs changed goes to disk together, and who waits for it is called back.

One cycle is in flight at a time. It takes everything that the dirty logs have gathered, so the duration of a sync is
the window in which the next batch gathers; there is no timer and no minimum. A cycle runs through these steps:

    GATHER   each dirty log hands over: errands to run before (files get their names), writes
    PREPARE  the errands, off the loop; skipped where there are none
    ROOM     where the journal is full: waiting until one of its files is free
    WRITE    the worker writes and syncs: one file by itself, more of them through the journal
    SETTLE   the logs learn what is durable; callbacks run, in order of asking; the next cycle begins
    FOLLOW   errands that need it durable (a new generation of a state log); the next cycle waits for them

If any step before SETTLE fails for a log, that log is fenced, and an error is heard by every callback that named this
log, or none. A failed journal write or sync fences the store: nothing is written any more. What is on disk is
unknown then; nothing is tried again.

What does not ask for a sync (plain progress of consumers, settle marks) is written along with the next cycle, or by
one of its own within `LAZY_NS`. In the relaxed mode (an interval instead of a sync a cycle) answers wait
for the write alone, and every `sync_interval_ns` a cycle syncs what is owed. Such writes, where they are
small, are carried out at once instead of by the worker: the way there and back takes ten times as long.
"""

import os
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final, NamedTuple, Protocol

from headrace.core.base.clock import NS_PER_MS, NS_PER_S, Scheduler, Timer
from headrace.storage.files import Files
from headrace.storage.interface import StorageError
from headrace.storage.journal import Journal
from headrace.storage.sync import Errand, Errands, Outcome, SyncWorker, Write, carry_out
from headrace.storage.sync_times import SyncTimes
from headrace.storage.targets import FileWrite

LAZY_NS: Final = 100 * NS_PER_MS
"""The longest that changes which ask for no sync stay unwritten. Source: docs/storage-format.md's promise on acks."""

HERE_SIZE_MAX: Final = 64 * 1024
"""Bytes of a cycle without syncs that are written on the loop's thread: into the page cache, 13 us [measured]."""

RELAXED_NS: Final = 120 * NS_PER_S
"""The longest that a relaxed log stays unsynced beside others that are not. Source: the reference's sync interval."""

AfterSync = Callable[[StorageError | None], None]


class Handover(NamedTuple):
    """What a log contributes to a cycle."""

    before: Sequence[Errand]
    writes: Sequence[FileWrite]
    follow: Errand | None


class CommitLog(Protocol):
    """What group commit sees of a log."""

    is_relaxed: bool
    """Whether its answers wait for the write alone."""

    @property
    def fenced(self) -> str:
        """Why nothing is written to it any more; empty where it is."""
        ...

    def hand_over(self, *, sync: bool, owed: bool = False) -> Handover:
        """Give what has gathered. Without `sync`, syncs are owed until a cycle comes with `owed`."""
        ...

    def on_committed(self) -> None:
        """What was handed over is on disk."""
        ...

    def on_followed(self, error: OSError | None) -> None:
        """The errand to follow has ended."""
        ...

    def fence(self, reason: str) -> None:
        """What was handed over is on disk, or not: nobody knows. Write nothing any more."""
        ...


class Phase(Enum):
    """Where the cycle is."""

    IDLE = "idle"
    PREPARE = "prepare"
    ROOM = "room"
    WRITE = "write"
    FOLLOW = "follow"


IN_FLIGHT: Final = frozenset((Phase.PREPARE, Phase.ROOM, Phase.WRITE))


class _Cycle:
    def __init__(self, callbacks: list[tuple[AfterSync, CommitLog | None]]) -> None:
        self.callbacks = callbacks
        self.shares: list[tuple[CommitLog, Handover]] = []
        self.failed: dict[CommitLog, str] = {}
        self.own_failures: list[str] = []
        self.store_failed = ""
        self.asked_sync = False
        self.journaled: list[FileWrite] = []


class GroupCommit:
    """Turns many logs' changes into cycles. Loop thread only."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        errands: Errands,
        journal: Journal | None = None,
        sync_always: bool = True,
        sync_interval_ns: int = 0,
        files: Files | None = None,
    ) -> None:
        """With `files`, small writes that nobody wants synced are carried out at once."""
        self._scheduler = scheduler
        self._errands = errands
        self._journal = journal
        self._sync_always = sync_always
        self._sync_interval_ns = sync_interval_ns or RELAXED_NS
        self._worker: SyncWorker | None = None
        self._files = None if sync_always else files
        self._is_settling = False
        self.sync_times = SyncTimes()
        self._phase = Phase.IDLE
        self._cycle = _Cycle([])
        self._dirty: dict[CommitLog, None] = {}
        self._owing: dict[CommitLog, None] = {}
        self._errands_before: dict[Errand, CommitLog | None] = {}
        self._asks_sync = False
        self._waiting: list[tuple[AfterSync, CommitLog | None]] = []
        self._lazy_timer: Timer | None = None
        self._interval_timer: Timer | None = None
        self.cycle_count = 0
        self.journaled_count = 0
        """Cycles that went through the journal."""
        self.recent: dict[CommitLog, None] = {}
        """Logs that were committed since someone emptied this."""
        self.on_store_failed: Callable[[str], None] | None = None
        """Called when the journal failed: all logs are to be fenced."""
        if journal is not None:
            journal.on_free = self._on_room

    def use(self, worker: SyncWorker) -> None:
        """Say who writes; `on_worker_done` is to be called when it is done."""
        self._worker = worker

    @property
    def is_settled(self) -> bool:
        """Whether nothing that asks for a sync waits for one."""
        return not self._asks_sync and not (self._phase in IN_FLIGHT and self._cycle.asked_sync)

    def note(self, log: CommitLog, *, sync: bool) -> None:
        """A log has something to hand over."""
        self._dirty[log] = None
        self._asks_sync = self._asks_sync or sync

    def run_before(self, errand: Errand, log: CommitLog | None = None) -> None:
        """Have the next cycle run an errand before its answers: a log's, or the store's own (a folder's sync, say).

        They run in order. One that waits already, the same object, runs once, after those asked for since.
        """
        self._errands_before.pop(errand, None)
        self._errands_before[errand] = log
        self._asks_sync = True

    def forget(self, log: CommitLog) -> None:
        """A log was deleted; what it gathered is not written."""
        self._dirty.pop(log, None)
        self._owing.pop(log, None)

    def holds(self, log: CommitLog) -> bool:
        """Tell whether the cycle in flight has a share of this log."""
        return self._phase is not Phase.IDLE and any(each is log for each, _ in self._cycle.shares)

    def after_sync(self, callback: AfterSync, log: CommitLog | None = None) -> None:
        """Call back when all that was changed up to now is durable; at once if it is.

        With an error where a write or sync failed: of `log`, or of any log where none is given.
        """
        if self._asks_sync:
            self._waiting.append((callback, log))
        elif self._phase in IN_FLIGHT and self._cycle.asked_sync:
            self._cycle.callbacks.append((callback, log))
        else:
            callback(_answer(log, None))

    def commit(self) -> None:
        """Begin a cycle for what waits, unless one is in flight."""
        if self._phase is not Phase.IDLE:
            return
        if self._asks_sync or self._waiting:
            self._begin()
        elif self._dirty and self._lazy_timer is None:
            deadline_ns = self._scheduler.monotonic_ns() + LAZY_NS
            self._lazy_timer = self._scheduler.call_at(deadline_ns, self._on_lazy)

    def on_worker_done(self) -> None:
        """The worker has woken the loop."""
        if self._phase is not Phase.WRITE or self._worker is None:
            return
        outcome = self._worker.take()
        if outcome is not None:
            if self._worker.duration_ns:
                self.sync_times.add(self._worker.duration_ns)
            self._settle(outcome)

    def drain(self, wait: Callable[[], None]) -> None:
        """Carry out cycles until nothing waits any more; `wait` waits for a thread to report."""
        while (
            self._phase is not Phase.IDLE
            or self._dirty
            or self._owing
            or self._waiting
            or self._errands_before
        ):
            if self._phase is Phase.IDLE:
                self._begin(owed=True)
            wait()

    def close(self) -> None:
        """Cancel what would still call back."""
        for timer in (self._lazy_timer, self._interval_timer):
            if timer is not None:
                timer.cancel()

    # ---- the steps of a cycle

    def _begin(self, *, owed: bool = False) -> None:
        """Gather. With `owed`, syncs that are owed are part of it."""
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        cycle = self._cycle = _Cycle(self._waiting)
        cycle.asked_sync = self._asks_sync
        dirty, self._dirty, self._waiting, self._asks_sync = self._dirty, {}, [], False
        if owed:
            dirty |= self._owing
            self._owing = {}
        self.cycle_count += 1
        sync = owed or self._sync_always
        before = [(log, errand) for errand, log in self._errands_before.items()]
        self._errands_before = {}
        count = 0
        shares = cycle.shares
        for log in dirty:
            if log.fenced:
                cycle.failed[log] = log.fenced
                continue
            share = log.hand_over(sync=sync, owed=owed)
            shares.append((log, share))
            for each in share.writes:
                count += each.sync
            if share.before:
                before += [(log, errand) for errand in share.before]
            if not owed and (log.is_relaxed or not sync):
                self._owe(log)
        if count > 1 and self._journal is not None and self._journal.wants_making:
            before.append((None, self._journal.make))
        if before:
            self._phase = Phase.PREPARE
            self._errands.run(lambda: _prepare(cycle, before), self._on_prepared)
        else:
            self._write()

    def _on_prepared(self, error: OSError | None) -> None:
        assert error is None, "each errand's failure was noted with its log"
        self._write()

    def _on_room(self) -> None:
        if self._phase is Phase.ROOM:
            self._write()

    def _write(self) -> None:
        cycle = self._cycle
        failed = cycle.failed
        writes: list[FileWrite] = []
        for log, share in cycle.shares:
            if log not in failed:
                writes += share.writes
        asking = [each for each in writes if each.sync]
        entries: Write | None = None
        cycle.journaled = []
        if len(asking) > 1 and self._journal is not None:
            chosen = self._journal.chosen(asking)
            if chosen and not self._journal.make_room(chosen):
                if not self._journal.is_off:
                    self._phase = Phase.ROOM
                    return
                chosen = []
            if chosen:
                try:
                    entries = self._journal.encode(chosen)
                    cycle.journaled = chosen
                    self.journaled_count += 1
                except OSError:
                    pass  # What was written before cannot be read again: each file is synced by itself.
        if cycle.journaled:
            covered = {id(each.target) for each in cycle.journaled}
            asking = [each for each in asking if id(each.target) not in covered]
        self._phase = Phase.WRITE
        if (
            self._files is not None
            and not asking
            and entries is None
            and not self._is_settling  # whose callbacks come before those of a cycle that begins meanwhile
            and sum(len(each.data) for each in writes) <= HERE_SIZE_MAX
        ):
            given = [(each.target.handle, each.offset, each.data) for each in writes if each.data]
            self._settle(carry_out(self._files, given, ()))
            return
        assert self._worker is not None, "a worker was given before the first cycle"
        self._worker.start(
            [(each.target.handle, each.offset, each.data) for each in writes if each.data],
            [each.target.handle for each in asking],
            entries,
        )

    def _settle(self, outcome: Outcome) -> None:
        cycle = self._cycle
        if outcome:
            self._note_failures(outcome)
        failed = cycle.failed
        follow: list[tuple[CommitLog, Errand]] = []
        if cycle.journaled and not cycle.store_failed and self._journal is not None:
            journaled = {id(each.target) for each in cycle.journaled}
            self._journal.on_synced(
                (log, each)
                for log, share in cycle.shares
                for each in share.writes
                if id(each.target) in journaled
            )
        recent = self.recent
        for log, share in cycle.shares:
            if log in failed:
                log.fence(failed[log])
                continue
            for target, offset, data, last, sync in share.writes:
                target.end = offset + len(data)
                if sync:
                    target.covered = target.end
                    target.covered_last = last
            log.on_committed()
            recent[log] = None
            if share.follow is not None:
                follow.append((log, share.follow))
        error: StorageError | None = None
        if failed or cycle.own_failures:
            reasons = [*failed.values(), *cycle.own_failures]
            error = StorageError("; ".join(dict.fromkeys(reasons)))
        if cycle.store_failed and self.on_store_failed is not None:
            self.on_store_failed(cycle.store_failed)
        if follow:
            self._phase = Phase.FOLLOW
            self._follow(follow)
        else:
            self._phase = Phase.IDLE
            self._is_settling = True
            self.commit()
            self._is_settling = False
        for callback, about in cycle.callbacks:
            callback(error if about is None else _answer(about, error))

    def _note_failures(self, outcome: Outcome) -> None:
        """Say which logs are concerned by what failed."""
        cycle = self._cycle
        if cycle.journaled and self._journal is not None and self._journal.handle in outcome:
            cycle.store_failed = f"the journal failed: {os.strerror(outcome[self._journal.handle])}"
            for log, _ in cycle.shares:
                cycle.failed.setdefault(log, cycle.store_failed)
            return
        for log, share in cycle.shares:
            for handle in {each.target.handle for each in share.writes} & outcome.keys():
                cycle.failed[log] = f"a write or sync failed: {os.strerror(outcome[handle])}"

    def _follow(self, follow: list[tuple[CommitLog, Errand]]) -> None:
        missing = len(follow)

        def on_followed(log: CommitLog, error: OSError | None) -> None:
            nonlocal missing
            missing -= 1
            log.on_followed(error)
            if not missing:
                self._phase = Phase.IDLE
                self.commit()

        for log, errand in follow:
            self._errands.run(errand, partial(on_followed, log))

    # ---- what goes out later

    def _on_lazy(self) -> None:
        self._lazy_timer = None
        if self._phase is Phase.IDLE and (self._dirty or self._waiting):
            self._begin()

    def _owe(self, log: CommitLog) -> None:
        self._owing[log] = None
        if self._interval_timer is None:
            deadline_ns = self._scheduler.monotonic_ns() + self._sync_interval_ns
            self._interval_timer = self._scheduler.call_at(deadline_ns, self._on_interval)

    def _on_interval(self) -> None:
        self._interval_timer = None
        if self._phase is not Phase.IDLE:
            # The interval's cycle comes after the one in flight.
            self._interval_timer = self._scheduler.call_at(
                self._scheduler.monotonic_ns() + NS_PER_MS, self._on_interval
            )
            return
        self._begin(owed=True)


def _answer(log: CommitLog | None, error: StorageError | None) -> StorageError | None:
    """Give what a callback hears that asked about one log: its own failure alone."""
    if log is None or not log.fenced:
        return None
    return error or StorageError(log.fenced)


def _prepare(cycle: _Cycle, before: Sequence[tuple[CommitLog | None, Errand]]) -> None:
    """Run errands; a failure fences its log, one of the store's own fails the answers that name no log."""
    for log, errand in before:
        if log is not None and log in cycle.failed:
            continue
        try:
            errand()
        except OSError as error:
            reason = f"{error.filename or 'a file'}: {error.strerror}"
            if log is None:
                cycle.own_failures.append(reason)
            else:
                cycle.failed[log] = reason
