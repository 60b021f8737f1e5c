"""What a user's token says: permissions, limits, and when and where from it may be used.

Source: the NATS JWT library; the reference server's checks of sources and times.
"""

import ipaddress
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headrace.core.auth.jwt.fields import BadToken, Fields
from headrace.core.auth.jwt.token import Token, TokenKind, decode_kind
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.options import Permissions, ResponseRule, SubjectRules

NO_LIMIT: Final = -1
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})")
_CONNECTION_TYPES: Final = frozenset(
    {"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"}
)


@dataclass(frozen=True, slots=True)
class ClaimedRules:
    """Lists of subjects as claimed. An empty allow list is none, as everywhere in claims."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What a user's token, or the template of a signing key, grants."""

    publish: ClaimedRules = ClaimedRules()
    subscribe: ClaimedRules = ClaimedRules()
    responses: ResponseRule | None = None
    sources: tuple[str, ...] = ()
    times: tuple[tuple[str, str], ...] = ()
    location: str = ""
    max_subscriptions: int = 0
    max_data: int = 0
    max_payload: int = 0
    is_bearer: bool = False
    is_proxy_required: bool = False
    connection_types: tuple[str, ...] = ()

    @property
    def permissions(self) -> Permissions | None:
        """Give them as a server has them; None: they restrict nothing."""
        return permissions_of(self.publish, self.subscribe, self.responses)

    @property
    def allowed_types(self) -> frozenset[str] | None:
        """Give the kinds of connections it may be used on; empty: all; None: only kinds that are not known here."""
        known = frozenset(kind.upper() for kind in self.connection_types) & _CONNECTION_TYPES
        return None if self.connection_types and not known else known


@dataclass(frozen=True, slots=True)
class UserClaims:
    """A user's token, read. `account` is the key of the account that it belongs to."""

    token: Token
    limits: UserLimits
    issuer_account: str = ""

    @property
    def account(self) -> str:
        return self.issuer_account or self.token.issuer


def decode_user(text: str) -> UserClaims:
    """Read a user's token; BadToken if it is none."""
    token = decode_kind(text, TokenKind.USER)
    is_old = token.version <= 1
    limits = read_limits(token.body, default=NO_LIMIT if is_old else 0)
    return UserClaims(token, limits, (token.top if is_old else token.body).text("issuer_account"))


def read_limits(fields: Fields, *, default: int) -> UserLimits:
    """Read permissions and limits; `default` is what a number means that is not there."""
    responses = fields.inner("resp") if "resp" in fields else None
    return UserLimits(
        publish=_rules(fields.inner("pub")),
        subscribe=_rules(fields.inner("sub")),
        responses=None if responses is None else response_rule(responses),
        sources=_sources(fields),
        times=tuple((span.text("start"), span.text("end")) for span in fields.objects("times")),
        location=fields.text("times_location"),
        max_subscriptions=fields.number("subs", default),
        max_data=fields.number("data", default),
        max_payload=fields.number("payload", default),
        is_bearer=fields.flag("bearer_token"),
        is_proxy_required=fields.flag("proxy_required"),
        connection_types=fields.texts("allowed_connection_types"),
    )


def response_rule(fields: Fields) -> ResponseRule:
    """Read how many answers are allowed for how long; what is 0 is the usual."""
    usual = ResponseRule()
    return ResponseRule(fields.number("max") or usual.max_messages, fields.number("ttl") or usual.expires_ns)


def read_permissions(fields: Fields) -> Permissions | None:
    """Read the permissions of users who have none of their own."""
    return read_limits(fields, default=0).permissions


def permissions_of(
    publish: ClaimedRules, subscribe: ClaimedRules, responses: ResponseRule | None
) -> Permissions | None:
    """Give claimed lists as permissions; None where all of them are empty."""
    if publish == subscribe == ClaimedRules() and responses is None:
        return None
    rules = SubjectRules(publish.allow or None, publish.deny)
    if responses is not None and rules.allow is None:
        rules = replace(rules, allow=())  # who may answer, and is given no list, may publish nothing else
    return Permissions(rules, SubjectRules(subscribe.allow or None, subscribe.deny), responses)


def problem_of(claims: UserClaims, now_s: int) -> str:
    """Say what makes a user's claims unusable, apart from who signed them; "" if nothing does."""
    limits = claims.limits
    for entry in (*limits.publish.allow, *limits.publish.deny):
        if not _is_permission(entry, with_queue=False):
            return f"permission subject {entry!r} is not valid"
    for entry in (*limits.subscribe.allow, *limits.subscribe.deny):
        if not _is_permission(entry, with_queue=True):
            return f"permission subject {entry!r} is not valid"
    try:
        for source in limits.sources:
            _network(source)
        for start, end in limits.times:
            _seconds(start)
            _seconds(end)
        _zone(limits.location)
    except BadToken as error:
        return str(error)
    if claims.issuer_account and not is_public(claims.issuer_account, KeyKind.ACCOUNT):
        return "account_id is not an account public key"
    return claims.token.time_problem(now_s)


def may_come_from(limits: UserLimits, host: str) -> bool:
    """Tell whether a client at this address may use the token."""
    if not limits.sources:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in _network(source) for source in limits.sources)


def may_come_at(limits: UserLimits, now_ns: int) -> tuple[bool, int]:
    """Tell whether the token may be used at this time of day, and for how many nanoseconds (0: without end)."""
    if not limits.times:
        return True, 0
    now = datetime.fromtimestamp(now_ns / 1e9, _zone(limits.location))
    since_midnight = timedelta(
        hours=now.hour, minutes=now.minute, seconds=now.second, microseconds=now.microsecond
    )
    longest = timedelta()
    for first, last in limits.times:
        start, end = _seconds(first), _seconds(last)
        if start < since_midnight < end or (start > end and since_midnight < end):
            longest = max(longest, end - since_midnight)
        elif start > end and since_midnight > start:
            longest = max(longest, end + timedelta(days=1) - since_midnight)
    return longest > timedelta(), int(longest.total_seconds() * 1e9)


def _rules(fields: Fields) -> ClaimedRules:
    return ClaimedRules(fields.texts("allow"), fields.texts("deny"))


def _sources(fields: Fields) -> tuple[str, ...]:
    """Read networks: a list, or one text with commas as version 1 had it."""
    value = fields.raw("src")
    if isinstance(value, str):
        return tuple(part.strip() for part in value.lower().split(",") if part.strip())
    return fields.texts("src")


def _is_permission(entry: str, *, with_queue: bool) -> bool:
    parts = entry.split(" ")
    if len(parts) > (2 if with_queue else 1):
        return False
    return all(
        part and not part.startswith(".") and not part.endswith(".") and ".." not in part for part in parts
    )


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in text:
        raise BadToken(f"invalid cidr {text!r} in user src limits")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadToken(f"invalid cidr {text!r} in user src limits") from error


def _seconds(text: str) -> timedelta:
    found = _TIME.fullmatch(text)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3]) > 59:
        raise BadToken(f"time range is invalid {text!r}")
    return timedelta(hours=int(found[1]), minutes=int(found[2]), seconds=int(found[3]))


def _zone(name: str) -> tzinfo | None:
    if not name or name == "Local":
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadToken(f"could not parse iana time zone by name: {name!r}") from error
