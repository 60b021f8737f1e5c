"""From the configuration file's keys about operators to options.

An operator is a token, or the file of one. Its accounts come from the resolver: those that the file itself
holds (`MEMORY`, `resolver_preload`), a directory that the server manages (`full`, `cache`), or a web server.
Loaded only where operators are configured.

Source: the reference server 2.15's configuration, probed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.core import limits
from headrace.core.auth.jwt.account_claims import decode_account
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.operator_claims import OperatorClaims, decode_operator
from headrace.core.auth.jwt.token import JWT_PREFIX, undecorated
from headrace.core.auth.jwt.user_claims import UserLimits, decode_user
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.config.operators import ResolverBlock
from headrace.core.options import OperatorOptions, ResolverKind, ResolverOptions


def operator_options(
    tokens: Sequence[str],
    resolver: ResolverBlock | None,
    preload: Mapping[str, str],
    *,
    trusted_keys: Sequence[str] = (),
    pinned: Sequence[str] = (),
    sentinel: str = "",
    system_account: str | None = None,
    has_users: bool = False,
    has_accounts: bool = False,
    has_callout: bool = False,
    no_auth_user: str = "",
) -> tuple[OperatorOptions, str]:
    """Give the options, and the name of the system account; raises ValueError with what is wrong."""
    operators = [_operator(text) for text in tokens]
    if operators and trusted_keys:
        raise ValueError("conflicting options for 'TrustedKeys' and 'TrustedOperators'")
    if resolver is None:
        raise ValueError("operators require an account resolver to be configured")
    for is_given, problem in (
        (bool(no_auth_user), "no_auth_user not compatible with Trusted Operator"),
        (has_accounts, "operators do not allow Accounts to be configured directly"),
        (has_users, "operators do not allow users to be configured directly"),
        (has_callout, "operators do not allow authorization callouts to be configured directly"),
    ):
        if is_given:
            raise ValueError(problem)
    _check_versions(operators)
    for key in trusted_keys:
        if not is_public(key, KeyKind.OPERATOR):
            raise ValueError(f"trusted key {key!r} is required to be a valid public operator nkey")
    for key in pinned:
        if not is_public(key, KeyKind.ACCOUNT):
            raise ValueError(f'pinned account key "{key}" is not a valid public account nkey')
    system = _system_account(operators, system_account, resolver)
    if sentinel:
        _check_sentinel(sentinel)
    if preload and resolver.type == "url":
        raise ValueError("resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR")
    for name, text in preload.items():
        try:
            decode_account(text)
        except BadToken as error:
            raise ValueError(f'preload account error for "{name}": {error}') from error
    options = OperatorOptions(
        operators=tuple(operator.token.text for operator in operators),
        trusted_keys=tuple(trusted_keys),
        resolver=_resolver_options(resolver),
        preload=tuple(preload.items()),
        pinned_accounts=tuple(pinned) + ((system,) if pinned and system else ()),
        default_sentinel=sentinel,
    )
    return options, system


def _operator(text: str) -> OperatorClaims:
    if not text.startswith(JWT_PREFIX):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"error parsing operator JWT: {error}") from error
    try:
        return decode_operator(undecorated(text))
    except BadToken as error:
        raise ValueError(f"error parsing operator JWT: {error}") from error


def _check_versions(operators: Sequence[OperatorClaims]) -> None:
    own = tuple(int(part) for part in limits.COMPATIBLE_VERSION.split("."))
    for operator in operators:
        if operator.required_version > own:
            wanted = ".".join(map(str, operator.required_version))
            raise ValueError(
                f"operator {operator.token.subject} expected version {wanted} > server version "
                f"{limits.COMPATIBLE_VERSION}"
            )


def _system_account(
    operators: Sequence[OperatorClaims], configured: str | None, resolver: ResolverBlock
) -> str:
    named = {operator.system_account for operator in operators if operator.system_account}
    if configured is not None:
        if named and configured not in named:
            raise ValueError("system_account in config and operator JWT must be identical")
        return configured
    system = operators[0].system_account if operators else ""
    if not system and resolver.type in {"full", "cache"}:
        raise ValueError(
            "using nats based account resolver - the system account needs to be specified in configuration "
            "or the operator jwt"
        )
    return system


def _check_sentinel(text: str) -> None:
    try:
        claims = decode_user(text)
    except BadToken as error:
        raise ValueError("default sentinel JWT not valid") from error
    is_scoped = bool(claims.issuer_account) and claims.limits == UserLimits()
    if not claims.limits.is_bearer and not is_scoped:
        raise ValueError("default sentinel must be a bearer token")


def _resolver_options(block: ResolverBlock) -> ResolverOptions:
    if block.type in {"full", "cache"} and not block.dir:
        raise ValueError("dir has no value and needs to point to a directory")
    if block.type == "full" and block.ttl is not None:
        raise ValueError("FULL does not accept ttl")
    if block.type == "cache" and block.interval is not None:
        raise ValueError("CACHE does not accept sync")
    if block.type == "cache" and block.allow_delete:
        raise ValueError("CACHE does not accept allow_delete")
    if block.hard_delete and not block.allow_delete:
        raise ValueError("hard_delete has no effect without delete")
    usual = ResolverOptions()
    return ResolverOptions(
        kind=ResolverKind(block.type),
        url=block.url,
        directory=block.dir,
        allow_delete=block.allow_delete,
        hard_delete=block.hard_delete,
        limit=block.limit,
        interval_ns=usual.interval_ns if block.interval is None else block.interval,
        ttl_ns=usual.ttl_ns if block.ttl is None else block.ttl,
        timeout_ns=usual.timeout_ns if block.timeout is None else block.timeout,
    )
