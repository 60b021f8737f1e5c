"""From the configuration file's users and permissions to options.

Source: the reference server 2.15's configuration, probed.
"""

from dataclasses import replace

from headrace.core.config.authorization import (
    AuthCallout,
    PermissionRules,
    PublishRules,
    SubscribeRules,
    UserEntry,
)
from headrace.core.options import CalloutOptions, Permissions, ResponseRule, SubjectRules, UserOptions


def user_of(entry: UserEntry, account: str, defaults: Permissions | None) -> UserOptions:
    permissions = permissions_of(entry.permissions) if entry.permissions is not None else defaults
    return UserOptions(
        entry.nkey or entry.user,
        entry.password,
        account,
        permissions,
        is_nkey=bool(entry.nkey),
        connection_types=frozenset(entry.connection_types),
    )


def callout_of(block: AuthCallout | None) -> CalloutOptions | None:
    if block is None:
        return None
    return CalloutOptions(
        issuer=block.issuer,
        auth_users=tuple(block.auth_users),
        account=block.account,
        xkey=block.xkey,
        allowed_accounts=tuple(block.allowed_accounts),
    )


def permissions_of(rules: PermissionRules | None) -> Permissions | None:
    if rules is None:
        return None
    publish = _subject_rules(rules.publish)
    responses = None
    if rules.allow_responses is not None:
        given = {"max_messages": rules.allow_responses.max, "expires_ns": rules.allow_responses.expires}
        responses = ResponseRule(**{name: value for name, value in given.items() if value})
        if publish.allow is None:
            # Source: the reference, probed: who may answer, and is given no list, may publish nothing else.
            publish = replace(publish, allow=())
    return Permissions(publish, _subject_rules(rules.subscribe), responses)


def _subject_rules(rules: PublishRules | SubscribeRules | None) -> SubjectRules:
    if rules is None:
        return SubjectRules()
    # An empty list restricts nothing; what denies everything is `deny: ">"`.
    return SubjectRules(tuple(rules.allow) if rules.allow else None, tuple(rules.deny))
