"""Login in operator mode: a user's token says who a client is, and its account and an operator vouch for it.

The chain is checked from both ends: the user's token is signed by the account (or a signing key of it, which
may give the user its limits), and the account's by an operator whom the configuration trusts. Then the client
proves that it holds the user's key, unless the token may be used by whoever bears it.

Source: the reference server 2.15, operator mode; the order of the checks is its.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from headrace.core.auth.authenticator import is_nonce_signed
from headrace.core.auth.jwt.account_claims import AccountClaims
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.templates import Names, fill_in, has_own_limits
from headrace.core.auth.jwt.user_claims import (
    UserClaims,
    decode_user,
    may_come_at,
    may_come_from,
    problem_of,
)
from headrace.core.auth.login import Identity, Login
from headrace.core.auth.operator_accounts import OperatorAccounts
from headrace.core.base.clock import NS_PER_S, Clock
from headrace.core.errors import AuthorizationViolation, ProtocolError, UserAuthenticationRevoked
from headrace.core.link import Link


class OperatorLogin:
    """Decides who may enter where operators are trusted."""

    is_required = True
    needs_nonce = True
    has_no_auth_user = False

    def __init__(
        self,
        accounts: OperatorAccounts,
        *,
        clock: Clock,
        log: logging.Logger,
        pinned: Collection[str] = (),
        sentinel: str = "",
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._log = log
        self._pinned = frozenset(pinned)
        self._sentinel = sentinel

    def without_credentials(self, link: Link) -> Identity | None:  # noqa: ARG002  (nobody enters like that)
        return None

    def admit(self, login: Login, then: Callable[[Identity | None], None]) -> None:
        claims = self._user_of(login)
        if claims is None:
            then(None)
            return
        if self._pinned and claims.account not in self._pinned:
            self._refuse(login, f"Account {claims.account} not listed as operator pinned account")
            then(None)
            return
        found = claims

        def on_account(account: AccountClaims | None) -> None:
            if account is None:
                self._refuse(login, f"Account JWT lookup error: {found.account}")
                then(None)
                return
            try:
                then(self._identity(login, found, account))
            except BadToken as error:
                self._refuse(login, str(error))
                then(None)

        self._accounts.find(claims.account, on_account)

    def review(self, identity: Identity) -> Identity | ProtocolError:
        """Look again at a client whose account changed."""
        claims = identity.credential
        if not isinstance(claims, UserClaims):
            return identity
        account = self._accounts.held(claims.account)
        if account is None:
            return AuthorizationViolation()
        if account.is_revoked(claims.token.subject, claims.token.issued_at):
            return UserAuthenticationRevoked()
        try:
            granted = granted_limits(claims, account, self._accounts)
            if granted.limits.is_bearer and account.limits.disallows_bearer:
                raise BadToken("Bearer User JWT not allowed")
        except BadToken as error:
            return AuthorizationViolation(str(error))
        return replace(identity, **_rights(granted, account))

    def _user_of(self, login: Login) -> UserClaims | None:
        text = login.connect.jwt
        try:
            try:
                claims = decode_user(text)
            except BadToken:
                if not self._sentinel:
                    raise
                claims = decode_user(self._sentinel)
        except BadToken as error:
            self._refuse(
                login, f"User JWT not valid: {error}" if text else "Authentication requires a user JWT"
            )
            return None
        problem = problem_of(claims, self._clock.now_ns() // NS_PER_S)
        if problem:
            self._refuse(login, f"User JWT no longer valid: {problem}")
            return None
        return claims

    def _identity(self, login: Login, claims: UserClaims, account: AccountClaims) -> Identity:
        """Tell who the client is; BadToken says why it is not let in."""
        token = claims.token
        granted = granted_limits(claims, account, self._accounts)
        limits = granted.limits
        if limits.is_proxy_required:
            raise BadToken("proxy required")
        if limits.is_bearer and account.limits.disallows_bearer:
            raise BadToken("Account does not allow bearer tokens")
        check_connection_type(granted, login.link)
        if not limits.is_bearer and not is_nonce_signed(login, token.subject):
            raise BadToken("Signature not verified" if login.connect.sig else "Signature missing")
        if account.is_revoked(token.subject, token.issued_at):
            raise BadToken("User authentication revoked")
        if not may_come_from(limits, login.host):
            raise BadToken(f"Bad src Ip {login.host}")
        return Identity(
            account=account.name,
            user=token.subject,
            expires_ns=expiry_of(granted, self._clock.now_ns()),
            credential=claims,
            name_tag=token.name,
            tags=token.tags,
            **_rights(granted, account),
        )

    def _refuse(self, login: Login, reason: str) -> None:
        self._log.debug("%s - cid:%d - %s", login.host, login.connection_id, reason)


def granted_limits(claims: UserClaims, account: AccountClaims, accounts: OperatorAccounts) -> UserClaims:
    """Give the user's claims with the limits that count: its own, or those of the key that signed it.

    BadToken where the account does not know that key, or the user claims what only the key may grant.
    """
    issuer = claims.token.issuer
    if issuer not in account.signing_keys:
        if issuer != account.name or not accounts.signs_for_itself(account):
            raise BadToken("User JWT issuer is not known")
        return claims
    template = account.signing_keys[issuer]
    if template is None:
        return claims
    if has_own_limits(claims):
        raise BadToken("User JWT is not valid: scoped users require no permissions or limits set")
    names = Names(
        user_name=claims.token.name,
        user=claims.token.subject,
        user_tags=claims.token.tags,
        account_name=account.token.name,
        account=claims.issuer_account,
        account_tags=account.token.tags,
    )
    return replace(claims, limits=fill_in(template, names))


def check_connection_type(claims: UserClaims, link: Link) -> None:
    """Raise BadToken where the user may not use this kind of connection."""
    allowed = claims.limits.allowed_types
    if allowed is None or (allowed and link.kind.value not in allowed):
        raise BadToken("Connection type not allowed")


def expiry_of(claims: UserClaims, now_ns: int) -> int:
    """Give the wall-clock time at which the user has to go, 0: never; BadToken where it may not be here now."""
    may_come, for_ns = may_come_at(claims.limits, now_ns)
    if not may_come:
        raise BadToken("Outside connect times")
    ends = [claims.token.expires * NS_PER_S] if claims.token.expires else []
    if for_ns:
        ends.append(now_ns + for_ns)
    return min(ends, default=0)


def _rights(granted: UserClaims, account: AccountClaims) -> dict[str, Any]:
    own = granted.limits.permissions
    return {
        "permissions": account.default_permissions if own is None else own,
        "max_payload": granted.limits.max_payload,
        "max_subscriptions": granted.limits.max_subscriptions,
    }
