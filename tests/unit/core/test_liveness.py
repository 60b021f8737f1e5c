"""Pings and writes in time: the two machines that a session asks."""

from headrace.core.liveness import RTT_EVERY_NS, Ping, Pings, WriteWatch


def due(pings: Pings, now_ns: int, *, active_ns: int = 0, pong_ns: int = 0, out: int = 0) -> Ping:
    return pings.due(
        now_ns, interval_ns=100, last_activity_ns=active_ns, last_pong_ns=pong_ns, pings_out=out, ping_max=2
    )


def test_the_first_ping_is_sent_even_to_a_busy_client() -> None:
    pings = Pings()
    pings.estimate(5)
    assert pings.rtt_ns(0) == 5
    assert due(pings, 50, active_ns=49) is Ping.SEND


def test_a_busy_client_whose_round_trip_is_known_is_left_alone_for_an_hour() -> None:
    pings = Pings()
    pings.on_sent(0, 0)
    assert due(pings, 120, active_ns=110, pong_ns=7) is Ping.SKIP
    assert pings.rtt_ns(7) == 7
    assert due(pings, 120, active_ns=20, pong_ns=7) is Ping.SEND
    late_ns = RTT_EVERY_NS + 1
    assert due(pings, late_ns, active_ns=late_ns, pong_ns=7) is Ping.SEND


def test_a_ping_beyond_those_allowed_is_not_sent() -> None:
    pings = Pings()
    assert due(pings, 300, out=1) is Ping.SEND
    assert due(pings, 300, out=2) is Ping.STALE


def test_a_round_trip_is_kept_until_the_next_pong() -> None:
    pings = Pings()
    pings.on_sent(10, 0)
    pings.on_sent(100, 14)
    assert pings.rtt_ns(14) == 4
    assert pings.rtt_ns(106) == 6
    assert pings.rtt_ns(106) == 6


def test_one_deadline_serves_many_times_of_being_full() -> None:
    watch = WriteWatch(10)
    assert watch.on_full(0, 100) == 10
    watch.on_drained()
    assert watch.on_full(6, 200) is None
    assert not watch.is_late(10, 0)
    assert watch.on_time(10, 200) == 16
    watch.on_drained()
    assert not watch.is_late(16, 0)
    assert watch.on_time(16, 200) is None
    assert watch.on_full(20, 300) == 30


def test_what_is_not_taken_within_the_deadline_is_late() -> None:
    watch = WriteWatch(10)
    watch.on_full(0, 100)
    assert watch.is_late(10, 99)
    assert not watch.is_late(10, 100)


def test_a_reader_that_takes_what_was_pending_gets_another_deadline() -> None:
    watch = WriteWatch(10)
    watch.on_full(0, 100)
    assert watch.on_time(10, 500) == 20
    assert watch.is_late(20, 499)
