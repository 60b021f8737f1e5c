"""JetStream as a whole: what a server makes one of, starts, asks, and closes.

It is a client of the bus and of the store. At the start it takes over the store's logs: each holds its account
and configuration, so there is no catalogue to disagree with them. After that everything is driven from outside:
messages come through captures, time through `Deadlines`, finished syncs through `after_sync`. At the end of
each turn the consumers that have work are pumped, a bounded amount each, and the store is asked to sync what
the turn has changed.

A stream that this version cannot serve (a newer API level, a configuration that does not parse) is not touched:
it is *offline*, listed as such, and its subjects are nobody's.
"""

import traceback
from collections.abc import Mapping
from typing import Any, Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.bus import Bus
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.accounts import AccountState, ServerState
from headrace.jetstream.api.consumer_endpoints import ConsumerEndpoints
from headrace.jetstream.api.dispatcher import AccountApi, Router
from headrace.jetstream.api.domain import DomainBuckets
from headrace.jetstream.api.snapshot_endpoints import SnapshotEndpoints
from headrace.jetstream.api.stream_endpoints import StreamEndpoints
from headrace.jetstream.consumers.registry import Consumers
from headrace.jetstream.context import Context, EventLog, Pumpable
from headrace.jetstream.levels import unsupported_reason
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.models.wire import InvalidJson, decode, encode_json
from headrace.jetstream.snapshots.restoring import UNFINISHED
from headrace.jetstream.streams.attached import CloseReason
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import Store, StreamLog

PUMP_BUDGET: Final = 1024
"""Messages that one consumer may deliver in one turn before others have theirs."""

ALWAYS_ADVISED: Final = b"$JS.EVENT.ADVISORY.STREAM."
"""Sent whether or not a client listens: a stream may record it."""

NOTHING: Final = AccountJetStreamOptions(max_memory=0, max_storage=0, max_streams=0, max_consumers=0)
"""What an account may have whose JetStream was taken away while the server runs."""


class JetStream:
    """One server's JetStream.

    `accounts` names every account; with None, JetStream is not enabled for it, and its requests hear so.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        store: Store,
        scheduler: Scheduler,
        deadlines: Deadlines,
        chance: Chance,
        options: JetStreamOptions,
        accounts: Mapping[str, AccountJetStreamOptions | None],
        system_account: str,
        server_name: str,
        server_id: str,
        version: str,
        log: EventLog,
    ) -> None:
        self.context = Context(
            bus=bus,
            store=store,
            scheduler=scheduler,
            deadlines=deadlines,
            chance=chance,
            options=options,
            server_name=server_name,
            server_id=server_id,
            system_account=system_account,
            version=version,
            log=log,
            advise=self._advise,
            ready=self._on_ready,
        )
        self.consumers = Consumers(self.context)
        self.server = ServerState(options)
        self._account_names = tuple(accounts)
        self._apis: dict[str, AccountApi] = {}
        self._router: Router | None = None
        for name, limits in accounts.items():
            if limits is not None:
                self.server.accounts[name] = AccountState(name, limits, self.server)
        self._ready: dict[Pumpable, None] = {}

    @property
    def accounts(self) -> Mapping[str, AccountState]:
        return self.server.accounts

    def start(self) -> None:
        """Take over what the store holds, and begin to serve."""
        for log in list(self.context.store.logs()):
            self._recover(log)
        streams, consumers = StreamEndpoints(self.context), ConsumerEndpoints(self.consumers)
        snapshots = SnapshotEndpoints(self.context, self.consumers)
        self._router = Router((*streams.endpoints(), *consumers.endpoints(), *snapshots.endpoints()))
        for name in self._account_names:
            self._open_api(name)
        for name in self.server.accounts:
            DomainBuckets(self.context, name).open()
        self.context.bus.at_turn_end(self._on_turn_end)
        self.context.bus.request_turn()

    def set_account(self, name: str, limits: AccountJetStreamOptions | None) -> None:
        """Serve an account that came while the server runs, or change what it may have.

        One that may have nothing any more keeps what it has stored, and may store nothing.
        """
        held = self.server.accounts.get(name)
        if held is not None:
            held.options = limits if limits is not None else NOTHING
            return
        if limits is not None:
            self.server.accounts[name] = state = AccountState(name, limits, self.server)
            for log in list(self.context.store.logs()):
                if log.config.get("account") == name:
                    self._recover(log)
            DomainBuckets(self.context, name).open()
            if name in self._apis:
                self._apis[name].enable(state)
        if name not in self._apis:
            self._open_api(name)
        self.context.bus.request_turn()

    def _open_api(self, name: str) -> None:
        assert self._router is not None, "an account is served after the start"
        api = self._apis[name] = AccountApi(self.context, self._router, name, self.server.accounts.get(name))
        api.open()

    def close(self) -> None:
        """Tell those who wait, and take no more. The store is the caller's to close, afterwards."""
        for api in self._apis.values():
            api.close()
        for account in self.server.accounts.values():
            for stream in account.streams.values():
                stream.close(CloseReason.SHUTDOWN)
        self._ready.clear()

    # recovery

    def _recover(self, log: StreamLog) -> None:
        if log.config.get(UNFINISHED):
            self.context.store.delete(log)
            return
        name = str(log.config.get("account", ""))
        account = self.server.accounts.get(name)
        raw: object = log.config.get("config")
        stream_name = str(raw.get("name", "")) if isinstance(raw, dict) else f"#{log.stream_id:016x}"
        if account is None:
            self.context.log.warning(
                f"Stream '{name} > {stream_name}' stays closed: JetStream is not enabled for its account"
            )
            return
        try:
            config = decode(StreamConfig, raw)
        except InvalidJson as error:
            reason = f"unsupported - config error: {error}"
        else:
            reason = unsupported_reason(config.metadata)
            if not reason:
                stream = Stream(self.context, account, config, log)
                account.streams[config.name] = stream
                self.consumers.recover(stream)
                stream.open()
                return
        account.offline[stream_name] = reason
        self.context.log.warning(f"Stream '{name} > {stream_name}' is offline: {reason}")

    # turns

    def _on_ready(self, pumpable: Pumpable) -> None:
        self._ready[pumpable] = None
        self.context.bus.request_turn()

    def _on_turn_end(self) -> None:
        if self._ready:
            ready, self._ready = self._ready, {}
            for pumpable in ready:
                self._pump(pumpable)
        self.context.store.commit()

    def _pump(self, pumpable: Pumpable) -> None:
        try:
            if pumpable.pump(PUMP_BUDGET):
                self._on_ready(pumpable)
        except Exception:  # noqa: BLE001  (one consumer's bug must not keep others waiting, nor the store from its sync)
            self._report(pumpable, traceback.format_exc())

    def _report(self, pumpable: Pumpable, trace: str) -> None:
        self.context.log.error(f"{pumpable!r} stopped in its work: {trace}")

    # advisories

    def _advise(self, account: str, subject: bytes, body: dict[str, Any]) -> None:
        if not subject.startswith(ALWAYS_ADVISED) and not self.context.bus.has_interest(account, subject):
            return
        full = {
            "type": body["type"],
            "id": self.context.chance.nuid(),
            "timestamp": encode_time(self.context.scheduler.now_ns()),
            **body,
        }
        if self.context.options.domain:
            full["domain"] = self.context.options.domain
        self.context.bus.publish(account, subject, encode_json(full))
