"""Time, and being woken at a time: the only module that reads a clock.

Two clocks are told apart. `now_ns` is wall-clock time, for stamps that leave the process; `monotonic_ns` is
for deadlines. Nothing below the transports knows an event loop: what has to run later asks a `Scheduler`, so a
whole server runs in virtual time when it is given a `VirtualScheduler`.

Callbacks run one at a time, never inside the call that scheduled them.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000

Callback = Callable[[], None]


class Clock(Protocol):
    """Where the time comes from."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes back."""
        ...


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Make sure that it does not run; harmless afterwards."""
        ...


class Scheduler(Clock, Protocol):
    """A clock that also calls back."""

    def call_soon(self, callback: Callback) -> None:
        """Run `callback` in the next turn, after all that was asked for before it."""
        ...

    def call_at(self, deadline_ns: int, callback: Callback) -> Timer:
        """Run `callback` once `monotonic_ns()` has reached `deadline_ns`."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class LoopScheduler(SystemClock):
    """The machine's clocks, with callbacks run by an asyncio event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_soon(self, callback: Callback) -> None:
        self._loop.call_soon(callback)

    def call_at(self, deadline_ns: int, callback: Callback) -> Timer:
        delay_s = max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S
        return self._loop.call_later(delay_s, callback)


class _VirtualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualScheduler:
    """Time that passes only when a test says so.

    `advance_to` runs every callback that is due on the way, in order of deadline and then of asking, and sets
    the clock to each deadline before its callback runs; so simulated days take milliseconds.
    """

    def __init__(self, start_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[int, int, _VirtualTimer]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        return self._start_ns + self._elapsed_ns

    def monotonic_ns(self) -> int:
        return self._elapsed_ns

    def call_soon(self, callback: Callback) -> None:
        self._soon.append(callback)

    def call_at(self, deadline_ns: int, callback: Callback) -> Timer:
        timer = _VirtualTimer(callback)
        heapq.heappush(self._timers, (deadline_ns, next(self._order), timer))
        return timer

    def settle(self) -> None:
        """Run all that may run without time passing."""
        while True:
            while self._soon:
                self._soon.popleft()()
            if not self._timers or self._timers[0][0] > self._elapsed_ns:
                return
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()

    def advance_to(self, monotonic_ns: int) -> None:
        """Let time pass until `monotonic_ns`, running what falls due."""
        self.settle()
        while self._timers and self._timers[0][0] <= monotonic_ns:
            self._elapsed_ns = max(self._elapsed_ns, self._timers[0][0])
            self.settle()
        self._elapsed_ns = max(self._elapsed_ns, monotonic_ns)

    def advance(self, duration_ns: int) -> None:
        """Let `duration_ns` nanoseconds pass, running what falls due."""
        self.advance_to(self._elapsed_ns + duration_ns)
