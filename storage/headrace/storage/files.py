"""The file functions that all of storage goes through, as a table that can be exchanged.

Storage names files by path and uses the ones that it opened by handle. The real table calls the system; the faulty one
(`faulty_files.py`) is a disk in memory that loses what was not synced and fails when it is told to. LMDB, which has its
own way to the disk, is the only exception; what it holds can be rebuilt.

Every function is synchronous and may be called from the sync thread. Failures are plain `OSError`s with their
`errno`: the caller knows what they mean for a log. What is promised after each:

- `pwrite` has written everything, or raises with any part of it written.
- `sync` has made the file's bytes and its size durable, not its name. After it raised, what is on disk is unknown, and
  calling it again proves nothing.
- `sync_folder` has made the names in a folder durable: creations, renames, removals.
- `sync_disk` has done both for all files and folders of one file system.
"""

import contextlib
import ctypes
import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from headrace.storage.interface import StoreUnusable

Buffer = bytes | bytearray | memoryview

FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750
ZEROS_SIZE: Final = 1024 * 1024
"""How much is written at a time where the system cannot preallocate."""

SYNCFS_TELLS: Final = (5, 8)
"""The version of Linux from which on `syncfs` says what could not be written. Source: its manual page."""


class FileStatus(NamedTuple):
    """What a path names."""

    size: int
    is_folder: bool


class Files(Protocol):
    """A disk. Handles are small integers; the real table's are file descriptors."""

    def create(self, path: str) -> int:
        """Make an empty file and open it for reading and writing. Raises FileExistsError."""
        ...

    def open(self, path: str, *, writable: bool = False) -> int:
        """Open an existing file. Raises FileNotFoundError."""
        ...

    def close(self, handle: int) -> None: ...

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Read `size` bytes; fewer only where the file ends."""
        ...

    def pwrite(self, handle: int, data: Buffer, offset: int) -> None:
        """Write all of `data`, over what is there or beyond the end."""
        ...

    def preallocate(self, handle: int, offset: int, size: int) -> None:
        """Make sure that writing to this range needs no more room; new bytes are zeros and the file grows."""
        ...

    def sync(self, handle: int) -> None:
        """Make the file's bytes and its size durable."""
        ...

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""
        ...

    def sync_disk(self, handle: int) -> bool:
        """Make all on the file system of `handle` durable, names too; False where the system has no such call, or
        one that keeps failures to itself.

        It raises for a write that failed anywhere since the handle was opened, so give one that is older than
        what is to be synced.
        """
        ...

    def size(self, handle: int) -> int: ...

    def status(self, path: str) -> FileStatus | None:
        """Tell what `path` names; None where there is nothing."""
        ...

    def rename(self, path: str, new_path: str) -> None:
        """Give a file or folder another name in the same folder, in one step; a file there is replaced."""
        ...

    def unlink(self, path: str) -> None: ...

    def make_folder(self, path: str) -> None:
        """Make one folder. Raises FileExistsError."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        ...

    def list_folder(self, path: str) -> list[str]:
        """Give the names in a folder, sorted."""
        ...

    def lock(self, path: str) -> int:
        """Open a file, made where it is missing, for this process alone, until it is closed or the process ends.

        Raises BlockingIOError where another process holds it.
        """
        ...

    def free_space(self, path: str) -> int:
        """Give how many bytes the file system of `path` has left for us."""
        ...


class RealFiles:
    """The system's own files. Needs POSIX: `pread`, `flock`, and a folder that can be synced."""

    def __init__(self) -> None:
        if not hasattr(os, "pread"):
            raise StoreUnusable(
                f"file storage needs a POSIX system, this one is {sys.platform}; use memory storage"
            )

    def create(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)

    def open(self, path: str, *, writable: bool = False) -> int:
        return os.open(path, os.O_RDWR if writable else os.O_RDONLY)

    def close(self, handle: int) -> None:
        os.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        data = os.pread(handle, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing:
            data = os.pread(handle, missing, offset + size - missing)
            if not data:
                break
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def pwrite(self, handle: int, data: Buffer, offset: int) -> None:
        written = os.pwrite(handle, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)
        while written < len(rest):
            count = os.pwrite(handle, rest[written:], offset + written)
            if count == 0:
                raise OSError(errno.EIO, "a write wrote nothing")
            written += count

    def preallocate(self, handle: int, offset: int, size: int) -> None:
        _preallocate(handle, offset, size)

    def sync(self, handle: int) -> None:
        _sync(handle)

    def sync_folder(self, path: str) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def sync_disk(self, handle: int) -> bool:
        if _syncfs is None:
            return False
        if _syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return True

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def status(self, path: str) -> FileStatus | None:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return FileStatus(size=found.st_size, is_folder=stat.S_ISDIR(found.st_mode))

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.mkdir(path, FOLDER_MODE)

    def remove_folder(self, path: str) -> None:
        os.rmdir(path)

    def list_folder(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def lock(self, path: str) -> int:
        import fcntl  # noqa: PLC0415  (absent on Windows, where this module must still import)

        handle = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle

    def free_space(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def make_folders(files: Files, path: str) -> None:
    """Make a folder and those above it that are missing, and make their names durable."""
    missing: list[str] = []
    while path and files.status(path) is None:
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            files.make_folder(folder)
        files.sync_folder(os.path.dirname(folder) or ".")


def sync_path(files: Files, path: str) -> None:
    """Make a file durable by a handle of its own. Raises FileNotFoundError and OSError."""
    handle = files.open(path)
    try:
        files.sync(handle)
    finally:
        files.close(handle)


def remove_tree(files: Files, path: str) -> None:
    """Remove a folder with all that it holds. Nothing is synced."""
    for name in files.list_folder(path):
        inside = os.path.join(path, name)
        status = files.status(inside)
        if status is not None and status.is_folder:
            remove_tree(files, inside)
        else:
            files.unlink(inside)
    files.remove_folder(path)


def _choose_sync() -> Callable[[int], None]:
    # macOS: fsync leaves the bytes in the drive's cache; only F_FULLFSYNC reaches the medium.
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415  (absent on Windows)

        def full_sync(handle: int) -> None:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)

        return full_sync
    # fdatasync covers the size too where reading the bytes needs it; it spares the timestamps.
    return getattr(os, "fdatasync", os.fsync)


def find_syncfs(release: str | None = None) -> Callable[[int], int] | None:
    """Give Linux's `syncfs`, from the kernel's version on in which it says what could not be written.

    `release` as `uname -r` has it; None: that of this machine.
    """
    if not sys.platform.startswith("linux"):
        return None
    version = re.match(r"(\d+)\.(\d+)", os.uname().release if release is None else release)
    if version is None or (int(version[1]), int(version[2])) < SYNCFS_TELLS:
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if found is not None:
        found.argtypes = (ctypes.c_int,)
        found.restype = ctypes.c_int
    return found


def _write_zeros(handle: int, offset: int, size: int) -> None:
    start = max(offset, os.fstat(handle).st_size)
    while start < offset + size:
        start += os.pwrite(handle, bytes(min(ZEROS_SIZE, offset + size - start)), start)


_sync: Final = _choose_sync()
_syncfs: Final = find_syncfs()
_preallocate: Final[Callable[[int, int, int], None]] = getattr(os, "posix_fallocate", _write_zeros)
