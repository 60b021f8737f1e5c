"""What JetStream keeps for one account: its streams, what they use, and its limits.

Use is counted in the same step as the change that causes it: a stream reports its size whenever its log's head
changed, so the totals never have to be summed over all streams.
"""

from typing import TYPE_CHECKING

from headrace.core.options import AccountJetStreamOptions
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream


class Usage:
    """Bytes held by streams, by storage."""

    __slots__ = ("file", "memory")

    def __init__(self) -> None:
        self.file = 0
        self.memory = 0

    def add(self, size: int, *, in_memory: bool) -> None:
        """Count `size` bytes more, or fewer where it is negative."""
        if in_memory:
            self.memory += size
        else:
            self.file += size


class AccountState:
    """One JetStream-enabled account."""

    def __init__(self, name: str, options: AccountJetStreamOptions, server_usage: Usage) -> None:
        self.name = name
        self.options = options
        self.streams: dict[str, Stream] = {}
        self.offline: dict[str, str] = {}
        self.usage = Usage()
        self.api_total = 0
        self.api_errors = 0
        self._server_usage = server_usage

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
        self._server_usage.add(size, in_memory=in_memory)

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
