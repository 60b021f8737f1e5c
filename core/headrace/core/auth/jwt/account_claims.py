"""What an account's token says: limits, signing keys, revocations, and what it shares with others.

Source: the NATS JWT library; what the reference server makes of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headrace.core.auth.jwt.fields import BadToken, Fields
from headrace.core.auth.jwt.token import Token, TokenKind, decode_kind
from headrace.core.auth.jwt.user_claims import NO_LIMIT, UserLimits, read_limits, read_permissions
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.options import Permissions
from headrace.core.subject import is_subset, is_valid

ALL: Final = "*"
"""Stands for every key in revocations, and for every account in `allowed_accounts`."""

Revocations = Mapping[str, int]
"""Public key, or ALL, to the time (seconds) up to which tokens issued are void."""


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What an operator grants. -1: no limit."""

    connections: int
    subscriptions: int
    payload: int
    imports: int
    exports: int
    leafnodes: int
    allows_wildcards: bool
    disallows_bearer: bool


@dataclass(frozen=True, slots=True)
class JetStreamTier:
    """Limits of JetStream for streams with so many replicas; for all streams where there are no tiers."""

    memory: int
    disk: int
    streams: int
    consumers: int
    max_ack_pending: int
    memory_max_stream_bytes: int
    disk_max_stream_bytes: int
    max_bytes_required: bool

    @property
    def is_enabled(self) -> bool:
        return bool(self.memory or self.disk)


@dataclass(frozen=True, slots=True)
class ClaimedExport:
    """Subjects that others may import; `kind` is `stream` or `service`."""

    kind: str
    subject: str
    is_token_required: bool
    token_position: int
    revocations: Revocations
    response_type: str
    response_threshold_ns: int
    latency_subject: str
    latency_sampling: int
    allow_trace: bool


@dataclass(frozen=True, slots=True)
class ClaimedImport:
    """What is imported. `to` and `local` are the two spellings of the own subject, of which one is empty."""

    kind: str
    subject: str
    account: str
    token: str
    to: str
    local: str
    share: bool
    allow_trace: bool


@dataclass(frozen=True, slots=True)
class ExternalAuthorization:
    """An account whose users another service lets in (auth callout)."""

    auth_users: tuple[str, ...] = ()
    allowed_accounts: tuple[str, ...] = ()
    xkey: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedMapping:
    source: str
    destinations: tuple[tuple[str, int, str], ...]  # subject, weight in percent, cluster


@dataclass(frozen=True, slots=True)
class AccountClaims:
    """An account's token, read. A signing key with a scope gives users the scope's limits; without one, their own."""

    token: Token
    limits: AccountLimits
    jetstream: Mapping[str, JetStreamTier]
    signing_keys: Mapping[str, UserLimits | None]
    revocations: Revocations
    default_permissions: Permissions | None
    exports: tuple[ClaimedExport, ...]
    imports: tuple[ClaimedImport, ...]
    mappings: tuple[ClaimedMapping, ...]
    external: ExternalAuthorization
    trace_destination: str
    trace_sampling: int

    @property
    def name(self) -> str:
        """Give the account's name: its key."""
        return self.token.subject

    def is_revoked(self, user: str, issued_at: int) -> bool:
        return is_revoked(self.revocations, user, issued_at)


def is_revoked(revocations: Revocations, key: str, issued_at: int) -> bool:
    """Tell whether what was issued then for this key is void."""
    return any(issued_at <= revocations.get(name, -1) for name in (key, ALL))


def decode_account(text: str) -> AccountClaims:
    """Read an account's token; BadToken if it is none."""
    token = decode_kind(text, TokenKind.ACCOUNT)
    body = token.body
    # Version 1 had no word for "no limit": what it does not name is not limited.
    default = NO_LIMIT if token.version <= 1 else 0
    limits = body.inner("limits")
    trace = body.inner("trace")
    external = body.inner("authorization")
    return AccountClaims(
        token=token,
        limits=AccountLimits(
            connections=limits.number("conn", default),
            subscriptions=limits.number("subs", default),
            payload=limits.number("payload", default),
            imports=limits.number("imports", default),
            exports=limits.number("exports", default),
            leafnodes=limits.number("leaf", default),
            allows_wildcards=limits.flag("wildcards") or token.version <= 1,
            disallows_bearer=limits.flag("disallow_bearer"),
        ),
        jetstream=_tiers(limits) if token.version > 1 else {},
        signing_keys=_signing_keys(body),
        revocations=body.numbers("revocations"),
        default_permissions=read_permissions(body.inner("default_permissions")),
        exports=tuple(map(_export, body.objects("exports"))),
        imports=tuple(map(_import, body.objects("imports"))),
        mappings=_mappings(body.inner("mappings")),
        external=ExternalAuthorization(
            external.texts("auth_users"), external.texts("allowed_accounts"), external.text("xkey")
        ),
        trace_destination=trace.text("dest"),
        trace_sampling=trace.number("sampling") or 100,
    )


def account_problem(claims: AccountClaims) -> str:
    """Say what makes an account's claims unusable, apart from time and who signed them; "" if nothing does."""
    return (
        _limits_problem(claims)
        or _sharing_problem(claims)
        or _external_problem(claims.external)
        or _mappings_problem(claims.mappings)
        or next(
            (
                f"{key!r} is not a valid account signing key"
                for key in claims.signing_keys
                if not _is_account(key)
            ),
            "",
        )
    )


def _limits_problem(claims: AccountClaims) -> str:
    limits = claims.limits
    if limits.imports != NO_LIMIT and len(claims.imports) > limits.imports:
        return "the account contains more imports than allowed by the operator"
    if limits.exports != NO_LIMIT:
        if len(claims.exports) > limits.exports:
            return "the account contains more exports than allowed by the operator"
        if not limits.allows_wildcards and any(_has_wildcards(export.subject) for export in claims.exports):
            return "the account contains wildcard exports that are not allowed by the operator"
    if "" in claims.jetstream and len(claims.jetstream) > 1:
        return 'Tiered JetStream Limits can not contain a blank "" tier name'
    return ""


def _sharing_problem(claims: AccountClaims) -> str:
    shared = [(each.kind, each.subject) for each in claims.exports]
    shared += [(each.kind, each.subject) for each in claims.imports]
    for kind, subject in shared:
        if kind not in {"stream", "service"}:
            return f"invalid type: {kind!r}"
        if not is_valid(subject.encode()):
            return f"subject {subject!r} is not valid"
    services: dict[str, list[bytes]] = {}
    for wanted in claims.imports:
        if not wanted.account:
            return "account to import from is not specified"
        if wanted.local and wanted.to:
            return "Local Subject replaces To"
        if wanted.share and wanted.kind != "service":
            return (
                f"sharing information (for latency tracking) is only valid for services: {wanted.subject!r}"
            )
        if wanted.kind == "service":
            own = (wanted.to or _with_wildcards(wanted.local) or wanted.subject).encode()
            for other in services.setdefault(wanted.account, []):
                if is_subset(own, other) or is_subset(other, own):
                    return f"overlapping subject namespace for {own.decode()!r} in account {wanted.account!r}"
            services[wanted.account].append(own)
    return ""


def _external_problem(external: ExternalAuthorization) -> str:
    if external.allowed_accounts and not external.auth_users:
        return "External authorization cannot have accounts without users specified"
    for user in external.auth_users:
        if not is_public(user, KeyKind.USER):
            return f"AuthUser {user!r} is not a valid user public key"
    for account in external.allowed_accounts:
        if account == ALL and len(external.allowed_accounts) > 1:
            return f"AllowedAccounts can only be a list of accounts or {ALL!r}"
        if account != ALL and not _is_account(account):
            return f"Account {account!r} is not a valid account public key"
    if external.xkey and not is_public(external.xkey, KeyKind.CURVE):
        return f"XKey {external.xkey!r} is not a valid public xkey"
    return ""


def _mappings_problem(mappings: tuple[ClaimedMapping, ...]) -> str:
    for mapping in mappings:
        totals: dict[str, int] = {}
        for _, weight, cluster in mapping.destinations:
            totals[cluster] = totals.get(cluster, 0) + weight
        if any(total > 100 for total in totals.values()):
            return f"Mapping {mapping.source!r} exceeds 100% among all of it's weighted to mappings"
    return ""


def _tiers(limits: Fields) -> dict[str, JetStreamTier]:
    """Give the limits by the name of their tier; "" where there are no tiers."""
    tiers = limits.inner("tiered_limits")
    named = {name: _tier(tiers.inner(name)) for name in tiers}
    return named or {"": _tier(limits)}


def _tier(fields: Fields) -> JetStreamTier:
    return JetStreamTier(
        memory=fields.number("mem_storage"),
        disk=fields.number("disk_storage"),
        streams=fields.number("streams"),
        consumers=fields.number("consumer"),
        # These three mean "no limit" when they are 0; the others mean none at all.
        max_ack_pending=fields.number("max_ack_pending") or NO_LIMIT,
        memory_max_stream_bytes=fields.number("mem_max_stream_bytes") or NO_LIMIT,
        disk_max_stream_bytes=fields.number("disk_max_stream_bytes") or NO_LIMIT,
        max_bytes_required=fields.flag("max_bytes_required"),
    )


def _signing_keys(body: Fields) -> dict[str, UserLimits | None]:
    keys: dict[str, UserLimits | None] = {}
    for item in body.items("signing_keys"):
        if isinstance(item, str):
            keys[item] = None
            continue
        scope = Fields.of(item, "signing_keys")
        if scope.text("kind") != "user_scope":
            raise BadToken(f"unknown signing key scope {scope.text('kind')!r}")
        keys[scope.text("key")] = read_limits(scope.inner("template"), default=NO_LIMIT)
    return keys


def _export(fields: Fields) -> ClaimedExport:
    latency = fields.inner("service_latency")
    sampling = latency.raw("sampling")
    return ClaimedExport(
        kind=fields.text("type"),
        subject=fields.text("subject"),
        is_token_required=fields.flag("token_req"),
        token_position=fields.number("account_token_position"),
        revocations=fields.numbers("revocations"),
        response_type=fields.text("response_type"),
        response_threshold_ns=fields.number("response_threshold"),
        latency_subject=latency.text("results"),
        latency_sampling=0 if isinstance(sampling, str) else latency.number("sampling"),
        allow_trace=fields.flag("allow_trace"),
    )


def _import(fields: Fields) -> ClaimedImport:
    return ClaimedImport(
        kind=fields.text("type"),
        subject=fields.text("subject"),
        account=fields.text("account"),
        token=fields.text("token"),
        to=fields.text("to"),
        local=fields.text("local_subject"),
        share=fields.flag("share"),
        allow_trace=fields.flag("allow_trace"),
    )


def _mappings(fields: Fields) -> tuple[ClaimedMapping, ...]:
    return tuple(
        ClaimedMapping(
            source,
            tuple(
                (each.text("subject"), each.number("weight") or 100, each.text("cluster"))
                for each in fields.objects(source)
            ),
        )
        for source in fields
    )


def _is_account(key: str) -> bool:
    return is_public(key, KeyKind.ACCOUNT)


def _has_wildcards(subject: str) -> bool:
    return any(token in {"*", ">"} for token in subject.split("."))


def _with_wildcards(local: str) -> str:
    """Put a wildcard in the place of each `$1`."""
    return ".".join("*" if token[:1] == "$" and token[1:].isdigit() else token for token in local.split("."))
