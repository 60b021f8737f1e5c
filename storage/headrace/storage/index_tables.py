"""Ordered tables of small byte rows: what the lookup index asks of its database.

LMDB is one implementation (`lmdb_tables.py`); the one here, in memory, serves stores without an index folder: tests and
servers in virtual time. Keys are compared as bytes and are 1 to 511 bytes long. A write transaction sees its own writes
and takes effect as a whole or not at all; transactions of one database do not overlap.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from typing import Protocol

Row = tuple[bytes, bytes]


class Table(IntEnum):
    """The tables; a number is part of the rows in `GARBAGE` and does not change."""

    META = 0
    LOGS = 1
    SUBJECTS = 2
    CHUNKS = 3
    IDS = 4
    GARBAGE = 5


class Transaction(Protocol):
    """A consistent look at all tables; one from `write()` may also change them."""

    def get(self, table: Table, key: bytes) -> bytes | None: ...

    def rows(self, table: Table, start: bytes, stop: bytes, count_max: int) -> list[Row]:
        """Give the first rows with `start` <= key < `stop`, in order."""
        ...

    def last_row(self, table: Table, start: bytes, end: bytes) -> Row | None:
        """Give the last row with `start` <= key <= `end`."""
        ...

    def put(self, table: Table, key: bytes, value: bytes) -> None: ...

    def delete(self, table: Table, key: bytes) -> None:
        """Delete a row; harmless where there is none."""
        ...


class Tables(Protocol):
    """A database."""

    def read(self) -> AbstractContextManager[Transaction]: ...

    def write(self) -> AbstractContextManager[Transaction]:
        """Begin a change; it takes effect at the end of the `with`, unless that is left by an error."""
        ...

    def abandon(self) -> None:
        """Let go of a database that does not check; never trust it again."""
        ...

    def close(self) -> None: ...


class _MemoryTransaction:
    """Changes are kept aside until the end, so that an error leaves no half of them."""

    def __init__(self, tables: "MemoryTables") -> None:
        self._tables = tables
        self._undo: list[tuple[Table, bytes, bytes | None]] = []

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._tables.by_table[table].get(key)

    def rows(self, table: Table, start: bytes, stop: bytes, count_max: int) -> list[Row]:
        values = self._tables.by_table[table]
        keys = self._tables.keys(table)
        place = bisect_left(keys, start)
        return [(key, values[key]) for key in keys[place : place + count_max] if key < stop]

    def last_row(self, table: Table, start: bytes, end: bytes) -> Row | None:
        keys = self._tables.keys(table)
        place = bisect_right(keys, end) - 1
        if place < 0 or keys[place] < start:
            return None
        return keys[place], self._tables.by_table[table][keys[place]]

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self._change(table, key, value)

    def delete(self, table: Table, key: bytes) -> None:
        self._change(table, key, None)

    def undo(self) -> None:
        for table, key, value in reversed(self._undo):
            self._tables.set(table, key, value)

    def _change(self, table: Table, key: bytes, value: bytes | None) -> None:
        self._undo.append((table, key, self._tables.by_table[table].get(key)))
        self._tables.set(table, key, value)


class MemoryTables:
    """Tables that are gone with the process."""

    def __init__(self) -> None:
        self.by_table: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
        self._keys: dict[Table, list[bytes] | None] = dict.fromkeys(Table)

    def keys(self, table: Table) -> list[bytes]:
        """Give the keys in order."""
        keys = self._keys[table]
        if keys is None:
            keys = self._keys[table] = sorted(self.by_table[table])
        return keys

    def set(self, table: Table, key: bytes, value: bytes | None) -> None:
        """Put a row, or delete it (None)."""
        rows = self.by_table[table]
        if (key in rows) == (value is None):
            self._keys[table] = None
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value

    @contextmanager
    def read(self) -> Generator[Transaction]:
        yield _MemoryTransaction(self)

    @contextmanager
    def write(self) -> Generator[Transaction]:
        transaction = _MemoryTransaction(self)
        try:
            yield transaction
        except BaseException:
            transaction.undo()
            raise

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass
