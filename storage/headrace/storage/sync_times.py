"""How long the disk takes: a histogram of the cycles that synced something."""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BOUNDS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
"""Upper bounds of the buckets, seconds; the last one, without a bound, comes behind them."""


class SyncTimes:
    """Counts durations since the start, without keeping any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_ns: int) -> None:
        """Count a cycle that took so long."""
        duration_s = duration_ns / 1e9
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def buckets(self) -> list[tuple[float, int]]:
        """Give each bound with how many cycles took no longer; the last bound is infinite."""
        return list(zip((*BOUNDS_S, float("inf")), accumulate(self._counts), strict=True))
