"""Traced messages in both engines: which are taken out, what else stays as it was, and what an event says."""

import json
from typing import Any

import pytest

from headrace.core.tracing.wish import wish_of
from headrace.testing import VirtualServer

MARK = b"Nats-Trace-Dest: t"
SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def message(subject: bytes, *fields: bytes, payload: bytes = b"hi", reply: bytes = b"") -> bytes:
    """Make an HPUB."""
    headers = b"".join(field + b"\r\n" for field in (b"NATS/1.0", *fields, b""))
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    shown = subject + b" " + reply if reply else subject
    return b"HPUB %b %b\r\n%b%b\r\n" % (shown, sizes, headers, payload)


def events_of(payload: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(payload)["events"]
    return found


@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
def test_a_marked_message_among_others_is_traced_alone(step: int) -> None:
    with VirtualServer() as server:
        client = server.connect()
        taken, traces = client.subscribe("x"), client.subscribe("t")
        plain = message(
            b"x", b"Nats-Trace-Xest: t"
        )  # as long as the marked one, so that the lines are the same
        data = b"".join([plain, plain, plain, message(b"x", MARK), plain, plain])
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
        server.settle()
        assert taken.payloads() == [b"hi"] * 6
        assert [len(events_of(payload)) for payload in traces.payloads()] == [2]


def test_a_message_that_is_only_traced_is_not_delivered() -> None:
    with VirtualServer() as server:
        client = server.connect()
        taken, traces = client.subscribe("x"), client.subscribe("t")
        client.send(message(b"x", MARK, b"Nats-Trace-Only: true"))
        server.settle()
        assert taken.payloads() == []
        assert [event["type"] for event in events_of(traces.payloads()[0])] == ["in", "eg"]


def test_a_subscription_that_is_used_up_is_in_no_trace() -> None:
    with VirtualServer() as server:
        client = server.connect()
        taken, traces = client.subscribe("x", limit=1), client.subscribe("t")
        client.send(message(b"x", MARK) * 2)
        server.settle()
        assert taken.payloads() == [b"hi"]
        assert [len(events_of(payload)) for payload in traces.payloads()] == [2, 1]


def test_a_trace_waits_for_the_stream_and_a_stream_keeps_no_mark() -> None:
    with VirtualServer() as server:
        client = server.connect()
        traces = client.subscribe("t")
        client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
        client.send(message(b"s", MARK))
        client.send(message(b"s", MARK, b"Nats-Expected-Last-Sequence: 9", b"Nats-Trace-Only: 1"))
        server.settle()
        server.advance(1)
        first, second = [events_of(payload)[1] for payload in traces.payloads()]
        assert (first["stream"], first["subject"]) == ("S", "s")
        assert second["error"] == "last sequence mismatch: 9 vs 1"
        assert client.api("STREAM.INFO.S")["state"]["messages"] == 1


def test_only_a_sampled_parent_asks_for_a_trace() -> None:
    assert wish_of(b"NATS/1.0\r\ntraceparent: " + SAMPLED + b"\r\n\r\n") is not None
    for value in (SAMPLED[:-2] + b"00", SAMPLED[:-2] + b"zz", SAMPLED + b"-x", b"01"):
        assert wish_of(b"NATS/1.0\r\ntraceparent: " + value + b"\r\n\r\n") is None


def test_a_message_that_was_traced_before_asks_for_no_trace() -> None:
    assert wish_of(b"NATS/1.0\r\nNats-Trace-Dest: trace disabled\r\n\r\n") is None
