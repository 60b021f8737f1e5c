"""HTTP/1.1 for monitoring: h11 behind an asyncio protocol, with every wait and size bounded.

A request is a GET or HEAD without a body; it is answered at once, in the order of arrival, so a connection has at
most one request in work. What a peer can make us hold is one request's head and one answer:

- a head may be `REQUEST_SIZE_MAX` long, and has to be complete `REQUEST_TIMEOUT_NS` after it could begin;
- a reader that does not take its answer within `REQUEST_TIMEOUT_NS` is cut off;
- of more than `CONNECTIONS_MAX` connections the new one is closed.

Why h11 and no framework: docs/adr/0003-h11-for-monitoring.md.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qs, unquote

import h11

from headrace.core.base.clock import NS_PER_S, Scheduler, Timer

REQUEST_SIZE_MAX: Final = 16 * 1024
"""Bytes of a request's head, and of a body that is read only to be thrown away."""

REQUEST_TIMEOUT_NS: Final = 15 * NS_PER_S
"""How long a connection may sit between requests, within one, and before it takes its answer."""

CONNECTIONS_MAX: Final = 256

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `query` keeps the last value of each parameter."""

    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request."""

    body: bytes
    content_type: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Handler = Callable[[Request], Response]


def text_response(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Make a plain text answer."""
    return Response(text.encode(), _TEXT, status, {"X-Content-Type-Options": "nosniff"})


def parse_target(target: str) -> Request:
    """Take a request's target apart."""
    path, _, query = target.partition("?")
    values = parse_qs(query, keep_blank_values=True, max_num_fields=100)
    return Request(unquote(path), {name: given[-1] for name, given in values.items()})


class HttpConnection(asyncio.Protocol):
    """One client's connection. `peers` holds all of the same listener; each adds and removes itself."""

    def __init__(self, handler: Handler, scheduler: Scheduler, peers: "set[HttpConnection]") -> None:
        self._handler = handler
        self._scheduler = scheduler
        self._peers = peers
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_SIZE_MAX)
        self._request: h11.Request | None = None
        self._body_size = 0
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peers.add(self)
        if len(self._peers) > CONNECTIONS_MAX:
            self._transport.abort()
            return
        self._restart_timer()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._proceed()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        self._proceed()
        return False

    def pause_writing(self) -> None:
        # The timer still runs: it cuts off a reader that does not take its answer.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (why it went is no news here)
        self._peers.discard(self)
        self._transport = None
        self._stop_timer()

    # the rest

    def close(self) -> None:
        """Send what was written, then close."""
        if self._transport is not None:
            self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _restart_timer(self) -> None:
        self._stop_timer()
        deadline_ns = self._scheduler.monotonic_ns() + REQUEST_TIMEOUT_NS
        self._timer = self._scheduler.call_at(deadline_ns, self._on_timeout)

    def _on_timeout(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _proceed(self) -> None:
        """Work off what was received."""
        try:
            while self._transport is not None and not self._transport.is_closing():
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    self._request = event
                elif isinstance(event, h11.Data):
                    self._body_size += len(event.data)
                    if self._body_size > REQUEST_SIZE_MAX:
                        self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._answer()
                elif isinstance(event, h11.ConnectionClosed):
                    self.close()
        except h11.RemoteProtocolError as error:
            self._refuse(HTTPStatus(error.error_status_hint))

    def _answer(self) -> None:
        request = self._request
        assert request is not None, "a message ends after it began"
        if request.method not in {b"GET", b"HEAD"}:
            allowed = text_response("Method Not Allowed\n", HTTPStatus.METHOD_NOT_ALLOWED)
            self._send(Response(allowed.body, _TEXT, allowed.status, {"Allow": "GET, HEAD"}))
        else:
            try:
                asked = parse_target(request.target.decode("ascii"))
            except ValueError as error:
                self._send(text_response(f"{error}\n", HTTPStatus.BAD_REQUEST))
            else:
                self._send(self._handler(asked))
        self._request = None
        self._body_size = 0
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._restart_timer()
        else:
            self.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer what is no request, if an answer may still be sent, and close."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(text_response(f"{status.phrase}\n", status))
        self.close()

    def _send(self, response: Response) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers.items(),
        ]
        head = h11.Response(status_code=response.status, reason=response.status.phrase, headers=headers)
        parts = [self._http.send(head)]
        is_head = self._request is not None and self._request.method == b"HEAD"
        if not is_head:
            parts.append(self._http.send(h11.Data(data=response.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        if self._transport is not None:
            self._transport.write(b"".join(part for part in parts if part))
