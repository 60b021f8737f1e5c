"""Pull requests: their bodies, their turns, and every way in which they end."""

from typing import Any

import pytest

from headrace.jetstream.consumers import status
from headrace.jetstream.consumers.groups import GroupOptions, Load, PriorityGroups
from headrace.jetstream.consumers.pulls import (
    BadPullRequest,
    PullLimits,
    PullOptions,
    WaitingPulls,
    parse_pull_options,
    refusal,
)
from headrace.jetstream.models.consumer_config import ConsumerConfig

S = 1_000_000_000


def everybody(_reply: bytes) -> bool:
    return True


def nobody(_reply: bytes) -> bool:
    return False


def groups(**config: Any) -> PriorityGroups:
    return PriorityGroups(ConsumerConfig(**config), lambda: "PIN")


def no_load() -> Load:
    return Load(0, 0)


def pulls(*requests: tuple[bytes, PullOptions], limits: PullLimits | None = None) -> WaitingPulls:
    waiting = WaitingPulls(limits or PullLimits(), groups(), no_load)
    for reply, options in requests:
        waiting.offer(reply, options, available=0, now_ns=0, has_interest=everybody)
    return waiting


def serve(waiting: WaitingPulls, *, size: int = 10, now_ns: int = 0) -> bytes | None:
    """Give one message to whose turn it is."""
    while (request := waiting.head(now_ns)) is not None:
        if waiting.fits(request, size):
            waiting.served(request, 1, size, now_ns)
            return request.reply
    return None


@pytest.mark.parametrize(
    ("body", "batch"),
    [
        (b"", 1),
        (b"  7 ", 7),
        (b"nonsense", 1),
        (b"{}", 1),
        (b'{"batch":3,"surprise":true}', 3),
        (b'{"batch":null}', 1),
    ],
)
def test_a_body_is_nothing_or_a_number_or_json(body: bytes, batch: int) -> None:
    assert parse_pull_options(body).batch == batch


def test_every_field_of_a_body_is_read() -> None:
    body = b'{"batch":2,"expires":5000000000,"no_wait":true,"max_bytes":9,"idle_heartbeat":1000000000}'
    assert parse_pull_options(body) == PullOptions(
        2, 5 * S, no_wait=True, max_bytes=9, idle_heartbeat_ns=S, group=GroupOptions()
    )


@pytest.mark.parametrize(
    "body", [b"{", b'{"batch":"x"}', b'{"batch":true}', b'{"expires":1.5}', b'{"no_wait":1}']
)
def test_json_that_does_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(BadPullRequest, match=r"unexpected end of JSON input|json: cannot unmarshal"):
        parse_pull_options(body)


def test_json_that_is_none_is_refused_with_the_character() -> None:
    with pytest.raises(
        BadPullRequest, match="invalid character 'b' looking for beginning of object key string"
    ):
        parse_pull_options(b"{bad")
    with pytest.raises(BadPullRequest, match="invalid character '}' looking for beginning of value"):
        parse_pull_options(b'{"batch":}')
    with pytest.raises(BadPullRequest, match="Extra data"):
        parse_pull_options(b"{}x")


def test_what_a_body_says_about_its_group_is_read() -> None:
    body = b'{"group":"A","min_pending":3,"min_ack_pending":4,"id":"x","priority":5}'
    assert parse_pull_options(body).group == GroupOptions("A", 3, 4, "x", 5)
    assert parse_pull_options(b"7").group is None


def test_two_heartbeats_have_to_fit_in_the_time_of_a_request() -> None:
    assert parse_pull_options(b'{"expires":10,"idle_heartbeat":5}').idle_heartbeat_ns == 5
    with pytest.raises(BadPullRequest, match="heartbeat value too large"):
        parse_pull_options(b'{"expires":10,"idle_heartbeat":6}')


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (PullOptions(batch=11), b"409 Exceeded MaxRequestBatch of 10"),
        (PullOptions(expires_ns=61 * S), b"409 Exceeded MaxRequestExpires of 1m0s"),
        (PullOptions(max_bytes=101), b"409 Exceeded MaxRequestMaxBytes of 100"),
    ],
)
def test_what_the_consumer_does_not_allow_is_refused_by_name(options: PullOptions, line: bytes) -> None:
    assert refusal(options, PullLimits(max_batch=10, max_expires_ns=60 * S, max_bytes=100)) == (
        b"NATS/1.0 " + line + b"\r\n\r\n"
    )


def test_a_request_within_the_limits_is_not_refused() -> None:
    assert refusal(PullOptions(batch=10), PullLimits(max_batch=10)) is None
    assert refusal(PullOptions(batch=10_000), PullLimits()) is None


def test_requests_take_turns_message_by_message() -> None:
    waiting = pulls((b"a", PullOptions(batch=2)), (b"b", PullOptions(batch=3)))
    assert waiting.wanted == 5
    assert [serve(waiting) for _ in range(6)] == [b"a", b"b", b"a", b"b", b"b", None]
    assert waiting.answers == []


def test_an_expired_request_hears_what_was_left_of_it() -> None:
    waiting = pulls((b"a", PullOptions(batch=3, expires_ns=S, max_bytes=100)), (b"b", PullOptions()))
    serve(waiting, size=40)
    assert waiting.next_deadline_ns() == S
    waiting.on_time(S, lambda: b"")
    assert waiting.answers == [
        (b"a", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 2\r\nNats-Pending-Bytes: 60\r\n\r\n")
    ]
    assert len(waiting) == 1
    assert waiting.next_deadline_ns() is None


def test_an_expired_request_gets_no_message_even_before_the_timer_saw_it() -> None:
    waiting = pulls((b"a", PullOptions(expires_ns=S)), (b"b", PullOptions()))
    assert serve(waiting, now_ns=S) == b"b"
    assert waiting.answers[0][1].startswith(b"NATS/1.0 408 Request Timeout\r\n")


def test_a_message_beyond_the_bytes_ends_the_request_and_goes_to_the_next() -> None:
    waiting = pulls((b"a", PullOptions(batch=5, max_bytes=100)), (b"b", PullOptions()))
    assert serve(waiting, size=101) == b"b"
    assert waiting.answers == [
        (
            b"a",
            (
                b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\n"
                b"Nats-Pending-Messages: 5\r\nNats-Pending-Bytes: 100\r\n\r\n"
            ),
        )
    ]


def test_bytes_used_up_exactly_end_a_request_without_a_word() -> None:
    waiting = pulls((b"a", PullOptions(batch=5, max_bytes=20)))
    assert [serve(waiting), serve(waiting), serve(waiting)] == [b"a", b"a", None]
    assert waiting.answers == []


def test_a_full_batch_with_bytes_left_is_completed() -> None:
    waiting = pulls((b"a", PullOptions(batch=1, max_bytes=20)))
    serve(waiting)
    assert waiting.answers == [
        (b"a", b"NATS/1.0 409 Batch Completed\r\nNats-Pending-Messages: 0\r\nNats-Pending-Bytes: 10\r\n\r\n")
    ]


def test_who_does_not_want_to_wait_is_refused_when_there_is_nothing() -> None:
    waiting = pulls((b"a", PullOptions(no_wait=True)))
    assert waiting.answers == [(b"a", b"NATS/1.0 404 No Messages\r\n\r\n")]
    assert len(waiting) == 0


def test_who_does_not_want_to_wait_is_refused_when_others_wait_for_all_there_is() -> None:
    waiting = pulls((b"a", PullOptions(batch=10)))
    waiting.offer(b"b", PullOptions(no_wait=True), available=5, now_ns=0, has_interest=everybody)
    assert waiting.answers == [(b"b", b"NATS/1.0 408 Requests Pending\r\n\r\n")]


def test_a_one_shot_ends_when_messages_run_out() -> None:
    waiting = pulls()
    waiting.offer(b"a", PullOptions(batch=5, no_wait=True), available=1, now_ns=0, has_interest=everybody)
    serve(waiting)
    waiting.run_dry()
    assert waiting.answers == [(b"a", status.NO_MESSAGES)]
    assert len(waiting) == 0


def test_a_one_shot_with_time_waits_for_its_first_message_only() -> None:
    waiting = pulls((b"a", PullOptions(batch=5, no_wait=True, expires_ns=S)), (b"b", PullOptions()))
    waiting.run_dry()
    assert (len(waiting), waiting.answers) == (2, [])
    serve(waiting)
    waiting.run_dry()
    assert (len(waiting), waiting.answers) == (1, [(b"a", status.NO_MESSAGES)])


def test_a_full_queue_refuses_but_stays_silent_to_those_with_heartbeats() -> None:
    waiting = pulls((b"a", PullOptions()), limits=PullLimits(max_waiting=1))
    for reply, beat in ((b"b", 0), (b"c", S)):
        options = PullOptions(expires_ns=9 * S, idle_heartbeat_ns=beat)
        assert not waiting.offer(reply, options, available=0, now_ns=0, has_interest=everybody)
    assert waiting.answers == [(b"b", b"NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n")]


def test_a_full_queue_makes_room_of_requests_that_nobody_listens_to_once_a_second() -> None:
    waiting = pulls((b"a", PullOptions()), limits=PullLimits(max_waiting=1))
    assert not waiting.offer(b"b", PullOptions(), available=0, now_ns=0, has_interest=everybody)
    assert not waiting.offer(b"c", PullOptions(), available=0, now_ns=S - 1, has_interest=nobody)
    assert waiting.offer(b"d", PullOptions(), available=0, now_ns=S, has_interest=nobody)
    assert len(waiting) == 1


def test_a_heartbeat_comes_after_each_silence_and_a_message_restarts_it() -> None:
    waiting = pulls((b"a", PullOptions(batch=9, expires_ns=10 * S, idle_heartbeat_ns=2 * S)))
    assert waiting.next_deadline_ns() == 2 * S
    waiting.on_time(2 * S, lambda: b"beat")
    assert waiting.answers == [(b"a", b"beat")]
    serve(waiting, now_ns=3 * S)
    waiting.on_time(4 * S, lambda: b"beat")
    assert len(waiting.answers) == 1
    assert waiting.next_deadline_ns() == 5 * S


def test_a_one_shot_that_got_messages_ends_when_any_request_is_due() -> None:
    stalled = PullOptions(batch=9, no_wait=True, expires_ns=9 * S)
    waiting = pulls((b"a", stalled), (b"b", PullOptions(expires_ns=9 * S, idle_heartbeat_ns=S)))
    serve(waiting)
    waiting.on_time(S - 1, lambda: b"beat")
    assert waiting.answers == []
    waiting.on_time(S, lambda: b"beat")
    assert waiting.answers == [(b"b", b"beat"), (b"a", status.NO_MESSAGES)]


def test_a_one_shot_that_got_messages_ends_instead_of_a_heartbeat() -> None:
    options = PullOptions(batch=9, no_wait=True, expires_ns=9 * S, idle_heartbeat_ns=S)
    waiting = pulls((b"a", options), (b"b", options))
    serve(waiting)
    waiting.on_time(S, lambda: b"beat")
    assert waiting.answers == [(b"b", b"beat"), (b"a", status.NO_MESSAGES)]


def test_a_one_shot_that_got_messages_may_expire_as_others_do() -> None:
    waiting = pulls((b"a", PullOptions(batch=9, no_wait=True, expires_ns=S)))
    serve(waiting)
    waiting.on_time(S, lambda: b"beat")
    assert waiting.answers[0][1].startswith(b"NATS/1.0 408 Request Timeout")


def test_a_request_that_cannot_take_a_message_lets_the_next_one() -> None:
    waiting = pulls((b"a", PullOptions()), (b"b", PullOptions()))
    waiting.rotate()
    assert serve(waiting) == b"b"


def test_a_dropped_request_hears_nothing() -> None:
    waiting = pulls((b"a", PullOptions()))
    request = waiting.head(0)
    assert request is not None
    waiting.drop(request)
    assert (len(waiting), waiting.answers) == (0, [])


def test_a_deleted_consumer_tells_everybody() -> None:
    waiting = pulls((b"a", PullOptions()), (b"b", PullOptions()))
    waiting.close(status.CONSUMER_DELETED)
    assert waiting.answers == [(b"a", status.CONSUMER_DELETED), (b"b", status.CONSUMER_DELETED)]


def test_a_stopping_server_tells_what_was_left() -> None:
    waiting = pulls((b"a", PullOptions(batch=4)))
    waiting.close(status.SERVER_SHUTDOWN)
    assert waiting.answers == [
        (b"a", b"NATS/1.0 409 Server Shutdown\r\nNats-Pending-Messages: 4\r\nNats-Pending-Bytes: 0\r\n\r\n")
    ]


@pytest.mark.parametrize("count", range(1, 11))
def test_a_run_for_requests_that_are_alike_counts_as_turns_do(count: int) -> None:
    requests = [(b"a", PullOptions(batch=batch, expires_ns=9 * S)) for batch in (2, 5, 3)]
    in_turns, in_a_run = pulls(*requests), pulls(*requests)
    for _ in range(count):
        serve(in_turns)
    in_a_run.served_in_turns(count, 0)
    ends: list[list[tuple[bytes, bytes]]] = []
    for waiting in (in_turns, in_a_run):
        waiting.close(status.SERVER_SHUTDOWN)
        ends.append(waiting.answers)
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ((b"a", PullOptions(batch=3)), True),
        ((b"b", PullOptions()), False),
        ((b"a", PullOptions(max_bytes=10)), False),
        ((b"a", PullOptions(expires_ns=S)), False),
    ],
)
def test_requests_are_alike_when_nobody_can_tell_whose_turn_it_was(
    other: tuple[bytes, PullOptions], alike: bool
) -> None:
    assert pulls((b"a", PullOptions()), other).are_alike(S) is alike
