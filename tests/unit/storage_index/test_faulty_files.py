"""The disk that tests lie on: what it keeps, what it may lose, how it fails."""

import errno

import pytest

from headrace.storage.faulty_files import PAGE_SIZE, FaultyFiles, PowerLost
from headrace.storage.files import FileStatus, make_folders, remove_tree

SEEDS = range(60)


def written(files: FaultyFiles, path: str, content: bytes, *, sync: bool) -> int:
    handle = files.create(path)
    files.pwrite(handle, content, 0)
    if sync:
        files.sync(handle)
        files.sync_folder("/")
    return handle


def content_of(files: FaultyFiles, path: str) -> bytes | None:
    if files.status(path) is None:
        return None
    handle = files.open(path)
    content = files.pread(handle, 1 << 30, 0)
    files.close(handle)
    return content


def test_what_was_written_is_read_at_once() -> None:
    files = FaultyFiles(1)
    handle = written(files, "/a", b"hello", sync=False)
    files.pwrite(handle, b"LL", 2)
    assert files.pread(handle, 100, 0) == b"heLLo"
    assert files.status("/a") == FileStatus(size=5, is_folder=False)


def test_a_synced_file_with_a_synced_name_survives_every_power_cut() -> None:
    for seed in SEEDS:
        files = FaultyFiles(seed)
        written(files, "/a", b"x" * 10_000, sync=True)
        assert content_of(files.power_cut(), "/a") == b"x" * 10_000


def test_an_unsynced_page_is_kept_dropped_or_torn() -> None:
    found = set[bytes]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"o" * PAGE_SIZE, sync=True)
        files.pwrite(handle, b"n" * PAGE_SIZE, 0)
        after = content_of(files.power_cut(), "/a")
        assert after is not None
        assert len(after) == PAGE_SIZE
        found.add(after)
    assert b"o" * PAGE_SIZE in found
    assert b"n" * PAGE_SIZE in found
    assert any(set(each) == set(b"on") for each in found)


def test_pages_of_one_file_arrive_in_any_order() -> None:
    orders = set[bytes]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"o" * 2 * PAGE_SIZE, sync=True)
        files.pwrite(handle, b"1" * PAGE_SIZE, 0)
        files.pwrite(handle, b"2" * PAGE_SIZE, PAGE_SIZE)
        after = content_of(files.power_cut(), "/a") or b""
        orders.add(after[:1] + after[-1:])
    assert {b"1o", b"o2", b"12", b"oo"} <= orders


def test_an_unsynced_size_may_be_anything_between() -> None:
    sizes = set[int]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"x" * 100, sync=True)
        files.pwrite(handle, b"y" * 1000, 100)
        sizes.add(len(content_of(files.power_cut(), "/a") or b""))
    assert {100, 1100} <= sizes
    assert any(100 < size < 1100 for size in sizes)
    assert all(100 <= size <= 1100 for size in sizes)


def test_a_page_that_never_arrived_may_hold_a_stale_block() -> None:
    stale = 0
    for seed in range(200):
        files = FaultyFiles(seed)
        written(files, "/secret", b"s" * PAGE_SIZE, sync=True)
        handle = written(files, "/a", b"", sync=True)
        files.pwrite(handle, b"n" * PAGE_SIZE, 0)
        stale += (content_of(files.power_cut(), "/a") or b"").startswith(b"s")
    assert stale


def test_an_unsynced_name_may_be_missing_though_its_file_was_synced() -> None:
    there = set[bool]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        files.sync(written(files, "/a", b"x", sync=False))
        there.add(content_of(files.power_cut(), "/a") == b"x")
    assert there == {True, False}


def test_a_rename_has_happened_or_has_not() -> None:
    found = set[tuple[bytes | None, bytes | None]]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        written(files, "/new", b"new", sync=True)
        written(files, "/old", b"old", sync=True)
        files.rename("/new", "/old")
        assert content_of(files, "/new") is None
        after = files.power_cut()
        found.add((content_of(after, "/new"), content_of(after, "/old")))
    assert found == {(None, b"new"), (b"new", b"old")}


def test_an_unsynced_removal_may_come_back() -> None:
    found = set[bytes | None]()
    for seed in SEEDS:
        files = FaultyFiles(seed)
        written(files, "/a", b"x", sync=True)
        files.unlink("/a")
        found.add(content_of(files.power_cut(), "/a"))
    assert found == {None, b"x"}


def test_a_kill_loses_nothing_and_syncs_nothing() -> None:
    lost = 0
    for seed in SEEDS:
        files = FaultyFiles(seed)
        written(files, "/a", b"x", sync=False)
        after = files.killed()
        assert content_of(after, "/a") == b"x"
        lost += content_of(after.power_cut(), "/a") is None
    assert lost


def test_the_files_of_before_cannot_be_used_after_a_cut() -> None:
    files = FaultyFiles(1)
    handle = written(files, "/a", b"x", sync=True)
    files.power_cut()
    with pytest.raises(PowerLost):
        files.pwrite(handle, b"y", 0)


def test_the_power_goes_in_the_nth_change() -> None:
    files = FaultyFiles(1)
    files.cut_at(3)
    handle = files.create("/a")
    files.pread(handle, 1, 0)
    files.pwrite(handle, b"x", 0)
    with pytest.raises(PowerLost):
        files.sync(handle)
    with pytest.raises(PowerLost):
        files.pread(handle, 1, 0)


def test_the_nth_call_fails_once() -> None:
    files = FaultyFiles(1)
    handle = files.create("/a")
    files.fail("pwrite", nth=2, number=errno.ENOSPC, part=0.5)
    files.pwrite(handle, b"1111", 0)
    with pytest.raises(OSError, match="No space") as caught:
        files.pwrite(handle, b"2222", 4)
    assert caught.value.errno == errno.ENOSPC
    assert files.pread(handle, 100, 0) == b"111122"
    files.pwrite(handle, b"3333", 4)
    assert files.pread(handle, 100, 0) == b"11113333"


def test_a_lasting_fault_lasts_until_it_is_healed() -> None:
    files = FaultyFiles(1)
    files.fail("change", nth=2, lasting=True)
    files.create("/a")
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            files.create("/b")
    files.heal()
    files.create("/b")


def test_a_failed_sync_is_not_made_good_by_the_next() -> None:
    lost = 0
    for seed in SEEDS:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"o" * PAGE_SIZE, sync=True)
        files.pwrite(handle, b"n" * PAGE_SIZE, 0)
        files.fail("sync")
        with pytest.raises(OSError, match="Input/output"):
            files.sync(handle)
        files.sync(handle)
        lost += content_of(files.power_cut(), "/a") == b"o" * PAGE_SIZE
    assert 0 < lost < len(SEEDS)


def test_a_full_disk_takes_what_fits_and_preallocated_room_stays_good() -> None:
    files = FaultyFiles(1, capacity=100)
    handle = files.create("/a")
    files.preallocate(handle, 0, 80)
    assert files.free_space("/") == 20
    other = files.create("/b")
    with pytest.raises(OSError, match="No space"):
        files.pwrite(other, b"x" * 30, 0)
    assert files.size(other) == 20
    files.pwrite(handle, b"y" * 80, 0)
    files.unlink("/b")
    assert files.free_space("/") == 0
    files.close(other)
    assert files.free_space("/") == 20


def test_a_lock_is_for_one_until_it_is_closed_or_the_process_dies() -> None:
    files = FaultyFiles(1)
    handle = files.lock("/lock")
    with pytest.raises(BlockingIOError):
        files.lock("/lock")
    files.close(handle)
    files.lock("/lock")
    files.killed().lock("/lock")


def test_folders_are_made_listed_and_removed() -> None:
    files = FaultyFiles(1)
    make_folders(files, "/store/streams")
    written(files, "/store/streams/a", b"x", sync=False)
    assert files.list_folder("/store") == ["streams"]
    with pytest.raises(OSError, match="not empty"):
        files.remove_folder("/store/streams")
    with pytest.raises(FileExistsError):
        files.make_folder("/store")
    remove_tree(files, "/store")
    assert files.status("/store") is None
    with pytest.raises(FileNotFoundError):
        files.open("/store/streams/a")


def test_made_folders_survive_with_what_is_synced_in_them() -> None:
    for seed in SEEDS:
        files = FaultyFiles(seed)
        make_folders(files, "/store/streams")
        handle = files.create("/store/streams/a")
        files.pwrite(handle, b"x", 0)
        files.sync(handle)
        files.sync_folder("/store/streams")
        assert content_of(files.power_cut(), "/store/streams/a") == b"x"


@pytest.mark.parametrize("seed", range(5))
def test_one_seed_gives_one_disk(seed: int) -> None:
    def run() -> bytes | None:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"o" * 9000, sync=True)
        files.pwrite(handle, b"n" * 9000, 3000)
        return content_of(files.power_cut(), "/a")

    assert run() == run()


def test_a_sync_of_the_disk_keeps_every_file_and_every_name() -> None:
    for seed in SEEDS:
        files = FaultyFiles(seed)
        files.make_folder("/f")
        handle = written(files, "/f/a", b"x" * 5000, sync=False)
        files.rename("/f/a", "/f/b")
        assert files.sync_disk(handle)
        after = files.power_cut()
        assert content_of(after, "/f/b") == b"x" * 5000
        assert content_of(after, "/f/a") is None


def test_a_failed_sync_of_the_disk_is_not_made_good_by_the_next() -> None:
    kept = 0
    for seed in SEEDS:
        files = FaultyFiles(seed)
        handle = written(files, "/a", b"o" * PAGE_SIZE, sync=True)
        files.pwrite(handle, b"n" * PAGE_SIZE, 0)
        files.fail("sync_disk")
        with pytest.raises(OSError, match="Input/output"):
            files.sync_disk(handle)
        files.sync_disk(handle)
        kept += content_of(files.power_cut(), "/a") == b"n" * PAGE_SIZE
    assert 0 < kept < len(SEEDS)


def test_a_fault_can_be_of_one_place() -> None:
    files = FaultyFiles(1)
    here, there = written(files, "/here", b"", sync=True), written(files, "/there-x", b"", sync=True)
    files.fail("pwrite", nth=2, where="-x")
    files.pwrite(here, b"1", 0)
    files.pwrite(there, b"1", 0)
    files.pwrite(here, b"2", 0)
    with pytest.raises(OSError, match="Input/output"):
        files.pwrite(there, b"2", 0)
    assert files.last_change == ("pwrite", "/there-x")


def test_an_image_of_a_disk_makes_the_same_disk_all_durable() -> None:
    files = FaultyFiles(1)
    files.make_folder("/f")
    files.make_folder("/f/empty")
    written(files, "/f/a", b"one", sync=False)
    written(files, "/b", b"", sync=False)
    image = files.image()
    assert image == {"/f/": b"", "/f/a": b"one", "/f/empty/": b"", "/b": b""}
    for seed in SEEDS:
        assert FaultyFiles.restored(image, seed).power_cut().image() == image
