import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, LoopScheduler, VirtualScheduler
from headrace.core.base.message import Message, MessageBatch
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.file_log import FileLog
from headrace.storage.interface import (
    CorruptRecord,
    DiskFull,
    Effect,
    LogFenced,
    Register,
    RegisterChange,
    StorageError,
    StoreLocked,
    StoreUnusable,
    StreamLog,
)
from headrace.storage.log_reads import LogReads
from headrace.storage.memory_log import MemoryLog
from headrace.storage.record import SEQUENCE_MAX
from headrace.storage.store import StoreOptions, open_store


class Literal:
    def __init__(self, *subjects: bytes) -> None:
        self.literals: frozenset[bytes] | None = frozenset(subjects)

    def matches(self, subject: bytes) -> bool:
        return subject in (self.literals or ())


def at(path: Path, **options: Any) -> Any:
    return open_store(
        str(path),
        scheduler=VirtualScheduler(),
        chance=Chance(1),
        options=StoreOptions(is_index_in_memory=True, **options),
    )


def batch(count: int, size: int = 20) -> MessageBatch:
    return MessageBatch(Message(b"b.%d" % (each % 5), b"", b"", b"p" * size, 1) for each in range(count))


def flip(files: FaultyFiles, log: StreamLog, text: bytes) -> None:
    """Change a byte of `text` wherever a segment of the log holds it."""
    assert isinstance(log, FileLog)
    folder = f"{log.folder}/seg"
    for name in files.list_folder(folder):
        handle = files.open(f"{folder}/{name}", writable=True)
        content = files.pread(handle, files.size(handle), 0)
        if text in content:
            files.pwrite(handle, b"#", content.index(text))
        files.close(handle)


# ---- the folder


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreUnusable, match=r"^storage directory is not a directory: .*store$"):
        at(tmp_path / "store")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"^could not create storage directory: .*Not a directory"):
        at(tmp_path / "file" / "store")


def test_a_store_in_use_is_refused_and_names_the_process(tmp_path: Path) -> None:
    store = at(tmp_path)
    with pytest.raises(StoreLocked, match=f"is in use by process {os.getpid()}; "):
        at(tmp_path)
    store.close()
    at(tmp_path).close()


def test_a_folder_with_another_format_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("something else")
    with pytest.raises(StoreUnusable, match="reads 'something else', expected 'headrace store 1'"):
        at(tmp_path)


def test_half_made_and_deleted_streams_are_removed_at_start(tmp_path: Path) -> None:
    at(tmp_path).close()
    for name in ("0000000000000001.new", "0000000000000002.dead"):
        (tmp_path / "streams" / name / "seg").mkdir(parents=True)
    (tmp_path / "streams" / "notes").mkdir()
    store = at(tmp_path)
    assert os.listdir(tmp_path / "streams") == ["notes"]
    store.close()


def test_a_stream_without_a_readable_state_log_is_left_alone_and_reported(tmp_path: Path) -> None:
    store = at(tmp_path)
    log = store.create({"name": "S"}, memory=False, created_ns=1)
    store.close()
    for name in os.listdir(log.folder):
        if name.startswith("state-"):
            Path(log.folder, name).write_bytes(bytes(4096))
    store = at(tmp_path)
    assert store.logs() == []
    assert [folder for folder, _ in store.unreadable] == [log.folder]
    store.close()


# ---- life of a log


def test_a_deleted_stream_is_gone_after_the_sync_and_after_a_kill(disk: Any) -> None:
    log = disk.log("gone")
    disk.log("stays")
    log.append([disk.entry()])
    disk.commit()
    disk.store.delete(log)
    assert disk.commit() is None
    disk.idle()
    assert [each.config["name"] for each in disk.kill()] == ["stays"]
    assert len(disk.files.list_folder("/store/streams")) == 1
    with pytest.raises(LogFenced):
        log.append([disk.entry()])


def test_a_stream_may_be_deleted_while_its_commit_is_in_flight(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry()])
    disk.store.commit()
    disk.store.delete(log)
    assert disk.commit() is None
    disk.idle()
    assert disk.files.list_folder("/store/streams") == []


def test_a_memory_stream_is_made_by_the_same_store_and_does_not_outlive_it(disk: Any) -> None:
    log = disk.store.create({"name": "M"}, memory=True, created_ns=1)
    assert isinstance(log, MemoryLog)
    log.append([disk.entry()])
    assert log.durable_sequence == 1
    assert disk.store.is_settled
    assert disk.store.logs() == [log]
    assert disk.reopen() == []


def test_nothing_is_durable_before_the_sync_and_everything_after_it(disk: Any) -> None:
    log = disk.log()
    disk.commit()
    log.append_batch(batch(10), 5)
    log.append([disk.entry()])
    assert (log.head.last_sequence, log.durable_sequence, disk.store.is_settled) == (11, 0, False)
    disk.commit()
    assert (log.durable_sequence, disk.store.is_settled) == (11, True)


def test_messages_are_read_from_memory_before_and_from_disk_after_the_sync(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(300), 5)
    before = [log.get(each) for each in range(1, 301)]
    disk.commit()
    assert [log.get(each) for each in range(1, 301)] == before
    assert before[299] is not None
    assert before[299].subject == b"b.4"


def test_a_stream_that_is_settled_says_so_on_disk_when_it_falls_idle(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(payload=b"precious")])
    disk.commit()
    disk.idle()
    flip(disk.files, log, b"precious")
    (log,) = disk.kill()
    assert log.head.lost == ((1, 1),)
    assert log.damage[0].certain


def test_a_record_above_what_is_known_to_be_durable_is_lost_perhaps(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(payload=b"precious")])
    disk.commit()
    flip(disk.files, log, b"precious")
    (log,) = disk.kill()
    assert (log.head.lost, log.head.last_sequence, log.damage[0].certain) == (((1, 1),), 1, False)
    assert disk.files.list_folder(f"{log.folder}/aside") == [f"{log.damage[0].file}-{log.damage[0].offset}"]


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_start_says_once_what_it_found(disk: Any, *, is_settled: bool) -> None:
    log = disk.log()
    log.append([disk.entry(payload=b"precious"), disk.entry()])
    disk.commit()
    if is_settled:
        disk.idle()
    flip(disk.files, log, b"precious")
    disk.kill()
    damage, loss = (text for _, text in disk.store.found_at_start)
    place = disk.store.logs()[0].damage[0]
    assert damage == f"{place.what}: {place.file} at {place.offset}, {place.size} bytes"
    doubt = "" if is_settled else "; what was acknowledged of it is not known"
    assert loss == f"message 1 cannot be read, and listed as lost from now on{doubt}"
    disk.commit()
    disk.kill()
    assert disk.store.found_at_start == []


def test_a_record_that_goes_bad_in_service_is_named_listed_and_skipped(disk: Any) -> None:
    log = disk.log()
    for each in (b"one", b"two-two", b"three"):
        log.append([disk.entry(payload=each)])
    disk.commit()
    (log,) = disk.reopen()
    flip(disk.files, log, b"two-two")
    size = log.head.size
    with pytest.raises(CorruptRecord, match="record 2 does not check") as refused:
        log.get(2)
    assert refused.value.sequence == 2
    assert log.get(2) is None
    assert [view.sequence for view in log.scan(1, 3, None, messages_max=9, size_max=999).views] == [1, 3]
    head = log.head
    assert (head.messages, head.lost, head.subject_count, head.deleted_count) == (2, ((2, 2),), 1, 1)
    assert size - head.size == 30 + 1 + 7
    assert log.subject(b"a").count == 2
    for again in (disk.reopen, disk.kill):
        (log,) = again()
        assert log.head == head


def test_a_scan_lists_what_does_not_check_and_goes_on(disk: Any) -> None:
    log = disk.log()
    for each in (b"one", b"two-two", b"three"):
        log.append([disk.entry(payload=each)])
    disk.commit()
    flip(disk.files, log, b"two-two")
    assert [view.sequence for view in log.scan(1, 3, None, messages_max=9, size_max=999).views] == [1, 3]
    assert log.head.lost == ((2, 2),)


def test_a_segment_file_that_is_missing_is_listed_as_lost(disk: Any) -> None:
    log = disk.log()
    for _ in range(3):
        log.append_batch(batch(60), 1)
        disk.commit()
    disk.reopen()
    (log,) = disk.store.logs()
    first, second = [
        name for name in disk.files.list_folder(f"{log.folder}/seg") if not name.endswith(".side")
    ][:2]
    disk.store.close()
    disk.files.unlink(f"{log.folder}/seg/{first}")
    (log,) = disk.open().logs()
    assert log.head.lost == ((1, int(second[:20]) - 1),)
    assert log.head.first_sequence == int(second[:20])
    head = log.head
    (log,) = disk.reopen()
    assert log.head == head


def test_dead_segments_are_removed_and_their_message_ids_are_still_known(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(headers=b"NATS/1.0\r\nNats-Msg-Id: seven\r\n\r\n", message_id=b"seven")])
    for _ in range(4):
        log.append_batch(batch(50), disk.scheduler.now_ns())
        disk.commit()
    before = len(disk.files.list_folder(f"{log.folder}/seg"))
    assert log.remove([(1, 150)]) == 150
    log.append_batch(batch(50), disk.scheduler.now_ns())
    disk.commit()
    disk.idle()
    disk.commit()
    assert len(disk.files.list_folder(f"{log.folder}/seg")) < before
    for again in (disk.kill, disk.reopen):
        (log,) = again()
        assert log.find_message_id(b"seven", 1) == 1
        assert (log.head.first_sequence, log.head.messages, log.head.lost) == (151, 101, ())


def test_sequences_named_by_a_consumer_are_never_used_again(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry()])
    log.save_consumer("c", {}, 1, Register({"delivered_stream": 40}, {41: (1,)}))
    disk.commit()
    (log,) = disk.kill()
    assert log.head.last_sequence == 41
    assert log.append([disk.entry()]) == 42


def test_consumers_and_config_survive(disk: Any) -> None:
    log = disk.log()
    log.save_consumer("c", {"a": 1}, 5, None)
    log.change_register("c", RegisterChange({"n": 1}, [], {3: (1, 2), 4: (3, 4)}), sync=True)
    log.change_register("c", RegisterChange({"n": 2}, [(3, 3)], {}), sync=True)
    log.save_consumer("c", {"a": 2}, 5, None)
    log.save_consumer("dropped", {}, 5, None)
    log.delete_consumer("dropped")
    log.delete_consumer("never there")
    log.save_config({"name": "new"})
    disk.commit()
    for again in (disk.kill, disk.reopen):
        (log,) = again()
        assert log.config == {"name": "new"}
        assert log.created_ns == 7
        (record,) = log.consumers().values()
        assert record == ("c", {"a": 2}, 5, Register({"n": 2}, {4: (3, 4)}))


def test_state_logs_go_on_in_new_generations_and_keep_two(disk: Any) -> None:
    log = disk.log()
    log.save_consumer("c", {}, 1, None)
    for each in range(300):
        log.change_register("c", RegisterChange({"n": each}, [], {}), sync=True)
        disk.commit()
    names = [name for name in disk.files.list_folder(log.folder) if name.startswith("state-")]
    assert len(names) == 2
    assert int(names[-1][-8:]) > 3
    (log,) = disk.kill()
    assert log.consumers()["c"].register.numbers == {"n": 299}


def test_effects_are_part_of_the_append_after_a_kill_too(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(b"a"), disk.entry(b"b"), disk.entry(b"a"), disk.entry(b"c"), disk.entry(b"d")])
    log.append([disk.entry(b"a", effect=Effect(subject_before=True))])
    log.append([disk.entry(b"x", effect=Effect(evicted=(4, 4, 99)))])
    disk.commit()
    for again in (disk.store.logs, disk.kill, disk.reopen):
        (log,) = again()
        assert [view.sequence for view in log.scan(1, 99, None, messages_max=99, size_max=999).views] == [
            2,
            5,
            6,
            7,
        ]
    log.append([disk.entry(b"y", effect=Effect(all_before=True))])
    disk.commit()
    (log,) = disk.kill()
    assert (log.head.messages, log.head.first_sequence) == (1, 8)


def test_a_purge_ahead_uses_up_sequences(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(3), 1)
    assert log.remove([(1, 99)]) == 3
    disk.commit()
    for again in (disk.store.logs, disk.kill):
        (log,) = again()
        head = log.head
        assert (head.messages, head.size, head.first_sequence, head.last_sequence) == (0, 0, 100, 99)
    assert log.append([disk.entry()]) == 100


def test_the_first_time_is_read_again_only_when_another_message_is_first(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = disk.log()
    log.append([disk.entry()])
    reads: list[int] = []
    read = LogReads.time_of

    def counted(self: LogReads, sequence: int) -> int:
        reads.append(sequence)
        return read(self, sequence)

    monkeypatch.setattr(LogReads, "time_of", counted)
    first_ns = log.head.first_time_ns
    disk.idle()
    for _ in range(3):
        log.append([disk.entry()])
        assert log.head.first_time_ns == first_ns
    log.remove([(1, 1)])
    assert log.head.first_time_ns > first_ns
    assert reads == [1, 2]


def test_a_first_sequence_given_at_creation_counts(disk: Any) -> None:
    log = disk.log(first_sequence=500)
    assert (log.head.first_sequence, log.head.last_sequence) == (500, 499)
    disk.commit()
    (log,) = disk.kill()
    assert log.append([disk.entry()]) == 500


def test_large_messages_get_a_segment_of_their_size(disk: Any) -> None:
    log = disk.log()
    payload = os.urandom(200_000)
    log.append([disk.entry(), disk.entry(payload=payload), disk.entry()])
    disk.commit()
    (log,) = disk.kill()
    view = log.get(2)
    assert view is not None
    assert view.payload == payload


@pytest.mark.parametrize("size", [65536, 70000])
def test_a_subject_that_no_record_can_hold_is_refused_and_nothing_changes(disk: Any, size: int) -> None:
    log = disk.log()
    with pytest.raises(StorageError, match="a subject is longer"):
        log.append([disk.entry(), disk.entry(b"s" * size)])
    with pytest.raises(StorageError, match="a subject is longer"):
        log.append_batch(MessageBatch([Message(b"s" * size, b"", b"", b"", 1)]), 1)
    with pytest.raises(StorageError, match="no sequence"):
        log.skip(SEQUENCE_MAX + 1, 1)
    assert log.head.last_sequence == 0


def test_a_full_disk_refuses_before_anything_changes_and_passes(make_disk: Callable[..., Any]) -> None:
    disk = make_disk()
    log = disk.log()
    disk.commit()
    disk.files.fail("preallocate", number=errno.ENOSPC, lasting=True)
    with pytest.raises(DiskFull, match="no room for a segment"):
        log.append([disk.entry()])
    with pytest.raises(DiskFull):
        log.append_batch(batch(10), 1)
    with pytest.raises(DiskFull, match="no room for a stream"):
        disk.log("other")
    with pytest.raises(DiskFull):
        log.save_config({"name": "x" * 100_000})
    assert (log.head.last_sequence, log.config, log.fenced) == (0, {"name": "S"}, "")
    disk.files.heal()
    assert log.append([disk.entry()]) == 1
    assert disk.commit() is None


def test_a_failed_sync_leaves_reads_and_other_streams_alone(disk: Any) -> None:
    log, other = disk.log("a"), disk.log("b")
    log.append([disk.entry()])
    other.append([disk.entry()])
    disk.commit()
    disk.files.fail("sync", nth=1)
    log.append([disk.entry()])
    error = disk.commit()
    assert "failed" in str(error)
    assert "failed" in log.fenced
    assert log.get(1) is not None
    assert (log.durable_sequence, other.fenced) == (1, "")
    with pytest.raises(LogFenced):
        log.save_config({})
    other.append([disk.entry()])
    assert disk.commit() is None
    disk.store.close()


def test_the_relaxed_mode_answers_after_the_write_and_syncs_by_interval(
    make_disk: Callable[..., Any],
) -> None:
    disk = make_disk(sync_always=False, sync_interval_ns=NS_PER_S)
    log = disk.log()
    disk.commit()
    disk.files.fail("sync", nth=1, lasting=True)
    log.append([disk.entry()])
    log.append([disk.entry()])
    disk.files.heal()
    assert disk.commit() is None
    assert log.durable_sequence == 2
    disk.idle()
    disk.idle()
    (log,) = disk.kill()
    assert log.head.last_sequence == 2


def test_size_of_counts_by_the_references_formula(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(b"abc", b"12"), disk.entry(b"abc", b"12", headers=b"NATS/1.0\r\n\r\n")])
    assert [log.size_of(each) for each in (0, 1, 2, 3)] == [0, 35, 51, 0]


def test_reads_by_subject_and_time(disk: Any) -> None:
    log = disk.log()
    for each in range(40):
        log.append([disk.entry(b"s.%d" % (each % 4))])
        disk.scheduler.advance(10)
    disk.commit()
    start = log.get(1).time_ns
    assert [log.sequence_at(start + each) for each in (-5, 0, 1, 10, 395, 1000)] == [1, 1, 2, 2, 41, 41]
    assert log.last_matching(Literal(b"s.2")).sequence == 39
    assert log.last_matching(Literal(b"s.2"), at_most=20).sequence == 19
    assert log.last_matching(Literal(b"nobody")) is None
    assert log.count_matching(Literal(b"s.2"), 20) == 5
    assert log.remove_subjects(Literal(b"s.1", b"s.2"), keep=1) == 19
    assert (log.count_matching(None, 1), log.head.subject_count) == (21, 3)


def test_a_store_with_a_thread_serves_a_loop(tmp_path: Path) -> None:
    async def serve() -> list[object]:
        loop = asyncio.get_running_loop()
        scheduler = LoopScheduler(loop)
        options = StoreOptions(is_threaded=True)
        store = open_store(str(tmp_path / "s"), scheduler=scheduler, chance=Chance(2), options=options)
        loop.add_reader(store.ready_handle, store.on_ready)
        log = store.create({"name": "S"}, memory=False, created_ns=1)
        answers: list[object] = []
        for _ in range(20):
            answered = loop.create_future()
            log.append_batch(batch(100), scheduler.now_ns())
            store.after_sync(answered.set_result)
            store.commit()
            answers.append(await answered)
        loop.remove_reader(store.ready_handle)
        store.delete(store.create({"name": "T"}, memory=False, created_ns=1))
        store.close()
        store.close()
        return answers

    assert asyncio.run(serve()) == [None] * 20
    store = at(tmp_path / "s")
    (log,) = store.logs()
    assert log.head.messages == 2000
    store.close()
