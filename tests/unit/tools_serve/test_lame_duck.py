"""Lame duck mode, in virtual time."""

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.core.broker import Broker
from headrace.core.log import MemorySink, make_logger
from headrace.core.options import ServerOptions
from headrace.core.transport.memory import MemoryClient, connect
from headrace.tools.lame_duck import SPACING_MAX_NS, LameDuck

GRACE_NS = 10 * NS_PER_S
DURATION_NS = 40 * NS_PER_S


class Pond:
    """A server that may go, and its clients."""

    def __init__(self) -> None:
        self.scheduler = VirtualScheduler()
        self.sink = MemorySink()
        options = ServerOptions(lame_duck_grace_period_ns=GRACE_NS, lame_duck_duration_ns=DURATION_NS)
        log = make_logger(self.sink, self.scheduler)
        self.broker = Broker(options, scheduler=self.scheduler, chance=Chance(1), log=log)
        self.done_at_ns: list[int] = []
        self.duck = LameDuck(self.broker, lambda: self.done_at_ns.append(self.scheduler.monotonic_ns()))

    def client(self) -> MemoryClient:
        client = connect(self.broker, self.scheduler)
        client.send(b'CONNECT {"protocol":1}\r\nPING\r\n')
        self.scheduler.settle()
        client.received()
        return client


def test_without_clients_it_is_done_at_once() -> None:
    pond = Pond()
    pond.duck.start()
    assert pond.done_at_ns == [0]


def test_clients_are_told_and_new_ones_are_not_taken() -> None:
    pond = Pond()
    client = pond.client()
    pond.duck.start()
    pond.scheduler.settle()
    told = client.received()
    assert told.startswith(b"INFO ")
    assert b'"ldm":true' in told
    late = connect(pond.broker, pond.scheduler)
    pond.scheduler.settle()
    assert late.is_closed


def test_it_is_done_soon_after_the_last_client_left_by_itself() -> None:
    pond = Pond()
    client = pond.client()
    pond.duck.start()
    pond.scheduler.advance(NS_PER_S)
    client.close()
    pond.scheduler.advance(NS_PER_S)
    [done_at_ns] = pond.done_at_ns
    assert NS_PER_S <= done_at_ns <= NS_PER_S * 5 // 4


def test_nobody_is_closed_within_the_grace_period() -> None:
    pond = Pond()
    clients = [pond.client() for _ in range(3)]
    pond.duck.start()
    pond.scheduler.advance(GRACE_NS - 1)
    assert not any(client.is_closed for client in clients)
    assert pond.done_at_ns == []


def test_afterwards_clients_are_closed_one_by_one_at_most_a_second_apart() -> None:
    pond = Pond()
    clients = [pond.client() for _ in range(20)]
    pond.duck.start()
    pond.scheduler.advance(GRACE_NS)
    assert sum(client.is_closed for client in clients) == 1
    assert "Closing existing clients" in "".join(pond.sink.lines)
    closed_before = 1
    while not pond.done_at_ns:
        pond.scheduler.advance(SPACING_MAX_NS + 1)
        closed = sum(client.is_closed for client in clients)
        assert closed > closed_before or pond.done_at_ns
        closed_before = closed
    assert all(client.is_closed for client in clients)
    assert pond.done_at_ns[0] <= DURATION_NS
    assert b"-ERR" not in clients[-1].received()


def test_many_clients_are_all_closed_within_the_duration() -> None:
    pond = Pond()
    clients = [pond.client() for _ in range(500)]
    pond.duck.start()
    pond.scheduler.advance(DURATION_NS + NS_PER_S)
    assert all(client.is_closed for client in clients)
    assert len(pond.done_at_ns) == 1
