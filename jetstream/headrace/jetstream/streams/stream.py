"""One stream: its configuration, its log, its consumers, and the subjects it takes messages from."""

from collections.abc import Sequence

from headrace.jetstream.accounts import AccountState
from headrace.jetstream.context import Context
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.streams.attached import AttachedConsumer
from headrace.storage.interface import StreamLog


class Stream:
    """A stream, as the API, the publish path and consumers see it."""

    def __init__(self, context: Context, account: AccountState, config: StreamConfig, log: StreamLog) -> None:
        self.context = context
        self.account = account
        self.config = config
        self.log = log
        self.consumers: dict[str, AttachedConsumer] = {}

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def visible_sequence(self) -> int:
        """The last sequence that consumers may be shown."""
        return self.log.durable_sequence

    def settle(self, consumer: AttachedConsumer, ranges: Sequence[tuple[int, int]]) -> None:
        """A consumer needs the messages of these inclusive ranges no more: remove what retention says."""
