"""Sessions in virtual time: greeting, login, pings, errors and their order, slow clients."""

import json
import logging

import pytest

from core_lab import BrokerLab, info_of
from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.engine.interface import Phase
from headrace.core.options import (
    AccountOptions,
    Permissions,
    ResponseRule,
    ServerOptions,
    SubjectRules,
    UserOptions,
)
from headrace.core.session_table import EVENTS, NEXT
from headrace.core.transport.memory import MemoryClient

USERS = ServerOptions(users=(UserOptions("a", "pw", "A"), UserOptions("b", "pw", "B")))
LOGIN_A = b'CONNECT {"verbose":false,"user":"a","pass":"pw"}\r\n'


def reason(lab: BrokerLab) -> str:
    return lab.broker.closed_records()[-1].reason


def closing_words(lab: BrokerLab, client: MemoryClient, data: bytes) -> tuple[bytes, str]:
    """Send, expect the close, and give the last words and the reason that monitoring shows."""
    said = lab.say(client, data)
    assert client.is_closed
    return said, reason(lab)


def test_every_phase_answers_every_event() -> None:
    assert set(NEXT) == set(Phase)
    for answers in NEXT.values():
        assert set(answers) == EVENTS


# greeting


def test_info_comes_before_anything_is_said() -> None:
    lab = BrokerLab()
    told = info_of(lab.client().received())
    assert told["server_id"] == lab.broker.id
    assert told["client_id"] == 1
    assert told["client_ip"] == "127.0.0.1"
    assert told["headers"] is True
    assert told["max_payload"] == 1048576


def test_a_client_that_never_connects_is_verbose() -> None:
    lab = BrokerLab()
    client = lab.client()
    client.received()
    assert lab.say(client, b"SUB a 1\r\nPUB a 1\r\nx\r\n") == b"+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n"


def test_the_first_ping_is_answered_with_pong_and_then_info() -> None:
    lab = BrokerLab()
    client = lab.connected(protocol=1)
    pong, info = lab.say(client, b"PING\r\n").split(b"\r\n", 1)
    assert pong == b"PONG"
    told = info_of(info)
    assert (told["connect_info"], told["remote_account"]) == (True, "$G")
    assert lab.say(client, b"PING\r\n") == b"PONG\r\n"


def test_an_old_client_gets_no_second_info() -> None:
    lab = BrokerLab()
    assert lab.say(lab.connected(protocol=0), b"PING\r\n") == b"PONG\r\n"


def test_a_verbose_connect_is_told_ok() -> None:
    lab = BrokerLab()
    client = lab.client()
    client.received()
    assert lab.say(client, b"CONNECT {}\r\n") == b"+OK\r\n"


@pytest.mark.parametrize(
    ("connect", "words", "why"),
    [
        ({"protocol": 2}, b"-ERR 'invalid client protocol'\r\n", "Bad Client Protocol Version"),
        (
            {"no_responders": True},
            b"-ERR 'no responders requires headers support'\r\n",
            "No Responders Requires Headers",
        ),
        ({"account": "x"}, b"-ERR 'Authorization Violation'\r\n", "Authentication Failure"),
        ({"new_account": True}, b"-ERR 'Authorization Violation'\r\n", "Authentication Failure"),
        ({"verbose": 1}, b"", "Protocol Violation"),
    ],
)
def test_a_wrong_connect_ends_the_connection(connect: dict[str, object], words: bytes, why: str) -> None:
    lab = BrokerLab()
    client = lab.client()
    client.received()
    assert closing_words(lab, client, b"CONNECT %b\r\n" % json.dumps(connect).encode()) == (words, why)


def test_without_header_support_headers_are_not_negotiated() -> None:
    lab = BrokerLab(ServerOptions(no_header_support=True))
    client = lab.client()
    assert info_of(client.received())["headers"] is False
    said, _ = closing_words(lab, client, b'CONNECT {"headers":true,"no_responders":true}\r\n')
    assert said == b"-ERR 'no responders requires headers support'\r\n"


def test_a_second_connect_drops_what_was_subscribed() -> None:
    lab = BrokerLab()
    client = lab.connected()
    lab.say(client, b"SUB a 1\r\n")
    assert lab.say(client, b'CONNECT {"echo":true}\r\nPUB a 0\r\n\r\nPING\r\n') == b"PONG\r\n"


# login


def test_a_client_enters_the_account_of_its_user() -> None:
    lab = BrokerLab(USERS)
    client = lab.client()
    client.received()
    said = lab.say(client, b'CONNECT {"verbose":false,"protocol":1,"user":"a","pass":"pw"}\r\nPING\r\n')
    assert info_of(said.split(b"\r\n", 1)[1])["remote_account"] == "A"
    (record,) = lab.broker.open_records()
    assert (record.account, record.user) == ("A", "a")
    assert lab.broker.accounts["A"].connection_count == 1


@pytest.mark.parametrize("data", [b"PING\r\n", b"P", b"SUB a 1\r\n", b'CONNECT {"user":"a","pass":"no"}\r\n'])
def test_who_does_not_log_in_is_sent_away(data: bytes) -> None:
    lab = BrokerLab(USERS)
    client = lab.client()
    client.received()
    assert closing_words(lab, client, data + b"PING\r\n") == (
        b"-ERR 'Authorization Violation'\r\n",
        "Authentication Failure",
    )


def test_who_is_silent_is_sent_away_after_the_timeout() -> None:
    lab = BrokerLab(USERS)
    client = lab.client()
    client.received()
    lab.scheduler.advance(2 * NS_PER_S - 1)
    assert not client.is_closed
    lab.scheduler.advance(1)
    assert client.received() == b"-ERR 'Authentication Timeout'\r\n"
    assert reason(lab) == "Authentication Timeout"


def test_a_login_in_time_stops_the_timeout() -> None:
    lab = BrokerLab(USERS)
    client = lab.client()
    lab.say(client, LOGIN_A)
    lab.scheduler.advance(3 * NS_PER_S)
    assert not client.is_closed


def test_the_no_auth_user_may_begin_without_connect() -> None:
    lab = BrokerLab(ServerOptions(users=USERS.users, no_auth_user="b"))
    client = lab.client()
    assert "auth_required" not in info_of(client.received())
    assert lab.say(client, b"PING\r\n") == b"PONG\r\n"
    assert lab.broker.open_records()[0].user == "b"
    lab.scheduler.advance(3 * NS_PER_S)
    assert not client.is_closed


def test_a_full_account_takes_no_more() -> None:
    options = ServerOptions(users=USERS.users, accounts=(AccountOptions("A", max_connections=1),))
    lab = BrokerLab(options)
    lab.say(lab.client(), LOGIN_A)
    client = lab.client()
    client.received()
    assert closing_words(lab, client, LOGIN_A) == (
        b"-ERR 'maximum account active connections exceeded'\r\n",
        "Maximum Account Connections Exceeded",
    )
    assert lab.broker.accounts["A"].connection_count == 1


def test_another_user_moves_the_connection_to_its_account() -> None:
    lab = BrokerLab(USERS)
    client = lab.client()
    lab.say(client, LOGIN_A)
    lab.say(client, b'CONNECT {"user":"b"}\r\n')
    assert [lab.broker.accounts[name].connection_count for name in "AB"] == [0, 1]
    client.close()
    lab.scheduler.settle()
    assert lab.broker.accounts["B"].connection_count == 0


def test_an_accounts_payload_limit_is_told_and_kept() -> None:
    options = ServerOptions(
        users=USERS.users, accounts=(AccountOptions("A", max_payload=5, max_subscriptions=1),)
    )
    lab = BrokerLab(options)
    client = lab.client()
    client.received()
    said = lab.say(client, b'CONNECT {"verbose":false,"protocol":1,"user":"a","pass":"pw"}\r\nPING\r\n')
    assert info_of(said.split(b"\r\n", 1)[1])["max_payload"] == 5
    assert lab.say(client, b"SUB a 1\r\nSUB b 2\r\n") == b"-ERR 'maximum subscriptions exceeded'\r\n"
    assert closing_words(lab, client, b"PUB a 6\r\n123456\r\n") == (
        b"-ERR 'Maximum Payload Violation'\r\n",
        "Maximum Message Payload Exceeded",
    )


# permissions


def permitted(permissions: Permissions) -> tuple[BrokerLab, MemoryClient, MemoryClient]:
    lab = BrokerLab(
        ServerOptions(users=(UserOptions("a", "pw", permissions=permissions), UserOptions("f", "pw")))
    )
    return lab, lab.connected(user="a", **{"pass": "pw"}), lab.connected(user="f", **{"pass": "pw"})


def test_a_publish_that_is_not_permitted_is_answered_in_its_place() -> None:
    lab, client, _ = permitted(Permissions(publish=SubjectRules(("ok",))))
    said = lab.say(client, b"SUB ok 1\r\nPUB ok 0\r\n\r\nPUB no 0\r\n\r\nPUB ok 0\r\n\r\nPING\r\n")
    assert said == (
        b"MSG ok 1 0\r\n\r\n-ERR 'Permissions Violation for Publish to \"no\"'\r\nMSG ok 1 0\r\n\r\nPONG\r\n"
    )


def test_a_reply_is_allowed_as_often_as_the_rule_says() -> None:
    rules = Permissions(publish=SubjectRules(()), responses=ResponseRule(1, NS_PER_S))
    lab, service, requester = permitted(rules)
    lab.say(service, b"SUB svc 1\r\n")
    lab.say(requester, b"SUB inbox.* 1\r\nPUB svc inbox.1 0\r\n\r\n")
    service.received()
    refusal = b"-ERR 'Permissions Violation for Publish to \"inbox.1\"'\r\n"
    assert lab.say(service, b"PUB inbox.1 1\r\nx\r\nPUB inbox.1 1\r\ny\r\n") == refusal
    assert requester.received() == b"MSG inbox.1 1 1\r\nx\r\n"


def test_an_allowed_reply_expires() -> None:
    rules = Permissions(publish=SubjectRules(()), responses=ResponseRule(1, NS_PER_S))
    lab, service, requester = permitted(rules)
    lab.say(service, b"SUB svc 1\r\n")
    lab.say(requester, b"SUB inbox.* 1\r\nPUB svc inbox.1 0\r\n\r\n")
    service.received()
    lab.scheduler.advance(NS_PER_S)
    assert b"Permissions Violation" in lab.say(service, b"PUB inbox.1 1\r\nx\r\n")


# pings


def pings(lab: BrokerLab, client: MemoryClient, until_ns: int, step_ns: int) -> list[int]:
    """Let time pass in steps, answering nothing; give when PINGs came."""
    found: list[int] = []
    start_ns = lab.scheduler.monotonic_ns()
    while lab.scheduler.monotonic_ns() < start_ns + until_ns and not client.is_closed:
        lab.scheduler.advance(step_ns)
        if b"PING\r\n" in client.received():
            found.append(lab.scheduler.monotonic_ns() - start_ns)
    return found


def test_the_first_ping_comes_two_seconds_after_connect() -> None:
    lab = BrokerLab()
    (first_ns,) = pings(lab, lab.connected(), 3 * NS_PER_S, 50 * NS_PER_MS)
    assert 2 * NS_PER_S <= first_ns <= 2.45 * NS_PER_S


def test_before_connect_the_usual_interval_holds() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=10 * NS_PER_S))
    assert pings(lab, lab.client(), 11 * NS_PER_S, NS_PER_S) == [10 * NS_PER_S]


def test_a_silent_client_is_stale_at_the_third_ping_that_is_due() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=NS_PER_S, ping_max=2))
    client = lab.connected()
    lab.scheduler.advance(10 * NS_PER_S)
    assert client.received() == b"PING\r\nPING\r\n-ERR 'Stale Connection'\r\n"
    assert reason(lab) == "Stale Connection"
    assert lab.broker.stats.stale_connections == 1


def test_a_client_that_answers_stays_and_its_round_trip_is_known() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=NS_PER_S))
    client = lab.connected()
    for _ in range(1000):
        lab.scheduler.advance(10 * NS_PER_MS)
        if b"PING" in client.received():
            lab.scheduler.advance(5 * NS_PER_MS)
            lab.say(client, b"PONG\r\n")
    assert not client.is_closed
    assert 5 * NS_PER_MS <= lab.broker.open_records()[0].rtt_ns <= 15 * NS_PER_MS


def test_a_busy_client_is_not_pinged_once_its_round_trip_is_known() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=4 * NS_PER_S))
    client = lab.connected()
    seen = b""
    for _ in range(30):
        lab.scheduler.advance(NS_PER_S)
        said = client.received()
        seen += said
        lab.say(client, b"PONG\r\n" if b"PING" in said else b"+OK\r\n")
    assert seen.count(b"PING") == 1


# errors of the peer


@pytest.mark.parametrize(
    ("data", "words", "why"),
    [
        (b"FOO\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", "Parse Error"),
        (b"PUB a x\r\n", b"", "Protocol Violation"),
        (b"-ERR 'x'\r\nPING\r\n", b"", "Parse Error"),
        (b"INFO x\r\nPING\r\n", b"", "Protocol Violation"),
        (b"INFO {}\r\nPING\r\nQ", b"PONG\r\n-ERR 'Unknown Protocol Operation'\r\n", "Parse Error"),
    ],
)
def test_an_error_is_told_and_the_connection_closed(data: bytes, words: bytes, why: str) -> None:
    lab = BrokerLab()
    assert closing_words(lab, lab.connected(), data) == (words, why)


def test_the_log_names_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    lab = BrokerLab()
    with caplog.at_level(logging.DEBUG, "headrace"):
        client = lab.connected()
        lab.say(client, b"SUB a..b 1\r\nSUB a _sys_ 2\r\nFOO")
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1:50000 - cid:1 - Client connection created",
        "127.0.0.1:50000 - cid:1 - Invalid Subject",
        '127.0.0.1:50000 - cid:1 - Subscription Violation - Subject "a", Queue: "_sys_"',
        "127.0.0.1:50000 - cid:1 - Unknown Protocol Operation",
        "127.0.0.1:50000 - cid:1 - Client connection closed: Parse Error",
    ]


# slow clients

MESSAGE = b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n"


def test_a_client_that_does_not_read_is_closed_without_a_word() -> None:
    lab = BrokerLab(ServerOptions(max_pending=1_000_000))
    slow = lab.connected()
    lab.say(slow, b"SUB a 1\r\n")
    slow.stop_reading()
    fast = lab.connected()
    for _ in range(15):
        lab.say(fast, MESSAGE)
    assert slow.is_closed
    assert b"-ERR" not in slow.received()
    assert reason(lab) == "Slow Consumer (Pending Bytes)"
    assert lab.broker.stats.slow_consumers == 1
    assert lab.broker.accounts["$G"].slow_consumer_count == 1


def test_a_fast_publisher_is_stalled_for_a_bounded_time() -> None:
    lab = BrokerLab()
    slow = lab.connected()
    lab.say(slow, b"SUB a 1\r\n")
    slow.stop_reading()
    fast = lab.connected()
    for _ in range(25):
        fast.send(MESSAGE)
    lab.scheduler.settle()
    assert fast.transport.is_paused
    assert lab.broker.stats.stalled_clients == 1
    before = lab.broker.stats.in_messages
    lab.scheduler.advance(10 * NS_PER_MS)
    assert lab.broker.stats.in_messages == before + 1


def test_a_stall_ends_when_the_subscriber_has_caught_up() -> None:
    lab = BrokerLab()
    slow = lab.connected()
    lab.say(slow, b"SUB a 1\r\n")
    slow.stop_reading()
    fast = lab.connected()
    for _ in range(25):
        fast.send(MESSAGE)
    lab.scheduler.settle()
    slow.start_reading()
    lab.scheduler.settle()
    assert not fast.transport.is_paused
    assert lab.broker.stats.in_messages == 25


def test_a_write_without_progress_ends_the_connection_at_the_deadline() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=1000 * NS_PER_S))
    slow = lab.connected()
    lab.say(slow, b"SUB a 1\r\nPING\r\n")
    slow.stop_reading()
    lab.say(lab.connected(), MESSAGE)
    lab.scheduler.advance(10 * NS_PER_S - 1)
    assert not slow.is_closed
    lab.scheduler.advance(1)
    assert slow.is_closed
    assert reason(lab) == "Slow Consumer (Write Deadline)"
    assert lab.broker.stats.slow_consumers == 1


def test_a_slow_reader_that_makes_progress_stays() -> None:
    lab = BrokerLab(ServerOptions(ping_interval_ns=1000 * NS_PER_S))
    slow = lab.connected()
    lab.say(slow, b"SUB a 1\r\n")
    slow.stop_reading()
    fast = lab.connected()
    lab.say(fast, MESSAGE * 2)
    for _ in range(40):
        lab.scheduler.advance(2 * NS_PER_S)
        slow.received()
        if lab.broker.sessions[0].connection.pending_size < 100_000:
            lab.say(fast, MESSAGE)
    assert not slow.is_closed
    for _ in range(10):
        slow.received()
    lab.scheduler.advance(20 * NS_PER_S)
    assert not slow.is_closed


def test_a_client_that_hangs_up_is_recorded() -> None:
    lab = BrokerLab()
    client = lab.connected(name="me", lang="x", version="1")
    lab.say(client, b"SUB a 1\r\nPUB a 1\r\nx\r\n")
    client.close()
    lab.scheduler.settle()
    (record,) = lab.broker.closed_records()
    assert (record.reason, record.name, record.language, record.version) == ("Client Closed", "me", "x", "1")
    assert (record.in_messages, record.out_messages, record.subscription_count) == (1, 1, 1)
    assert [info.subject for info in record.subscriptions] == [b"a"]
    assert record.stop_ns >= record.last_activity_ns >= record.start_ns


def test_only_some_subscriptions_of_a_closed_connection_are_remembered() -> None:
    lab = BrokerLab()
    client = lab.connected()
    lab.say(client, b"".join(b"SUB a.%d %d\r\n" % (number, number) for number in range(100)))
    client.close()
    lab.scheduler.settle()
    (record,) = lab.broker.closed_records()
    assert (record.subscription_count, len(record.subscriptions)) == (100, 64)
