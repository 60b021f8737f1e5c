"""What is left when the power goes, the process dies, or the server stops; one seed gives one history."""

from pathlib import Path

import pytest

from headrace.storage.faulty_files import PowerLost
from headrace.tools.selftest.power import power_cuts
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import World


@pytest.mark.parametrize("seed", range(20))
def test_a_log_agrees_with_its_model_across_clean_stops_and_kills(seed: int, tmp_path: Path) -> None:
    world = World(seed, index_path=str(tmp_path) if seed % 2 else None)
    program = Program(world, seed)
    program.commit()
    for _ in range(6):
        program.run(25)
        program.check()
        program.commit()
        world.wait()
        (program.log,) = world.reopen() if program.random.random() < 0.5 else world.kill()
        program.check()
        assert program.log.head.lost == ()
    world.leave()


@pytest.mark.parametrize("seed", [*range(100), 1039, 1787])
def test_a_power_cut_loses_nothing_acknowledged_and_invents_nothing(seed: int, tmp_path: Path) -> None:
    world = World(seed, index_path=str(tmp_path) if seed % 4 == 1 else None)
    program = Program(world, seed)
    program.commit()
    for _ in range(3):
        world.files.cut_at(program.random.randint(1, 120))
        with pytest.raises(PowerLost):
            program.run_until_cut()
        (log,) = world.power_cut()
        program.come_back(log)
    world.leave()


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_during_recovery_loses_no_more(seed: int) -> None:
    world = World(seed)
    program = Program(world, seed)
    program.commit()
    world.files.cut_at(program.random.randint(20, 120))
    with pytest.raises(PowerLost):
        program.run_until_cut()
    for _ in range(4):
        world.cut()
        world.files.cut_at(program.random.randint(1, 12))
        try:
            world.store = world.open()
        except PowerLost:
            continue
        break
    (log,) = world.power_cut()
    program.come_back(log)


@pytest.mark.parametrize("seed", [*range(50), 11947])
def test_a_store_of_many_streams_keeps_every_promise_through_power_cuts(seed: int) -> None:
    power_cuts(seed)
