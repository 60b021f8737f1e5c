"""A whole server in one test: real parts, virtual time, one seed."""

import json
import time

import pytest

from headrace.core.options import ServerOptions, UserOptions
from headrace.testing import NoAnswer, Refused, VirtualDisk, VirtualServer


def test_a_message_goes_from_one_client_to_another() -> None:
    with VirtualServer() as server:
        alice, bob = server.connect(), server.connect()
        orders = bob.subscribe("orders.*")
        alice.publish("orders.new", b"one", headers={"Color": "red"})
        (frame,) = orders.take()
        assert frame.payload == b"one"
        assert frame.header("Color") == "red"
        assert orders.take() == []


def test_a_limited_subscription_ends() -> None:
    with VirtualServer() as server:
        client = server.connect()
        subscription = client.subscribe("a", limit=2)
        client.publish_all([("a", b"1"), ("a", b"2"), ("a", b"3")])
        assert subscription.payloads() == [b"1", b"2"]


def test_a_request_is_answered_by_whoever_subscribes() -> None:
    with VirtualServer() as server:
        client = server.connect()
        assert client.request("nobody").status == "503"
        client.subscribe("silent")
        started_ns = server.now_ns()
        with pytest.raises(NoAnswer):
            client.request("silent", timeout_s=2)
        assert server.now_ns() - started_ns >= 2_000_000_000


def test_the_greeting_is_the_first_frame_of_a_raw_client() -> None:
    with VirtualServer(jetstream=False) as server:
        client = server.connect_raw()
        client.record = bytearray()
        (greeting,) = client.frames()
        assert json.loads(greeting.text)["headers"] is True
        client.send(b"PING\r\n")
        assert bytes(client.record) == b"PONG\r\n"


def test_a_wrong_password_closes_the_connection() -> None:
    options = ServerOptions(users=(UserOptions("anna", "apple"),))
    with VirtualServer(options=options) as server:
        assert not server.connect(user="anna", **{"pass": "apple"}).is_closed
        assert server.connect(user="anna", **{"pass": "pear"}).is_closed


def test_a_day_passes_in_no_time_and_pings_are_answered() -> None:
    with VirtualServer() as server:
        client = server.connect()
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "max_age": 43_200 * 10**9})
        assert [client.store("s", b"x") for _ in range(3)] == [1, 2, 3]
        started = time.perf_counter()
        server.advance(86_400)
        assert time.perf_counter() - started < 2
        assert client.api("STREAM.INFO.S")["state"]["messages"] == 0
        assert not client.is_closed


def test_a_silent_client_is_stale_when_its_time_has_come() -> None:
    with VirtualServer(options=ServerOptions(ping_interval_ns=10**9, ping_max=2)) as server:
        client = server.connect()
        client.answers_pings = False
        server.advance(10)
        assert client.is_closed
        assert [frame.operation for frame in client.frames()] == ["PING", "PING", "-ERR"]


def test_an_unacknowledged_message_comes_again_after_its_wait() -> None:
    with VirtualServer() as server:
        client = server.connect()
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
        config = {"durable_name": "C", "ack_policy": "explicit", "ack_wait": 30 * 10**9}
        client.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})
        client.store("s", b"x")
        inbox = client.subscribe("inbox")
        client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", b"2", reply="inbox")
        assert inbox.payloads() == [b"x"]
        server.advance(29)
        assert inbox.payloads() == []
        server.advance(2)
        assert inbox.payloads() == [b"x"]


def test_a_refusal_carries_the_servers_words() -> None:
    with VirtualServer() as server, pytest.raises(Refused, match="stream not found") as refusal:
        server.connect().api("STREAM.INFO.NONE")
    assert (refusal.value.code, refusal.value.err_code) == (404, 10059)


def test_the_same_seed_gives_the_same_bytes() -> None:
    def play(seed: int) -> bytes:
        with VirtualServer(seed=seed) as server:
            client = server.connect_raw()
            client.record = bytearray()
            client.send(b'CONNECT {"verbose":false,"headers":true}\r\nPING\r\n')
            client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"]})
            client.api("CONSUMER.CREATE.S", {"stream_name": "S", "config": {"ack_policy": "explicit"}})
            for _ in range(20):
                client.store("s.1", b"x")
            client.api("STREAM.INFO.S")
            return bytes(client.record)

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_after_a_crash_nothing_of_the_old_server_speaks() -> None:
    with VirtualServer() as server:
        client = server.connect()
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
        server.crash()
        assert client.is_closed
        server.restart()
        with pytest.raises(Refused, match="stream not found"):
            server.connect().api("STREAM.INFO.S")


@pytest.mark.parametrize("power_cut", [False, True])
def test_what_is_on_disk_outlives_a_crash(power_cut: bool) -> None:
    with VirtualServer(disk=VirtualDisk()) as server:
        client = server.connect()
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
        assert [client.store("s", b"%d" % number) for number in range(5)] == [1, 2, 3, 4, 5]
        server.crash(power_cut=power_cut)
        server.restart()
        client = server.connect()
        assert client.api("STREAM.INFO.S")["state"]["messages"] == 5
        assert client.store("s", b"x", headers={"Nats-Expected-Last-Sequence": "5"}) == 6


def test_a_full_disk_refuses_and_says_so() -> None:
    with VirtualServer(disk=VirtualDisk(capacity=8 * 1024 * 1024)) as server:
        client = server.connect()
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})

        def store_until_full() -> None:
            for _ in range(100):
                client.store("s", b"x" * 500_000)

        with pytest.raises(Refused):
            store_until_full()
        assert 0 < client.api("STREAM.INFO.S")["state"]["messages"] < 17
