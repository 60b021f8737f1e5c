"""Reading: from a connection's bytes to deliveries and events.

The loop in `read` tries, for each operation, the cheapest way first: a control line that is planned (one lookup),
then a publish in the form that clients send, then anything else. After a planned line it looks whether the next
bytes are the same line again: such a *run* costs one comparison and one slice a message, and one join for each
subscriber.

Planned lines are only a shortcut: whatever is incomplete or wrong falls through to the long way, which alone knows the
errors and their order.
"""

from collections.abc import Sequence

from headrace.core.engine.interface import (
    Connect,
    Crossed,
    Event,
    Gathered,
    NotConnected,
    PeerError,
    PeerInfo,
    Phase,
    Pinged,
    PublishRefused,
    Refused,
)
from headrace.core.engine.plain_connection import PlainConnection, Publish
from headrace.core.engine.plain_delivery import Delivery
from headrace.core.engine.plain_parser import (
    canonical_publish,
    parse_header_publish,
    parse_publish,
    parse_subscribe,
    parse_unsubscribe,
    scan_line,
    shortest,
)
from headrace.core.engine.plain_scope import RESERVED_REPLIES, Plan, PublishScope
from headrace.core.engine.plain_subscriptions import Subscriptions
from headrace.core.engine.plain_traced import has_mark, traced_event
from headrace.core.errors import (
    ControlLineExceeded,
    HeadersNotNegotiated,
    InvalidPublishSubject,
    MalformedArguments,
    MaximumPayloadViolation,
    ProtocolError,
    ReplyViolation,
    UnknownOperation,
)
from headrace.core.routing.mapping import Mapper
from headrace.core.subject import is_valid_literal

_CRLF = b"\r\n"
_TAILS_MAX = 4096
_NO_PLANS: dict[bytes, Plan] = {}


class Reader:
    """The input side of the plain engine."""

    def __init__(self, delivery: Delivery, subscriptions: Subscriptions) -> None:
        self._delivery = delivery
        self._subscriptions = subscriptions
        self._tails: dict[bytes, int] = {}  # sizes as they end a control line, by their text

    def receive(self, connection: PlainConnection, data: bytes) -> Sequence[Event]:
        """Take bytes in behind those that were left, and read."""
        if connection.is_broken or connection.phase is Phase.CLOSED:
            return ()
        if connection.needed:
            connection.pieces.append(data)
            connection.pieces_size += len(data)
            if connection.pieces_size < connection.needed:
                return ()
            connection.data = b"".join(connection.pieces)
            connection.pieces.clear()
            connection.needed = 0
        elif connection.position < len(connection.data):
            connection.data = connection.data[connection.position :] + data
        else:
            connection.data = data
        connection.position = 0
        return self.resume(connection)

    def resume(self, connection: PlainConnection) -> Sequence[Event]:
        """Read on in what was received."""
        if connection.is_broken or connection.phase is Phase.CLOSED or connection.needed:
            return ()
        if connection.position >= len(connection.data):
            return ()
        events: list[Event] = []
        try:
            self._read(connection, events)
        except ProtocolError as error:
            connection.is_broken = True
            connection.data = b""
            connection.position = 0
            connection.publish = None
            self.report_gathered(events)
            events.append(Refused(error))
        else:
            self.report_gathered(events)
        return events

    def report_gathered(self, events: list[Event]) -> None:
        """Add what sinks were sent to the events."""
        touched = self._delivery.touched
        if touched:
            events.extend(Gathered(box.sink, box.take()) for box in touched)
            touched.clear()

    # the loop

    def _read(self, connection: PlainConnection, events: list[Event]) -> None:
        data = connection.data
        end = len(data)
        position = connection.position
        publish = connection.publish
        scope = connection.scope or self._subscriptions.bind(connection)
        is_open = connection.phase is Phase.OPEN
        plans = scope.plans if is_open else _NO_PLANS
        verbose = connection.verbose
        mapper = scope.mapper if is_open else None
        is_swift = is_open and not verbose and not connection.pedantic and mapper is None
        max_line = connection.max_control_line
        tails = self._tails
        max_payload = connection.max_payload if connection.max_payload >= 0 else 1 << 62
        delivery = self._delivery
        startswith = data.startswith
        is_marked: bool | None = (
            None  # whether somewhere in the data a trace is asked for; None: nobody has looked
        )
        while True:
            if publish is None:
                if position >= end:
                    break
                newline = data.find(b"\n", position) + 1
                line = data[position:newline]
                plan = plans.get(line)
                if plan is not None and plan.header_size:
                    if is_marked is None:
                        is_marked = has_mark(data, position, end, parents=scope.traces_parents)
                    if is_marked:
                        plan = None
                if plan is not None and plan.route.is_live and plan.total_size <= max_payload:
                    stop = newline + plan.total_size
                    if data[stop : stop + 2] == _CRLF:
                        span = plan.total_size + plan.tail_size
                        if startswith(plan.glue, stop) and plan.route.is_even and not verbose:
                            run = [data[stop - span : stop + 2]]
                            stop += plan.step
                            while startswith(plan.glue, stop):
                                run.append(data[stop - span : stop + 2])
                                stop += plan.step
                            if data[stop : stop + 2] == _CRLF:
                                run.append(data[stop - span : stop + 2])
                                stop += plan.step
                            position = stop - plan.step + 2
                            connection.in_messages += len(run)
                            connection.in_bytes += len(run) * plan.total_size
                            delivery.spread_run(
                                connection, plan.route, plan.header_size, plan.total_size, run
                            )
                        else:
                            position = stop + 2
                            connection.in_messages += 1
                            connection.in_bytes += plan.total_size
                            if verbose:
                                delivery.write(connection, b"+OK\r\n")
                            delivery.spread(
                                connection,
                                plan.route,
                                b"",
                                plan.header_size,
                                plan.total_size,
                                data[stop - span : stop + 2],
                            )
                        if delivery.expired:
                            self._subscriptions.expire()
                        continue
                if is_swift:
                    parts = line.split(b" ")
                    if len(parts) == 4 and parts[0] == b"PUB" and len(line) <= max_line and b"\t" not in line:
                        subject = parts[1]
                        route = scope.routes.get(subject)
                        tail = parts[3]
                        size = tails.get(tail)
                        if route is not None and route.is_live and size is not None and size <= max_payload:
                            reply = parts[2]
                            stop = newline + size
                            if data[stop : stop + 2] == _CRLF and reply and b"\r" not in reply:
                                if reply.startswith(RESERVED_REPLIES):
                                    self._refuse(connection, ReplyViolation(reply), events)
                                elif route.only_box is not None:
                                    delivery.gather_bare(
                                        route.only_box, connection, subject, reply, data[newline:stop]
                                    )
                                elif (
                                    not delivery.spread(
                                        connection,
                                        route,
                                        reply,
                                        0,
                                        size,
                                        data[newline - len(tail) - len(reply) - 1 : stop + 2],
                                    )
                                    and connection.no_responders
                                ):
                                    self.tell_no_responders(connection, scope, reply, subject)
                                if delivery.expired:
                                    self._subscriptions.expire()
                                position = stop + 2
                                connection.in_messages += 1
                                connection.in_bytes += size
                                continue
                if is_open:
                    publish = canonical_publish(line, headers=connection.headers)
                if publish is None:
                    connection.position = position
                    publish = self._operate(connection, events)
                    position = connection.position
                    if publish is None:
                        if position < 0:  # the line has not ended
                            connection.data = shortest(data[-position - 1 :])
                            connection.position = 0
                            return
                        if events and events[-1].is_barrier:
                            connection.position = position
                            return
                        continue
                    if mapper is not None:
                        publish = _mapped(publish, mapper)
                else:
                    self._begin_publish(connection, publish, len(line), events)
                    position = newline
                    if mapper is not None:
                        publish = _mapped(publish, mapper)
                    elif not publish.reply:
                        self._plan(connection, scope, publish, line)
                    elif not publish.header_size and scope.may_publish(publish.subject):
                        if scope.is_worth_planning(publish.subject):
                            scope.remember_route(publish.subject)
                        if len(tails) < _TAILS_MAX:
                            tails[b"%d\r\n" % publish.total_size] = publish.total_size
            stop = position + publish.total_size
            if data[stop : stop + 2] != _CRLF:
                if stop + 2 <= end or (stop < end and data[stop] != 13):
                    raise UnknownOperation
                # Cut what is used; from here on pieces are only collected until the message can be whole.
                connection.publish = publish
                connection.data = b""
                connection.position = 0
                connection.pieces.append(data[position:])
                connection.pieces_size = end - position
                connection.needed = publish.total_size + (1 if stop >= end else 2)
                return
            body = publish.tail + data[position : stop + 2]
            position = stop + 2
            connection.publish = None
            connection.in_messages += 1
            connection.in_bytes += publish.total_size
            tail_size = len(publish.tail)
            if publish.header_size and has_mark(
                body, tail_size, tail_size + publish.header_size, parents=scope.traces_parents
            ):
                self._report(traced_event(publish, body), events)
                connection.position = position
                return
            if not scope.may_publish(publish.subject):
                self.report_gathered(events)
                events.append(_refused_publish(publish, body))
                connection.position = position
                return
            self.publish(connection, scope, publish, body, events)
            if events and events[-1].is_barrier:
                connection.position = position
                return
            publish = None
        connection.data = b""
        connection.position = 0

    def publish(
        self,
        connection: PlainConnection,
        scope: PublishScope,
        publish: Publish,
        body: bytes,
        events: list[Event],
    ) -> None:
        """Route a client's message that is permitted."""
        reply = publish.reply
        if reply and reply.startswith(RESERVED_REPLIES):
            self._refuse(connection, ReplyViolation(reply), events)
            return
        delivery = self._delivery
        if connection.verbose:
            delivery.write(connection, b"+OK\r\n")
        route = scope.table.route(publish.subject)
        if route.only_box is not None and not publish.header_size:  # acks, most of them
            payload = body[len(publish.tail) : -2]
            delivery.gather_bare(route.only_box, connection, publish.subject, reply, payload)
            return
        took = delivery.spread(connection, route, reply, publish.header_size, publish.total_size, body)
        if delivery.expired:
            self._subscriptions.expire()
        if route.has_service:
            self._report(Crossed(), events)
        if reply and not took and connection.no_responders:
            self.tell_no_responders(connection, scope, reply, publish.subject)

    def tell_no_responders(
        self, connection: PlainConnection, scope: PublishScope, reply: bytes, subject: bytes
    ) -> None:
        """Answer a request that nobody takes, if its sender itself listens to the reply."""
        for target in scope.table.route(reply).targets:
            if target.connection is connection:
                block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % subject
                size = len(block)
                sid = target.subscription.sid
                line = b"HMSG %b %b %d %d\r\n%b\r\n" % (reply, sid, size, size, block)
                self._delivery.write(connection, line)
                return

    def _begin_publish(
        self, connection: PlainConnection, publish: Publish, line_size: int, events: list[Event]
    ) -> None:
        """Check a control line, in the reference's order. `line_size` 0: its length was checked."""
        if publish.header_size > publish.total_size:
            raise MalformedArguments("header size is above total size")
        if line_size > connection.max_control_line and line_size - 6 > connection.max_control_line:
            raise ControlLineExceeded
        if 0 <= connection.max_payload < publish.total_size:
            raise MaximumPayloadViolation
        if connection.pedantic and not is_valid_literal(publish.subject):
            self._refuse(connection, InvalidPublishSubject(), events)

    def _plan(self, connection: PlainConnection, scope: PublishScope, publish: Publish, line: bytes) -> None:
        if not scope.is_worth_planning(line) or not scope.may_publish(publish.subject):
            return
        if connection.pedantic and not is_valid_literal(publish.subject):
            return
        route = scope.table.lasting_route(publish.subject)
        if route.has_service:
            return
        scope.remember(
            Plan(line, publish.subject, publish.header_size, publish.total_size, len(publish.tail), route)
        )

    # everything but what clients mostly send

    def _operate(self, connection: PlainConnection, events: list[Event]) -> Publish | None:
        """Carry out the operation at `connection.position` and move that behind it.

        Gives a publish whose payload is to be read. If the line has not ended, the position becomes its
        complement, below 0.
        """
        data = connection.data
        position = connection.position
        if connection.phase is Phase.AWAITING_CONNECT and data[position] not in b"Cc":
            self._report(NotConnected(), events)
            return None
        line = scan_line(data, position, connection.max_control_line)
        if line is None:
            connection.position = -position - 1
            return None
        connection.position = line.end
        match line.operation:
            case b"PING":
                self._delivery.write(connection, b"PONG\r\n")
                if connection.awaits_ping:
                    connection.awaits_ping = False
                    self._report(Pinged(), events)
            case b"PONG":
                connection.pings_out = 0
                connection.last_pong_ns = connection.last_activity_ns
            case b"SUB":
                subject, queue, sid = parse_subscribe(line.argument)
                error = self._subscriptions.subscribe(connection, subject, queue, sid)
                if error is not None:
                    self._refuse(connection, error, events)
                elif connection.verbose:
                    self._delivery.write(connection, b"+OK\r\n")
            case b"UNSUB":
                sid, limit = parse_unsubscribe(line.argument)
                self._subscriptions.unsubscribe(connection, sid, limit)
                if connection.verbose:
                    self._delivery.write(connection, b"+OK\r\n")
            case b"PUB":
                publish = parse_publish(line.argument)
                self._begin_publish(connection, publish, 0, events)
                return publish
            case b"HPUB":
                if not connection.headers:
                    raise HeadersNotNegotiated
                publish = parse_header_publish(line.argument)
                self._begin_publish(connection, publish, 0, events)
                return publish
            case b"CONNECT":
                connection.scope = None
                self._report(Connect(line.argument), events)
            case b"INFO":
                self._report(PeerInfo(line.argument), events)
            case b"-ERR":
                self._report(PeerError(line.argument), events)
            case _:  # +OK
                pass
        return None

    def _refuse(self, connection: PlainConnection, error: ProtocolError, events: list[Event]) -> None:
        """Answer a refusal that leaves the connection open."""
        self._delivery.write(connection, error.encode())
        self._report(Refused(error), events)

    def _report(self, event: Event, events: list[Event]) -> None:
        self.report_gathered(events)
        events.append(event)


def _mapped(publish: Publish, mapper: Mapper) -> Publish:
    return publish._replace(subject=mapper.mapped(publish.subject), original=publish.subject)


def _refused_publish(publish: Publish, body: bytes) -> PublishRefused:
    start = len(publish.tail) + publish.header_size
    return PublishRefused(publish.subject, publish.reply, body[len(publish.tail) : start], body[start:-2])
