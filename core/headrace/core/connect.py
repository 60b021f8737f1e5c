"""CONNECT: what a client says of itself.

A second CONNECT is allowed: fields that it leaves out keep the values they had. Unknown fields are ignored; a field
of the wrong type ends the connection without a word, as does anything that is no JSON object.

Source: the client protocol of NATS server 2.15, §3, probed.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from headrace.core.errors import MalformedArguments


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The fields of CONNECT, with the values that count where none was sent."""

    verbose: bool = True
    pedantic: bool = True
    echo: bool = True
    tls_required: bool = False
    user: str = ""
    password: str = ""
    auth_token: str = ""
    jwt: str = ""
    nkey: str = ""
    sig: str = ""
    name: str = ""
    lang: str = ""
    version: str = ""
    protocol: int = 0
    headers: bool = False
    no_responders: bool = False
    account: str = ""
    new_account: bool = False


_TYPES: Final[dict[str, type]] = {
    "verbose": bool,
    "pedantic": bool,
    "echo": bool,
    "tls_required": bool,
    "user": str,
    "pass": str,
    "auth_token": str,
    "jwt": str,
    "nkey": str,
    "sig": str,
    "name": str,
    "lang": str,
    "version": str,
    "protocol": int,
    "headers": bool,
    "no_responders": bool,
    "account": str,
    "new_account": bool,
}
_RENAMED: Final = {"pass": "password"}


def parse_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object as a peer sends it with CONNECT or INFO; MalformedArguments if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedArguments(f"invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedArguments("expected a JSON object")
    return value


def parse_connect(text: bytes, before: ConnectOptions) -> ConnectOptions:
    """Read CONNECT's argument over the options that held before."""
    changes: dict[str, Any] = {}
    for key, value in parse_object(text).items():
        # The reference's decoder takes names in any case, and null for "not given".
        name = key if key in _TYPES else key.lower()
        wanted = _TYPES.get(name)
        if wanted is None or value is None:
            continue
        if type(value) is not wanted:
            raise MalformedArguments(f"CONNECT field {key!r} must be {wanted.__name__}, got {value!r}")
        changes[_RENAMED.get(name, name)] = value
    return replace(before, **changes)
