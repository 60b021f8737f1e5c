"""A broker in virtual time, with clients and a monitor on it."""

import json
from typing import Any

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.broker import Broker
from headrace.core.log import MemorySink, make_logger
from headrace.core.monitoring.http import Response, parse_target
from headrace.core.monitoring.jetstream import JetStreamView
from headrace.core.monitoring.monitor import Monitor
from headrace.core.options import ServerOptions
from headrace.core.transport.memory import MemoryClient, connect


class StillProcess:
    """A process that uses what it is told."""

    memory_size = 12_345_678
    core_count = 4

    def cpu_percent(self) -> float:
        return 12.5


class World:
    """A server, its clients, its monitor."""

    def __init__(self, options: ServerOptions, jetstream: JetStreamView | None = None) -> None:
        self.scheduler = VirtualScheduler()
        log = make_logger(MemorySink(), self.scheduler)
        self.broker = Broker(options, scheduler=self.scheduler, chance=Chance(1), log=log)
        self.monitor = Monitor(self.broker, StillProcess(), jetstream=jetstream, config_digest="sha256:ab")
        self.monitor.http_host, self.monitor.http_port = "127.0.0.1", 8222
        self._next_port = 50_000

    def client(self, *lines: str, options: str = "{}") -> MemoryClient:
        """Connect, and send lines."""
        self._next_port += 1
        client = connect(self.broker, self.scheduler, peer_port=self._next_port)
        client.send(f"CONNECT {options}\r\n".encode())
        for line in lines:
            client.send(f"{line}\r\n".encode())
        self.scheduler.settle()
        return client

    def get(self, target: str) -> Response:
        return self.monitor.handle(parse_target(target))

    def json(self, target: str) -> Any:
        response = self.get(target)
        assert response.status == 200, response.body
        return json.loads(response.body)
