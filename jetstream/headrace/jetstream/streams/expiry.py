"""The end of messages by age: one deadline a stream, that of its oldest message.

An idle stream costs nothing. When the deadline comes, everything that is old enough goes in one removal, and the
deadline moves on to what is the oldest then. A message of age `max_age` has expired.
"""

from typing import TYPE_CHECKING

from headrace.storage.interface import StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

RETRY_NS = 1_000_000_000
"""When to try again after the store refused a removal."""


class Expiry:
    """Keeps one stream free of what is too old."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._deadlines = stream.context.deadlines
        self._scheduler = stream.context.scheduler
        self._key = ("max age", stream.log.stream_id)
        self._is_armed = False

    def arm(self) -> None:
        """Make sure that somebody wakes when the oldest message expires. Called whenever there is a new head."""
        if not self._is_armed and self._stream.config.max_age and not self._stream.config.sealed:
            due_ns = self._due_ns()
            if due_ns is not None:
                self._is_armed = True
                self._deadlines.set(self._key, due_ns, self._on_time)

    def on_config(self) -> None:
        """`max_age` may be another one."""
        self.close()
        self.arm()

    def close(self) -> None:
        """Wake nobody any more."""
        self._deadlines.clear(self._key)
        self._is_armed = False

    def _due_ns(self) -> int | None:
        head = self._stream.log.head
        if head.messages == 0:
            return None
        remaining_ns = head.first_time_ns + self._stream.config.max_age - self._scheduler.now_ns()
        return self._scheduler.monotonic_ns() + max(0, remaining_ns)

    def sweep(self) -> None:
        """Remove what has expired. Raises StorageError."""
        stream = self._stream
        head = stream.log.head
        if not stream.config.max_age or stream.config.sealed or not head.messages:
            return
        expired_before_ns = self._scheduler.now_ns() - stream.config.max_age + 1
        stays = stream.log.sequence_at(expired_before_ns)
        if stays > head.first_sequence:
            stream.log.remove([(head.first_sequence, stays - 1)])
            stream.tell_removed(head.first_sequence, stays - 1, None)

    def _on_time(self, now_ns: int) -> int | None:
        stream = self._stream
        try:
            self.sweep()
        except StorageError as error:
            stream.context.log.warning(f"Stream '{stream.name}': expired messages stay for now: {error}")
            return now_ns + RETRY_NS
        self._is_armed = False
        stream.on_changed()
        stream.context.bus.request_turn()
        return None
