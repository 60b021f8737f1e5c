"""A connection as monitoring shows it, open or closed."""

from dataclasses import dataclass

from headrace.core.auth.peer_certificate import PeerCertificate
from headrace.core.engine.interface import SubscriptionInfo


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A connection as monitoring shows it. Times are wall clock; `stop_ns` 0: it is open."""

    id: int
    host: str
    port: int
    start_ns: int
    last_activity_ns: int
    stop_ns: int
    reason: str
    rtt_ns: int
    pending_size: int
    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    subscription_count: int
    subscriptions: tuple[SubscriptionInfo, ...]
    name: str
    language: str
    version: str
    account: str
    user: str
    type: str = "nats"  # or "websocket"
    tls_version: str = ""
    tls_cipher: str = ""
    is_tls_first: bool = False
    certificate: PeerCertificate | None = None
