"""A consumer's own subjects: bound methods as sinks, and their registrations kept together."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.core.base.message import Batch, Sink
from headrace.core.bus import Bus, Registration


@dataclass(frozen=True, slots=True, eq=False)
class CallbackSink:
    """A sink that is a function."""

    callback: Callable[[Batch], None]

    def on_messages(self, batch: Batch) -> None:
        self.callback(batch)


class Captures:
    """Registrations of one account that end together."""

    def __init__(self, bus: Bus, account: str) -> None:
        self._bus = bus
        self._account = account
        self._registrations: list[Registration] = []

    def add(self, subject: bytes, sink: Sink) -> None:
        """Send what is published on `subject` to `sink`."""
        self._registrations.append(self._bus.capture(self._account, subject, sink))

    def close(self) -> None:
        """Take all of them out; harmless when repeated."""
        for registration in self._registrations:
            registration.close()
        self._registrations.clear()
