"""What a peer did wrong, with the reference server's text, to the letter.

`text` is what stands between the quotes of `-ERR '...'`; empty: the connection is closed without a word.
`fatal`: the connection is closed after it. `reason` is what monitoring shows for the close.

Source: the client protocol of NATS server 2.15, probed.
"""

from headrace.core.base.errors import HeadraceError


def quoted(text: bytes) -> str:
    """Put a name from the wire between double quotes, with backslash escapes, as the reference's texts do."""
    shown: list[str] = []
    for character in text.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if character in '"\\':
            shown.append("\\" + character)
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            shown.append(f"\\x{code - 0xDC00:02x}")
        elif character in _ESCAPES:
            shown.append(_ESCAPES[character])
        elif code < 0x20 or code == 0x7F:
            shown.append(f"\\x{code:02x}")
        else:
            shown.append(character)
    return '"' + "".join(shown) + '"'


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


class ProtocolError(HeadraceError):
    """The peer broke the protocol or a rule of this server."""

    text = ""
    fatal = True
    reason = "Protocol Violation"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.text or self.reason)
        self.detail = detail

    def encode(self) -> bytes:
        """Give the -ERR line; empty where the peer is told nothing."""
        return b"-ERR '%b'\r\n" % self.text.encode("utf-8", "surrogateescape") if self.text else b""


# What ends a connection.


class MalformedArguments(ProtocolError):
    """An operation has the wrong number of arguments or a bad size; the peer is told nothing."""


class PeerReportedError(ProtocolError):
    """The peer sent -ERR; it is told nothing."""

    reason = "Parse Error"


class UnknownOperation(ProtocolError):
    text = "Unknown Protocol Operation"
    reason = "Parse Error"


class ControlLineExceeded(ProtocolError):
    text = "maximum control line exceeded"
    reason = "Maximum Control Line Exceeded"


class MaximumPayloadViolation(ProtocolError):
    text = "Maximum Payload Violation"
    reason = "Maximum Message Payload Exceeded"


class HeadersNotNegotiated(ProtocolError):
    """HPUB from a client that did not say `headers: true`; it is told nothing."""

    reason = "Message Header Violation"


class AuthorizationViolation(ProtocolError):
    text = "Authorization Violation"
    reason = "Authentication Failure"


class AuthenticationTimeout(ProtocolError):
    text = "Authentication Timeout"
    reason = "Authentication Timeout"


class UserAuthenticationExpired(ProtocolError):
    text = "User Authentication Expired"
    reason = "Authentication Expired"


class AccountAuthenticationExpired(ProtocolError):
    text = "Account Authentication Expired"
    reason = "Authentication Expired"


class UserAuthenticationRevoked(ProtocolError):
    text = "User Authentication Revoked"
    reason = "Credentials Revoked"


class StaleConnection(ProtocolError):
    text = "Stale Connection"
    reason = "Stale Connection"


class InvalidClientProtocol(ProtocolError):
    text = "invalid client protocol"
    reason = "Bad Client Protocol Version"


class NoRespondersRequiresHeaders(ProtocolError):
    text = "no responders requires headers support"
    reason = "No Responders Requires Headers"


class MaximumConnectionsExceeded(ProtocolError):
    text = "maximum connections exceeded"
    reason = "Maximum Connections Exceeded"


class MaximumAccountConnectionsExceeded(ProtocolError):
    text = "maximum account active connections exceeded"
    reason = "Maximum Account Connections Exceeded"


class TlsHandshakeFailure(ProtocolError):
    """The client did not come to speak TLS; it is told nothing, as it could not read it."""

    reason = "TLS Handshake Failure"


class ConnectionsThrottled(ProtocolError):
    text = "Connection throttling is active. Please try again later."
    reason = "Maximum Connections Exceeded"


# What leaves it open.


class InvalidSubject(ProtocolError):
    text = "Invalid Subject"
    fatal = False


class InvalidPublishSubject(ProtocolError):
    text = "Invalid Publish Subject"
    fatal = False


class MaximumSubscriptionsExceeded(ProtocolError):
    text = "maximum subscriptions exceeded"
    fatal = False
    reason = "Maximum Subscriptions Exceeded"


class PermissionsViolation(ProtocolError):
    """Some subject is not permitted; `text` names it."""

    fatal = False

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(detail or text)
        self.text = text


class PublishViolation(PermissionsViolation):
    def __init__(self, subject: bytes) -> None:
        super().__init__(
            f"Permissions Violation for Publish to {quoted(subject)}",
            f"Publish Violation - Subject {quoted(subject)}",
        )
        self.subject = subject


class ReplyViolation(PermissionsViolation):
    def __init__(self, reply: bytes) -> None:
        super().__init__(
            f"Permissions Violation for Publish with Reply of {quoted(reply)}",
            f"Publish Violation - Reply {quoted(reply)}",
        )
        self.reply = reply


class SubscriptionViolation(PermissionsViolation):
    def __init__(self, subject: bytes, queue: bytes = b"") -> None:
        group = f" using queue {quoted(queue)}" if queue else ""
        super().__init__(
            f"Permissions Violation for Subscription to {quoted(subject)}{group}",
            f"Subscription Violation - Subject {quoted(subject)}"
            + (f", Queue: {quoted(queue)}" if queue else ""),
        )
        self.subject = subject
        self.queue = queue


class SubscriptionRevoked(PermissionsViolation):
    """A subscription that is not permitted any more, and has ended."""

    def __init__(self, subject: bytes, queue: bytes, sid: bytes) -> None:
        group = f" using queue {quoted(queue)}" if queue else ""
        super().__init__(
            f"Permissions Violation for Subscription to {quoted(subject)}{group} (sid {quoted(sid)})"
        )
        self.subject = subject


class TooManyTokens(PermissionsViolation):
    def __init__(self, subject: bytes) -> None:
        super().__init__(f"Permissions Violation for Subscription to {quoted(subject)}, too many tokens")
        self.subject = subject


class ConfigError(HeadraceError):
    """A configuration cannot be used: names the file, the line, the key and what would be accepted."""
