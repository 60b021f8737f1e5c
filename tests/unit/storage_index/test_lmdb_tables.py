"""When the index on disk is trusted, when it is begun anew, and what a damaged row does."""

import os
import time
from pathlib import Path

import lmdb
import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage import lmdb_tables
from headrace.storage.files import RealFiles
from headrace.storage.index_interface import (
    START,
    IndexDamaged,
    IndexRebuilding,
    IndexUnwritable,
    LogIndex,
    Position,
)
from headrace.storage.index_root import IndexRoot, open_root
from headrace.storage.index_tables import MemoryTables, Table, Tables
from headrace.storage.lmdb_tables import LmdbTables
from headrace.storage.subject_indexes import SubjectIndexes

IN_READ = 25
IN_WRITE = 26


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "index")


@pytest.fixture(params=["lmdb", "memory"])
def tables(request: pytest.FixtureRequest, path: str) -> Tables:
    return LmdbTables(path) if request.param == "lmdb" else MemoryTables()


def put(tables: Tables, *rows: tuple[bytes, bytes]) -> None:
    with tables.write() as transaction:
        for key, value in rows:
            transaction.put(Table.SUBJECTS, key, value)


def got(tables: Tables, key: bytes) -> bytes | None:
    with tables.read() as transaction:
        return transaction.get(Table.SUBJECTS, key)


def abandon(tables: LmdbTables) -> None:
    """Leave as a killed process does."""
    tables._environment.close()


def test_rows_are_found_in_order(tables: Tables) -> None:
    put(tables, (b"b", b"2"), (b"a", b"1"), (b"d", b"4"))
    with tables.read() as transaction:
        assert transaction.rows(Table.SUBJECTS, b"a", b"d", 10) == [(b"a", b"1"), (b"b", b"2")]
        assert transaction.rows(Table.SUBJECTS, b"aa", b"z", 1) == [(b"b", b"2")]
        assert transaction.rows(Table.CHUNKS, b"a", b"z", 10) == []
        assert transaction.last_row(Table.SUBJECTS, b"a", b"c") == (b"b", b"2")
        assert transaction.last_row(Table.SUBJECTS, b"a", b"b") == (b"b", b"2")
        assert transaction.last_row(Table.SUBJECTS, b"a", b"z") == (b"d", b"4")
        assert transaction.last_row(Table.SUBJECTS, b"c", b"c") is None
        assert transaction.last_row(Table.SUBJECTS, b"0", b"0") is None
        assert transaction.last_row(Table.CHUNKS, b"a", b"z") is None
    tables.close()


def test_a_write_sees_itself_and_an_error_undoes_it(tables: Tables) -> None:
    put(tables, (b"a", b"1"))

    def fail() -> None:
        with tables.write() as transaction:
            transaction.put(Table.SUBJECTS, b"a", b"2")
            transaction.delete(Table.SUBJECTS, b"none")
            transaction.put(Table.SUBJECTS, b"b", b"3")
            assert transaction.get(Table.SUBJECTS, b"a") == b"2"
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert (got(tables, b"a"), got(tables, b"b")) == (b"1", None)
    tables.close()


def test_rows_survive_a_clean_end_and_a_kill(path: str) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    abandon(tables)
    tables = LmdbTables(path)
    assert got(tables, b"a") == b"1"
    tables.close()
    tables = LmdbTables(path)
    assert got(tables, b"a") == b"1"
    tables.close()


def test_another_boot_is_trusted_only_after_a_clean_end(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    tables.close()
    monkeypatch.setattr(lmdb_tables, "_identity", lambda _: b"another boot....")
    tables = LmdbTables(path)
    assert got(tables, b"a") == b"1"
    abandon(tables)
    monkeypatch.setattr(lmdb_tables, "_identity", lambda _: b"yet another boot")
    tables = LmdbTables(path)
    assert got(tables, b"a") is None
    tables.close()


def test_a_copy_of_a_running_index_is_not_trusted(path: str, tmp_path: Path) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in os.listdir(path):
        (copy / name).write_bytes((tmp_path / "index" / name).read_bytes())
    copied = LmdbTables(str(copy))
    assert got(copied, b"a") is None
    copied.close()
    tables.close()


def test_a_process_that_died_in_a_write_twice_in_a_row_leaves_no_index(path: str) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    for expected in (b"1", None):
        tables._marker[IN_WRITE] = 1
        abandon(tables)
        tables = LmdbTables(path)
        assert tables._marker[IN_WRITE] == 0
        assert got(tables, b"a") == expected
    tables.close()


def test_a_process_that_died_in_a_read_leaves_no_index(path: str) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    tables._marker[IN_READ] = 1
    abandon(tables)
    tables = LmdbTables(path)
    assert got(tables, b"a") is None
    tables.close()


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("harm", ["older copy", "stale page", "cut", "gone"])
def test_a_database_that_someone_else_changed_is_not_trusted(
    path: str, tmp_path: Path, harm: str, *, is_clean: bool
) -> None:
    data = tmp_path / "index" / "data.mdb"
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    older = data.read_bytes()
    put(tables, (b"a", b"2"))
    tables.close() if is_clean else abandon(tables)
    newer = data.read_bytes()
    time.sleep(0.01)  # the system's clock for files has ticks of some milliseconds
    match harm:
        case "older copy":
            data.write_bytes(older)
        case "stale page":
            with data.open("r+b") as file:
                file.seek(4096)
                file.write(newer[4096:8192])
        case "cut":
            os.truncate(data, len(newer) // 2)
        case _:
            data.unlink()
    tables = LmdbTables(path)
    assert got(tables, b"a") is None
    tables.close()


def test_a_kill_outside_clears_the_strikes(path: str) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    for is_inside in (1, 0, 1, 0):
        tables._marker[IN_WRITE] = is_inside
        abandon(tables)
        tables = LmdbTables(path)
        assert got(tables, b"a") == b"1"
    tables.close()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 64])
def test_a_strange_marker_leaves_no_index(path: str, tmp_path: Path, content: bytes) -> None:
    tables = LmdbTables(path)
    put(tables, (b"a", b"1"))
    tables.close()
    (tmp_path / "index" / "marker").write_bytes(content)
    tables = LmdbTables(path)
    assert got(tables, b"a") is None
    tables.close()


def test_a_file_that_is_no_database_is_replaced(path: str, tmp_path: Path) -> None:
    open_root(path, Chance(1)).close()
    (tmp_path / "index" / "data.mdb").write_bytes(b"no database" * 1000)
    root = open_root(path, Chance(1))
    assert isinstance(root.tables, LmdbTables)
    root.close()


def test_another_format_is_replaced(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.storage.index_root.FORMAT", 0)
    root = open_root(path, Chance(1))
    secret = root.secret
    root.close()
    monkeypatch.undo()
    root = open_root(path, Chance(2))
    assert root.secret != secret
    root.close()


def test_a_place_that_cannot_be_written_gives_an_index_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    root = open_root(str(tmp_path / "file" / "index"), Chance(1))
    assert isinstance(root.tables, MemoryTables)


def test_memory_stays_bounded_by_opening_again(path: str) -> None:
    tables = LmdbTables(path, resident_max=-1 << 40)
    environments = {id(tables._environment)}
    for each in range(100):
        put(tables, (b"%d" % each, b"1"))
        environments.add(id(tables._environment))
    assert len(environments) > 1
    assert got(tables, b"7") == b"1"
    tables.close()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (lmdb.MapFullError("full"), IndexUnwritable),
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), IndexUnwritable),
        (lmdb.Error("mdb_put: No space left on device"), IndexUnwritable),
        (lmdb.CorruptedError("bad page"), IndexDamaged),
    ],
)
def test_errors_of_the_database_are_told_apart(
    path: str, raised: Exception, expected: type[Exception]
) -> None:
    tables = LmdbTables(path)

    def fail() -> None:
        with tables.write():
            raise raised

    with pytest.raises(expected):
        fail()
    tables.close()


def told(index: LogIndex) -> None:
    index.note_appends(1, [b"a", b"b", b"a"])
    index.note_append(4, 9, b"a", b"id")
    index.mark(Position(4, 0))
    index.advance(Position(4, 0), 1 << 40)


def break_rows(tables: MemoryTables, table: Table) -> None:
    for key, value in list(tables.by_table[table].items()):
        tables.set(table, key, value[:-1] + bytes([value[-1] ^ 1]))


def in_memory(monkeypatch: pytest.MonkeyPatch) -> tuple[SubjectIndexes, MemoryTables]:
    tables = MemoryTables()
    made = iter([tables])
    monkeypatch.setattr(
        "headrace.storage.subject_indexes.open_root",
        lambda _, chance: IndexRoot(next(made, MemoryTables()), chance),
    )
    return SubjectIndexes(None, Chance(1), VirtualScheduler(), RealFiles()), tables


@pytest.mark.parametrize("table", [Table.SUBJECTS, Table.IDS])
def test_a_damaged_row_is_noticed_and_a_rebuild_begins(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    indexes, tables = in_memory(monkeypatch)
    index = indexes.open_log(7, START)
    told(index)
    index.flush()
    break_rows(tables, table)
    index = indexes.open_log(7, Position(4, 0))
    assert index.replay_from == Position(4, 0)

    def ask() -> tuple[object, ...]:
        return index.subject(b"a"), index.find_message_id(b"id", 0), index.subject_count

    with pytest.raises(IndexDamaged):
        ask()
    index.distrust()
    assert (index.replay_from, index.is_ready) == (START, False)
    with pytest.raises(IndexRebuilding):
        ask()


def test_a_damaged_log_row_makes_the_index_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    indexes, tables = in_memory(monkeypatch)
    index = indexes.open_log(7, START)
    told(index)
    index.flush()
    break_rows(tables, Table.LOGS)
    index = indexes.open_log(7, Position(4, 0))
    assert index.replay_from == START
    told(index)
    assert index.subject_count == 2


def test_a_full_disk_stops_the_writing_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    indexes, tables = in_memory(monkeypatch)
    index = indexes.open_log(7, START)
    told(index)
    with monkeypatch.context() as patch:

        def refuse() -> object:
            raise IndexUnwritable("full")

        patch.setattr(tables, "write", refuse)
        assert not index.advance(Position(4, 0), 1 << 40, urge=True)
        index.flush()
        assert index.subject_count == 2
    assert index.replay_from == START
    index.flush()
    assert index.replay_from == Position(4, 0)


def test_a_dropped_log_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    indexes, tables = in_memory(monkeypatch)
    index = indexes.open_log(7, START)
    told(index)
    index.flush()
    indexes.drop_log(7)
    other = indexes.open_log(8, START)
    while other.advance(START, 1 << 40):
        pass
    assert not tables.by_table[Table.SUBJECTS]
    assert not tables.by_table[Table.IDS]
    assert not tables.by_table[Table.GARBAGE]


def test_outdated_ids_are_swept_while_new_ones_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    indexes, tables = in_memory(monkeypatch)
    index = indexes.open_log(7, START)
    for each in range(1, 41):
        for number in range(10):
            index.note_id(b"%d-%d" % (each, number), each, each)
        index.find_message_id(b"none", each - 3)
        index.mark(Position(each, 0))
        index.advance(Position(each, 0), 1 << 40, urge=True)
    assert len(tables.by_table[Table.IDS]) < 120
    assert index.find_message_id(b"40-3", 38) == 40
