"""The system's files, and that the disk of the tests is like them."""

import errno
import os
import sys
from pathlib import Path

import pytest

from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.files import Files, FileStatus, RealFiles, find_syncfs, make_folders, remove_tree


@pytest.fixture(params=["real", "faulty"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, str]:
    if request.param == "real":
        return RealFiles(), str(tmp_path)
    files = FaultyFiles(1)
    files.make_folder("/disk")
    return files, "/disk"


def test_bytes_come_back_from_where_they_were_written(place: tuple[Files, str]) -> None:
    files, folder = place
    handle = files.create(f"{folder}/a")
    files.pwrite(handle, b"world", 6)
    files.pwrite(handle, memoryview(b"hello "), 0)
    files.sync(handle)
    files.sync_folder(folder)
    assert files.pread(handle, 5, 6) == b"world"
    assert files.pread(handle, 50, 6) == b"world"
    assert files.pread(handle, 50, 60) == b""
    files.close(handle)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        files.close(handle)


def test_preallocated_room_reads_as_zeros(place: tuple[Files, str]) -> None:
    files, folder = place
    handle = files.create(f"{folder}/a")
    files.pwrite(handle, b"abc", 0)
    files.preallocate(handle, 0, 10)
    assert files.size(handle) == 10
    assert files.pread(handle, 10, 0) == b"abc" + bytes(7)
    files.preallocate(handle, 0, 5)
    assert files.size(handle) == 10
    files.close(handle)


def test_a_file_is_made_once_and_opened_where_it_is(place: tuple[Files, str]) -> None:
    files, folder = place
    files.close(files.create(f"{folder}/a"))
    with pytest.raises(FileExistsError):
        files.create(f"{folder}/a")
    with pytest.raises(FileNotFoundError):
        files.open(f"{folder}/b")
    handle = files.open(f"{folder}/a", writable=True)
    files.pwrite(handle, b"x", 0)
    files.close(handle)
    assert files.status(f"{folder}/a") == FileStatus(size=1, is_folder=False)
    assert files.status(f"{folder}/b") is None


def test_a_rename_replaces_and_an_open_file_outlives_its_name(place: tuple[Files, str]) -> None:
    files, folder = place
    old = files.create(f"{folder}/old")
    files.pwrite(old, b"old", 0)
    new = files.create(f"{folder}/new")
    files.pwrite(new, b"new", 0)
    files.rename(f"{folder}/new", f"{folder}/old")
    assert files.list_folder(folder) == ["old"]
    assert files.pread(old, 3, 0) == b"old"
    files.unlink(f"{folder}/old")
    assert files.pread(new, 3, 0) == b"new"
    files.close(old)
    files.close(new)


def test_folders_with_anything_in_them_stay(place: tuple[Files, str]) -> None:
    files, folder = place
    make_folders(files, f"{folder}/x/y")
    make_folders(files, f"{folder}/x/y")
    files.close(files.create(f"{folder}/x/y/z"))
    status = files.status(f"{folder}/x")
    assert status is not None
    assert status.is_folder
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        files.remove_folder(f"{folder}/x")
    files.rename(f"{folder}/x", f"{folder}/w")
    remove_tree(files, f"{folder}/w")
    assert files.list_folder(folder) == []


def test_a_lock_is_refused_while_another_holds_it(place: tuple[Files, str]) -> None:
    files, folder = place
    handle = files.lock(f"{folder}/lock")
    with pytest.raises(BlockingIOError):
        files.lock(f"{folder}/lock")
    files.close(handle)
    files.close(files.lock(f"{folder}/lock"))


def test_there_is_free_space(place: tuple[Files, str]) -> None:
    files, folder = place
    assert files.free_space(folder) > 0


def test_a_short_write_of_the_system_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: real(handle, bytes(data)[:3], offset))
    files = RealFiles()
    handle = files.create(str(tmp_path / "a"))
    files.pwrite(handle, b"0123456789", 0)
    assert files.pread(handle, 10, 0) == b"0123456789"
    files.close(handle)


def test_a_short_read_of_the_system_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    files = RealFiles()
    handle = files.create(str(tmp_path / "a"))
    files.pwrite(handle, b"0123456789", 0)
    monkeypatch.setattr(os, "pread", lambda handle, size, offset: real(handle, min(size, 3), offset))
    assert files.pread(handle, 8, 1) == b"12345678"
    assert files.pread(handle, 20, 1) == b"123456789"
    files.close(handle)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has syncfs")
@pytest.mark.parametrize(
    ("release", "is_used"),
    [
        ("5.8.0-1-generic", True),
        ("5.10.0-21-amd64", True),
        ("6.1", True),
        ("10.0.0", True),
        ("5.7.19", False),
        ("4.19.0", False),
        ("unknown", False),
    ],
)
def test_a_whole_file_system_is_synced_only_where_the_kernel_tells_of_failures(
    release: str, *, is_used: bool
) -> None:
    assert (find_syncfs(release) is not None) is is_used


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has syncfs")
def test_a_whole_file_system_is_synced_where_the_system_can(tmp_path: Path) -> None:
    files = RealFiles()
    handle = files.create(str(tmp_path / "a"))
    files.pwrite(handle, b"x", 0)
    assert files.sync_disk(handle)
    files.close(handle)
    with pytest.raises(OSError, match="Bad file"):
        files.sync_disk(handle)
