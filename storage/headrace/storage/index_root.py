"""What all logs share of the lookup index: prefixes, the secret of its hashes, each log's row, and the garbage.

Rows that nobody needs any more are not deleted at once, however many they are: their table and prefix are noted as
garbage in the transaction that stops using them, and swept a few at a time.
"""

from typing import Final

from headrace.core.base.chance import Chance
from headrace.storage.index_interface import START, IndexDamaged, IndexUnwritable, Position
from headrace.storage.index_rows import (
    FORMAT,
    HASH_SIZE,
    LogRow,
    log_payload,
    number_payload,
    parse_log,
    parse_number,
    prefix_bytes,
    prefix_end,
    seal,
    unseal,
)
from headrace.storage.index_tables import MemoryTables, Table, Tables, Transaction
from headrace.storage.lmdb_tables import LmdbTables, remove_index

SWEPT_AT_ONCE: Final = 500

_FORMAT_KEY: Final = b"format"
_SECRET_KEY: Final = b"secret"
_PREFIX_KEY: Final = b"prefix"


class IndexRoot:
    """An opened index database. Raises IndexDamaged where it is none of ours."""

    def __init__(self, tables: Tables, chance: Chance) -> None:
        self.tables = tables
        self._chance = chance
        with tables.write() as transaction:
            stored = transaction.get(Table.META, _FORMAT_KEY)
            if stored is None:
                secret = b"".join(chance.bits64().to_bytes(8, "big") for _ in range(HASH_SIZE // 8))
                _put(transaction, _FORMAT_KEY, number_payload(FORMAT))
                _put(transaction, _SECRET_KEY, secret)
                _put(transaction, _PREFIX_KEY, number_payload(0))
            elif parse_number(unseal(_FORMAT_KEY, stored)) != FORMAT:
                raise IndexDamaged("the index has another format; it is rebuilt")
            self.secret = unseal(_SECRET_KEY, transaction.get(Table.META, _SECRET_KEY) or b"")
            self._has_garbage = bool(transaction.rows(Table.GARBAGE, b"\0", b"\xff", 1))

    def close(self) -> None:
        self.tables.close()

    def abandon(self) -> None:
        """Let go of a database that is to be removed."""
        self.tables.abandon()

    def take_prefix(self, transaction: Transaction) -> int:
        """Give a prefix that was never used."""
        prefix = parse_number(unseal(_PREFIX_KEY, transaction.get(Table.META, _PREFIX_KEY) or b"")) + 1
        _put(transaction, _PREFIX_KEY, number_payload(prefix))
        return prefix

    def load_log(self, transaction: Transaction, stream_id: int) -> LogRow | None:
        key = prefix_bytes(stream_id)
        value = transaction.get(Table.LOGS, key)
        return None if value is None else parse_log(unseal(key, value))

    def save_log(self, transaction: Transaction, stream_id: int, row: LogRow) -> None:
        key = prefix_bytes(stream_id)
        transaction.put(Table.LOGS, key, seal(key, log_payload(row)))

    def begin_log(self, transaction: Transaction, stream_id: int) -> LogRow:
        """Begin a log's rows anew; those it had become garbage."""
        self.drop_log(transaction, stream_id)
        row = LogRow(
            position=START,
            target=None,
            written_key=b"",
            subject_prefix=self.take_prefix(transaction),
            id_prefix=self.take_prefix(transaction),
            row_count=0,
            is_cleared=False,
        )
        self.save_log(transaction, stream_id, row)
        return row

    def drop_log(self, transaction: Transaction, stream_id: int) -> None:
        """Let a log's rows be swept."""
        row = self.load_log(transaction, stream_id)
        if row is not None:
            self.discard_subjects(transaction, row.subject_prefix)
            self._discard(transaction, Table.IDS, row.id_prefix)
            transaction.delete(Table.LOGS, prefix_bytes(stream_id))

    def discard_subjects(self, transaction: Transaction, prefix: int) -> None:
        """Let all subjects with this prefix be swept."""
        self._discard(transaction, Table.SUBJECTS, prefix)
        self._discard(transaction, Table.CHUNKS, prefix)

    def sweep(self) -> bool:
        """Delete some of the garbage; tell whether there is more."""
        if not self._has_garbage:
            return False
        with self.tables.write() as transaction:
            noted = transaction.rows(Table.GARBAGE, b"\0", b"\xff", 1)
            if not noted:
                self._has_garbage = False
                return False
            key = noted[0][0]
            table, prefix = Table(key[0]), int.from_bytes(key[1:], "big")
            rows = transaction.rows(table, prefix_bytes(prefix), prefix_end(prefix), SWEPT_AT_ONCE)
            for row_key, _ in rows:
                transaction.delete(table, row_key)
            if len(rows) < SWEPT_AT_ONCE:
                transaction.delete(Table.GARBAGE, key)
        return True

    def _discard(self, transaction: Transaction, table: Table, prefix: int) -> None:
        transaction.put(Table.GARBAGE, bytes([table]) + prefix_bytes(prefix), b"")
        self._has_garbage = True


def open_root(path: str | None, chance: Chance) -> IndexRoot:
    """Open the database in folder `path`, or begin a new one there; in memory where there is no path or no room."""
    if path is None:
        return IndexRoot(MemoryTables(), chance)
    for _ in range(2):
        try:
            return IndexRoot(LmdbTables(path), chance)
        except IndexDamaged:
            remove_index(path)
        except (IndexUnwritable, OSError):
            break
    return IndexRoot(MemoryTables(), chance)


def is_ahead(row: LogRow, recovered: Position) -> bool:
    """Tell whether rows know more than a log did after its recovery."""
    known = row.target or row.position
    return known.sequence > recovered.sequence or known.change > recovered.change


def _put(transaction: Transaction, key: bytes, payload: bytes) -> None:
    transaction.put(Table.META, key, seal(key, payload))
