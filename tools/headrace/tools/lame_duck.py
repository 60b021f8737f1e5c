"""Lame duck mode: a server that is to go lets its clients leave one by one.

No new clients; those that understand it are told (INFO with `ldm`); after the grace period the rest are closed, spread
over what is left of the duration, so that they do not all arrive elsewhere at once. When none is left, the server ends.

Source: the client protocol of NATS server 2.15, "lame duck mode", probed.
"""

from collections.abc import Callable
from typing import Final

from headrace.core.base.clock import NS_PER_S
from headrace.core.broker import Broker

SPACING_MAX_NS: Final = NS_PER_S
"""The longest wait between two closes."""

POLL_NS: Final = NS_PER_S // 10
"""How often it is looked whether all clients have left by themselves."""


class LameDuck:
    """Runs the mode once. `on_done` is called when no client is left."""

    def __init__(self, broker: Broker, on_done: Callable[[], None]) -> None:
        self._broker = broker
        self._on_done = on_done
        self._spacing_ns = 0
        self._closing_at_ns = 0
        self._next_close_ns = 0

    def start(self) -> None:
        """Begin; listeners are closed already."""
        broker = self._broker
        broker.announce_lame_duck()
        broker.request_turn()
        now_ns = broker.scheduler.monotonic_ns()
        self._closing_at_ns = now_ns + broker.options.lame_duck_grace_period_ns
        self._step()

    def _step(self) -> None:
        broker = self._broker
        if not broker.connection_count:
            self._on_done()
            return
        now_ns = broker.scheduler.monotonic_ns()
        if now_ns >= self._closing_at_ns:
            if not self._spacing_ns:
                self._begin_closing(now_ns)
            if now_ns >= self._next_close_ns:
                broker.close_session(broker.sessions[0].id)
                # At random, so that servers that go together do not close in step.
                self._next_close_ns = now_ns + 1 + broker.chance.below(self._spacing_ns)
        broker.scheduler.call_at(now_ns + self._wait_ns(now_ns), self._step)

    def _begin_closing(self, now_ns: int) -> None:
        options = self._broker.options
        span_ns = options.lame_duck_duration_ns - options.lame_duck_grace_period_ns
        self._broker.log.info("Closing existing clients")
        self._spacing_ns = max(1, min(SPACING_MAX_NS, span_ns // self._broker.connection_count))
        self._next_close_ns = now_ns

    def _wait_ns(self, now_ns: int) -> int:
        if not self._broker.connection_count:
            return 0
        due_ns = self._next_close_ns if self._spacing_ns else self._closing_at_ns
        return max(1, min(POLL_NS, due_ns - now_ns))
