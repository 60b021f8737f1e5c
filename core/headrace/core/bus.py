"""What JetStream sees of the core: subjects to take messages from and to send them to.

This is the whole surface; a test may hand JetStream a bus made of lists. `EngineBus` covers an engine with it.

One *turn* is: bytes received (from any number of connections) → events handled, sinks called → turn-end hooks →
flush. Whoever acts outside of that (a timer, a finished sync) calls `request_turn`, so that hooks run and
output goes out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.core.base.message import Batch, Sink, View
from headrace.core.engine.interface import Delivered, Engine, Event, Outcome, Registration
from headrace.core.imports.responses import PREFIX, Responses

__all__ = ["Bus", "Caller", "Delivered", "EngineBus", "Outcome", "Registration"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a message, as far as advisories and audit tell."""

    connection_id: int
    account: str
    user: str
    name: str
    host: str
    port: int
    language: str
    version: str
    start_ns: int
    rtt_ns: int


class Bus(Protocol):
    """The core's services for what is built on top. Loop thread only; nothing here blocks."""

    def capture(
        self,
        account: str,
        subject: bytes,
        sink: Sink,
        *,
        queue: bytes = b"",
        answers: Callable[[bytes], bool] | None = None,
    ) -> Registration:
        """Send what clients and the server publish on `subject` to `sink`; see `Engine.add_sink`."""
        ...

    def publish(
        self, account: str, subject: bytes, payload: bytes, *, reply: bytes = b"", headers: bytes = b""
    ) -> None:
        """Publish on the server's own behalf: answers, advisories, republished messages.

        Sinks are called as well, but only after the caller has returned.
        """
        ...

    def answer(self, account: str, batch: Batch, prefix: bytes, first_sequence: int, suffix: bytes) -> None:
        """Publish `prefix`, a number, `suffix` to the reply subject of every message of `batch` that has one.

        Numbers count from `first_sequence`, one for each message, answered or not: the pub acks of a batch that was
        appended as it is. Costs no Python for each message on the compiled engine; see `Engine.answer`.
        """
        ...

    def deliver(
        self,
        account: str,
        route_by: bytes,
        views: Sequence[View],
        replies: Sequence[bytes],
        *,
        queue: bytes = b"",
    ) -> Delivered:
        """Send stored messages to the subscribers of `route_by`; see `Engine.deliver`."""
        ...

    def has_interest(self, account: str, subject: bytes, queue: bytes = b"") -> bool: ...

    def watch_interest(
        self, account: str, subject: bytes, callback: Callable[[bool], None], *, queue: bytes = b""
    ) -> Registration: ...

    def on_room(self, callback: Callable[[], None]) -> None: ...

    def at_turn_end(self, hook: Callable[[], None]) -> None:
        """Run `hook` in every turn, after all its messages were handled and before output is flushed."""
        ...

    def request_turn(self) -> None:
        """Make sure that a turn ends soon."""
        ...

    def caller(self, connection_id: int) -> Caller | None:
        """Tell who a connection is; None for the server itself or one that has gone."""
        ...

    def hold(self, connection_id: int) -> None:
        """Stop reading from a connection; counted, so `release` as often. Unknown ones are ignored."""
        ...

    def release(self, connection_id: int) -> None: ...


class BusHost(Protocol):
    """What the bus needs of the broker beside the engine: turns, and who is connected."""

    def enqueue(self, events: Sequence[Event]) -> None:
        """Handle these events later in this turn, or in the next."""
        ...

    def at_turn_end(self, hook: Callable[[], None]) -> None: ...

    def request_turn(self) -> None: ...

    def caller(self, connection_id: int) -> Caller | None: ...

    def hold(self, connection_id: int) -> None: ...

    def release(self, connection_id: int) -> None: ...


class EngineBus:
    """A `Bus` over an engine. Whatever makes output also asks for a turn, so that it goes out.

    Stored messages for a reply subject of a service import (`_R_.`) are delivered straight to who asked, in the account
    that the request came from, and so is their interest looked for there.
    """

    def __init__(self, engine: Engine, host: BusHost, responses: Responses) -> None:
        self._engine = engine
        self._host = host
        self._responses = responses

    def capture(
        self,
        account: str,
        subject: bytes,
        sink: Sink,
        *,
        queue: bytes = b"",
        answers: Callable[[bytes], bool] | None = None,
    ) -> Registration:
        return self._engine.add_sink(account, subject, sink, queue=queue, answers=answers)

    def publish(
        self, account: str, subject: bytes, payload: bytes, *, reply: bytes = b"", headers: bytes = b""
    ) -> None:
        events = self._engine.publish(account, subject, reply, headers, payload)
        if events:
            self._host.enqueue(events)
        self._host.request_turn()

    def answer(self, account: str, batch: Batch, prefix: bytes, first_sequence: int, suffix: bytes) -> None:
        events = self._engine.answer(account, batch, prefix, first_sequence, suffix)
        if events:
            self._host.enqueue(events)
        self._host.request_turn()

    def deliver(
        self,
        account: str,
        route_by: bytes,
        views: Sequence[View],
        replies: Sequence[bytes],
        *,
        queue: bytes = b"",
    ) -> Delivered:
        self._host.request_turn()
        if route_by.startswith(PREFIX):
            end = self._responses.end(route_by)
            if end is None:
                return Delivered(0, Outcome.NO_INTEREST)
            delivered = self._engine.deliver(*end, views, replies, queue=queue)
            if delivered.count:
                self._responses.on_delivered(route_by)
            return delivered
        return self._engine.deliver(account, route_by, views, replies, queue=queue)

    def has_interest(self, account: str, subject: bytes, queue: bytes = b"") -> bool:
        if subject.startswith(PREFIX):
            end = self._responses.end(subject)
            return end is not None and self._engine.has_interest(*end, queue)
        return self._engine.has_interest(account, subject, queue)

    def watch_interest(
        self, account: str, subject: bytes, callback: Callable[[bool], None], *, queue: bytes = b""
    ) -> Registration:
        if subject.startswith(PREFIX):
            account, subject = self._responses.end(subject) or (account, subject)
        return self._engine.watch_interest(account, subject, callback, queue=queue)

    def on_room(self, callback: Callable[[], None]) -> None:
        self._engine.on_room(callback)

    def at_turn_end(self, hook: Callable[[], None]) -> None:
        self._host.at_turn_end(hook)

    def request_turn(self) -> None:
        self._host.request_turn()

    def caller(self, connection_id: int) -> Caller | None:
        return self._host.caller(connection_id)

    def hold(self, connection_id: int) -> None:
        self._host.hold(connection_id)

    def release(self, connection_id: int) -> None:
        self._host.release(connection_id)
