"""Results as a table for people and as JSON for everything else."""

import os
import platform
from collections.abc import Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from headrace.tools.bench.disk import sync_latency_us
from headrace.tools.bench.measure import Comparison, summary_of
from headrace.tools.bench.rows import DURABILITY, Row
from headrace.tools.bench.runner import Contest

TABLE_WIDTH: Final = 170
"""What the table needs; a narrower terminal wraps its lines, a file gets them whole."""

Result = tuple[Row, Comparison]


def table(contest: Contest, results: Sequence[Result]) -> Table:
    """Lay results out: medians, least and greatest ratio, processor time, latencies where they were taken."""
    title = f"{contest.ours.name} and {contest.theirs.name}, medians of {contest.pairs} interleaved pairs"
    shown = Table(
        title=title, box=SIMPLE_HEAD, caption=f"a sync of this disk takes {sync_latency_us():.0f} us"
    )
    shown.add_column("load", no_wrap=True)
    shown.add_column("acks, ours / theirs", no_wrap=True)
    for title in (
        "ours/s",
        "theirs/s",
        "ratio",
        "min-max",
        "CPU s/M",
        "theirs",
        "ratio",
        "p50/p99 us",
        "theirs",
    ):
        shown.add_column(title, justify="right", no_wrap=True)
    for row, comparison in results:
        ours, theirs = summary_of(comparison.ours), summary_of(comparison.theirs)
        shown.add_row(
            row.title,
            f"{DURABILITY[row.ours]} / {DURABILITY[row.theirs]}" if row.ours else "",
            _rate(ours["rate"]),
            _rate(theirs["rate"]),
            f"{comparison.ratio:.2f}x",
            f"{comparison.ratios[0]:.2f}-{comparison.ratios[-1]:.2f}",
            f"{ours['cpu_s_per_million']:.2f}",
            f"{theirs['cpu_s_per_million']:.2f}",
            f"{comparison.cpu_ratio:.2f}x",
            _latencies(ours),
            _latencies(theirs),
        )
    return shown


def _rate(rate: float) -> str:
    if rate >= 1e6:
        return f"{rate / 1e6:.2f} M"
    return f"{rate / 1e3:.1f} k"


def _latencies(side: dict[str, Any]) -> str:
    return f"{side['p50_us']:.0f}/{side['p99_us']:.0f}" if "p50_us" in side else ""


def document(contest: Contest, results: Sequence[Result]) -> dict[str, Any]:
    """Give everything: who ran where, how, and what came out."""
    return {
        "ours": {"name": contest.ours.name, "version": contest.ours.version()},
        "theirs": {"name": contest.theirs.name, "version": contest.theirs.version()},
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "sync_us": round(sync_latency_us()),
        },
        "pairs": contest.pairs,
        "seconds": contest.seconds,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "durability": {"ours": DURABILITY[row.ours], "theirs": DURABILITY[row.theirs]},
                **comparison.summary(),
            }
            for row, comparison in results
        ],
    }
