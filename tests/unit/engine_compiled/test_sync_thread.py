"""The sync thread does what every sync worker does, and does it beside a busy interpreter."""

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.storage.sync import SyncWorker, Wake

compiled_log = pytest.importorskip("headrace.storage.compiled_log", reason="not built")

WAIT_S = 10


@pytest.fixture
def wake() -> Iterator[Wake]:
    wake = Wake()
    yield wake
    wake.close()


@pytest.fixture
def thread(wake: Wake) -> Iterator[SyncWorker]:
    thread = compiled_log.SyncThread(wake)
    yield thread
    thread.close()


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def outcome(thread: SyncWorker, wake: Wake) -> dict[int, int]:
    readable, _, _ = select.select([wake.read_handle], [], [], WAIT_S)
    assert readable, "the sync thread has not answered"
    wake.clear()
    failed = thread.take()
    assert failed is not None
    return failed


def test_a_cycle_writes_every_kind_of_buffer_in_order(thread: SyncWorker, wake: Wake, handle: int) -> None:
    thread.start(
        [(handle, 0, b"abcd"), (handle, 2, bytearray(b"xy")), (handle, 4, memoryview(b"_end_")[1:-1])],
        [handle],
    )
    assert outcome(thread, wake) == {}
    assert os.pread(handle, 100, 0) == b"abxyend"


def test_an_outcome_is_given_once(thread: SyncWorker, wake: Wake, handle: int) -> None:
    assert thread.take() is None
    thread.start([], [handle])
    assert outcome(thread, wake) == {}
    assert thread.take() is None


def test_one_cycle_follows_the_other(thread: SyncWorker, wake: Wake, handle: int) -> None:
    for number in range(50):
        thread.start([(handle, number, b"%d" % (number % 10))], [handle])
        assert outcome(thread, wake) == {}
    assert os.pread(handle, 100, 0) == b"0123456789" * 5


def test_a_failed_write_is_reported_and_spares_the_other_files(
    thread: SyncWorker, wake: Wake, handle: int, tmp_path: Path
) -> None:
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        thread.start([(read_only, 0, b"no"), (handle, 0, b"yes")], [read_only, handle])
        assert outcome(thread, wake) == {read_only: errno.EBADF}
    finally:
        os.close(read_only)
    assert os.pread(handle, 100, 0) == b"yes"


def test_a_failed_sync_is_reported(thread: SyncWorker, wake: Wake) -> None:
    read_end, write_end = os.pipe()
    try:
        thread.start([], [write_end])
        assert outcome(thread, wake) == {write_end: errno.EINVAL}
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_full_disk_is_reported_by_its_number(thread: SyncWorker, wake: Wake) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        thread.start([(full, 0, b"x")], [full])
        assert outcome(thread, wake) == {full: errno.ENOSPC}
    finally:
        os.close(full)


def test_a_buffer_cannot_change_its_size_until_the_cycle_is_taken(
    thread: SyncWorker, wake: Wake, handle: int
) -> None:
    data = bytearray(b"pinned")
    thread.start([(handle, 0, data)], [handle])
    with pytest.raises(BufferError):
        data.clear()
    outcome(thread, wake)
    data.clear()


def test_what_is_no_buffer_is_refused_and_the_thread_goes_on(
    thread: SyncWorker, wake: Wake, handle: int
) -> None:
    with pytest.raises(TypeError):
        thread.start([(handle, 0, b"x"), (handle, 1, "text")], [handle])  # type: ignore[list-item]  # refused when it runs
    thread.start([(handle, 0, b"y")], [handle])
    assert outcome(thread, wake) == {}
    assert os.pread(handle, 100, 0) == b"y"


def test_closing_lets_the_running_cycle_end(wake: Wake, handle: int) -> None:
    thread = compiled_log.SyncThread(wake)
    thread.start([(handle, 0, b"last")], [handle])
    thread.close()
    assert thread.take() == {}
    assert os.pread(handle, 100, 0) == b"last"
