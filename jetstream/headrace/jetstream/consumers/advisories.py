"""What a consumer tells the world about itself: advisories, and the ack metric.

Source: the JetStream API reference, section 6.
"""

from typing import Any, Final

from headrace.jetstream.context import Context
from headrace.jetstream.models.times import encode_time

_TYPE: Final = "io.nats.jetstream.advisory.v1."
_ACK_METRIC: Final = "io.nats.jetstream.metric.v1.consumer_ack"


class ConsumerAdvisories:
    """The advisories of one consumer."""

    def __init__(self, context: Context, account: str, stream: str, consumer: str) -> None:
        self._context = context
        self._account = account
        self._names = {"stream": stream, "consumer": consumer}
        self._tail = f".{stream}.{consumer}".encode()

    def created(self) -> None:
        self._advise(b"CREATED", "consumer_action", action="create")

    def deleted(self) -> None:
        self._advise(b"DELETED", "consumer_action", action="delete")

    def paused(self, pause_until_ns: int, *, is_paused: bool) -> None:
        """The consumer was paused until some time, or has resumed."""
        self._advise(b"PAUSE", "consumer_pause", paused=is_paused, pause_until=encode_time(pause_until_ns))

    def pinned(self, group: str, pin_id: str) -> None:
        """A client got all messages for itself."""
        self._advise_of_group(b"PINNED", "consumer_group_pinned", group=group, pinned_id=pin_id)

    def unpinned(self, group: str, reason: str) -> None:
        """The pinned client is so no longer."""
        self._advise_of_group(b"UNPINNED", "consumer_group_unpinned", group=group, reason=reason)

    def exhausted(self, sequence: int, deliveries: int) -> None:
        self._advise(b"MAX_DELIVERIES", "max_deliver", stream_seq=sequence, deliveries=deliveries)

    def naked(self, consumer_sequence: int, sequence: int, deliveries: int) -> None:
        self._advise(
            b"MSG_NAKED", "nak", consumer_seq=consumer_sequence, stream_seq=sequence, deliveries=deliveries
        )

    def terminated(self, consumer_sequence: int, sequence: int, deliveries: int, reason: str) -> None:
        fields: dict[str, int | str] = {
            "consumer_seq": consumer_sequence,
            "stream_seq": sequence,
            "deliveries": deliveries,
        }
        if reason:
            fields["reason"] = reason
        self._advise(b"MSG_TERMINATED", "terminated", **fields)

    def acked(self, consumer_sequence: int, sequence: int, deliveries: int, ack_time_ns: int) -> None:
        """Report a sampled ack; `ack_time_ns` is the time since the delivery."""
        body = {
            "type": _ACK_METRIC,
            **self._names,
            "consumer_seq": consumer_sequence,
            "stream_seq": sequence,
            "ack_time": ack_time_ns,
            "deliveries": deliveries,
        }
        self._context.advise(self._account, b"$JS.EVENT.METRIC.CONSUMER.ACK" + self._tail, body)

    def _advise(self, event: bytes, kind: str, **fields: int | str | bool) -> None:
        body: dict[str, Any] = {"type": _TYPE + kind, **self._names, **fields}
        self._context.advise(self._account, b"$JS.EVENT.ADVISORY.CONSUMER." + event + self._tail, body)

    def _advise_of_group(self, event: bytes, kind: str, **fields: str) -> None:
        body: dict[str, Any] = {"type": _TYPE + kind, "account": self._account, **self._names, **fields}
        self._context.advise(self._account, b"$JS.EVENT.ADVISORY.CONSUMER." + event + self._tail, body)
