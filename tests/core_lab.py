"""What tests of the core share: engines without a broker, transports that remember, brokers in virtual time."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from headrace.core.auth.permissions import PermissionRules
from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.engine_choice import is_compiled_available
from headrace.core.base.message import Batch, Message
from headrace.core.broker import Broker
from headrace.core.engine.interface import Connection, Engine, EngineFactory, EngineSetup, Event, Gathered
from headrace.core.engine.plain import PlainEngine
from headrace.core.options import ServerOptions
from headrace.core.transport import memory


def engine_factories() -> dict[str, EngineFactory]:
    """Give every engine that can run here, by name."""
    found: dict[str, EngineFactory] = {"plain": PlainEngine}
    if is_compiled_available():
        from headrace.core.engine.compiled_engine import CompiledEngine

        found["compiled"] = CompiledEngine
    return found


class RecordingTransport:
    """A transport that keeps what is written; `capacity` is what it takes before bytes pend."""

    def __init__(self, capacity: int = 1 << 62) -> None:
        self.data = bytearray()
        self.capacity = capacity
        self.written_size = 0
        self.state = "open"
        self.is_paused = False

    @property
    def pending_size(self) -> int:
        return max(0, self.written_size - self.capacity)

    def write(self, data: bytes) -> None:
        assert self.state == "open", "nothing is written to a closed transport"
        self.data += data
        self.written_size += len(data)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self, reason: str = "") -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"


class Collector:
    """A sink that keeps its messages and how they were batched."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    @property
    def messages(self) -> list[Message]:
        return [message for batch in self.batches for message in batch]

    def on_messages(self, batch: Batch) -> None:
        self.batches.append(batch)


class EngineLab:
    """One engine, its connections by number, and the events it gave."""

    def __init__(self, factory: EngineFactory = PlainEngine, **setup: Any) -> None:
        self.scheduler = VirtualScheduler()
        self.rules = PermissionRules()
        values: dict[str, Any] = {"max_pending": 64 * 1024 * 1024, **setup}
        self.engine: Engine = factory(
            EngineSetup(rules=self.rules, chance=Chance(7), clock=self.scheduler, **values)
        )
        self.events: list[Event] = []
        self.transports: dict[int, RecordingTransport] = {}
        self.connections: dict[int, Connection] = {}

    def open(self, *, capacity: int = 1 << 62, **options: Any) -> Connection:
        """Open a connection as a client in its usual form has it; `options` are its attributes."""
        number = len(self.connections) + 1
        transport = RecordingTransport(capacity)
        connection = self.engine.open(transport, number)
        usual = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}
        for name, value in {**usual, **options}.items():
            setattr(connection, name, value)
        self.transports[number] = transport
        self.connections[number] = connection
        return connection

    def send(self, connection: Connection, data: bytes) -> list[Event]:
        """Receive `data`, go on behind barriers, call sinks, flush; give the events of this call."""
        given: list[Event] = []
        events: Sequence[Event] = self.engine.receive(connection, data)
        while events:
            given += events
            if not events[-1].is_barrier:
                break
            events = self.engine.resume(connection)
        self.settle(given)
        return given

    def settle(self, events: Sequence[Event] = ()) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Gathered):
                event.sink.on_messages(event.batch)
        self.engine.flush()

    def got(self, connection: Connection) -> bytes:
        """Take what a connection was sent since the last look."""
        self.engine.flush()
        data = self.transports[connection.id].data
        taken = bytes(data)
        data.clear()
        return taken


class BrokerLab:
    """A broker in virtual time with clients in memory."""

    def __init__(self, options: ServerOptions | None = None, factory: EngineFactory | None = None) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = Broker(
            options or ServerOptions(), scheduler=self.scheduler, chance=Chance(1), engine_factory=factory
        )

    def client(self) -> memory.MemoryClient:
        """Connect without reading INFO."""
        client = memory.connect(self.broker, self.scheduler)
        self.scheduler.settle()
        return client

    def connected(self, *, reading: bool = True, **connect: object) -> memory.MemoryClient:
        """Connect, send CONNECT, and throw away what was answered."""
        client = self.client()
        wanted = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, **connect}
        client.send(b"CONNECT %b\r\n" % json.dumps(wanted).encode())
        self.scheduler.settle()
        client.received()
        if not reading:
            client.stop_reading()
        return client

    def say(self, client: memory.MemoryClient, data: bytes) -> bytes:
        """Send, let everything happen that needs no time, and give what was answered."""
        client.send(data)
        self.scheduler.settle()
        return client.received()


def split_at(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut `data` at these places."""
    cuts = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(cuts) if end > start]


def info_of(line: bytes) -> dict[str, Any]:
    """Read an INFO line."""
    assert line.startswith(b"INFO "), line
    value: dict[str, Any] = json.loads(line[5:])
    return value


Build = Callable[[], EngineLab]
