"""What a peer did wrong, with the reference server's text, to the letter.

`text` is what stands between the quotes of `-ERR '...'`; empty: the connection is closed without a word.
`fatal`: the connection is closed after it. `reason` is what monitoring shows for the close.

Source: the client protocol of NATS server 2.15, probed.
"""

from headrace.core.base.errors import HeadraceError


class ProtocolError(HeadraceError):
    """The peer broke the protocol or a rule of this server."""

    text = ""
    fatal = True
    reason = "Protocol Violation"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.text or self.reason)
        self.detail = detail


class ConfigError(HeadraceError):
    """A configuration cannot be used: names the file, the line, the key and what would be accepted."""
