"""What each endpoint shows. Field names are those of the reference, compared one by one."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JszOptions
from headrace.core.options import ServerOptions, UserOptions
from unit.monitoring.monitored_world import World

VARZ_FIELDS = set(
    """
    server_id server_name version proto go host port max_connections ping_interval ping_max http_host http_port
    http_base_path https_port auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt websocket
    jetstream tls_timeout write_deadline start now uptime mem cores gomaxprocs cpu connections total_connections routes
    remotes leafnodes in_msgs in_bytes in_client_msgs in_client_bytes out_msgs out_bytes out_client_msgs
    out_client_bytes slow_consumers stale_connections stalled_clients subscriptions http_req_stats config_load_time
    config_digest system_account slow_consumer_stats stale_connection_stats
    """.split()  # noqa: SIM905  (a list of its own lines would hide the table)
)
OURS = {"headrace", "headrace_engine"}
CONNECTION_FIELDS = set(
    """
    cid kind type ip port start last_activity rtt uptime idle pending_bytes in_msgs out_msgs in_bytes out_bytes
    subscriptions name lang version
    """.split()  # noqa: SIM905  (as above)
)

CONNECT = '{"name":"n","lang":"python3","version":"2.0","headers":true}'


@pytest.fixture
def world() -> World:
    return World(ServerOptions(server_name="w"))


def test_varz_has_the_references_fields_and_names_its_own(world: World) -> None:
    shown = world.json("/varz")
    assert set(shown) == VARZ_FIELDS | OURS
    assert (shown["version"], shown["server_name"], shown["mem"], shown["cores"]) == (
        "2.15.1",
        "w",
        12_345_678,
        4,
    )
    assert (shown["http_host"], shown["http_port"], shown["config_digest"]) == (
        "127.0.0.1",
        8222,
        "sha256:ab",
    )


def test_varz_shows_optional_fields_when_they_are_set() -> None:
    options = ServerOptions(
        users=(UserOptions("u", "p"),),
        max_subscriptions=9,
        tags=("a",),
        metadata={"k": "v"},
        auth_timeout_ns=500_000_000,
    )
    shown = World(options).json("/varz")
    assert shown["auth_required"] is True
    assert (shown["max_subscriptions"], shown["tags"], shown["metadata"]) == (9, ["a"], {"k": "v"})
    assert shown["auth_timeout"] == 0.5


def test_varz_counts_messages_connections_and_requests(world: World) -> None:
    world.client("SUB x 1", "PUB x 2\r\nhi")
    world.client().close()
    world.scheduler.advance(65_000_000_000)
    world.json("/varz")
    shown = world.json("/varz")
    assert (shown["in_msgs"], shown["in_bytes"], shown["out_msgs"], shown["out_bytes"]) == (1, 2, 1, 2)
    assert (shown["connections"], shown["total_connections"], shown["subscriptions"]) == (1, 2, 1)
    assert shown["uptime"] == "1m5s"
    assert shown["http_req_stats"] == {"/varz": 2}


def test_connz_shows_connections_with_the_references_fields(world: World) -> None:
    world.client("SUB x.> q 7", "SUB a 8", "UNSUB 8 5", "PUB x.y 2\r\nhi", options=CONNECT)
    body = world.json("/connz")
    assert {name: body[name] for name in ("num_connections", "total", "offset", "limit")} == {
        "num_connections": 1,
        "total": 1,
        "offset": 0,
        "limit": 1024,
    }
    [shown] = body["connections"]
    assert set(shown) == CONNECTION_FIELDS
    assert (shown["cid"], shown["ip"], shown["port"], shown["subscriptions"]) == (1, "127.0.0.1", 50_001, 2)
    assert (shown["name"], shown["lang"], shown["version"]) == ("n", "python3", "2.0")


def test_connz_lists_subscriptions_when_asked(world: World) -> None:
    world.client("SUB x.> q 7", "SUB a 8", "UNSUB 8 5", "PUB x.y 2\r\nhi")
    [shown] = world.json("/connz?subs=1")["connections"]
    assert shown["subscriptions_list"] == ["a", "x.>"]
    [shown] = world.json("/connz?subs=detail")["connections"]
    assert shown["subscriptions_list_detail"] == [
        {"subject": "a", "sid": "8", "msgs": 0, "max": 5, "cid": 1},
        {"subject": "x.>", "qgroup": "q", "sid": "7", "msgs": 1, "cid": 1},
    ]


def test_connz_shows_who_logged_in_only_when_asked() -> None:
    world = World(ServerOptions(users=(UserOptions("u", "p", "A"),)))
    world.client(options='{"user":"u","pass":"p"}')
    [shown] = world.json("/connz?auth=1")["connections"]
    assert (shown["authorized_user"], shown["account"], shown["name_tag"]) == ("u", "A", "A")
    assert "authorized_user" not in world.json("/connz")["connections"][0]


def test_connz_remembers_closed_connections_and_why(world: World) -> None:
    world.client()
    client = world.client()
    client.close()
    world.scheduler.settle()
    [shown] = world.json("/connz?state=closed&sort=stop")["connections"]
    assert (shown["cid"], shown["reason"]) == (2, "Client Closed")
    assert shown["stop"]
    assert [one["cid"] for one in world.json("/connz?state=any")["connections"]] == [1, 2]
    assert world.json("/connz?state=ALL")["total"] == 2
    assert world.json("/connz")["total"] == 1


def test_connz_filters_by_connection_user_and_account() -> None:
    world = World(ServerOptions(users=(UserOptions("u", "p", "A"), UserOptions("v", "p", "B"))))
    world.client(options='{"user":"u","pass":"p"}')
    world.client(options='{"user":"v","pass":"p"}')
    assert [one["cid"] for one in world.json("/connz?user=v")["connections"]] == [2]
    assert [one["cid"] for one in world.json("/connz?acc=A")["connections"]] == [1]
    body = world.json("/connz?cid=2")
    assert ([one["cid"] for one in body["connections"]], body["limit"]) == ([2], 1)
    body = world.json("/connz?cid=9")
    assert (body["connections"], body["total"]) == ([], 2)


@pytest.mark.parametrize(
    ("sort", "cids"),
    [
        ("cid", [1, 2, 3]),
        ("start", [1, 2, 3]),
        ("subs", [3, 1, 2]),
        ("msgs_from", [2, 1, 3]),
        ("bytes_from", [2, 1, 3]),
        ("msgs_to", [3, 1, 2]),
        ("bytes_to", [3, 1, 2]),
        ("last", [3, 2, 1]),
        ("idle", [1, 2, 3]),
        ("uptime", [3, 2, 1]),
        ("pending", [1, 2, 3]),
    ],
)
def test_connz_sorts_numbers_down_and_names_and_ages_up(world: World, sort: str, cids: list[int]) -> None:
    world.client()
    world.scheduler.advance(1_000_000_000)
    world.client("PUB s 1\r\n1", "PUB s 1\r\n2")
    world.scheduler.advance(1_000_000_000)
    world.client("SUB a 1", "SUB b 2", "PUB b 0\r\n")
    world.client().close()
    world.scheduler.settle()
    if sort in {"msgs_from", "bytes_from"}:
        world.broker.sessions[0].connection.in_messages += 1
        world.broker.sessions[0].connection.in_bytes += 1
    if sort in {"msgs_to", "bytes_to"}:
        world.broker.sessions[2].connection.out_bytes += 1
    assert [one["cid"] for one in world.json(f"/connz?sort={sort}")["connections"]] == cids


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/connz?sort=bogus", "invalid sorting option: bogus"),
        ("/connz?sort=stop", "sort by stop only valid on closed connections"),
        ("/connz?sort=reason&state=any", "sort by reason only valid on closed connections"),
        ("/connz?state=zzz", "Error decoding state for zzz"),
        ("/connz?limit=x", "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("/subsz?test=a..b", "invalid test subject, must be valid publish subject: a..b"),
        ("/subsz?test=a.*", "invalid test subject, must be valid publish subject: a.*"),
        (
            "/jsz?streams=m",
            "Error decoding boolean for 'streams': strconv.ParseBool: parsing \"m\": invalid syntax",
        ),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(world: World, target: str, text: str) -> None:
    response = world.get(target)
    assert (response.status, response.body.decode()) == (400, text)
    assert response.content_type.startswith("text/plain")


def test_subsz_counts_and_lists_on_request(world: World) -> None:
    world.client("SUB b 1", "SUB a.* q 2")
    body = world.json("/subsz")
    assert (body["num_subscriptions"], body["total"]) == (2, 0)
    assert "subscriptions_list" not in body
    body = world.json("/subscriptionsz?subs=1")
    assert body["subscriptions_list"] == [
        {
            "account": "$G",
            "account_tag": "$G",
            "subject": "a.*",
            "qgroup": "q",
            "sid": "2",
            "msgs": 0,
            "cid": 1,
        },
        {"account": "$G", "account_tag": "$G", "subject": "b", "sid": "1", "msgs": 0, "cid": 1},
    ]
    body = world.json("/subsz?subs=1&test=a.x")
    assert [one["subject"] for one in body["subscriptions_list"]] == ["a.*"]
    body = world.json("/subsz?subs=1&limit=1&offset=1")
    assert ([one["subject"] for one in body["subscriptions_list"]], body["total"]) == (["b"], 2)
    assert world.json("/subsz?subs=1&acc=X")["total"] == 0


def test_jsz_without_jetstream_says_disabled(world: World) -> None:
    body = world.json("/jsz")
    assert body["disabled"] is True
    assert (body["streams"], body["api"]) == (0, {"level": 0, "total": 0, "errors": 0})


class OneProblem:
    """A JetStream with at most one problem, that remembers what it was asked."""

    def __init__(self, *problems: HealthProblem) -> None:
        self.asked: list[JszOptions] = []
        self._problems = problems

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        self.asked.append(options)
        return {"streams": 3, "memory": 1, "api": {"level": 5}, "config": {"store_dir": "/s"}}

    def sync_times(self) -> tuple[Sequence[tuple[float, int]], float] | None:
        return None

    def problems(self, options: HealthOptions) -> Sequence[HealthProblem]:
        return [] if options.is_server_only else self._problems


def test_jsz_hands_its_parameters_on() -> None:
    jetstream = OneProblem()
    world = World(ServerOptions(), jetstream)
    body = world.json("/jsz?consumers=1&config=true&acc=A&limit=5&offset=1")
    assert (body["streams"], body["memory"], body["server_id"]) == (3, 1, world.broker.id)
    [asked] = jetstream.asked
    assert asked == JszOptions(
        "A", accounts=True, streams=True, consumers=True, config=True, offset=1, limit=5
    )


def test_varz_shows_jetstreams_settings_and_use() -> None:
    shown = World(ServerOptions(), OneProblem()).json("/varz")["jetstream"]
    assert shown == {"config": {"store_dir": "/s"}, "stats": {"memory": 1, "api": {"level": 5}}, "limits": {}}


def test_healthz_is_ok_without_jetstream(world: World) -> None:
    response = world.get("/healthz?details=1")
    assert (response.status, response.body) == (200, b'{"status":"ok"}')


def test_healthz_tells_of_a_fenced_log() -> None:
    problem = HealthProblem("STREAM", "disk on fire", {"account": "$G", "stream": "S"})
    world = World(ServerOptions(), OneProblem(problem))
    response = world.get("/healthz")
    assert (response.status, json.loads(response.body)) == (
        503,
        {"status": "unavailable", "error": "disk on fire"},
    )
    response = world.get("/healthz?details=true")
    assert json.loads(response.body) == {
        "status": "error",
        "errors": [{"type": "STREAM", "account": "$G", "stream": "S", "error": "disk on fire"}],
    }
    assert "disk on fire" in world.get("/").body.decode()


def test_healthz_warns_of_what_no_restart_mends_and_stays_ok() -> None:
    problem = HealthProblem("STREAM", "messages are lost", {"account": "$G", "stream": "S"}, 200)
    assert World(ServerOptions(), OneProblem(problem)).json("/healthz") == {
        "status": "ok",
        "warnings": [{"type": "STREAM", "account": "$G", "stream": "S", "warning": "messages are lost"}],
    }
    fenced = HealthProblem("STREAM", "disk on fire")
    assert World(ServerOptions(), OneProblem(problem, fenced)).get("/healthz").status == 503


def test_healthz_can_be_asked_for_less() -> None:
    world = World(ServerOptions(), OneProblem(HealthProblem("STREAM", "x")))
    assert world.get("/healthz?js-enabled-only=1").status == 200
    assert world.get("/healthz?js-server-only=true").status == 200


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        (
            "/healthz?stream=S",
            400,
            {"status": "error", "error": '"account" must not be empty when checking stream health'},
        ),
        (
            "/healthz?account=A&consumer=C",
            400,
            {"status": "error", "error": '"stream" must not be empty when checking consumer health'},
        ),
    ],
)
def test_healthz_refuses_half_a_question(
    world: World, target: str, status: int, body: dict[str, str]
) -> None:
    response = world.get(target)
    assert (response.status, json.loads(response.body)) == (status, body)


def test_healthz_fails_before_clients_can_connect(world: World) -> None:
    world.monitor.is_listening = False
    response = world.get("/healthz")
    assert (response.status, json.loads(response.body)["status"]) == (500, "error")


def test_an_unknown_path_is_not_found(world: World) -> None:
    response = world.get("/nope")
    assert (response.status, response.body) == (404, b"404 page not found\n")


def test_the_page_shows_what_a_person_wants_to_know_and_escapes_it() -> None:
    world = World(ServerOptions(server_name="<b>&"))
    response = world.get("/")
    text = response.body.decode()
    assert response.content_type == "text/html; charset=utf-8"
    assert "&lt;b&gt;&amp;" in text
    assert "<b>&" not in text
    for said in ("plain", "Up for", "Connections", 'href="./varz"', '<html lang="en">'):
        assert said in text
    assert "http://" not in text
    assert "https://" not in text


def test_paths_lie_below_the_base_path_and_links_hold_there() -> None:
    world = World(ServerOptions(monitor_base_path="/x/"))
    assert world.get("/x/varz").status == 200
    assert 'href="./varz"' in world.get("/x/").body.decode()
    assert 'href="./x/varz"' in world.get("/x").body.decode()
    assert 'href="./x/varz"' in world.get("/").body.decode()
