"""Any split of the input gives the same answers, events and counts, on every engine."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core_lab import Collector, EngineLab, engine_factories, split_at
from headrace.core.engine.interface import Event, Gathered
from headrace.core.options import Permissions, SubjectRules

FACTORIES = engine_factories()
PERMISSIONS = Permissions(publish=SubjectRules(None, ("denied",)))
HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"

SUBJECT = st.sampled_from([b"a", b"a.b", b"c", b"sink", b"sink.x", b"denied", b"a..b", b"_GR_.x", b"foo.*"])
REPLY = st.sampled_from([b"", b"", b"inbox.1", b"inbox.2", b"_R_.x"])
PAYLOAD = st.sampled_from([b"", b"x", b"hello", b"PUB a 1\r\nx\r\n", b"\r\n", b"y" * 300])
BLANK = st.sampled_from([b" ", b" ", b" ", b"\t", b"  "])


@st.composite
def publishes(draw: st.DrawFn) -> bytes:
    subject, reply, payload = draw(SUBJECT), draw(REPLY), draw(PAYLOAD)
    count = draw(st.sampled_from([1, 1, 2, 5]))
    blank = draw(BLANK)
    parts = [b"PUB", subject, *([reply] if reply else []), b"%d" % len(payload)]
    return (blank.join(parts) + b"\r\n" + payload + b"\r\n") * count


@st.composite
def header_publishes(draw: st.DrawFn) -> bytes:
    subject, reply, payload = draw(SUBJECT), draw(REPLY), draw(PAYLOAD)
    count = draw(st.sampled_from([1, 3]))
    block = draw(st.sampled_from([HEADERS, b""]))
    sizes = b"%d %d" % (len(block), len(block) + len(payload))
    parts = [b"HPUB", subject, *([reply] if reply else []), sizes]
    return (b" ".join(parts) + b"\r\n" + block + payload + b"\r\n") * count


OTHERS = st.sampled_from(
    [
        b"PING\r\n",
        b"ping junk\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"SUB a.* 7\r\n",
        b"sub\ta q 8\n",
        b"SUB denied 9\r\n",
        b"SUB a..b 10\r\n",
        b"UNSUB 7\r\n",
        b"UNSUB 1 4\r\n",
        b"UNSUB 3 2\r\n",
        b"UNSUB 99 1\r\n",
    ]
)
ENDS = st.sampled_from(
    [
        b"",
        b"PUB a 5\r\nhel",
        b"PUB a 3\r\nabcX\r\n",
        b"FOO\r\n",
        b"PUB a\r\n",
        b"PUB a x\r\n",
        b"PUB a 99999999\r\n",
        b"SUB a b c d\r\n",
        b"PUB\r\n",
        b"\r\n",
        b"HPUB a 9 2\r\nPING\r\n",
        b"SUB " + b"s" * 5000 + b" 1\r\n",
        b"-ERR 'x'\r\nPING\r\n",
        b"INFO {}\r\nPING\r\n",
        b"CONNECT {}\r\nPING\r\n",
        b"PUB b" + b"a" * 600,
    ]
)
STREAMS = st.tuples(
    st.lists(st.one_of(publishes(), header_publishes(), OTHERS), max_size=12).map(b"".join), ENDS
).map(b"".join)


def play(factory: str, pieces: list[bytes], *, verbose: bool, echo: bool) -> tuple[object, ...]:
    """Send pieces to an engine with some subscribers and sinks; give all that can be seen."""
    lab = EngineLab(FACTORIES[factory])
    sink = Collector()
    lab.engine.add_sink("$G", b"sink.>", sink)
    lab.engine.add_sink("$G", b"sink", sink)
    listener = lab.open(headers=False)
    lab.send(listener, b"SUB > 1\r\nSUB a 2\r\nSUB c q 3\r\n")
    headed = lab.open()
    lab.send(headed, b"SUB c q 1\r\nSUB a.> 2\r\nSUB a 3\r\n")
    client = lab.open(verbose=verbose, echo=echo, pedantic=verbose, permissions=PERMISSIONS)
    lab.send(client, b"SUB inbox.* 1\r\nSUB a 2\r\nSUB a 3\r\n")
    told = lab.got(client)
    events: list[Event] = []
    for piece in pieces:
        events += lab.send(client, piece)
    return (
        told,
        lab.got(client),
        lab.got(listener),
        lab.got(headed),
        [repr(event) for event in events if not isinstance(event, Gathered)],
        sink.messages,
        [
            (one.in_messages, one.in_bytes, one.out_messages, one.out_bytes, one.subscription_count)
            for one in lab.connections.values()
        ],
        [(info.sid, info.delivered) for info in lab.engine.subscriptions()],
    )


@pytest.mark.parametrize("factory", FACTORIES)
@settings(max_examples=120, deadline=None)
@given(
    data=STREAMS,
    places=st.lists(st.integers(0, 10_000), max_size=8),
    verbose=st.booleans(),
    echo=st.booleans(),
)
@example(data=b"PUB a 1\r\nx\r\n" * 5, places=[13, 24, 37], verbose=False, echo=True)
@example(data=b"PUB sink inbox.1 1\r\nx\r\n" * 4, places=[30], verbose=False, echo=False)
def test_any_split_of_the_input_gives_the_same(
    factory: str, data: bytes, places: list[int], verbose: bool, echo: bool
) -> None:
    whole = play(factory, [data] if data else [], verbose=verbose, echo=echo)
    assert play(factory, split_at(data, places), verbose=verbose, echo=echo) == whole


@pytest.mark.parametrize("factory", FACTORIES)
@settings(max_examples=40, deadline=None)
@given(data=STREAMS)
def test_one_byte_at_a_time_gives_the_same(factory: str, data: bytes) -> None:
    whole = play(factory, [data] if data else [], verbose=False, echo=True)
    bytewise = play(
        factory, [data[index : index + 1] for index in range(len(data))], verbose=False, echo=True
    )
    assert bytewise == whole


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_engine_fail(data: bytes) -> None:
    play("plain", [data], verbose=False, echo=True)
