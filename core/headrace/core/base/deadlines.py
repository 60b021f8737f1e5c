"""Many deadlines behind one timer.

A server has thousands of things that may fall due: pings, ack waits, pull requests, idle heartbeats. One heap
holds the earliest deadline of each *key*, and one scheduler timer waits for the earliest of all, so that
an idle connection or consumer costs no timer. Setting a later deadline is lazy: the old heap entry stays and is
dropped when it comes up. Setting an earlier one, or clearing and setting again, leaves stale entries too; when most
of the heap is stale it is rebuilt, so it stays within a constant factor of the keys that wait.
"""

import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Final

from headrace.core.base.clock import Scheduler, Timer

STALE_MIN: Final = 256
"""Heap entries below which a rebuild is not worth its while."""


class Deadlines:
    """Calls back keys when their time has come.

    A key has at most one deadline. Its callback takes the current monotonic time and answers with the key's
    next deadline in nanoseconds, or None; it may also call `set` and `clear`.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._heap: list[tuple[int, int, Hashable]] = []
        self._wanted: dict[Hashable, tuple[int, Callable[[int], int | None]]] = {}
        self._order = itertools.count()
        self._timer: Timer | None = None
        self._timer_ns = 0

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def heap_size(self) -> int:
        """Entries held, stale ones included."""
        return len(self._heap)

    def set(self, key: Hashable, deadline_ns: int, callback: Callable[[int], int | None]) -> None:
        """Call `callback` when `deadline_ns` is reached, instead of whatever `key` waited for."""
        held = self._wanted.get(key)
        self._wanted[key] = (deadline_ns, callback)
        if held is None or held[0] > deadline_ns:
            heapq.heappush(self._heap, (deadline_ns, next(self._order), key))
            if len(self._heap) > STALE_MIN + 4 * len(self._wanted):
                self._rebuild()
            self._arm()

    def clear(self, key: Hashable) -> None:
        """Forget `key`'s deadline, if it has one."""
        self._wanted.pop(key, None)

    def _rebuild(self) -> None:
        self._heap = [(wanted[0], next(self._order), key) for key, wanted in self._wanted.items()]
        heapq.heapify(self._heap)

    def _arm(self) -> None:
        deadline_ns = self._heap[0][0]
        if self._timer is not None:
            if self._timer_ns <= deadline_ns:
                return
            self._timer.cancel()
        self._timer_ns = deadline_ns
        self._timer = self._scheduler.call_at(deadline_ns, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = self._scheduler.monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            key = heapq.heappop(self._heap)[2]
            wanted = self._wanted.get(key)
            if wanted is None:
                continue
            deadline_ns, callback = wanted
            if deadline_ns > now_ns:
                heapq.heappush(self._heap, (deadline_ns, next(self._order), key))
                continue
            del self._wanted[key]
            following_ns = callback(now_ns)
            if following_ns is not None:
                self.set(key, following_ns, callback)
        if self._heap and self._timer is None:
            self._arm()
