"""A disk that fills up, is given room, and fills up again, under a store with many streams.

While it is full every publish is refused at once and changes nothing; reads, acks and deletes go on; and writes resume
by themselves as soon as there is room: because the disk was given some, or because messages were purged.
"""

from collections import Counter
from typing import Final

from headrace.core.base.clock import NS_PER_S
from headrace.storage.interface import DiskFull, Entry, RegisterChange
from headrace.tools.selftest.cases import Tally, expect, run_cases
from headrace.tools.selftest.fleet import Fleet
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import World

ROUNDS: Final = 3
STEPS: Final = 30
PUBLISHES_MAX: Final = 5000
REFUSALS: Final = 20
ACKS: Final = 60
RESUME_NS: Final = NS_PER_S // 5
ROOM_MAX: Final = 200_000
ROOM_ENOUGH: Final = 256 * 1024
RESERVE_SIZE: Final = 256 * 1024
PAYLOAD: Final = b"x" * 700


def fill_disk(seed: int) -> Counter[str]:
    """Play one seed."""
    world = World(seed, reserve_size=RESERVE_SIZE)
    fleet = Fleet(world, seed, lives_change=False)
    counts: Counter[str] = Counter()
    for _ in range(ROUNDS):
        fleet.run(STEPS)
        fleet.commit()
        world.files.capacity = world.files.used() + fleet.random.randint(0, ROOM_MAX)
        counts += _fill(fleet)
        counts += _work_while_full(fleet)
        if fleet.random.random() < 0.4:
            fleet.come_back(world.power_cut() if fleet.random.random() < 0.5 else world.kill())
            counts["kills and power cuts while full"] += 1
        if fleet.random.random() < 0.5:
            counts["writes resumed after a purge"] += _resumes_after_purge(fleet)
        world.files.capacity = 0
        world.scheduler.advance(RESUME_NS)
        for program in fleet.programs.values():
            _publish(program)
        expect(world.commit() is None, "writes resume by themselves when there is room")
        fleet.commit()
        fleet.check()
        counts["writes resumed with more room"] += 1
    fleet.come_back(world.power_cut())
    return counts


def run_disk_full(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Play `count` seeds from `seed` on."""
    return run_cases(fill_disk, range(seed, seed + count), seconds=seconds, jobs=jobs)


def _publish(program: Program) -> None:
    """Append a message; raises DiskFull, and then nothing has changed."""
    entry = Entry(b"fill", b"", PAYLOAD, program.tick())
    before = program.log.head
    try:
        program.log.append([entry])
    except DiskFull:
        expect(program.log.head == before, "a refused publish changes nothing")
        raise
    program.model.append(entry)
    program.past.note(program.model)


def _fill(fleet: Fleet) -> Counter[str]:
    """Publish until every stream refuses."""
    refused = published = 0
    for program in fleet.programs.values():
        in_a_row = 0
        for _ in range(PUBLISHES_MAX):
            try:
                _publish(program)
                published += 1
                in_a_row = 0
            except DiskFull:
                refused += 1
                in_a_row += 1
            fleet.commit()
            if in_a_row == REFUSALS:
                break
        expect(in_a_row == REFUSALS, "a full disk refuses publishes")
    expect(not fleet.errors, f"no answer is an error while the disk is full: {fleet.errors}")
    expect(not any(each.log.fenced for each in fleet.programs.values()), "a full disk fences nothing")
    return Counter({"published until full": published, "refused at once": refused})


def _work_while_full(fleet: Fleet) -> Counter[str]:
    """Read, ack and delete."""
    fleet.check()
    for program in fleet.programs.values():
        log, model = program.log, program.model
        for number in range(ACKS):
            for name in list(model.registers):
                change = RegisterChange({"floor": number}, [], {})
                log.change_register(name, change, sync=True)
                model.change_register(name, change)
                program.past.note_registers(model, sync=True)
            if number % 20 == 0 and model.messages:
                sequence = model.first
                expect(log.remove([(sequence, sequence)]) == 1, "a delete goes on while the disk is full")
                model.remove([(sequence, sequence)])
                program.past.note(model)
            fleet.commit()
    expect(not fleet.errors, f"acks and deletes go on while the disk is full: {fleet.errors}")
    fleet.check()
    return Counter({"acks and deletes while full": ACKS * len(fleet.programs)})


def _resumes_after_purge(fleet: Fleet) -> int:
    """Purge everything: the room that this gives is used without a restart."""
    for program in fleet.programs.values():
        last = program.model.last
        program.log.remove([(1, last)])
        program.model.remove([(1, last)])
        program.past.note(program.model)
    fleet.commit()
    for _ in range(10):
        fleet.world.wait()
        fleet.commit()
    program = next(iter(fleet.programs.values()))
    free = fleet.world.files.free_space("/")
    try:
        _publish(program)
    except DiskFull:
        expect(free < ROOM_ENOUGH, f"{free} bytes that a purge has given are not used")
        return 0
    fleet.commit()
    return 1
