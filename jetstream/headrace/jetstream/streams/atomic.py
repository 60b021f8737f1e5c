"""Atomic batches: messages that wait for the one that ends their batch, and are then stored together or not at all.

A message names its batch and its number in it. Those in front of the last are kept, and answered with nothing in the
answer as soon as they are; the last one has all judged and appended (`AtomicIntake`). A gap, an unknown end, a batch
too large, a level that is not served, or nothing for a while abandon the batch; an advisory says so where the reference
server has one.

Source: the streams reference, section 7.5.
"""

from typing import TYPE_CHECKING, Final

from headrace.core import headers
from headrace.core.base.message import Message
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.wire import encode_json
from headrace.jetstream.streams.atomic_intake import AtomicIntake
from headrace.jetstream.streams.batches import BATCH_ID_SIZE_MAX, STAGED_SIZE_MAX, Batches, without_level
from headrace.jetstream.streams.intake import Answer, storage_refusal
from headrace.storage.interface import StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.intake import Intake

END: Final = b"eob"
COMMIT: Final = b"Nats-Batch-Commit"
_SEQUENCE_DIGITS_MAX: Final = 20


class AtomicBatch:
    """One batch, as far as it has come."""

    __slots__ = ("batch_id", "last", "messages", "size")

    def __init__(self, batch_id: bytes) -> None:
        self.batch_id = batch_id
        self.last = 0
        self.messages: list[Message] = []
        self.size = 0


class AtomicBatches(Batches[AtomicBatch]):
    """The atomic batches of one stream that are open."""

    def take(self, intake: "Intake", message: Message, batch_id: bytes) -> Answer | None:
        """Take a message that names a batch; None: it is kept, and was answered."""
        reply = message.reply
        try:
            return self._take(intake, message, batch_id)
        except ApiError as refusal:
            return Answer(reply, refusal)
        except StorageError as error:
            return Answer(reply, storage_refusal(error))

    def _take(self, intake: "Intake", message: Message, batch_id: bytes) -> Answer | None:
        self._check_stream(message)
        if not self._stream.config.allow_atomic:
            raise ApiError(error_table.ATOMIC_PUBLISH_DISABLED)
        if len(batch_id) > BATCH_ID_SIZE_MAX:
            raise ApiError(error_table.ATOMIC_PUBLISH_INVALID_BATCH_ID)
        sequence = _number(headers.get(message.headers, b"Nats-Batch-Sequence"))
        if sequence is None:
            raise ApiError(error_table.ATOMIC_PUBLISH_MISSING_SEQ)
        end = headers.get(message.headers, COMMIT)
        size = (sequence - 1) % (1 << 64) if end == END else sequence  # the reference counts like that from 0
        batch = self._open.get(batch_id) or self._begun(batch_id, sequence, size)
        if end is not None and end not in (b"1", END):
            self.close(batch)
            raise ApiError(error_table.ATOMIC_PUBLISH_INVALID_BATCH_COMMIT)
        try:
            message = without_level(message)
        except ApiError:
            self._abandon(batch, "unsupported")
            raise
        batch.last += 1
        if batch.last != sequence or (sequence == 1 and end == END):
            self._abandon(batch, "incomplete")
            raise ApiError(error_table.ATOMIC_PUBLISH_INCOMPLETE_BATCH)
        if size > self._limits.atomic_messages:
            self._abandon(batch, "large")
            raise self._too_large()
        if end is None:
            self._keep(batch, message)
            return None
        return self._committed(intake, batch, message, is_stored=end != END)

    def _begun(self, batch_id: bytes, sequence: int, size: int) -> AtomicBatch:
        if sequence != 1:
            if size > self._limits.atomic_messages:
                raise self._too_large()
            raise ApiError(error_table.ATOMIC_PUBLISH_INCOMPLETE_BATCH)
        opened = self._context.open_batches
        if len(self._open) >= self._limits.atomic_per_stream or opened.atomic >= self._limits.atomic:
            raise ApiError(error_table.ATOMIC_PUBLISH_TOO_MANY_INFLIGHT)
        batch = self._open[batch_id] = AtomicBatch(batch_id)
        opened.atomic += 1
        self._wait_for(batch)
        return batch

    def _keep(self, batch: AtomicBatch, message: Message) -> None:
        opened = self._context.open_batches
        size = len(message.subject) + len(message.headers) + len(message.payload)
        if opened.staged_size + size > STAGED_SIZE_MAX:
            self._abandon(batch, "incomplete")
            raise ApiError(error_table.INSUFFICIENT_RESOURCES)
        opened.staged_size += size
        batch.size += size
        batch.messages.append(message)
        self._wait_for(batch)
        if message.reply and not self._stream.config.no_ack:
            self._context.bus.publish(self._stream.account.name, message.reply, b"")
            self._context.bus.request_turn()

    def _committed(
        self, intake: "Intake", batch: AtomicBatch, message: Message, *, is_stored: bool
    ) -> Answer:
        messages = batch.messages
        if is_stored:
            messages.append(message)
        else:
            last = messages[-1]
            messages[-1] = last._replace(headers=headers.with_field(last.headers, COMMIT, b"1"))
        self.close(batch)
        count = len(messages)
        with intake.aside():
            atomic = AtomicIntake(self._stream)
            sequence = atomic.commit(messages)
            intake.join(atomic)
        more = b',"batch":%b,"count":%d' % (encode_json(batch.batch_id.decode("utf-8", "replace")), count)
        return Answer(message.reply, None, sequence, more=more)

    def _too_large(self) -> ApiError:
        return ApiError(error_table.ATOMIC_PUBLISH_TOO_LARGE_BATCH, size=self._limits.atomic_messages)

    def _abandon(self, batch: AtomicBatch, reason: str) -> None:
        self.close(batch)
        name, account, context = self._stream.name, self._stream.account.name, self._context
        subject = b"$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED." + name.encode()
        body = {
            "type": "io.nats.jetstream.advisory.v1.stream_batch_abandoned",
            "stream": name,
            "batch": batch.batch_id.decode("utf-8", "replace"),
            "reason": reason,
        }
        if account != context.system_account:
            context.advise(account, subject, body)
        context.advise(context.system_account, subject, {**body, "account": account})
        self._context.bus.request_turn()

    def _release(self, batch: AtomicBatch) -> None:
        opened = self._context.open_batches
        opened.atomic -= 1
        opened.staged_size -= batch.size

    def _on_timeout(self, batch: AtomicBatch) -> None:
        self._abandon(batch, "timeout")


def _number(value: bytes | None) -> int | None:
    """Read a number of 64 bits; None where it is none."""
    if value is None or not value.isdigit() or len(value) > _SEQUENCE_DIGITS_MAX:
        return None
    number = int(value)
    return number if number < 1 << 64 else None
