"""One stream following another: the mirror's only one, or one for each source.

Messages come in runs, from the origin's log where it is of the same account, else from a consumer that the origin
has for us (`remote.py`). A run goes to the target in one append. Nothing is taken of an origin that is not durable
there, and nothing is reported back before it is durable here: a position is moved, and a workqueue's message given up,
when the target's sync has returned.

A mirror's position is its own last sequence: where the origin has gaps, it has them too. A source's is in the target's
`Positions`.

What cannot be stored now (no room, a limit with discard new, an index that is rebuilt) is tried again; no message is
left out.

Source: the streams reference, section 9.
"""

from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from headrace.core.base.clock import NS_PER_S, Timer
from headrace.core.base.message import View
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.mirrors.copy_intake import CopyIntake
from headrace.jetstream.mirrors.origins import (
    Selection,
    identity,
    index_name,
    mirrored_block,
    source_header,
    sourced_block,
)
from headrace.jetstream.mirrors.positions import Position, Positions
from headrace.jetstream.models.stream_config import StreamSource
from headrace.jetstream.models.times import parse_time
from headrace.jetstream.streams.republish import Republished
from headrace.storage.interface import IndexRebuilding, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

RUN_MESSAGES: Final = 4096
RUN_SIZE: Final = 4 * 1024 * 1024
IN_FLIGHT_MESSAGES: Final = 4 * RUN_MESSAGES
"""Messages that may wait for the target's sync."""

RETRY_NS: Final = NS_PER_S
"""How long a message that could not be stored waits."""

HEARD_NS: Final = NS_PER_S
"""An origin of the same server is heard at least so often, as one far away is by its heartbeats."""


class Phase(Enum):
    """Whether there is something to follow."""

    WAITING = "waiting"
    FOLLOWING = "following"
    CLOSED = "closed"


class Follower:
    """Copies one origin into one stream."""

    def __init__(self, target: "Stream", source: StreamSource, positions: Positions | None) -> None:
        self.source = source
        self.index_name = index_name(source)
        self.selection = Selection(source)
        self.error: ApiError | None = None
        self._target = target
        self._positions = positions
        self._origin: Stream | None = None
        self._identity = ""
        self._phase = Phase.WAITING
        self._next = 0
        self._in_flight = 0
        self._settled = 0
        self._last_heard_ns = 0
        self._retry: Timer | None = None

    def __repr__(self) -> str:
        return f"Follower({self._target!r} of {self.source.name!r})"

    @property
    def position(self) -> Position:
        """The last sequence that was taken, durable or not."""
        return Position(max(0, self._next - 1), self._identity)

    @property
    def is_closed(self) -> bool:
        return self._phase is Phase.CLOSED

    # the origin

    def open(self) -> None:
        """Begin to follow, now or when the origin is there."""
        followers = self._target.account.followers.setdefault(self.source.name, [])
        followers.append(self)
        origin = self._target.account.streams.get(self.source.name)
        if origin is not None:
            self.on_origin(origin)
        else:
            self.error = ApiError(error_table.STREAM_NOT_FOUND)

    def close(self) -> None:
        """Follow no more."""
        self._phase = Phase.CLOSED
        followers = self._target.account.followers.get(self.source.name, [])
        if self in followers:
            followers.remove(self)
        if not followers:
            self._target.account.followers.pop(self.source.name, None)
        if self._origin is not None:
            self._origin.followers.remove(self)
            self._origin = None
        if self._retry is not None:
            self._retry.cancel()

    def on_origin(self, origin: "Stream") -> None:
        """The origin is there."""
        if self._phase is not Phase.WAITING:
            return
        self._phase = Phase.FOLLOWING
        self._origin = origin
        self.on_origin_changed(origin)
        self.error = None
        origin.followers.append(self)
        self._next = self._first_wanted(origin)
        self._identity = identity(origin.created_ns)
        self._last_heard_ns = self._target.context.scheduler.now_ns()
        self._settled = 0
        self._release(self._next - 1)
        self.wake()

    def on_origin_gone(self) -> None:
        """The origin was deleted."""
        if self._phase is Phase.FOLLOWING:
            self._phase = Phase.WAITING
            self._origin = None
            self.error = ApiError(error_table.STREAM_NOT_FOUND)
            self.on_origin_changed(None)

    def on_origin_changed(self, origin: "Stream | None") -> None:
        """The origin has come, has another configuration, or has gone."""
        if self._positions is None:
            is_direct = origin is not None and origin.config.allow_direct
            self._target.on_mirrored(is_origin_direct=is_direct)

    def _first_wanted(self, origin: "Stream") -> int:
        """Say where to begin, or to go on."""
        if self._positions is None:
            last = self._target.log.head.last_sequence
            return last + 1 if last else self._first_configured(origin)
        position = self._positions.get(self.index_name)
        if position.sequence and position.identity in ("", identity(origin.created_ns)):
            return position.sequence + 1
        return 1 if position.sequence else self._first_configured(origin)

    def _first_configured(self, origin: "Stream") -> int:
        if self.source.opt_start_seq:
            return self.source.opt_start_seq
        if self.source.opt_start_time:
            return origin.log.sequence_at(parse_time(self.source.opt_start_time))
        return 1

    # running

    def wake(self) -> None:
        """There may be something to take."""
        if self._phase is Phase.FOLLOWING and self._retry is None and self._in_flight < IN_FLIGHT_MESSAGES:
            self._target.context.ready(self)

    def pump(self, budget: int) -> bool:  # noqa: ARG002  (a run is bounded by itself)
        """Take one run."""
        origin = self._origin
        if origin is None or self._retry is not None or self._in_flight >= IN_FLIGHT_MESSAGES:
            return False
        visible = origin.visible_sequence
        if self._next > visible:
            return False
        try:
            scan = origin.log.scan(
                self._next, visible, self.selection.match, messages_max=RUN_MESSAGES, size_max=RUN_SIZE
            )
            if not scan.views:
                self._next = scan.next_sequence
            elif self.take(scan.views):
                self._next = max(self._next, scan.next_sequence)
        except IndexRebuilding as rebuilding:
            self._wait_for(rebuilding)
            return False
        return self._next <= visible and self._retry is None

    def take(self, views: Sequence[View]) -> bool:
        """Append a run to the target; tell whether all of it was taken. Raises IndexRebuilding."""
        target = self._target
        if target.log.fenced:
            self._fail(target.log.fenced)
            return False
        intake = CopyIntake(target)
        taken: list[tuple[int, int]] = []
        is_whole = True
        try:
            for view in views:
                if view.sequence < self._next:
                    continue
                self._take_one(intake, view)
                taken.append((view.sequence, intake.judged))
        except IndexRebuilding:
            if not taken:
                raise
            is_whole = False
        except (ApiError, StorageError) as error:
            self._fail(error)
            is_whole = False
        intake.finish()
        stored = [sequence for sequence, judged in taken if judged <= intake.stored]
        if len(stored) < len(taken):
            self._fail("the store did not take all")
            is_whole = False
        self._last_heard_ns = target.context.scheduler.now_ns()
        if stored:
            self._next = stored[-1] + 1
            self._appended(len(stored), intake.republished)
        return is_whole

    def _take_one(self, intake: CopyIntake, view: View) -> None:
        subject = self.selection.renamed(view.subject, self._target.context.chance)
        if self._positions is None:
            intake.skip_to(view.sequence, view.time_ns)
            intake.take_copy(subject, mirrored_block(view.headers), view.payload, view.time_ns)
        else:
            value = source_header(self.index_name, view.sequence, view.subject, self._identity)
            intake.take_copy(subject, sourced_block(view.headers, value), view.payload)

    def _appended(self, count: int, republished: list[Republished]) -> None:
        self._in_flight += count
        self._target.on_changed()
        done = partial(self._on_durable, count, self.position, republished)
        if self._target.is_durable:
            done(None)
        else:
            self._target.context.store.after_sync(done)

    def _on_durable(
        self, count: int, position: Position, republished: list[Republished], error: StorageError | None
    ) -> None:
        self._in_flight -= count
        if error is not None:
            self._fail(error)
            return
        target = self._target
        target.republisher.send(republished)
        if self._positions is not None:
            self._positions.set(self.index_name, position)
            try:
                self._positions.save([self.index_name])
            except StorageError as failure:
                self._fail(failure)
        self._release(position.sequence)
        target.on_durable()
        target.context.bus.request_turn()
        self.wake()

    def _release(self, sequence: int) -> None:
        """What the origin held for us up to this sequence is durable here: it need not hold it any more."""
        origin = self._origin
        if origin is None or origin.config.retention == "limits":
            return
        start, self._settled = max(self._settled + 1, origin.log.head.first_sequence), sequence
        stop = min(sequence, origin.log.head.last_sequence)
        try:
            while start <= stop:
                scan = origin.log.scan(
                    start, stop, self.selection.match, messages_max=RUN_MESSAGES, size_max=RUN_SIZE
                )
                origin.settle(self, [(view.sequence, view.sequence) for view in scan.views])
                start = scan.next_sequence
        except StorageError as error:
            self._settled = start - 1
            self._fail(error)

    # as one who is interested in messages of the origin

    def wants(self, subject: bytes) -> bool:
        """Tell whether a message of this subject is to be copied."""
        return self.selection.match is None or self.selection.match.matches(subject)

    def is_settled(self, sequence: int) -> bool:
        """Tell whether a message is durable here."""
        return sequence <= self._settled

    # what went wrong

    def _fail(self, reason: object) -> None:
        """Something could not be stored: say so, and try it again a little later."""
        text = reason.description if isinstance(reason, ApiError) else str(reason)
        if self._phase is Phase.CLOSED or self._retry is not None:
            return
        scheduler = self._target.context.scheduler
        self._target.context.log.warning(f"{self!r} waits: {text}")
        self._retry = scheduler.call_at(scheduler.monotonic_ns() + RETRY_NS, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.wake()

    def _wait_for(self, rebuilding: IndexRebuilding) -> None:
        rebuilding.when_ready(self.wake)

    # what is told

    def info(self) -> dict[str, Any]:
        """Give what stream info says about this origin."""
        told: dict[str, Any] = {"name": self.source.name}
        if self.source.external is not None:
            told["external"] = {"api": self.source.external.api, "deliver": self.source.external.deliver}
        told["lag"] = self.lag()
        if self._positions is not None and self.position.sequence:
            told["seq"] = self.position.sequence
        told["active"] = self._active_ns()
        if self.error is not None:
            told["error"] = self.error.body()
        if self.source.filter_subject:
            told["filter_subject"] = self.source.filter_subject
        if self.source.subject_transforms:
            told["subject_transforms"] = [
                {"src": each.src, "dest": each.dest} for each in self.source.subject_transforms
            ]
        return told

    def lag(self) -> int:
        """Count what is still to be taken."""
        if self._origin is None:
            return 0
        log = self._origin.log
        if self._next > log.head.last_sequence:
            return 0
        try:
            return log.count_matching(self.selection.match, self._next)
        except IndexRebuilding:
            return log.head.last_sequence - self._next + 1

    def _active_ns(self) -> int:
        if not self._last_heard_ns:
            return -1
        silent_ns = self._target.context.scheduler.now_ns() - self._last_heard_ns
        return min(silent_ns, HEARD_NS) if self._phase is Phase.FOLLOWING else silent_ns
