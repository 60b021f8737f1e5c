"""Scoped signing keys: the limits of a user are its key's template, in which names of the user's stand open.

`{{name()}}`, `{{subject()}}`, `{{account-name()}}`, `{{account-subject()}}`, `{{tag(key)}}` and
`{{account-tag(key)}}` are replaced; a tag with several values gives one subject for each, and several tags all
combinations. An allowed subject that cannot be made is left out (and if none remains, everything is denied); a denied
one that cannot be made means that the user is not let in.

Source: the reference server 2.15, scoped signing keys.
"""

import itertools
import re
from dataclasses import dataclass, replace
from typing import Final

from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.user_claims import ClaimedRules, UserClaims, UserLimits
from headrace.core.subject import is_valid

EXPANSIONS_MAX: Final = 4096
_PLACE: Final = re.compile(r"\{\{([^}]+)\}\}")
_TAG: Final = re.compile(r"(account-tag|tag)\((.*)\)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Names:
    """What may stand in the open places."""

    user_name: str
    user: str
    user_tags: tuple[str, ...]
    account_name: str
    account: str
    account_tags: tuple[str, ...]


def has_own_limits(claims: UserClaims) -> bool:
    """Tell whether a user's token grants anything itself, which one that is signed by a scoped key must not."""
    return claims.limits != UserLimits()


def fill_in(template: UserLimits, names: Names) -> UserLimits:
    """Give a template's limits for one user; BadToken where they cannot be made."""
    return replace(
        template,
        publish=_filled(template.publish, names),
        subscribe=_filled(template.subscribe, names),
    )


def _filled(rules: ClaimedRules, names: Names) -> ClaimedRules:
    allow = _expanded(rules.allow, names, is_denied=False)
    deny = _expanded(rules.deny, names, is_denied=True)
    if rules.allow and not allow:
        deny = (*deny, ">")
    return ClaimedRules(allow, deny)


def _expanded(entries: tuple[str, ...], names: Names, *, is_denied: bool) -> tuple[str, ...]:
    made: list[str] = []
    for entry in entries:
        places = _PLACE.findall(entry)
        if not places:
            # Among others, an entry may name a queue: it is taken as it is.
            made.append(entry)
            continue
        choices = [_values(place.strip(), names) for place in places]
        if is_denied and not all(choices):
            raise BadToken(f"generated invalid subject {entry!r}: a tag is not defined")
        count = 1
        for values in choices:
            count *= len(values)
        if len(made) + count > EXPANSIONS_MAX:
            raise BadToken(f"template expansion exceeds limit: {EXPANSIONS_MAX}")
        for values in itertools.product(*choices):
            subject = _with(entry, values)
            if is_valid(subject.encode()) and " " not in subject:
                made.append(subject)
            elif is_denied:
                raise BadToken("generated invalid subject")
    return tuple(made)


def _with(entry: str, values: tuple[str, ...]) -> str:
    """Put one value into each open place."""
    following = iter(values)
    return _PLACE.sub(lambda _place: next(following), entry)


def _values(place: str, names: Names) -> tuple[str, ...]:
    """Give what may stand in one place; nothing where a tag has no value."""
    fixed = {
        "name()": names.user_name,
        "subject()": names.user,
        "account-name()": names.account_name,
        "account-subject()": names.account,
    }.get(place.lower())
    if fixed is not None:
        return (fixed,)
    found = _TAG.fullmatch(place)
    if found is None:
        raise BadToken(f"template operation {place!r} is not defined")
    tags = names.account_tags if found[1].lower() == "account-tag" else names.user_tags
    prefix = found[2].lower() + ":"
    return tuple(tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix))
