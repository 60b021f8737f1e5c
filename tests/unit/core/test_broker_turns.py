"""The broker: turns, totals, limits of connections, lame duck mode and the bus."""

import base64
import binascii

import pytest

from core_lab import BrokerLab, Collector, info_of
from headrace.core.base.chance import Chance
from headrace.core.base.message import Batch, View
from headrace.core.broker import make_server_id
from headrace.core.engine.interface import Outcome
from headrace.core.options import AccountOptions, ServerOptions, UserOptions


def test_a_server_id_has_the_form_of_a_servers_public_key() -> None:
    identity = make_server_id(Chance(3))
    raw = base64.b32decode(identity)
    assert len(identity) == 56
    assert identity.startswith("N")
    assert binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little")
    assert make_server_id(Chance(4)) != identity


def test_a_server_is_named_by_its_options_or_by_its_id() -> None:
    assert BrokerLab(ServerOptions(server_name="one")).broker.name == "one"
    unnamed = BrokerLab().broker
    assert unnamed.name == unnamed.id


def test_totals_cover_connections_that_have_gone() -> None:
    lab = BrokerLab()
    first = lab.connected()
    second = lab.connected()
    lab.say(first, b"SUB a 1\r\n")
    lab.say(second, b"PUB a 5\r\nhello\r\n")
    first.close()
    lab.scheduler.settle()
    stats = lab.broker.stats
    assert (stats.in_messages, stats.in_bytes, stats.out_messages, stats.out_bytes) == (1, 5, 1, 5)
    assert stats.total_connections == 2
    assert lab.broker.connection_count == 1


def test_no_more_connections_than_allowed_are_kept() -> None:
    lab = BrokerLab(ServerOptions(max_connections=1))
    first = lab.client()
    second = lab.client()
    info, error, _ = second.received().split(b"\r\n")
    assert info_of(info)["client_id"] == 2
    assert error == b"-ERR 'maximum connections exceeded'"
    assert second.is_closed
    assert not first.is_closed
    assert lab.broker.closed_records()[0].reason == "Maximum Connections Exceeded"


def test_sinks_run_before_hooks_and_output_goes_out_after_both() -> None:
    lab = BrokerLab()
    order: list[str] = []
    client = lab.connected()

    class Sink:
        def on_messages(self, batch: Batch) -> None:
            order.append(f"sink {len(batch)}")

    lab.broker.bus.capture("$G", b"s", Sink())
    lab.broker.bus.at_turn_end(lambda: order.append(f"hook {client.received()!r}"))
    client.send(b"SUB s 1\r\nPUB s 1\r\nx\r\nPUB s 1\r\ny\r\n")
    lab.scheduler.settle()
    assert order == ["sink 2", "hook b''"]
    assert client.received() == b"MSG s 1 1\r\nx\r\nMSG s 1 1\r\ny\r\n"


def test_what_a_sink_publishes_reaches_other_sinks_in_the_same_turn_but_not_at_once() -> None:
    lab = BrokerLab()
    bus = lab.broker.bus
    last = Collector()
    depth: list[int] = []

    class Relay:
        def on_messages(self, batch: Batch) -> None:
            for message in batch:
                bus.publish("$G", b"out", message.payload + b"!")
                depth.append(len(last.messages))

    bus.capture("$G", b"in", Relay())
    bus.capture("$G", b"out", last)
    client = lab.connected()
    assert lab.say(client, b"SUB out 1\r\nPUB in 1\r\nx\r\n") == b"MSG out 1 2\r\nx!\r\n"
    assert depth == [0]
    assert [message.payload for message in last.messages] == [b"x!"]


def test_sinks_that_feed_each_other_forever_do_not_stop_the_server() -> None:
    lab = BrokerLab()
    bus = lab.broker.bus
    count = 0

    class Loop:
        def on_messages(self, _batch: Batch) -> None:
            nonlocal count
            count += 1
            if count < 100:
                bus.publish("$G", b"loop", b"")

    bus.capture("$G", b"loop", Loop())
    client = lab.connected()
    assert lab.say(client, b"PUB loop 0\r\n\r\nPING\r\n") == b"PONG\r\n"
    assert count == 100


def test_a_hook_that_fails_does_not_hold_back_output() -> None:
    lab = BrokerLab()
    client = lab.connected()

    def fail() -> None:
        raise ValueError("a hook's own mistake")

    lab.broker.at_turn_end(fail)
    client.send(b"PING\r\n")
    with pytest.raises(ValueError, match="own mistake"):
        lab.scheduler.settle()
    assert client.received() == b"PONG\r\n"


def test_the_bus_tells_who_a_caller_is_and_holds_it() -> None:
    lab = BrokerLab(ServerOptions(users=(UserOptions("a", "pw", "A"),), accounts=(AccountOptions("A"),)))
    client = lab.connected(user="a", name="me", **{"pass": "pw"})
    bus = lab.broker.bus
    caller = bus.caller(1)
    assert caller is not None
    assert (caller.account, caller.user, caller.name, caller.host) == ("A", "a", "me", "127.0.0.1")
    assert bus.caller(99) is None
    bus.hold(1)
    bus.hold(1)
    bus.hold(99)
    bus.release(1)
    assert lab.say(client, b"PING\r\n") == b""
    bus.release(1)
    bus.release(99)
    lab.scheduler.settle()
    assert client.received() == b"PONG\r\n"


def test_the_bus_publishes_delivers_answers_and_sees_interest() -> None:
    lab = BrokerLab()
    bus = lab.broker.bus
    heard: list[bool] = []
    rooms: list[None] = []
    bus.on_room(lambda: rooms.append(None))
    bus.watch_interest("$G", b"inbox", heard.append)
    sink = Collector()
    bus.capture("$G", b"s", sink)
    client = lab.connected()
    lab.say(client, b"SUB inbox 1\r\nSUB r 2\r\nPUB s r 0\r\n\r\n")
    assert heard == [True]
    assert bus.has_interest("$G", b"inbox")
    bus.publish("$G", b"inbox", b"hi")
    assert bus.deliver("$G", b"inbox", [View(1, 0, b"s", b"", b"x")], [b"ack"]).outcome is Outcome.DELIVERED
    bus.answer("$G", sink.batches[0], b"#", 7, b"")
    bus.request_turn()
    lab.scheduler.settle()
    assert client.received() == b"MSG inbox 1 2\r\nhi\r\nMSG s 1 ack 1\r\nx\r\nMSG r 2 2\r\n#7\r\n"


def test_lame_duck_tells_clients_that_listen_and_takes_no_new_ones() -> None:
    lab = BrokerLab()
    modern = lab.connected(protocol=1)
    old = lab.connected(protocol=0)
    for client in (modern, old):
        lab.say(client, b"PING\r\n")
    lab.broker.announce_lame_duck()
    lab.scheduler.settle()
    assert info_of(modern.received())["ldm"] is True
    assert old.received() == b""
    late = lab.client()
    assert late.is_closed
    assert lab.broker.close_session(1)
    assert not lab.broker.close_session(1)
    assert modern.is_closed
    assert lab.broker.closed_records()[-1].reason == "Server Shutdown"


def test_a_shutdown_sends_what_is_queued_and_closes_all() -> None:
    lab = BrokerLab()
    clients = [lab.connected() for _ in range(3)]
    lab.say(clients[0], b"SUB a 1\r\n")
    lab.broker.bus.publish("$G", b"a", b"last")
    lab.broker.shutdown()
    assert clients[0].received() == b"MSG a 1 4\r\nlast\r\n"
    assert all(client.is_closed for client in clients)
    assert lab.broker.connection_count == 0
    assert lab.broker.session(1) is None


def test_a_new_configuration_counts_for_those_who_come_then() -> None:
    lab = BrokerLab()
    lab.broker.set_listening("127.0.0.1", 4333)
    lab.broker.set_jetstream(enabled=True, domain="hub")
    lab.broker.reconfigure(ServerOptions(token="t", max_payload=100))
    told = info_of(lab.client().received())
    assert (told["auth_required"], told["max_payload"], told["port"]) == (True, 100, 4333)
    assert (told["jetstream"], told["domain"]) == (True, "hub")


def test_records_of_open_connections_may_list_their_subscriptions() -> None:
    lab = BrokerLab()
    lab.say(lab.connected(), b"SUB a 1\r\n")
    (brief,) = lab.broker.open_records()
    (full,) = lab.broker.open_records(subscriptions=True)
    assert (brief.subscription_count, brief.subscriptions) == (1, ())
    assert [info.subject for info in full.subscriptions] == [b"a"]
