"""What a client brings to its login, and who it turns out to be."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from headrace.core.auth.keys import SecretBytes
from headrace.core.connect import ConnectOptions
from headrace.core.errors import ProtocolError
from headrace.core.link import Link
from headrace.core.options import Permissions

NONCE_SIZE: Final = 11
"""Bytes of chance in a nonce, as in the reference."""


@dataclass(frozen=True, slots=True)
class Login:
    """One attempt. `nonce` is what this server asked the client to sign; "" where it asked nothing."""

    connect: ConnectOptions
    nonce: str = ""
    host: str = ""
    link: Link = field(default_factory=Link)
    connection_id: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client turned out to be. `user` is what monitoring shows; empty where there is no login.

    `credential` is what it entered with, for whoever reviews it later. `expires_ns` is wall-clock time, 0: never. The
    limits are the client's own, beside those of its account; -1: none.
    """

    account: str
    user: str = ""
    permissions: Permissions | None = None
    max_payload: int = -1
    max_subscriptions: int = -1
    expires_ns: int = 0
    credential: object = field(default=None, compare=False)
    name_tag: str = ""
    tags: tuple[str, ...] = ()


class Admission(Protocol):
    """Who decides about logins."""

    @property
    def is_required(self) -> bool:
        """Whether clients must log in at all."""
        ...

    @property
    def has_no_auth_user(self) -> bool:
        """Whether INFO tells clients that they need no credentials although others have some."""
        ...

    @property
    def needs_nonce(self) -> bool:
        """Whether INFO gives clients something to sign."""
        ...

    def without_credentials(self, link: Link) -> Identity | None:
        """Tell who a client is that begins without CONNECT; None: it is not let in."""
        ...

    def admit(self, login: Login, then: Callable[[Identity | None], None]) -> None:
        """Decide, and call `then`: within this call, or later if somebody else has to be asked. None: not let in."""
        ...

    def review(self, identity: Identity) -> Identity | ProtocolError:
        """Look again at a client that was let in, when accounts or users changed: what it may, or why it must go."""
        ...


def make_nonce(secret_bytes: SecretBytes) -> str:
    """Make the text that a client signs to prove that it holds a key."""
    return base64.urlsafe_b64encode(secret_bytes(NONCE_SIZE)).rstrip(b"=").decode()
