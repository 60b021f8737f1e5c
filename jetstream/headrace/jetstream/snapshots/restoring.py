"""A stream on its way back from a client.

Each chunk is a request, and its answer the receipt. What arrives is appended to a log that is marked as unfinished; a
start of the server removes such logs. The empty chunk at the end takes the mark away, and only then is there a stream.

Source: the JetStream API reference, section 2.8.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S, Timer
from headrace.core.base.errors import HeadraceError
from headrace.core.base.message import Batch
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.models.wire import encode_json
from headrace.jetstream.snapshots.contents import FORMAT, BadSnapshot, Frames
from headrace.jetstream.streams.info import stream_info
from headrace.jetstream.streams.stream import Stream, stored_config
from headrace.storage.interface import ConsumerRecord, Entry, Register, StorageError, StreamLog

if TYPE_CHECKING:
    from headrace.jetstream.accounts import AccountState
    from headrace.jetstream.context import Context

SILENCE_NS: Final = 5 * NS_PER_S
UNFINISHED: Final = "restoring"
"""The key of a log's configuration that says that it is no stream yet."""

_TYPE: Final = "io.nats.jetstream.api.v1.stream_create_response"


class Restoring:
    """One transfer; `on_end` hears the stream or None, and the bytes that came."""

    def __init__(
        self,
        context: "Context",
        account: "AccountState",
        config: StreamConfig,
        recover: Callable[[Stream, Iterable[ConsumerRecord]], None],
        on_end: Callable[[Stream | None, int], None],
    ) -> None:
        self._context = context
        self._account = account
        self._config = config
        self._recover = recover
        self._on_end = on_end
        self._frames = Frames()
        self._log: StreamLog | None = None
        self._last = 0
        self._last_time_ns = 0
        self._consumers: list[ConsumerRecord] = []
        self._count = 0
        self._promised = -1
        self._is_over = False
        self.subject = f"$JS.SNAPSHOT.RESTORE.{config.name}.{context.chance.nuid()}"
        self._capture = context.bus.capture(account.name, self.subject.encode(), self)
        self._timer = self._later()

    def _later(self) -> Timer:
        scheduler = self._context.scheduler
        return scheduler.call_at(scheduler.monotonic_ns() + SILENCE_NS, self._on_silence)

    def on_messages(self, batch: Batch) -> None:
        """Take chunks."""
        for message in batch:
            if self._is_over:
                return
            self._timer.cancel()
            self._timer = self._later()
            if not message.reply:
                self._abort("a chunk asked for no answer")
            elif message.payload:
                self._take(message.payload, message.reply)
            else:
                self._finish(message.reply)

    def _take(self, chunk: bytes, reply: bytes) -> None:
        try:
            for frame in self._frames.feed(chunk):
                self._take_frame(frame)
        except (HeadraceError, TypeError, ValueError, KeyError) as error:
            self._refuse(reply, str(error))
            return
        account, publish = self._account.name, self._context.bus.publish
        self._context.store.after_sync(lambda _: publish(account, reply, b""))

    def _take_frame(self, frame: Any) -> None:  # noqa: ANN401  (whatever a client sent)
        if self._log is None:
            self._begin(frame)
        elif isinstance(frame, list):
            self._append(self._log, frame)
        else:
            self._promised = int(frame["messages"])

    def _begin(self, head: Any) -> None:  # noqa: ANN401
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise BadSnapshot("not a snapshot of this server")
        self._last = int(head["last"])
        self._last_time_ns = int(head["time"])
        for name, config, numbers, rows in head["consumers"]:
            register = Register(numbers, {int(key): tuple(row) for key, row in rows.items()})
            self._consumers.append(ConsumerRecord(name, config, self._context.scheduler.now_ns(), register))
        self._log = self._context.store.create(
            stored_config(self._account.name, self._config) | {UNFINISHED: True},
            memory=self._config.in_memory,
            created_ns=self._context.scheduler.now_ns(),
            first_sequence=int(head["first"]),
        )

    def _append(self, log: StreamLog, rows: list[Any]) -> None:
        entries: list[Entry] = []
        for sequence, time_ns, subject, block, payload in rows:
            if sequence > log.head.last_sequence + len(entries) + 1:
                log.append(entries)
                entries = []
                log.skip(sequence - 1, time_ns)
            message_id = headers.get(block, b"Nats-Msg-Id") if block else None
            entries.append(Entry(subject, block, payload, time_ns, message_id or b""))
        log.append(entries)
        self._count += len(rows)

    def _finish(self, reply: bytes) -> None:
        log = self._log
        if log is None:
            self._refuse(reply, "EOF")
        elif not self._frames.is_between or self._promised != self._count:
            self._refuse(reply, "unexpected EOF")
        elif self._config.name in self._account.streams:
            self._refuse(reply, error_table.STREAM_NAME_EXIST_RESTORE_FAILED.description)
        else:
            try:
                stream = self._made(log)
            except StorageError as error:
                self._refuse(reply, str(error))
                return
            self._end()
            self._log = None
            self._context.store.after_sync(lambda error: self._answer(stream, reply, error))

    def _made(self, log: StreamLog) -> Stream:
        if self._last > log.head.last_sequence:
            log.skip(self._last, self._last_time_ns)
        for record in self._consumers:
            log.save_consumer(record.name, record.config, record.created_ns, record.register)
        log.save_config(stored_config(self._account.name, self._config))
        stream = Stream(self._context, self._account, self._config, log)
        self._account.streams[self._config.name] = stream
        self._recover(stream, self._consumers)
        stream.open()
        return stream

    def _answer(self, stream: Stream, reply: bytes, error: StorageError | None) -> None:
        body: dict[str, Any] = {"type": _TYPE}
        if error is not None:
            body["error"] = ApiError(error_table.STREAM_RESTORE, err=error).body()
        else:
            body |= stream_info(stream)
        self._context.bus.publish(self._account.name, reply, encode_json(body))
        self._on_end(stream, self._frames.size)

    # what went wrong

    def _refuse(self, reply: bytes, reason: str) -> None:
        error = ApiError(error_table.STREAM_RESTORE, err=reason)
        self._context.bus.publish(
            self._account.name, reply, encode_json({"type": _TYPE, "error": error.body()})
        )
        self._abort(reason)

    def _on_silence(self) -> None:
        self._abort(f"restore for stream '{self._account.name} > {self._config.name}' is stalled")

    def _abort(self, reason: str) -> None:
        self._end()
        self._context.log.warning(f"Restore of stream '{self._config.name}' ended: {reason}")
        if self._log is not None:
            try:
                self._context.store.delete(self._log)
            except StorageError as error:
                self._context.log.warning(
                    f"Unfinished stream '{self._config.name}' stays until a start: {error}"
                )
            self._log = None
        self._context.bus.request_turn()
        self._on_end(None, self._frames.size)

    def _end(self) -> None:
        self._is_over = True
        self._timer.cancel()
        self._capture.close()
