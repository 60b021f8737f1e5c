"""The offline reader and the checker, beside servers and without."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from headrace.core.base.message import Message, MessageBatch
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.findings import Severity
from headrace.storage.interface import CorruptRecord, Effect, Register, StoreUnusable
from headrace.storage.reader import StoreReader, StreamReader


class Prefix:
    literals = None

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix

    def matches(self, subject: bytes) -> bool:
        return subject.startswith(self.prefix)


def read(files: FaultyFiles) -> StreamReader:
    (stream,) = StoreReader("/store", files=files).streams()
    return stream


def batch(count: int) -> MessageBatch:
    return MessageBatch(Message(b"b.%d" % (each % 5), b"", b"", b"p" * 20, 1) for each in range(count))


def test_a_reader_sees_what_the_server_sees_while_it_runs(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(200), 5)
    log.remove([(1, 20), (50, 52)])
    log.append([disk.entry(b"c", effect=Effect(evicted=(30,)))])
    log.save_consumer("c", {"x": 1}, 9, Register({"n": 1}, {5: (6,)}))
    disk.commit()
    disk.idle()
    stream = read(disk.files)
    assert stream.head() == log.head
    assert stream.config == log.config
    assert stream.consumers == dict(log.consumers())
    assert [each.view for each in stream.messages()] == log.scan(
        1, 201, None, messages_max=999, size_max=1 << 20
    ).views
    assert stream.subjects() == log.subjects(None)
    assert stream.get(51) is None
    assert stream.last_of(b"b.3").view == log.get(199)  # type: ignore[union-attr]
    assert stream.last_of(b"nobody") is None
    assert [each.view.sequence for each in stream.messages(start=195, match=Prefix(b"c"))] == [201]
    assert not stream.is_clean
    stream.close()


def test_what_may_never_be_acknowledged_is_shown_only_on_request_and_marked(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(3), 5)
    disk.commit()
    disk.idle()
    log.append_batch(batch(2), 5)
    disk.commit()
    stream = read(disk.files)
    assert [each.view.sequence for each in stream.messages()] == [1, 2, 3]
    shown = [(each.view.sequence, each.is_settled) for each in stream.messages(with_unsettled=True)]
    assert shown[2:] == [(3, True), (4, False), (5, False)]
    disk.store.close()
    assert read(disk.files).is_clean
    assert len(list(read(disk.files).messages())) == 5


def test_a_reader_names_loss_and_takes_an_unreadable_end_for_a_write_in_progress(disk: Any) -> None:
    log = disk.log()
    for each in (b"one", b"two-two", b"three"):
        log.append([disk.entry(payload=each)])
        disk.commit()
    disk.idle()
    (name,) = disk.files.list_folder(f"{log.folder}/seg")
    handle = disk.files.open(f"{log.folder}/seg/{name}", writable=True)
    content = disk.files.pread(handle, 4096, 0)
    disk.files.pwrite(handle, b"torn", len(content.rstrip(b"\0")) + 24 & ~7)
    assert (read(disk.files).lost, read(disk.files).damage) == ([], [])
    disk.files.pwrite(handle, b"#", content.index(b"two-two"))
    stream = read(disk.files)
    assert [(each.first, each.last, each.certain) for each in stream.lost] == [(2, 2, True)]
    assert [each.first for each in stream.damage] == [2]
    assert [each.view.sequence for each in stream.messages()] == [1, 3]
    report = check_store("/store", files=disk.files)
    assert {each.name for each in report.findings} == {"record-missing", "record-damaged"}
    assert {each.severity for each in report.findings} == {Severity.LOSS}


def test_a_reader_meets_a_record_that_does_not_check(disk: Any) -> None:
    log = disk.log()
    log.append([disk.entry(payload=b"precious"), disk.entry()])
    disk.commit()
    disk.store.close()
    (name, _) = disk.files.list_folder(f"{log.folder}/seg")
    handle = disk.files.open(f"{log.folder}/seg/{name}", writable=True)
    disk.files.pwrite(handle, b"#", disk.files.pread(handle, 4096, 0).index(b"precious"))
    stream = read(disk.files)
    with pytest.raises(CorruptRecord):
        stream.get(1)
    assert [each.view.sequence for each in stream.messages()] == [2]
    assert stream.head().first_time_ns == 0
    (finding,) = check_store("/store", files=disk.files).findings[:1]
    assert (finding.severity, finding.first) == (Severity.LOSS, 1)


def test_readers_beside_a_busy_writer_never_fail_and_never_see_a_torn_record(disk: Any) -> None:
    chance = random.Random(7)
    log = disk.log()
    known: dict[int, object] = {}
    for step in range(150):
        first = log.append_batch(batch(chance.randrange(1, 30)), step)
        known |= {each: log.get(each) for each in range(first, log.head.last_sequence + 1)}
        if chance.random() < 0.3:
            log.remove([(log.head.first_sequence, log.head.first_sequence + chance.randrange(60))])
        disk.store.commit()
        if chance.random() < 0.7:
            disk.scheduler.settle()
        else:
            disk.idle()
        if step % 3 == 0:
            stream = read(disk.files)
            for message in stream.messages(with_unsettled=True):
                assert known[message.view.sequence] == message.view
            assert stream.lost == []
            assert stream.damage == []
            assert check_store("/store", files=disk.files).is_sound


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StoreUnusable):
            StoreReader(str(path))
        with pytest.raises(StoreUnusable):
            check_store(str(path))


def test_a_stream_that_nobody_can_read_is_named(disk: Any) -> None:
    log = disk.log()
    disk.commit()
    disk.store.close()
    for name in disk.files.list_folder(log.folder):
        if name.startswith("state-"):
            disk.files.unlink(f"{log.folder}/{name}")
    disk.files.make_folder("/store/streams/notes")
    reader = StoreReader("/store", files=disk.files)
    assert list(reader.streams()) == []
    assert [folder for folder, _ in reader.unreadable] == [log.folder]
    report = check_store("/store", files=disk.files)
    assert [each.severity for each in report.findings] == [Severity.LOSS, Severity.NOTE]
    assert not report.is_sound


def test_the_checker_finds_what_the_totals_hide(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(30), 5)
    log.save_consumer("c", {}, 1, Register({"floor_stream": 12}, {}))
    disk.commit()
    disk.reopen()
    assert check_store("/store", files=disk.files).is_sound
    (log,) = disk.store.logs()
    contents = log._contents
    contents.segments.all[0].live_count -= 1
    contents.segments.all[0].has_changed = True
    log.append([disk.entry()])
    disk.commit()
    disk.store.close()
    report = check_store("/store", files=disk.files)
    assert {each.severity for each in report.findings} == {Severity.MISMATCH}


def test_the_checker_looks_at_headers_names_and_sidecars(disk: Any) -> None:
    log = disk.log()
    log.append_batch(batch(30), 5)
    disk.commit()
    disk.store.close()
    segment, sidecar = disk.files.list_folder(f"{log.folder}/seg")
    assert os.path.basename(sidecar) == f"{segment}.side"
    disk.files.close(disk.files.create(f"{log.folder}/stray"))
    handle = disk.files.open(f"{log.folder}/seg/{segment}", writable=True)
    disk.files.pwrite(handle, b"X", 3)
    report = check_store("/store", files=disk.files)
    texts = {each.severity: each.text for each in report.findings}
    assert texts == {
        Severity.NOTE: "is not a name of Headrace's; left alone",
        Severity.DAMAGE: "one copy of the file's header is damaged",
    }
    disk.files.pwrite(handle, b"X", 70)
    report = check_store("/store", files=disk.files)
    assert any("neither copy" in each.text for each in report.findings)
