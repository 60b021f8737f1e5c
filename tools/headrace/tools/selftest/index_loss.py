"""The index is lost: deleted, damaged, or rolled back to any earlier copy, after every kind of removal.

Nothing but the index knows less afterwards, so every stream must show the same as before: messages, counts by subject,
message ids, consumers.

LMDB maps its file and has no checksums, so damage may end the process that reads it. That is why the store is opened
in a process of its own here: it may die of the damage once, and the next start must be a good one.
"""

import os
import shutil
import signal
import tempfile
from collections import Counter
from typing import Final, NoReturn

from headrace.core.base.chance import Chance
from headrace.storage.store import INDEX_FOLDER
from headrace.tools.selftest.cases import Broken, Tally, expect, run_cases
from headrace.tools.selftest.fleet import Fleet
from headrace.tools.selftest.world import World

LIVES: Final = 3
STEPS: Final = 40
STEPS_AFTER: Final = 10
DEATHS_MAX: Final = 1
REPORT_SIZE_MAX: Final = 4096
PAGE: Final = 4096
WAYS: Final = ("deleted", "a file deleted", "bytes damaged", "page damaged", "cut", "rolled back", "emptied")


def lose_index(seed: int) -> Counter[str]:
    """Play one seed: some lives, then the loss."""
    chance = Chance(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="headrace-index-") as folder:
        world = World(seed, index_path=f"{folder}/store")
        fleet = Fleet(world, seed)
        index = f"{world.path}/{INDEX_FOLDER}"
        copies: list[str] = []
        for life in range(1 + chance.below(LIVES)):
            if life:
                world.store = world.open()
                fleet.come_back(world.store.logs())
            fleet.run(STEPS)
            fleet.commit()
            if chance.below(3):
                world.wait()
            copies.append(f"{folder}/copy-{life}")
            shutil.copytree(index, copies[-1])
            _stop(world, chance)
        way = WAYS[chance.below(len(WAYS))]
        _lose(index, way, copies, chance)
        counts[f"index {way}"] += 1
        counts["starts that the damage ended"] += _come_back(world, fleet)
    return counts


def _come_back(world: World, fleet: Fleet) -> int:
    """Open the store in a process of its own, and once more if that died; give how often it did."""
    for deaths in range(DEATHS_MAX + 1):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            _report(world, fleet, write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            told = pipe.read().decode(errors="replace")
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            expect(told == "", told)
            return deaths
        expect(os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT), f"ended by {status}")
    raise Broken(f"{DEATHS_MAX + 1} starts in a row died of the damaged index")


def _report(world: World, fleet: Fleet, write_end: int) -> NoReturn:
    """The child: write what is wrong, and end."""
    told = ""
    try:
        world.store = world.open()
        fleet.come_back(world.store.logs())
        fleet.run(STEPS_AFTER)
        fleet.commit()
        fleet.check()
    except BaseException as error:  # noqa: BLE001  (nothing may get out of the child but its report)
        told = f"{type(error).__name__}: {error}"
    os.write(write_end, told.encode()[:REPORT_SIZE_MAX])
    os._exit(0)


def run_index_loss(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Play `count` seeds from `seed` on."""
    return run_cases(lose_index, range(seed, seed + count), seconds=seconds, jobs=jobs)


def _stop(world: World, chance: Chance) -> None:
    draw = chance.below(3)
    if draw == 0:
        world.store.close()
    elif draw == 1:
        world.leave()
        world.files = world.files.killed()
    else:
        world.cut()


def _lose(index: str, way: str, copies: list[str], chance: Chance) -> None:
    names = sorted(os.listdir(index))
    data = os.path.join(index, "data.mdb")
    if way == "deleted":
        shutil.rmtree(index)
    elif way == "a file deleted":
        os.unlink(os.path.join(index, names[chance.below(len(names))]))
    elif way == "rolled back":
        shutil.rmtree(index)
        shutil.copytree(copies[chance.below(len(copies))], index)
    elif way == "emptied":
        for name in names:
            os.truncate(os.path.join(index, name), 0)
    else:
        size = os.path.getsize(data)
        with open(data, "r+b") as file:
            if way == "cut":
                file.truncate(chance.below(size))
            elif way == "page damaged":
                file.seek(chance.below(-(-size // PAGE)) * PAGE)
                file.write(bytes(chance.below(256) for _ in range(PAGE)))
            else:
                for _ in range(1 + chance.below(20)):
                    file.seek(chance.below(size))
                    file.write(bytes([chance.below(256)]))
