"""What every part of JetStream is given: the bus, the store, time, chance, and whom to tell.

One `Context` is made by the service and handed down, so that nothing below it knows a global. It also holds the
two shortcuts that streams and consumers share: advisories, and the set of those who have work for the turn's end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.bus import Bus
from headrace.core.options import JetStreamOptions
from headrace.jetstream.streams.batches import OpenBatches
from headrace.storage.interface import Store

if TYPE_CHECKING:
    from headrace.jetstream.mirrors.remote import RemoteFollower

API_PREFIX: Final = b"$JS.API."


class Pumpable(Protocol):
    """Something that has work to do at the end of the turn."""

    def pump(self, budget: int) -> bool:
        """Do work, at most `budget` messages of it; tell whether more is waiting."""
        ...


class EventLog(Protocol):
    """Where what happened is written down for the operator."""

    def info(self, text: str, /) -> None: ...

    def warning(self, text: str, /) -> None: ...

    def error(self, text: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of streams and consumers. Loop thread only.

    `advise(account, subject, body)` publishes an advisory when somebody takes it: `body` is its `type` in full and
    its own fields; `id`, `timestamp` and `domain` are added. `ready(pumpable)` asks for `pump` at the end of a turn.
    `expected_followers`: streams that ask, through their accounts' imports, for one to copy; by the name they made up.
    """

    bus: Bus
    store: Store
    scheduler: Scheduler
    deadlines: Deadlines
    chance: Chance
    options: JetStreamOptions
    server_name: str
    server_id: str
    system_account: str
    version: str
    log: EventLog
    advise: Callable[[str, bytes, dict[str, Any]], None]
    ready: Callable[[Pumpable], None]
    open_batches: OpenBatches = field(default_factory=OpenBatches)
    expected_followers: dict[str, "RemoteFollower"] = field(default_factory=dict[str, "RemoteFollower"])

    @property
    def api_prefixes(self) -> tuple[bytes, ...]:
        """What API subjects begin with: `$JS.API.`, and with a domain `$JS.<domain>.API.` as well."""
        if not self.options.domain:
            return (API_PREFIX,)
        return (API_PREFIX, b"$JS.%b.API." % self.options.domain.encode())
