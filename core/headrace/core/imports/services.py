"""Service imports: requests that go to another account, and answers that come back.

In the importer's routes a service import is a sink, so it costs nothing to those who do not ask. A request that arrives
there is renamed, mapped as the other account maps, given a reply subject of the server's own (`responses`) and a header
that says who asks, and routed in that account on behalf of its sender. If it meets another service import
there, that one is asked at once. When nobody takes it in the end, whoever asked is told so, as if there were no
import.

`$JS.ACK.` replies are passed on as they are: what is answered there is the stream, not the request.

Source: the NATS server 2.15's service imports, probed.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from headrace.core import headers as header_block
from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.core.base.deadlines import Deadlines
from headrace.core.base.message import Batch, Message, MessageBatch, Sink
from headrace.core.client_info import REQUEST_INFO, client_info, encode, ordered
from headrace.core.engine.interface import Engine, Event, Gathered, Registration
from headrace.core.exports import RESPONSE_THRESHOLD_NS, ResponseType
from headrace.core.imports import latency
from headrace.core.imports.responses import DEPTH_MAX, PREFIX, Response, Responses, Tracking
from headrace.core.imports.rules import ServiceRoute
from headrace.core.options import ServerOptions
from headrace.core.routing.mapping import Mapper
from headrace.core.subject import has_wildcard
from headrace.core.tracing.wish import disabled, redirected

if TYPE_CHECKING:
    from headrace.core.session import Session
    from headrace.core.tracing.trace import Trace

_NAME_SIZE: Final = 8
ACK_PREFIX: Final = b"$JS.ACK."
FAST_BATCH_SUFFIX: Final = b".$FI"
"""A reply subject that JetStream must see as the client wrote it."""


class ServiceHost(Protocol):
    """What service imports need of the broker."""

    engine: Engine
    clock: Clock
    chance: Chance
    deadlines: Deadlines
    name: str
    options: ServerOptions

    def enqueue(self, events: Sequence[Event]) -> None: ...

    def request_turn(self) -> None: ...

    def session(self, connection_id: int) -> "Session | None": ...


class ServiceSink:
    """A service import in the importer's routes."""

    def __init__(self, services: "Services", route: ServiceRoute) -> None:
        self._services = services
        self.route = route
        self.is_literal = not has_wildcard(route.source)

    def on_messages(self, batch: Batch) -> None:
        for message in batch:
            self._services.on_request(self, message)

    def subject_there(self, subject: bytes) -> bytes:
        """Give what a local subject is called in the other account."""
        if self.route.renames is not None:
            return self.route.renames.apply(subject, self._services.chance)
        return self.route.source if self.is_literal else subject


class ResponseSink:
    """Where the answers of one account arrive."""

    def __init__(self, services: "Services", account: str) -> None:
        self._services = services
        self.account = account

    def on_messages(self, batch: Batch) -> None:
        for message in batch:
            self._services.on_response(self.account, message, 0)


class Services:
    """All service imports of a server."""

    def __init__(self, host: ServiceHost, publish: Callable[[str, bytes, bytes], None]) -> None:
        """`publish(account, subject, payload)` sends measurements."""
        self.chance = host.chance
        self._host = host
        self._publish = publish
        self._registrations: dict[str, tuple[Sequence[ServiceRoute], list[Registration]]] = {}
        self._mappers: dict[str, Mapper] = {}
        self.responses = Responses(
            host.chance, host.deadlines, host.clock.monotonic_ns, self._listen, self._on_expired
        )
        self._server_token = host.chance.base62(8)

    def set_routes(self, importer: str, routes: Sequence[ServiceRoute]) -> None:
        """Have exactly these imports of an account from now on."""
        held, registrations = self._registrations.pop(importer, ((), []))
        if held != routes:
            for registration in registrations:
                registration.close()
            engine = self._host.engine
            registrations = [
                engine.add_sink(importer, route.local, ServiceSink(self, route), is_service=True)
                for route in routes
            ]
        if routes:
            self._registrations[importer] = routes, registrations

    def set_mapper(self, account: str, mapper: Mapper | None) -> None:
        """Map what comes into an account as its clients' messages are mapped."""
        if mapper is None:
            self._mappers.pop(account, None)
        else:
            self._mappers[account] = mapper

    def trace(self, message: Message, account: str, trace: "Trace") -> bool:
        """Route a traced message of a client; tell whether anybody took it."""
        return self._spread(message, account, (), trace)

    # requests

    def on_request(self, sink: ServiceSink, message: Message) -> None:
        """Take a request from a client or the server, and say so where nobody serves it."""
        if self._send(sink, message, ()):
            return
        importer = sink.route.importer
        if message.reply and not self._host.engine.has_interest(importer, message.subject):
            self._host.engine.tell_no_responders(message.connection_id, message.reply, message.subject)
            self._host.request_turn()

    def _send(
        self,
        sink: ServiceSink,
        message: Message,
        trail: tuple[ServiceRoute, ...],
        trace: "Trace | None" = None,
    ) -> bool:
        """Send a request on; tell whether anybody took it."""
        route = sink.route
        if route in trail or len(trail) >= DEPTH_MAX:
            return False
        session = self._host.session(message.connection_id)
        share = trail[-1].share if trail else route.share
        response: Response | None = None
        reply = message.reply
        export = route.export
        asked = None if export is None else export.latency
        sampled = None if asked is None else latency.sample(asked, message.headers, self.chance)
        tracking: Tracking | None = None
        if asked is not None and sampled is not None:
            tracking = self._tracking(asked, session, sampled, share=share)
        if reply and not reply.startswith(ACK_PREFIX):
            kind = ResponseType.SINGLETON if export is None else export.response
            threshold_ns = RESPONSE_THRESHOLD_NS if export is None else export.response_threshold_ns
            response = self.responses.add(
                route.exporter,
                route.importer,
                reply,
                kind,
                threshold_ns,
                share=share,
                tracking_suffix=b"" if tracking is None else b".%b.T" % self._server_token,
            )
            if kind is ResponseType.SINGLETON:
                response.tracking = tracking
                self._watch(response)
            reply = response.name
        elif tracking is not None and not reply:
            self._tell_latency(route.exporter, tracking, 400)
        block = self._with_info(message, session, route, trail, share=share)
        subject = self._mapped(route.exporter, sink.subject_there(message.subject))
        request = message._replace(subject=subject, reply=reply, headers=block)
        took = False
        if trace is None:
            took = self._forward(request, route.exporter, (*trail, route))
        else:
            trace.cross(route.exporter, message.subject, subject)
            if export is not None and export.allow_trace:
                # The exporter does not learn where the trace goes.
                place = PREFIX + self.chance.base62(_NAME_SIZE) + b"." + self.chance.base62(_NAME_SIZE)
                request = request._replace(headers=redirected(block, place))
                took = self._spread(request, route.exporter, (*trail, route), trace)
            elif not trace.is_only:
                took = self._forward(
                    request._replace(headers=disabled(block)), route.exporter, (*trail, route)
                )
            if trace.is_only and response is not None:  # nobody was asked
                self.responses.remove(response)
                return took
        if not took and response is not None:
            self.responses.remove(response)
            self._tell_failure(response, 503)
        return took

    def _forward(self, message: Message, account: str, trail: tuple[ServiceRoute, ...]) -> bool:
        """Route a message in another account; what meets a service import or an answer awaited there goes on."""
        forwarded = self._host.engine.forward(
            message.connection_id,
            account,
            message.subject,
            message.reply,
            message.headers,
            message.payload,
        )
        took = forwarded.took
        others: list[Event] = []
        for event in forwarded.events:
            assert isinstance(event, Gathered), "what the server sends breaks no protocol"
            sink: Sink = event.sink
            if isinstance(sink, ServiceSink):
                for each in event.batch:
                    took = self._send(sink, each, trail) or took
            elif isinstance(sink, ResponseSink):
                for each in event.batch:
                    took = self.on_response(sink.account, each, len(trail)) or took
            else:
                others.append(event if hasattr(sink, "wants_request_info") else _without_info(event))
        if others:
            self._host.enqueue(others)
        self._host.request_turn()
        return took

    def _spread(
        self, message: Message, account: str, trail: tuple[ServiceRoute, ...], trace: "Trace"
    ) -> bool:
        """Route a traced message in an account, as `_forward` does, and note what becomes of it."""
        spread = self._host.engine.trace(
            account, message, is_delivered=not trace.is_only, is_forwarded=bool(trail)
        )
        took = spread.took
        for fate in spread.fates:
            trace.leave(fate)
        for sink, each in spread.sinks:
            if isinstance(sink, ServiceSink):
                took = self._send(sink, each, trail, trace) or took
            elif isinstance(sink, ResponseSink):
                took = self.on_response(sink.account, each, len(trail)) or took
            elif not trace.give(sink, each):
                event = Gathered(sink, MessageBatch((each,)))
                if trail and not hasattr(sink, "wants_request_info"):
                    event = _without_info(event)
                self._host.enqueue((event,))
        self._host.request_turn()
        return took

    def _mapped(self, account: str, subject: bytes) -> bytes:
        mapper = self._mappers.get(account)
        return subject if mapper is None else mapper.mapped(subject)

    def _with_info(
        self,
        message: Message,
        session: "Session | None",
        route: ServiceRoute,
        trail: tuple[ServiceRoute, ...],
        *,
        share: bool,
    ) -> bytes:
        """Add who asks to the headers. What an earlier import said stands, with the account in between."""
        block = message.headers
        held = header_block.get(block, REQUEST_INFO) if block else None
        known: dict[str, Any]
        earlier = _parsed(held) if held is not None and trail else None
        if earlier is not None:
            known = {**earlier, "svc": route.importer}
        elif session is not None:
            is_told = share or route.exporter == self._host.options.system_account
            known = client_info(session, server_name=self._host.name if is_told else "", detailed=share)
        else:
            known = {"acc": route.importer}
        if message.reply.endswith(FAST_BATCH_SUFFIX) and not known.get("reply"):
            known = {**known, "reply": message.reply.decode(errors="replace")}
        if held is not None:
            block = header_block.without(block, (REQUEST_INFO,))
        return header_block.with_field(block, REQUEST_INFO, encode(ordered(known)))

    # answers

    def _listen(self, account: str, pattern: bytes) -> Registration:
        return self._host.engine.add_sink(account, pattern, ResponseSink(self, account), is_service=True)

    def on_response(self, account: str, message: Message, depth: int) -> bool:
        """Take an answer; tell whether who asked got it."""
        response = self.responses.get(account, message.subject)
        if response is None or depth >= DEPTH_MAX:
            return False
        reply = message.reply
        following: Response | None = None
        if reply and not reply.startswith(ACK_PREFIX):
            following = self.responses.add(
                response.to_account,
                account,
                reply,
                response.kind,
                response.threshold_ns,
                share=response.share,
            )
            reply = following.name
        tracking = response.tracking
        if tracking is not None and not tracking.is_told:
            self._tell_latency(account, tracking, 200, self._host.session(message.connection_id))
        to = self._mapped(response.to_account, response.to)
        is_last = response.kind is ResponseType.SINGLETON or not (message.payload or message.headers)
        if is_last:
            self.responses.remove(response)
        took = self._forward(message._replace(subject=to, reply=reply), response.to_account, ())
        if not took:
            self.responses.remove(response)
            if following is not None:
                self.responses.remove(following)
        elif not is_last:
            self.responses.use(response)
        return took

    def _on_expired(self, response: Response) -> None:
        self._tell_failure(response, 504)

    # measurements

    def _tracking(
        self,
        asked: latency.Latency,
        session: "Session | None",
        sampled: dict[str, list[str]],
        *,
        share: bool,
    ) -> Tracking:
        requestor: dict[str, object] = {}
        rtt_ns = 0
        if session is not None:
            rtt_ns = session.rtt_ns
            requestor = client_info(session, server_name=self._host.name if share else "", detailed=share)
        return Tracking(asked, requestor, rtt_ns, self._host.clock.now_ns(), sampled or None)

    def _watch(self, response: Response) -> None:
        """Notice when whoever asked is not interested in the answer any more."""
        tracking = response.tracking
        if tracking is None or response.to.startswith(PREFIX):
            return

        def on_interest(is_there: bool) -> None:
            if not is_there:
                self.responses.remove(response)
                self._tell_failure(response, 408)

        tracking.interest = self._host.engine.watch_interest(response.to_account, response.to, on_interest)

    def _tell_failure(self, response: Response, status: int) -> None:
        if response.tracking is not None:
            self._tell_latency(response.account, response.tracking, status)

    def _tell_latency(
        self, account: str, tracking: Tracking, status: int, responder: "Session | None" = None
    ) -> None:
        if tracking.is_told:
            return
        tracking.is_told = True
        shown = None if responder is None else client_info(responder, server_name=self._host.name)
        body = latency.measured(
            tracking,
            status,
            shown,
            0 if responder is None else responder.rtt_ns,
            now_ns=self._host.clock.now_ns(),
            event_id=self.chance.nuid(),
        )
        self._publish(account, tracking.latency.subject.encode(), encode(body))


def _without_info(event: Gathered) -> Gathered:
    """Take the header away again for sinks: it is for clients, and a stream must not keep it."""
    return Gathered(
        event.sink,
        MessageBatch(
            message._replace(headers=header_block.without(message.headers, (REQUEST_INFO,)))
            for message in event.batch
        ),
    )


def _parsed(block: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(block)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
