"""The tracer: takes the messages that the engine found marked, decides whether they are traced, and sends the events.

A message whose wish for a trace is none after all goes its way as if it were not marked. A destination that its
sender may not publish to is refused like a publish, and the message with it. One that is no subject is logged; the
message is delivered, unless the trace was all that was wanted.

Source: message tracing of the NATS server 2.15, probed.
"""

import gzip
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from headrace.core import headers as header_block
from headrace.core.accounts import Account
from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.core.base.message import Message
from headrace.core.bus import Bus
from headrace.core.client_info import encode
from headrace.core.engine.interface import Engine, Traced
from headrace.core.errors import ProtocolError, PublishViolation, ReplyViolation
from headrace.core.imports.services import Services
from headrace.core.monitoring.texts import timestamp
from headrace.core.subject import is_valid_literal
from headrace.core.tracing.trace import Trace
from headrace.core.tracing.wish import Wish, disabled, wish_of

if TYPE_CHECKING:
    from headrace.core.session import Session

SAMPLING_ALL: Final = 100
RESERVED_REPLIES: Final = (b"_R_.", b"$JS.ACK.", b"_GR_.")


class TracerHost(Protocol):
    """What tracing needs of the broker."""

    engine: Engine
    bus: Bus
    services: Services
    clock: Clock
    chance: Chance
    log: logging.Logger
    name: str
    id: str

    def session(self, connection_id: int) -> "Session | None": ...


class Tracer:
    """All message tracing of a server. `describe_server` gives what events say of it; the system account has more."""

    def __init__(self, host: TracerHost) -> None:
        self._host = host
        self.describe_server: Callable[[], dict[str, Any]] = lambda: {"name": host.name, "id": host.id}

    def on_traced(self, session: "Session", event: Traced) -> None:
        """Take a marked message of an open session."""
        wish = wish_of(event.headers)
        account = session.account
        assert account is not None, "who publishes has entered an account"
        if wish is None:
            session.publish(event)
            return
        if wish.origin_account:
            self._host.log.error(
                "Message tracing disabled because of header %r with value=%r",
                "Nats-Trace-Origin-Account",
                wish.origin_account,
            )
            self._pass_on(session, event, wish, is_marked=True)
            return
        destination = wish.destination or self._own_destination(account)
        if not destination:
            session.publish(event)
        elif not wish.destination and not self._is_drawn(account):
            self._pass_on(session, event, wish, is_marked=True)
        elif not is_valid_literal(destination.encode()):
            self._host.log.error("Destination %r is not valid, won't be able to trace events", destination)
            self._pass_on(session, event, wish)
        elif not self._host.engine.may_publish(session.connection, destination.encode()):
            session.refuse_operation(PublishViolation(destination.encode()))
        else:
            self._trace(session, account, event, wish, destination)

    def _own_destination(self, account: Account) -> str:
        return "" if account.options.trace is None else account.options.trace.destination

    def _is_drawn(self, account: Account) -> bool:
        sampling = SAMPLING_ALL if account.options.trace is None else account.options.trace.sampling
        return not 0 < sampling < SAMPLING_ALL or self._host.chance.below(SAMPLING_ALL) < sampling

    def _pass_on(self, session: "Session", event: Traced, wish: Wish, *, is_marked: bool = False) -> None:
        """Deliver a message that is not traced, unless the trace was all that was wanted."""
        if not wish.is_only:
            headers = disabled(event.headers) if is_marked else event.headers
            session.publish(Traced(event.subject, event.mapped, event.reply, headers, event.payload))

    def _trace(
        self, session: "Session", account: Account, event: Traced, wish: Wish, destination: str
    ) -> None:
        host = self._host
        size = len(event.headers) + len(event.payload)
        trace = Trace(
            account=account.name,
            is_only=wish.is_only,
            time=lambda: timestamp(host.clock.now_ns()),
            name_of=self._name_of,
            send=partial(self._send, destination, wish, size),
        )
        trace.enter(session.id, event.subject)
        if event.mapped != event.subject:
            trace.map(event.mapped)
        refusal: ProtocolError | None = None
        if not session.may_publish(event.mapped):
            refusal = PublishViolation(event.mapped)
        elif event.reply.startswith(RESERVED_REPLIES):
            refusal = ReplyViolation(event.reply)
        if refusal is not None:
            trace.fail(refusal.text)
            session.refuse_operation(refusal)
        else:
            if session.connection.verbose:
                host.engine.write(session.connection, b"+OK\r\n")
            message = Message(event.mapped, event.reply, event.headers, event.payload, session.id)
            if not host.services.trace(message, account.name, trace) and event.reply:
                host.engine.tell_no_responders(session.id, event.reply, event.mapped)
        trace.finish()

    def _name_of(self, connection_id: int) -> str:
        session = self._host.session(connection_id)
        return "" if session is None else session.connect.name

    def _send(self, destination: str, wish: Wish, size: int, trace: Trace) -> None:
        body = encode(
            {
                "server": self.describe_server(),
                "request": {"header": wish.fields, "msgsize": size},
                "events": trace.events,
            }
        )
        headers = b""
        if wish.takes_gzip:
            body = gzip.compress(body, 1)
            headers = header_block.encode([(b"Content-Encoding", b"gzip")])
        self._host.bus.publish(trace.account, destination.encode(), body, headers=headers)
