"""The gate: which rules a login goes by, made of the configuration.

Without operators these are the configured users (`authenticator.py`); with them, tokens (`operator_login.py`). In front
of either may stand a callout, which asks another service (`callout.py`). WebSocket clients may have rules of their own.
What a configuration does not use is not imported.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from headrace.core.accounts import Accounts
from headrace.core.auth.authenticator import Authenticator
from headrace.core.auth.keys import SecretBytes, SigningKey
from headrace.core.auth.login import Admission
from headrace.core.base.clock import Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.bus import Bus
from headrace.core.link import Link
from headrace.core.options import (
    AccountOptions,
    OperatorOptions,
    ResolverKind,
    ServerOptions,
    UserOptions,
)

if TYPE_CHECKING:
    from headrace.core.auth.account_directory import AccountDirectory
    from headrace.core.auth.operator_accounts import OperatorAccounts
    from headrace.core.auth.operator_login import OperatorLogin
    from headrace.core.auth.resolvers import Resolver

FetchUrl = Callable[[str, int, Callable[[bytes | None], None]], None]
"""Gets a URL within so many nanoseconds, and calls back with the body; None: it could not be had."""


class GateHost(Protocol):
    """What the gate needs of the broker."""

    id: str
    name: str
    scheduler: Scheduler
    deadlines: Deadlines
    bus: Bus
    accounts: Accounts
    log: logging.Logger
    server_key: SigningKey | None

    @property
    def secret_bytes(self) -> SecretBytes: ...

    @property
    def fetch_url(self) -> FetchUrl | None: ...

    def set_account(self, options: AccountOptions) -> None: ...

    def review(self, account: str) -> None: ...

    def expire(self, account: str) -> None: ...


class Gate:
    """Decides by which rules a client logs in. Made once; `reconfigure` follows a changed configuration."""

    def __init__(self, options: ServerOptions, host: GateHost) -> None:
        self._host = host
        self.operator_accounts: OperatorAccounts | None = None
        self._operator: OperatorLogin | None = None
        if options.operator is not None:
            self._operator = self._operator_login(options.operator, options.system_account)
        self.main: Admission
        self._websocket: Admission | None
        self.reconfigure(options)

    def reconfigure(self, options: ServerOptions) -> None:
        """Let in by these options from now on; operators stay as they are."""
        main: Admission = self._operator if self._operator is not None else Authenticator(options)
        websocket: Admission | None = _websocket_authenticator(options)
        if options.callout is not None or self._operator is not None:
            from headrace.core.auth.callout import Callout  # noqa: PLC0415  (only where another service may decide)

            main = Callout(main, options, self._host, self.operator_accounts)
            websocket = Callout(websocket, options, self._host, None) if websocket is not None else None
        self.main = main
        self._websocket = websocket

    def of(self, link: Link) -> Admission:
        """Give the rules for who comes this way."""
        return self._websocket if link.is_websocket and self._websocket is not None else self.main

    def _operator_login(self, options: OperatorOptions, system_account: str) -> "OperatorLogin":
        from headrace.core.auth.claims_service import ClaimsService  # noqa: PLC0415  (only in operator mode)
        from headrace.core.auth.jwt.operator_claims import decode_operator  # noqa: PLC0415  (only in operator mode)
        from headrace.core.auth.operator_accounts import OperatorAccounts  # noqa: PLC0415
        from headrace.core.auth.operator_login import OperatorLogin  # noqa: PLC0415

        host = self._host
        directory = self._directory(options)
        resolver = directory if directory is not None else self._resolver(options)
        operators = [decode_operator(text) for text in options.operators]
        accounts = OperatorAccounts(
            operators,
            options.trusted_keys,
            resolver,
            host,
            clock=host.scheduler,
            deadlines=host.deadlines,
            log=host.log,
        )
        self.operator_accounts = accounts
        for name in {system_account, *resolver.known()}:
            accounts.find(name, lambda _claims: None)
        ClaimsService(host, accounts, operators, system_account, directory).open()
        return OperatorLogin(
            accounts,
            clock=host.scheduler,
            log=host.log,
            pinned=options.pinned_accounts,
            sentinel=options.default_sentinel,
        )

    def _resolver(self, options: OperatorOptions) -> "Resolver":
        from headrace.core.auth.resolvers import MemoryResolver, UrlResolver  # noqa: PLC0415  (only in operator mode)

        wanted = options.resolver
        if wanted.kind is ResolverKind.URL:
            assert self._host.fetch_url is not None, (
                "whoever configures a URL resolver gives the means to fetch"
            )
            return UrlResolver(wanted.url, wanted.timeout_ns, self._host.fetch_url)
        return MemoryResolver(dict(options.preload))

    def _directory(self, options: OperatorOptions) -> "AccountDirectory | None":
        if options.resolver.kind not in {ResolverKind.FULL, ResolverKind.CACHE}:
            return None
        from headrace.core.auth.account_directory import AccountDirectory  # noqa: PLC0415  (only with a directory)

        directory = AccountDirectory(options.resolver, dict(options.preload))
        self._host.log.info("Managing all jwt in exclusive directory %s", options.resolver.directory)
        return directory


def _websocket_authenticator(options: ServerOptions) -> Authenticator | None:
    """Give the rules of the WebSocket block, where it has some; users are the server's all the same."""
    block = options.websocket
    if block is None or not block.overrides_login:
        return None
    users = (UserOptions(block.user, block.password),) if block.user else options.users
    return Authenticator(replace(options, token=block.token, users=users, no_auth_user=block.no_auth_user))
