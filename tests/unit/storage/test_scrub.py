"""The scrub: what is damaged in sealed segments is found without anybody reading it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.base.message import Message, MessageBatch
from headrace.storage.check import check_store
from headrace.storage.interface import CorruptRecord, StreamLog
from headrace.storage.scrub import PASS_NS, POSTPONED_MAX, STEP_SIZE

RATE = 100 * STEP_SIZE


@pytest.fixture
def disk(make_disk: Callable[..., Any]) -> Any:
    return make_disk(scrub_rate=RATE)


def filled(disk: Any, count: int = 300) -> StreamLog:
    """Make a log with several sealed segments, all durable."""
    log: StreamLog = disk.log()
    for start in range(0, count, 20):
        log.append_batch(
            MessageBatch(
                Message(b"s.%d" % each, b"", b"", b"payload-%05d" % each, 1)
                for each in range(start + 1, start + 21)
            ),
            5,
        )
        disk.commit()
    return log


def damage(disk: Any, log: Any, text: bytes, *, suffix: str = "") -> str:
    """Change a byte of whatever file of the log holds `text`; give its name."""
    folder = f"{log.folder}/seg"
    for name in disk.files.list_folder(folder):
        handle = disk.files.open(f"{folder}/{name}", writable=True)
        content = disk.files.pread(handle, disk.files.size(handle), 0)
        if text in content and name.endswith(suffix):
            disk.files.pwrite(handle, b"#", content.index(text))
            return str(name)
    raise AssertionError("no file holds it")


def heard(disk: Any) -> list[str]:
    lines: list[str] = []

    def hear(_: StreamLog, text: str) -> None:
        lines.append(text)

    disk.store.on_finding = hear
    return lines


def test_a_damaged_record_is_listed_as_lost_before_anybody_reads_it(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    damage(disk, log, b"payload-00007")
    disk.scheduler.advance(5 * NS_PER_S)
    assert log.head.lost == ((7, 7),)
    assert log.get(7) is None
    assert log.get(8) is not None
    assert log.head.messages == 299
    assert [line.split(",")[0] for line in lines] == ["message 7 cannot be read"]
    assert disk.store.scrub_state.findings == 1


def test_a_finding_is_told_once_over_passes_and_starts(disk: Any) -> None:
    log: Any = filled(disk)
    damage(disk, log, b"payload-00007")
    lines = heard(disk)
    disk.scheduler.advance(2 * PASS_NS)
    assert disk.store.scrub_state.passes >= 2
    disk.reopen()
    again = heard(disk)
    disk.scheduler.advance(PASS_NS)
    assert len(lines) == 1
    assert again == []
    (log,) = disk.store.logs()
    assert log.head.lost == ((7, 7),)


def test_a_damaged_page_costs_what_lies_in_it_and_is_one_line(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    (name, *_) = disk.files.list_folder(f"{log.folder}/seg")
    handle = disk.files.open(f"{log.folder}/seg/{name}", writable=True)
    disk.files.pwrite(handle, bytes(512), 1024)
    disk.scheduler.advance(5 * NS_PER_S)
    ((first, last),) = log.head.lost
    assert last - first >= 4
    assert len(lines) == 1
    assert f"messages {first} to {last}" in lines[0]
    for sequence in range(1, 301):
        view = log.get(sequence)
        assert (view is None) == (first <= sequence <= last)


def test_damage_that_costs_no_message_is_told_and_listed(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    log.remove([(7, 7)])
    disk.commit()
    name = damage(disk, log, b"payload-00007")
    disk.scheduler.advance(5 * NS_PER_S)
    assert log.head.lost == ()
    assert [(each.file, each.first) for each in log.damage] == [(name, 0)]
    assert len(lines) == 1
    assert "no message is lost" in lines[0]


def test_a_damaged_header_copy_is_found(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    (name, *_) = disk.files.list_folder(f"{log.folder}/seg")
    handle = disk.files.open(f"{log.folder}/seg/{name}", writable=True)
    disk.files.pwrite(handle, b"X", 3)
    disk.scheduler.advance(5 * NS_PER_S)
    assert ["one copy of the file's header is damaged" in line for line in lines] == [True]
    assert log.head.lost == ()


def test_damaged_removals_are_found_and_the_other_copy_is_used(disk: Any) -> None:
    bounds = replace(disk.options.bounds, fold_size_min=1, rewrite_share_max=0.0, generation_size_min=1000)
    disk.options = replace(disk.options, bounds=bounds)
    disk.reopen()
    log: Any = filled(disk)
    for sequence in range(2, 240, 3):
        log.remove([(sequence, sequence)])
        disk.commit()
    for _ in range(3):
        disk.idle()
        log.save_config({"name": "S", "x": b"x" * 2000})
        disk.commit()
    removals = [each for each in disk.files.list_folder(f"{log.folder}/seg") if each.endswith(".del")]
    assert removals
    lines = heard(disk)
    handle = disk.files.open(f"{log.folder}/seg/{removals[0]}", writable=True)
    disk.files.pwrite(handle, b"XYZ", 140)
    disk.scheduler.advance(2 * PASS_NS)
    assert [removals[0] in line for line in lines] == [True]
    assert log.head.lost == ()
    assert disk.store.scrub_state.findings == 1
    (name,) = {each.name for each in check_store("/store", files=disk.files).findings}
    assert name == "removals-copy"
    (log,) = disk.reopen()
    assert log.get(2) is None


def test_a_sector_that_cannot_be_read_costs_what_lies_in_it(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    disk.store._shared.blocks.close()
    disk.files.fail("pread", nth=1)
    with pytest.raises(CorruptRecord):
        log.get(5)
    assert log.head.lost == ((5, 5),)
    assert len(lines) == 1


def test_sound_segments_give_no_finding_and_are_read_once_an_hour(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    disk.scheduler.advance(60 * NS_PER_S)
    state = disk.store.scrub_state
    assert (state.passes, state.findings, lines) == (1, 0, [])
    assert state.segments >= 3
    size = state.size
    disk.scheduler.advance(PASS_NS // 2)
    assert state.size == size
    disk.scheduler.advance(PASS_NS)
    assert state.passes == 2
    assert log.head.lost == ()


def test_the_rate_bounds_what_is_read(make_disk: Callable[..., Any]) -> None:
    disk = make_disk(scrub_rate=STEP_SIZE // 2)
    filled(disk)
    disk.scheduler.advance(2 * NS_PER_S)
    assert disk.store.scrub_state.size <= STEP_SIZE
    assert disk.store.scrub_state.passes == 0


def test_no_rate_means_no_scrub(make_disk: Callable[..., Any]) -> None:
    disk = make_disk(scrub_rate=0)
    log: Any = filled(disk)
    damage(disk, log, b"payload-00007")
    disk.scheduler.advance(PASS_NS)
    assert disk.store.scrub_state.size == 0
    assert log.head.lost == ()


def test_the_scrub_waits_while_a_sync_is_in_flight_but_not_for_ever(disk: Any) -> None:
    log: Any = filled(disk)
    damage(disk, log, b"payload-00007")
    # Never committed: somebody waits for a sync all the time.
    log.append([disk.entry()])
    disk.scheduler.advance((POSTPONED_MAX - 1) * 10 * NS_PER_MS)
    assert disk.store.scrub_state.size == 0
    disk.scheduler.advance(PASS_NS)
    assert disk.store.scrub_state.passes > 0
    assert log.head.lost == ((7, 7),)


def test_segments_that_go_while_they_are_read_are_no_finding(disk: Any) -> None:
    log: Any = filled(disk)
    lines = heard(disk)
    for _ in range(20):
        disk.scheduler.advance(15 * NS_PER_MS)
        log.remove([(log.head.first_sequence, log.head.first_sequence + 14)])
        disk.commit()
        filled_again = log.append_batch(MessageBatch([Message(b"a", b"", b"", b"b" * 90, 1)] * 30), 5)
        assert filled_again
        disk.commit()
    disk.scheduler.advance(PASS_NS)
    assert lines == []
    assert log.head.lost == ()
