import errno
import select
import threading
from pathlib import Path

from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.commit import HERE_SIZE_MAX, GroupCommit, Handover
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.files import RealFiles
from headrace.storage.interface import StorageError
from headrace.storage.sync import Errands, InlineWorker, ThreadWorker, Wake
from headrace.storage.targets import FileWrite, Target


class FakeLog:
    """Hands over what it is given, and notes what it hears."""

    def __init__(self, files: FaultyFiles, path: str) -> None:
        self.handle = files.create(path)
        self.target = Target(self.handle, path=path, stream_id=1, salt=1 << 40 | self.handle, end=0, last=0)
        self.is_relaxed = False
        self.fenced = ""
        self.waiting: list[bytes] = []
        self.offset = 0
        self.heard: list[str] = []
        self.before: list[str] = []

    def hand_over(self, *, sync: bool, owed: bool = False) -> Handover:
        data = b"".join(self.waiting)
        is_owed = owed and not self.target.is_covered
        writes = [FileWrite(self.target, self.offset, data, 1, sync)] if data or is_owed else []
        self.offset += len(data)
        self.waiting = []
        before = [self._errand] if self.before else []
        return Handover(before, writes, None)

    def on_committed(self) -> None:
        self.heard.append("committed")

    def on_followed(self, error: OSError | None) -> None:
        self.heard.append("followed")

    def fence(self, reason: str) -> None:
        self.fenced = reason
        self.heard.append(f"fenced: {reason}")

    def _errand(self) -> None:
        if self.before.pop() == "fail":
            raise OSError(errno.EIO, "errand failed")


class World:
    def __init__(
        self, *, sync_always: bool = True, sync_interval_ns: int = 0, writes_here: bool = False
    ) -> None:
        self.files = FaultyFiles(1)
        self.scheduler = VirtualScheduler()
        errands = Errands(self.scheduler, None)
        self.commit = GroupCommit(
            scheduler=self.scheduler,
            errands=errands,
            sync_always=sync_always,
            sync_interval_ns=sync_interval_ns,
            files=self.files if writes_here else None,
        )
        self.commit.use(InlineWorker(self.files, self.scheduler, self.commit.on_worker_done))
        self.logs = [FakeLog(self.files, f"/{each}") for each in "ab"]
        self.answers: list[tuple[str, StorageError | None]] = []

    def change(self, log: FakeLog, *, sync: bool = True) -> None:
        log.waiting.append(b"data")
        self.commit.note(log, sync=sync)

    def ask(self, name: str) -> None:
        self.commit.after_sync(lambda error: self.answers.append((name, error)))


def test_with_nothing_waiting_an_answer_comes_at_once() -> None:
    world = World()
    world.ask("now")
    assert world.answers == [("now", None)]
    assert world.commit.is_settled


def test_answers_come_after_the_sync_in_the_order_of_asking() -> None:
    world = World()
    world.change(world.logs[0])
    world.ask("first")
    world.change(world.logs[1])
    world.ask("second")
    world.commit.commit()
    assert not world.commit.is_settled
    world.ask("third, of the cycle in flight")
    assert not world.answers
    world.scheduler.settle()
    assert [name for name, _ in world.answers] == ["first", "second", "third, of the cycle in flight"]
    assert world.commit.cycle_count == 1
    assert [log.heard for log in world.logs] == [["committed"], ["committed"]]


def test_what_comes_while_a_cycle_is_in_flight_waits_for_the_next() -> None:
    world = World()
    world.change(world.logs[0])
    world.ask("first")
    world.commit.commit()
    world.change(world.logs[0])
    world.ask("second")
    world.commit.commit()
    world.scheduler.settle()
    assert [name for name, _ in world.answers] == ["first", "second"]
    assert world.commit.cycle_count == 2


def test_a_failed_sync_fences_the_log_and_is_heard_by_every_answer_of_the_cycle() -> None:
    world = World()
    world.files.fail("sync", nth=1)
    world.change(world.logs[0])
    world.change(world.logs[1])
    world.ask("both")
    world.commit.commit()
    world.scheduler.settle()
    assert world.logs[0].heard[0].startswith("fenced: a write or sync failed")
    assert world.logs[1].heard == ["committed"]
    assert isinstance(world.answers[0][1], StorageError)


def test_a_failed_errand_fences_its_log_before_anything_of_it_is_written() -> None:
    world = World()
    world.logs[0].before.append("fail")
    world.change(world.logs[0])
    world.ask("error")
    world.commit.commit()
    world.scheduler.settle()
    assert world.logs[0].heard == ["fenced: a file: errand failed"]
    assert isinstance(world.answers[0][1], StorageError)
    assert world.files.size(world.logs[0].handle) == 0


def test_what_asks_for_no_sync_goes_out_within_a_tenth_of_a_second() -> None:
    world = World()
    world.change(world.logs[0], sync=False)
    world.ask("at once")
    assert world.answers == [("at once", None)]
    world.commit.commit()
    world.scheduler.advance(NS_PER_S // 20)
    assert world.commit.cycle_count == 0
    world.scheduler.advance(NS_PER_S // 20)
    assert world.logs[0].heard == ["committed"]


def test_in_the_relaxed_mode_answers_wait_for_the_write_and_the_interval_syncs() -> None:
    world = World(sync_always=False, sync_interval_ns=NS_PER_S)
    world.files.fail("sync", nth=1)
    world.change(world.logs[0])
    world.ask("written")
    world.commit.commit()
    world.scheduler.settle()
    assert world.answers == [("written", None)]
    assert world.logs[0].heard == ["committed"]
    world.scheduler.advance(2 * NS_PER_S)
    assert world.commit.cycle_count == 2


def test_small_writes_without_a_sync_are_answered_in_the_same_turn() -> None:
    world = World(sync_always=False, sync_interval_ns=NS_PER_S, writes_here=True)
    log = world.logs[0]
    world.change(log)
    world.ask("small")
    world.commit.commit()
    assert world.answers == [("small", None)]
    assert (log.heard, log.target.end, log.target.is_covered) == (["committed"], 4, False)
    log.waiting.append(bytes(HERE_SIZE_MAX + 1))
    world.commit.note(log, sync=True)
    world.ask("large, by the worker")
    world.commit.commit()
    world.change(log)
    world.ask("behind the large one")
    assert len(world.answers) == 1
    world.scheduler.settle()
    assert [name for name, _ in world.answers] == ["small", "large, by the worker", "behind the large one"]
    world.scheduler.advance(2 * NS_PER_S)
    assert log.target.is_covered


def test_a_small_write_that_fails_fences_its_log() -> None:
    world = World(sync_always=False, sync_interval_ns=NS_PER_S, writes_here=True)
    world.files.fail("pwrite", nth=1)
    world.change(world.logs[0])
    world.ask("lost")
    world.commit.commit()
    assert [(name, error is not None) for name, error in world.answers] == [("lost", True)]
    assert world.logs[0].fenced


def test_small_writes_wait_for_the_worker_where_every_answer_wants_a_sync() -> None:
    world = World(writes_here=True)
    world.change(world.logs[0])
    world.ask("synced")
    world.commit.commit()
    assert not world.answers
    world.scheduler.settle()
    assert world.answers == [("synced", None)]


def test_a_deleted_log_is_not_asked_any_more() -> None:
    world = World()
    world.change(world.logs[0])
    world.commit.forget(world.logs[0])
    world.ask("all the same")
    world.commit.commit()
    world.scheduler.settle()
    assert (world.logs[0].heard, world.answers) == ([], [("all the same", None)])


def test_a_stores_own_failed_errand_is_heard_by_the_answers() -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "no", "/folder")

    world = World()
    world.commit.run_before(fail)
    world.ask("deleted")
    world.commit.commit()
    world.scheduler.settle()
    assert str(world.answers[0][1]) == "/folder: no"


def test_a_thread_writes_syncs_and_wakes_the_loop(tmp_path: Path) -> None:
    files = RealFiles()
    wake = Wake()
    worker = ThreadWorker(files, wake)
    good, bad = files.create(f"{tmp_path}/f"), files.open("/dev/full", writable=True)
    assert worker.take() is None
    worker.start([(good, 0, b"abc"), (bad, 0, b"x"), (good, 3, bytearray(b"def"))], [good, bad])
    worker.close()
    assert wait_readable(wake)
    assert worker.take() == {bad: errno.ENOSPC}
    assert worker.take() is None
    assert files.pread(good, 10, 0) == b"abcdef"
    wake.clear()
    assert not wait_readable(wake)
    wake.close()
    files.close(good)
    files.close(bad)


def test_errands_run_in_order_off_the_loop_and_report_on_it() -> None:
    wake = Wake()
    errands = Errands(VirtualScheduler(), wake)
    ran: list[object] = []

    def fail() -> None:
        ran.append(threading.current_thread().name)
        raise OSError(errno.EIO, "no")

    errands.run(lambda: ran.append(1), ran.append)
    errands.run(fail, lambda error: ran.append(error.errno if error else None))
    errands.close()
    assert ran == [1, "headrace-files", None, errno.EIO]
    wake.close()


def wait_readable(wake: Wake) -> bool:
    return bool(select.select([wake.read_handle], [], [], 0)[0])
