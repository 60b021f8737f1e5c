"""What a stream needs of its consumers: the events it tells them, and the few facts it asks.

`consumers/consumer.py` implements it. The stream calls; nothing here calls the stream back in the same call, so a
stream may tell all its consumers about a change while it is in the middle of a batch.
"""

from enum import Enum
from typing import Any, Protocol


class CloseReason(Enum):
    """Why a consumer ends."""

    DELETED = "deleted"
    STREAM_DELETED = "stream deleted"
    SHUTDOWN = "shutdown"


class Interested(Protocol):
    """Who may need a message: a consumer, or a stream that copies this one."""

    def wants(self, subject: bytes) -> bool:
        """Tell whether its filters mean this subject."""
        ...

    def is_settled(self, sequence: int) -> bool:
        """Tell whether it needs this message no more, if its filters mean it."""
        ...


class AttachedConsumer(Interested, Protocol):
    """A consumer, as its stream sees it."""

    @property
    def name(self) -> str: ...

    @property
    def inactive_threshold_ns(self) -> int: ...

    @property
    def max_ack_pending(self) -> int: ...

    def on_visible(self, last_sequence: int) -> None:
        """Messages up to `last_sequence` are durable. Cheap; the work is done in `pump`."""
        ...

    def on_removed(self, first: int, last: int, subject: bytes | None) -> None:
        """The messages of an inclusive range went; `subject` where it is one message, and known."""
        ...

    def on_thinned(self) -> None:
        """Messages went by the stream's limits, it is not said which."""
        ...

    def on_purged(self) -> None:
        """Messages went, it is not said which: count anew."""
        ...

    def pump(self, budget: int) -> bool:
        """Deliver at most `budget` messages; tell whether more is waiting."""
        ...

    def close(self, reason: CloseReason) -> None: ...

    def info(self) -> dict[str, Any]:
        """Give its ConsumerInfo."""
        ...
