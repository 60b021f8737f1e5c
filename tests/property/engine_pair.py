"""A small world around one engine, so that two engines can be given the same bytes and compared."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.message import Batch, Message
from headrace.core.engine.interface import (
    Connect,
    Connection,
    Engine,
    EngineFactory,
    EngineSetup,
    Event,
    Gathered,
    Phase,
    Refused,
    Verdict,
)

LIMITED = "limited"
"""A permission set: `deny.>` is refused, a wildcard subscription is filtered."""

RESUMED_MAX = 1000


class Wire:
    """A transport that keeps what was written, and says how much of it was not taken yet."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.pending_size = 0
        self.written_size = 0
        self.is_slow = False

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.written += data
        self.written_size += len(data)
        if self.is_slow:
            self.pending_size += len(data)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, reason: str = "") -> None: ...

    def abort(self) -> None: ...


class FakeRules:
    """Rules that depend on the subject alone."""

    def may_publish(self, permissions: object, subject: bytes) -> Verdict:
        return Verdict.REFUSED if subject.startswith(b"deny") else Verdict.ALLOWED

    def may_subscribe(self, permissions: object, subject: bytes, queue: bytes) -> Verdict:
        if subject.startswith(b"deny"):
            return Verdict.REFUSED
        return Verdict.FILTERED if b"*" in subject or b">" in subject else Verdict.ALLOWED

    def may_receive(self, permissions: object, subject: bytes) -> bool:
        return not subject.startswith(b"deny")


@dataclass(eq=False)
class NamedSink:
    """A sink that only has a name: its batches are seen in the events."""

    name: str

    def on_messages(self, batch: Batch) -> None:
        raise AssertionError("an engine never calls a sink")


@dataclass
class World:
    """One engine and all that it was seen to do."""

    factory: EngineFactory
    connection_count: int = 3
    max_pending: int = 1 << 30
    is_skipping: bool = False
    log: list[object] = field(default_factory=list[object])

    def __post_init__(self) -> None:
        self.clock = VirtualScheduler()
        self.engine: Engine = self.factory(
            EngineSetup(
                rules=FakeRules(),
                chance=Chance(7),
                clock=self.clock,
                max_pending=self.max_pending,
                no_fast_producer_stall=self.is_skipping,
            )
        )
        self.wires = [Wire() for _ in range(self.connection_count)]
        self.connections: list[Connection] = []
        for number, wire in enumerate(self.wires, 1):
            connection = self.engine.open(wire, number)
            connection.verbose = connection.pedantic = False
            connection.headers = connection.no_responders = True
            connection.max_payload = 1000
            self.connections.append(connection)
        self.sinks = [NamedSink(name) for name in "AB"]

    def receive(self, index: int, chunk: bytes) -> None:
        """Feed a connection and do what a session does."""
        connection = self.connections[index]
        events = self.engine.receive(connection, chunk)
        for _ in range(RESUMED_MAX):
            self.note(events)
            for event in events:
                self.handle(connection, event)
            if not events or not events[-1].is_barrier or connection.phase is Phase.CLOSED:
                return
            events = self.engine.resume(connection)
        raise AssertionError("a barrier is never passed")

    def handle(self, connection: Connection, event: Event) -> None:
        if isinstance(event, Connect):
            for name, value in json.loads(event.arguments).items():
                setattr(connection, name, value)
            connection.awaits_ping = True
        elif isinstance(event, Refused) and event.error.fatal:
            connection.phase = Phase.CLOSED
            self.engine.close(connection)

    def note(self, events: Sequence[Event]) -> None:
        """Log events in a form that can be compared."""
        for event in events:
            if isinstance(event, Gathered):
                assert isinstance(event.sink, NamedSink)
                batch = event.batch
                messages: list[Message] = list(batch)
                assert len(batch) == len(messages) > 0
                assert batch.bare == all(not m.headers for m in messages)
                assert batch.size == sum(len(m.subject) + len(m.headers) + len(m.payload) for m in messages)
                self.log.append((event.sink.name, messages))
            elif isinstance(event, Refused):
                self.log.append((type(event.error), str(event.error)))
            else:
                self.log.append(event)

    def flush(self) -> None:
        self.log.append([connection.id for connection in self.engine.flush()])

    def seen(self) -> list[object]:
        """Give everything that can be compared."""
        return [
            self.log,
            [bytes(wire.written) for wire in self.wires],
            [
                (c.in_messages, c.in_bytes, c.out_messages, c.out_bytes, c.subscription_count, c.pings_out)
                for c in self.connections
            ],
            [(c.pending_size, c.delivered_replies, c.is_stalled, c.awaits_ping) for c in self.connections],
            sorted(self.engine.subscriptions(), key=repr),
            self.engine.subscription_count,
        ]


@dataclass(frozen=True)
class Step:
    """One thing done to a world; its text tells what, so that a failure can be read."""

    text: str
    act: Callable[[World], None]

    def __repr__(self) -> str:
        return self.text


def play(factory: EngineFactory, steps: Sequence[Step]) -> World:
    """Let one engine go through a script."""
    world = World(factory)
    for step in steps:
        step.act(world)
    world.flush()
    return world
