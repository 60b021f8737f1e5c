"""A whole server in one test, in virtual time, from one seed.

    with VirtualServer(seed=7) as server:
        client = server.connect()
        client.api("STREAM.CREATE.ORDERS", {"name": "ORDERS", "subjects": ["orders.*"]})
        client.store("orders.new", b"1")
        server.advance(3600)             # an hour passes in no time, with all that falls due in it

Everything is the real thing but the edges: connections have no sockets, time passes only in `advance`, and the store is
in memory, or on a `VirtualDisk`. The same seed gives the same bytes, always.

`crash` drops the server as a kill or a power cut would; `restart` makes a new one on what the disk has kept.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, Scheduler, VirtualScheduler
from headrace.core.engine.interface import EngineFactory
from headrace.core.options import JetStreamOptions, ServerOptions
from headrace.core.transport.memory import connect
from headrace.storage.interface import Store
from headrace.storage.memory_store import MemoryStore
from headrace.testing.client import VirtualClient
from headrace.testing.virtual_disk import VirtualDisk
from headrace.tools.compose import Composition, compose

StoreMaker = Callable[[Scheduler, Chance], Store]


def in_memory(scheduler: Scheduler, chance: Chance) -> Store:  # noqa: ARG001  (a store maker is given both)
    """Make a store that forgets everything when its server ends."""
    return MemoryStore(chance)


class VirtualServer:
    """One server. Without `options` it has the defaults, and JetStream unless `jetstream` is false.

    `disk`: where its store is; `store`: what makes its store, where a test has one of its own.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        options: ServerOptions | None = None,
        jetstream: bool = True,
        store: StoreMaker = in_memory,
        disk: VirtualDisk | None = None,
        engine: EngineFactory | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        if options is None:
            options = ServerOptions(jetstream=JetStreamOptions() if jetstream else None)
        self.options = options
        self.scheduler = VirtualScheduler()
        self._chance = Chance(seed)
        self._store_maker = store if disk is None else disk.open_store
        self._disk = disk
        self._engine = engine
        self._log = log if log is not None else _silent_log()
        self._clients: list[VirtualClient] = []
        self._composition: Composition | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._composition is not None:
            self.close()

    @property
    def composition(self) -> Composition:
        """The running server's parts."""
        assert self._composition is not None, "the server was crashed or closed"
        return self._composition

    def _start(self) -> None:
        store = (
            self._store_maker(self.scheduler, self._chance) if self.options.jetstream is not None else None
        )
        self._composition = compose(
            self.options,
            scheduler=self.scheduler,
            chance=self._chance,
            log=self._log,
            engine_factory=self._engine,
            store=store,
        )
        self.settle()

    # clients

    def connect(self, **arguments: Any) -> VirtualClient:  # noqa: ANN401  (whatever CONNECT may say)
        """Connect a client that has sent CONNECT with these arguments, and seen what answers it."""
        client = self._accepted(arguments)
        client.frames()
        return client

    def connect_raw(self) -> VirtualClient:
        """Connect a client that has sent nothing; the greeting is its first frame."""
        return self._accepted(None)

    def _accepted(self, arguments: dict[str, Any] | None) -> VirtualClient:
        wire = connect(self.composition.broker, self.scheduler)
        client = VirtualClient(wire, self, arguments)
        self._clients.append(client)
        self.settle()
        return client

    # time

    def now_ns(self) -> int:
        """Give the server's wall-clock time."""
        return self.scheduler.now_ns()

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        self.scheduler.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that falls due in it."""
        self.scheduler.advance(round(seconds * NS_PER_S))
        self.settle()

    # ends

    def close(self) -> None:
        """Stop the server as SIGTERM would: accepted messages are stored and acknowledged, then clients let go."""
        self.composition.close()
        self.settle()
        self._composition = None

    def crash(self, *, power_cut: bool = False) -> None:
        """Drop the server as SIGKILL would: nothing is written, said or sent any more.

        With `power_cut` its machine goes down too, and the disk loses what was not synced.
        """
        assert self._composition is not None, "crashed twice"
        if self._disk is not None and power_cut:
            self._disk.cut_power()
        elif self._disk is not None:
            self._disk.kill()
        self._composition = None
        for client in self._clients:
            client.wire.transport.abort()
        self._clients.clear()
        # what the old server still waits for must never run; time goes on where it was
        self.scheduler = VirtualScheduler(start_ns=self.scheduler.now_ns())

    def restart(self) -> None:
        """Start anew after `crash` or `close`, on what the store's maker gives."""
        assert self._composition is None, "crash or close it first"
        self._start()


def _silent_log() -> logging.Logger:
    log = logging.Logger("headrace.testing")
    log.addHandler(logging.NullHandler())
    return log
