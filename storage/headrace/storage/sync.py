"""Who writes and syncs: the worker that a group commit hands its bytes to.

One cycle is handed over at a time: `start(writes, syncs, journal)`, and when the worker has woken the loop, `take()`
gives what failed. The journal's write, where there is one, comes first and is synced before anything else is done;
where that fails, nothing else is. Then the writes are carried out in order, then the syncs; a handle whose write
failed is neither written nor synced any more in that cycle. Nothing is ever tried twice: after a failed write or sync
what is on disk is unknown.

There are three workers behind `SyncWorker`. `InlineWorker` does the work within `start`, for virtual time and tests.
`ThreadWorker` has a plain thread. The compiled engine's `SyncThread` (`compiled_log.pyx`) needs no interpreter to
finish, where a plain thread waits for the lock each time that it returns from the kernel.

`Errands` is for what is neither: files made, renamed and removed, which may take milliseconds and must not
stop the loop. They run one after the other, in order.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from headrace.core.base.clock import Scheduler
from headrace.storage.files import Buffer, Files

SWITCH_INTERVAL_S: Final = 0.0005
"""How soon a thread that returns from the kernel gets the interpreter back from a busy loop; Python's own is 5 ms,
which lets a plain sync thread do 109 syncs a second instead of 954 [measured]."""

WAKE_SIZE: Final = 8

Write = tuple[int, int, Buffer]
"""Handle, offset, bytes. The bytes are not changed while the cycle runs."""

Outcome = dict[int, int]
"""The handles whose write or sync failed, each with its errno."""


class SyncWorker(Protocol):
    """Carries out one cycle at a time."""

    @property
    def duration_ns(self) -> int:
        """How long writing and syncing took in the cycle that was taken last; 0: it had nothing to sync."""
        ...

    def start(self, writes: Sequence[Write], syncs: Sequence[int], journal: Write | None = None) -> None:
        """Begin a cycle; the one before was taken. The worker's wake is signalled when it is done."""
        ...

    def take(self) -> Outcome | None:
        """Give what failed in the cycle that is done, once; None while it runs or where there is none."""
        ...

    def close(self) -> None:
        """Let the running cycle end, then stop. Waits."""
        ...


class Wake:
    """How a thread tells the loop that there is something to take: 8 bytes (a 1) written to `write_handle`."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.read_handle = self.write_handle = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.read_handle, self.write_handle = os.pipe()
            os.set_blocking(self.read_handle, False)
            os.set_blocking(self.write_handle, False)

    def signal(self) -> None:
        """Make `read_handle` readable. From any thread."""
        with contextlib.suppress(BlockingIOError):  # It is readable already.
            os.write(self.write_handle, (1).to_bytes(WAKE_SIZE, sys.byteorder))

    def clear(self) -> None:
        """Make it unreadable again."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.read_handle, 512) and self.read_handle != self.write_handle:
                pass

    def close(self) -> None:
        os.close(self.read_handle)
        if self.write_handle != self.read_handle:
            os.close(self.write_handle)


def carry_out(
    files: Files, writes: Sequence[Write], syncs: Sequence[int], journal: Write | None = None
) -> Outcome:
    """Write and sync; what every worker does."""
    failed: Outcome = {}
    if journal is not None:
        handle, offset, data = journal
        try:
            files.pwrite(handle, data, offset)
            files.sync(handle)
        except OSError as error:
            return {handle: error.errno or 0}
    for handle, offset, data in writes:
        if handle not in failed:
            try:
                files.pwrite(handle, data, offset)
            except OSError as error:
                failed[handle] = error.errno or 0
    for handle in syncs:
        if handle not in failed:
            try:
                files.sync(handle)
            except OSError as error:
                failed[handle] = error.errno or 0
    return failed


class InlineWorker:
    """Works at once; the caller comes back for the outcome in the scheduler's next turn."""

    def __init__(self, files: Files, scheduler: Scheduler, on_done: Callable[[], None]) -> None:
        self._files = files
        self._scheduler = scheduler
        self._on_done = on_done
        self._outcome: Outcome | None = None
        self.duration_ns = 0

    def start(self, writes: Sequence[Write], syncs: Sequence[int], journal: Write | None = None) -> None:
        assert self._outcome is None, "the cycle before was taken"
        self._outcome = carry_out(self._files, writes, syncs, journal)
        self._scheduler.call_soon(self._on_done)

    def take(self) -> Outcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def close(self) -> None:
        pass


class ThreadWorker:
    """Works in a thread of its own."""

    def __init__(self, files: Files, wake: Wake) -> None:
        self._files = files
        self._wake = wake
        self._cycles: queue.SimpleQueue[tuple[Sequence[Write], Sequence[int], Write | None] | None] = (
            queue.SimpleQueue()
        )
        self._outcome: Outcome | None = None
        self.duration_ns = 0
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval_s, SWITCH_INTERVAL_S))
        self._thread = threading.Thread(target=self._run, name="headrace-sync", daemon=True)
        self._thread.start()

    def start(self, writes: Sequence[Write], syncs: Sequence[int], journal: Write | None = None) -> None:
        assert self._outcome is None, "the cycle before was taken"
        self._cycles.put((writes, syncs, journal))

    def take(self) -> Outcome | None:
        outcome = self._outcome
        if outcome is not None:  # else the thread may be about to leave one
            self._outcome = None
        return outcome

    def close(self) -> None:
        self._cycles.put(None)
        self._thread.join()
        sys.setswitchinterval(self._switch_interval_s)

    def _run(self) -> None:
        while (cycle := self._cycles.get()) is not None:
            writes, syncs, journal = cycle
            started_ns = time.monotonic_ns()
            self._outcome = carry_out(self._files, writes, syncs, journal)
            has_synced = bool(syncs) or journal is not None
            self.duration_ns = time.monotonic_ns() - started_ns if has_synced else 0
            self._wake.signal()


Errand = Callable[[], None]


class Errands:
    """Runs slow file work in order, and calls back on the loop with the OSError that it ended with, or None.

    In a thread where there is a `wake`, else at once, with the call back in the scheduler's next turn.
    """

    def __init__(self, scheduler: Scheduler, wake: Wake | None, *, name: str = "headrace-files") -> None:
        self._scheduler = scheduler
        self._wake = wake
        self._name = name
        self._thread: threading.Thread | None = None
        self._asked: queue.SimpleQueue[tuple[Errand, Callable[[OSError | None], None]] | None] = (
            queue.SimpleQueue()
        )
        self._done: deque[tuple[Callable[[OSError | None], None], OSError | None]] = deque()

    def run(self, errand: Errand, then: Callable[[OSError | None], None]) -> None:
        """Run `errand` after those asked for before; `then` hears how it ended."""
        if self._wake is None:
            self._done.append((then, _outcome_of(errand)))
            self._scheduler.call_soon(self.deliver)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._asked.put((errand, then))

    def deliver(self) -> None:
        """Call back for what is done. Loop thread."""
        while self._done:
            then, error = self._done.popleft()
            then(error)

    def close(self) -> None:
        """Let what was asked for end, then stop; deliver it. Waits."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None
        self.deliver()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            errand, then = asked
            self._done.append((then, _outcome_of(errand)))
            if self._wake is not None:
                self._wake.signal()


def _outcome_of(errand: Errand) -> OSError | None:
    try:
        errand()
    except OSError as error:
        return error
    return None
