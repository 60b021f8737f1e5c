"""Buckets seen from outside a domain: `$JS.<domain>.API.$KV.>` is `$KV.>`, and the same for `$OBJ.>`.

Clients of key-value and object stores that name a domain publish through its API prefix.
"""

from collections.abc import Iterator

from headrace.core.base.message import Batch
from headrace.jetstream.context import API_PREFIX, Context

_BUCKETS = (b"$KV.>", b"$OBJ.>")


class DomainBuckets:
    """Publishes again, without the prefix, what one account's clients publish with it."""

    def __init__(self, context: Context, account: str) -> None:
        self._bus = context.bus
        self._account = account
        self._prefixes = [prefix for prefix in context.api_prefixes if prefix != API_PREFIX]

    def open(self) -> None:
        """Listen, where there is a domain."""
        for subject in self._subjects():
            self._bus.capture(self._account, subject, self)

    def _subjects(self) -> Iterator[bytes]:
        for prefix in self._prefixes:
            for bucket in _BUCKETS:
                yield prefix + bucket

    def on_messages(self, batch: Batch) -> None:
        """Publish each message again."""
        for message in batch:
            prefix = next(prefix for prefix in self._prefixes if message.subject.startswith(prefix))
            self._bus.publish(
                self._account,
                message.subject[len(prefix) :],
                message.payload,
                reply=message.reply,
                headers=message.headers,
            )
