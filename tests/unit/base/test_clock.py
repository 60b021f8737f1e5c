"""Virtual time: what runs when, and that nothing else moves it."""

from headrace.core.base.clock import NS_PER_S, VirtualScheduler


def test_callbacks_run_at_their_deadline_and_in_order() -> None:
    scheduler = VirtualScheduler()
    seen: list[tuple[str, int]] = []
    for name, at_s in (("c", 3), ("a", 1), ("b", 2)):
        scheduler.call_at(at_s * NS_PER_S, lambda name=name: seen.append((name, scheduler.monotonic_ns())))
    scheduler.advance(2 * NS_PER_S)
    assert seen == [("a", NS_PER_S), ("b", 2 * NS_PER_S)]
    assert scheduler.monotonic_ns() == 2 * NS_PER_S


def test_both_clocks_move_together() -> None:
    scheduler = VirtualScheduler(start_ns=5)
    scheduler.advance(7)
    assert (scheduler.now_ns(), scheduler.monotonic_ns()) == (12, 7)


def test_a_cancelled_timer_does_not_run() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []
    scheduler.call_at(1, lambda: seen.append(1)).cancel()
    scheduler.advance(2)
    assert seen == []


def test_call_soon_runs_before_time_passes_and_never_inside_the_call() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []
    scheduler.call_soon(lambda: seen.append(scheduler.monotonic_ns()))
    assert seen == []
    scheduler.advance(10)
    assert seen == [0]


def test_a_callback_may_ask_for_another_that_is_due_on_the_way() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []

    def tick() -> None:
        seen.append(scheduler.monotonic_ns())
        if len(seen) < 3:
            scheduler.call_at(scheduler.monotonic_ns() + 10, tick)

    scheduler.call_at(10, tick)
    scheduler.advance(100)
    assert seen == [10, 20, 30]


def test_simulated_days_take_no_time() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []
    scheduler.call_at(86_400 * 30 * NS_PER_S, lambda: seen.append(1))
    scheduler.advance(86_400 * 31 * NS_PER_S)
    assert seen == [1]
