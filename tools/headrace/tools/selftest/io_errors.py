"""Every call of a workload fails, each in a case of its own: once or from then on, with EIO or with ENOSPC.

Answers come all the same, and soon; what they confirm is found after the next start, on a disk that has healed.
"""

import errno
from collections import Counter
from collections.abc import Iterable
from typing import Final

from headrace.core.base.chance import Chance
from headrace.tools.selftest.cases import Tally, run_cases
from headrace.tools.selftest.fleet import Fleet
from headrace.tools.selftest.world import World

CALLS: Final = 1000
"""How many calls the workload makes, at least: each of them fails in some case."""

VARIANTS: Final = (
    (errno.EIO, False),
    (errno.EIO, True),
    (errno.ENOSPC, False),
    (errno.ENOSPC, True),
)
STEPS_AT_ONCE: Final = 10
STEPS_MAX: Final = 600


def case_count() -> int:
    """Give how many cases there are."""
    return CALLS * len(VARIANTS)


def fail_call(number: int) -> Counter[str]:
    """Let call `number // 4` fail in the way of `number % 4`, and judge."""
    nth = number // len(VARIANTS) + 1
    error_number, is_lasting = VARIANTS[number % len(VARIANTS)]
    world = World(1)
    fleet = Fleet(world, 1)
    # The first fault comes while all is young, the last one after many pages were turned.
    fleet.checks = False
    files = world.files
    # No read ever runs out of room.
    kind = "change" if error_number == errno.ENOSPC else "any"
    start = files.changes if kind == "change" else files.calls
    files.fail(kind, nth=nth, number=error_number, lasting=is_lasting, part=number % 5 / 4)
    steps = 0
    while steps < STEPS_MAX and start + nth > (files.changes if kind == "change" else files.calls):
        fleet.run_with_errors(STEPS_AT_ONCE)
        steps += STEPS_AT_ONCE
    fleet.run_with_errors(STEPS_AT_ONCE * 3)
    counts = Counter({f"errors {'lasting' if is_lasting else 'once'}": 1})
    counts["refused at once"] += len(fleet.refusals)
    counts["answered with an error"] += len(fleet.errors)
    counts["streams fenced"] += sum(bool(each.log.fenced) for each in fleet.programs.values())
    world.files.heal()
    fleet.come_back(world.power_cut() if number % 3 else world.kill())
    fleet.checks = True
    fleet.run(STEPS_AT_ONCE)
    fleet.commit()
    fleet.check()
    return counts


def run_io_errors(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Let `count` drawn calls fail, 0: every one, in every way; each alone."""
    numbers: Iterable[int] = range(case_count())
    if count == 1:
        numbers = [seed]
    elif count:
        chance = Chance(seed)
        numbers = (chance.below(case_count()) for _ in range(count))
    return run_cases(fail_call, numbers, seconds=seconds, jobs=jobs)
