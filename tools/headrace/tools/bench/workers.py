"""The load generator's processes: what each kind of client does, from its connections to its figures.

A worker runs in a process of its own, so that clients and server compete for nothing but the processor. It connects,
says it is ready, waits for the go, and reports a dictionary of figures. Times are `time.monotonic`, which all processes
of a machine share.
"""

import multiprocessing
import multiprocessing.connection
import re
import selectors
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from headrace.tools.bench.measure import NS_PER_US, percentile
from headrace.tools.bench.wire import PING, AnswerCounter, BenchError, Pattern, Wire

BATCH_SIZE: Final = 128 * 1024
"""Bytes that a publisher hands to the socket at once."""

STREAM_BATCH_COUNT: Final = 16_384
"""Distinct reply subjects of a publisher to a stream; more than any window."""

RESULT_TIMEOUT_S: Final = 120.0

Pipe = multiprocessing.connection.Connection
Figures = dict[str, float]


def subject_names(prefix: str, count: int) -> list[str]:
    """Give `count` subjects of one length, so that every message has the same size on the wire."""
    return [prefix] if count == 1 else [f"{prefix}.{index:06d}" for index in range(count)]


def published(subjects: list[str], payload: bytes, headers: bytes = b"") -> bytes:
    """Encode one message to each subject."""
    if headers:
        sizes = f"{len(headers)} {len(headers) + len(payload)}"
        return b"".join(
            f"HPUB {subject} {sizes}\r\n".encode() + headers + payload + b"\r\n" for subject in subjects
        )
    return b"".join(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n" for subject in subjects)


def delivered(subjects: list[str], payload: bytes, headers: bytes = b"") -> bytes:
    """Encode what a subscriber with sid 1 receives of `published`."""
    if headers:
        sizes = f"{len(headers)} {len(headers) + len(payload)}"
        return b"".join(
            f"HMSG {subject} 1 {sizes}\r\n".encode() + headers + payload + b"\r\n" for subject in subjects
        )
    return b"".join(
        f"MSG {subject} 1 {len(payload)}\r\n".encode() + payload + b"\r\n" for subject in subjects
    )


class Worker:
    """A worker process as its starter sees it."""

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        methods = multiprocessing.get_all_start_methods()
        # a fork needs no second start of the interpreter; this process has one thread only
        context = (
            multiprocessing.get_context("fork") if "fork" in methods else multiprocessing.get_context("spawn")
        )
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(work, other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def receive(self) -> Any:  # noqa: ANN401  (what a worker reports is its own affair)
        """Give what the worker says next; raises BenchError where it failed."""
        try:
            if not self._pipe.poll(RESULT_TIMEOUT_S):
                raise BenchError(f"a client has said nothing for {RESULT_TIMEOUT_S:.0f} s")
            said = self._pipe.recv()
        except EOFError:
            raise BenchError("a client has ended without a result") from None
        if isinstance(said, _Failure):
            raise BenchError(said.text)
        return said

    def send(self, value: object) -> None:
        self._pipe.send(value)

    def close(self) -> None:
        """End the process, finished or not."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self._process.close()
        self._pipe.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str


def _work(work: Callable[..., None], pipe: Pipe, *arguments: object) -> None:
    try:
        work(pipe, *arguments)
    except BenchError as error:
        pipe.send(_Failure(str(error)))
    except Exception:  # noqa: BLE001  (the root of a process: the starter reports it)
        pipe.send(_Failure(traceback.format_exc()))


# core


def publish(
    pipe: Pipe, port: int, subjects: list[str], payload: bytes, headers: bytes, seconds: float
) -> None:
    """Publish to all subjects in turn for some seconds; report how many, from when."""
    text = published(subjects, payload, headers)
    per_batch = len(subjects) * max(1, BATCH_SIZE // len(text))
    buffer = memoryview(text * (per_batch // len(subjects)))
    with Wire(port) as wire:
        pipe.send("ready")
        pipe.recv()
        started = time.monotonic()
        deadline = started + seconds
        count = 0
        while time.monotonic() < deadline:
            wire.send(buffer)
            count += per_batch
        wire.settle()
        pipe.send({"count": count, "started": started, "ended": time.monotonic()})
        pipe.recv()


def subscribe(
    pipe: Pipe,
    port: int,
    subject: str,
    queue: str,
    members: int,
    subjects: list[str],
    payload: bytes,
    headers: bytes,
) -> None:
    """Subscribe on `members` connections; check every byte; report the time of the last one.

    The starter says how many messages have to come in all, once it knows.
    """
    text = delivered(subjects, payload, headers)
    frame_size = len(text) // len(subjects)
    wires = [Wire(port) for _ in range(members)]
    for wire in wires:
        wire.send(f"SUB {subject} {queue} 1\r\n".encode())
        wire.settle()
    patterns = {wire.socket: Pattern(text) for wire in wires}
    pipe.send("ready")
    wanted = 0
    received = 0
    ended = 0.0
    with selectors.DefaultSelector() as selector:
        for wire in wires:
            selector.register(wire.socket, selectors.EVENT_READ, wire)
        selector.register(pipe.fileno(), selectors.EVENT_READ)
        while not wanted or received < wanted * frame_size:
            for key, _ in selector.select():
                if key.data is None:
                    wanted = pipe.recv()
                    selector.unregister(pipe.fileno())
                    continue
                pattern = patterns[key.data.socket]
                before = pattern.size
                pattern.feed(key.data.receive())
                received += pattern.size - before
                ended = time.monotonic()
    if received != wanted * frame_size:
        raise BenchError(f"received {received} bytes, more than {wanted} messages")
    pipe.send({"ended": ended, "least": min(pattern.size for pattern in patterns.values()) / frame_size})
    pipe.recv()


def hold_wildcards(pipe: Pipe, port: int, count: int) -> None:
    """Hold `count` wildcard subscriptions that nothing matches."""
    with Wire(port) as wire:
        for first in range(0, count, 1000):
            wire.send(b"".join(b"SUB other.%d.* %d\r\n" % (n, n) for n in range(first, first + 1000)))
        wire.settle()
        pipe.send("ready")
        pipe.recv()


def respond(pipe: Pipe, port: int, slots: int) -> None:
    """Answer every request to `service` with its own payload, until the connection ends."""
    with Wire(port) as wire:
        wire.send(b"SUB service 1\r\n")
        wire.settle()
        pipe.send("ready")
        replies = [f"_INBOX.b.{slot:04d}".encode() for slot in range(slots)]
        answers = {reply: b"PUB %b 16\r\n0123456789abcdef\r\n" % reply for reply in replies}
        frame = re.compile(rb"MSG service 1 (_INBOX\.b\.\d{4}) 16\r\n.{16}\r\n", re.DOTALL)
        data = b""
        while True:
            try:
                data += wire.receive()
            except (BenchError, OSError):
                return
            found = list(frame.finditer(data))
            if found:
                wire.send(b"".join([answers[match[1]] for match in found]))
                data = data[found[-1].end() :]


def request(pipe: Pipe, port: int, slots: int, seconds: float) -> None:
    """Keep `slots` requests in flight for some seconds; report count and latencies."""
    with Wire(port) as wire:
        wire.send(b"SUB _INBOX.b.* 1\r\n")
        wire.settle()
        questions = [
            f"PUB service _INBOX.b.{slot:04d} 16\r\n0123456789abcdef\r\n".encode() for slot in range(slots)
        ]
        frame = re.compile(rb"MSG _INBOX\.b\.(\d{4}) 1 16\r\n0123456789abcdef\r\n")
        pipe.send("ready")
        pipe.recv()
        started = time.monotonic()
        deadline = started + seconds
        asked_ns = [time.perf_counter_ns()] * slots
        latencies: list[float] = []
        wire.send(b"".join(questions))
        waiting = slots
        data = b""
        ended = started
        while waiting:
            data += wire.receive()
            found = list(frame.finditer(data))
            if not found:
                continue
            data = data[found[-1].end() :]
            now_ns = time.perf_counter_ns()
            answered = [int(match[1]) for match in found]
            latencies.extend((now_ns - asked_ns[slot]) / NS_PER_US for slot in answered)
            ended = time.monotonic()
            if ended < deadline:
                for slot in answered:
                    asked_ns[slot] = now_ns
                wire.send(b"".join([questions[slot] for slot in answered]))
            else:
                waiting -= len(answered)
        latencies.sort()
        pipe.send(
            {
                "count": len(latencies),
                "started": started,
                "ended": ended,
                "p50": percentile(latencies, 0.5),
                "p99": percentile(latencies, 0.99),
            }
        )


# streams


class _StreamPublisher:
    """One connection that keeps a window of unacknowledged publishes open. Every message has its own reply subject."""

    def __init__(self, port: int, number: int, subjects: list[str], payload: bytes) -> None:
        self.wire = Wire(port)
        inbox = f"_INBOX.p{number:03d}"
        self.wire.send(f"SUB {inbox}.* 1\r\n".encode())
        self.wire.settle()
        count = max(STREAM_BATCH_COUNT // len(subjects), 1) * len(subjects)
        messages = [
            f"PUB {subjects[index % len(subjects)]} {inbox}.{index:06d} {len(payload)}\r\n".encode()
            + payload
            + b"\r\n"
            for index in range(count)
        ]
        self._size = len(messages[0])
        self._count = count
        self._buffer = memoryview(b"".join(messages))
        self._next = 0
        self.counter = AnswerCounter()
        self.sent = 0
        self.sent_ns = 0

    def send(self, count: int) -> None:
        """Send the next `count` messages."""
        self.sent += count
        while count:
            part = min(count, self._count - self._next)
            self.wire.send(self._buffer[self._next * self._size : (self._next + part) * self._size])
            self._next = (self._next + part) % self._count
            count -= part

    def receive(self) -> int:
        """Give how many more were acknowledged by what has just come."""
        before = self.counter.count
        self.counter.feed(self.wire.receive())
        return self.counter.count - before


def publish_to_stream(
    pipe: Pipe,
    port: int,
    clients: int,
    window: int,
    subjects: list[str],
    payload: bytes,
    seconds: float,
    total: int,
) -> None:
    """Publish on some connections, each with its window, for some seconds, or until `total` (0: no limit) are sent.

    Reports acks and, for window 1, latencies.
    """
    publishers = [_StreamPublisher(port, number, subjects, payload) for number in range(clients)]
    pipe.send("ready")
    pipe.recv()
    latencies: list[float] = []
    started = time.monotonic()
    deadline = started + seconds
    for publisher in publishers:
        publisher.sent_ns = time.perf_counter_ns()
        publisher.send(window)
    waiting = clients * window
    acknowledged = 0
    ended = started
    with selectors.DefaultSelector() as selector:
        for publisher in publishers:
            selector.register(publisher.wire.socket, selectors.EVENT_READ, publisher)
        while waiting:
            # a single connection needs no system call to know who has something
            ready = [publishers[0]] if clients == 1 else [key.data for key, _ in selector.select()]
            for publisher in ready:
                count = publisher.receive()
                if not count:
                    continue
                acknowledged += count
                if window == 1:
                    now_ns = time.perf_counter_ns()
                    latencies.append((now_ns - publisher.sent_ns) / NS_PER_US)
                    publisher.sent_ns = now_ns
                ended = time.monotonic()
                more = count if ended < deadline else 0
                if total:
                    more = min(more, total - waiting - acknowledged + count)
                if more:
                    publisher.send(more)
                waiting += more - count
    sent = sum(publisher.sent for publisher in publishers)
    if sent != acknowledged:
        raise BenchError(f"{sent} messages were sent and {acknowledged} acknowledged")
    latencies.sort()
    pipe.send(
        {
            "count": acknowledged,
            "started": started,
            "ended": ended,
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
        }
    )


DELIVERED: Final = re.compile(rb"MSG \S+ 1 (\$JS\.ACK\.\S+\.1\.(\d+)\.\d+\.\d+\.\d+) \d+\r\n")
"""A message of a consumer on its first delivery, up to its payload."""


class _InOrder:
    """Finds a consumer's messages in a stream of bytes; each must come exactly once, in order."""

    def __init__(self) -> None:
        self.received = 0
        self._data = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what was received next; give the ack subjects of the messages in it."""
        data = self._data + chunk
        found = list(DELIVERED.finditer(data))
        # what follows the last one is payload, which holds nothing that looks like a message
        self._data = data[found[-1].end() :] if found else data
        sequences = [int(match[2]) for match in found]
        wanted = list(range(self.received + 1, self.received + 1 + len(found)))
        if sequences != wanted:
            raise BenchError(f"expected messages {wanted[:3]}..., found {sequences[:3]}...")
        self.received += len(found)
        return [match[1] for match in found]


def pull(pipe: Pipe, port: int, stream: str, consumer: str, batch: int, total: int) -> None:
    """Pull and acknowledge `total` messages (a multiple of `batch`), with two requests ahead."""
    with Wire(port) as wire, Wire(port) as api:
        wire.send(b"SUB _INBOX.pull 1\r\n")
        wire.settle()
        body = f'{{"batch":{batch}}}'
        ask = f"PUB $JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer} _INBOX.pull {len(body)}\r\n{body}\r\n".encode()
        pipe.send("ready")
        pipe.recv()
        started = time.monotonic()
        wire.send(ask + ask)
        asked = 2 * batch
        messages = _InOrder()
        while messages.received < total:
            acks = messages.feed(wire.receive())
            output = b"".join([b"PUB %b 0\r\n\r\n" % ack for ack in acks])
            while asked < min(total, messages.received + 2 * batch):
                output += ask
                asked += batch
            wire.send(output)
        wire.send(PING)
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        while api.request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")["num_ack_pending"]:
            if time.monotonic() > deadline:
                raise BenchError("the consumer never counts all acks")
            time.sleep(0.002)
        pipe.send({"count": messages.received, "started": started, "ended": time.monotonic()})


def receive_push(
    pipe: Pipe, port: int, subject: str, total: int, stream: str, config: dict[str, Any]
) -> None:
    """Create a push consumer and receive `total` messages of it."""
    with Wire(port) as wire, Wire(port) as api:
        wire.send(f"SUB {subject} 1\r\n".encode())
        wire.settle()
        pipe.send("ready")
        pipe.recv()
        started = time.monotonic()
        api.request(f"$JS.API.CONSUMER.CREATE.{stream}.PUSH", {"stream_name": stream, "config": config})
        messages = _InOrder()
        while messages.received < total:
            messages.feed(wire.receive())
        pipe.send({"count": messages.received, "started": started, "ended": time.monotonic()})
