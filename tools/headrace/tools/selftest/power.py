"""Power cuts: a store with many streams loses its power in the middle of anything, again and again.

A case plays some lives on one disk. In each, the power goes in a drawn change of the disk, in one life of four while
the store recovers from the life before. What was not synced by then is kept, dropped or torn by chance. Then every
promise is held against what is found. Some lives end with the death of the process alone, some with a clean stop.
"""

import contextlib
import tempfile
from collections import Counter
from functools import partial
from typing import Final

from headrace.storage.faulty_files import PowerLost
from headrace.tools.selftest.cases import Tally, run_cases
from headrace.tools.selftest.fleet import Fleet
from headrace.tools.selftest.places import place_of
from headrace.tools.selftest.world import World

LIVES: Final = 4
CHANGES_MAX: Final = 150
RECOVERY_CHANGES_MAX: Final = 30
STEPS_OF_A_QUIET_LIFE: Final = 60
LMDB_EVERY: Final = 8
"""Each so many cases have their index in LMDB, on the real disk, where it survives every cut."""


def power_cuts(seed: int, *, lives: int = LIVES) -> Counter[str]:
    """Play one seed."""
    with contextlib.ExitStack() as stack:
        path = None
        if seed % LMDB_EVERY == 1:
            path = stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-cut-"))
        world = World(seed, index_path=path)
        stack.callback(world.leave)
        return _play(world, Fleet(world, seed), lives)


def run_power_cuts(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Play `count` seeds from `seed` on."""
    return run_cases(partial(power_cuts), range(seed, seed + count), seconds=seconds, jobs=jobs)


def _play(world: World, fleet: Fleet, lives: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _ in range(lives):
        draw = fleet.random.random()
        if draw < 0.1:
            fleet.run(STEPS_OF_A_QUIET_LIFE)
            fleet.commit()
            world.wait()
            fleet.come_back(world.reopen() if draw < 0.03 else world.kill())
            counts["lives ended by a kill or a clean stop"] += 1
            continue
        world.files.cut_at(fleet.random.randint(1, CHANGES_MAX))
        with contextlib.suppress(PowerLost):
            fleet.run_until_cut()
        counts[f"cut at: {place_of(world.files.last_change[1])}"] += 1
        while fleet.random.random() < 0.25:
            world.cut()
            world.files.cut_at(fleet.random.randint(1, RECOVERY_CHANGES_MAX))
            try:
                world.store = world.open()
            except PowerLost:
                counts["cut within recovery"] += 1
                continue
            break
        fleet.come_back(world.power_cut())
        counts["cuts"] += 1
    return counts
