"""How long the disk takes: the histogram, and who fills it."""

import os
import select
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.files import RealFiles
from headrace.storage.store import StoreOptions, open_store
from headrace.storage.sync import ThreadWorker, Wake
from headrace.storage.sync_times import BOUNDS_S, SyncTimes


def test_a_duration_counts_for_its_bound_and_all_above() -> None:
    times = SyncTimes()
    for duration_ns in (1, 100_000, 100_001, 60 * 10**9):
        times.add(duration_ns)
    buckets = dict(times.buckets())
    assert (buckets[0.0001], buckets[0.00025], buckets[5.0], buckets[float("inf")]) == (2, 3, 3, 4)
    assert times.sum_s == pytest.approx(60.000200002)
    assert list(BOUNDS_S) == sorted(BOUNDS_S)


def test_a_cycle_without_a_sync_takes_no_time_of_the_disk(tmp_path: Path) -> None:
    wake = Wake()
    worker = ThreadWorker(RealFiles(), wake)
    handle = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    durations: list[int] = []
    for syncs in ([], [handle]):
        worker.start([(handle, 0, b"x")], syncs)
        select.select([wake.read_handle], [], [], 5)
        wake.clear()
        assert worker.take() == {}
        durations.append(worker.duration_ns)
    worker.close()
    wake.close()
    os.close(handle)
    assert durations[0] == 0
    assert durations[1] > 0


def test_a_store_that_is_well_is_neither_full_nor_rebuilding(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), scheduler=VirtualScheduler(), chance=Chance(1), options=StoreOptions())
    assert not store.is_full
    assert store.rebuilding == 0
    assert store.sync_times.sum_s == 0
    store.close()
