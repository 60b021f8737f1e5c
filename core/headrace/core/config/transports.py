"""The blocks `tls` and `websocket`: their models, and the options that they mean.

What Python's `ssl` cannot express is refused here by name: preferences among several curves, certificate stores,
OCSP. Source: the reference server 2.15's configuration, probed.
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from headrace.core import limits
from headrace.core.config.block import Block, Count, Duration, Listen, Port, Seconds, as_list
from headrace.core.config.values import parse_duration
from headrace.core.options import ServerOptions, TlsOptions, WebsocketOptions
from headrace.core.transport.tls_context import CURVES, INSECURE_SUITES, SUITES, SUITES_1_3

_PIN: Final = re.compile("[0-9A-Fa-f]{64}")
_OWN_HEADERS: Final = frozenset({"host", "content-length", "connection", "upgrade", "nats-no-masking"})

HandshakeFirst = tuple[bool, int]
"""Whether the handshake comes before INFO, and after how many nanoseconds INFO is sent all the same; 0: never."""


def _handshake_first(value: object) -> object:
    if isinstance(value, bool):
        return (value, 0)
    if not isinstance(value, str):
        raise ValueError("expected true, false, 'auto' or a duration")  # noqa: TRY004  (pydantic collects ValueError)
    match value.lower():
        case "true" | "on":
            return (True, 0)
        case "false" | "off":
            return (False, 0)
        case "auto" | "auto_fallback":
            return (True, limits.TLS_FIRST_FALLBACK_NS)
        case _:
            try:
                return (True, parse_duration(value))
            except ValueError:
                raise ValueError(
                    f"'{value}' is invalid; expected true, false, 'auto' or a duration"
                ) from None


def _suites(value: object) -> object:
    names = as_list(value)
    if isinstance(names, list):
        for name in names:
            if name not in SUITES and name not in SUITES_1_3:
                raise ValueError(f"unrecognized cipher {name}; known are {', '.join((*SUITES, *SUITES_1_3))}")
        if not names:
            raise ValueError("'cipher_suites' cannot be empty")
    return names


def _curves(value: object) -> object:
    names = as_list(value)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        if len(names) != 1 or names[0].lower() not in CURVES:
            raise ValueError(
                "this version of Headrace can be told one curve only: CurveP256, CurveP384 or CurveP521; "
                "leave it out for all that OpenSSL has, X25519 first"
            )
        return [CURVES[names[0].lower()]]
    return names


def _min_version(value: object) -> object:
    if value in {"1.0", "1.1"}:
        raise ValueError(f"unsupported minimum TLS version: TLS {value}")
    if value not in {"1.2", "1.3"}:
        raise ValueError(f"unknown version: {value}; expected '1.2' or '1.3'")
    return value


def _pins(value: object) -> object:
    if isinstance(value, list):
        for pin in value:
            if not isinstance(pin, str) or not _PIN.fullmatch(pin):
                raise ValueError(
                    f"key {pin} does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
                )
        return [pin.lower() for pin in value]
    return value


class CertificatePair(Block):
    cert_file: str
    key_file: str


class Tls(Block):
    aliases = {"first": "handshake_first", "immediate": "handshake_first", "certificates": "certs"}

    cert_file: str | None = None
    key_file: str | None = None
    certs: list[CertificatePair] = []
    ca_file: str | None = None
    insecure: bool = (
        False  # is for connections that a server makes; the reference takes it here and does nothing too
    )
    verify: bool = False
    verify_and_map: bool = False
    timeout: Seconds | None = None
    handshake_first: Annotated[HandshakeFirst, BeforeValidator(_handshake_first)] = (False, 0)
    cipher_suites: Annotated[list[str], BeforeValidator(_suites)] = []
    allow_insecure_cipher_suites: bool = False
    curve_preferences: Annotated[list[str], BeforeValidator(_curves)] = []
    min_version: Annotated[str, BeforeValidator(_min_version)] = "1.2"
    pinned_certs: Annotated[list[str], BeforeValidator(_pins)] = []
    connection_rate_limit: Count = 0

    @model_validator(mode="after")
    def _check_together(self) -> "Tls":
        if self.certs and self.cert_file:
            raise ValueError("cannot combine 'cert_file' option with 'certs' option")
        if self.cert_file and not self.key_file:
            raise ValueError("missing 'key_file' in TLS configuration")
        if self.key_file and not self.cert_file:
            raise ValueError("missing 'cert_file' in TLS configuration")
        insecure = [name for name in self.cipher_suites if name in INSECURE_SUITES]
        if insecure and not self.allow_insecure_cipher_suites:
            raise ValueError(
                "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: "
                + ", ".join(insecure)
            )
        return self


class WebsocketAuthorization(Block):
    aliases = {"username": "user", "pass": "password"}

    user: str | None = None
    password: str | None = None
    token: str | None = None
    timeout: Seconds | None = None


class Websocket(Block):
    aliases = {
        "net": "host",
        "compress": "compression",
        "authentication": "authorization",
        **dict.fromkeys(
            ("allowed_origin", "allow_origins", "allow_origin", "origins", "origin"), "allowed_origins"
        ),
    }

    listen: Listen | None = None
    host: str | None = None
    port: Port | None = None
    advertise: str | None = None
    no_tls: bool = False
    tls: Tls | None = None
    same_origin: bool | None = None
    allowed_origins: Annotated[list[str], BeforeValidator(as_list)] = []
    handshake_timeout: Seconds | None = None
    compression: bool | None = None
    authorization: WebsocketAuthorization = WebsocketAuthorization()
    no_auth_user: str | None = None
    jwt_cookie: str | None = None
    user_cookie: str | None = None
    pass_cookie: str | None = None
    token_cookie: str | None = None
    headers: dict[str, str] = {}
    ping_interval: Annotated[Duration, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check_origins_and_headers(self) -> "Websocket":
        for origin in self.allowed_origins:
            try:
                parts = urlsplit(origin)
                port = parts.port  # raises where it is none
            except ValueError as error:
                raise ValueError(f"unable to parse allowed origin: {error}") from error
            if parts.scheme not in {"http", "https"}:
                raise ValueError(
                    f'unable to parse allowed origin "{origin}": allowed origins must be absolute URLs with '
                    "http or https scheme"
                )
            if not parts.hostname or port == 0:
                raise ValueError(f'unable to parse allowed origin "{origin}": host is required')
        for name, value in self.headers.items():
            if name.lower() in _OWN_HEADERS or name.lower().startswith("sec-websocket-"):
                raise ValueError(f'websocket: invalid header "{name}" not allowed')
            if not name.isascii() or not name.isprintable() or " " in name or ":" in name or not name:
                raise ValueError(f'websocket: "{name}" is no name of a header')
            if "\r" in value or "\n" in value:
                raise ValueError(f'websocket: the value of header "{name}" has a line end')
        return self


def tls_options(block: Tls) -> TlsOptions:
    """Give what a `tls` block means."""
    pairs = tuple((pair.cert_file, pair.key_file) for pair in block.certs)
    if block.cert_file and block.key_file:
        pairs = ((block.cert_file, block.key_file),)
    is_first, fallback_ns = block.handshake_first
    return TlsOptions(
        certificates=pairs,
        ca_file=block.ca_file or "",
        verify=block.verify or block.verify_and_map,
        map_users=block.verify_and_map,
        timeout_ns=block.timeout or limits.TLS_TIMEOUT_NS,
        handshake_first=is_first,
        first_fallback_ns=fallback_ns,
        cipher_suites=tuple(block.cipher_suites),
        curves=tuple(block.curve_preferences),
        min_version=block.min_version,
        pinned_certs=frozenset(block.pinned_certs),
        connection_rate_limit=block.connection_rate_limit,
    )


class Leafnodes(Block):
    """Where leaf nodes may connect, and as whom: taken with a warning, since nothing listens. `remotes` is refused."""

    aliases = {"net": "host", "authentication": "authorization"}

    listen: Listen | None = None
    host: str | None = None
    port: Port | None = None
    advertise: str | None = None
    no_advertise: bool | None = None
    compression: Any = None
    authorization: Any = None
    tls: Any = None
    write_deadline: Any = None
    min_version: str | None = None
    reconnect: Any = None


def websocket_options(block: Websocket) -> WebsocketOptions | None:
    """Give what a `websocket` block means; None: it names no port, so nothing listens, as in the reference."""
    port = block.port if block.port is not None else block.listen.port if block.listen is not None else 0
    if not port:
        return None
    login = block.authorization
    given: dict[str, Any] = {
        "host": block.host or (block.listen.host if block.listen is not None else None) or None,
        "same_origin": block.same_origin,
        "compression": block.compression,
        "handshake_timeout_ns": block.handshake_timeout,
        "ping_interval_ns": block.ping_interval,
        "jwt_cookie": block.jwt_cookie,
        "user_cookie": block.user_cookie,
        "password_cookie": block.pass_cookie,
        "token_cookie": block.token_cookie,
        "user": login.user,
        "password": login.password,
        "token": login.token,
        "auth_timeout_ns": login.timeout,
        "no_auth_user": block.no_auth_user,
        "advertise": block.advertise,
    }
    return WebsocketOptions(
        port=port,
        tls=tls_options(block.tls) if block.tls is not None else None,
        allowed_origins=tuple(block.allowed_origins),
        headers=tuple(block.headers.items()),
        **{name: value for name, value in given.items() if value is not None},
    )


def websocket_contradiction(options: ServerOptions, *, no_tls: bool) -> str:
    """Say what in the `websocket` block contradicts the rest of the options; "" where nothing does."""
    block = options.websocket
    if block is None:
        return ""
    if block.tls is None and not no_tls:
        return "websocket requires TLS configuration"
    if block.no_auth_user and block.no_auth_user not in {user.user for user in options.users}:
        return (
            f'no_auth_user: "{block.no_auth_user}" not present as user or nkey in authorization block '
            "or account configuration"
        )
    if block.jwt_cookie and options.operator is None:
        return (
            "trusted operators or trusted keys configuration is required for JWT authentication via cookie "
            f'"{block.jwt_cookie}"'
        )
    if options.users and (block.user or block.token):
        kind = "username" if block.user else "token"
        return f"websocket authentication {kind} not compatible with presence of users/nkeys"
    return ""
