"""`--trace`: what goes over clients' wires, line by line, in the log.

It sits between the transport and the session, so that the engine knows nothing of it and a server without it pays
nothing. Lines are shown as they were cut by the network; passwords and tokens are not shown.

    [TRC] 127.0.0.1:55072 - cid:11 - <<- [PUB orders.new 5]
"""

import logging
import re
from typing import Final

from headrace.core.engine.interface import Transport
from headrace.core.link import Link
from headrace.core.log import TRACE
from headrace.core.transport.tcp import Accept, Receiver

LINES_MAX: Final = 100
"""Lines shown of one chunk; of the rest, the number."""

LINE_SIZE_MAX: Final = 512

_SECRET: Final = re.compile(rb'("(?:pass|auth_token|jwt|sig|nkey)"\s*:\s*)"(?:[^"\\]|\\.)*"?')
_HIDDEN: Final = rb'\1"[REDACTED]"'


class _Tracer:
    """Writes one connection's lines."""

    def __init__(self, log: logging.Logger, peer: str) -> None:
        self._log = log
        self.label = peer

    def show(self, arrow: str, data: bytes) -> None:
        lines = data.removesuffix(b"\r\n").split(b"\r\n", LINES_MAX)
        for line in lines[:LINES_MAX]:
            text = _SECRET.sub(_HIDDEN, line[:LINE_SIZE_MAX]).decode(errors="backslashreplace")
            cut = "..." if len(line) > LINE_SIZE_MAX else ""
            self._log.log(TRACE, "%s - %s [%s%s]", self.label, arrow, text, cut)
        if len(lines) > LINES_MAX:
            self._log.log(TRACE, "%s - %s %d more bytes", self.label, arrow, len(lines[LINES_MAX]))


class _TracedTransport:
    """The session's side of the wire."""

    def __init__(self, transport: Transport, tracer: _Tracer) -> None:
        self._transport = transport
        self._tracer = tracer

    @property
    def pending_size(self) -> int:
        return self._transport.pending_size

    @property
    def written_size(self) -> int:
        return self._transport.written_size

    def write(self, data: bytes) -> None:
        self._tracer.show("->>", data)
        self._transport.write(data)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def close(self, reason: str = "") -> None:
        self._transport.close(reason)

    def abort(self) -> None:
        self._transport.abort()


class _TracedReceiver:
    """The transport's side of the session."""

    def __init__(self, receiver: Receiver, tracer: _Tracer) -> None:
        self._receiver = receiver
        self._tracer = tracer

    def receive(self, chunk: bytes | memoryview) -> None:
        self._tracer.show("<<-", bytes(chunk))
        self._receiver.receive(chunk)

    def on_full(self) -> None:
        self._receiver.on_full()

    def on_drained(self) -> None:
        self._receiver.on_drained()

    def on_closed(self, reason: str) -> None:
        self._receiver.on_closed(reason)


def traced(accept: Accept, log: logging.Logger) -> Accept:
    """Give an `accept` whose connections are shown in the log."""

    def accept_traced(
        transport: Transport, peer_host: str, peer_port: int, link: Link | None = None
    ) -> Receiver:
        tracer = _Tracer(log, f"{peer_host}:{peer_port}")
        receiver = accept(_TracedTransport(transport, tracer), peer_host, peer_port, link)
        tracer.label = getattr(receiver, "label", tracer.label)
        return _TracedReceiver(receiver, tracer)

    return accept_traced
