"""Ack subjects and what is published to them.

A delivered message's reply subject names the delivery, so that the answer to it names it too:
`$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time ns>.<pending>`.

Source: the JetStream API reference, section 4; the consumer reference, section 5.
"""

from enum import Enum
from typing import Any, Final, NamedTuple, cast

from headrace.jetstream.consumers.durations import parse_duration
from headrace.jetstream.models.wire import InvalidJson, parse_json

PLAIN_ACKS: Final = frozenset({b"", b"+ACK", b"+OK"})


class AckKind(Enum):
    """What a client says about a message."""

    ACK = "ack"
    NAK = "nak"
    PROGRESS = "progress"
    NEXT = "next"
    TERM = "term"
    JUNK = "junk"


class AckSubject(NamedTuple):
    """What an ack subject tells; only the stream sequence identifies the message."""

    deliveries: int
    stream_sequence: int
    consumer_sequence: int


def ack_prefix(stream: str, consumer: str) -> bytes:
    """Give what a consumer's ack subjects begin with."""
    return f"$JS.ACK.{stream}.{consumer}.".encode()


def ack_template(prefix: bytes) -> bytes:
    """Give an ack subject to be filled (`%`) with deliveries, stream and consumer sequence, time and pending."""
    return prefix.replace(b"%", b"%%") + b"%d.%d.%d.%d.%d"


def parse_ack_subject(subject: bytes, prefix_size: int) -> AckSubject | None:
    """Read the numbers behind an ack subject's prefix; None where they are none."""
    try:
        deliveries, stream_sequence, consumer_sequence, _, _ = subject[prefix_size:].split(b".")
        return AckSubject(int(deliveries), int(stream_sequence), int(consumer_sequence))
    except ValueError:
        return None


def parse_ack(payload: bytes) -> tuple[AckKind, bytes]:
    """Tell what an ack says, and what else stands in it."""
    if payload in PLAIN_ACKS:
        return AckKind.ACK, b""
    if payload.startswith(b"-NAK"):
        return AckKind.NAK, payload[4:].strip()
    if payload == b"+WPI":
        return AckKind.PROGRESS, b""
    if payload.startswith(b"+NXT"):
        return AckKind.NEXT, payload[4:].strip()
    if payload.startswith(b"+TERM"):
        return AckKind.TERM, payload[5:].strip()
    return AckKind.JUNK, b""


def parse_nak_delay(argument: bytes) -> int:
    """Give the delay that a NAK asks for, nanoseconds; 0 where it asks for none, or in a way that cannot be read."""
    if argument.startswith(b"{"):
        try:
            delay = cast("dict[str, Any]", parse_json(argument)).get("delay", 0)
        except InvalidJson:
            return 0
        return delay if isinstance(delay, int) and delay > 0 else 0
    duration_ns = parse_duration(argument.decode("utf-8", "replace"))
    return max(0, duration_ns or 0)
