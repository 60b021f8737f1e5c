"""Fast-ingest batches: messages stored one by one, and acknowledged many at once.

The reply subject says it all: `<prefix>.<batch id>.<flow>.<gap mode>.<number>.<operation>.$FI`. The server answers
on the reply of the message concerned: how many messages it acknowledges at once, that so many are stored, that
there was a gap or a refusal, and at the end a pub ack.

The state machine is run as messages come; all that it says waits for the sync that covers what it speaks of, with the
other answers of the turn and in their order.

Source: the streams reference, section 7.6.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.core.base.message import Message
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.wire import encode_json
from headrace.jetstream.streams.batches import BATCH_ID_SIZE_MAX, FAST_REPLY, Batches, without_level
from headrace.jetstream.streams.intake import Answer

if TYPE_CHECKING:
    from headrace.jetstream.streams.intake import Intake

FLOW_DEFAULT: Final = 10
FLOW_MAX: Final = 500
FLOW_ASKED_MAX: Final = 65535

_START, _APPEND, _COMMIT, _END, _PING = range(5)
_NUMBER_MAX: Final = 2**64 - 1
_DIGITS_MAX: Final = 20
_PARTS: Final = 5


@dataclass(frozen=True, slots=True)
class FastStep:
    """What a reply subject says."""

    batch_id: bytes
    flow: int
    takes_gaps: bool
    number: int
    operation: int

    @property
    def is_commit(self) -> bool:
        return self.operation in (_COMMIT, _END)


class FastBatch:
    """One batch. `last`: the last number that came; `stored`: the last one seen to; `told`: of the last ack."""

    __slots__ = ("batch_id", "flow", "flow_max", "last", "sequence", "stored", "takes_gaps", "told")

    def __init__(self, batch_id: bytes, *, takes_gaps: bool, flow_max: int) -> None:
        self.batch_id = batch_id
        self.takes_gaps = takes_gaps
        self.flow_max = flow_max
        self.flow = 0
        self.last = 0
        self.stored = 0
        self.told = 0
        self.sequence = 0  # the stream's, of the last message stored


def parse_step(reply: bytes) -> FastStep | None:
    """Read a reply subject that ends in `.$FI`; None where it does not follow the pattern."""
    parts = reply[: -len(FAST_REPLY)].rsplit(b".", _PARTS)
    if len(parts) <= _PARTS:
        return None
    _, batch_id, flow, gap_mode, number, operation = parts
    if operation not in (b"0", b"1", b"2", b"3", b"4") or gap_mode not in (b"ok", b"fail"):
        return None
    if not number.isdigit() or len(number) > _DIGITS_MAX or not 0 < int(number) < _NUMBER_MAX:
        return None
    step = FastStep(batch_id, _flow(flow), gap_mode == b"ok", int(number), int(operation))
    is_first = step.number == 1
    if (step.operation == _START and not is_first) or (step.operation in (_APPEND, _END) and is_first):
        return None
    return step


def _flow(text: bytes) -> int:
    if not text.isdigit() or not int(text[:_DIGITS_MAX]):
        return FLOW_DEFAULT
    return min(int(text[:_DIGITS_MAX]), FLOW_ASKED_MAX)


class FastBatches(Batches[FastBatch]):
    """The fast-ingest batches of one stream that are open."""

    def take(self, intake: "Intake", message: Message) -> Answer:
        """Take a message whose reply subject ends in `.$FI`; what there is to say joins the intake's answers.

        Gives what became of the message itself.
        """
        try:
            step = self._checked(message)
            batch = self._open.get(step.batch_id) or self._begun(step)
            try:
                message = without_level(message)
            except ApiError:
                self.close(batch)
                raise
        except ApiError as refusal:
            answer = Answer(message.reply, refusal)
            intake.answers.append(answer)
            return answer
        self._wait_for(batch)
        return _Talk(self, batch, step, intake, message).run()

    def _checked(self, message: Message) -> FastStep:
        self._check_stream(message)
        if not self._stream.config.allow_batched:
            raise ApiError(error_table.BATCH_PUBLISH_DISABLED)
        step = parse_step(message.reply)
        if step is None:
            raise ApiError(error_table.BATCH_PUBLISH_INVALID_PATTERN)
        if len(step.batch_id) > BATCH_ID_SIZE_MAX:
            raise ApiError(error_table.BATCH_PUBLISH_INVALID_BATCH_ID)
        return step

    def _begun(self, step: FastStep) -> FastBatch:
        if step.number != 1:
            raise ApiError(error_table.BATCH_PUBLISH_UNKNOWN_BATCH_ID)
        opened = self._context.open_batches
        if len(self._open) >= self._limits.fast_per_stream or opened.fast >= self._limits.fast:
            raise ApiError(error_table.BATCH_PUBLISH_TOO_MANY_INFLIGHT)
        batch = FastBatch(step.batch_id, takes_gaps=step.takes_gaps, flow_max=step.flow)
        self._open[step.batch_id] = batch
        opened.fast += 1
        batch.flow = min(FLOW_MAX, step.flow) if len(self._open) == 1 else 1
        return batch

    def _release(self, batch: FastBatch) -> None:  # noqa: ARG002  (each takes the same)
        self._context.open_batches.fast -= 1

    def _on_timeout(self, batch: FastBatch) -> None:
        self.close(batch)


class _Talk:
    """What one message does to its batch, and what is said of it."""

    def __init__(
        self, batches: FastBatches, batch: FastBatch, step: FastStep, intake: "Intake", message: Message
    ) -> None:
        self._batches = batches
        self._batch = batch
        self._step = step
        self._intake = intake
        self._message = message

    def run(self) -> Answer:
        batch, step = self._batch, self._step
        nothing = Answer(self._message.reply, None)
        if step.operation == _PING:
            self._ping()
            return nothing
        batch.last += 1
        if batch.last != step.number and not self._mind_gap():
            return nothing
        if step.operation == _END:
            batch.last -= 1
            self._commit()
            return nothing
        if step.number == 1 and not step.is_commit:
            self._say({"type": "ack", "seq": 0, "msgs": batch.flow})
        answer = self._intake.judge(self._message)
        if answer.refusal is None and not answer.is_duplicate:
            batch.sequence = answer.sequence
            batch.stored = batch.last
            if step.is_commit:
                self._commit()
            else:
                self._tell_flow()
        else:
            self._on_refused(answer)
        return answer

    def _ping(self) -> None:
        batch, number = self._batch, self._step.number
        if number > batch.last:
            self._say({"type": "gap", "last_seq": batch.last + 1, "seq": number + 1})
            if not batch.takes_gaps:
                self._commit()
                return
            batch.last = batch.stored = number
            if self._tell_flow():
                return
        self._say_flow()

    def _mind_gap(self) -> bool:
        """Another number came than was due; tell whether the batch goes on with it."""
        batch, number = self._batch, self._step.number
        self._say({"type": "gap", "last_seq": batch.last, "seq": number})
        if batch.takes_gaps and number > batch.last:
            batch.last = number
            return True
        batch.last -= 1
        self._commit()
        return False

    def _on_refused(self, answer: Answer) -> None:
        batch, step, refusal = self._batch, self._step, answer.refusal
        if refusal is None:
            batch.stored = step.number
            self._tell_flow()
            if not step.is_commit:
                return
        if not batch.takes_gaps and batch.last == 1:
            self._batches.close(batch)
            if refusal is not None:
                self._intake.answers.append(answer)
            else:
                self._say_end(answer.sequence, step.number, b',"duplicate": true')
            return
        if refusal is not None:
            self._say({"type": "err", "seq": step.number, "error": refusal.body()})
            if batch.takes_gaps and not step.is_commit:
                return
            batch.last -= 1
        self._commit()

    def _commit(self) -> None:
        """The batch ends here, with what was stored of it."""
        batch = self._batch
        batch.stored = batch.last
        self._batches.close(batch)
        self._say_end(batch.sequence, batch.last, b"")

    def _say_end(self, sequence: int, count: int, note: bytes) -> None:
        name = encode_json(self._batch.batch_id.decode("utf-8", "replace"))
        more = b'%b,"batch":%b,"count":%d' % (note, name, count)
        self._intake.answers.append(Answer(self._message.reply, None, sequence, more=more))

    def _tell_flow(self) -> bool:
        """Acknowledge what was stored where it is enough, and let the publisher go faster or slower."""
        batch = self._batch
        steps = (batch.stored - batch.told) // batch.flow
        if steps <= 0:
            return False
        batch.told += steps * batch.flow
        share = min(max(1, FLOW_MAX // len(self._batches)), batch.flow_max)
        if batch.flow < share:
            batch.flow = min(2 * batch.flow, share)
        elif batch.flow > share:
            batch.flow = max(batch.flow // 2, share)
        self._say_flow()
        return True

    def _say_flow(self) -> None:
        self._say({"type": "ack", "seq": self._batch.told, "msgs": self._batch.flow})

    def _say(self, body: dict[str, object]) -> None:
        self._intake.answers.append(Answer(self._message.reply, None, body=encode_json(body)))
