"""The file of removals of a sealed segment, and the log that uses it."""

from collections.abc import Callable

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.storage.bounds import Bounds
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.file_log import FileLog
from headrace.storage.interface import StreamLog
from headrace.storage.removals import (
    SUFFIXES,
    Fold,
    Removals,
    difference,
    encode_removals,
    fold,
    load_removals,
    set_places,
)
from unit.storage.conftest import Disk

SALT = 0xABCDEF0123456789
PATH = "/seg"


def copies(bits: bytes, change: int = 7) -> tuple[bytes, bytes]:
    first, second = (
        encode_removals(
            Removals(change, bits), segment_salt=SALT, first=3, stream_id=1, salt=(5 << 32) + each, time_ns=9
        )
        for each in (1, 2)
    )
    return first, second


def test_set_places_are_those_of_the_bits() -> None:
    assert list(set_places(0)) == []
    assert list(set_places(0b1000_0000_0101)) == [0, 2, 11]
    assert list(set_places(difference(b"\x0f\x01", b"\x05"))) == [1, 3, 8]


@pytest.mark.parametrize("damaged", SUFFIXES)
def test_one_of_two_copies_is_enough_whatever_happens_to_the_other(damaged: str) -> None:
    files = FaultyFiles(1)
    data = copies(b"\x05\xff\x00\x01")
    for number in range(len(data[0]) * 8):
        list(fold(files, [Fold(PATH, data)]))
        handle = files.open(f"{PATH}{damaged}", writable=True)
        byte = data[SUFFIXES.index(damaged)][number // 8] ^ 1 << number % 8
        files.pwrite(handle, bytes([byte]), number // 8)
        files.close(handle)
        loaded = load_removals(files, PATH, SALT, count=11, both=True)
        assert loaded.removals == Removals(7, b"\x05\xff\x00\x01")
        assert set(loaded.unreadable) <= {f"seg{damaged}"}


def test_a_copy_of_another_segment_or_an_older_one_does_not_count() -> None:
    files = FaultyFiles(1)
    assert load_removals(files, PATH, SALT, count=0) == (None, ["seg.del", "seg.del2"])
    list(fold(files, [Fold(PATH, copies(b"\x05"))]))
    assert load_removals(files, PATH, SALT + 1, count=0).removals is None
    assert load_removals(files, PATH, SALT, count=3).removals is None
    assert load_removals(files, PATH, SALT, count=2).removals == Removals(7, b"\x05")


def folded(make_disk: Callable[..., Disk]) -> tuple[Disk, list[int]]:
    """Give a store of 400 messages whose removals were folded, and what is left."""
    disk = make_disk()
    bounds = Bounds(
        segment_size_first=4096,
        segment_size_max=8192,
        checkpoint_count=30,
        generation_size_min=1000,
        fold_size_min=1,
        rewrite_share_max=0.0,
    )
    disk.options = type(disk.options)(is_index_in_memory=True, bounds=bounds)
    disk.store.close()
    disk.open()
    log = disk.log()
    for _ in range(20):
        log.append([disk.entry(payload=b"p" * 50) for _ in range(20)])
        disk.commit()
    for sequence in range(2, 400, 3):
        log.remove([(sequence, sequence)])
        disk.commit()
    for _ in range(3):
        disk.idle()
        log.save_config({"name": "S", "x": b"x" * 2000})
        disk.commit()
    return disk, [each for each in range(1, 401) if each % 3 != 2 or each >= 400]


def shown(log: StreamLog) -> list[int]:
    return [view.sequence for view in log.scan(1, 400, None, messages_max=500, size_max=1 << 30).views]


def seg_folder(log: StreamLog) -> str:
    assert isinstance(log, FileLog)
    return f"{log.folder}/seg"


def test_removals_leave_the_state_log_and_are_there_after_a_kill(make_disk: Callable[..., Disk]) -> None:
    disk, kept = folded(make_disk)
    (log,) = disk.store.logs()
    names = disk.files.list_folder(seg_folder(log))
    assert sum(name.endswith(".del") for name in names) == sum(name.endswith(".del2") for name in names) > 2
    assert shown(log) == kept
    (log,) = disk.kill()
    assert (shown(log), log.head.messages) == (kept, len(kept))
    assert check_store("/store", files=disk.files).is_sound


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("is_clean", [True, False])
def test_a_lost_or_damaged_copy_loses_nothing_and_is_written_again(
    make_disk: Callable[..., Disk], suffix: str, is_clean: bool
) -> None:
    disk, kept = folded(make_disk)
    (log,) = disk.store.logs()
    folder = seg_folder(log)
    if is_clean:
        disk.store.close()
    for name in disk.files.list_folder(folder):
        if name.endswith(suffix):
            disk.files.unlink(f"{folder}/{name}")
    if is_clean:
        disk.open()
    else:
        disk.kill()
    (log,) = disk.store.logs()
    assert (shown(log), log.head.messages, log.head.lost) == (kept, len(kept), ())
    if suffix == ".del":
        assert any(place.file.endswith(suffix) for place in log.damage)


def test_dedupe_ids_of_dropped_segments_survive_an_index_rebuild_with_a_long_duplicate_window(
    make_disk: Callable[..., Disk],
) -> None:
    disk = make_disk()
    log = disk.log()
    log.keep_message_ids(3600 * NS_PER_S)
    for number in range(300):
        log.append([disk.entry(message_id=b"id-%d" % number, payload=b"p" * 100)])
        if number % 10 == 9:
            disk.commit()
    log.remove([(1, 290)])
    disk.commit()
    for _ in range(5):
        disk.idle()
    assert len([each for each in disk.files.list_folder(seg_folder(log)) if "." not in each]) < 4
    disk.scheduler.advance(1800 * NS_PER_S)
    since_ns = disk.scheduler.now_ns() - 3600 * NS_PER_S
    for _ in range(2):
        # The index of this store is in memory: each start builds it anew.
        (log,) = disk.kill()
        log.keep_message_ids(3600 * NS_PER_S)
        assert [log.find_message_id(b"id-%d" % number, since_ns) for number in range(300)] == [*range(1, 301)]
