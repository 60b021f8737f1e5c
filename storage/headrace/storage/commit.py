"""Group commit: what all logs changed goes to disk together, and who waits for it is called back.

One cycle is in flight at a time. It takes everything that the dirty logs have gathered, so the duration of a sync is
the window in which the next batch gathers; there is no timer and no minimum. A cycle runs through these steps:

    GATHER   each dirty log hands over: errands to run before (files get their names), writes, syncs
    PREPARE  the errands, off the loop; skipped where there are none
    WRITE    the worker writes and syncs
    SETTLE   the logs learn what is durable; callbacks run, in order of asking; the next cycle begins
    FOLLOW   errands that need it durable (a new generation of a state log); the next cycle waits for them

If any step before SETTLE fails for a log, that log is fenced and every callback of the cycle hears an error: what is
on disk is unknown. Nothing is tried again.

What does not ask for a sync (plain progress of consumers, settle marks) is written along with the next cycle, or by
one of its own within `LAZY_NS`. In the relaxed mode (an interval instead of a sync a cycle) answers wait
for the write alone, and every `sync_interval_ns` a cycle syncs what is owed.
"""

import os
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final, NamedTuple, Protocol

from headrace.core.base.clock import NS_PER_MS, Scheduler, Timer
from headrace.storage.interface import StorageError
from headrace.storage.sync import Errand, Errands, Outcome, SyncWorker, Write

LAZY_NS: Final = 100 * NS_PER_MS
"""The longest that changes which ask for no sync stay unwritten. Source: docs/storage-format.md's promise on acks."""

AfterSync = Callable[[StorageError | None], None]


class Handover(NamedTuple):
    """What a log contributes to a cycle."""

    before: Sequence[Errand]
    writes: Sequence[Write]
    syncs: Sequence[int]
    follow: Errand | None


class CommitLog(Protocol):
    """What group commit sees of a log."""

    def hand_over(self, *, sync: bool) -> Handover:
        """Give what has gathered. Without `sync`, syncs are owed until a cycle comes with it."""
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
    WRITE = "write"
    FOLLOW = "follow"


class _Cycle:
    def __init__(self, callbacks: list[AfterSync]) -> None:
        self.callbacks = callbacks
        self.shares: list[tuple[CommitLog, Handover]] = []
        self.failed: dict[int, tuple[CommitLog, str]] = {}
        self.asked_sync = False


class GroupCommit:
    """Turns many logs' changes into cycles. Loop thread only."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        errands: Errands,
        sync_always: bool = True,
        sync_interval_ns: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._errands = errands
        self._sync_always = sync_always
        self._sync_interval_ns = sync_interval_ns
        self._worker: SyncWorker | None = None
        self._phase = Phase.IDLE
        self._cycle = _Cycle([])
        self._dirty: dict[CommitLog, None] = {}
        self._owing: dict[CommitLog, None] = {}
        self._errands_before: list[Errand] = []
        self._asks_sync = False
        self._waiting: list[AfterSync] = []
        self._lazy_timer: Timer | None = None
        self._interval_timer: Timer | None = None
        self.cycle_count = 0
        self.recent: dict[CommitLog, None] = {}
        """Logs that were committed since someone emptied this."""

    def use(self, worker: SyncWorker) -> None:
        """Say who writes; `on_worker_done` is to be called when it is done."""
        self._worker = worker

    @property
    def is_settled(self) -> bool:
        """Whether nothing that asks for a sync waits for one."""
        return not self._asks_sync and not (self._is_in_flight and self._cycle.asked_sync)

    def note(self, log: CommitLog, *, sync: bool) -> None:
        """A log has something to hand over."""
        self._dirty[log] = None
        self._asks_sync = self._asks_sync or sync

    def run_before(self, errand: Errand) -> None:
        """Have the next cycle run a store's own errand before its answers (a folder renamed, say)."""
        self._errands_before.append(errand)
        self._asks_sync = True

    def forget(self, log: CommitLog) -> None:
        """A log was deleted; what it gathered is not written."""
        self._dirty.pop(log, None)
        self._owing.pop(log, None)

    def holds(self, log: CommitLog) -> bool:
        """Tell whether the cycle in flight has a share of this log."""
        return self._phase is not Phase.IDLE and any(each is log for each, _ in self._cycle.shares)

    def after_sync(self, callback: AfterSync) -> None:
        """Call back when all that was changed up to now is durable; at once if it is."""
        if self._asks_sync or self._waiting:
            self._waiting.append(callback)
        elif self._is_in_flight and self._cycle.asked_sync:
            self._cycle.callbacks.append(callback)
        else:
            callback(None)

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
            self._settle(outcome)

    def drain(self, wait: Callable[[], None]) -> None:
        """Carry out cycles until nothing waits any more; `wait` waits for a thread to report."""
        if self._owing:
            self._sync_owed()
        while self._phase is not Phase.IDLE or self._dirty or self._waiting or self._errands_before:
            if self._phase is Phase.IDLE:
                self._begin()
            wait()

    def close(self) -> None:
        """Cancel what would still call back."""
        for timer in (self._lazy_timer, self._interval_timer):
            if timer is not None:
                timer.cancel()

    @property
    def _is_in_flight(self) -> bool:
        return self._phase in (Phase.PREPARE, Phase.WRITE)

    def _begin(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        cycle = self._cycle = _Cycle(self._waiting)
        cycle.asked_sync = self._asks_sync
        dirty, self._dirty, self._waiting, self._asks_sync = self._dirty, {}, [], False
        self.cycle_count += 1
        for log in dirty:
            cycle.shares.append((log, log.hand_over(sync=self._sync_always)))
            if not self._sync_always:
                self._owe(log)
        before: list[tuple[CommitLog | None, Errand]] = [(None, each) for each in self._errands_before]
        self._errands_before = []
        before += [(log, errand) for log, share in cycle.shares for errand in share.before]
        if before:
            self._phase = Phase.PREPARE
            self._errands.run(lambda: _prepare(cycle, before), self._on_prepared)
        else:
            self._write()

    def _on_prepared(self, error: OSError | None) -> None:
        assert error is None, "each errand's failure was noted with its log"
        self._write()

    def _write(self) -> None:
        cycle = self._cycle
        self._phase = Phase.WRITE
        sound = [share for log, share in cycle.shares if id(log) not in cycle.failed]
        assert self._worker is not None, "a worker was given before the first cycle"
        self._worker.start(
            [write for share in sound for write in share.writes],
            [sync for share in sound for sync in share.syncs],
        )

    def _settle(self, outcome: Outcome) -> None:
        cycle = self._cycle
        if outcome:
            for log, share in cycle.shares:
                for handle in {*(write[0] for write in share.writes), *share.syncs} & outcome.keys():
                    cycle.failed[id(log)] = (log, f"a write or sync failed: {os.strerror(outcome[handle])}")
        follow: list[tuple[CommitLog, Errand]] = []
        for log, share in cycle.shares:
            failed = cycle.failed.get(id(log))
            if failed is not None:
                log.fence(failed[1])
            else:
                log.on_committed()
                self.recent[log] = None
                if share.follow is not None:
                    follow.append((log, share.follow))
        error: StorageError | None = None
        if cycle.failed:
            error = StorageError("; ".join(reason for _, reason in cycle.failed.values()))
        if follow:
            self._phase = Phase.FOLLOW
            self._follow(follow)
        else:
            self._phase = Phase.IDLE
            self.commit()
        for callback in cycle.callbacks:
            callback(error)

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

    def _on_lazy(self) -> None:
        self._lazy_timer = None
        if self._phase is Phase.IDLE and (self._dirty or self._waiting):
            self._begin()

    def _owe(self, log: CommitLog) -> None:
        self._owing[log] = None
        if self._interval_timer is None and self._sync_interval_ns:
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
        self._sync_owed()

    def _sync_owed(self) -> None:
        if self._phase is not Phase.IDLE:
            return
        owing, self._owing = self._owing, {}
        cycle = self._cycle = _Cycle([])
        self.cycle_count += 1
        for log in owing:
            self._dirty.pop(log, None)
            cycle.shares.append((log, log.hand_over(sync=True)))
        before = [(log, errand) for log, share in cycle.shares for errand in share.before]
        self._phase = Phase.PREPARE
        self._errands.run(lambda: _prepare(cycle, before), self._on_prepared)


def _prepare(cycle: _Cycle, before: Sequence[tuple[CommitLog | None, Errand]]) -> None:
    """Run errands; a failure fences its log, one of the store's own fails the cycle's answers."""
    for log, errand in before:
        if log is not None and id(log) in cycle.failed:
            continue
        try:
            errand()
        except OSError as error:
            reason = f"{error.filename or 'a file'}: {error.strerror}"
            cycle.failed[id(log)] = (log if log is not None else _NOBODY, reason)


class _Nobody:
    """Stands in for the store where one of its own errands failed."""

    def hand_over(self, *, sync: bool) -> Handover:  # noqa: ARG002
        return Handover((), (), (), None)

    def on_committed(self) -> None:
        pass

    def on_followed(self, error: OSError | None) -> None:
        pass

    def fence(self, reason: str) -> None:
        pass


_NOBODY: Final[CommitLog] = _Nobody()
