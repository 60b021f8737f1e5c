"""The way between a session and its client: what the transports have learnt that a rule may want to know.

A connection is a stack: a socket, perhaps TLS upon it, perhaps WebSocket upon that, a session on top. The layers
below the session share one `Link` and fill it in as they learn; the session reads it, and the layers tell the session
through `Link.user` when the way is open or cannot be. A plain TCP connection has a link that is ready at once.

Order: `greet` may come first (INFO in clear, before a handshake); `on_link_ready` comes once, when the client's bytes
may be parsed; `on_link_failed` ends it instead. Until it is ready the session is given no bytes.
"""

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from headrace.core.auth.peer_certificate import PeerCertificate
from headrace.core.errors import ProtocolError


class LinkKind(Enum):
    """What a client speaks below the NATS protocol; the names are those of `allowed_connection_types`."""

    STANDARD = "STANDARD"
    WEBSOCKET = "WEBSOCKET"


class LinkUser(Protocol):
    """What the layers below tell a session."""

    def greet(self) -> None:
        """Send INFO now, unless it was sent: the client does not begin by itself."""
        ...

    def on_link_ready(self) -> None:
        """The client's bytes follow: INFO goes out if it was held back, and the time for the login begins."""
        ...

    def on_link_failed(self, error: ProtocolError, level: int = logging.ERROR) -> None:
        """There will be no bytes: close."""
        ...


@dataclass(frozen=True, slots=True)
class Cookies:
    """Credentials that came with a WebSocket's request; they stand in for what CONNECT leaves out."""

    jwt: str = ""
    user: str = ""
    password: str = ""
    token: str = ""


@dataclass(slots=True)
class Link:
    """One client's way. `host` and `port`: where INFO says that such clients connect; "" and 0: as all others."""

    kind: LinkKind = LinkKind.STANDARD
    host: str = ""
    port: int = 0
    tls_required: bool = False  # these three are shown by INFO
    tls_verify: bool = False
    tls_available: bool = False
    is_ready: bool = True
    greets_late: bool = False  # INFO waits for `greet` or `on_link_ready`
    is_tls_first: bool = False  # the handshake came before INFO
    tls_version: str = ""  # "1.3"; "" in clear
    tls_cipher: str = ""  # the suite's registered name
    certificate: PeerCertificate | None = None  # the client's, verified
    maps_certificate: bool = False  # `verify_and_map`: login goes by the certificate
    forwarded_host: str = ""  # who a proxy says that the client is
    cookies: Cookies = field(default_factory=Cookies)
    user: LinkUser | None = None

    @property
    def is_websocket(self) -> bool:
        return self.kind is LinkKind.WEBSOCKET

    @property
    def is_secured(self) -> bool:
        """Whether the bytes are encrypted."""
        return bool(self.tls_version)
