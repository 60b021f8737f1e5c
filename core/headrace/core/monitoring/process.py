"""What the operating system says about this process: memory, processors, their use."""

import os
from typing import Final, Protocol

from headrace.core.base.clock import NS_PER_S, Clock

_STATM: Final = "/proc/self/statm"


class Process(Protocol):
    """The process that a server runs in."""

    @property
    def memory_size(self) -> int:
        """Resident bytes; 0 where the system does not tell."""
        ...

    @property
    def core_count(self) -> int: ...

    def cpu_percent(self) -> float:
        """Give the use of processors since the last time of asking; 100 is one whole core."""
        ...


class OwnProcess:
    """The process as the operating system sees it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_ns = clock.monotonic_ns()
        self._used_s = self._total_used_s()

    @staticmethod
    def _total_used_s() -> float:
        times = os.times()
        return times.user + times.system

    @property
    def memory_size(self) -> int:
        try:
            with open(_STATM, encoding="ascii") as file:
                pages = int(file.read().split()[1])
        except OSError:  # not Linux
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def core_count(self) -> int:
        return os.cpu_count() or 1

    def cpu_percent(self) -> float:
        now_ns, used_s = self._clock.monotonic_ns(), self._total_used_s()
        elapsed_s = (now_ns - self._asked_ns) / NS_PER_S
        share = (used_s - self._used_s) / elapsed_s if elapsed_s > 0 else 0.0
        self._asked_ns, self._used_s = now_ns, used_s
        return round(max(0.0, share) * 100, 1)
