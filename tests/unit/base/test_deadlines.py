"""Many deadlines behind one timer."""

from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.deadlines import Deadlines


def test_each_key_is_called_back_once_when_its_time_has_come() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[tuple[str, int]] = []
    for key, at in (("late", 30), ("early", 10)):
        deadlines.set(key, at, lambda now, key=key: seen.append((key, now)))
    scheduler.advance(100)
    assert seen == [("early", 10), ("late", 30)]
    assert len(deadlines) == 0


def test_the_answer_of_a_callback_is_the_keys_next_deadline() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[int] = []

    def again(now_ns: int) -> int | None:
        seen.append(now_ns)
        return now_ns + 10 if len(seen) < 3 else None

    deadlines.set("key", 10, again)
    scheduler.advance(100)
    assert seen == [10, 20, 30]


def test_a_later_deadline_replaces_an_earlier_one() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[int] = []
    deadlines.set("key", 10, seen.append)
    deadlines.set("key", 50, seen.append)
    scheduler.advance(40)
    assert seen == []
    scheduler.advance(40)
    assert seen == [50]


def test_an_earlier_deadline_replaces_a_later_one() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[int] = []
    deadlines.set("key", 50, seen.append)
    deadlines.set("key", 10, seen.append)
    scheduler.advance(100)
    assert seen == [10]


def test_a_cleared_key_is_not_called_back() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[int] = []
    deadlines.set("key", 10, seen.append)
    deadlines.clear("key")
    deadlines.clear("unknown")
    scheduler.advance(100)
    assert seen == []


def test_a_callback_may_clear_another_key_that_is_due_as_well() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    seen: list[str] = []

    def first(_now_ns: int) -> None:
        seen.append("first")
        deadlines.clear("second")

    deadlines.set("first", 10, first)
    deadlines.set("second", 10, lambda _now: seen.append("second"))
    scheduler.advance(100)
    assert seen == ["first"]


def test_a_key_moved_ten_thousand_times_holds_a_bounded_heap() -> None:
    scheduler = VirtualScheduler()
    deadlines = Deadlines(scheduler)
    for at in range(20_000, 10_000, -1):
        deadlines.set("key", at, lambda _now: None)
    assert len(deadlines) == 1
    assert deadlines.heap_size < 1_000
