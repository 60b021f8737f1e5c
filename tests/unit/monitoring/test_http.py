"""HTTP as monitoring speaks it: bounded in time, size and number."""

import asyncio
from typing import Any, cast

import pytest

from headrace.core.base.clock import VirtualScheduler
from headrace.core.monitoring.http import (
    CONNECTIONS_MAX,
    REQUEST_SIZE_MAX,
    REQUEST_TIMEOUT_NS,
    HttpConnection,
    Request,
    Response,
    parse_target,
)


class Wire:
    """The transport that a connection writes to."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = False
        self.is_aborted = False
        self.is_paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Peer:
    """A client of one connection."""

    def __init__(self, scheduler: VirtualScheduler, peers: set[HttpConnection] | None = None) -> None:
        self.asked: list[Request] = []
        self.wire = Wire()
        self.connection = HttpConnection(self._answer, scheduler, set() if peers is None else peers)
        self.connection.connection_made(cast("asyncio.Transport", self.wire))

    def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(b'{"a":1}')

    def send(self, data: bytes) -> bytes:
        """Send, and give what has come back since the last time."""
        self.connection.data_received(data)
        sent, self.wire.sent = self.wire.sent, b""
        return sent


@pytest.fixture
def scheduler() -> VirtualScheduler:
    return VirtualScheduler()


GET = b"GET /varz?a=1&a=2&b= HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_get_is_answered_with_its_length_and_type(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    answer = peer.send(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 7\r\n" in answer
    assert b"Content-Type: application/json\r\n" in answer
    assert answer.endswith(b'\r\n\r\n{"a":1}')
    assert peer.asked == [Request("/varz", {"a": "2", "b": ""})]


def test_a_connection_is_kept_for_more_requests(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    peer.send(GET)
    assert peer.send(GET).count(b"200 OK") == 1
    assert peer.send(GET + GET).count(b"200 OK") == 2
    assert not peer.wire.is_closed


def test_a_request_may_come_in_any_pieces(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    answer = b"".join(peer.send(GET[at : at + 1]) for at in range(len(GET)))
    assert answer.count(b"200 OK") == 1


@pytest.mark.parametrize(
    "request_head", [b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_a_connection_closes_after_the_answer_when_the_client_wants_it(
    scheduler: VirtualScheduler, request_head: bytes
) -> None:
    peer = Peer(scheduler)
    assert b"200 OK" in peer.send(request_head)
    assert peer.wire.is_closed
    assert not peer.wire.is_aborted


def test_a_head_is_answered_without_a_body(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    answer = peer.send(GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length: 7\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert b"200 OK" in peer.send(GET)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS"])
def test_other_methods_are_refused(scheduler: VirtualScheduler, method: bytes) -> None:
    peer = Peer(scheduler)
    answer = peer.send(GET.replace(b"GET", method))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD\r\n" in answer
    assert peer.asked == []


def test_what_is_no_http_is_refused_and_closed(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    assert peer.send(b"CONNECT {}\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert peer.wire.is_closed


def test_a_head_that_is_too_long_is_refused_and_closed(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    answer = peer.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * (REQUEST_SIZE_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert peer.wire.is_closed


def test_a_body_that_is_too_long_is_refused_and_closed(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    head = b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
    assert peer.send(head) == b""
    assert peer.send(b"x" * (REQUEST_SIZE_MAX + 1)).startswith(b"HTTP/1.1 413 ")
    assert peer.wire.is_closed


def test_too_many_parameters_are_refused(scheduler: VirtualScheduler) -> None:
    query = b"&".join(b"a%d=1" % number for number in range(200))
    assert (
        Peer(scheduler).send(b"GET /?" + query + b" HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    )


def test_a_client_that_takes_too_long_is_cut_off(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    for _ in range(5):
        peer.send(b"GET"[:1])
        scheduler.advance(REQUEST_TIMEOUT_NS // 5)
    assert peer.wire.is_aborted


def test_a_client_that_asks_again_in_time_is_kept(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    for _ in range(5):
        scheduler.advance(REQUEST_TIMEOUT_NS - 1)
        peer.send(GET)
    assert not peer.wire.is_closed


def test_a_client_that_does_not_read_its_answer_is_neither_read_nor_kept(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    peer.send(GET)
    peer.connection.pause_writing()
    assert peer.wire.is_paused
    peer.connection.resume_writing()
    assert not peer.wire.is_paused
    peer.connection.pause_writing()
    scheduler.advance(REQUEST_TIMEOUT_NS)
    assert peer.wire.is_aborted


def test_a_connection_too_many_is_closed(scheduler: VirtualScheduler) -> None:
    peers: set[HttpConnection] = set()
    for _ in range(CONNECTIONS_MAX):
        assert not Peer(scheduler, peers).wire.is_closed
    late = Peer(scheduler, peers)
    assert late.wire.is_aborted
    late.connection.connection_lost(None)
    assert len(peers) == CONNECTIONS_MAX


def test_the_end_of_the_stream_closes_quietly(scheduler: VirtualScheduler) -> None:
    peer = Peer(scheduler)
    peer.send(GET)
    assert peer.connection.eof_received() is False
    assert peer.wire.is_closed
    peer.connection.connection_lost(None)
    scheduler.advance(REQUEST_TIMEOUT_NS)
    assert not peer.wire.is_aborted


def test_a_path_is_unquoted() -> None:
    assert parse_target("/a%20b?x=%24G") == Request("/a b", {"x": "$G"})
    assert cast("Any", parse_target("/")).query == {}
