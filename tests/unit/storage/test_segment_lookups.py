"""Filters over sealed segments: by their sidecars' postings, which are made in the background."""

import random
from typing import Any

import pytest

from headrace.storage import log_reads
from headrace.storage.interface import StreamLog
from headrace.storage.segment_lookups import LookupCache, SizedCache, Verdict
from headrace.storage.sidecar import load_postings, sidecar_path


class Wild:
    """Matches subjects that end so."""

    literals: frozenset[bytes] | None = None

    def __init__(self, ending: bytes) -> None:
        self._ending = ending
        self.asked = 0

    def matches(self, subject: bytes) -> bool:
        self.asked += 1
        return subject.endswith(self._ending)


@pytest.fixture(autouse=True)
def _many_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reads, "FEW_SUBJECTS", 0)


def filled(disk: Any, count: int = 600) -> tuple[Any, dict[int, bytes]]:
    chance = random.Random(3)
    log = disk.log()
    held: dict[int, bytes] = {}
    for sequence in range(1, count + 1):
        subject = b"s.%d" % chance.randrange(60)
        log.append([disk.entry(subject, b"x" * 20)])
        held[sequence] = subject
        if not sequence % 10:
            disk.commit()
    disk.commit()
    disk.idle()
    return log, held


def scanned(log: StreamLog, match: Any, start: int = 1, steps_max: int = 20_000) -> list[int]:
    found: list[int] = []
    stop = log.head.last_sequence
    calls = 0
    while start <= stop:
        scan = log.scan(start, stop, match, messages_max=50, size_max=10_000, steps_max=steps_max)
        found += [view.sequence for view in scan.views]
        start = scan.next_sequence
        calls += 1
        assert calls < 5000
    return found


def check(log: StreamLog, held: dict[int, bytes], ending: bytes = b"7") -> None:
    meant = [sequence for sequence, subject in held.items() if subject.endswith(ending)]
    for steps_max in (20_000, 7, 1):
        assert scanned(log, Wild(ending), steps_max=steps_max) == meant
    match = Wild(ending)
    for start in (0, 1, 2, 77, 300, 599, 600, 601):
        assert log.count_matching(match, start) == sum(each >= start for each in meant)
        assert scanned(log, match, start=max(1, start)) == [each for each in meant if each >= start]
        at_most = [each for each in meant if not start or each <= start]
        view = log.last_matching(match, at_most=start)
        assert (0 if view is None else view.sequence) == (at_most[-1] if at_most else 0)


def segments_of(log: Any) -> list[Any]:
    segments: list[Any] = log._contents.segments.all
    return segments


def test_filters_find_the_same_with_postings_as_without(disk: Any) -> None:
    log, held = filled(disk)
    sealed = segments_of(log)[:-1]
    assert len(sealed) > 3
    assert all(load_postings(disk.files, each) is not None for each in sealed)
    check(log, held)
    log.remove([(1, 40), (100, 130), (333, 333), (590, 595)])
    held = {
        each: subject
        for each, subject in held.items()
        if not (each <= 40 or 100 <= each <= 130 or each == 333 or 590 <= each <= 595)
    }
    check(log, held)
    check(log, held, b"nothing")
    check(log, held, b"")
    (log,) = disk.reopen()
    check(log, held)


def test_records_that_a_filter_does_not_mean_are_not_read(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log, held = filled(disk)
    segments = log._contents.segments
    match = Wild(b".7")
    scanned(log, match)
    asked = match.asked
    read = segments.read
    places: list[Any] = []

    def counting(where: Any) -> Any:
        places.append(where)
        return read(where)

    def no_run(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(segments, "read", counting)
    monkeypatch.setattr(segments, "read_run", no_run)
    meant = [sequence for sequence, subject in held.items() if subject == b"s.7"]
    assert scanned(log, match) == meant
    in_last = segments.all[-1].records
    assert len(places) <= len(meant) + in_last
    assert match.asked <= asked + len(meant) + in_last, "each sidecar's subjects are asked about once"


def test_a_sidecar_that_is_damaged_or_missing_is_made_again(disk: Any) -> None:
    log, held = filled(disk)
    one, other = segments_of(log)[0], segments_of(log)[1]
    (log,) = disk.reopen()
    handle = disk.files.open(sidecar_path(one.path))
    disk.files.pwrite(handle, b"\xff" * 64, disk.files.size(handle) - 100)
    disk.files.unlink(sidecar_path(other.path))
    assert load_postings(disk.files, one) is None
    check(log, held)
    disk.idle()
    assert load_postings(disk.files, one) is not None
    assert load_postings(disk.files, other) is not None
    check(log, held)


def test_a_damaged_message_is_listed_by_the_filter_that_would_pass_it_over(disk: Any) -> None:
    log, held = filled(disk)
    segment = segments_of(log)[1]
    (log,) = disk.reopen()
    sequence = segment.first + 3
    offset = log._contents.segments.offsets(segments_of(log)[1]).units[3] << 3
    handle = disk.files.open(segment.path)
    disk.files.pwrite(handle, b"\xff\xff", offset + 46)
    disk.files.unlink(sidecar_path(segment.path))
    other = b"7" if not held[sequence].endswith(b"7") else b"8"
    meant = [each for each, subject in held.items() if subject.endswith(other)]
    log.count_matching(Wild(other), 0)
    disk.idle()
    assert log.count_matching(Wild(other), 0) == len(meant)
    assert scanned(log, Wild(other)) == meant
    assert log.head.lost == ((sequence, sequence),)
    del held[sequence]
    check(log, held)


def test_a_cache_keeps_what_was_used_last_within_its_budget() -> None:
    cache = SizedCache[int, Verdict](3 * Verdict().memory_size)
    for key in range(3):
        cache.put(key, Verdict())
    assert cache.get(0) is not None
    cache.put(3, Verdict())
    assert [cache.get(each) is not None for each in range(4)] == [True, False, True, True]
    large = Verdict()
    large.bits = bytearray(10_000)
    cache.put(4, large)
    assert cache.get(4) is large
    assert cache.get(3) is None
    assert LookupCache().verdicts.get((1, Wild(b""))) is None
