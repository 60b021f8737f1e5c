"""Traced messages: delivered one target at a time, with a note of what became of each.

Few messages are traced, so this walks a route in the plainest way. It is both engines': the compiled one hands a
message that asks for a trace to the plain reader.

Source: message tracing of the NATS server 2.15, probed.
"""

import re
from collections.abc import Sequence
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.message import Message, Sink
from headrace.core.engine.interface import Fate, Traced
from headrace.core.engine.plain_connection import PlainConnection, Publish
from headrace.core.engine.plain_delivery import Delivery, body_of
from headrace.core.routing.entries import SinkBox, Subscription, Target
from headrace.core.routing.follower import Follower
from headrace.core.routing.table import Route, RouteTable

NO_ECHO: Final = "Not delivered because of no echo"
DENIED: Final = "Not delivered because subscription denies this subject"
CLOSED: Final = "Not delivered because client is closed"
EXCEEDED: Final = "Not delivered because auto-unsubscribe exceeded"
SLOW: Final = "Not delivered because fast producer not stalled and consumer is slow"

_DESTINATION: Final = b"\r\nNats-Trace-Dest:"
_PARENT: Final = re.compile(rb"\r\ntraceparent:", re.IGNORECASE)


def has_mark(data: bytes, start: int, end: int, *, parents: bool) -> bool:
    """Tell whether headers in `data` name a place for a trace, or, where asked for, the parent of one."""
    if data.find(_DESTINATION, start, end) >= 0:
        return True
    return parents and _PARENT.search(data, start, end) is not None


def traced_event(publish: Publish, body: bytes) -> Traced:
    """Make the event of a message with a mark."""
    start = len(publish.tail)
    payload_start = start + publish.header_size
    return Traced(
        publish.original or publish.subject,
        publish.subject,
        publish.reply,
        body[start:payload_start],
        body[payload_start:-2],
    )


class TracedSpread:
    """Delivers one message. `fates` and `sinks` are filled by `run`, which tells whether anybody took it."""

    def __init__(
        self,
        delivery: Delivery,
        chance: Chance,
        table: RouteTable,
        publisher: PlainConnection | None,
        message: Message,
        *,
        is_delivered: bool,
    ) -> None:
        self.fates: list[Fate] = []
        self.sinks: list[tuple[Sink, Message]] = []
        self._delivery = delivery
        self._chance = chance
        self._table = table
        self._publisher = publisher
        self._silent = publisher if publisher is not None and not publisher.echo else None
        self._message = message
        self._is_delivered = is_delivered

    def run(self, route: Route) -> bool:
        message = self._message
        took = route.is_answered and not route.has_service
        for target in route.targets:
            took = self._put(target) or took
        for subscription in self._denied():
            self._note(Target(subscription, message.subject), DENIED)
        for _, members in route.groups:
            took = self._put_one(members) or took
        self.sinks += [(box.sink, message) for box in route.boxes]
        self.sinks += [(box.sink, message._replace(subject=shown)) for box, shown in route.shown_boxes]
        return took

    def _put_one(self, members: Sequence[Target | SinkBox]) -> bool:
        count = len(members)
        start = self._chance.below(count) if count > 1 else 0
        for index in range(count):
            member = members[(start + index) % count]
            if isinstance(member, SinkBox):
                self.sinks.append((member.sink, self._message))
                return True
            if self._put(member):
                return True
        return False

    def _put(self, target: Target) -> bool:
        connection = target.connection
        follower = self._follower_of(target)
        if connection is self._silent:
            error = NO_ECHO
        elif connection.is_overflowing:
            error = CLOSED
        elif not self._is_delivered:
            error = ""
        elif target.subscription.delivered >= target.subscription.limit:
            error = EXCEEDED
        else:
            error = "" if self._deliver(target) else SLOW
        self._note(target, error, follower)
        return not error

    def _deliver(self, target: Target) -> bool:
        message = self._message
        headers = message.headers if target.connection.headers else b""
        body = body_of(message.reply, headers, message.payload)
        size = len(headers) + len(message.payload)
        return self._delivery.put(target, self._publisher, message.reply, body, size, is_headed=bool(headers))

    def _note(self, target: Target, error: str, follower: Follower | None = None) -> None:
        subscription = target.subscription
        subject = subscription.subject
        if follower is not None:
            subject = follower.original(subject) or follower.source
        self.fates.append(
            Fate(
                connection_id=target.connection.id,
                account=target.connection.account,
                subject=subject,
                queue=subscription.queue,
                error=error,
                imported_as=b"" if follower is None else _shown(target),
                is_visible=follower is None or follower.allow_trace,
            )
        )

    def _follower_of(self, target: Target) -> Follower | None:
        """Find the import by which a target of another account is in this route."""
        account = target.connection.account
        if account == self._table.account:
            return None
        shown = _shown(target)
        found = [
            follower
            for follower in self._table.followers
            if follower.account == account and follower.shown(self._message.subject) == shown
        ]
        assert found, "who is in a route of another account is there by an import"
        return next((follower for follower in found if follower.allow_trace), found[0])

    def _denied(self) -> list[Subscription]:
        """Give the subscriptions of this account that would take the message, were it not denied to them."""
        taking = {id(target.subscription) for target in self._targets()}
        return [
            entry
            for entry in self._table.entries_of(self._message.subject)
            if isinstance(entry, Subscription) and entry.is_filtered and id(entry) not in taking
        ]

    def _targets(self) -> list[Target]:
        route = self._table.route(self._message.subject)
        grouped = [each for _, members in route.groups for each in members if isinstance(each, Target)]
        return [*route.targets, *grouped]


def _shown(target: Target) -> bytes:
    return target.prefix.split(b" ")[1]
