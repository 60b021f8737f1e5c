"""Batches that publishers have begun and not ended: what both kinds share.

A message of a batch is told by its headers (atomic batches) or by its reply subject (fast-ingest batches). Batches are
counted for each stream and for the server, and end when nothing came for a while. They live in memory: a start forgets
them, as the reference server does.

Source: the streams reference, sections 7.5 and 7.6.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_S

if TYPE_CHECKING:
    from headrace.core.options import JetStreamOptions

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
