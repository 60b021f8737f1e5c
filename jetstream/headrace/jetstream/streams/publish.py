"""The publish path: from what a stream's subjects were sent to its log, and from the log back to the publishers.

A batch goes one of two ways. Where nothing about single messages can matter (no headers, no rule that looks at
a subject or a size, room within the limits), it is appended as it is, without any Python for each message.
Otherwise an `Intake` judges message by message.

*Every answer that depends on what was appended waits for the sync that covers it*: acks, duplicate acks, and
refusals that name a sequence. One `after_sync` a batch sends them all, in the order of the messages, and then
tells the consumers. When a write or sync fails, nobody knows what is on disk, and every answer of the batch
says so instead.

Ingest is bounded. What was appended and is not durable is counted; above a quarter of `max_buffered_size` or
`max_buffered_msgs` the publishers' connections are not read any further until it has drained, and above the whole
(many connections at once) publishes are refused with 10167.

While the log's index is rebuilt nobody knows which messages a subject has, or where an id was used. What has to be
judged waits, and all that comes behind it, within the same bounds and for `LOOKUP_WAIT_NS` at most.
"""

import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_S, Timer
from headrace.core.base.message import Batch, Message, MessageBatch, StreamNote
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.wire import encode_json
from headrace.jetstream.streams import traced
from headrace.jetstream.streams.batches import FAST_REPLY
from headrace.jetstream.streams.intake import Answer, Intake, storage_refusal
from headrace.jetstream.streams.republish import Republished
from headrace.storage.interface import IndexRebuilding, LogFenced, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

BUFFERED_SIZE_MAX: Final = 128 * 1024 * 1024
BUFFERED_MESSAGES_MAX: Final = 256 * 1024
"""What a stream may be sent and not have stored, where the configuration does not say it."""

HOLD_DIVISOR: Final = 4
"""The part of it at which publishers are held."""

LOOKUP_WAIT_NS: Final = 4 * NS_PER_S
"""How long publishes wait for the log's index. Most clients give up after five seconds."""

PLAIN_SIZE_MAX: Final = 32 * 1024 * 1024
"""The largest message of a file stream; a batch below it has none above."""

SEQUENCE_MAX: Final = 2**64 - 2**24
"""Where a stream ends: a purge ahead can come close to what 64 bits hold, and no batch has 2**24 messages."""

INTERNAL_ERROR: Final = "internal error, the outcome is unknown"
INDEX_BUSY: Final = "lookup index is busy"
UNKNOWN_OUTCOME: Final = "write or sync failed, the outcome is unknown"
TOO_MANY_REQUESTS: Final = b"NATS/1.0 429 Too Many Requests\r\n\r\n"


def refusal_body(stream_name: str, error: ApiError) -> bytes:
    """Give what a refused publisher is sent."""
    return encode_json({"error": error.body(), "stream": stream_name, "seq": 0})


class Publishing:
    """Takes what is published on a stream's subjects. One for each stream; the sink of all its captures."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._bus = stream.context.bus
        self._store = stream.context.store
        self._scheduler = stream.context.scheduler
        self._log = stream.log
        options = stream.context.options
        self._buffered_size_max = options.max_buffered_size or BUFFERED_SIZE_MAX
        self._buffered_messages_max = options.max_buffered_messages or BUFFERED_MESSAGES_MAX
        self._hold_size = self._buffered_size_max // HOLD_DIVISOR
        self._hold_messages = self._buffered_messages_max // HOLD_DIVISOR
        self._in_flight_messages = 0
        self._in_flight_size = 0
        self._held: set[int] = set()
        self._parked: list[Batch] = []
        self._parked_timer: Timer | None = None
        self.on_config()

    def on_config(self) -> None:
        """The stream's configuration is another one: decide anew what has to be looked at."""
        config = self._stream.config
        self._is_answering = not config.no_ack
        self._is_blind = (
            not config.sealed
            and config.max_msg_size < 0
            and config.max_msgs_per_subject < 0
            and config.subject_transform is None
            and config.republish is None
            and config.retention != "interest"
            and not config.allow_msg_counter
            and not config.allow_batched
        )
        self._max_messages = max(0, config.max_msgs)
        self._max_size = max(0, config.max_bytes)
        domain = self._stream.context.options.domain
        ack = {"stream": config.name, "domain": domain} if domain else {"stream": config.name}
        self._ack_prefix = encode_json(ack)[:-1] + b',"seq":'

    def on_messages(self, batch: Batch) -> None:
        """Append what was published, as far as the stream's rules allow, and see to the answers."""
        try:
            self._take(batch)
        except Exception:  # noqa: BLE001  (a bug must not close the publisher's connection)
            self._report(traceback.format_exc())
            self._refuse(batch, ApiError(error_table.STREAM_STORE_FAILED, err=INTERNAL_ERROR))

    def _report(self, trace: str) -> None:
        self._stream.context.log.error(f"Stream '{self._stream.name}': publish failed: {trace}")

    def _take(self, batch: Batch) -> None:
        if self._log.fenced:
            self._refuse(batch, storage_refusal(LogFenced(self._log.fenced)))
        elif self._log.head.last_sequence > SEQUENCE_MAX:
            self._refuse(batch, ApiError(error_table.STREAM_STORE_FAILED, err="sequences are used up"))
        elif (
            self._in_flight_size > self._buffered_size_max
            or self._in_flight_messages > self._buffered_messages_max
        ):
            self._refuse(batch, ApiError(error_table.STREAM_TOO_MANY_REQUESTS), TOO_MANY_REQUESTS)
        elif self._parked or self._log.is_index_full:
            self._park(batch)
        elif self._is_blind and batch.bare and self._has_room_for(batch):
            self._append_blindly(batch)
        elif not self._log.is_index_ready:
            self._park(batch)
        else:
            self._append_judged(batch)

    @property
    def stream_name(self) -> str:
        return self._stream.name

    def on_traced(self, message: Message, *, is_delivered: bool, tell: Callable[[StreamNote], None]) -> None:
        """Take a message that is traced, or, where it is not to be delivered, only judge it."""
        batch = MessageBatch((message,))
        if self._log.fenced:
            tell(StreamNote(b"", self._log.fenced))
        elif self._parked or self._log.is_index_full or not self._log.is_index_ready:
            tell(StreamNote(b"", INDEX_BUSY))  # it waits, and is stored later or refused
        elif not is_delivered:
            tell(traced.judged(self._stream, message))
        else:
            intake = Intake(self._stream)
            answer = intake.take(message)
            self._finish(intake, batch)
            traced.tell_when_synced(self._stream, message, answer, tell)
            return
        if is_delivered:
            self.on_messages(batch)

    def close(self) -> None:
        """Let the held connections go on; what is in flight is answered all the same."""
        self._refuse_parked("the stream was deleted")
        self._release()

    # waiting for the log's index

    def _park(self, batch: Batch) -> None:
        self._count_in(batch)
        self._parked.append(batch)
        if self._parked_timer is None:
            deadline_ns = self._scheduler.monotonic_ns() + LOOKUP_WAIT_NS
            self._parked_timer = self._scheduler.call_at(deadline_ns, self._on_parked_long)
            if self._log.is_index_full:
                self._log.when_index_has_room(self._on_index_ready)
            else:
                self._log.when_index_ready(self._on_index_ready)

    def _unparked(self) -> list[Batch]:
        parked, self._parked = self._parked, []
        if self._parked_timer is not None:
            self._parked_timer.cancel()
            self._parked_timer = None
        for batch in parked:
            self._count_out(batch)
        return parked

    def _on_index_ready(self) -> None:
        for batch in self._unparked():
            self.on_messages(batch)
        self._store.commit()

    def _on_parked_long(self) -> None:
        self._parked_timer = None
        self._refuse_parked(INDEX_BUSY)

    def _refuse_parked(self, reason: str) -> None:
        for batch in self._unparked():
            self._refuse(batch, ApiError(error_table.STREAM_STORE_FAILED, err=reason))

    # the way without a look

    def _has_room_for(self, batch: Batch) -> bool:
        if batch.size > PLAIN_SIZE_MAX or batch[0].reply.endswith(FAST_REPLY):
            return False
        stream = self._stream
        if self._max_messages or self._max_size:
            head = self._log.head
            if self._max_messages and head.messages + len(batch) > self._max_messages:
                return False
            # 34 bytes is the most that accounting adds to a message without headers.
            if self._max_size and head.size + batch.size + 34 * len(batch) > self._max_size:
                return False
        return stream.account.has_room(batch.size + 34 * len(batch), in_memory=stream.config.in_memory)

    def _append_blindly(self, batch: Batch) -> None:
        stream = self._stream
        try:
            first = self._log.append_batch(batch, stream.time_ns())
        except StorageError as error:
            self._refuse(batch, storage_refusal(error))
            return
        stream.last_message_id = b""
        stream.on_changed()
        if self._log.durable_sequence >= first + len(batch) - 1:
            self._answer_blind(batch, first, None)
            return
        self._count_in(batch)
        self._store.after_sync(partial(self._on_blind_synced, batch, first), self._log)

    def _on_blind_synced(self, batch: Batch, first: int, error: StorageError | None) -> None:
        self._count_out(batch)
        self._answer_blind(batch, first, error)

    def _answer_blind(self, batch: Batch, first: int, error: StorageError | None) -> None:
        if error is not None:
            self._refuse(batch, ApiError(error_table.STREAM_STORE_FAILED, err=UNKNOWN_OUTCOME))
            return
        if self._is_answering:
            self._bus.answer(self._stream.account.name, batch, self._ack_prefix, first, b"}")
        self._stream.on_durable()

    # the way with a look at each

    def append_own(self, message: Message, *, ends: int = 0) -> ApiError | None:
        """Store what the stream itself says, under the same rules; give why not where it is refused.

        Raises IndexRebuilding, and has then changed nothing.
        """
        if not self._log.is_index_ready:
            raise IndexRebuilding(self._log.when_index_ready)
        intake = Intake(self._stream, is_own=True, ends=ends)
        answer = intake.take(message)
        self._finish(intake, MessageBatch((message,)))
        return answer.refusal

    def _append_judged(self, batch: Batch) -> None:
        intake = Intake(self._stream)
        for message in batch:
            intake.take(message)
        self._finish(intake, batch)

    def _finish(self, intake: Intake, batch: Batch) -> None:
        """Let go what waits in `intake`, and see to the answers."""
        intake.finish()
        if intake.stored:
            self._stream.on_changed()
        if self._stream.is_durable:
            self._answer_judged(intake.answers, intake.republished, None)
            return
        self._count_in(batch)
        answer = partial(self._on_judged_synced, batch, intake.answers, intake.republished)
        self._store.after_sync(answer, self._log)

    def _on_judged_synced(
        self,
        batch: Batch,
        answers: list[Answer],
        republished: list[Republished],
        error: StorageError | None,
    ) -> None:
        self._count_out(batch)
        self._answer_judged(answers, republished, error)

    def _answer_judged(
        self, answers: list[Answer], republished: list[Republished], error: StorageError | None
    ) -> None:
        if error is not None:
            unknown = ApiError(error_table.STREAM_STORE_FAILED, err=UNKNOWN_OUTCOME)
            answers = [Answer(answer.reply, unknown) for answer in answers]
        else:
            self._stream.republisher.send(republished)
        account = self._stream.account.name
        name = self._stream.name
        publish = self._bus.publish
        for reply, refusal, sequence, is_duplicate, more, body in answers if self._is_answering else ():
            if body is not None:
                publish(account, reply, body)
            elif refusal is not None:
                publish(account, reply, refusal_body(name, refusal))
            else:
                end = b',"duplicate": true}' if is_duplicate else b"}"
                publish(account, reply, b"%b%d%b%b" % (self._ack_prefix, sequence, more, end))
        if error is None:
            self._stream.on_durable()
        self._bus.request_turn()

    def _refuse(self, batch: Batch, error: ApiError, headers: bytes = b"") -> None:
        if not self._is_answering:
            return
        body = refusal_body(self._stream.name, error)
        for message in batch:
            if message.reply:
                self._bus.publish(self._stream.account.name, message.reply, body, headers=headers)
        self._bus.request_turn()

    # bounds of what is in flight

    def _count_in(self, batch: Batch) -> None:
        self._in_flight_messages += len(batch)
        self._in_flight_size += batch.size
        if self._in_flight_size > self._hold_size or self._in_flight_messages > self._hold_messages:
            for message in batch:
                if message.connection_id and message.connection_id not in self._held:
                    self._held.add(message.connection_id)
                    self._bus.hold(message.connection_id)

    def _count_out(self, batch: Batch) -> None:
        self._in_flight_messages -= len(batch)
        self._in_flight_size -= batch.size
        if (
            self._held
            and self._in_flight_size <= self._hold_size // 2
            and self._in_flight_messages <= self._hold_messages // 2
        ):
            self._release()
        self._bus.request_turn()

    def _release(self) -> None:
        held, self._held = self._held, set()
        for connection_id in held:
            self._bus.release(connection_id)
