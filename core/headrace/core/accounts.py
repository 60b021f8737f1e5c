"""Accounts: who shares subjects with whom. `$G`, the system account, and those that are configured.

Routes are kept by the engine, one table for each account name, so that isolation is not a check but the absence of
a way. What is here is what an account allows and how many are connected to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.core import limits
from headrace.core.options import AccountOptions, ServerOptions


@dataclass(slots=True)
class Traffic:
    """What connections that have closed sent and received."""

    in_messages: int = 0
    in_bytes: int = 0
    out_messages: int = 0
    out_bytes: int = 0


@dataclass(slots=True)
class Account:
    """An account of a running server; the counts cover its open connections and those that have gone."""

    name: str
    options: AccountOptions
    is_system: bool = False
    connection_count: int = 0
    total_connection_count: int = 0
    slow_consumer_count: int = 0
    gone: Traffic = field(default_factory=Traffic)

    @property
    def is_full(self) -> bool:
        """Whether its limit of connections is reached."""
        return 0 <= self.options.max_connections <= self.connection_count

    def max_payload(self, server_max: int) -> int:
        """Give the lower of the server's and the account's limit."""
        own = self.options.max_payload
        return server_max if own < 0 else min(own, server_max)


class Accounts:
    """All accounts of a server, by name."""

    def __init__(self, options: ServerOptions) -> None:
        self.system_name = options.system_account
        self._accounts: dict[str, Account] = {}
        for account in options.accounts:
            self._add(account)
        if limits.GLOBAL_ACCOUNT not in self._accounts:
            self._add(AccountOptions(limits.GLOBAL_ACCOUNT, mappings=options.mappings))
        if options.system_account not in self._accounts:
            self._add(AccountOptions(options.system_account))
        for user in options.users:
            if user.account not in self._accounts:
                self._add(AccountOptions(user.account))

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def __len__(self) -> int:
        return len(self._accounts)

    def __contains__(self, name: str) -> bool:
        return name in self._accounts

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def reconfigure(self, options: ServerOptions) -> None:
        """Take over changed limits and new accounts; accounts with connections stay until those have gone."""
        fresh = Accounts(options)
        for account in fresh:
            held = self._accounts.get(account.name)
            if held is None:
                self._accounts[account.name] = account
            else:
                held.options = account.options
        for name in [name for name in self._accounts if name not in fresh]:
            if not self._accounts[name].connection_count:
                del self._accounts[name]

    def set(self, options: AccountOptions) -> None:
        """Add an account, or change one that is there."""
        held = self._accounts.get(options.name)
        if held is None:
            self._add(options)
        else:
            held.options = options

    def _add(self, options: AccountOptions) -> None:
        self._accounts[options.name] = Account(
            options.name, options, is_system=options.name == self.system_name
        )
