"""What an operator's token says: whose signatures under accounts count.

Source: the NATS JWT library.
"""

import re
from dataclasses import dataclass
from typing import Final

from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.token import Token, TokenKind, decode_kind
from headrace.core.auth.keys import KeyKind, is_public

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class OperatorClaims:
    """An operator's token, read. With `is_strict`, accounts must be signed by one of the signing keys."""

    token: Token
    signing_keys: tuple[str, ...]
    system_account: str
    required_version: tuple[int, int, int]
    is_strict: bool

    @property
    def trusted_keys(self) -> tuple[str, ...]:
        """Give the keys whose signature under an account counts."""
        return self.signing_keys if self.is_strict else (self.token.subject, *self.signing_keys)


def decode_operator(text: str) -> OperatorClaims:
    """Read an operator's token; BadToken if it is none."""
    token = decode_kind(text, TokenKind.OPERATOR)
    body = token.body
    claims = OperatorClaims(
        token=token,
        signing_keys=body.texts("signing_keys"),
        system_account=body.text("system_account"),
        required_version=_version(body.text("assert_server_version")),
        is_strict=body.flag("strict_signing_key_usage"),
    )
    for key in (token.subject, *claims.signing_keys):
        if not is_public(key, KeyKind.OPERATOR):
            raise BadToken(f"trusted Keys {key!r} are required to be a valid public operator nkey")
    if claims.system_account and not is_public(claims.system_account, KeyKind.ACCOUNT):
        raise BadToken(f"{claims.system_account} is not an account public key")
    return claims


def _version(text: str) -> tuple[int, int, int]:
    if not text:
        return (0, 0, 0)
    found = _VERSION.fullmatch(text)
    if found is None:
        raise BadToken(f"assert server version error: {text!r} is no version")
    return int(found[1]), int(found[2]), int(found[3])
