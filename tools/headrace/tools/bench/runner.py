"""Interleaved runs: ours, theirs, ours, theirs, each on a server that was just started and on an empty store."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.tools.bench.measure import Comparison, Sample
from headrace.tools.bench.rows import Row
from headrace.tools.launch import Program, Settings, start

Progress = Callable[[str, Sample], None]


@dataclass(frozen=True, slots=True)
class Contest:
    """Who runs against whom, how often and for how long."""

    ours: Program
    theirs: Program
    pairs: int
    seconds: float


def run_once(program: Program, row: Row, sync: str, seconds: float) -> Sample:
    """Start a server, put the load on it, end it; raises BenchError or LaunchError."""
    settings = Settings(jetstream=row.load.jetstream, sync=sync, monitoring=True)
    with start(program, settings) as server:
        return row.load.run(server, seconds)


def run_row(contest: Contest, row: Row, progress: Progress | None = None) -> Comparison:
    """Run all pairs of one row. Who is first alternates, so that neither gains by the other's warmth."""
    ours: list[Sample] = []
    theirs: list[Sample] = []
    for pair in range(contest.pairs):
        sides = [(contest.ours, row.ours, ours), (contest.theirs, row.theirs, theirs)]
        for program, sync, samples in sides if pair % 2 == 0 else reversed(sides):
            sample = run_once(program, row, sync, contest.seconds)
            samples.append(sample)
            if progress is not None:
                progress(program.name, sample)
    return Comparison(tuple(ours), tuple(theirs))
