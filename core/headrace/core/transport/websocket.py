"""WebSocket between a wire (TCP, or TLS upon it) and a session: HTTP first, then frames.

    ASKING   the request is awaited; there is no session yet
    OPEN     frames both ways; the session was accepted when the request was granted
    CLOSED   nothing more

The NATS protocol inside is a stream of bytes, as over TCP: what the session writes in a turn is one message. A close
by this side tells the peer why, in a close frame with the reference's code. What cannot be read as frames ends the
connection without a word, as it does there.

Memory before a login: the request is bounded, and frames are handed on as they come. What is decoded while
reading is paused waits in the decoder; the wire is paused too, so that is one chunk.

Source: the WebSocket protocol of NATS server 2.15, probed.
"""

import logging
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Final

import h11

from headrace.core.base.clock import NS_PER_S, Scheduler, Timer
from headrace.core.engine.interface import Transport
from headrace.core.link import Link, LinkKind
from headrace.core.options import WebsocketOptions
from headrace.core.transport.tcp import Accept, Receiver
from headrace.core.transport.websocket_frames import (
    BROWSER_FRAME_SIZE,
    CloseReason,
    Frames,
    Opcode,
    ParseFailed,
    message_size_max,
)
from headrace.core.transport.websocket_handshake import Refusal, Request, Upgrade, agree

REQUEST_SIZE_MAX: Final = 32 * 1024
"""Bytes of a request's headers; a cookie may hold a JWT."""

ASKING_MAX: Final = 4096
"""Connections that have not asked yet; more are closed at once."""

ASKING_TIMEOUT_NS: Final = 60 * NS_PER_S
"""Time for the request where no `handshake_timeout` is configured; the reference then waits for ever."""

HANDED_SIZE: Final = 64 * 1024
"""Decoded bytes that are handed on at once, about."""

CODES: Final[Mapping[str, CloseReason]] = {
    "Client Closed": CloseReason.NORMAL_CLOSURE,
    **dict.fromkeys(
        (
            "Authentication Timeout",
            "Authentication Failure",
            "Slow Consumer (Pending Bytes)",
            "Slow Consumer (Write Deadline)",
            "Maximum Account Connections Exceeded",
            "Maximum Connections Exceeded",
            "Maximum Control Line Exceeded",
            "Maximum Subscriptions Exceeded",
            "Missing Account",
            "Authentication Expired",
            "Credentials Revoked",
        ),
        CloseReason.POLICY_VIOLATION,
    ),
    "TLS Handshake Failure": CloseReason.TLS_HANDSHAKE_FAILED,
    **dict.fromkeys(
        ("Parse Error", "Protocol Violation", "Bad Client Protocol Version"), CloseReason.PROTOCOL_ERROR
    ),
    "Maximum Message Payload Exceeded": CloseReason.MESSAGE_TOO_BIG,
    **dict.fromkeys(
        ("Write Error", "Read Error", "Stale Connection", "Server Shutdown"), CloseReason.GOING_AWAY
    ),
}
"""Reason of a close to the code of its close frame; others are INTERNAL_ERROR."""


class Phase(Enum):
    """See above."""

    ASKING = "asking"
    OPEN = "open"
    CLOSED = "closed"


class WebSocketFront:
    """A listener's options, and its connections that have not asked yet. `accept` takes those that have."""

    def __init__(
        self,
        options: WebsocketOptions,
        accept: Accept,
        scheduler: Scheduler,
        log: logging.Logger,
        *,
        max_payload: int,
        tls_verify: bool = False,
    ) -> None:
        self.options = options
        self.accept_client = accept
        self.scheduler = scheduler
        self.log = log
        self.message_size_max = message_size_max(max_payload)
        self.tls_verify = tls_verify
        self.port = options.port
        self.asking: dict[WebSocketConnection, None] = {}

    def accept(
        self, transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Receiver:
        """Take a connection that is to become a WebSocket."""
        connection = WebSocketConnection(transport, self, peer_host, peer_port, link)
        connection.begin()
        return connection

    def close(self) -> None:
        """Let those go that have not asked."""
        for connection in list(self.asking):
            connection.abort()


class WebSocketConnection:
    """One connection."""

    def __init__(
        self, wire: Transport, front: WebSocketFront, peer_host: str, peer_port: int, link: Link | None
    ) -> None:
        self._wire = wire
        self._front = front
        self._peer_host = peer_host
        self._peer_port = peer_port
        self._link = link if link is not None else Link()
        self._phase = Phase.ASKING
        self._http: h11.Connection | None = h11.Connection(
            h11.SERVER, max_incomplete_event_size=REQUEST_SIZE_MAX
        )
        self._frames: Frames | None = None
        self._receiver: Receiver | None = None
        self._timer: Timer | None = None
        self._is_paused = False

    def begin(self) -> None:
        """Wait for the request, for a bounded time."""
        front = self._front
        if len(front.asking) >= ASKING_MAX:
            self.abort()
            return
        front.asking[self] = None
        timeout_ns = front.options.handshake_timeout_ns or ASKING_TIMEOUT_NS
        self._timer = front.scheduler.call_at(front.scheduler.monotonic_ns() + timeout_ns, self.abort)

    # from the wire

    def receive(self, chunk: bytes | memoryview) -> None:
        if self._phase is Phase.ASKING:
            self._read_request(bytes(chunk))
        elif self._phase is Phase.OPEN:
            assert self._frames is not None, "made when the request was granted"
            self._frames.receive(chunk)
            self._read_frames()

    def on_full(self) -> None:
        if self._receiver is not None:
            self._receiver.on_full()

    def on_drained(self) -> None:
        if self._receiver is not None:
            self._receiver.on_drained()

    def on_closed(self, reason: str) -> None:
        self._end()
        if self._receiver is not None:
            self._receiver.on_closed(reason)

    # for what is above

    @property
    def pending_size(self) -> int:
        return self._wire.pending_size

    @property
    def written_size(self) -> int:
        return self._wire.written_size

    def write(self, data: bytes) -> None:
        if self._phase is Phase.OPEN and data:
            assert self._frames is not None, "made when the request was granted"
            self._wire.write(self._frames.encode(data))

    def pause_reading(self) -> None:
        self._is_paused = True
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._wire.resume_reading()
        self._front.scheduler.call_soon(self._read_frames)  # what was decoded waits no longer

    def close(self, reason: str = "") -> None:
        if self._phase is Phase.OPEN:
            assert self._frames is not None, "made when the request was granted"
            code = CODES.get(reason, CloseReason.INTERNAL_ERROR)
            self._wire.write(self._frames.encode_close(code, reason))
        self._end()
        self._wire.close(reason)

    def abort(self) -> None:
        self._end()
        self._wire.abort()

    # the request

    def _read_request(self, chunk: bytes) -> None:
        assert self._http is not None, "kept while the request is awaited"
        try:
            self._http.receive_data(chunk)
            event = self._http.next_event()
            if not isinstance(event, h11.Request):
                return  # it has not come whole
            request = Request(
                event.method.decode("latin-1"), event.target.decode("latin-1"), event.headers.raw_items()
            )
            upgrade = agree(request, self._front.options, is_secured=self._link.is_secured)
            self._http.next_event()
            if self._http.trailing_data[0]:
                raise Refusal(HTTPStatus.BAD_REQUEST, "client sent data before handshake is complete")
        except h11.RemoteProtocolError as error:
            self._refuse(Refusal(HTTPStatus(error.error_status_hint), str(error)))
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._open(upgrade)

    def _refuse(self, refusal: Refusal) -> None:
        self._front.log.error(
            "%s:%d - websocket handshake error: %s", self._peer_host, self._peer_port, refusal.text
        )
        self._wire.write(refusal.encode())
        self._end()
        self._wire.close()

    def _open(self, upgrade: Upgrade) -> None:
        front, link = self._front, self._link
        self._end()
        self._http = None
        self._frames = Frames(
            compresses=upgrade.compresses,
            is_unmasked=upgrade.is_unmasked,
            fragment_size=BROWSER_FRAME_SIZE if upgrade.is_browser else 0,
            fragments_compressed=upgrade.fragments_compressed,
            size_max=front.message_size_max,
        )
        link.kind = LinkKind.WEBSOCKET
        link.host, link.port = front.options.host, front.port
        link.tls_required = link.tls_available = link.is_secured
        link.tls_verify = front.tls_verify
        link.forwarded_host = upgrade.forwarded_host
        link.cookies = upgrade.cookies
        self._wire.write(upgrade.response)
        self._phase = Phase.OPEN
        self._receiver = front.accept_client(self, self._peer_host, self._peer_port, link)

    # frames

    def _read_frames(self) -> None:
        """Hand on what has come, until reading is paused or nothing is left."""
        while self._phase is Phase.OPEN and not self._is_paused:
            data, ending = self._decode()
            if data and self._receiver is not None:
                self._receiver.receive(data)
            if ending is not None:
                self._on_ending(*ending)
                return
            if len(data) < HANDED_SIZE:
                return

    def _decode(self) -> tuple[bytes, tuple[int | None, str] | None]:
        """Join the payloads of frames up to HANDED_SIZE; give what ends the connection, if something does.

        An ending is the peer's close frame: its code and text; no code: what came is no frame.
        """
        frames = self._frames
        assert frames is not None, "made when the request was granted"
        pieces: list[bytes] = []
        size = 0
        try:
            while size < HANDED_SIZE and (frame := frames.next()) is not None:
                payload = frame.payload
                match frame.opcode:
                    case Opcode.PING:
                        assert isinstance(payload, bytes), "control frames come whole"
                        self._wire.write(frames.encode_pong(payload))
                    case Opcode.CLOSE:
                        assert isinstance(payload, tuple), "a close frame has a code and a text"
                        return b"".join(pieces), payload
                    case Opcode.PONG:
                        pass
                    case _:
                        assert not isinstance(payload, tuple), "only close frames have a code"
                        piece = payload.encode() if isinstance(payload, str) else payload
                        pieces.append(piece)
                        size += len(piece)
        except ParseFailed as error:
            return b"".join(pieces), (None, str(error))
        return b"".join(pieces), None

    def _on_ending(self, code: int | None, text: str) -> None:
        if self._phase is not Phase.OPEN:
            return
        receiver, frames = self._receiver, self._frames
        assert receiver is not None, "there since the request was granted"
        assert frames is not None, "made when the request was granted"
        if code is None:
            self._front.log.error("%s:%d - read error: %s", self._peer_host, self._peer_port, text)
            receiver.on_closed("Read Error")
            self.abort()
            return
        answer = None if code == CloseReason.NO_STATUS_RCVD else code
        self._wire.write(frames.encode_close(answer, text))
        self._end()
        receiver.on_closed("Client Closed")
        self._wire.close()

    def _end(self) -> None:
        """Leave the phase: no timer, and not among those that have not asked."""
        self._phase = Phase.CLOSED
        self._front.asking.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
