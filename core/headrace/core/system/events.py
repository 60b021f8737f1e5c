"""Events of the system account: who came and went, how many are there, and how the server does.

An event is made only if somebody listens, so it costs nothing where nobody does. Connections of an account are told
whenever they change, and every half minute while there are some; the server's statistics while somebody listens to
them, first soon, then every ten seconds.

Source: the NATS server 2.15's events, probed.
"""

from typing import TYPE_CHECKING, Any, Final

from headrace.core import limits
from headrace.core.accounts import Account
from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.client_info import client_info, encode, ordered
from headrace.core.connection_record import ConnectionRecord
from headrace.core.monitoring.jetstream import JetStreamView
from headrace.core.monitoring.process import Process
from headrace.core.monitoring.texts import timestamp
from headrace.core.system.facts import ServerInfo, account_statistics, statsz

if TYPE_CHECKING:
    from headrace.core.broker import Broker
    from headrace.core.session import Session

HEARTBEAT_NS: Final = 30 * NS_PER_S
FIRST_STATISTICS_NS: Final = 250 * NS_PER_MS
STATISTICS_NS: Final = 10 * NS_PER_S
_REFUSED: Final = "Authentication Failure"


class Events:
    """Tells the system account what happens. The broker calls it; `sequence` counts what was said of the server."""

    def __init__(
        self, broker: "Broker", facts: ServerInfo, process: Process, jetstream: JetStreamView | None
    ) -> None:
        self._broker = broker
        self._facts = facts
        self._process = process
        self._jetstream = jetstream
        self._account = broker.options.system_account
        self._statistics_subject = f"$SYS.SERVER.{broker.id}.STATSZ"
        self._statistics_ns = FIRST_STATISTICS_NS
        broker.bus.watch_interest(
            self._account, self._statistics_subject.encode(), self._on_statistics_interest
        )

    def on_entered(self, session: "Session") -> None:
        """A client has logged in."""
        account = session.account
        assert account is not None, "who has entered is in an account"
        self._tell_connections(account)
        subject = f"$SYS.ACCOUNT.{account.name}.CONNECT"
        if self._is_heard(subject):
            known = client_info(session) | {"name_tag": account.options.name_tag or account.name}
            known.pop("rtt", None)
            self._tell(subject, self._facts.event("client_connect", client=ordered(known)))

    def on_left(self, session: "Session", record: ConnectionRecord) -> None:
        """A connection has closed."""
        account = session.account
        is_refused = record.reason == _REFUSED
        if account is None and not is_refused:
            return
        name = limits.GLOBAL_ACCOUNT if account is None else account.name
        if account is not None:
            self._tell_connections(account)
        subjects = [f"$SYS.ACCOUNT.{name}.DISCONNECT"]
        if is_refused:
            subjects.insert(0, f"$SYS.SERVER.{self._broker.id}.CLIENT.AUTH.ERR")
        for subject in subjects:
            if self._is_heard(subject):
                self._tell(subject, self._gone(session, record, name))

    def on_lame_duck(self) -> None:
        self._announce("LAMEDUCK")

    def on_shutdown(self) -> None:
        self._announce("SHUTDOWN")

    def statistics(self) -> dict[str, Any]:
        """Give the message that is published regularly."""
        return {"server": self._facts(), "statsz": statsz(self._broker, self._process, self._jetstream)}

    def connections(self, account: Account) -> dict[str, Any]:
        """Give the event about an account's connections."""
        return self._facts.event("account_connections", **account_statistics(self._broker, account))

    def _gone(self, session: "Session", record: ConnectionRecord, account: str) -> dict[str, Any]:
        tag = account if session.account is None else session.account.options.name_tag or account
        known = client_info(session) | {
            "acc": account,
            "user": session.user or session.connect.user,
            "stop": timestamp(record.stop_ns),
            "name_tag": tag,
        }
        return self._facts.event(
            "client_disconnect",
            client=ordered(known),
            sent={"msgs": record.in_messages, "bytes": record.in_bytes},
            received={"msgs": record.out_messages, "bytes": record.out_bytes},
            reason=record.reason,
        )

    def _announce(self, what: str) -> None:
        subject = f"$SYS.SERVER.{self._broker.id}.{what}"
        if self._is_heard(subject):
            self._tell(subject, self._facts())

    def _tell_connections(self, account: Account) -> None:
        subjects = (
            f"$SYS.SERVER.ACCOUNT.{account.name}.CONNS",
            f"$SYS.ACCOUNT.{account.name}.SERVER.CONNS",
        )
        heard = [subject for subject in subjects if self._is_heard(subject)]
        if not heard:
            return
        event = self.connections(account)
        for subject in heard:
            self._tell(subject, event)
        deadlines = self._broker.deadlines
        if account.connection_count:
            now_ns = self._broker.scheduler.monotonic_ns()
            deadlines.set(
                ("account heartbeat", account.name),
                now_ns + HEARTBEAT_NS,
                lambda now: self._beat(account, now),
            )
        else:
            deadlines.clear(("account heartbeat", account.name))

    def _beat(self, account: Account, _now_ns: int) -> int | None:
        self._tell_connections(account)
        return None

    def _on_statistics_interest(self, is_there: bool) -> None:
        deadlines = self._broker.deadlines
        if is_there:
            self._statistics_ns = FIRST_STATISTICS_NS
            now_ns = self._broker.scheduler.monotonic_ns()
            deadlines.set("statistics", now_ns + FIRST_STATISTICS_NS, self._on_statistics_time)
        else:
            deadlines.clear("statistics")

    def _on_statistics_time(self, now_ns: int) -> int:
        self._tell(self._statistics_subject, self.statistics())
        self._statistics_ns = min(2 * self._statistics_ns, STATISTICS_NS)
        return now_ns + self._statistics_ns

    def _is_heard(self, subject: str) -> bool:
        return self._broker.bus.has_interest(self._account, subject.encode())

    def _tell(self, subject: str, body: dict[str, Any]) -> None:
        self._broker.bus.publish(self._account, subject.encode(), encode(body))
