"""Copied messages on their way into a stream: its limits hold for them, its publishers' rules don't.

An origin has judged its messages already. So nothing is expected of them, and what they ask of retention (a TTL, a
rollup) is done where the target allows it. A mirror keeps times, and sequences, which are its caller's affair; a
sourced message is a new one, and in a counter stream it adds what its origin has added.
"""

from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.mirrors.origins import replaced
from headrace.jetstream.models.ttl import FOREVER, parse_ttl
from headrace.jetstream.streams.counters import SOURCES, joined, payload_of, total_of
from headrace.jetstream.streams.intake import Intake
from headrace.jetstream.streams.publish_headers import NO_WISHES, Wishes, parse_wishes

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

_ROLLUPS: Final = frozenset((b"sub", b"all"))


class CopyIntake(Intake):
    """Takes the messages of one run."""

    def __init__(self, stream: "Stream") -> None:
        super().__init__(stream)
        self.judged = 0
        self._time_ns = self._now_ns

    def take_copy(self, subject: bytes, block: bytes, payload: bytes, time_ns: int = 0) -> bool:
        """Store one message, with its origin's time or, for 0, as a new one; False: a duplicate, which is left out.

        Raises ApiError where the stream has no room, and StorageError.
        """
        self._now_ns = time_ns or self._time_ns
        wishes = parse_wishes(block) if block else NO_WISHES
        if wishes is NO_WISHES and self._config.allow_msg_counter:
            return False
        if wishes is NO_WISHES:
            self._store(subject, block, payload, b"", b"")
        else:
            if not time_ns and self._is_known(wishes):
                return False
            if self._config.allow_msg_counter:
                try:
                    block, payload = self._joined(subject, block, payload, wishes)
                except ApiError as error:
                    self._stream.context.log.warning(
                        f"Stream '{self._config.name}': {error}: left out of a counter"
                    )
                    return False
            rollup = (wishes.rollup or b"").lower()
            sequence = self._store(
                subject,
                block,
                payload,
                wishes.message_id if self._config.duplicate_window else b"",
                rollup if rollup in _ROLLUPS else b"",
            )
            self._note_end(sequence, subject, wishes)
        self.judged += 1
        return True

    def skip_to(self, sequence: int, time_ns: int) -> None:
        """Leave out all sequences below this one. Raises StorageError."""
        if sequence > self._next_sequence:
            self._flush()
            self._log.skip(sequence - 1, time_ns)
            self._refresh()

    def _is_known(self, wishes: Wishes) -> bool:
        window_ns = self._config.duplicate_window
        if not wishes.message_id or not window_ns:
            return False
        if wishes.message_id in self._message_ids:
            return True
        return self._log.find_message_id(wishes.message_id, max(0, self._now_ns - window_ns)) is not None

    def _joined(self, subject: bytes, block: bytes, payload: bytes, wishes: Wishes) -> tuple[bytes, bytes]:
        """Give headers and total to store for a counter's message. Raises ApiError where it is none."""
        if wishes.increment is None:
            raise ApiError(error_table.MESSAGE_INCR_MISSING)
        parts = (wishes.source or b"").decode("utf-8", "replace").split(" ")
        origin_subject = parts[4] if len(parts) > 4 else subject.decode("utf-8", "replace")
        counter, increment = joined(self._counter(subject), parts[0], origin_subject, total_of(payload))
        self._counters[subject] = counter
        block = replaced(block, b"Nats-Incr", b"%d" % increment)
        return replaced(block, SOURCES, counter.sources), payload_of(counter)

    def _note_end(self, sequence: int, subject: bytes, wishes: Wishes) -> None:
        if wishes.ttl is None or not self._config.allow_msg_ttl:
            return
        ttl = parse_ttl(wishes.ttl)
        if ttl is not None and ttl != FOREVER:
            self._ends.append((sequence, subject, self._now_ns + ttl * NS_PER_S))
