"""The composition root: builds a server's parts and hands each what it needs. No sockets and no event loop.

`serve` and `embed` put listeners around a composition (`tools/server.py`); `testing` gives it a virtual scheduler, a
store in memory and connections without sockets. What a configuration does not use is not imported.
"""

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from headrace.core.base.chance import Chance, fresh_seed
from headrace.core.base.clock import Scheduler
from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.errors import HeadraceError
from headrace.core.broker import Broker
from headrace.core.engine.interface import EngineFactory
from headrace.core.limits import COMPATIBLE_VERSION, GLOBAL_ACCOUNT
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions, ServerOptions
from headrace.tools.store_path import default_store_dir, store_path

if TYPE_CHECKING:
    from headrace.core.monitoring.jetstream import JetStreamView
    from headrace.jetstream.service import JetStream
    from headrace.storage.interface import Store


class StartError(HeadraceError):
    """The server cannot start; says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A server without listeners. `store` and `jetstream` are None where JetStream is off.

    `store_path` is where the store is; "" for none, and for one that the composer was given.
    """

    broker: Broker
    store: "Store | None" = None
    jetstream: "JetStream | None" = None
    store_path: str = ""

    @property
    def jetstream_view(self) -> "JetStreamView | None":
        """JetStream as monitoring sees it."""
        if self.jetstream is None:
            return None
        from headrace.tools.monitored_jetstream import MonitoredJetStream  # noqa: PLC0415  (only with JetStream)

        return MonitoredJetStream(self.jetstream)

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
) -> Composition:
    """Build a server. With JetStream and no `store`, the one in the store directory is opened.

    Raises StartError when the store cannot be used.
    """
    chance = chance if chance is not None else Chance(fresh_seed())
    broker = Broker(
        options,
        scheduler=scheduler,
        chance=chance,
        engine_factory=engine_factory if engine_factory is not None else chosen_engine(),
        log=log,
    )
    if options.jetstream is None:
        return Composition(broker)
    path = ""
    if store is None:
        path, store = _opened_store(options.jetstream, scheduler, chance, broker.log)
    return _with_jetstream(broker, store, options.jetstream, path)


def chosen_engine() -> EngineFactory:
    """Give the engine that the environment chose (`core/base/engine_choice.py`)."""
    if ENGINE == "compiled":
        from headrace.core.engine.compiled_engine import CompiledEngine  # noqa: PLC0415  (built only there)

        return CompiledEngine
    from headrace.core.engine.plain import PlainEngine  # noqa: PLC0415  (only the chosen engine is imported)

    return PlainEngine


def jetstream_accounts(options: ServerOptions) -> dict[str, AccountJetStreamOptions | None]:
    """Say for which accounts JetStream is enabled, and how much they may have.

    The global account has it without limits, unless accounts are configured: then those that ask for it.
    """
    others = [account for account in options.accounts if account.name != options.system_account]
    enabled: dict[str, AccountJetStreamOptions | None] = {
        GLOBAL_ACCOUNT: None if others else AccountJetStreamOptions()
    }
    enabled |= {account.name: account.jetstream for account in others}
    return enabled | {options.system_account: None}


def _with_jetstream(broker: Broker, store: "Store", options: JetStreamOptions, path: str) -> Composition:
    from headrace.jetstream.service import JetStream  # noqa: PLC0415  (only where JetStream is on)

    jetstream = JetStream(
        bus=broker.bus,
        store=store,
        scheduler=broker.scheduler,
        deadlines=broker.deadlines,
        chance=broker.chance,
        options=replace(options, store_dir=path or options.store_dir),
        accounts=jetstream_accounts(broker.options),
        system_account=broker.options.system_account,
        server_name=broker.name,
        server_id=broker.id,
        version=COMPATIBLE_VERSION,
        log=broker.log,
    )
    jetstream.start()
    broker.set_jetstream(enabled=True, domain=options.domain)
    return Composition(broker, store, jetstream, path)


_HINT: Final = "give another with --store_dir"


def prepare_store_dir(store_dir: str) -> str:
    """Make the store directory where there is none, and give the store's path in it; raises StartError."""
    path = store_path(store_dir)
    for folder in (store_dir, path):
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise StartError(f'storage directory is not a directory: "{folder}"; {_HINT}')
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f'could not create storage directory "{path}": {reason}; {_HINT}') from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f'storage directory is not writable: "{path}"; change its permissions, or {_HINT}')
    return path


def _opened_store(
    options: JetStreamOptions, scheduler: Scheduler, chance: Chance, log: logging.Logger
) -> "tuple[str, Store]":
    from headrace.storage.interface import StorageError  # noqa: PLC0415  (only where JetStream is on)
    from headrace.storage.store import open_store  # noqa: PLC0415

    if not options.store_dir:
        log.warning(
            'No store directory was given; using "%s", which may be emptied at a reboot. Give one with --store_dir',
            default_store_dir(),
        )
    path = prepare_store_dir(options.store_dir or default_store_dir())
    try:
        return path, open_store(path, scheduler=scheduler, chance=chance, options=options)
    except StorageError as error:
        raise StartError(str(error)) from error
