"""Loads: what is done to one running server, and the sample that comes of it.

Each load starts its workers, measures the server's processor time around their work, and checks afterwards that nothing
is missing: bytes at every subscriber, the server's own count of messages, a stream's state. A load whose counts do not
agree is no measurement; it raises BenchError.
"""

import json
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from headrace.tools.bench import workers
from headrace.tools.bench.measure import Sample
from headrace.tools.bench.wire import BenchError, Wire
from headrace.tools.bench.workers import Figures, Worker, subject_names
from headrace.tools.launch import RunningServer

STREAM: Final = "BENCH"
SUBJECT: Final = "bench"
FILL_WINDOW: Final = 4096
FILL_RATE: Final = 100_000
"""Messages stored beforehand for each second that consuming may take."""
FILL_TIMEOUT_S: Final = 60.0
SLOTS_MAX: Final = 9999


class Load(Protocol):
    """What is done to a server for about `seconds`."""

    @property
    def jetstream(self) -> bool: ...

    def run(self, server: RunningServer, seconds: float) -> Sample: ...


@contextmanager
def _workers(*started: Worker) -> Generator[tuple[Worker, ...]]:
    """Wait until all workers are ready; end them all in the end."""
    try:
        for worker in started:
            worker.receive()
        yield started
    finally:
        for worker in started:
            worker.close()


def _sample(server: RunningServer, cpu_before_s: float, figures: Figures) -> Sample:
    return Sample(
        count=int(figures["count"]),
        elapsed_s=figures["ended"] - figures["started"],
        cpu_s=server.cpu_s() - cpu_before_s,
        latency_p50_us=figures.get("p50", 0.0),
        latency_p99_us=figures.get("p99", 0.0),
        memory_size=server.memory_size(),
    )


def _received_messages(server: RunningServer) -> int:
    with urllib.request.urlopen(f"{server.monitor_url}/varz", timeout=10) as answer:
        varz: dict[str, Any] = json.load(answer)
    return int(varz["in_msgs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """One publisher, nobody listens."""

    size: int
    subjects: int = 1
    jetstream: bool = False

    def run(self, server: RunningServer, seconds: float) -> Sample:
        names = subject_names(SUBJECT, self.subjects)
        publisher = Worker(workers.publish, server.port, names, b"x" * self.size, b"", seconds)
        with _workers(publisher):
            cpu_s = server.cpu_s()
            publisher.send("go")
            figures = publisher.receive()
            sample = _sample(server, cpu_s, figures)
            counted = _received_messages(server)
            if counted != sample.count:
                raise BenchError(f"{sample.count} messages were published, the server has counted {counted}")
            return sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Publishers and subscribers: `pairs` of one publisher and `fanout` subscribers, or a queue group of `members`."""

    size: int
    subjects: int = 1
    pairs: int = 1
    fanout: int = 1
    members: int = 1
    headers: bytes = b""
    wildcards: int = 0
    jetstream: bool = False

    def run(self, server: RunningServer, seconds: float) -> Sample:
        payload = b"x" * self.size
        idle = [Worker(workers.hold_wildcards, server.port, self.wildcards)] if self.wildcards else []
        publishers: list[Worker] = []
        subscribers: list[list[Worker]] = []
        queue = "group" if self.members > 1 else ""
        for number in range(self.pairs):
            prefix = SUBJECT if self.pairs == 1 else f"{SUBJECT}{number}"
            names = subject_names(prefix, self.subjects)
            subject = prefix if self.subjects == 1 else f"{prefix}.*"
            subscribers.append(
                [
                    Worker(
                        workers.subscribe,
                        server.port,
                        subject,
                        queue,
                        self.members,
                        names,
                        payload,
                        self.headers,
                    )
                    for _ in range(self.fanout)
                ]
            )
            publishers.append(Worker(workers.publish, server.port, names, payload, self.headers, seconds))
        with _workers(*idle, *publishers, *(worker for group in subscribers for worker in group)):
            cpu_s = server.cpu_s()
            for publisher in publishers:
                publisher.send("go")
            started = 0.0
            ended = 0.0
            count = 0
            for publisher, group in zip(publishers, subscribers, strict=True):
                figures = publisher.receive()
                started = min(started or figures["started"], figures["started"])
                count += int(figures["count"]) * len(group)
                for subscriber in group:
                    subscriber.send(int(figures["count"]))
            for group in subscribers:
                for subscriber in group:
                    figures = subscriber.receive()
                    ended = max(ended, figures["ended"])
                    if self.members > 1 and not figures["least"]:
                        raise BenchError("a member of the queue group has received nothing")
            return _sample(server, cpu_s, {"count": count, "started": started, "ended": ended})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Requests of 16 bytes to one responder, `in_flight` of them at a time."""

    in_flight: int
    jetstream: bool = False

    def run(self, server: RunningServer, seconds: float) -> Sample:
        assert self.in_flight <= SLOTS_MAX, "reply subjects have four digits"
        responder = Worker(workers.respond, server.port, self.in_flight)
        with _workers(responder):
            requester = Worker(workers.request, server.port, self.in_flight, seconds)
            with _workers(requester):
                cpu_s = server.cpu_s()
                requester.send("go")
                return _sample(server, cpu_s, requester.receive())


def _create_stream(port: int) -> None:
    with Wire(port) as wire:
        config = {"name": STREAM, "subjects": [SUBJECT, f"{SUBJECT}.*"], "storage": "file"}
        wire.request(f"$JS.API.STREAM.CREATE.{STREAM}", config)


def _check_stream(port: int, count: int) -> None:
    with Wire(port) as wire:
        state = wire.request(f"$JS.API.STREAM.INFO.{STREAM}")["state"]
    if (state["messages"], state["last_seq"]) != (count, count):
        raise BenchError(f"{count} messages were acknowledged; the stream says {state}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPublish:
    """Publishing to a file stream, `clients` connections with `window` unacknowledged messages each."""

    window: int
    clients: int = 1
    size: int = 128
    subjects: int = 1
    jetstream: bool = True

    def run(self, server: RunningServer, seconds: float) -> Sample:
        _create_stream(server.port)
        names = subject_names(SUBJECT, self.subjects)
        arguments = (server.port, self.clients, self.window, names, b"x" * self.size, seconds, 0)
        publisher = Worker(workers.publish_to_stream, *arguments)
        with _workers(publisher):
            cpu_s = server.cpu_s()
            publisher.send("go")
            sample = _sample(server, cpu_s, publisher.receive())
            _check_stream(server.port, sample.count)
            return sample


def _fill_stream(server: RunningServer, total: int) -> None:
    """Publish `total` messages to the stream, at least `FILL_WINDOW`."""
    arguments = (server.port, 1, FILL_WINDOW, [SUBJECT], b"x" * 128, FILL_TIMEOUT_S, total)
    publisher = Worker(workers.publish_to_stream, *arguments)
    with _workers(publisher):
        publisher.send("go")
        publisher.receive()
    _check_stream(server.port, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Pulling stored messages in batches, each message acknowledged."""

    batch: int
    jetstream: bool = True

    def run(self, server: RunningServer, seconds: float) -> Sample:
        _create_stream(server.port)
        total = max(int(seconds * FILL_RATE), FILL_WINDOW) // self.batch * self.batch + self.batch
        _fill_stream(server, total)
        config = {"durable_name": "PULL", "ack_policy": "explicit", "max_ack_pending": 100_000}
        with Wire(server.port) as wire:
            wire.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.PULL", {"stream_name": STREAM, "config": config})
            puller = Worker(workers.pull, server.port, STREAM, "PULL", self.batch, total)
            with _workers(puller):
                cpu_s = server.cpu_s()
                puller.send("go")
                sample = _sample(server, cpu_s, puller.receive())
            info = wire.request(f"$JS.API.CONSUMER.INFO.{STREAM}.PULL")
        if info["ack_floor"]["stream_seq"] != total:
            raise BenchError(f"{total} messages were acknowledged; the consumer says {info['ack_floor']}")
        return sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A push consumer without acks delivers what is stored."""

    jetstream: bool = True

    def run(self, server: RunningServer, seconds: float) -> Sample:
        _create_stream(server.port)
        total = max(int(seconds * FILL_RATE), FILL_WINDOW)
        _fill_stream(server, total)
        config = {"name": "PUSH", "deliver_subject": "pushed", "ack_policy": "none"}
        receiver = Worker(workers.receive_push, server.port, "pushed", total, STREAM, config)
        with _workers(receiver):
            cpu_s = server.cpu_s()
            receiver.send("go")
            return _sample(server, cpu_s, receiver.receive())
