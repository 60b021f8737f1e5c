"""Running the cases of a campaign: one number gives one case, and a case that breaks a promise is a finding.

A case is a function of its number that counts what it has seen, and raises `Broken` where a promise is broken. Whatever
else it raises is a finding too: a store that cannot be opened, an invariant of the server's own that does not hold.
Cases share nothing, so they may run in several processes, and any of them can be repeated by its number alone.
"""

import itertools
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from headrace.core.base.errors import HeadraceError
from headrace.tools.selftest.growth import Row

FINDINGS_MAX: Final = 50
"""After so many findings a campaign ends."""

FINDINGS_SHOWN: Final = 20
CHUNK: Final = 16
"""How many cases a process is given at a time."""

FRAMES_SHOWN: Final = 3

Case = Callable[[int], Counter[str]]


class Broken(HeadraceError):
    """A promise was broken; says which and how."""


@dataclass(frozen=True, slots=True)
class Found:
    """A case that broke a promise: its number, which repeats it, and what was seen."""

    number: int
    text: str


@dataclass(slots=True)
class Tally:
    """What a campaign's cases have seen. `is_cut_short`: its time was over, or it had found enough."""

    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    findings: list[Found] = field(default_factory=list[Found])
    elapsed_s: float = 0.0
    is_cut_short: bool = False

    def take(self, other: "Tally") -> None:
        """Add what others have seen."""
        self.cases += other.cases
        self.counts += other.counts
        self.findings += other.findings
        self.elapsed_s += other.elapsed_s
        self.is_cut_short = self.is_cut_short or other.is_cut_short

    def rows(self, what: str) -> list[Row]:
        """Give the result as lines; `what` names the cases."""
        figure = f"{self.cases:,} in {self.elapsed_s:.0f} s"
        rows = [Row(what, f"{figure}, cut short" if self.is_cut_short else figure, self.cases > 0)]
        rows += [Row(name, f"{count:,}", passed=True) for name, count in sorted(self.counts.items())]
        rows.append(Row("promises broken", f"{len(self.findings):,}", not self.findings))
        rows += [
            Row(f"--seed {found.number} --count 1", found.text, passed=False)
            for found in self.findings[:FINDINGS_SHOWN]
        ]
        return rows


def expect(is_so: bool, text: str) -> None:
    """Raise Broken unless it is so."""
    if not is_so:
        raise Broken(text)


def expect_same(what: str, found: object, expected: object) -> None:
    """Raise Broken unless two values are equal."""
    if found != expected:
        raise Broken(f"{what}: found {_short(found)}, expected {_short(expected)}")


def run_cases(case: Case, numbers: Iterable[int], *, seconds: float = 0.0, jobs: int = 1) -> Tally:
    """Run a case for each number, in so many processes, until the time (0: unlimited) is over."""
    started = time.monotonic()
    deadline_s = started + seconds if seconds else float("inf")
    tally = Tally()
    outcomes = _parallel(case, numbers, jobs) if jobs > 1 else map(partial(_run_one, case), numbers)
    for outcome in outcomes:
        tally.take(outcome)
        if time.monotonic() > deadline_s or len(tally.findings) >= FINDINGS_MAX:
            tally.is_cut_short = True
            break
    tally.elapsed_s = time.monotonic() - started
    return tally


def _run_one(case: Case, number: int) -> Tally:
    tally = Tally(cases=1)
    try:
        tally.counts = case(number)
    except Broken as error:
        tally.findings.append(Found(number, str(error)))
    except Exception as error:  # noqa: BLE001  (whatever a case runs into is what is looked for)
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_SHOWN:]
        places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        tally.findings.append(Found(number, f"{type(error).__name__}: {error} ({places})"))
    return tally


def _run_chunk(case: Case, numbers: list[int]) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.take(_run_one(case, number))
    return tally


def _parallel(case: Case, numbers: Iterable[int], jobs: int) -> Iterator[Tally]:
    """Keep two chunks a process asked for, and no more: a campaign that ends early leaves little behind."""
    left = iter(numbers)
    running: set[Future[Tally]] = set()
    with ProcessPoolExecutor(jobs) as pool:
        while True:
            while len(running) < 2 * jobs and (chunk := list(itertools.islice(left, CHUNK))):
                running.add(pool.submit(_run_chunk, case, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
