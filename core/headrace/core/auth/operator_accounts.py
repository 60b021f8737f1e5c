"""Accounts in operator mode: what their tokens say, kept in step with what the server has.

An account is looked for when somebody asks for it: in what is held, else with the resolver, which may take
its time. Its token counts if a trusted operator key signed it and nothing in it is wrong. What it says
becomes an account of the server, in the same form as a configured one; accounts that it imports from are
looked for as well. A new token replaces the old one at once, and its clients are looked at again; a token
that expires sends them away.

Source: the reference server 2.15, operator mode.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from headrace.core.auth.jwt.account_claims import AccountClaims, account_problem, decode_account
from headrace.core.auth.jwt.account_options import Activations, account_options
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.operator_claims import OperatorClaims
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.auth.resolvers import Resolver
from headrace.core.base.clock import NS_PER_S, Clock
from headrace.core.base.deadlines import Deadlines
from headrace.core.options import AccountOptions

REFETCH_NS: Final = NS_PER_S
"""An account that has expired is asked for again at most this often."""

Found = Callable[[AccountClaims | None], None]


class AccountHost(Protocol):
    """What a change of an account means to the server."""

    def set_account(self, options: AccountOptions) -> None:
        """Have this account from now on, as these options say."""
        ...

    def review(self, account: str) -> None:
        """Look again at who is connected to it."""
        ...

    def expire(self, account: str) -> None:
        """Send away who is connected to it: its time is over."""
        ...


@dataclass(slots=True)
class _Held:
    claims: AccountClaims
    updated_ns: int
    is_expired: bool = False
    is_complete: bool = True  # all accounts that it imports from are known


class OperatorAccounts:
    """The accounts that operators vouch for, as far as anybody asked for them."""

    def __init__(
        self,
        operators: Sequence[OperatorClaims],
        trusted_keys: Sequence[str],
        resolver: Resolver,
        host: AccountHost,
        *,
        clock: Clock,
        deadlines: Deadlines,
        log: logging.Logger,
    ) -> None:
        self._resolver = resolver
        self._host = host
        self._clock = clock
        self._deadlines = deadlines
        self._log = log
        self._trusted = frozenset(trusted_keys).union(*(operator.trusted_keys for operator in operators))
        self._strict = frozenset(
            key for operator in operators if operator.is_strict for key in operator.signing_keys
        )
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, list[Found]] = {}

    def held(self, name: str) -> AccountClaims | None:
        """Give the claims of an account that is known already; also when they have expired."""
        held = self._held.get(name)
        return None if held is None else held.claims

    def is_expired(self, name: str) -> bool:
        held = self._held.get(name)
        return held is not None and held.is_expired

    def signs_for_itself(self, claims: AccountClaims) -> bool:
        """Tell whether the account's own key may sign users: strict operators want its signing keys for that."""
        return claims.token.issuer not in self._strict

    def find(self, name: str, then: Found) -> None:
        """Look for an account; None: there is none, or none that counts. `then` may be called within this call."""
        held = self._held.get(name)
        if held is not None and not held.is_expired:
            then(held.claims)
            return
        if not is_public(name, KeyKind.ACCOUNT) or (
            held is not None and self._clock.monotonic_ns() - held.updated_ns < REFETCH_NS
        ):
            then(None)
            return
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.append(then)
            return
        self._waiting[name] = [then]
        self._resolver.fetch(name, lambda text: self._on_fetched(name, text))

    def update(self, name: str, text: str) -> str:
        """Take a new token for an account that is known; give what is wrong with it, or ""."""
        held = self._held.get(name)
        if held is None or (held.claims.token.text == text and held.is_complete):
            return ""
        claims, problem = self._verified(name, text)
        if claims is not None:
            self._install(claims)
        return problem

    def remove(self, name: str) -> None:
        """Have an account no more whose token was taken away."""
        if self._held.pop(name, None) is None:
            return
        self._deadlines.clear(("account", name))
        self._deadlines.clear(("activation", name))
        self._host.expire(name)
        self._host.set_account(AccountOptions(name, max_connections=0))

    def _on_fetched(self, name: str, text: str) -> None:
        claims, problem = self._verified(name, text) if text else (None, "no such account")
        if claims is None:
            self._log.warning("Account fetch failed: %s: %s", name, problem)
        else:
            self._install(claims)
        for then in self._waiting.pop(name, []):
            then(claims)

    def _verified(self, name: str, text: str) -> tuple[AccountClaims | None, str]:
        try:
            claims = decode_account(text)
        except BadToken as error:
            return None, str(error)
        now_s = self._clock.now_ns() // NS_PER_S
        if claims.token.issuer not in self._trusted or claims.name != name:
            return None, "account validation failed"
        problem = account_problem(claims) or claims.token.time_problem(now_s)
        return (None, f"account validation failed: {problem}") if problem else (claims, "")

    def _install(self, claims: AccountClaims) -> None:
        name = claims.name
        was_held = name in self._held
        self._held[name] = _Held(claims, self._clock.monotonic_ns())
        self._set_deadline(("account", name), claims.token.expires, lambda: self._expire(name))
        self._put(name)
        # Who imports from it may be allowed now what it was not, or the other way round.
        for other, held in list(self._held.items()):
            if other != name and any(wanted.account == name for wanted in held.claims.imports):
                self._put(other)
        if was_held:
            self._host.review(name)

    def _put(self, name: str) -> None:
        """Have the account as its claims say, as far as the accounts that it imports from are known."""
        held = self._held[name]
        held.is_complete = True
        for exporter in {wanted.account for wanted in held.claims.imports} - self._held.keys():
            held.is_complete = False
            if exporter not in self._waiting:
                self._log.debug("Account %s imports from %s, which is looked for", name, exporter)
                self.find(exporter, self._on_exporter)
        if self._held.get(name) is not held:
            return
        exporters = {other: each.claims for other, each in self._held.items()}
        activations = Activations(held.claims, exporters, self._clock.now_ns() // NS_PER_S)
        options = account_options(held.claims, activations)
        self._set_deadline(("activation", name), activations.expires, lambda: self._put(name))
        self._host.set_account(options)

    def _on_exporter(self, claims: AccountClaims | None) -> None:
        """Nothing is left to do: an account that was found puts those that import from it again."""

    def _expire(self, name: str) -> None:
        held = self._held.get(name)
        if held is not None:
            held.is_expired = True
            held.updated_ns = self._clock.monotonic_ns() - REFETCH_NS
            self._host.expire(name)

    def _set_deadline(self, key: tuple[str, str], expires_s: int, act: Callable[[], None]) -> None:
        if not expires_s:
            self._deadlines.clear(key)
            return

        def on_time(_now_ns: int) -> None:
            act()

        left_ns = max(0, expires_s * NS_PER_S - self._clock.now_ns())
        self._deadlines.set(key, self._clock.monotonic_ns() + left_ns, on_time)
