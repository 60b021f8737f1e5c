"""The composition root: builds a server's parts and hands each what it needs. No sockets and no event loop.

`serve` and `embed` put listeners around a composition (`tools/server.py`); `testing` gives it a virtual scheduler, a
store in memory and connections without sockets. What a configuration does not use is not imported.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.core.auth.gate import FetchUrl
from headrace.core.base.chance import Chance, fresh_seed
from headrace.core.base.clock import Scheduler
from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.errors import HeadraceError
from headrace.core.broker import Broker
from headrace.core.engine.interface import EngineFactory
from headrace.core.limits import COMPATIBLE_VERSION, GLOBAL_ACCOUNT
from headrace.core.monitoring.process import OwnProcess
from headrace.core.options import AccountJetStreamOptions, AccountOptions, JetStreamOptions, ServerOptions
from headrace.core.system.account import open_system_account
from headrace.core.system.requests import SystemRequests
from headrace.tools.store_path import default_store_dir, store_path

if TYPE_CHECKING:
    from headrace.core.monitoring.jetstream import JetStreamView
    from headrace.jetstream.service import JetStream
    from headrace.storage.interface import Store, StreamLog
    from headrace.storage.store import FileStore


class StartError(HeadraceError):
    """The server cannot start; says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A server without listeners. `store` and `jetstream` are None where JetStream is off.

    `file_store` is the store where it was opened here, not given.
    """

    broker: Broker
    store: "Store | None" = None
    jetstream: "JetStream | None" = None
    file_store: "FileStore | None" = None
    system: SystemRequests | None = None

    @property
    def jetstream_view(self) -> "JetStreamView | None":
        """JetStream as monitoring sees it."""
        if self.jetstream is None:
            return None
        from headrace.tools.monitored_jetstream import MonitoredJetStream  # noqa: PLC0415  (only with JetStream)

        return MonitoredJetStream(self.jetstream, self.file_store)

    def follow_accounts(self, options: ServerOptions) -> None:
        """Give each account the JetStream that these options give it; who loses it keeps what is stored."""
        if self.jetstream is None:
            return
        wanted = jetstream_accounts(options)
        # An account that is gone may still have streams; they stay, and nobody can store more.
        gone = [name for name in self.jetstream.accounts if name not in wanted]
        for name, may_have in (*wanted.items(), *((name, None) for name in gone)):
            self.jetstream.set_account(name, may_have)

    def close(self) -> None:
        """End in the order that keeps promises.

        Nothing more is read; what was accepted is synced and acknowledged; then the clients are let go. They are let
        go too when the store fails at that; its StorageError comes out then.
        """
        for session in self.broker.sessions:
            session.hold()
        try:
            if self.jetstream is not None:
                self.jetstream.close()
            if self.store is not None:
                self.store.close()
        finally:
            self.broker.shutdown()


def compose(
    options: ServerOptions,
    *,
    scheduler: Scheduler,
    chance: Chance | None = None,
    log: logging.Logger | None = None,
    engine_factory: EngineFactory | None = None,
    store: "Store | None" = None,
    is_threaded: bool = False,
    fetch_url: FetchUrl | None = None,
) -> Composition:
    """Build a server. With JetStream and no `store`, the one in the store directory is opened.

    With `is_threaded` that store syncs in a thread, and who composes watches its `ready_handle`; without, it syncs
    inline, as virtual time needs it. Raises StartError when the store cannot be used.
    """
    chance = chance if chance is not None else Chance(fresh_seed())
    broker = Broker(
        options,
        scheduler=scheduler,
        chance=chance,
        engine_factory=engine_factory if engine_factory is not None else chosen_engine(),
        log=log,
        fetch_url=fetch_url,
    )
    if options.jetstream is None:
        return _with_system_account(Composition(broker))
    if store is not None:
        return _with_system_account(_with_jetstream(broker, store, options.jetstream))
    opened = _opened_store(options.jetstream, scheduler, chance, broker.log, is_threaded=is_threaded)
    from headrace.tools.room import with_limits  # noqa: PLC0415  (only where JetStream is on)

    placed = with_limits(replace(options.jetstream, store_dir=opened.path), opened, opened.path)
    return _with_system_account(replace(_with_jetstream(broker, opened, placed), file_store=opened))


def chosen_engine() -> EngineFactory:
    """Give the engine that the environment chose (`core/base/engine_choice.py`)."""
    if ENGINE == "compiled":
        from headrace.core.engine.compiled_engine import CompiledEngine  # noqa: PLC0415  (built only there)

        return CompiledEngine
    from headrace.core.engine.plain import PlainEngine  # noqa: PLC0415  (only the chosen engine is imported)

    return PlainEngine


def jetstream_accounts(
    options: ServerOptions, accounts: Sequence[AccountOptions] | None = None
) -> dict[str, AccountJetStreamOptions | None]:
    """Say for which accounts JetStream is enabled, and how much they may have.

    The global account has it without limits, unless accounts are configured: then those that ask for it. With
    operators, `accounts` are those whose tokens are known, and the global one has none.
    """
    known = accounts if accounts is not None and options.operator is not None else options.accounts
    others = [each for each in known if each.name not in {options.system_account, GLOBAL_ACCOUNT}]
    has_global = not others and options.operator is None
    enabled: dict[str, AccountJetStreamOptions | None] = {
        GLOBAL_ACCOUNT: AccountJetStreamOptions() if has_global else None
    }
    enabled |= {account.name: account.jetstream for account in others}
    return enabled | {options.system_account: None}


def _with_system_account(composition: Composition) -> Composition:
    broker = composition.broker
    system = open_system_account(broker, OwnProcess(broker.scheduler), composition.jetstream_view)
    return replace(composition, system=system)


def _with_jetstream(broker: Broker, store: "Store", options: JetStreamOptions) -> Composition:
    from headrace.jetstream.service import JetStream  # noqa: PLC0415  (only where JetStream is on)

    jetstream = JetStream(
        bus=broker.bus,
        store=store,
        scheduler=broker.scheduler,
        deadlines=broker.deadlines,
        chance=broker.chance,
        options=options,
        accounts=jetstream_accounts(broker.options, [account.options for account in broker.accounts]),
        system_account=broker.options.system_account,
        server_name=broker.name,
        server_id=broker.id,
        version=COMPATIBLE_VERSION,
        log=broker.log,
    )
    jetstream.start()
    if broker.options.operator is not None:
        broker.account_listeners.append(
            lambda account: jetstream.set_account(account.name, account.jetstream)
        )
    broker.set_jetstream(enabled=True, domain=options.domain)
    return Composition(broker, store, jetstream)


def _opened_store(
    options: JetStreamOptions, scheduler: Scheduler, chance: Chance, log: logging.Logger, *, is_threaded: bool
) -> "FileStore":
    from headrace.storage.interface import StorageError, StoreUnusable  # noqa: PLC0415  (only where JetStream is on)
    from headrace.storage.store import StoreOptions, open_store  # noqa: PLC0415

    if not options.store_dir:
        log.warning(
            'No store directory was given; using "%s", which may be emptied at a reboot. Give one with --store_dir',
            default_store_dir(),
        )
    wish = StoreOptions(
        sync_always=options.sync_always,
        sync_interval_ns=options.sync_interval_ns,
        is_threaded=is_threaded,
        scrub_rate=options.scrub_rate,
        rewrite_rate=options.rewrite_rate,
        reserve_size=options.disk_reserve,
        index_memory=options.index_memory,
        is_indexer_process=options.index_process,
    )
    path = store_path(options.store_dir or default_store_dir())
    try:
        store = open_store(path, scheduler=scheduler, chance=chance, options=wish)
    except StoreUnusable as error:
        raise StartError(f"{error}; give another with --store_dir") from error
    except StorageError as error:
        raise StartError(str(error)) from error
    except NotADirectoryError as error:
        raise StartError(
            f"storage directory is not a directory: {path}; give another with --store_dir"
        ) from error
    except OSError as error:
        raise StartError(f"storage directory cannot be used: {path}: {error.strerror}") from error
    for folder, reason in store.unreadable:
        log.error("Stream in %s stays closed: %s", folder, reason)
    for entry in store.unreadable_entries:
        log.error(
            "Journal %s at %d: %d bytes cannot be read (%s); "
            "they may hold what was acknowledged for stream %016x, %d to %d",
            *(entry.journal, entry.place, entry.size, entry.what, entry.stream_id, entry.first, entry.last),
        )

    def tell(damaged: "StreamLog", text: str) -> None:
        config: dict[str, Any] = damaged.config
        name = config.get("config", {}).get("name", f"{damaged.stream_id:016x}")
        log.error("Stream '%s > %s': %s", config.get("account", ""), name, text)

    for log_at_start, text in store.found_at_start:
        tell(log_at_start, text)
    store.on_finding = tell
    return store
