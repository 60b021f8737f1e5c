"""What the compiled engine does beyond agreeing on small inputs: big buffers, slow readers, memory."""

import gc
import random
import weakref

import pytest

from headrace.core.base.message import Message
from headrace.core.engine.interface import STALL_SIZE, Gathered
from headrace.core.engine.plain import PlainEngine
from property.engine_pair import Step, World, play

compiled_engine = pytest.importorskip("headrace.core.engine.compiled_engine", reason="not built")
compiled_batch = pytest.importorskip("headrace.core.base.compiled_batch", reason="not built")

BOTH = pytest.mark.parametrize(
    "factory", [PlainEngine, compiled_engine.CompiledEngine], ids=["plain", "compiled"]
)
MIB = 1024 * 1024


def world(**options: int) -> World:
    """Give a compiled engine whose publishers may send large messages."""
    made = World(compiled_engine.CompiledEngine, **options)  # type: ignore[arg-type]  # numbers and flags by name
    for connection in made.connections:
        connection.max_payload = 16 * MIB
    return made


def publish(subject: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    return b"PUB %b %b%d\r\n%b\r\n" % (subject, reply + b" " if reply else b"", len(payload), payload)


def test_a_message_larger_than_any_block_arrives_whole() -> None:
    here = world()
    payload = random.Random(1).randbytes(3 * MIB)
    here.receive(0, b"SUB a 1\r\n")
    here.receive(1, publish(b"a", b"small") * 3 + publish(b"a", payload) * 2 + publish(b"a", b"end"))
    here.flush()
    message = b"MSG a 1 5\r\nsmall\r\n"
    large = b"MSG a 1 %d\r\n%b\r\n" % (len(payload), payload)
    assert here.wires[0].written == message * 3 + large * 2 + b"MSG a 1 3\r\nend\r\n"


@pytest.mark.parametrize("piece", [1000, 65536, MIB])
def test_a_large_payload_may_come_in_many_pieces(piece: int) -> None:
    here = world()
    payload = random.Random(2).randbytes(3 * MIB)
    here.receive(0, b"SUB > 1\r\n")
    data = publish(b"a.b", payload) + publish(b"a.b", b"next")
    for start in range(0, len(data), piece):
        here.receive(1, data[start : start + piece])
    here.flush()
    expected = b"MSG a.b 1 %d\r\n%b\r\nMSG a.b 1 4\r\nnext\r\n" % (len(payload), payload)
    assert here.wires[0].written == expected
    assert here.connections[1].in_messages == 2


def test_output_of_many_blocks_keeps_its_order() -> None:
    steps = [Step("subscribe", lambda w: w.receive(0, b"SUB a.* 1\r\nSUB a.> 2\r\n"))]
    chunk = b"".join(publish(b"a.%d" % (n % 7), b"%06d" % n) for n in range(20_000))
    steps += [Step("publish", lambda w: w.receive(1, chunk)), Step("publish", lambda w: w.receive(2, chunk))]
    assert (
        play(compiled_engine.CompiledEngine, steps).seen() == play(PlainEngine, steps).seen()
    )  # no diff: it would be megabytes


@BOTH
def test_a_subscriber_far_behind_stalls_its_publisher(factory: type[PlainEngine]) -> None:
    here = World(factory)
    here.wires[0].is_slow = True
    here.receive(0, b"SUB a 1\r\n")
    chunk = publish(b"a", bytes(500)) * 1000
    sent = 0
    while not here.connections[1].is_stalled:
        assert sent < 2 * STALL_SIZE
        here.receive(1, chunk)
        here.flush()
        sent += len(chunk)
    assert sent > STALL_SIZE // 2


@BOTH
def test_a_subscriber_above_its_pending_limit_is_named_and_gets_no_more(factory: type[PlainEngine]) -> None:
    here = World(factory, max_pending=MIB)
    here.wires[0].is_slow = True
    here.receive(0, b"SUB a 1\r\n")
    for _ in range(10):
        here.receive(1, publish(b"a", bytes(500)) * 1000)
        if slow := here.engine.flush():
            break
    else:
        pytest.fail("never named")
    assert [connection.id for connection in slow] == [1]
    written = len(here.wires[0].written)
    assert written <= 2 * MIB
    here.receive(1, publish(b"a", bytes(500)) * 1000)
    here.flush()
    assert len(here.wires[0].written) == written


@BOTH
def test_without_stalling_a_subscriber_far_behind_misses_messages(factory: type[PlainEngine]) -> None:
    here = World(factory, max_pending=MIB, is_skipping=True)
    here.receive(0, b"SUB a 1\r\n")
    here.wires[0].is_slow = True
    here.wires[0].pending_size = MIB - 10_000
    here.engine.write(here.connections[0], b"x")
    here.flush()
    for _ in range(5):
        here.receive(1, publish(b"a", bytes(500)) * 100)
        here.flush()
    assert here.connections[0].out_messages < 500


def test_a_message_too_large_is_refused_before_its_payload_came() -> None:
    here = World(compiled_engine.CompiledEngine)
    here.receive(0, b"PUB a 999999")
    here.receive(0, b"999\r\n")
    assert "MaximumPayloadViolation" in repr(here.log)


def test_gathered_messages_outlive_the_chunk_they_came_in() -> None:
    here = world()
    here.engine.add_sink("$G", b"a.>", here.sinks[0])
    chunk = bytearray(publish(b"a.b", b"payload", b"r") * 3 + publish(b"a.c", b"other"))
    here.receive(1, publish(b"a.b", b"x") * 2)
    events = here.engine.receive(here.connections[1], memoryview(chunk))
    chunk[:] = bytes(len(chunk))
    (event,) = events
    assert isinstance(event, Gathered)
    assert isinstance(event.batch, compiled_batch.CompiledBatch)
    assert list(event.batch) == [Message(b"a.b", b"r", b"", b"payload", 2)] * 3 + [
        Message(b"a.c", b"", b"", b"other", 2)
    ]


def test_the_transport_may_close_the_subscriber_while_it_is_written_to() -> None:
    here = world()
    here.receive(0, b"SUB a 1\r\n")
    wire, connection = here.wires[0], here.connections[0]

    def write(data: bytes) -> None:
        wire.written += data
        here.engine.close(connection)

    wire.write = write  # type: ignore[method-assign]  # a transport whose peer has gone
    here.receive(1, publish(b"a", bytes(1000)) * 1000)
    here.receive(1, publish(b"a", bytes(1000)) * 1000)
    here.flush()
    assert here.engine.subscription_count == 0
    assert here.connections[1].in_messages == 2000


def test_the_publisher_may_be_closed_while_it_publishes() -> None:
    here = world()
    here.receive(0, b"SUB a 1\r\n")
    wire = here.wires[0]

    def write(data: bytes) -> None:
        wire.written += data
        here.engine.close(here.connections[1])

    wire.write = write  # type: ignore[method-assign]  # a transport that drags another one down
    here.receive(1, b"PUB a 2000")
    here.receive(1, b"00\r\n" + bytes(200_000) + b"\r\n" + publish(b"a", bytes(100_000)) * 3)
    here.flush()
    assert here.engine.receive(here.connections[1], b"PING\r\n") == ()


def test_a_closed_connection_is_not_kept_by_the_engine_once_its_routes_are_gone() -> None:
    here = world()
    here.receive(0, b"SUB a 1\r\n")
    here.receive(1, publish(b"a", b"x") * 3)
    here.flush()
    kept = weakref.ref(here.connections[0].wire)  # type: ignore[attr-defined]  # the compiled engine's own
    here.engine.close(here.connections[0])
    here.connections[0] = here.connections[2]
    here.receive(1, publish(b"a", b"x") * 3)
    gc.collect()
    assert kept() is None


def test_answers_to_a_large_batch_count_up() -> None:
    here = world()
    here.receive(0, b"SUB _INBOX.me.* 1\r\n")
    batch = compiled_batch.CompiledBatch(
        [Message(b"s", b"_INBOX.me.%d" % n if n % 3 else b"", b"", b"", 1) for n in range(5000)]
    )
    assert here.engine.answer("$G", batch, b'{"stream":"S", "seq":', 1, b"}") == []
    here.flush()
    expected = bytearray()
    for n in range(5000):
        if n % 3:
            body = b'{"stream":"S", "seq":%d}' % (n + 1)
            expected += b"MSG _INBOX.me.%d 1 %d\r\n%b\r\n" % (n, len(body), body)
    assert here.wires[0].written == expected


@pytest.mark.parametrize(
    "also", [b"", b"SUB k.c.* 1\r\n", b"SUB k.c.*.7.* 1\r\n", b"SUB k.c.1.7.3 1\r\n", b"SUB k.> 1\r\n"]
)
def test_subjects_that_differ_in_their_last_tokens_go_where_each_belongs(also: bytes) -> None:
    """What acks look like: each subject comes once, and one sink takes them all."""
    subjects = [b"k.c.%d.%d.%d" % (n % 3, n % 11, n) for n in range(60)]
    subjects += [b"k.c.1", b"k.c.1.2", b"k.c.1.2.3.4", b"k.c.1..3", b"k.c.1.2.", b"k..1.2.3", b"k.d.1.2.3"]
    chunk = b"".join(publish(subject, b"+ACK") for subject in subjects)

    def add(world: World) -> None:
        world.engine.add_sink("$G", b"k.c.*.*.*", world.sinks[0])

    steps = [
        Step("add", add),
        Step("ack", lambda w: w.receive(1, chunk)),
        Step("subscribe", lambda w: w.receive(0, also)),
        Step("ack", lambda w: w.receive(1, chunk.replace(b" k.c.0", b" k.c.9"))),
        Step("unsubscribe", lambda w: w.receive(0, b"UNSUB 1\r\n")),
        Step("ack", lambda w: w.receive(1, chunk.replace(b" k.c.0", b" k.c.8"))),
    ]
    assert play(compiled_engine.CompiledEngine, steps).seen() == play(PlainEngine, steps).seen()
