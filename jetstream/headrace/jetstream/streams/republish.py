"""Stored messages, published once more: under another subject, with headers that say where they are stored.

Whoever appends asks `Republisher.prepared` for each message and sends what it gives once the message is durable, before
the publisher hears of it and before consumers see it.

Source: the streams reference, section 8.
"""

from typing import TYPE_CHECKING, NamedTuple

from headrace.core import headers
from headrace.core.subject import has_wildcard, is_valid
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.streams.transforms import output_transform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.jetstream.streams.stream import Stream
    from headrace.storage.interface import Entry


class Republished(NamedTuple):
    """A message to send when its original is durable."""

    sequence: int
    subject: bytes
    headers: bytes
    payload: bytes


class Republisher:
    """What a stream's `republish` makes of its messages."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self.on_config()

    def on_config(self) -> None:
        """The stream's configuration is another one."""
        config = self._stream.config
        self._transform = output_transform(config)
        self._name = config.name.encode()
        self._is_headers_only = config.republish is not None and config.republish.headers_only

    @property
    def is_on(self) -> bool:
        return self._transform is not None

    def prepared(self, entry: "Entry", sequence: int, previous: int) -> Republished | None:
        """Give what is to be sent for a message, if anything; `previous`: the last sequence that its subject had."""
        if self._transform is None:
            return None
        subject = self._transform.match(entry.subject, self._stream.context.chance)
        if subject is None or not is_valid(subject) or has_wildcard(subject):
            return None
        fields = [
            (b"Nats-Stream", self._name),
            (b"Nats-Subject", entry.subject),
            (b"Nats-Sequence", b"%d" % sequence),
            (b"Nats-Time-Stamp", encode_time(entry.time_ns).encode()),
            (b"Nats-Last-Sequence", b"%d" % previous),
        ]
        payload = entry.payload
        if self._is_headers_only:
            fields.append((b"Nats-Msg-Size", b"%d" % len(payload)))
            payload = b""
        block = headers.encode(fields)
        if entry.headers:
            block = entry.headers.removesuffix(b"\r\n") + block.partition(b"\r\n")[2]
        return Republished(sequence, subject, block, payload)

    def send(self, messages: "Iterable[Republished]") -> None:
        """Send what is durable now."""
        publish, account = self._stream.context.bus.publish, self._stream.account.name
        for message in messages:
            publish(account, message.subject, message.payload, headers=message.headers)
