"""What a client brings to its login, and who it turns out to be."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from headrace.core.auth.keys import SecretBytes
from headrace.core.connect import ConnectOptions
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
    """Who a client turned out to be. `user` is what monitoring shows; empty where there is no login."""

    account: str
    user: str = ""
    permissions: Permissions | None = None


class Admission(Protocol):
    """Who decides about logins."""

    @property
    def is_required(self) -> bool:
        """Whether clients must log in at all."""
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


def make_nonce(secret_bytes: SecretBytes) -> str:
    """Make the text that a client signs to prove that it holds a key."""
    return base64.urlsafe_b64encode(secret_bytes(NONCE_SIZE)).rstrip(b"=").decode()
