"""Keys and tokens for tests: an operator, accounts and users who trust each other."""

import base64
import hashlib
import json
from typing import Any, Final

from headrace.core.auth.jwt.token import encode_token
from headrace.core.auth.keys import KeyKind, SigningKey
from headrace.core.options import OperatorOptions

NOW_S: Final = 1_700_000_000
"""When virtual time begins."""

UNLIMITED: Final = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT_LIMITS: Final = {
    **UNLIMITED,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
}


def key(kind: KeyKind, name: str) -> SigningKey:
    """Make the key that goes by this name, the same in every run."""
    return SigningKey(kind, hashlib.sha256(f"{kind.name} {name}".encode()).digest())


OPERATOR: Final = key(KeyKind.OPERATOR, "operator")
SYSTEM: Final = key(KeyKind.ACCOUNT, "system")
ACCOUNT: Final = key(KeyKind.ACCOUNT, "account")
OTHER: Final = key(KeyKind.ACCOUNT, "other")
USER: Final = key(KeyKind.USER, "user")


def operator_token(*, now_s: int = NOW_S, **claims: Any) -> str:
    body = {"type": "operator", "version": 2, "system_account": SYSTEM.public, **claims}
    return encode_token({"sub": OPERATOR.public, "name": "O", "nats": body}, OPERATOR, now_s=now_s)


def account_token(
    account: SigningKey = ACCOUNT,
    *,
    signer: SigningKey = OPERATOR,
    expires: int = 0,
    limits: dict[str, Any] | None = None,
    now_s: int = NOW_S,
    **claims: Any,
) -> str:
    body = {"type": "account", "version": 2, "limits": ACCOUNT_LIMITS | (limits or {}), **claims}
    top: dict[str, Any] = {"sub": account.public, "name": "acme", "nats": body}
    return encode_token(top | ({"exp": expires} if expires else {}), signer, now_s=now_s)


def user_token(
    user: SigningKey = USER,
    *,
    signer: SigningKey = ACCOUNT,
    expires: int = 0,
    name: str = "bob",
    limits: dict[str, Any] | None = None,
    now_s: int = NOW_S,
    **claims: Any,
) -> str:
    body = {"type": "user", "version": 2, **(UNLIMITED if limits is None else limits), **claims}
    top: dict[str, Any] = {"sub": user.public, "name": name, "nats": body}
    return encode_token(top | ({"exp": expires} if expires else {}), signer, now_s=now_s)


def old_token(claims: dict[str, Any], signer: SigningKey) -> str:
    """Write a token of version 1: the kind stands at the top, and the signature covers the claims alone."""

    def written(value: object) -> str:
        return encoded(json.dumps(value).encode())

    def encoded(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    body = written({**claims, "iss": signer.public, "iat": NOW_S})
    header = written({"typ": "jwt", "alg": "ed25519"})
    return f"{header}.{body}.{encoded(signer.sign(body.encode()))}"


def operator_options(*tokens: tuple[SigningKey, str], **options: Any) -> OperatorOptions:
    """Configure an operator with these accounts, and the system account, preloaded."""
    accounts = dict([(SYSTEM, account_token(SYSTEM)), *tokens])
    return OperatorOptions(
        operators=(operator_token(),),
        preload=tuple((account.public, text) for account, text in accounts.items()),
        **options,
    )


def signed(nonce: str, user: SigningKey = USER) -> str:
    """Sign a nonce as CONNECT carries it."""
    return base64.urlsafe_b64encode(user.sign(nonce.encode())).rstrip(b"=").decode()
