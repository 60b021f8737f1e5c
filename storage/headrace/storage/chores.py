"""Work that nobody waits for: what a store folds, copies and compacts in the background.

A **chore** is an iterator. Each step of it runs off the loop and gives how many bytes it has read and written;
between two steps the loop may do other work, and another log's chore its own step. So a step is kept short: a
file of some hundred kilobytes, or one sync.

Chores that are `run` go on at once. Those that are `queue`d go one after the other, over all logs of the store,
at no more than so many bytes a second: copying what is still needed must not take the disk from those who
publish.

A chore that the process leaves behind has changed nothing that counts: what it made has no name yet, or a start
knows what to do with it. So stopping does not wait for chores, only for a step that is running.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from headrace.core.base.clock import NS_PER_S, Scheduler
from headrace.storage.sync import Errands

Chore = Iterator[int]
Then = Callable[[OSError | None], None]

_DONE: Final = -1


class _Running:
    __slots__ = ("chore", "cost", "is_paced", "then")

    def __init__(self, chore: Chore, then: Then, *, is_paced: bool) -> None:
        self.chore = chore
        self.then = then
        self.is_paced = is_paced
        self.cost = 0

    def step(self) -> None:
        self.cost = _DONE
        self.cost = next(self.chore, _DONE)


class Chores:
    """The background work of all logs of a store. Loop thread only."""

    def __init__(self, scheduler: Scheduler, errands: Errands, *, rate: int) -> None:
        self._scheduler = scheduler
        self._errands = errands
        self._rate = rate
        self._queue: deque[_Running] = deque()
        self._paced: _Running | None = None
        self._is_stopped = False
        self.empty_journal: Callable[[Then], None] = self._without_journal
        """Has all that the journal holds brought to its files, synced, and overwritten in the journal."""

    def run(self, chore: Chore, then: Then) -> None:
        """Do `chore`; `then` hears how it ended, in a later turn."""
        self._step(_Running(chore, then, is_paced=False))

    def queue(self, chore: Chore, then: Then) -> None:
        """Do `chore` after those queued before it, at the store's pace."""
        self._queue.append(_Running(chore, then, is_paced=True))
        self._next()

    def stop(self) -> None:
        """Begin no further step."""
        self._is_stopped = True
        self._queue.clear()

    def _without_journal(self, then: Then) -> None:
        self.run(iter(()), then)

    def _next(self) -> None:
        if self._paced is None and self._queue:
            self._paced = self._queue.popleft()
            self._step(self._paced)

    def _step(self, running: _Running) -> None:
        if not self._is_stopped:
            self._errands.run(running.step, partial(self._on_step, running))

    def _on_step(self, running: _Running, error: OSError | None) -> None:
        if error is None and running.cost != _DONE:
            if running.is_paced and running.cost:
                wait_ns = running.cost * NS_PER_S // self._rate
                self._scheduler.call_at(
                    self._scheduler.monotonic_ns() + wait_ns, partial(self._step, running)
                )
            else:
                self._step(running)
            return
        if running.is_paced:
            self._paced = None
        if not self._is_stopped:
            running.then(error)
            self._next()
