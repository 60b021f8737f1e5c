"""A full disk refuses publishes at once, lets everything else go on, and is over when there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.files import Files, RealFiles
from headrace.storage.interface import DiskFull, Entry, Register, RegisterChange, StorageError, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store

BOUNDS = Bounds(
    segment_size_first=16 * 1024,
    segment_size_max=64 * 1024,
    checkpoint_count=200,
    generation_size_min=16 * 1024,
    fold_size_min=1,
    rewrite_gain_min=4096,
)
RESERVE_SIZE = 256 * 1024
KIB = 1024


class Small:
    """A store on a small disk."""

    def __init__(
        self, files: Files, path: str, *, is_index_in_memory: bool, payload_size: int = 1000
    ) -> None:
        self.payload = b"x" * payload_size
        self.files = files
        self.path = path
        self.is_index_in_memory = is_index_in_memory
        self.scheduler = VirtualScheduler()
        self.store = self.open()

    def open(self) -> FileStore:
        options = StoreOptions(
            is_index_in_memory=self.is_index_in_memory, reserve_size=RESERVE_SIZE, bounds=BOUNDS
        )
        return open_store(
            self.path, scheduler=self.scheduler, chance=Chance(7), files=self.files, options=options
        )

    def create(self) -> StreamLog:
        log = self.store.create({"name": "S"}, memory=False, created_ns=1)
        self.commit()
        return log

    def commit(self) -> StorageError | None:
        answers: list[StorageError | None] = []
        self.store.after_sync(answers.append)
        self.store.commit()
        self.scheduler.settle()
        assert len(answers) == 1
        return answers[0]

    def publish(self, log: StreamLog) -> None:
        """Publish one message, confirmed. Raises DiskFull."""
        log.append([Entry(b"s", b"", self.payload, self.scheduler.now_ns())])
        assert self.commit() is None

    def fill(self, log: StreamLog) -> int:
        """Publish until there is no room; give how many messages there are."""
        for _ in range(100_000):
            try:
                self.publish(log)
            except DiskFull:
                break
        else:
            pytest.fail("the disk never was full")
        assert log.fenced == ""
        return log.head.messages

    def rest(self) -> None:
        for _ in range(5):
            self.scheduler.advance(NS_PER_S)

    def work(self, log: StreamLog, rounds: int) -> None:
        """Ack and read, as consumers do."""
        for number in range(rounds):
            change = RegisterChange({"floor": number}, [], {number % 50 + 1: (number, 1)})
            log.change_register("c", change, sync=True)
            assert self.commit() is None
            assert log.get(log.head.first_sequence) is not None


def the_same_again(small: Small, log: StreamLog, kept: list[int]) -> None:
    last = log.head.last_sequence
    views = log.scan(1, last, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30).views
    assert [view.sequence for view in views] == kept
    assert log.head.lost == ()


def filled_freed_filled(small: Small) -> StreamLog:
    log = small.create()
    log.save_consumer("c", {}, 1, Register({}, {}))
    count = small.fill(log)
    assert count > 50
    for _ in range(3):
        with pytest.raises(DiskFull):
            small.publish(log)
    small.work(log, 100)
    kept = [*range(count // 2, count + 1)]
    # One by one, as clients delete: each needs room in the state log.
    for sequence in range(1, count // 2):
        log.remove([(sequence, sequence)])
        assert small.commit() is None
    small.rest()
    small.publish(log)
    assert log.head.messages == len(kept) + 1
    more = small.fill(log)
    assert more > len(kept) + count // 4
    small.work(log, 100)
    the_same_again(small, log, [*range(count // 2, log.head.last_sequence + 1)])
    return log


def test_publishes_are_refused_acks_and_deletes_go_on_and_writes_resume() -> None:
    small = Small(FaultyFiles(1, capacity=2000 * KIB), "/store", is_index_in_memory=True)
    log = filled_freed_filled(small)
    kept = [*range(log.head.first_sequence, log.head.last_sequence + 1)]
    assert isinstance(small.files, FaultyFiles)
    small.scheduler = VirtualScheduler(small.scheduler.now_ns())
    small.files = small.files.killed()
    small.store = small.open()
    (log,) = small.store.logs()
    the_same_again(small, log, kept)


def test_room_that_somebody_else_takes_and_gives_back_is_noticed_without_a_restart() -> None:
    files = FaultyFiles(2, capacity=2000 * KIB)
    small = Small(files, "/store", is_index_in_memory=True)
    log = small.create()
    log.save_consumer("c", {}, 1, Register({}, {}))
    small.publish(log)
    filler = files.create("/filler")
    files.preallocate(filler, 0, files.free_space("/"))
    files.close(filler)
    count = small.fill(log)
    small.work(log, 400)
    with pytest.raises(DiskFull):
        small.publish(log)
    files.unlink("/filler")
    small.scheduler.advance(NS_PER_S)
    small.publish(log)
    assert log.head.messages == count + 1
    assert small.fill(log) > 10 * count


def test_without_room_in_the_reserve_even_acks_are_refused_and_nothing_is_fenced() -> None:
    files = FaultyFiles(3, capacity=2000 * KIB)
    small = Small(files, "/store", is_index_in_memory=True)
    log = small.create()
    log.save_consumer("c", {}, 1, Register({}, {}))
    small.fill(log)
    with pytest.raises(DiskFull):
        save_much(small, log)
    assert log.fenced == ""
    assert log.get(1) is not None


def save_much(small: Small, log: StreamLog) -> None:
    for _ in range(100):
        log.save_config({"name": "S", "x": b"x" * 40_000})
        small.commit()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """Give a file system of a few megabytes that is really full when it is full."""
    if os.geteuid():
        pytest.skip("mounting a file system takes root")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 12 * 1024 * KIB)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], check=False, capture_output=True)
    mount = ["mount", "-o", "loop", str(image), str(folder)]
    if made.returncode or subprocess.run(mount, check=False, capture_output=True).returncode:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
    yield str(folder)
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("is_index_in_memory", [True, False])
def test_a_really_full_file_system_is_got_over(small_disk: str, is_index_in_memory: bool) -> None:
    small = Small(
        RealFiles(), f"{small_disk}/store", is_index_in_memory=is_index_in_memory, payload_size=12_000
    )
    log = filled_freed_filled(small)
    kept = [*range(log.head.first_sequence, log.head.last_sequence + 1)]
    small.store.close()
    small.store = small.open()
    (log,) = small.store.logs()
    the_same_again(small, log, kept)
    small.store.close()
