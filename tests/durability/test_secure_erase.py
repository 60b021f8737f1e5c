"""A message that is deleted securely is nowhere in the store's segments, whatever happens on the way."""

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.storage.findings import Severity
from headrace.storage.interface import Effect, Entry, StreamLog
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import World

SECRET = b"the-secret-payload"
SUBJECT = b"secret.subject"
HEADERS = b"NATS/1.0\r\nSecret: header\r\nNats-Msg-Id: known\r\n\r\n"


def held(files: FaultyFiles, word: bytes, folder: str = "/store/streams") -> bool:
    """Tell whether the bytes are in some file below a folder."""
    for name in files.list_folder(folder):
        path = f"{folder}/{name}"
        status = files.status(path)
        if status is not None and status.is_folder:
            if held(files, word, path):
                return True
        elif status is not None:
            handle = files.open(path)
            found = word in files.pread(handle, status.size, 0)
            files.close(handle)
            if found:
                return True
    return False


def rest(world: World) -> None:
    for _ in range(10):
        world.scheduler.advance(NS_PER_S)


def secretive(world: World) -> StreamLog:
    """Give a log of 60 messages, of which the 20th has a secret and evicts the 10th."""
    log = world.create()
    for number in range(1, 61):
        now_ns = world.scheduler.now_ns()
        if number == 20:
            effect = Effect(evicted=(10,))
            log.append([Entry(SUBJECT, HEADERS, SECRET * 40, now_ns, b"known", effect=effect)])
        else:
            log.append([Entry(b"s", b"", b"x" * 100, now_ns)])
        if number % 7 == 0:
            world.commit()
    world.commit()
    return log


def is_as_before(world: World, log: StreamLog) -> None:
    kept = [each for each in range(1, 61) if each not in (10, 20)]
    views = log.scan(1, 60, None, messages_max=100, size_max=1 << 30).views
    assert [view.sequence for view in views] == kept
    assert log.head.messages == len(kept)
    assert log.head.lost == ()
    assert log.find_message_id(b"known", 1) == 20
    # A power cut may leave half of an unsynced sidecar, and of what nobody was told; never a hole among the messages.
    findings = check_store("/store", files=world.files).findings
    assert [each for each in findings if each.severity is Severity.LOSS or each.name == "record-type"] == []


def test_an_erased_message_is_not_on_disk_any_more_and_its_record_is_no_damage() -> None:
    world = World(1)
    log = secretive(world)
    assert held(world.files, SECRET)
    assert log.remove([(20, 20)], secure=True) == 1
    assert world.commit() is None
    rest(world)
    for word in (SECRET, SUBJECT, b"Secret: header"):
        assert not held(world.files, word)
    is_as_before(world, log)
    (log,) = world.kill()
    is_as_before(world, log)
    (log,) = world.reopen()
    is_as_before(world, log)


def test_a_plain_delete_overwrites_nothing() -> None:
    world = World(2)
    log = secretive(world)
    log.remove([(20, 20)])
    world.commit()
    rest(world)
    assert held(world.files, SECRET)


def test_a_message_that_is_erased_in_the_turn_of_its_append_is_gone_too() -> None:
    world = World(3)
    log = world.create()
    log.append([Entry(SUBJECT, b"", SECRET, 5), Entry(b"s", b"", b"x", 6)])
    log.remove([(1, 1)], secure=True)
    world.commit()
    rest(world)
    assert not held(world.files, SECRET)
    assert log.head.messages == 1


@pytest.mark.parametrize("nth", range(1, 40))
def test_a_power_cut_anywhere_ends_with_the_message_or_erased_at_the_next_start(nth: int) -> None:
    world = World(nth)
    log = secretive(world)
    confirmed: list[bool] = []
    log.remove([(20, 20)], secure=True)
    world.files.cut_at(nth)
    try:
        confirmed.append(world.commit() is None)
        rest(world)
    except PowerLost:
        pass
    (log,) = world.power_cut()
    world.commit()
    rest(world)
    if confirmed or log.get(20) is None:
        assert not held(world.files, SECRET)
        is_as_before(world, log)
    else:
        assert held(world.files, SECRET)
    assert log.head.lost == ()


@pytest.mark.parametrize("seed", range(40))
def test_power_cuts_while_much_is_erased_lose_and_revive_nothing(seed: int) -> None:
    world = World(seed)
    program = Program(world, seed)
    program.commit()
    for _ in range(3):
        world.files.cut_at(program.random.randint(1, 300))
        with pytest.raises(PowerLost):
            run_until_cut(program)
        (log,) = world.power_cut()
        program.come_back(log)
    world.leave()


def run_until_cut(program: Program) -> None:
    while True:
        program.run(5)
        last = program.model.last
        place = program.random.randint(1, max(1, last))
        if last:
            assert program.log.remove([(place, place)], secure=True) == program.model.remove([(place, place)])
            program.past.note(program.model)
        program.commit()
        program.world.scheduler.advance(NS_PER_S // 10)
