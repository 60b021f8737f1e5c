"""What JetStream shows through monitoring. It registers this with the monitor; core knows no stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class JszOptions:
    """What /jsz is asked for: which accounts, and how deep."""

    account: str = ""
    accounts: bool = False
    streams: bool = False
    consumers: bool = False
    config: bool = False
    offset: int = 0
    limit: int = 1024


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """What /healthz is asked for; without names, the health of the whole server."""

    account: str = ""
    stream: str = ""
    consumer: str = ""
    is_server_only: bool = False


@dataclass(frozen=True, slots=True)
class HealthProblem:
    """Something that is not well. `status` is the answer's: 503, 404 for what is not there, 200 for a warning."""

    kind: str  # JETSTREAM, ACCOUNT, STREAM, CONSUMER
    text: str
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int = 503


class JetStreamView(Protocol):
    """JetStream as monitoring sees it."""

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        """Give the body of /jsz, without server id and time."""
        ...

    def sync_times(self) -> tuple[Sequence[tuple[float, int]], float] | None:
        """Tell how long writing and syncing took: bounds in seconds, each with how many took no longer, and the sum of
        all in seconds. None: nothing is synced here."""
        ...

    def problems(self, options: HealthOptions) -> Sequence[HealthProblem]:
        """Tell what is not well; empty where all is."""
        ...
