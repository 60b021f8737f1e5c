"""Services of other accounts: what is asked, who is told what, and how long an answer is awaited."""

import json
from typing import Any

import pytest
from tests.core_lab import BrokerLab, Collector, engine_factories

from headrace.core.exports import (
    Latency,
    Mapping,
    MappingDestination,
    ResponseType,
    ServiceExport,
    ServiceImport,
)
from headrace.core.options import AccountOptions, ServerOptions, UserOptions
from headrace.core.transport.memory import MemoryClient

NS_PER_S = 1_000_000_000


class Accounts(BrokerLab):
    """A exports what it is given, B imports it as it is given; a and b are their users."""

    def __init__(self, *accounts: AccountOptions, engine: str = "plain") -> None:
        users = tuple(UserOptions(account.name.lower(), "p", account.name) for account in accounts)
        users += (UserOptions("sys", "p", "$SYS"),)
        super().__init__(ServerOptions(accounts=accounts, users=users), engine_factories()[engine])

    def user(self, user: str, **more: Any) -> MemoryClient:
        values: dict[str, Any] = {"pass": "p", **more}
        return self.connected(user=user, **values)


@pytest.fixture(params=engine_factories())
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(
    export: ServiceExport, *, to: str = "", share: bool = False, subject: str = "", **a: Any
) -> tuple[AccountOptions, AccountOptions]:
    wanted = ServiceImport("A", subject or export.subject, to, share=share)
    return (
        AccountOptions("A", service_exports=(export,), **a),
        AccountOptions("B", service_imports=(wanted,)),
    )


def asked(
    lab: Accounts, responder: MemoryClient, requestor: MemoryClient, line: bytes
) -> tuple[bytes, dict[str, Any]]:
    """Send a request; give the line that the responder got, without sizes, and the request info."""
    lab.say(requestor, line)
    got = responder.received()
    assert got.startswith(b"HMSG "), got
    first, _, rest = got.partition(b"\r\n")
    info = rest.split(b"Nats-Request-Info: ")[1].split(b"\r\n")[0]
    return b" ".join(first.split()[1:-2]), json.loads(info)


def test_a_request_crosses_and_its_answer_comes_back(engine: str) -> None:
    lab = Accounts(*pair(ServiceExport("svc")), engine=engine)
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, info = asked(lab, a, b, b"PUB svc inbox 2\r\nhi\r\n")
    subject, sid, reply = line.split()
    assert (subject, sid) == (b"svc", b"1")
    assert reply.startswith(b"_R_.")
    assert [len(token) for token in reply.split(b".")] == [3, 6, 6]
    assert info["acc"] == "B"
    assert set(info) <= {"acc", "rtt"}
    lab.say(a, b"PUB %b 3\r\nyes\r\n" % reply)
    assert b.received() == b"MSG inbox 9 3\r\nyes\r\n"


@pytest.mark.parametrize(
    ("exported", "subject", "to", "published", "received"),
    [
        ("s.*", "s.*", "", b"s.x", b"s.x"),
        ("s.*.*", "s.*.*", "loc.$2.$1", b"loc.x.y", b"s.y.x"),
        ("s.>", "s.>", "loc.>", b"loc.x.y", b"s.x.y"),
        ("s.*", "s.one", "mine", b"mine", b"s.one"),
        ("s", "s", "loc.*", b"loc.x", b"s"),
    ],
)
def test_a_service_has_its_own_name_at_home(
    exported: str, subject: str, to: str, published: bytes, received: bytes
) -> None:
    lab = Accounts(*pair(ServiceExport(exported), to=to, subject=subject))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB > 1\r\n")
    line, _ = asked(lab, a, b, b"PUB %b 0\r\n\r\n" % published)
    assert line == received + b" 1"


def test_a_single_answer_is_the_last(engine: str) -> None:
    lab = Accounts(*pair(ServiceExport("svc")), engine=engine)
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\nSUB r 2\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    reply = line.split()[2]
    lab.say(a, b"PUB %b 1\r\n1\r\nPUB %b 1\r\n2\r\n" % (reply, reply))
    assert b.received() == b"MSG inbox 9 1\r\n1\r\n"
    assert len(lab.broker.services.responses) == 0


@pytest.mark.parametrize("kind", [ResponseType.STREAM, ResponseType.CHUNKED])
def test_many_answers_end_with_an_empty_one(kind: ResponseType) -> None:
    lab = Accounts(*pair(ServiceExport("svc", response=kind)))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    reply = line.split()[2]
    lab.say(a, b"PUB %b 1\r\n1\r\nPUB %b 1\r\n2\r\nPUB %b 0\r\n\r\nPUB %b 1\r\n3\r\n" % ((reply,) * 4))
    assert b.received() == b"MSG inbox 9 1\r\n1\r\nMSG inbox 9 1\r\n2\r\nMSG inbox 9 0\r\n\r\n"


def test_answers_are_awaited_for_the_threshold_after_the_last_one() -> None:
    export = ServiceExport("svc", response=ResponseType.STREAM, response_threshold_ns=5 * NS_PER_S)
    lab = Accounts(*pair(export))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    publish = b"PUB %b 1\r\n1\r\n" % line.split()[2]
    for _ in range(3):
        lab.scheduler.advance(4 * NS_PER_S)
        lab.say(a, publish)
        assert b.received().endswith(b"MSG inbox 9 1\r\n1\r\n")
    lab.scheduler.advance(6 * NS_PER_S)
    lab.say(a, publish)
    assert b"MSG" not in b.received()


def test_a_request_that_nobody_serves_has_no_responders(engine: str) -> None:
    lab = Accounts(*pair(ServiceExport("svc"), to="loc"), engine=engine)
    lab.user("a")
    b = lab.user("b")
    lab.say(b, b"SUB inbox 9\r\n")
    assert lab.say(b, b"PUB loc inbox 0\r\n\r\n") == (
        b"HMSG inbox 9 35 35\r\nNATS/1.0 503\r\nNats-Subject: loc\r\n\r\n\r\n"
    )
    assert len(lab.broker.services.responses) == 0


def test_a_request_crosses_two_accounts_and_back() -> None:
    lab = Accounts(
        AccountOptions("A", service_exports=(ServiceExport("svc"),)),
        AccountOptions(
            "B", service_imports=(ServiceImport("A", "svc", "mid"),), service_exports=(ServiceExport("mid"),)
        ),
        AccountOptions("C", service_imports=(ServiceImport("B", "mid", "far"),)),
    )
    a, c = lab.user("a"), lab.user("c")
    lab.say(c, b"SUB inbox 9\r\n")
    assert b"503" in lab.say(c, b"PUB far inbox 0\r\n\r\n")
    lab.say(a, b"SUB svc 1\r\n")
    line, info = asked(lab, a, c, b"PUB far inbox 0\r\n\r\n")
    assert (info["acc"], info["svc"]) == ("C", "B")
    lab.say(a, b"PUB %b 2\r\nok\r\n" % line.split()[2])
    assert c.received() == b"MSG inbox 9 2\r\nok\r\n"
    assert len(lab.broker.services.responses) == 0


def test_an_answer_may_ask_back() -> None:
    lab = Accounts(*pair(ServiceExport("svc")))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\nSUB back 2\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    lab.say(a, b"PUB %b back 1\r\n?\r\n" % line.split()[2])
    reply = b.received().split()[3]
    assert reply.startswith(b"_R_.")
    lab.say(b, b"PUB %b 1\r\n!\r\n" % reply)
    assert b"MSG back 2 1\r\n!\r\n" in a.received() + b""


def test_acks_keep_their_reply_subject() -> None:
    lab = Accounts(*pair(ServiceExport("svc")))
    a = lab.user("a")
    lab.say(a, b"SUB svc 1\r\n")
    lab.broker.bus.publish("B", b"svc", b"x", reply=b"$JS.ACK.s.c.1.1.1.1.0")
    lab.scheduler.settle()
    assert a.received().startswith(b"HMSG svc 1 $JS.ACK.s.c.1.1.1.1.0 ")


def test_who_shares_is_seen_and_who_does_not_is_not() -> None:
    lab = Accounts(*pair(ServiceExport("svc"), share=True))
    a, b = lab.user("a"), lab.user("b", name="asker", lang="py", version="1")
    lab.say(a, b"SUB svc 1\r\n")
    _, info = asked(lab, a, b, b"PUB svc 0\r\n\r\n")
    assert {"start", "host", "id"} <= set(info)
    assert (info["user"], info["name"], info["lang"], info["ver"]) == ("b", "asker", "py", "1")
    assert (info["kind"], info["client_type"], info["server"]) == ("Client", "nats", lab.broker.name)


def test_a_forged_request_info_is_replaced() -> None:
    lab = Accounts(*pair(ServiceExport("svc")))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\n")
    block = b'NATS/1.0\r\nNats-Request-Info: {"acc":"$SYS"}\r\nX: y\r\n\r\n'
    _, info = asked(lab, a, b, b"HPUB svc %d %d\r\n%b\r\n" % (len(block), len(block), block))
    assert info["acc"] == "B"


def test_a_sink_is_not_told_who_asks() -> None:
    lab = Accounts(*pair(ServiceExport("svc")))
    sink = Collector()
    lab.broker.bus.capture("A", b"svc", sink)
    b = lab.user("b")
    lab.say(b, b"PUB svc 2\r\nhi\r\n")
    lab.say(b, b"HPUB svc 18 18\r\nNATS/1.0\r\nA: b\r\n\r\n\r\n")
    assert [message.headers for message in sink.messages] == [b"", b"NATS/1.0\r\nA: b\r\n\r\n"]


def test_the_exporter_s_mappings_hold_for_requests() -> None:
    mapping = Mapping("svc", (MappingDestination("real"),))
    lab = Accounts(*pair(ServiceExport("svc"), mappings=(mapping,)))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB > 1\r\n")
    line, _ = asked(lab, a, b, b"PUB svc 0\r\n\r\n")
    assert line == b"real 1"


def test_an_account_may_come_and_change_while_the_server_runs() -> None:
    lab = Accounts(AccountOptions("A"), AccountOptions("B"))
    a, b = lab.user("a"), lab.user("b")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    assert b"503" in lab.say(b, b"PUB svc inbox 0\r\n\r\n")
    for account in pair(ServiceExport("svc")):
        lab.broker.set_account(account)
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    assert line.startswith(b"svc 1 _R_.")
    lab.broker.set_account(AccountOptions("B"))
    assert b"503" in lab.say(b, b"PUB svc inbox 0\r\n\r\n")


# latency


def measured(lab: Accounts, listener: MemoryClient) -> dict[str, Any]:
    got = listener.received()
    assert got.startswith(b"MSG lat "), got
    body: dict[str, Any] = json.loads(got.partition(b"\r\n")[2])
    return body


def test_the_latency_of_a_service_is_told_in_its_account() -> None:
    lab = Accounts(*pair(ServiceExport("svc", latency=Latency("lat"))))
    a, b, listener = lab.user("a"), lab.user("b"), lab.user("a")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(listener, b"SUB lat 3\r\n")
    lab.say(b, b"SUB inbox 9\r\n")
    line, _ = asked(lab, a, b, b"PUB svc inbox 0\r\n\r\n")
    reply = line.split()[2]
    assert reply.endswith(b".T")
    assert len(reply.split(b".")) == 5
    lab.scheduler.advance(1_000_000)
    lab.say(a, b"PUB %b 0\r\n\r\n" % reply)
    body = measured(lab, listener)
    assert body["type"] == "io.nats.server.metric.v1.service_latency"
    assert body["status"] == 200
    assert body["requestor"]["acc"] == "B"
    assert "user" not in body["requestor"]
    assert body["responder"]["user"] == "a"
    rtts = body["requestor"]["rtt"], body["responder"]["rtt"]
    assert (body["service"], body["system"]) == (1_000_000 - rtts[1], 0)
    assert body["total"] == 1_000_000 + rtts[0]


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        (b"PUB svc 0\r\n\r\n", 400, "Bad Request"),
        (b"PUB svc inbox 0\r\n\r\n", 504, "Service Timeout"),
        (b"PUB svc gone 0\r\n\r\nUNSUB 8\r\n", 408, "Request Timeout"),
    ],
)
def test_the_latency_of_what_failed_says_why(line: bytes, status: int, text: str) -> None:
    lab = Accounts(*pair(ServiceExport("svc", latency=Latency("lat"), response_threshold_ns=NS_PER_S)))
    a, b, listener = lab.user("a"), lab.user("b"), lab.user("a")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(listener, b"SUB lat 3\r\n")
    lab.say(b, b"SUB inbox 9\r\nSUB gone 8\r\n")
    for one in line.splitlines(keepends=True):
        lab.say(b, one)
    lab.scheduler.advance(3 * NS_PER_S // 2)
    lab.scheduler.settle()
    body = measured(lab, listener)
    assert (body["status"], body["description"]) == (status, text)
    assert "responder" not in body


def test_the_latency_of_an_absent_service_is_503() -> None:
    lab = Accounts(*pair(ServiceExport("svc", latency=Latency("lat"))))
    b, listener = lab.user("b"), lab.user("a")
    lab.say(listener, b"SUB lat 3\r\n")
    lab.say(b, b"SUB inbox 9\r\nPUB svc inbox 0\r\n\r\n")
    assert measured(lab, listener)["status"] == 503


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (b"Uber-Trace-Id: 479fefe9525eddb:5adb976bfc1f95c1:479fefe9525eddb:1", True),
        (b"Uber-Trace-Id: 479fefe9525eddb:5adb976bfc1f95c1:479fefe9525eddb:0", False),
        (b"Uber-Trace-Id: x", False),
        (b"X-B3-Sampled: 1", True),
        (b"X-B3-Sampled: 0", False),
        (b"X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7", True),
        (b"B3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", True),
        (b"B3: 0", False),
        (b"B3: 80f198ee56343ba8-e457b5a2e4d86bd1-0-05e3ac9a4f6e3b90", False),
        (b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", False),
        (b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz", False),
        (b"X: y", False),
    ],
)
def test_headers_decide_what_is_sampled(header: bytes, is_sampled: bool) -> None:
    lab = Accounts(*pair(ServiceExport("svc", latency=Latency("lat", sampling=0))))
    a, b, listener = lab.user("a"), lab.user("b"), lab.user("a")
    lab.say(a, b"SUB svc 1\r\n")
    lab.say(listener, b"SUB lat 3\r\n")
    block = b"NATS/1.0\r\n%b\r\n\r\n" % header
    lab.say(b, b"HPUB svc %d %d\r\n%b\r\n" % (len(block), len(block), block))
    got = listener.received()
    assert bool(got) is is_sampled
    if is_sampled:
        name, _, value = header.decode().partition(": ")
        assert json.loads(got.partition(b"\r\n")[2])["header"] == {name: [value]}
