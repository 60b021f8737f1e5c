"""Streams come into being, and go, without a sync on the loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.storage.conftest import Disk

from headrace.core.base.chance import Chance
from headrace.core.base.clock import LoopScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import PowerLost
from headrace.storage.files import RealFiles
from headrace.storage.interface import DiskFull, Entry, StorageError, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store

LARGE = b"p" * 3000
"""Of which one goes into a segment here."""

SMALL = Bounds(segment_size_first=4096, segment_size_max=8192)


def large(count: int) -> list[Entry]:
    return [Entry(b"a", b"", LARGE, 1) for _ in range(count)]


def folders(disk: Disk) -> list[str]:
    return disk.files.list_folder("/store/streams")


def create(store: FileStore, name: str) -> StreamLog:
    return store.create({"name": name}, memory=False, created_ns=1)


class SlowFiles(RealFiles):
    """Notes which threads sync, and lets files' syncs wait."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync(self, handle: int) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.may_sync.wait(10)
        super().sync(handle)

    def sync_folder(self, path: str) -> None:
        self.threads.add(threading.current_thread().name)
        super().sync_folder(path)


class Service:
    """A store with its threads, on a running loop."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.files = SlowFiles()
        self.store = open_store(
            str(path),
            scheduler=LoopScheduler(self.loop),
            chance=Chance(2),
            files=self.files,
            options=StoreOptions(is_threaded=True, is_index_in_memory=True, bounds=SMALL),
        )
        self.loop.add_reader(self.store.ready_handle, self.store.on_ready)
        self.files.threads.clear()

    def asked(self) -> "asyncio.Future[StorageError | None]":
        answered: asyncio.Future[StorageError | None] = self.loop.create_future()
        self.store.after_sync(answered.set_result)
        self.store.commit()
        return answered

    def close(self) -> None:
        self.loop.remove_reader(self.store.ready_handle)
        self.store.close()


def serve(path: Path, use: Callable[[Service], Awaitable[None]]) -> None:
    async def run() -> None:
        service = Service(path)
        await use(service)
        service.close()

    asyncio.run(run())


def reopened(path: Path) -> dict[str, int]:
    """Give the streams that a start finds, with their messages."""
    found: dict[str, int] = {}

    async def look(service: Service) -> None:
        found.update((log.config["name"], log.head.messages) for log in service.store.logs())

    serve(path, look)
    return found


def test_the_loop_syncs_nothing_when_streams_are_made_and_deleted(tmp_path: Path) -> None:
    async def use(service: Service) -> None:
        logs = [create(service.store, f"S{each}") for each in range(20)]
        assert await service.asked() is None
        for log in logs[5:]:
            service.store.delete(log)
        assert await service.asked() is None
        assert service.files.threads
        assert threading.current_thread().name not in service.files.threads

    serve(tmp_path / "s", use)
    assert reopened(tmp_path / "s") == {f"S{each}": 0 for each in range(5)}


def test_what_is_published_before_the_stream_is_durable_goes_with_it(tmp_path: Path) -> None:
    async def use(service: Service) -> None:
        service.files.may_sync.clear()
        log = create(service.store, "S")
        log.append(large(3))  # each begins a segment's file in a folder that has no name yet
        answered = service.asked()
        await asyncio.sleep(0.05)
        log.append(large(3))
        again = service.asked()
        assert (answered.done(), log.durable_sequence) == (False, 0)
        service.files.may_sync.set()
        assert [await answered, await again] == [None, None]
        assert log.durable_sequence == 6

    serve(tmp_path / "s", use)
    assert reopened(tmp_path / "s") == {"S": 6}


def test_a_stream_that_is_deleted_before_it_is_durable_leaves_nothing(tmp_path: Path) -> None:
    async def use(service: Service) -> None:
        service.files.may_sync.clear()
        doomed = create(service.store, "S")
        other = create(service.store, "T")
        answered = service.asked()
        await asyncio.sleep(0.05)
        service.store.delete(doomed)
        other.append(large(1))
        again = service.asked()
        service.files.may_sync.set()
        assert [await answered, await again] == [None, None]

    serve(tmp_path / "s", use)
    assert reopened(tmp_path / "s") == {"T": 1}
    assert len(list((tmp_path / "s" / "streams").iterdir())) == 1


def test_a_stream_that_is_made_and_deleted_in_one_turn_leaves_nothing(disk: Disk) -> None:
    log = disk.log()
    log.append([disk.entry()])
    disk.store.delete(log)
    assert disk.commit() is None
    assert folders(disk) == []


def test_a_creation_that_cannot_be_synced_is_answered_with_the_error_and_can_be_deleted(disk: Disk) -> None:
    disk.files.fail("sync", where=".new/state-")
    log = disk.log("S")
    other = disk.log("T")
    assert disk.commit() is not None
    with pytest.raises(StorageError):
        log.append([disk.entry()])
    other.append([disk.entry()])
    assert disk.commit() is None
    disk.store.delete(log)
    assert disk.commit() is None
    assert [each.config["name"] for each in disk.kill()] == ["T"]


def test_a_creation_for_which_there_is_no_room_leaves_nothing(disk: Disk) -> None:
    disk.files.fail("preallocate", where="state-00000002", number=28)
    with pytest.raises(DiskFull):
        disk.log()
    assert folders(disk) == []
    disk.log("after")
    assert disk.commit() is None


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_leaves_a_new_stream_whole_or_not_at_all(seed: int) -> None:
    for nth in range(1, 60):
        disk = Disk()
        disk.files = type(disk.files)(seed)
        disk.open()
        disk.files.cut_at(nth)
        is_confirmed = False
        try:
            log = disk.log()
            log.append([disk.entry(payload=LARGE), disk.entry(payload=LARGE)])
            is_confirmed = disk.commit() is None
            disk.store.delete(disk.log("other"))
            disk.commit()
        except PowerLost:
            pass
        disk.files = disk.files.power_cut()
        found = {each.config["name"]: each.head.messages for each in disk.open().logs()}
        assert disk.store.unreadable == []
        assert found.pop("other", 0) == 0
        assert found in ({"S": 2}, {}, {"S": 0}, {"S": 1})
        assert found == {"S": 2} or not is_confirmed
