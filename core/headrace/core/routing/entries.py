"""What a route is made of: subscriptions of clients, and sinks of the server itself.

An entry is made once, when somebody subscribes; `order` numbers them by age. A *target* is an entry as seen from one
literal subject: it holds the line `MSG <subject> <sid> ` ready made.
"""

from collections.abc import Callable

from headrace.core.base.message import Message, MessageBatch, Sink
from headrace.core.engine.plain_connection import NEVER, PlainConnection


class Subscription:
    """A client's SUB. `limit` is the count of deliveries after which it ends."""

    __slots__ = ("connection", "delivered", "is_filtered", "limit", "order", "queue", "sid", "subject")

    def __init__(
        self,
        connection: PlainConnection,
        subject: bytes,
        queue: bytes,
        sid: bytes,
        *,
        order: int,
        is_filtered: bool,
    ) -> None:
        self.connection = connection
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self.order = order
        self.is_filtered = is_filtered
        self.delivered = 0
        self.limit = NEVER


class SinkBox:
    """One sink and what it was sent since it was last called; shared by all its registrations."""

    __slots__ = ("has_headers", "messages", "references", "sink", "size")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.references = 0
        self.messages: list[Message] = []
        self.size = 0
        self.has_headers = False

    def take(self) -> MessageBatch:
        """Give what was gathered and begin anew."""
        batch = MessageBatch()
        batch.extend(self.messages)
        batch.bare = not self.has_headers
        batch.size = self.size
        self.messages = []
        self.size = 0
        self.has_headers = False
        return batch


class SinkEntry:
    """A sink's registration on a subject. `is_service`: it stands for a service of another account."""

    __slots__ = ("answers", "box", "is_service", "order", "queue", "subject")

    def __init__(
        self,
        box: SinkBox,
        subject: bytes,
        queue: bytes,
        answers: Callable[[bytes], bool] | None,
        *,
        order: int,
        is_service: bool = False,
    ) -> None:
        self.box = box
        self.subject = subject
        self.queue = queue
        self.answers = answers
        self.order = order
        self.is_service = is_service


Entry = Subscription | SinkEntry


class Target:
    """A subscription in a route."""

    __slots__ = ("connection", "prefix", "prefix_size", "subscription")

    def __init__(self, subscription: Subscription, subject: bytes) -> None:
        self.subscription = subscription
        self.connection = subscription.connection
        self.prefix = b"MSG %b %b " % (subject, subscription.sid)
        self.prefix_size = len(self.prefix)
