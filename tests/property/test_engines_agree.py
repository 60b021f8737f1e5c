"""Both engines answer the same bytes, in any pieces, with the same bytes, events and counts."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.core.base.chance import Chance
from headrace.core.base.message import Message, MessageBatch, View
from headrace.core.engine.interface import Outcome
from headrace.core.engine.plain import PlainEngine
from headrace.core.exports import Mapping, MappingDestination
from headrace.core.routing.follower import Follower
from headrace.core.routing.mapping import Mapper
from headrace.core.subject_transform import SubjectTransform
from property.engine_pair import LIMITED, Step, World, play

compiled_engine = pytest.importorskip("headrace.core.engine.compiled_engine", reason="not built")
compiled_batch = pytest.importorskip("headrace.core.base.compiled_batch", reason="not built")

ACCOUNT = "$G"
OTHER = "O"

SUBJECTS = st.sampled_from(
    [
        b"a",
        b"a.b",
        b"a.c",
        b"a.b.c",
        b"a.b.c.d",
        b"a.b.e.d",
        b"_INBOX.x.1",
        b"_INBOX.x.2",
        b"_INBOX.y",
        b"deny.a",
        b"a..b",
        b"a.",
        b"_GR_.a",
    ]
)
PATTERNS = st.one_of(
    SUBJECTS,
    st.sampled_from([b"a.*", b"a.>", b">", b"*", b"_INBOX.x.*", b"*.b", b"a.b.*.*", b"*.*.*.d", b"deny.>"]),
)
REPLIES = st.one_of(st.just(b""), SUBJECTS, st.sampled_from([b"_R_.x", b"$JS.ACK.x", b"$x", b"_Rx"]))
PAYLOADS = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"\r\n", b"PING\r\n", b"PUB a 1\r\n", b"x" * 128, b"x" * 999])
)
HEADERS = st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"])
SIDS = st.sampled_from([b"1", b"2", b"3", b"sid4"])
BLANKS = st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"])


@st.composite
def publishes(draw: st.DrawFn) -> bytes:
    """A PUB or HPUB, mostly as clients send them, often several times."""
    subject, reply, payload, blank = draw(SUBJECTS), draw(REPLIES), draw(PAYLOADS), draw(BLANKS)
    name = draw(st.sampled_from([b"PUB", b"PUB", b"HPUB", b"pub", b"HPub"]))
    sizes = b"%d" % len(payload)
    if name.upper() == b"HPUB":
        headers = draw(HEADERS)
        payload = headers + payload
        sizes = b"%d%b%d" % (len(headers), blank, len(payload))
    reply = reply + blank if reply else b""
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    operation = b"".join((name, blank, subject, blank, reply, sizes, end, payload, b"\r\n"))
    return operation * draw(st.sampled_from([1, 1, 2, 5]))


@st.composite
def subscribes(draw: st.DrawFn) -> bytes:
    queue = draw(st.sampled_from([b"", b"", b"", b"q "]))
    return b"SUB %b %b%b\r\n" % (draw(PATTERNS), queue, draw(SIDS))


@st.composite
def unsubscribes(draw: st.DrawFn) -> bytes:
    return b"UNSUB %b%b\r\n" % (draw(SIDS), draw(st.sampled_from([b"", b" 1", b" 3"])))


CONNECTS = st.sampled_from(
    [
        b'CONNECT {"verbose":true}\r\n',
        b'CONNECT {"verbose":false,"pedantic":false}\r\n',
        b'CONNECT {"pedantic":true}\r\n',
        b'CONNECT {"echo":false}\r\n',
        b'CONNECT {"headers":false,"no_responders":false}\r\n',
        b'CONNECT {"delivered_replies":[]}\r\n',
        b'CONNECT {"permissions":"%b"}\r\n' % LIMITED.encode(),
        b'CONNECT {"max_control_line":20}\r\n',
    ]
)
ODDITIES = st.sampled_from(
    [
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"INFO {}\r\n",
        b"PUB a 3\r\nabcde\r\n",
        b"PUB a\r\n",
        b"PUB a 1001\r\n",
        b"PUB a 1 2 3\r\n",
        b"PUB a -1\r\n",
        b"PUB a 0000000000\r\n",
        b"PUB a 007\r\nabcdefg\r\n",
        b"HPUB a 0 2\r\nok\r\n",
        b"HPUB a 5 2\r\nok\r\n",
        b"PUB \x00\x01 2\r\nok\r\n",
        b"PUB a" + b"b" * 30 + b" 2\r\nok\r\n",
        b"SUB a\r\n",
        b"FOO\r\n",
        b"P",
        b"\r\n",
    ]
)
OPERATIONS = st.one_of(
    publishes(), publishes(), publishes(), subscribes(), subscribes(), unsubscribes(), CONNECTS, ODDITIES
)


def receiving(index: int, chunk: bytes) -> Step:
    return Step(f"receiving({index}, {chunk!r})", lambda world: world.receive(index, chunk))


@st.composite
def traffic(draw: st.DrawFn) -> list[Step]:
    """Some operations of one connection, in pieces."""
    index = draw(st.integers(0, 2))
    data = b"".join(draw(st.lists(OPERATIONS, min_size=1, max_size=8)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [
        receiving(index, data[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)
    ]


def adding_sink(index: int, subject: bytes, *, is_answering: bool, is_service: bool = False) -> Step:
    def act(world: World) -> None:
        world.engine.add_sink(
            ACCOUNT,
            subject,
            world.sinks[index],
            answers=None if is_answering else lambda _: False,
            is_service=is_service,
        )

    return Step(
        f"adding_sink({index}, {subject!r}, is_answering={is_answering}, is_service={is_service})", act
    )


def following(exporter: str, importer: str, source: bytes, local: bytes) -> Step:
    """Import a stream; `$1` in `local` stands for the wildcard of `source`."""

    def act(world: World) -> None:
        renames = SubjectTransform(source, local, strict=True) if source != local else None
        pattern = local if renames is None else renames.reversed().source
        world.engine.follow(exporter, Follower(importer, source, pattern, renames))

    return Step(f"following({exporter!r}, {importer!r}, {source!r}, {local!r})", act)


def moving(index: int, account: str) -> list[Step]:
    """Let a connection go to another account."""
    return [closing(index), receiving(index, b'CONNECT {"account":"%b"}\r\n' % account.encode())]


def mapping(*pairs: tuple[str, str, int]) -> Step:
    mappings = [Mapping(source, (MappingDestination(to, weight),)) for source, to, weight in pairs]

    def act(world: World) -> None:
        world.engine.set_mapper(ACCOUNT, Mapper(mappings, Chance(5)) if mappings else None)

    return Step(f"mapping(*{pairs!r})", act)


def forwarding(subject: bytes, reply: bytes, payload: bytes) -> Step:
    def act(world: World) -> None:
        forwarded = world.engine.forward(1, ACCOUNT, subject, reply, b"", payload)
        world.log.append(forwarded.took)
        world.note(forwarded.events)

    return Step(f"forwarding({subject!r}, {reply!r}, {payload!r})", act)


def publishing(subject: bytes, reply: bytes, payload: bytes) -> Step:
    return Step(
        f"publishing({subject!r}, {reply!r}, {payload!r})",
        lambda world: world.note(world.engine.publish(ACCOUNT, subject, reply, b"", payload)),
    )


def answering(replies: Sequence[bytes], first_sequence: int) -> Step:
    messages = [Message(b"a", reply, b"", b"", 0) for reply in replies]

    def act(world: World) -> None:
        compiled = world.engine.name == "compiled"
        batch = compiled_batch.CompiledBatch(messages) if compiled else MessageBatch(messages)
        events = world.engine.answer(ACCOUNT, batch, b'{"stream":"S", "seq":', first_sequence, b"}")
        # How the answers of one batch are grouped for a sink is not promised.
        gathered: dict[str, list[Message]] = {}
        for event in events:
            gathered.setdefault(event.sink.name, []).extend(event.batch)  # type: ignore[attr-defined]  # Gathered
        world.log.append(gathered)

    return Step(f"answering({replies!r}, {first_sequence})", act)


def delivering(route_by: bytes, reply: bytes, queue: bytes) -> Step:
    views = [
        View(1, 2, b"stored", b"", b"payload"),
        View(2, 3, b"a", b"NATS/1.0\r\n\r\n", b""),
        View(3, 4, b"stored.b", b"NATS/1.0\r\nA: b\r\n\r\n", b"x" * 200),
        View(4, 5, b"stored", b"", b""),
    ]

    def act(world: World) -> None:
        delivered = world.engine.deliver(ACCOUNT, route_by, views, [reply, b"", reply, reply], queue=queue)
        assert delivered.outcome is not Outcome.NO_ROOM
        world.log.append(delivered)

    return Step(f"delivering({route_by!r}, {reply!r}, {queue!r})", act)


def closing(index: int) -> Step:
    def act(world: World) -> None:
        world.engine.flush_connection(world.connections[index])
        world.engine.drop_subscriptions(world.connections[index])

    return Step(f"closing({index})", act)


FORGETTING = Step("FORGETTING", lambda world: world.engine.forget_verdicts(LIMITED))
FLUSHING = Step("FLUSHING", lambda world: world.flush())


STEPS = st.one_of(
    traffic(),
    traffic(),
    traffic(),
    st.builds(
        lambda *a, **k: [adding_sink(*a, **k)],
        st.integers(0, 1),
        PATTERNS,
        is_answering=st.booleans(),
        is_service=st.booleans(),
    ),
    st.sampled_from(
        [
            following(OTHER, ACCOUNT, b"a.>", b"a.>"),
            following(OTHER, ACCOUNT, b"a.*", b"a.b.$1"),
            following(OTHER, ACCOUNT, b"_INBOX.>", b"a.>"),
            following(ACCOUNT, OTHER, b"a.*", b"a.$1"),
            mapping(("a", "a.b", 100), ("a.*", "a.b.$1", 100)),
            mapping(("a.b", "a", 50), ("_INBOX.*.*", "_INBOX.$2.$1", 100)),
            mapping(("a.*", "a.{{random(3)}}", 100), ("deny.a", "a", 100)),
            mapping(),
        ]
    ).map(lambda step: [step]),
    st.builds(moving, st.integers(0, 2), st.sampled_from([ACCOUNT, OTHER, OTHER])),
    st.builds(lambda *a: [forwarding(*a)], SUBJECTS, st.sampled_from([b"", b"_R_.x"]), PAYLOADS),
    st.builds(lambda *a: [publishing(*a)], SUBJECTS, st.sampled_from([b"", b"_INBOX.x.1"]), PAYLOADS),
    st.builds(
        lambda *a: [answering(*a)], st.lists(REPLIES, min_size=1, max_size=6), st.integers(0, (1 << 64) - 10)
    ),
    st.builds(
        lambda *a: [delivering(*a)], SUBJECTS, st.sampled_from([b"", b"r"]), st.sampled_from([b"", b"q"])
    ),
    st.integers(0, 2).map(lambda index: [closing(index)]),
    st.just([FORGETTING]),
    st.just([FLUSHING]),
)
SCRIPTS = st.lists(STEPS, min_size=1, max_size=8).map(lambda parts: [step for part in parts for step in part])


@settings(max_examples=400, deadline=None)
@given(script=SCRIPTS)
@example(script=[receiving(0, b"SUB a 1\r\n"), receiving(1, b"PUB a 2\r\nok\r\n" * 3)])
@example(script=[adding_sink(0, b"a", is_answering=True), receiving(0, b"PUB a 0\r\n\r\n" * 2)])
def test_both_engines_do_the_same(script: list[Step]) -> None:
    plain = play(PlainEngine, script).seen()
    compiled = play(compiled_engine.CompiledEngine, script).seen()
    for expected, found in zip(plain, compiled, strict=True):
        assert found == expected


FLOW = b"".join(
    (
        b"SUB a.* 1\r\nSUB > 2\r\nPING\r\n",
        b"PUB a.b 2\r\nok\r\n" * 3,
        b"PUB a.b _INBOX.x.1 2\r\nok\r\n",
        b"HPUB a.b 12 14\r\nNATS/1.0\r\n\r\nok\r\n",
        b"PUB a.c 0\r\n\r\n",
        b"pub  a.c 1\r\nx\r\nPING\r\n",
    )
)


@pytest.mark.parametrize("position", range(len(FLOW)))
def test_a_cut_anywhere_changes_nothing(position: int) -> None:
    whole = play(PlainEngine, [receiving(0, FLOW)]).seen()
    cut = play(compiled_engine.CompiledEngine, [receiving(0, FLOW[:position]), receiving(0, FLOW[position:])])
    assert cut.seen() == whole


def test_bytes_one_by_one_change_nothing() -> None:
    whole = play(PlainEngine, [receiving(0, FLOW)]).seen()
    single = [receiving(0, FLOW[index : index + 1]) for index in range(len(FLOW))]
    assert play(compiled_engine.CompiledEngine, single).seen() == whole
