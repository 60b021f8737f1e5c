"""Space that removed messages took comes back, and no crash on the way costs or revives a message."""

from dataclasses import replace

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S
from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.storage.interface import Effect, Entry, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import BOUNDS, World

SMALL = replace(BOUNDS, fold_size_min=1, rewrite_gain_min=256, rewrite_share_max=0.7)


class SmallWorld(World):
    """A world in which everything that gives space back happens soon."""

    def open(self) -> FileStore:
        options = StoreOptions(is_index_in_memory=True, bounds=SMALL)
        chance = Chance(self._chance.bits64())
        return open_store(
            self.path, scheduler=self.scheduler, chance=chance, files=self.files, options=options
        )


def used(files: FaultyFiles, log: StreamLog, ending: str = "") -> int:
    """Give how many bytes a stream's segments take."""
    folder = f"/store/streams/{log.stream_id:016x}/seg"
    sizes = [files.status(f"{folder}/{each}") for each in files.list_folder(folder) if each.endswith(ending)]
    return sum(each.size for each in sizes if each is not None)


def names(files: FaultyFiles, log: StreamLog) -> list[str]:
    return files.list_folder(f"/store/streams/{log.stream_id:016x}/seg")


def rest(world: World) -> None:
    """Let all that upkeep has to do come to its end."""
    for _ in range(10):
        world.scheduler.advance(NS_PER_S)


def put(world: World, log: StreamLog, key: int, size: int = 200) -> None:
    subject = b"key.%d" % key
    log.append(
        [Entry(subject, b"", b"v" * size, world.scheduler.now_ns(), effect=Effect(subject_before=True))]
    )


def run_until_cut(program: Program) -> None:
    """Go on, with pauses in which background work gets its turn, until the power goes."""
    while True:
        program.run(10)
        program.world.scheduler.advance(NS_PER_S // 10)


def test_a_store_of_keys_takes_no_more_than_a_few_times_what_it_holds() -> None:
    world = SmallWorld(1)
    log = world.create()
    put(world, log, 10_000)
    for number in range(3000):
        put(world, log, number * 7 % 40)
        if number % 10 == 9:
            world.commit()
            world.scheduler.advance(NS_PER_S // 100)
    rest(world)
    assert log.head.messages == 41
    assert used(world.files, log) < 6 * 16384
    world.kill()
    (log,) = world.store.logs()
    assert log.head.messages == 41
    assert log.head.lost == ()
    assert log.get(1) is not None


def test_interior_deletes_give_their_space_back() -> None:
    world = SmallWorld(2)
    log = world.create()
    for _ in range(30):
        log.append([Entry(b"s", b"", b"x" * 100, world.scheduler.now_ns()) for _ in range(20)])
        world.commit()
    before = used(world.files, log)
    kept = [sequence for sequence in range(1, 601) if sequence % 20 == 0 or sequence == 1]
    log.remove([(each, each) for each in range(1, 601) if each not in kept])
    world.commit()
    rest(world)
    assert used(world.files, log) < before / 3
    for again in (False, True):
        if again:
            (log,) = world.kill()
        assert [
            view.sequence for view in log.scan(1, 600, None, messages_max=700, size_max=1 << 30).views
        ] == kept
        assert log.head.messages == len(kept)
        assert log.head.deleted_count == 600 - len(kept)


@pytest.mark.parametrize("seed", range(60))
def test_a_power_cut_while_space_is_given_back_loses_and_revives_nothing(seed: int) -> None:
    world = SmallWorld(seed)
    program = Program(world, seed)
    program.commit()
    for _ in range(3):
        world.files.cut_at(program.random.randint(1, 300))
        with pytest.raises(PowerLost):
            run_until_cut(program)
        (log,) = world.power_cut()
        program.come_back(log)
    world.leave()
