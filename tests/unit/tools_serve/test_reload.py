"""Reload: what may change, what is refused, and what is said of either."""

import logging
from dataclasses import fields, replace
from typing import Any

import pytest

from core_lab import BrokerLab
from headrace.core.log import MemorySink, make_logger, set_log
from headrace.core.options import (
    AccountOptions,
    CalloutOptions,
    JetStreamOptions,
    Permissions,
    ServerOptions,
    SubjectRules,
    TlsOptions,
    UserOptions,
    WebsocketOptions,
)
from headrace.tools.reload import FIXED, FOLLOWED, ReloadRefused, plan

OLD = ServerOptions()
SECRET_A: Any = {"pass": "a"}
SECRET_B: Any = {"pass": "b"}
WEBSOCKET = WebsocketOptions(host="127.0.0.1", port=-1)


def planned(old: ServerOptions = OLD, **changed: Any) -> tuple[str, ...]:
    return plan(old, replace(old, **changed), port=4333).lines


def test_every_option_is_followed_or_fixed() -> None:
    assert not FOLLOWED.keys() & FIXED.keys()
    assert FOLLOWED.keys() | FIXED.keys() | {"config_file"} == {field.name for field in fields(ServerOptions)}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"debug": True}, "debug = true"),
        ({"log_time": False}, "logtime = false"),
        ({"max_payload": 1000}, "max_payload = 1000"),
        ({"ping_interval_ns": 10_000_000_000}, "ping_interval = 10s"),
        ({"write_deadline_ns": 120_000_000_000}, "write_deadline = 2m0s"),
        ({"users": (UserOptions("a", "secret"),)}, "authorization users"),
        ({"token": "secret"}, "authorization token"),
        ({"accounts": (AccountOptions("A"),)}, "accounts"),
        ({"tags": ("x",)}, "tags"),
    ],
)
def test_what_changes_is_told_without_secrets(changed: dict[str, Any], line: str) -> None:
    assert planned(**changed) == (line,)


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"port": 28999}, "Port: old=4333, new=28999"),
        ({"monitor_port": 28902}, "HTTPPort: old=0, new=28902"),
        ({"server_name": "x"}, "ServerName: old=, new=x"),
        ({"max_pending": 10_000_000}, "MaxPending: old=67108864, new=10000000"),
        ({"lame_duck_duration_ns": 40_000_000_000}, "LameDuckDuration: old=2m0s, new=40s"),
        ({"max_subscriptions": 3}, "MaxSubs: old=0, new=3"),
        ({"no_header_support": True}, "NoHeaderSupport: old=false, new=true"),
        ({"jetstream": JetStreamOptions()}, "JetStream"),
        ({"tls": TlsOptions()}, "TLSConfig: restart the server to switch it on"),
        ({"websocket": WEBSOCKET}, "Websocket: restart the server to switch it on"),
        ({"callout": CalloutOptions("A", ("a",))}, "AuthCallout: restart the server to switch it on"),
    ],
)
def test_what_cannot_change_is_refused_by_its_name(changed: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ReloadRefused) as caught:
        planned(**changed)
    assert str(caught.value) == f"config reload not supported for {refusal}"


def test_one_refusal_refuses_all() -> None:
    with pytest.raises(ReloadRefused):
        planned(debug=True, server_name="x")


def test_any_port_is_the_one_that_there_is() -> None:
    old = replace(OLD, port=4333, monitor_port=8222, websocket=replace(WEBSOCKET, port=8080))
    new = replace(old, port=-1, monitor_port=-1, websocket=WEBSOCKET)
    assert plan(old, new, port=4333).options == old


def test_of_a_websocket_listener_only_certificates_change() -> None:
    old = replace(OLD, websocket=replace(WEBSOCKET, tls=TlsOptions()))
    assert planned(old, websocket=replace(WEBSOCKET, tls=TlsOptions(verify=True))) == ("websocket tls",)
    with pytest.raises(ReloadRefused, match="except for its certificates"):
        planned(old, websocket=replace(WEBSOCKET, tls=TlsOptions(), same_origin=True))


def users(*listed: UserOptions, **more: Any) -> ServerOptions:
    return ServerOptions(users=listed, **more)


def test_who_is_still_there_stays_and_the_others_have_to_leave() -> None:
    ann, bob = UserOptions("ann", "a"), UserOptions("bob", "b")
    lab = BrokerLab(users(ann, bob))
    first = lab.connected(user="ann", **SECRET_A)
    second = lab.connected(user="bob", **SECRET_B)
    lab.broker.reconfigure(users(ann, UserOptions("bob", "new")))
    lab.scheduler.settle()
    assert not first.is_closed
    assert second.is_closed
    assert second.received() == b"-ERR 'Authorization Violation'\r\n"


def test_lost_permissions_end_subscriptions() -> None:
    ann = UserOptions("ann", "a")
    lab = BrokerLab(users(ann))
    client = lab.connected(user="ann", **SECRET_A)
    lab.say(client, b"SUB x 1\r\nSUB y 2\r\n")
    limited = replace(ann, permissions=Permissions(subscribe=SubjectRules(deny=("x",))))
    lab.broker.reconfigure(users(limited))
    lab.scheduler.settle()
    assert b'Permissions Violation for Subscription to "x"' in client.received()
    assert lab.say(client, b"PUB y 1\r\nb\r\nPUB x 1\r\na\r\n") == b"MSG y 2 1\r\nb\r\n"


def test_the_youngest_go_where_there_are_too_many() -> None:
    lab = BrokerLab()
    clients = [lab.connected() for _ in range(3)]
    lab.broker.reconfigure(ServerOptions(max_connections=2))
    assert [client.is_closed for client in clients] == [False, False, True]
    assert clients[2].received() == b"-ERR 'maximum connections exceeded'\r\n"


def test_limits_of_open_connections_change() -> None:
    lab = BrokerLab()
    client = lab.connected()
    lab.broker.reconfigure(ServerOptions(max_payload=3))
    assert lab.say(client, b"PUB a 4\r\nlong\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"


def test_an_account_that_is_gone_leaves_nothing_behind() -> None:
    there = users(UserOptions("a", "a", account="A"), accounts=(AccountOptions("A"),))
    lab = BrokerLab(there)
    client = lab.connected(user="a", **SECRET_A)
    lab.broker.reconfigure(users(UserOptions("b", "b")))
    assert client.is_closed
    assert "A" not in lab.broker.accounts


def test_a_log_changes_what_it_writes_and_where() -> None:
    before, after = MemorySink(), MemorySink()
    log = make_logger(before, process_id=7)
    set_log(log, after, is_debug=True, is_trace=False, with_time=False, in_utc=False)
    log.log(logging.DEBUG, "seen")
    assert after.lines == ["[7] [DBG] seen\n"]
    assert before.lines == []
