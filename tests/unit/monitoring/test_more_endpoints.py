"""/accountz, /accstatz, /routez and the like, /stacksz, /debug/vars, and /metrics."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JszOptions
from headrace.core.options import AccountOptions, ServerOptions, UserOptions
from unit.monitoring.monitored_world import World

OPTIONS = ServerOptions(
    users=(UserOptions("a", "s3cr3t", account="A"),), accounts=(AccountOptions("A"), AccountOptions("B"))
)


class OneStream:
    """A JetStream with one stream and one consumer."""

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        assert options.limit > 1_000_000, "metrics show all accounts"
        consumer = {
            "name": "c",
            "num_pending": 4,
            "num_ack_pending": 3,
            "num_redelivered": 1,
            "num_waiting": 0,
        }
        state = {"messages": 7, "bytes": 70, "first_seq": 1, "last_seq": 7, "consumer_count": 1}
        stream = {"name": "S", "state": state, "consumer_detail": [consumer]}
        totals = dict.fromkeys(("memory", "storage", "streams", "consumers", "messages", "bytes"), 2)
        return {
            **totals,
            "api": {"total": 9, "errors": 1},
            "account_details": [{"name": "A", "stream_detail": [stream]}],
        }

    def sync_times(self) -> tuple[Sequence[tuple[float, int]], float] | None:
        return [(0.001, 2), (float("inf"), 3)], 0.25

    def problems(self, options: HealthOptions) -> Sequence[HealthProblem]:
        return [HealthProblem("STREAM", "is fenced")]


@pytest.fixture
def world() -> World:
    return World(OPTIONS, OneStream())


def series(world: World) -> dict[tuple[str, tuple[str, ...]], float]:
    response = world.get("/metrics")
    assert (response.status, response.content_type.partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def test_accounts_are_listed_and_described(world: World) -> None:
    world.client(options='{"user":"a","pass":"s3cr3t"}')
    assert world.json("/accountz")["accounts"] == ["$G", "$SYS", "A", "B"]
    assert world.json("/accountz?acc=A")["account_detail"]["client_connections"] == 1
    refused = world.get("/accountz?acc=nope")
    assert (refused.status, refused.body) == (400, b"Account nope does not exist")


def test_statistics_cover_accounts_in_use_or_all(world: World) -> None:
    world.client(options='{"user":"a","pass":"s3cr3t"}')
    assert [one["acc"] for one in world.json("/accstatz")["account_statz"]] == ["A"]
    assert len(world.json("/accstatz?unused=1")["account_statz"]) == 4


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/routez", {"server_id": str, "server_name": str, "now": str, "num_routes": 0, "routes": []}),
        ("/leafz", {"server_id": str, "now": str, "leafnodes": 0, "leafs": []}),
        ("/gatewayz", {"server_id": str, "now": str, "outbound_gateways": {}, "inbound_gateways": {}}),
        ("/ipqueuesz", {}),
    ],
)
def test_features_that_join_servers_are_shown_as_unused(
    world: World, path: str, fields: dict[str, Any]
) -> None:
    shown = world.json(path)
    assert list(shown) == list(fields)
    assert all(expected is str or shown[name] == expected for name, expected in fields.items())


def test_there_are_no_raft_groups(world: World) -> None:
    response = world.get("/raftz")
    assert (response.status, response.body) == (404, b"No Raft nodes registered")


def test_stacks_name_the_thread_that_answers(world: World) -> None:
    assert b"test_stacks_name_the_thread_that_answers" in world.get("/stacksz").body


def test_the_command_line_is_shown_without_what_it_was_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/headrace-server", "--pass", "s3cr3t"])
    shown = world.json("/debug/vars")
    assert shown["cmdline"] == ["headrace-server"]
    assert shown["memstats"]["Sys"] == 12_345_678


def test_metrics_have_broker_stream_and_consumer_series(world: World) -> None:
    world.client("PUB x 2", "hi", options='{"user":"a","pass":"s3cr3t"}')
    found = series(world)
    assert found["headrace_connections", ()] == 1
    assert found["headrace_messages_received_total", ()] == 1
    assert found["headrace_bytes_received_total", ()] == 2
    assert found["headrace_stream_messages", ("A", "S")] == 7
    assert found["headrace_consumer_num_pending", ("A", "c", "S")] == 4
    assert found["headrace_jetstream_api_errors_total", ()] == 1
    assert found["headrace_jetstream_problems", ()] == 1


def test_metrics_do_without_jetstream() -> None:
    assert not any(name.startswith("headrace_jetstream") for name, _ in series(World(ServerOptions())))


@pytest.mark.parametrize(
    "path",
    ["/varz", "/connz?auth=1&state=any", "/accountz?acc=A", "/accstatz", "/metrics", "/debug/vars", "/"],
)
def test_no_output_holds_a_password(path: str) -> None:
    world = World(OPTIONS)
    world.client(options='{"user":"a","pass":"s3cr3t"}')
    response = world.get(path)
    assert response.status == 200
    assert b"s3cr3t" not in response.body


def test_metrics_tell_how_long_the_disk_takes(world: World) -> None:
    found = series(world)
    assert found["headrace_sync_seconds_bucket", ("0.001",)] == 2
    assert found["headrace_sync_seconds_bucket", ("+Inf",)] == 3
    assert found["headrace_sync_seconds_count", ()] == 3
    assert found["headrace_sync_seconds_sum", ()] == 0.25
