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
from headrace.core.engine.interface import Delivered, Outcome, Registration

__all__ = ["Bus", "Caller", "Delivered", "Outcome", "Registration"]


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
