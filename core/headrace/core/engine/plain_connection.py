"""A connection as the plain engine keeps it: what the session set, what was counted, parser state and output.

Parser state, between two calls of `receive`: `data[position:]` is what was received and not used yet. While a long
payload is awaited, what arrives is only collected in `pieces` until `needed` bytes are there, so that a large
message split over many reads is copied once. `publish` is a control line whose payload is awaited.

Output: `out` is a list of byte strings whose sum is `out_size`; it is joined once, when it is handed to
the transport. The list object never changes, so the hot loops may keep it at hand.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from headrace.core import limits
from headrace.core.engine.interface import Phase, Transport

if TYPE_CHECKING:
    from headrace.core.engine.plain_scope import PublishScope
    from headrace.core.routing.entries import Subscription

FLUSH_SIZE: Final = 256 * 1024
"""Output above which a connection is written to before the turn ends, bytes."""

NEVER: Final = 1 << 62
"""A count that is not reached."""


class Publish(NamedTuple):
    """A PUB or HPUB whose control line was read. `tail` is what an outgoing MSG line ends with."""

    subject: bytes
    reply: bytes
    header_size: int
    total_size: int
    tail: bytes
    original: bytes = b""  # the subject as the client wrote it, where it was mapped


class PlainConnection:
    """See `engine.interface.Connection` for the first two groups."""

    __slots__ = (
        "account",
        "awaits_ping",
        "data",
        "delivered_replies",
        "echo",
        "headers",
        "id",
        "in_bytes",
        "in_messages",
        "is_broken",
        "is_overflowing",
        "is_stalled",
        "last_activity_ns",
        "last_pong_ns",
        "max_account_subscriptions",
        "max_control_line",
        "max_payload",
        "max_subscriptions",
        "needed",
        "no_responders",
        "out",
        "out_bytes",
        "out_messages",
        "out_size",
        "pedantic",
        "permissions",
        "phase",
        "pieces",
        "pieces_size",
        "pings_out",
        "position",
        "publish",
        "relief_size",
        "scope",
        "subscriptions",
        "transport",
        "verbose",
    )

    def __init__(self, transport: Transport, connection_id: int) -> None:
        self.id = connection_id
        self.transport = transport
        self.phase = Phase.OPEN
        self.account = limits.GLOBAL_ACCOUNT
        self.permissions: object | None = None
        self.verbose = True
        self.pedantic = True
        self.echo = True
        self.headers = False
        self.no_responders = False
        self.max_payload: int = limits.MAX_PAYLOAD
        self.max_control_line: int = limits.MAX_CONTROL_LINE
        self.max_subscriptions: int = limits.MAX_SUBSCRIPTIONS
        self.max_account_subscriptions = -1
        self.awaits_ping = False
        self.delivered_replies: list[bytes] | None = None

        self.in_messages = 0
        self.in_bytes = 0
        self.out_messages = 0
        self.out_bytes = 0
        self.pings_out = 0
        self.last_activity_ns = 0
        self.last_pong_ns = 0
        self.is_stalled = False

        self.data = b""
        self.position = 0
        self.pieces: list[bytes] = []
        self.pieces_size = 0
        self.needed = 0
        self.publish: Publish | None = None
        self.scope: PublishScope | None = None
        self.is_broken = False  # a fatal error was reported; whatever else arrives is not read

        self.out: list[bytes] = []
        self.out_size = 0
        self.relief_size: int = (
            FLUSH_SIZE  # -1 while the transport is far behind: every delivery is looked at
        )
        self.is_overflowing = False

        self.subscriptions: dict[bytes, Subscription] = {}

    @property
    def subscription_count(self) -> int:
        return len(self.subscriptions)

    @property
    def pending_size(self) -> int:
        return self.out_size + self.transport.pending_size
