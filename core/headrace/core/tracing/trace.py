"""The trace of one message: its events, and the event that is sent when all that they wait for is known.

A stream tells what it did with the message only when that is on disk, so a trace counts what it waits for.
"""

from collections.abc import Callable
from typing import Any, Final

from headrace.core.base.message import Message, Sink, StreamNote, TracedSink
from headrace.core.engine.interface import Fate
from headrace.core.tracing.wish import disabled

CLIENT: Final = 0
"""The kind of connection that clients are; the others that the reference knows do not exist here."""


class Trace:
    """Collects what happens to one message. `is_only`: it is not to be delivered."""

    def __init__(
        self,
        *,
        account: str,
        is_only: bool,
        time: Callable[[], str],
        name_of: Callable[[int], str],
        send: Callable[["Trace"], None],
    ) -> None:
        """`time` gives the time as text, `name_of` what a connection is called; `send` is called once, at the end."""
        self.account = account
        self.is_only = is_only
        self.events: list[dict[str, Any]] = []
        self._time = time
        self._name_of = name_of
        self._send = send
        self._awaited = 1  # who routes the message, and each stream that was given it

    def enter(self, connection_id: int, subject: bytes, error: str = "") -> None:
        """Note where the message came in; the first event."""
        shown = {"acc": self.account, "subj": _text(subject), "error": error}
        self._add("in", kind=CLIENT, cid=connection_id, name=self._name_of(connection_id), **shown)

    def fail(self, error: str) -> None:
        """Note why the message was refused."""
        self.events[0]["error"] = error

    def map(self, subject: bytes) -> None:
        """Note where the account's mappings lead."""
        self._add("sm", to=_text(subject))

    def cross(self, account: str, subject: bytes, subject_there: bytes) -> None:
        """Note that the message goes to the service of another account."""
        self._add("si", acc=account, **{"from": _text(subject)}, to=_text(subject_there))

    def leave(self, fate: Fate) -> None:
        """Note what became of the message at one subscription, and that another account imports it."""
        if fate.imported_as:
            self._add("se", acc=fate.account, to=_text(fate.imported_as))
        if fate.is_visible:
            self._add(
                "eg",
                kind=CLIENT,
                cid=fate.connection_id,
                name=self._name_of(fate.connection_id),
                acc="" if fate.account == self.account else fate.account,
                sub=_text(fate.subject),
                queue=_text(fate.queue),
                error=fate.error,
            )

    def give(self, sink: Sink, message: Message) -> bool:
        """Hand the message to a sink that tells what it does with traced ones; False where it does not."""
        if not isinstance(sink, TracedSink):
            return False
        event = self._add("js", stream=sink.stream_name)
        self._awaited += 1

        def tell(note: StreamNote) -> None:
            event["ts"] = self._time()
            for key, value in (
                ("subject", _text(note.subject)),
                ("nointerest", note.has_no_interest),
                ("error", note.error),
            ):
                if value:
                    event[key] = value
            self.finish()

        if not self.is_only:  # a stored message is not traced again when it is delivered
            message = message._replace(headers=disabled(message.headers))
        sink.on_traced(message, is_delivered=not self.is_only, tell=tell)
        return True

    def finish(self) -> None:
        """Send the event, if nothing is waited for any more."""
        self._awaited -= 1
        if not self._awaited:
            self._send(self)

    def _add(self, type_: str, **fields: object) -> dict[str, Any]:
        event: dict[str, Any] = {"type": type_, "ts": self._time()}
        event |= {key: value for key, value in fields.items() if value or key in ("kind", "acc", "cid")}
        if not event.get("acc", True):
            del event["acc"]
        self.events.append(event)
        return event


def _text(subject: bytes) -> str:
    return subject.decode("utf-8", "replace")
