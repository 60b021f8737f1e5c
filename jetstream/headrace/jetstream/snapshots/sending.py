"""A stream on its way to a client: chunks to a deliver subject, as many in flight as the window allows.

Every full chunk asks for an answer, and an answer makes room for the next. The stream is read as it goes on, up to what
was its last sequence at the request; what is removed meanwhile may be missing, what is added is not in it. An empty
message ends the transfer, with a status where it went wrong.

Source: the JetStream API reference, section 2.8.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S, Timer
from headrace.core.base.message import Batch
from headrace.jetstream.models.wire import Int64, WireModel
from headrace.jetstream.snapshots.contents import FORMAT, encode_frame, encode_views

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

CHUNK_SIZE: Final = 128 * 1024
CHUNK_SIZE_MIN: Final = 1024
CHUNK_SIZE_MAX: Final = 1024 * 1024
WINDOW_SIZE: Final = 8 * 1024 * 1024
WINDOW_SIZE_MAX: Final = 32 * 1024 * 1024
ANSWER_NS: Final = 5 * NS_PER_S
INTEREST_NS: Final = 2 * NS_PER_S
TURN_CHUNKS: Final = 16
"""Chunks that one turn sends, so that others have their turn."""

RUN_MESSAGES: Final = 1024
RUN_SIZE: Final = 1024 * 1024

_DONE: Final = headers.encode((), 204)
_NO_INTEREST: Final = headers.encode((), 408, b"No Interest")
_NO_ANSWER: Final = headers.encode((), 408, b"No Flow Response")


class SnapshotRequest(WireModel):
    """The body of STREAM.SNAPSHOT."""

    deliver_subject: str = ""
    no_consumers: bool = False
    chunk_size: Int64 = 0
    window_size: Int64 = 0
    jsck: bool = False


class Sending:
    """One transfer; `on_end` hears why it failed, or nothing."""

    def __init__(
        self,
        stream: "Stream",
        asked: SnapshotRequest,
        consumers: list[dict[str, Any]],
        on_end: Callable[[str], None],
    ) -> None:
        context = stream.context
        self._context = context
        self._stream = stream
        self._subject = asked.deliver_subject.encode()
        self._chunk_size = min(max(CHUNK_SIZE_MIN, asked.chunk_size or CHUNK_SIZE), CHUNK_SIZE_MAX)
        window = min(max(CHUNK_SIZE_MIN, asked.window_size or WINDOW_SIZE), WINDOW_SIZE_MAX)
        self._room = max(window, self._chunk_size) // self._chunk_size
        self._on_end = on_end
        self._sent = 0
        self._buffer = bytearray()
        self._frames = self._read(consumers)
        self._is_over = False
        name = f"$JS.SNAPSHOT.ACK.{stream.name}.{context.chance.nuid()}".encode()
        self._answer_subject = name
        self._capture = context.bus.capture(stream.account.name, name + b".>", self)
        is_there = context.bus.has_interest(stream.account.name, self._subject)
        self._timer: Timer = self._call_in(
            ANSWER_NS if is_there else INTEREST_NS, self._on_silence if is_there else self._on_nobody
        )
        self._is_waiting = not is_there
        self._watch = context.bus.watch_interest(stream.account.name, self._subject, self._on_interest)
        if is_there:
            context.ready(self)

    def _call_in(self, wait_ns: int, callback: Callable[[], None]) -> Timer:
        scheduler = self._context.scheduler
        return scheduler.call_at(scheduler.monotonic_ns() + wait_ns, callback)

    def _read(self, consumers: list[dict[str, Any]]) -> Iterator[bytes]:
        stream, log = self._stream, self._stream.log
        head, last = log.head, stream.visible_sequence
        first = {"format": FORMAT, "config": stream.config.fields(), "consumers": consumers}
        yield encode_frame(first | {"first": head.first_sequence, "last": last, "time": head.last_time_ns})
        start, count = head.first_sequence, 0
        while start <= last:
            scan = log.scan(start, last, None, messages_max=RUN_MESSAGES, size_max=RUN_SIZE)
            count += len(scan.views)
            if scan.views:
                yield encode_views(scan.views)
            start = scan.next_sequence
        yield encode_frame({"messages": count})

    def pump(self, budget: int) -> bool:  # noqa: ARG002  (chunks are counted, not messages)
        """Send what the window has room for."""
        for _ in range(TURN_CHUNKS):
            if self._is_over or self._is_waiting or not self._room:
                return False
            while len(self._buffer) < self._chunk_size:
                frame = next(self._frames, None)
                if frame is None:
                    self._finish()
                    return False
                self._buffer += frame
            self._send_chunk()
        return not self._is_over

    def _send_chunk(self) -> None:
        chunk = bytes(self._buffer[: self._chunk_size])
        del self._buffer[: self._chunk_size]
        self._sent += 1
        self._room -= 1
        reply = b"%b.%d.%d" % (self._answer_subject, len(chunk), self._sent)
        self._publish(chunk, reply=reply)
        self._timer.cancel()
        self._timer = self._call_in(ANSWER_NS, self._on_silence)

    def _finish(self) -> None:
        if self._buffer:
            self._publish(bytes(self._buffer))
        self._end(_DONE if self._sent else b"", "")

    def on_messages(self, batch: Batch) -> None:
        """The receiver has taken chunks."""
        self._room += len(batch)
        self._context.ready(self)

    def _on_interest(self, is_there: bool) -> None:
        if not is_there and not self._is_waiting:
            self._on_nobody()
        elif is_there and self._is_waiting:
            self._is_waiting = False
            self._context.ready(self)

    def _on_nobody(self) -> None:
        self._end(_NO_INTEREST, "no interest")

    def _on_silence(self) -> None:
        self._end(_NO_ANSWER, "no flow response")

    def _publish(self, payload: bytes, *, reply: bytes = b"", status: bytes = b"") -> None:
        account = self._stream.account.name
        self._context.bus.publish(account, self._subject, payload, reply=reply, headers=status)

    def _end(self, status: bytes, error: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        self._capture.close()
        self._watch.close()
        self._publish(b"", status=status)
        self._context.bus.request_turn()
        self._on_end(error)
