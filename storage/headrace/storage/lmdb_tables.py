"""The lookup index's tables in LMDB, and when to trust what is found there.

LMDB runs unsynced: after a crash of the process it is whole up to its last transaction, because every byte is in the
system's page cache; after a power cut it may be anything, and LMDB, which has no checksums, may crash on it. So a
small mapped file beside it, the **marker**, says what happened:

- it holds the size of the database and the time of its last change (ctime, which nobody can set back): where they are
  others, someone else has written to it, or put another file in its place;
- it names the boot and the file (device, inode): a marker of another boot means a power cut, another file means a
  copy taken from a running server;
- `clean` is set after a sync at the end: then boot and file do not matter;
- `in_read` and `in_write` are set while LMDB is at work. Found set, the process died inside. A read is so short that
  it must have been what killed it. In a write it was most likely killed, which LMDB survives; found at `STRIKES_MAX`
  starts in a row, LMDB is what kills it. (Where a write was cut short, size and time say nothing.)

Where the marker says no, the database is discarded, and the index is rebuilt from the logs.

Two processes may use the tables: one writes, which tells the marker so, the other only reads.

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

STRIKES_MAX: Final = 2

_MARKER: Final = struct.Struct(
    "<8s16sBBBB4xqq"
)  # magic, identity, clean, in read, in write, strikes, ctime, size
_MAGIC: Final = b"HRINDEX2"
_MARKER_SIZE: Final = 64
_CLEAN_OFFSET: Final = 24
_IN_READ_OFFSET: Final = 25
_IN_WRITE_OFFSET: Final = 26
_STAMP: Final = struct.Struct("<qq")
_STAMP_OFFSET: Final = 32


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
    """Tables in a folder of their own. `joins`: another process has opened them, and goes on to read."""

    def __init__(self, path: str, *, joins: bool = False, resident_max: int = RESIDENT_MAX) -> None:
        self._path = path
        self._transactions = 0
        self._open_count = 0
        self._resident_max = resident_max
        self._only_reads = False
        strikes = 0
        if not joins:
            os.makedirs(path, FOLDER_MODE, exist_ok=True)
            found = _trusted_strikes(path)
            if found is None:
                _discard(path)
            strikes = found or 0
        try:
            self._environment, self._databases = _open_environment(path)
        except lmdb.Error as error:
            raise IndexDamaged(f"{path}: {error}; it is rebuilt") from error
        self._handle = os.open(os.path.join(path, "data.mdb"), os.O_RDONLY)
        self._marker = _mapped_marker(path) if joins else _make_marker(path, strikes, self._stamp())
        self._base_resident = _resident_size()

    def read(self) -> AbstractContextManager[Transaction]:
        return self._transaction(write=False)

    def write(self) -> AbstractContextManager[Transaction]:
        return self._transaction(write=True)

    def abandon(self) -> None:
        self._marker[: len(_MAGIC)] = bytes(len(_MAGIC))
        self._environment.close()
        os.close(self._handle)
        self._marker.close()

    def leave(self) -> None:
        """Let go of tables that another process goes on with."""
        self._environment.close()
        os.close(self._handle)
        self._marker.close()

    def close(self) -> None:
        # LMDB writes by write calls, so this syncs all of it, and the time of its last change too.
        os.fsync(self._handle)
        _STAMP.pack_into(self._marker, _STAMP_OFFSET, *self._stamp())
        self._environment.close()
        os.close(self._handle)
        self._marker[_CLEAN_OFFSET] = 1
        self._marker.flush()
        self._marker.close()

    @contextmanager
    def _transaction(self, *, write: bool) -> Generator[Transaction]:
        self._transactions += 1
        if self._transactions % CHECKED_EVERY == 0 and not self._open_count:
            self._bound_memory()
        marker = self._marker
        flag = _IN_WRITE_OFFSET if write else _IN_READ_OFFSET
        marker[flag] = 1
        self._open_count += 1
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
            self._open_count -= 1
            if write:
                _STAMP.pack_into(marker, _STAMP_OFFSET, *self._stamp())
            if write or not self._open_count:
                marker[flag] = 0

    def only_read(self, wish: bool) -> None:
        """Leave the writing to another process, or take it back."""
        self._only_reads = wish
        self._open_again()

    def _bound_memory(self) -> None:
        if _resident_size() - self._base_resident > self._resident_max:
            self._open_again()

    def _open_again(self) -> None:
        self._environment.close()
        self._environment, self._databases = _open_environment(self._path, only_reads=self._only_reads)
        self._base_resident = _resident_size()

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._handle)
        return status.st_ctime_ns, status.st_size


def _open_environment(path: str, *, only_reads: bool = False) -> tuple[Any, list[Any]]:
    # Opened for reading only, it never waits for another process that writes.
    environment = lmdb.open(
        path,
        map_size=MAP_SIZE,
        max_dbs=len(Table),
        sync=False,
        metasync=False,
        readahead=False,
        readonly=only_reads,
        mode=0o640,
    )
    environment.reader_check()
    names = [table.name.lower().encode() for table in Table]
    return environment, [environment.open_db(name, create=not only_reads) for name in names]


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
    magic, identity, clean, in_read, in_write, strikes, ctime_ns, size = _MARKER.unpack_from(content)
    if magic != _MAGIC:
        return None
    try:
        status = os.stat(os.path.join(path, "data.mdb"))
    except FileNotFoundError:
        return None
    is_as_left = (ctime_ns, size) == (status.st_ctime_ns, status.st_size)
    if clean:
        return 0 if is_as_left else None
    if identity != _identity(path) or in_read or not (is_as_left or in_write):
        return None
    strikes = strikes + 1 if in_write else 0
    return strikes if strikes < STRIKES_MAX else None


def _make_marker(path: str, strikes: int, stamp: tuple[int, int]) -> mmap.mmap:
    """Write the marker of this run, durable before anything else is: `clean` must not outlive a first write."""
    handle = os.open(os.path.join(path, "marker"), os.O_RDWR | os.O_CREAT, 0o640)
    try:
        content = _MARKER.pack(_MAGIC, _identity(path), 0, 0, 0, strikes, *stamp)
        os.pwrite(handle, content.ljust(_MARKER_SIZE, b"\0"), 0)
        os.fsync(handle)
        return mmap.mmap(handle, _MARKER_SIZE)
    finally:
        os.close(handle)


def _mapped_marker(path: str) -> mmap.mmap:
    handle = os.open(os.path.join(path, "marker"), os.O_RDWR)
    try:
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
