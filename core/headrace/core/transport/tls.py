"""TLS between a wire and a session, over memory buffers: what arrives is decrypted and handed on, and back.

A `TlsConnection` is the receiver of the wire below and the transport of what is above. It knows no socket and no loop,
so it runs in virtual time too, and a handshake waits for nobody: each chunk moves it on by what it brings.

    WAITING   nothing was received; what is written (INFO, an -ERR) goes in clear
    SHAKING   the handshake is under way; what is written waits for its end
    OPEN      encrypted both ways
    CLEAR     the client chose to speak in clear, where that is allowed
    CLOSED    nothing more

The handshake has `timeout_ns` from the connection on. `handshake_first` holds INFO back until it is over; with
a fallback, a client that has said nothing by then is greeted in clear, as all are without it. With `allow_non_tls` the
first byte decides: 22 begins a handshake, anything else is NATS.

Memory: ciphertext that came is decrypted at once, into one buffer that all connections of a listener share. A client
that has not finished its handshake is kept what OpenSSL needs for it; its messages are bounded there.

Source: the client protocol of NATS server 2.15, §9, probed.
"""

import contextlib
import logging
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from headrace.core.base.clock import NS_PER_S, Scheduler, Timer
from headrace.core.engine.interface import Transport
from headrace.core.errors import ConnectionsThrottled, ProtocolError, TlsHandshakeFailure
from headrace.core.link import Link
from headrace.core.options import TlsOptions
from headrace.core.transport.tcp import Accept, Receiver
from headrace.core.transport.tls_context import TlsContexts, build, key_digest, read_peer, registered_name

HANDSHAKE_RECORD: Final = 22
"""The first byte of a TLS handshake; no NATS operation begins so."""

RECORD_SIZE: Final = 16 * 1024
"""The most that one record holds, bytes."""

BUFFER_SIZE: Final = 256 * 1024
"""What is decrypted, or encrypted, before it is handed on, bytes."""

_REASONS: Final[dict[str, str]] = {
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
}
"""OpenSSL's reasons in the reference's words, where logs are searched for them."""

_PROBES: Final = frozenset({"HTTP_REQUEST", "WRONG_VERSION_NUMBER"})
"""What port scanners and load balancers cause: for the debug log only."""


class Phase(Enum):
    """See above."""

    WAITING = "waiting"
    SHAKING = "shaking hands"
    OPEN = "open"
    CLEAR = "clear"
    CLOSED = "closed"


class End(Enum):
    """Why there is nothing more to decrypt."""

    NOTHING_MORE = "nothing more has come"
    BUFFER_FULL = "the buffer is full"
    FAREWELL = "the client closes"
    BROKEN = "this is no TLS"


class TlsFront:
    """A listener's TLS: options, contexts, and what its connections share. Raises TlsUnusable."""

    def __init__(self, options: TlsOptions, *, allow_non_tls: bool = False) -> None:
        self.options = options
        self.allow_non_tls = allow_non_tls
        self.contexts: TlsContexts = build(options)
        self.buffer = memoryview(bytearray(BUFFER_SIZE))
        self.throttled = 0
        self._window_ends_ns = 0
        self._window_count = 0

    @property
    def is_first_only(self) -> bool:
        """Whether nobody is ever greeted in clear."""
        return self.options.handshake_first and not self.options.first_fallback_ns

    def reload(self, options: TlsOptions, *, allow_non_tls: bool = False) -> None:
        """Use other options, or the same files anew, for handshakes to come; connections stay as they are.

        Raises TlsUnusable; then nothing has changed.
        """
        self.contexts = build(options)
        self.options = options
        self.allow_non_tls = allow_non_tls

    def admits(self, now_ns: int) -> bool:
        """Count a handshake; tell whether it is within the limit of this second."""
        limit = self.options.connection_rate_limit
        if not limit:
            return True
        if now_ns >= self._window_ends_ns:
            self._window_ends_ns = now_ns + NS_PER_S
            self._window_count = 0
        self._window_count += 1
        if self._window_count <= limit:
            return True
        self.throttled += 1
        return False


class TlsConnection:
    """One connection. `receiver` is set right after it was made, then `begin` is called."""

    receiver: Receiver

    def __init__(
        self,
        wire: Transport,
        front: TlsFront,
        link: Link,
        scheduler: Scheduler,
        log_failure: Callable[[str], None],
    ) -> None:
        self._wire = wire
        self._front = front
        self._link = link
        self._scheduler = scheduler
        self._log_failure = log_failure
        self._phase = Phase.WAITING
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._early: list[bytes] = []
        self._timer: Timer | None = None
        options = front.options
        self._may_be_clear = front.allow_non_tls and not options.handshake_first
        link.is_ready = False
        link.greets_late = options.handshake_first
        link.tls_required = options.handshake_first or not front.allow_non_tls
        link.tls_available = front.allow_non_tls
        link.tls_verify = options.verify
        link.maps_certificate = options.map_users

    def begin(self) -> None:
        """Wait for the client, for a bounded time."""
        if self._phase is not Phase.WAITING:
            return  # it was refused
        options = self._front.options
        if options.handshake_first and options.first_fallback_ns:
            self._arm(options.first_fallback_ns, self._greet_in_clear)
        else:
            self._arm(options.timeout_ns, self._on_timeout)

    # from the wire

    def receive(self, chunk: bytes | memoryview) -> None:
        if self._phase is Phase.WAITING:
            self._decide(chunk[0])
        if self._phase is Phase.CLEAR:
            self.receiver.receive(chunk)
        elif self._phase is not Phase.CLOSED:
            self._incoming.write(chunk)
            if self._phase is Phase.SHAKING:
                self._shake()
            if self._phase is Phase.OPEN:
                self._read()

    def on_full(self) -> None:
        self.receiver.on_full()

    def on_drained(self) -> None:
        self.receiver.on_drained()

    def on_closed(self, reason: str) -> None:
        before, self._phase = self._phase, Phase.CLOSED
        self._disarm()
        if before is Phase.SHAKING or (before is Phase.WAITING and not self._may_be_clear):
            self._tell_failure(TlsHandshakeFailure("TLS handshake error: EOF"))
        self.receiver.on_closed(reason)

    # for what is above

    @property
    def pending_size(self) -> int:
        return self._wire.pending_size

    @property
    def written_size(self) -> int:
        return self._wire.written_size

    def write(self, data: bytes) -> None:
        if self._phase is Phase.OPEN:
            self._encrypt(data)
        elif self._phase is Phase.SHAKING:
            self._early.append(data)
        elif self._phase is not Phase.CLOSED:
            self._wire.write(data)

    def pause_reading(self) -> None:
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._wire.resume_reading()

    def close(self, reason: str = "") -> None:
        if self._phase is Phase.OPEN and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # it would wait for the client's own farewell
                self._tls.unwrap()
            self._flush()
        self._phase = Phase.CLOSED
        self._disarm()
        self._wire.close(reason)

    def abort(self) -> None:
        self._phase = Phase.CLOSED
        self._disarm()
        self._wire.abort()

    # the handshake

    def _decide(self, first_byte: int) -> None:
        """Take the first bytes for a handshake, or for NATS."""
        if self._may_be_clear and first_byte != HANDSHAKE_RECORD:
            self._disarm()
            self._go_on_in_clear()
            return
        if not self._front.admits(self._scheduler.monotonic_ns()):
            self._fail(ConnectionsThrottled())
            return
        if self._may_be_clear or self._link.greets_late:
            self._arm(self._front.options.timeout_ns, self._on_timeout)  # what ran was the time to decide
        self._phase = Phase.SHAKING
        self._link.is_tls_first = self._link.greets_late
        self._tls = self._front.contexts.default.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def _shake(self) -> None:
        assert self._tls is not None, "it begins with the handshake"
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert
            level = logging.DEBUG if error.reason in _PROBES else logging.ERROR
            self._fail(TlsHandshakeFailure(f"TLS handshake error: {_said(error)}"), level)
            return
        self._flush()
        self._disarm()
        if not self._is_pinned(self._tls):
            self._fail(TlsHandshakeFailure("TLS handshake error: certificate not pinned"))
            return
        self._tell_link(self._tls)
        self._phase = Phase.OPEN
        early, self._early = self._early, []
        for data in early:
            self._encrypt(data)
        self._become_ready()

    def _is_pinned(self, tls: ssl.SSLObject) -> bool:
        pinned = self._front.options.pinned_certs
        if not pinned:
            return True
        der = tls.getpeercert(binary_form=True)
        return der is not None and key_digest(der) in pinned

    def _tell_link(self, tls: ssl.SSLObject) -> None:
        link = self._link
        link.tls_version = (tls.version() or "").removeprefix("TLSv")
        cipher = tls.cipher()
        link.tls_cipher = registered_name(cipher[0]) if cipher is not None else ""
        der = tls.getpeercert(binary_form=True) if self._front.options.verify else None
        if der is not None:
            link.certificate = read_peer(der, tls_version=link.tls_version, cipher=link.tls_cipher)

    def _become_ready(self) -> None:
        link = self._link
        link.is_ready = True
        link.greets_late = False
        if link.user is not None:
            link.user.on_link_ready()

    def _greet_in_clear(self) -> None:
        """The client waits for INFO: go on as without `handshake_first`."""
        front, link = self._front, self._link
        self._may_be_clear = front.allow_non_tls
        link.greets_late = False
        link.tls_required = not front.allow_non_tls
        self._arm(front.options.timeout_ns, self._on_timeout)
        if link.user is not None:
            link.user.greet()

    def _go_on_in_clear(self) -> None:
        self._phase = Phase.CLEAR
        self._become_ready()

    def _on_timeout(self) -> None:
        if self._may_be_clear and self._phase is Phase.WAITING:
            self._go_on_in_clear()
        else:
            self._fail(TlsHandshakeFailure("TLS handshake timeout"), logging.DEBUG)

    def _fail(self, error: ProtocolError, level: int = logging.ERROR) -> None:
        self._tell_failure(error, level)
        if self._phase is not Phase.CLOSED:  # nobody above has closed it
            self.close(error.reason)

    def _tell_failure(self, error: ProtocolError, level: int = logging.ERROR) -> None:
        if self._link.user is not None:
            self._link.user.on_link_failed(error, level)
        elif level >= logging.ERROR:
            self._log_failure(str(error))

    # bytes

    def _read(self) -> None:
        """Decrypt all that is there, and hand it on in pieces as large as the buffer."""
        buffer = self._front.buffer
        while self._phase is Phase.OPEN:
            size, end = self._decrypt(buffer)
            if self._outgoing.pending:
                self._flush()  # answers of the library's own, to a change of keys
            if size:
                self.receiver.receive(buffer[:size])
            if end is End.NOTHING_MORE:
                return
            if end is not End.BUFFER_FULL and self._phase is Phase.OPEN:
                self._on_end(end)

    def _decrypt(self, buffer: memoryview) -> tuple[int, End]:
        """Fill the buffer; give how much there is, and why no more."""
        tls = self._tls
        assert tls is not None, "the handshake is over"
        size = 0
        try:
            while size <= BUFFER_SIZE - RECORD_SIZE:
                # The stub gives bytes and wants a bytearray; any writable buffer is filled, and counted.
                read = cast("int", tls.read(RECORD_SIZE, cast("bytearray", buffer[size:])))
                if not read:
                    return size, End.FAREWELL
                size += read
        except ssl.SSLWantReadError:
            return size, End.NOTHING_MORE
        except ssl.SSLError:
            return size, End.BROKEN
        return size, End.BUFFER_FULL

    def _on_end(self, end: End) -> None:
        if end is End.FAREWELL:
            self.receiver.on_closed("Client Closed")
            self.close()
        else:
            self.receiver.on_closed("Read Error")
            self.abort()

    def _encrypt(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None, "the handshake is over"
        view = memoryview(data)
        written = 0
        flushed = 0
        while written < len(view):
            written += tls.write(view[written:])  # one record a call
            if written - flushed >= BUFFER_SIZE:
                self._flush()
                flushed = written
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._wire.write(self._outgoing.read())

    def _arm(self, delay_ns: int, callback: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._scheduler.call_at(self._scheduler.monotonic_ns() + delay_ns, callback)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def secured(
    accept: Accept, front: TlsFront, scheduler: Scheduler, log: logging.Logger, *, prefix: str = ""
) -> Accept:
    """Give an `accept` whose connections speak TLS. `prefix` leads log lines of failures that no session has."""

    def accept_secured(
        transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Receiver:
        link = link if link is not None else Link()
        connection = TlsConnection(
            transport,
            front,
            link,
            scheduler,
            lambda text: log.error("%s%s:%d - %s", prefix, peer_host, peer_port, text),
        )
        connection.receiver = accept(connection, peer_host, peer_port, link)
        connection.begin()
        return connection

    return accept_secured


def _said(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    reason = error.reason or "bad record"
    return _REASONS.get(reason, f"tls: {reason.lower().replace('_', ' ')}")
