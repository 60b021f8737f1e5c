"""/connz and /subsz: connections and subscriptions, filtered, sorted and paged.

Source: the reference server 2.15's monitoring, probed. What exists only with features that this version lacks
(leaf connections, TLS, MQTT) is not there. /subsz has no cache statistics: the routes here are no cache of that kind.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from headrace.core import limits, subject
from headrace.core.broker import Broker
from headrace.core.connection_record import ConnectionRecord
from headrace.core.engine.interface import SubscriptionInfo
from headrace.core.monitoring.parameters import BadParameter, Page, Parameters
from headrace.core.monitoring.texts import go_duration, timestamp, uptime

_OPEN: Final = "open"
_CLOSED: Final = "closed"
_ALL: Final = "all"
_STATES: Final = {"": _OPEN, "open": _OPEN, "closed": _CLOSED, "any": _ALL, "all": _ALL}

_SORTS: Final[Mapping[str, Callable[[ConnectionRecord, int], Any]]] = {
    "cid": lambda record, _now: record.id,
    "start": lambda record, _now: record.start_ns,
    "subs": lambda record, _now: -record.subscription_count,
    "pending": lambda record, _now: -record.pending_size,
    "msgs_to": lambda record, _now: -record.out_messages,
    "msgs_from": lambda record, _now: -record.in_messages,
    "bytes_to": lambda record, _now: -record.out_bytes,
    "bytes_from": lambda record, _now: -record.in_bytes,
    "last": lambda record, _now: -record.last_activity_ns,
    "idle": lambda record, now_ns: record.last_activity_ns - now_ns,
    "uptime": lambda record, now_ns: (record.stop_ns or now_ns) - record.start_ns,
    "stop": lambda record, _now: -record.stop_ns,
    "reason": lambda record, _now: record.reason,
    "rtt": lambda record, _now: -record.rtt_ns,
}
_CLOSED_ONLY: Final = frozenset({"stop", "reason"})


def connz(broker: Broker, parameters: Parameters) -> dict[str, Any]:
    """Give the body of /connz; raises BadParameter."""
    sort = parameters.text("sort") or "cid"
    with_auth = parameters.boolean("auth")
    with_detail = parameters.text("subs") == "detail"
    with_list = not with_detail and parameters.boolean("subs")
    page = Page(parameters)
    connection_id = parameters.unsigned("cid")
    state = _STATES.get(parameters.text("state").lower())
    if state is None:
        raise BadParameter(f"Error decoding state for {parameters.text('state')}")
    if sort not in _SORTS:
        raise BadParameter(f"invalid sorting option: {sort}")
    if sort in _CLOSED_ONLY and state != _CLOSED:
        raise BadParameter(f"sort by {sort} only valid on closed connections")
    user = parameters.text("user")
    account = parameters.text("acc")
    now_ns = broker.scheduler.now_ns()

    records: list[ConnectionRecord] = []
    if state in {_OPEN, _ALL}:
        records += [session.record(subscriptions=with_list or with_detail) for session in broker.sessions]
    if state in {_CLOSED, _ALL}:
        records += broker.closed_records()
    if user:
        records = [record for record in records if record.user == user]
    if account:
        records = [record for record in records if record.account == account]
    total = len(records)
    if connection_id:
        records = [record for record in records if record.id == connection_id]
        page.limit = 1
    key = _SORTS[sort]
    records.sort(key=lambda record: key(record, now_ns))
    shown = page.of(records)
    return {
        "server_id": broker.id,
        "now": timestamp(now_ns),
        "num_connections": len(shown),
        "total": total,
        "offset": page.offset,
        "limit": page.limit,
        "connections": [
            _connection(record, now_ns, with_auth=with_auth, with_list=with_list, with_detail=with_detail)
            for record in shown
        ],
    }


def _connection(
    record: ConnectionRecord, now_ns: int, *, with_auth: bool, with_list: bool, with_detail: bool
) -> dict[str, Any]:
    end_ns = record.stop_ns or now_ns
    shown: dict[str, Any] = {
        "cid": record.id,
        "kind": "Client",
        "type": record.type,
        "ip": record.host,
        "port": record.port,
        "start": timestamp(record.start_ns),
        "last_activity": timestamp(record.last_activity_ns),
    }
    if record.stop_ns:
        shown |= {"stop": timestamp(record.stop_ns), "reason": record.reason}
    shown |= {
        "rtt": go_duration(record.rtt_ns),
        "uptime": uptime(end_ns - record.start_ns),
        "idle": uptime(end_ns - record.last_activity_ns),
        "pending_bytes": record.pending_size,
        "in_msgs": record.in_messages,
        "out_msgs": record.out_messages,
        "in_bytes": record.in_bytes,
        "out_bytes": record.out_bytes,
        "subscriptions": record.subscription_count,
    }
    said = {
        "name": record.name,
        "lang": record.language,
        "version": record.version,
        "tls_version": record.tls_version,
        "tls_cipher_suite": record.tls_cipher,
        "tls_first": record.is_tls_first,
    }
    shown |= {key: value for key, value in said.items() if value}
    if with_auth:
        if record.certificate is not None:
            shown["tls_peer_certs"] = [_certificate(der) for der in record.certificate.chain]
        if record.user:
            shown["authorized_user"] = record.user
        if record.account not in {"", limits.GLOBAL_ACCOUNT}:
            shown["account"] = record.account
        if record.account:
            shown["name_tag"] = record.account
    if with_list and record.subscriptions:
        shown["subscriptions_list"] = sorted(_text(one.subject) for one in record.subscriptions)
    if with_detail and record.subscriptions:
        listed = sorted(record.subscriptions, key=lambda one: (one.subject, one.sid))
        shown["subscriptions_list_detail"] = [_subscription(one, with_account=False) for one in listed]
    return shown


def _certificate(der: bytes) -> dict[str, Any]:
    from headrace.core.transport.tls_context import key_digest, subject_of  # noqa: PLC0415  (only with TLS)

    return {
        "subject": subject_of(der),
        "spki_sha256": key_digest(der),
        "cert_sha256": hashlib.sha256(der).hexdigest(),
    }


def subsz(broker: Broker, parameters: Parameters) -> dict[str, Any]:
    """Give the body of /subsz; raises BadParameter."""
    with_list = parameters.boolean("subs")
    page = Page(parameters)
    account = parameters.text("acc")
    test = parameters.text("test").encode()
    if test and not subject.is_valid_literal(test):
        raise BadParameter(f"invalid test subject, must be valid publish subject: {_text(test)}")
    body: dict[str, Any] = {
        "server_id": broker.id,
        "now": timestamp(broker.scheduler.now_ns()),
        "num_subscriptions": broker.engine.subscription_count,
        "total": 0,
        "offset": page.offset,
        "limit": page.limit,
    }
    if with_list:
        found = _matching(broker.engine.subscriptions(), account, test)
        body["total"] = len(found)
        body["subscriptions_list"] = [_subscription(one, with_account=True) for one in page.of(found)]
    return body


def _matching(listed: Iterable[SubscriptionInfo], account: str, test: bytes) -> list[SubscriptionInfo]:
    found: Sequence[SubscriptionInfo] = [
        one
        for one in listed
        if (not account or one.account == account) and (not test or subject.matches(one.subject, test))
    ]
    return sorted(found, key=lambda one: (one.account, one.subject, one.connection_id, one.sid))


def _subscription(one: SubscriptionInfo, *, with_account: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if with_account:
        shown |= {"account": one.account, "account_tag": one.account}
    shown["subject"] = _text(one.subject)
    if one.queue:
        shown["qgroup"] = _text(one.queue)
    shown |= {"sid": _text(one.sid), "msgs": one.delivered}
    if one.delivered_max > 0:
        shown["max"] = one.delivered_max
    shown["cid"] = one.connection_id
    return shown


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
