"""What a session needs of the broker."""

import logging
from typing import TYPE_CHECKING, Protocol

from headrace.core.accounts import Account, Accounts
from headrace.core.auth.keys import SecretBytes
from headrace.core.auth.login import Admission
from headrace.core.base.chance import Chance
from headrace.core.base.clock import Clock
from headrace.core.base.deadlines import Deadlines
from headrace.core.connection_record import ConnectionRecord
from headrace.core.engine.interface import Engine
from headrace.core.info import ServerFacts
from headrace.core.link import Link
from headrace.core.options import ServerOptions
from headrace.core.tracing.tracer import Tracer

if TYPE_CHECKING:
    from headrace.core.session import Session


class SessionHost(Protocol):
    """What a session needs of the broker."""

    options: ServerOptions
    engine: Engine
    clock: Clock
    chance: Chance
    secret_bytes: SecretBytes
    deadlines: Deadlines
    accounts: Accounts
    facts: ServerFacts
    log: logging.Logger
    tracer: Tracer

    def authenticator_of(self, link: Link) -> Admission:
        """Give the rules by which who comes this way logs in."""
        ...

    def request_turn(self) -> None: ...

    def on_room(self) -> None:
        """Some client has room again: whoever was stalled may go on."""
        ...

    def on_stall(self, session: "Session") -> None: ...

    def on_grants(self, session: "Session") -> None:
        """This session wants `collect_replies` called in every turn."""
        ...

    def on_slow_consumer(self, account: Account | None) -> None: ...

    def on_stale_connection(self) -> None: ...

    def on_entered(self, session: "Session") -> None:
        """This session has said who it is, and was let in."""
        ...

    def on_left(self, session: "Session", record: ConnectionRecord) -> None: ...
