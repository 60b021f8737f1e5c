"""What JetStream keeps for one account: its streams, what they use, and its limits.

Use is counted in the same step as the change that causes it: a stream reports its size whenever its log's head
changed, so the totals never have to be summed over all streams.
"""

from typing import TYPE_CHECKING

from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError

if TYPE_CHECKING:
    from headrace.jetstream.mirrors.follower import Follower
    from headrace.jetstream.streams.stream import Stream


class Usage:
    """Bytes held by streams, by storage."""

    __slots__ = ("file", "memory")

    def __init__(self) -> None:
        self.file = 0
        self.memory = 0

    def of(self, *, in_memory: bool) -> int:
        return self.memory if in_memory else self.file

    def add(self, size: int, *, in_memory: bool) -> None:
        """Count `size` bytes more, or fewer where it is negative."""
        if in_memory:
            self.memory += size
        else:
            self.file += size


class ServerState:
    """What all accounts share: the server's limits, and what is used of them."""

    def __init__(self, options: JetStreamOptions) -> None:
        self.max_memory = options.max_memory
        self.max_file = options.max_file
        self.usage = Usage()
        self.accounts: dict[str, AccountState] = {}

    def reserved(self, *, in_memory: bool) -> int:
        """Give the sum of the `max_bytes` of all streams of one storage."""
        return sum(account.reserved(in_memory=in_memory) for account in self.accounts.values())


class AccountState:
    """One JetStream-enabled account."""

    def __init__(self, name: str, options: AccountJetStreamOptions, server: ServerState) -> None:
        self.name = name
        self.options = options
        self.streams: dict[str, Stream] = {}
        self.offline: dict[str, str] = {}
        self.usage = Usage()
        self.followers: dict[str, list[Follower]] = {}
        self.api_total = 0
        self.api_errors = 0
        self._server = server

    def stream(self, name: str) -> "Stream":
        """Give the stream of that name; raises ApiError 10059, or 10194 for one that cannot be served."""
        stream = self.streams.get(name)
        if stream is None:
            reason = self.offline.get(name)
            if reason is not None:
                raise ApiError(error_table.STREAM_OFFLINE_REASON, err=reason)
            raise ApiError(error_table.STREAM_NOT_FOUND)
        return stream

    def add_usage(self, size: int, *, in_memory: bool) -> None:
        """Count bytes for the account and for the server."""
        self.usage.add(size, in_memory=in_memory)
        self._server.usage.add(size, in_memory=in_memory)

    def has_room(self, size: int, *, in_memory: bool) -> bool:
        """Tell whether `size` bytes more are surely within the account's and the server's limits."""
        own = self.options.max_memory if in_memory else self.options.max_storage
        shared = self._server.max_memory if in_memory else self._server.max_file
        if own < 0 and shared < 0:
            return True
        if 0 <= own < self.usage.of(in_memory=in_memory) + size:
            return False
        return not 0 <= shared < self._server.usage.of(in_memory=in_memory) + size

    def check_resources(self, pending_size: int, *, in_memory: bool) -> None:
        """Refuse to store anything while a limit is exceeded; `pending_size` is not counted yet. Raises ApiError."""
        own = self.options.max_memory if in_memory else self.options.max_storage
        if 0 <= own < self.usage.of(in_memory=in_memory) + pending_size:
            raise ApiError(error_table.ACCOUNT_RESOURCES_EXCEEDED)
        shared = self._server.max_memory if in_memory else self._server.max_file
        if 0 <= shared < self._server.usage.of(in_memory=in_memory) + pending_size:
            raise ApiError(error_table.INSUFFICIENT_RESOURCES)

    def check_reservation(self, size: int, *, in_memory: bool) -> None:
        """Refuse to promise `size` bytes more than account and server have. Raises ApiError 10028 or 10047."""
        own = self.options.max_memory if in_memory else self.options.max_storage
        shared = self._server.max_memory if in_memory else self._server.max_file
        exceeded = own >= 0 and own < self.reserved(in_memory=in_memory) + size
        if exceeded or (shared >= 0 and shared < self._server.reserved(in_memory=in_memory) + size):
            kind = (
                error_table.MEMORY_RESOURCES_EXCEEDED if in_memory else error_table.STORAGE_RESOURCES_EXCEEDED
            )
            raise ApiError(kind)

    def reserved(self, *, in_memory: bool) -> int:
        """Give the sum of the `max_bytes` of the account's streams of one storage."""
        return sum(
            stream.config.max_bytes
            for stream in self.streams.values()
            if stream.config.max_bytes > 0 and stream.config.in_memory == in_memory
        )

    @property
    def consumer_count(self) -> int:
        return sum(len(stream.consumers) for stream in self.streams.values())
