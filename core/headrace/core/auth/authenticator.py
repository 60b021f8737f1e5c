"""Login: from what CONNECT says to an account and permissions.

Without operators there are three kinds of credentials: users with a name and a password (in clear or bcrypt), users
with a key (they sign the nonce that INFO gave them), and a single token for all. Where none is configured, everybody
is let in. `no_auth_user` names the user that those become who bring no credentials. Behind TLS with `verify_and_map`
the certificate names the user.

Secrets are compared in constant time, and an unknown name costs as much as a wrong password.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from headrace.core import limits
from headrace.core.auth.certificates import mapped_user
from headrace.core.auth.keys import KeyKind, decode_signature, is_signed
from headrace.core.auth.login import Identity, Login
from headrace.core.auth.passwords import is_right, stand_in
from headrace.core.connect import ConnectOptions
from headrace.core.errors import AuthorizationViolation, ProtocolError
from headrace.core.link import Link
from headrace.core.options import ServerOptions, UserOptions

HIDDEN: Final = "[REDACTED]"
"""Shown by monitoring in place of a token."""


class Authenticator:
    """Decides who may enter. Made anew when the configuration changes."""

    def __init__(self, options: ServerOptions) -> None:
        self._token = options.token
        self._users = {user.user: user for user in options.users if not user.is_nkey}
        self._keys = {user.user: user for user in options.users if user.is_nkey}
        self._stand_in = stand_in(user.password for user in self._users.values())
        self._no_auth_name = options.no_auth_user
        everybody = self._users | self._keys
        self._no_auth_user = everybody.get(options.no_auth_user) if options.no_auth_user else None
        self.is_required = bool(options.token) or bool(everybody)
        # Where all users belong to the system account, and there is no other, everybody else may still enter `$G`.
        own = {limits.GLOBAL_ACCOUNT, options.system_account}
        ordinary = any(user.account != options.system_account for user in options.users)
        ordinary = ordinary or any(account.name not in own for account in options.accounts)
        self._is_open = not options.token and not ordinary and self._no_auth_user is None

    @property
    def has_no_auth_user(self) -> bool:
        """Whether INFO tells clients that they need no credentials although others have some."""
        return self.is_required and self._no_auth_user is not None

    @property
    def needs_nonce(self) -> bool:
        """Whether INFO gives clients something to sign."""
        return bool(self._keys)

    def without_credentials(self, link: Link) -> Identity | None:
        """Tell who a client is that brings none; None: it is not let in."""
        if self._no_auth_user is not None:
            return _identity(self._no_auth_user) if _may_come(self._no_auth_user, link) else None
        return Identity(limits.GLOBAL_ACCOUNT) if self._is_open else None

    def admit(self, login: Login, then: Callable[[Identity | None], None]) -> None:
        """Decide at once."""
        then(self.authenticate(login))

    def review(self, identity: Identity) -> Identity | ProtocolError:
        """Look again at who came in by an earlier configuration: a user that was changed has to log in again."""
        held = identity.credential
        if not isinstance(held, UserOptions):
            still = identity.user == HIDDEN if self._token else not self.is_required or self._is_open
            return (
                identity if still and identity.credential in {None, self._token} else AuthorizationViolation()
            )
        user = (self._keys if held.is_nkey else self._users).get(held.user)
        if user is None or replace(user, permissions=None) != replace(held, permissions=None):
            return AuthorizationViolation()
        return _identity(user)

    def authenticate(self, login: Login) -> Identity | None:
        """Tell who a client is; None: it is not let in."""
        connect = login.connect
        if not self.is_required:
            return Identity(limits.GLOBAL_ACCOUNT)
        if self._keys and connect.nkey:
            return self._by_key(login)
        if self._users and login.link.maps_certificate:
            return self._by_certificate(login)
        if self._users and connect.user:
            return self._by_password(connect, login.link)
        if connect.auth_token or connect.password:
            if self._token and is_right(self._token, connect.auth_token):
                return Identity(limits.GLOBAL_ACCOUNT, HIDDEN, credential=self._token)
            return None
        if connect.user or connect.nkey:
            return None
        return self.without_credentials(login.link)

    def _by_key(self, login: Login) -> Identity | None:
        user = self._keys.get(login.connect.nkey)
        if user is None or not _may_come(user, login.link):
            return None
        if user.user != self._no_auth_name and not is_nonce_signed(login, user.user):
            return None
        return _identity(user)

    def _by_certificate(self, login: Login) -> Identity | None:
        certificate = login.link.certificate
        if certificate is None:
            return None
        allowed = [name for name, user in self._users.items() if _may_come(user, login.link)]
        name = mapped_user(certificate, allowed)
        if name is None:
            return None
        user = self._users[name]
        # A password in the configuration counts beside the certificate; most such users have none.
        return _identity(user) if is_right(user.password, login.connect.password) else None

    def _by_password(self, connect: ConnectOptions, link: Link) -> Identity | None:
        user = self._users.get(connect.user)
        if user is None:
            is_right(self._stand_in, connect.password)
            return None
        if not is_right(user.password, connect.password) or not _may_come(user, link):
            return None
        return _identity(user)


def is_nonce_signed(login: Login, key: str) -> bool:
    """Tell whether the client holds the user key: it signed the nonce that this server gave it."""
    signature = decode_signature(login.connect.sig)
    return (
        bool(signature and login.nonce)
        and signature is not None
        and is_signed(key, KeyKind.USER, login.nonce.encode(), signature)
    )


def _may_come(user: UserOptions, link: Link) -> bool:
    """Tell whether a user may use this kind of connection."""
    return not user.connection_types or link.kind.value in user.connection_types


def _identity(user: UserOptions) -> Identity:
    return Identity(user.account, user.user, user.permissions, credential=user)
