"""What a run gives, and what several pairs of runs say together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

NS_PER_US: Final = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: how many messages in how many seconds, the server's processor time, latencies where they were taken."""

    count: int
    elapsed_s: float
    cpu_s: float
    latency_p50_us: float = 0.0
    latency_p99_us: float = 0.0
    memory_size: int = 0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.count / self.elapsed_s

    @property
    def cpu_s_per_million(self) -> float:
        """Server processor seconds for a million messages."""
        return self.cpu_s * 1e6 / self.count


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """Give the value below which `share` of the ascending values lie; 0 where there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Interleaved runs of two servers under the same load: pair i ran one right after the other."""

    ours: tuple[Sample, ...]
    theirs: tuple[Sample, ...]

    @property
    def ratios(self) -> list[float]:
        """Our rate as a multiple of theirs, pair by pair, ascending."""
        return sorted(a.rate / b.rate for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def cpu_ratio(self) -> float:
        """The median of our processor time a message as a multiple of theirs; 0 where none was measured."""
        pairs = zip(self.ours, self.theirs, strict=True)
        ratios = [a.cpu_s_per_million / b.cpu_s_per_million for a, b in pairs if b.cpu_s > 0]
        return statistics.median(ratios) if ratios else 0.0

    def summary(self) -> dict[str, Any]:
        """Give everything that was measured, JSON-able."""
        return {
            "ratio": round(self.ratio, 3),
            "ratio_min": round(self.ratios[0], 3),
            "ratio_max": round(self.ratios[-1], 3),
            "cpu_ratio": round(self.cpu_ratio, 3),
            "ours": summary_of(self.ours),
            "theirs": summary_of(self.theirs),
        }


def summary_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """Give medians and spread of one side's runs, JSON-able."""
    rates = sorted(sample.rate for sample in samples)
    summary: dict[str, Any] = {
        "rate": round(statistics.median(rates)),
        "rate_min": round(rates[0]),
        "rate_max": round(rates[-1]),
        "cpu_s_per_million": round(statistics.median(sample.cpu_s_per_million for sample in samples), 3),
        "messages": sum(sample.count for sample in samples),
    }
    if any(sample.latency_p50_us for sample in samples):
        summary["p50_us"] = round(statistics.median(sample.latency_p50_us for sample in samples), 1)
        summary["p99_us"] = round(statistics.median(sample.latency_p99_us for sample in samples), 1)
    return summary
