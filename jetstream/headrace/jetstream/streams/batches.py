"""Batches that publishers have begun and not ended: what both kinds share.

A message of a batch is told by its headers (atomic batches) or by its reply subject (fast-ingest batches). Batches are
counted for each stream and for the server, and end when nothing came for a while. They live in memory: a start forgets
them, as the reference server does.

Source: the streams reference, sections 7.5 and 7.6.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Message
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.levels import REQUIRED_HEADER, is_served

if TYPE_CHECKING:
    from headrace.core.options import JetStreamOptions
    from headrace.jetstream.streams.stream import Stream

FAST_REPLY: Final = b".$FI"
"""How the reply subject of a fast-ingest batch ends."""

ATOMIC_MARK: Final = b"Nats-Batch-Id:"
BATCH_ID_SIZE_MAX: Final = 64
BATCH_TIMEOUT_NS: Final = 10 * NS_PER_S
ATOMIC_PER_STREAM_MAX: Final = 50
ATOMIC_MAX: Final = 1000
ATOMIC_MESSAGES_MAX: Final = 1000
FAST_PER_STREAM_MAX: Final = 1000
FAST_MAX: Final = 50_000

STAGED_SIZE_MAX: Final = 256 * 1024 * 1024
"""How many bytes of atomic batches wait for their ends, in all the server: ours, the reference keeps them on disk."""


@dataclass(slots=True)
class OpenBatches:
    """What is open in all of the server."""

    atomic: int = 0
    fast: int = 0
    staged_size: int = 0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How many batches may be open, how large an atomic one may be, and how long one may rest."""

    atomic_per_stream: int
    atomic: int
    atomic_messages: int
    fast_per_stream: int
    fast: int
    timeout_ns: int

    @classmethod
    def of(cls, options: "JetStreamOptions") -> "BatchLimits":
        """Give the server's own limits where they are set."""
        per_stream, total = options.batch_inflight_per_stream, options.batch_inflight_total
        return cls(
            atomic_per_stream=per_stream if per_stream > 0 else ATOMIC_PER_STREAM_MAX,
            atomic=total if total > 0 else ATOMIC_MAX,
            atomic_messages=options.batch_size if options.batch_size > 0 else ATOMIC_MESSAGES_MAX,
            fast_per_stream=per_stream if per_stream > 0 else FAST_PER_STREAM_MAX,
            fast=total if total > 0 else FAST_MAX,
            timeout_ns=options.batch_timeout_ns if options.batch_timeout_ns > 0 else BATCH_TIMEOUT_NS,
        )


class OpenBatch(Hashable, Protocol):
    """A batch that was begun."""

    @property
    def batch_id(self) -> bytes: ...


_Batch = TypeVar("_Batch", bound=OpenBatch)


class Batches(ABC, Generic[_Batch]):
    """The batches of one kind that are open in one stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._context = stream.context
        self._limits = BatchLimits.of(stream.context.options)
        self._open: dict[bytes, _Batch] = {}

    def __len__(self) -> int:
        return len(self._open)

    def drop(self) -> None:
        """Forget all batches; nobody is told."""
        for batch in list(self._open.values()):
            self.close(batch)

    def close(self, batch: _Batch) -> None:
        """The batch has ended."""
        if self._open.get(batch.batch_id) is batch:
            del self._open[batch.batch_id]
            self._context.deadlines.clear(batch)
            self._release(batch)

    def _check_stream(self, message: Message) -> None:
        """Refuse what this stream takes in no batch, of whatever kind. Raises ApiError."""
        config, account = self._stream.config, self._stream.account
        if config.sealed:
            raise ApiError(error_table.STREAM_SEALED)
        account.check_resources(0, in_memory=config.in_memory)
        if 0 <= config.max_msg_size < len(message.headers) + len(message.payload):
            raise ApiError(error_table.STREAM_MESSAGE_EXCEEDS_MAXIMUM)

    def _wait_for(self, batch: _Batch) -> None:
        """Let the batch rest for as long as it may, from now on."""
        deadline_ns = self._context.scheduler.monotonic_ns() + self._limits.timeout_ns
        self._context.deadlines.set(batch, deadline_ns, lambda _: self._on_timeout(batch))

    @abstractmethod
    def _release(self, batch: _Batch) -> None:
        """Give back what the batch took of the server's limits."""

    @abstractmethod
    def _on_timeout(self, batch: _Batch) -> None:
        """Nothing came for too long."""


def without_level(message: Message) -> Message:
    """Give a message without the API level that it asks for. Raises ApiError where that is not served."""
    if not headers.get(message.headers, REQUIRED_HEADER):
        return message
    if not is_served(message.headers):
        raise ApiError(error_table.REQUIRED_API_LEVEL)
    return message._replace(headers=headers.without(message.headers, (REQUIRED_HEADER,)))
