"""Login: from what CONNECT says to an account and permissions.

Users with a password (in clear or bcrypt) and a single token for all are known; where neither is configured,
everybody is let in. `no_auth_user` names the user that those become who bring no credentials.
"""

from dataclasses import dataclass
from typing import Final

from headrace.core import limits
from headrace.core.auth.passwords import is_right
from headrace.core.connect import ConnectOptions
from headrace.core.options import Permissions, ServerOptions, UserOptions

HIDDEN: Final = "[REDACTED]"
"""Shown by monitoring in place of a token."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client turned out to be. `user` is what monitoring shows; empty where there is no login."""

    account: str
    user: str = ""
    permissions: Permissions | None = None


class Authenticator:
    """Decides who may enter. Made anew when the configuration changes."""

    def __init__(self, options: ServerOptions) -> None:
        self._token = options.token
        self._users: dict[str, UserOptions] = {user.user: user for user in options.users}
        self._no_auth_user = self._users.get(options.no_auth_user) if options.no_auth_user else None
        self.is_required = bool(options.token) or bool(options.users)
        # Where all users belong to the system account, everybody else may still enter `$G`, as in the reference.
        ordinary = any(user.account != options.system_account for user in options.users)
        self._is_open = not options.token and not ordinary and self._no_auth_user is None

    @property
    def has_no_auth_user(self) -> bool:
        """Whether clients without credentials are let in although authorization is configured."""
        return self.is_required and (self._no_auth_user is not None or self._is_open)

    def without_credentials(self) -> Identity | None:
        """Tell who a client is that brings none; None: it is not let in."""
        if self._no_auth_user is not None:
            return _identity(self._no_auth_user)
        return Identity(limits.GLOBAL_ACCOUNT) if self._is_open else None

    def authenticate(self, connect: ConnectOptions) -> Identity | None:
        """Tell who a client is; None: it is not let in."""
        if not self.is_required:
            return Identity(limits.GLOBAL_ACCOUNT)
        if self._users and connect.user:
            user = self._users.get(connect.user)
            if user is not None and is_right(user.password, connect.password):
                return _identity(user)
            return None
        if connect.auth_token or connect.password:
            if self._token and is_right(self._token, connect.auth_token):
                return Identity(limits.GLOBAL_ACCOUNT, HIDDEN)
            return None
        return self.without_credentials()


def _identity(user: UserOptions) -> Identity:
    return Identity(user.account, user.user, user.permissions)
