"""Status messages: what a consumer tells a client by headers alone, byte for byte.

Source: the JetStream API reference, section 5, probed.
"""

from typing import Final

NO_MESSAGES: Final = b"NATS/1.0 404 No Messages\r\n\r\n"
REQUESTS_PENDING: Final = b"NATS/1.0 408 Requests Pending\r\n\r\n"
EXCEEDED_MAX_WAITING: Final = b"NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n"
PUSH_BASED: Final = b"NATS/1.0 409 Consumer is push based\r\n\r\n"
CONSUMER_DELETED: Final = b"NATS/1.0 409 Consumer Deleted\r\n\r\n"
REQUIRED_API_LEVEL: Final = b"NATS/1.0 412 Required Api Level\r\n\r\n"
PIN_ID_MISMATCH: Final = b"NATS/1.0 423 Nats-Pin-Id mismatch\r\n\r\n"
FLOW_CONTROL_REQUEST: Final = b"NATS/1.0 100 FlowControl Request\r\n\r\n"

REQUEST_TIMEOUT: Final = b"408 Request Timeout"
MESSAGE_TOO_BIG: Final = b"409 Message Size Exceeds MaxBytes"
BATCH_COMPLETED: Final = b"409 Batch Completed"
SERVER_SHUTDOWN: Final = b"409 Server Shutdown"
WRONG_PIN_ID: Final = b"423 Nats-Wrong-Pin-Id"


def with_pending(status: bytes, messages: int, size: int) -> bytes:
    """Give a status with what was left of a pull request: messages not delivered, bytes not used."""
    return b"NATS/1.0 %b\r\nNats-Pending-Messages: %d\r\nNats-Pending-Bytes: %d\r\n\r\n" % (
        status,
        messages,
        size,
    )


def bad_request(why: str) -> bytes:
    return b"NATS/1.0 400 Bad Request - %b\r\n\r\n" % why.encode()


def exceeded(what: str, limit: object) -> bytes:
    """Give the refusal of a pull request that asks for more than the consumer's `max_...` allows."""
    return f"NATS/1.0 409 Exceeded {what} of {limit}\r\n\r\n".encode()


def idle_heartbeat(last_consumer: int, last_stream: int, *, stalled: bytes = b"") -> bytes:
    """Give a heartbeat that names the last delivery; `stalled`: the flow control subject that is waited for."""
    head = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\nNats-Last-Stream: %d\r\n" % (
        last_consumer,
        last_stream,
    )
    if stalled:
        head += b"Nats-Consumer-Stalled: %b\r\n" % stalled
    return head + b"\r\n"
