"""Who writes the lookup index: here, in the turns of the loop, or a process of its own (`index_process.py`).

Jobs are carried out one after the other. What became of one is told when the loop looks (`work`), never from within
`submit`.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol

from headrace.core.base.clock import NS_PER_S, Clock
from headrace.storage.files import Files
from headrace.storage.index_interface import IndexDamaged, IndexUnwritable
from headrace.storage.index_jobs import Done, Executor, Job
from headrace.storage.index_root import IndexRoot

OnDone = Callable[[Done | None, Exception | None], None]
"""Hears what a job led to, or what went wrong: IndexDamaged, IndexUnwritable, or an OSError of a segment's file."""

FAILURES: Final = (IndexDamaged, IndexUnwritable, OSError)


class JobCut(OSError):
    """Whoever did a job is gone, and nobody knows how much of it was done."""


class Indexer(Protocol):
    """Carries out jobs in order."""

    def submit(self, job: Job, on_done: OnDone) -> None:
        """Take a job; it is not changed any more."""
        ...

    def work(self, deadline_ns: int) -> bool:
        """Get on with it until `deadline_ns`, and tell who waits what is done; whether more is to do *here*."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Work, or wait for who does, for so long at most."""
        ...

    def close(self) -> None:
        """Stop; what was not done is forgotten, and nobody is told."""
        ...


class InlineIndexer:
    """Works in the loop's own turns."""

    def __init__(self, root: IndexRoot, files: Files, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._executor = Executor(root, files)
        self._waiting: deque[tuple[Job, OnDone]] = deque()
        self._running: Generator[None, None, Done] | None = None
        self._on_done: OnDone | None = None

    def submit(self, job: Job, on_done: OnDone) -> None:
        self._waiting.append((job, on_done))

    def work(self, deadline_ns: int) -> bool:
        while True:
            if self._running is None and not self._waiting:
                return self._root.sweep()
            self._step()
            if self._clock.monotonic_ns() >= deadline_ns:
                return True

    def wait(self, timeout_s: float) -> None:
        self.work(self._clock.monotonic_ns() + int(timeout_s * NS_PER_S))

    def unfinished(self) -> list[tuple[Job, OnDone]]:
        """Stop, and give what was not begun; a job that was begun is cut."""
        waiting = list(self._waiting)
        on_done = self._on_done if self._running is not None else None
        self.close()
        if on_done is not None:
            on_done(None, JobCut())
        return waiting

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
        self._waiting.clear()

    def _step(self) -> None:
        running = self._running
        if running is None:
            job, self._on_done = self._waiting.popleft()
            running = self._running = self._executor.run(job)
        done: Done | None = None
        failure: Exception | None = None
        try:
            next(running)
        except StopIteration as end:
            done = end.value
        except FAILURES as error:
            failure = error
        else:
            return
        on_done, self._on_done, self._running = self._on_done, None, None
        assert on_done is not None, "a job that runs has someone who waits for it"
        on_done(done, failure)
