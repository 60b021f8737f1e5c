"""Messages on their way between the layers: as published, and as stored.

A `Batch` is what one sink (a stream's capture, a consumer's acks, an API subject) was sent within one
turn. The plain engine makes `MessageBatch`; the compiled engine makes an object of the same shape that keeps the
bytes in one arena and makes a `Message` only for those who look at one.

A `View` is a stored message as storage hands it out. Its fields are bytes in both engines' Python form; the
compiled engine may render it without making them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, overload, runtime_checkable


class Message(NamedTuple):
    """A message as a client published it.

    `headers` is the whole block, from `NATS/1.0` to the blank line, or empty. `connection_id` is the
    publisher's, 0 for the server itself.
    """

    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes
    connection_id: int


class View(NamedTuple):
    """A stored message. `time_ns` is its timestamp, nanoseconds since 1970."""

    sequence: int
    time_ns: int
    subject: bytes
    headers: bytes
    payload: bytes


class Batch(Protocol):
    """Messages for one sink, in the order of their arrival. Never empty, never changed once handed out."""

    @property
    def bare(self) -> bool:
        """Whether no message of the batch has headers."""
        ...

    @property
    def size(self) -> int:
        """Bytes of all subjects, headers and payloads."""
        ...

    def subjects(self) -> list[bytes]:
        """Give each message's subject, in order, without making the messages."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Message]: ...

    @overload
    def __getitem__(self, index: int, /) -> Message: ...

    @overload
    def __getitem__(self, index: slice, /) -> "Batch | list[Message]": ...


class MessageBatch(list[Message]):
    """The plain engine's batch: a list that remembers two sums."""

    __slots__ = ("bare", "size")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        super().__init__(messages)
        self.bare = all(not message.headers for message in self)
        self.size = sum(len(m.subject) + len(m.headers) + len(m.payload) for m in self)

    def subjects(self) -> list[bytes]:
        """Give each message's subject, in order."""
        return [message.subject for message in self]


class StreamNote(NamedTuple):
    """What a stream did with a traced message: stored it as `subject`, or why not."""

    subject: bytes
    error: str = ""
    has_no_interest: bool = False


class Sink(Protocol):
    """Something inside the server that takes messages: named in a route as the Python handler."""

    def on_messages(self, batch: Batch) -> None:
        """Take what was published since the last call. Called between parse loops, never inside one."""
        ...


@runtime_checkable
class TracedSink(Protocol):
    """A sink that tells what it does with a message that is traced."""

    @property
    def stream_name(self) -> str: ...

    def on_traced(self, message: Message, *, is_delivered: bool, tell: Callable[[StreamNote], None]) -> None:
        """Take a message, or where not `is_delivered` only judge it; `tell` is called once, when it is known."""
        ...
