"""A disk that fails, or is full: what is promised to whom, and what is there afterwards."""

import errno

import pytest

from headrace.storage.interface import DiskFull, Effect, Entry, LogFenced, StorageError, StreamLog
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import World

CALLS = ("pwrite", "sync", "sync_folder", "create", "preallocate", "rename", "unlink")


def started(seed: int) -> tuple[World, Program]:
    world = World(seed)
    program = Program(world, seed)
    program.run(10)
    program.commit()
    return world, program


def only(world: World) -> StreamLog:
    (log,) = world.store.logs()
    return log


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", CALLS)
def test_after_the_nth_failure_reads_go_on_and_nothing_acknowledged_is_lost(call: str, number: int) -> None:
    for nth in range(1, 13):
        world, program = started(nth)
        is_lasting = nth % 3 == 0
        world.files.fail(call, nth=nth, number=number, lasting=is_lasting, part=nth % 4 / 4)
        program.run_with_errors(40)
        program.check()
        if program.log.fenced:
            with pytest.raises(LogFenced):
                program.log.append([Entry(b"a", b"", b"", program.time_ns)])
        world.files.heal()
        (log,) = world.power_cut() if nth % 2 else world.kill()
        program.come_back(log)
        program.run(10)
        program.check()


@pytest.mark.parametrize("seed", [*range(20), 1043, 1313, 1480, 3013, 3276])
def test_errors_and_crashes_in_any_order_lose_nothing_acknowledged(seed: int) -> None:
    world, program = started(seed)
    random = program.random
    for _ in range(3):
        for _ in range(random.randint(1, 3)):
            world.files.fail(
                random.choice([*CALLS, "change"]),
                nth=random.randint(1, 40),
                number=random.choice([errno.EIO, errno.ENOSPC]),
                lasting=random.random() < 0.2,
                part=random.random(),
            )
        program.run_with_errors(60)
        program.check()
        world.files.heal()
        (log,) = world.power_cut() if random.random() < 0.5 else world.kill()
        program.come_back(log)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_start_has_shown_survives_though_a_sync_had_failed_before_it(seed: int) -> None:
    world, program = started(seed)
    program.run_with_errors(5)
    world.files.fail("sync")
    program.run_with_errors(10)
    (log,) = world.kill()
    program.come_back(log)
    (log,) = world.power_cut()
    program.come_back(log)


@pytest.mark.parametrize("call", ["pwrite", "sync"])
def test_a_failed_sync_answers_with_an_error_and_fences_the_log(call: str) -> None:
    world, program = started(1)
    world.files.fail(call)
    program.log.append([Entry(b"a", b"", b"x", program.time_ns)])
    error = world.commit()
    assert isinstance(error, StorageError)
    assert program.log.fenced
    with pytest.raises(LogFenced):
        program.log.append([Entry(b"a", b"", b"x", program.time_ns)])
    assert program.log.durable_sequence < program.log.head.last_sequence
    world.files.heal()
    with pytest.raises(LogFenced):
        program.log.append([Entry(b"a", b"", b"x", program.time_ns)])


def test_another_log_of_the_store_goes_on_beside_a_fenced_one() -> None:
    world, program = started(1)
    other = world.create()
    assert world.commit() is None
    program.log.append([Entry(b"a", b"", b"x", program.time_ns)])
    world.files.fail("pwrite")
    assert world.commit() is not None
    assert program.log.fenced
    assert not other.fenced
    other.append([Entry(b"a", b"", b"y", program.time_ns)])
    assert world.commit() is None
    assert other.durable_sequence == 1


@pytest.mark.parametrize("nth", range(1, 16))
def test_a_start_that_fails_is_made_good_by_the_next(nth: int) -> None:
    for seed in range(3):
        world, program = started(seed)
        program.run(40)
        world.cut()
        world.files.fail("change", nth=nth)
        try:
            world.store = world.open()
        except (OSError, StorageError):
            world.files = world.files.killed()
        else:
            world.leave()
            world.files = world.files.killed()
        world.store = world.open()
        program.come_back(only(world))


def test_a_full_disk_refuses_publishes_at_once_and_takes_acks_and_removals() -> None:
    world, program = started(2)
    log = program.log
    if "one" not in program.model.registers:
        log.save_consumer("one", {}, 1, None)
    assert world.commit() is None
    world.files.capacity = 1
    refused = 0
    for _ in range(200):
        head = log.head
        try:
            log.append([Entry(b"a", b"", b"x" * 1000, program.time_ns)])
        except DiskFull:
            refused += 1
            assert log.head == head
        assert world.commit() is None
    assert refused > 100
    assert not log.fenced
    first = log.head.first_sequence
    assert log.remove([(first, first)]) == 1
    assert world.commit() is None
    assert log.get(log.head.first_sequence) is not None
    world.files.capacity = 0
    sequence = log.append([Entry(b"a", b"", b"room", program.time_ns, effect=Effect())])
    assert world.commit() is None
    assert log.durable_sequence == sequence
