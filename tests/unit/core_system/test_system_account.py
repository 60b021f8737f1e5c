"""The system account: what it answers, whom it tells about themselves, and which events it hears."""

import gzip
import json
from typing import Any

import pytest
from tests.core_lab import BrokerLab

from headrace.core import limits
from headrace.core.exports import Mapping, MappingDestination, ServiceExport, StreamExport, StreamImport
from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JszOptions
from headrace.core.options import (
    AccountOptions,
    Permissions,
    ResponseRule,
    ServerOptions,
    SubjectRules,
    UserOptions,
)
from headrace.core.system.account import open_system_account
from headrace.core.system.facts import statsz
from headrace.core.system.requests import ACCOUNT_ENDPOINTS, SERVER_ENDPOINTS, RequestFailed
from headrace.core.transport.memory import MemoryClient

NS_PER_S = 1_000_000_000
LIMITED = Permissions(
    SubjectRules(("x.>", "$SYS.REQ.USER.INFO"), ("x.y",)), SubjectRules(), ResponseRule(1, 5 * NS_PER_S)
)


class Process:
    memory_size = 1000
    core_count = 2

    def cpu_percent(self) -> float:
        return 0.5


class World(BrokerLab):
    """Accounts A and B, and a client of the system account that listens to its inbox."""

    def __init__(self) -> None:
        accounts = (
            AccountOptions(
                "A",
                service_exports=(ServiceExport("svc"),),
                stream_exports=(StreamExport("st.>", ("B",)),),
                mappings=(Mapping("m", (MappingDestination("n", 50, "east"),)),),
            ),
            AccountOptions("B", stream_imports=(StreamImport("A", "st.>"),)),
        )
        users = (
            UserOptions("sys", "p", limits.SYSTEM_ACCOUNT),
            UserOptions("a", "p", "A"),
            UserOptions("b", "p", "B"),
            UserOptions("limited", "p", "A", LIMITED),
        )
        super().__init__(ServerOptions(accounts=accounts, users=users, server_name="here", tags=("t",)))
        self.requests = open_system_account(self.broker, Process(), None)
        self.system = self.user("sys")
        self.say(self.system, b"SUB inbox 1\r\n")

    def user(self, user: str, **more: Any) -> MemoryClient:
        values: dict[str, Any] = {"pass": "p", **more}
        return self.connected(user=user, **values)

    def ask(self, subject: str, body: str = "", *, client: MemoryClient | None = None) -> Any:
        """Ask, as the system account unless told otherwise; None if there is no answer."""
        asking = client or self.system
        if client is not None:
            self.say(client, b"SUB inbox 1\r\n")
        got = self.say(asking, f"PUB {subject} inbox {len(body)}\r\n{body}\r\n".encode())
        if not got:
            return None
        assert b" 503" not in got, "somebody answers"
        return json.loads(got.partition(b"\r\n")[2])


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("name", SERVER_ENDPOINTS)
def test_every_endpoint_answers_to_all_servers_and_to_its_own_name(world: World, name: str) -> None:
    for server in ("PING", world.broker.id):
        answer = world.ask(f"$SYS.REQ.SERVER.{server}.{name}")
        assert answer["server"]["name"] == "here"
        assert answer["server"]["id"] == world.broker.id
        assert isinstance(answer["data"], dict)


def test_each_answer_has_the_next_number(world: World) -> None:
    first, second = (world.ask("$SYS.REQ.SERVER.PING.VARZ")["server"]["seq"] for _ in range(2))
    assert second == first + 1


def test_statistics_and_identity_have_envelopes_of_their_own(world: World) -> None:
    for subject in ("PING", "PING.STATSZ", "PING.STATZ", f"{world.broker.id}.STATSZ"):
        answer = world.ask(f"$SYS.REQ.SERVER.{subject}")
        assert set(answer) == {"server", "statsz"}
        assert answer["statsz"]["connections"] == 1
        assert answer["statsz"]["mem"] == 1000
    identity = {"name": "here", "host": world.broker.options.host, "id": world.broker.id}
    assert world.ask("$SYS.REQ.SERVER.PING.IDZ") == identity


class JetStream:
    """JetStream as monitoring sees it."""

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        return {"memory": 5, "config": {"max_memory": 9, "store_dir": "/secret"}, "limits": {}, "streams": 1}

    def sync_times(self) -> None:
        return None

    def problems(self, options: HealthOptions) -> tuple[HealthProblem, ...]:
        return ()


def test_statistics_tell_of_jetstream_but_not_where_it_lies() -> None:
    world = World()
    shown = statsz(world.broker, Process(), JetStream())["jetstream"]
    assert shown == {"config": {"max_memory": 9}, "stats": {"memory": 5}, "limits": {}}


@pytest.mark.parametrize(
    ("body", "is_meant"),
    [
        ('{"server_name":"her"}', True),
        ('{"server_name":"her","exact_match":true}', False),
        ('{"server_name":"here","exact_match":true}', True),
        ('{"server_name":"there"}', False),
        ('{"host":"1.2.3.4"}', False),
        ('{"cluster":"c"}', False),
        ('{"tags":["t"]}', True),
        ('{"tags":["t","u"]}', False),
        ('{"domain":"d"}', False),
    ],
)
def test_only_servers_that_are_meant_answer(world: World, body: str, is_meant: bool) -> None:
    for subject in ("$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.PING"):
        assert (world.ask(subject, body) is not None) is is_meant


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("{bad", 400, "invalid character 'b' looking for beginning of object key string"),
        ("{", 400, "unexpected end of JSON input"),
        ("[]", 400, "json: cannot unmarshal array into Go value of type server.ConnzEventOptions"),
        ('{"sort":"bogus"}', 500, "invalid sorting option: bogus"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error(
    world: World, body: str, code: int, text: str
) -> None:
    answer = world.ask("$SYS.REQ.SERVER.PING.CONNZ", body)
    assert answer["error"] == {"code": code, "description": text}


def test_connections_are_asked_for_as_monitoring_is(world: World) -> None:
    client = world.user("a", name="x")
    world.say(client, b"SUB foo q 7\r\n")
    asked = '{"acc":"A","auth":true,"subscriptions_detail":true,"state":2}'
    (shown,) = world.ask("$SYS.REQ.SERVER.PING.CONNZ", asked)["data"]["connections"]
    assert (shown["name"], shown["account"], shown["authorized_user"]) == ("x", "A", "a")
    assert shown["subscriptions_list_detail"][0]["qgroup"] == "q"
    (listed,) = world.ask("$SYS.REQ.SERVER.PING.CONNZ", '{"acc":"A","subscriptions":true}')["data"][
        "connections"
    ]
    assert listed["subscriptions_list"] == ["foo"]


@pytest.mark.parametrize("name", [name for name in ACCOUNT_ENDPOINTS if name != "JSZ"])
def test_an_account_s_part_is_shown_alone(world: World, name: str) -> None:
    world.say(world.user("a"), b"SUB foo 1\r\n")
    world.user("b")
    shown = json.dumps(world.ask(f"$SYS.REQ.ACCOUNT.A.{name}")["data"])
    assert '"B", "name"' not in shown


def test_an_account_is_described(world: World) -> None:
    detail = world.ask("$SYS.REQ.ACCOUNT.A.INFO")["data"]
    assert detail["exports"] == [
        {"subject": "svc", "type": "service", "response_type": "Singleton"},
        {"subject": "st.>", "type": "stream", "approved_accounts": ["B"]},
    ]
    assert detail["mappings"] == {"m": [{"subject": "n", "weight": 50, "cluster": "east"}]}
    imports = world.ask("$SYS.REQ.SERVER.PING.ACCOUNTZ", '{"account":"B"}')["data"]["account_detail"][
        "imports"
    ]
    assert [one["local_subject"] for one in imports] == [
        "st.>",
        "$SYS.REQ.USER.INFO",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.PING.STATZ",
    ]
    error = world.ask("$SYS.REQ.ACCOUNT.nope.INFO")["error"]
    assert error == {"code": 500, "description": "Account nope does not exist"}


def test_what_has_nothing_to_tell_is_silent(world: World) -> None:
    assert world.ask("$SYS.REQ.ACCOUNT.A.STATZ")["data"]["account_statz"][0]["conns"] == 0
    assert world.ask("$SYS.REQ.ACCOUNT.nope.STATZ") is None
    assert world.ask("$SYS.REQ.ACCOUNT.nope.CONNS") is None


def test_every_account_may_ask_about_itself(world: World) -> None:
    client, other = world.user("b"), world.user("a")
    info = world.ask("$SYS.REQ.USER.INFO", client=client)["data"]
    assert info == {"user": "b", "account": "B", "account_name": "B"}
    for subject in ("$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"):
        assert [one["cid"] for one in world.ask(subject, client=client)["data"]["connections"]] == [2]
    (statistics,) = world.ask("$SYS.REQ.ACCOUNT.PING.STATZ", client=client)["data"]["account_statz"]
    assert statistics["acc"] == "B"
    world.say(other, b"SUB inbox 1\r\n")
    assert b"503" in world.say(other, b"PUB $SYS.REQ.SERVER.PING.VARZ inbox 0\r\n\r\n")


def test_a_user_is_told_what_it_may_do(world: World) -> None:
    info = world.ask("$SYS.REQ.USER.INFO", client=world.user("limited"))["data"]
    assert info["permissions"] == {
        "publish": {"allow": ["$SYS.REQ.USER.INFO", "x.>"], "deny": ["x.y"]},
        "responses": {"max": 1, "ttl": 5 * NS_PER_S},
    }
    assert world.ask("$SYS.REQ.USER.INFO")["data"]["account"] == "$SYS"


def test_subscribers_are_counted(world: World) -> None:
    world.say(world.user("a"), b"SUB q.* g 1\r\nSUB q.x 2\r\n")
    for body, count in (
        ('{"acc":"A","subject":"q.x"}', 2),
        ('{"acc":"A","subject":"q.x","queue":"g"}', 1),
        ('{"acc":"B","subject":"q.x"}', 0),
    ):
        assert world.ask("$SYS.REQ.ACCOUNT.NSUBS", body) == count
    assert world.ask("$SYS.DEBUG.SUBSCRIBERS", "inbox") == 1


def test_a_client_can_be_kicked(world: World) -> None:
    client = world.user("a")
    own = f"$SYS.REQ.SERVER.{world.broker.id}.KICK"
    assert world.ask(own, '{"cid":99}')["error"]["description"] == "no such client or leafnode id"
    assert world.ask(own) is None
    assert set(world.ask(own, '{"cid":2}')) == {"server"}
    assert client.is_closed
    assert world.broker.closed_records()[-1].reason == "Kicked"


def test_one_client_can_be_sent_elsewhere(world: World) -> None:
    client = world.user("a", protocol=1)
    own = f"$SYS.REQ.SERVER.{world.broker.id}.LDM"
    assert world.ask(own, '{"cid":99}')["error"]["description"] == "no such client id"
    assert "does not support Lame Duck Mode" in world.ask(own, '{"cid":2}')["error"]["description"]
    world.say(client, b"PING\r\n")
    world.ask(own, '{"cid":2}')
    assert b'"ldm":true' in client.received()
    assert not world.broker.is_lame_duck


def test_a_reload_is_what_the_composer_makes_of_it(world: World) -> None:
    own = f"$SYS.REQ.SERVER.{world.broker.id}.RELOAD"
    assert "cannot reload" in world.ask(own)["error"]["description"]
    calls: list[int] = []
    world.requests.reload = lambda: calls.append(1)
    assert set(world.ask(own)) == {"server"}
    assert calls == [1]

    def refuse() -> None:
        raise RequestFailed("not supported for Port")

    world.requests.reload = refuse
    assert world.ask(own)["error"] == {"code": 500, "description": "not supported for Port"}


def test_answers_are_compressed_for_those_who_accept_it(world: World) -> None:
    block = b"NATS/1.0\r\nAccept-Encoding: gzip\r\n\r\n"
    line = b"HPUB $SYS.REQ.SERVER.PING.VARZ inbox %d %d\r\n%b\r\n" % (len(block), len(block), block)
    head, _, payload = world.say(world.system, line).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert json.loads(gzip.decompress(payload[:-2]))["data"]["server_name"] == "here"


# events


def heard(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Take the events that the system client got."""
    found: list[tuple[str, dict[str, Any]]] = []
    data = world.system.received()
    while data:
        line, _, data = data.partition(b"\r\n")
        parts = line.split()
        if parts == [b"PING"]:
            continue
        size = int(parts[-1])
        found.append((parts[1].decode(), json.loads(data[:size])))
        data = data[size + 2 :]
    return found


def test_who_comes_and_goes_is_told(world: World) -> None:
    world.say(world.system, b"SUB $SYS.ACCOUNT.> 2\r\n")
    client = world.user("a", name="x")
    (counted, connections), (connected, event) = heard(world)
    assert (counted, connected) == ("$SYS.ACCOUNT.A.SERVER.CONNS", "$SYS.ACCOUNT.A.CONNECT")
    assert connections["conns"] == 1
    assert event["type"] == "io.nats.server.advisory.v1.client_connect"
    assert event["server"]["name"] == "here"
    assert list(event["client"]) == [
        "start",
        "host",
        "id",
        "acc",
        "user",
        "name",
        "name_tag",
        "kind",
        "client_type",
    ]
    world.say(client, b"PUB foo 3\r\nabc\r\n")
    client.close()
    world.scheduler.settle()
    (_, connections), (disconnected, event) = heard(world)
    assert connections["conns"] == 0
    assert connections["received"]["bytes"] == 3
    assert disconnected == "$SYS.ACCOUNT.A.DISCONNECT"
    assert event["reason"] == "Client Closed"
    assert event["sent"] == {"msgs": 1, "bytes": 3}
    assert "stop" in event["client"]


def test_who_is_not_let_in_is_told(world: World) -> None:
    world.say(world.system, b"SUB $SYS.SERVER.*.CLIENT.AUTH.ERR 2\r\nSUB $SYS.ACCOUNT.*.DISCONNECT 3\r\n")
    world.user("a", **{"pass": "wrong"})
    (error, event), (gone, _) = heard(world)
    assert error == f"$SYS.SERVER.{world.broker.id}.CLIENT.AUTH.ERR"
    assert gone == "$SYS.ACCOUNT.$G.DISCONNECT"
    assert event["reason"] == "Authentication Failure"
    assert event["client"]["user"] == "a"


def test_an_account_s_connections_are_told_every_half_minute_while_there_are_some(world: World) -> None:
    world.say(world.system, b"SUB $SYS.SERVER.ACCOUNT.A.CONNS 2\r\n")
    client = world.user("a")
    assert len(heard(world)) == 1
    world.scheduler.advance(31 * NS_PER_S)
    world.scheduler.settle()
    assert len(heard(world)) == 1
    client.close()
    world.scheduler.settle()
    assert heard(world)[0][1]["conns"] == 0
    world.scheduler.advance(61 * NS_PER_S)
    world.scheduler.settle()
    assert heard(world) == []


def test_statistics_are_told_while_somebody_listens(world: World) -> None:
    world.say(world.system, b"SUB $SYS.SERVER.*.STATSZ 2\r\n")
    for passed_ms, count in ((250, 1), (500, 1), (1000, 1), (20_000, 3)):
        world.scheduler.advance(passed_ms * 1_000_000)
        world.scheduler.settle()
        assert len(heard(world)) == count
    world.say(world.system, b"UNSUB 2\r\n")
    world.scheduler.advance(30 * NS_PER_S)
    assert heard(world) == []


def test_the_end_of_the_server_is_told(world: World) -> None:
    world.say(world.system, b"SUB $SYS.SERVER.> 2\r\n")
    world.broker.announce_lame_duck()
    world.scheduler.settle()
    world.broker.shutdown()
    told = [subject.rsplit(".", 1)[1] for subject, _ in heard(world)]
    assert told == ["LAMEDUCK", "SHUTDOWN"]
