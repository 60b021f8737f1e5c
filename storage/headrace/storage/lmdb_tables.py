"""The lookup index's tables in LMDB, and when to trust what is found there.

LMDB runs unsynced: after a crash of the process it is whole up to its last transaction, because every byte is in the
system's page cache; after a power cut it may be anything, and LMDB, which has no checksums, may crash on it. So a
small mapped file beside it, the **marker**, says what happened:

- it names the boot and the file (device, inode): a marker of another boot means a power cut, another file means a
  copy taken from a running server. Either way the database is discarded, and the index is rebuilt from the logs;
- `clean` is set after a sync at the end: then boot and file do not matter;
- `in_call` is set while LMDB is at work. Found set, the process died inside: most likely it was killed, which LMDB
  survives. Found set at three starts in a row, LMDB is what kills it, and the database is discarded.

**Memory.** The pages of a memory map count as the process's own. When more than `RESIDENT_MAX` of them are in, the
environment is closed and opened again between two transactions, which takes about a millisecond and drops them all.
"""

import contextlib
import errno
import mmap
import os
import shutil
import struct
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from typing import Any, Final

import lmdb

from headrace.storage.files import FOLDER_MODE
from headrace.storage.index_interface import IndexDamaged, IndexUnwritable
from headrace.storage.index_tables import Row, Table, Transaction

MAP_SIZE: Final = 1 << 38 if sys.maxsize > 1 << 40 else 1 << 30
RESIDENT_MAX: Final = 64 * 1024 * 1024
CHECKED_EVERY: Final = 32
"""After so many transactions the resident part is looked at; a look costs some microseconds."""

STRIKES_MAX: Final = 3

_MARKER: Final = struct.Struct("<8s16sBBB")
_MAGIC: Final = b"HRINDEX1"
_MARKER_SIZE: Final = 64
_CLEAN_OFFSET: Final = 24
_IN_CALL_OFFSET: Final = 25


class _LmdbTransaction:
    def __init__(self, transaction: Any, databases: list[Any]) -> None:  # noqa: ANN401  (py-lmdb has no types)
        self._transaction = transaction
        self._databases = databases

    def get(self, table: Table, key: bytes) -> bytes | None:
        value: bytes | None = self._transaction.get(key, db=self._databases[table])
        return value

    def rows(self, table: Table, start: bytes, stop: bytes, count_max: int) -> list[Row]:
        found: list[Row] = []
        with self._transaction.cursor(self._databases[table]) as cursor:
            if cursor.set_range(start):
                for key, value in cursor:
                    if key >= stop or len(found) == count_max:
                        break
                    found.append((key, value))
        return found

    def last_row(self, table: Table, start: bytes, end: bytes) -> Row | None:
        with self._transaction.cursor(self._databases[table]) as cursor:
            # On the first key at or behind `end`, or behind the last of all: step back unless it is `end` itself.
            if cursor.set_range(end):
                if cursor.key() != end and not cursor.prev():
                    return None
            elif not cursor.last():
                return None
            key, value = cursor.item()
        return (key, value) if key >= start else None

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._databases[table])

    def delete(self, table: Table, key: bytes) -> None:
        self._transaction.delete(key, db=self._databases[table])


class LmdbTables:
    """Tables in a folder of their own, for one process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._transactions = 0
        self._is_trusted = True
        os.makedirs(path, FOLDER_MODE, exist_ok=True)
        strikes = _trusted_strikes(path)
        if strikes is None:
            _discard(path)
            strikes = 0
        try:
            self._environment, self._databases = _open_environment(path)
        except lmdb.Error as error:
            raise IndexDamaged(f"{path}: {error}; it is rebuilt") from error
        self._marker = _make_marker(path, strikes)
        self._base_resident = _resident_size()

    def read(self) -> AbstractContextManager[Transaction]:
        return self._transaction(write=False)

    def write(self) -> AbstractContextManager[Transaction]:
        return self._transaction(write=True)

    def distrust(self) -> None:
        self._is_trusted = False
        self._marker[: len(_MAGIC)] = bytes(len(_MAGIC))

    def close(self) -> None:
        self._environment.sync(True)
        self._environment.close()
        self._marker[_CLEAN_OFFSET] = self._is_trusted
        self._marker.flush()
        self._marker.close()

    @contextmanager
    def _transaction(self, *, write: bool) -> Generator[Transaction]:
        self._transactions += 1
        if self._transactions % CHECKED_EVERY == 0:
            self._bound_memory()
        marker = self._marker
        marker[_IN_CALL_OFFSET] = 1
        try:
            with self._environment.begin(write=write) as transaction:
                yield _LmdbTransaction(transaction, self._databases)
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise IndexUnwritable(f"{self._path}: {error}") from error
        except lmdb.Error as error:
            # py-lmdb reports a system error (no room, input/output) by its text alone.
            if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO)):
                raise IndexUnwritable(f"{self._path}: {error}") from error
            raise IndexDamaged(f"{self._path}: {error}; it is rebuilt") from error
        finally:
            marker[_IN_CALL_OFFSET] = 0

    def _bound_memory(self) -> None:
        if _resident_size() - self._base_resident > RESIDENT_MAX:
            self._environment.close()
            self._environment, self._databases = _open_environment(self._path)
            self._base_resident = _resident_size()


def _open_environment(path: str) -> tuple[Any, list[Any]]:
    # lock=False: the store's lock keeps other processes out, and no transaction outlives a call in this one.
    environment = lmdb.open(
        path,
        map_size=MAP_SIZE,
        max_dbs=len(Table),
        sync=False,
        metasync=False,
        readahead=False,
        lock=False,
        mode=0o640,
    )
    return environment, [environment.open_db(table.name.lower().encode()) for table in Table]


def _discard(path: str) -> None:
    for name in ("data.mdb", "lock.mdb", "marker"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, name))


def remove_index(path: str) -> None:
    """Remove the whole index; the next open begins a new one."""
    shutil.rmtree(path, ignore_errors=True)


def _trusted_strikes(path: str) -> int | None:
    """Give the strikes against a database that may be used; None where it has to be discarded."""
    try:
        with open(os.path.join(path, "marker"), "rb") as file:
            content = file.read(_MARKER_SIZE)
    except FileNotFoundError:
        return None
    if len(content) != _MARKER_SIZE:
        return None
    magic, identity, clean, in_call, strikes = _MARKER.unpack_from(content)
    if magic != _MAGIC:
        return None
    if clean:
        return 0
    if identity != _identity(path):
        return None
    strikes = strikes + 1 if in_call else 0
    return strikes if strikes < STRIKES_MAX else None


def _make_marker(path: str, strikes: int) -> mmap.mmap:
    """Write the marker of this run, durable before anything else is: `clean` must not outlive a first write."""
    handle = os.open(os.path.join(path, "marker"), os.O_RDWR | os.O_CREAT, 0o640)
    try:
        content = _MARKER.pack(_MAGIC, _identity(path), 0, 0, strikes)
        os.pwrite(handle, content.ljust(_MARKER_SIZE, b"\0"), 0)
        os.fsync(handle)
        return mmap.mmap(handle, _MARKER_SIZE)
    finally:
        os.close(handle)


def _identity(path: str) -> bytes:
    """Tell this boot and this file from others. Where the system names no boot, none is trusted twice."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read()
    except OSError:
        boot = os.urandom(16)
    try:
        status = os.stat(os.path.join(path, "data.mdb"))
    except FileNotFoundError:
        return bytes(16)
    return blake2b(b"%s %d %d" % (boot, status.st_dev, status.st_ino), digest_size=16).digest()


def _resident_size() -> int:
    """Give the bytes of mapped files that are resident; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0
