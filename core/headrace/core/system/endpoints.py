"""What the system account's requests are answered with: monitoring's bodies, asked with JSON instead of a query.

Source: the NATS server 2.15's system services, probed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from headrace.core.monitoring.accountz import account_detail, accountz, accstatz
from headrace.core.monitoring.connz import connz, subsz
from headrace.core.monitoring.parameters import BadParameter, Parameters
from headrace.core.monitoring.runtime import variables
from headrace.core.monitoring.unused import gatewayz, leafz, routez
from headrace.core.monitoring.varz import healthz, jsz, varz
from headrace.core.options import Permissions, SubjectRules
from headrace.core.subject import matches
from headrace.core.system.requests import PING, NothingToTell, RequestFailed

if TYPE_CHECKING:
    from headrace.core.system.requests import SystemRequests

_STATES: Final = ("open", "closed", "any")
_RENAMED: Final = {"account": "acc", "consumer": "consumers", "leader_only": "leader-only"}


def ask(asked: "SystemRequests", name: str, account: str, options: Mapping[str, Any]) -> object:
    """Give the data of an answer; raises RequestFailed and NothingToTell. `account`: whose part is asked for."""
    try:
        if account:
            return _of_account(asked, name, account, options)
        return _ENDPOINTS[name](asked, options)
    except BadParameter as error:
        raise RequestFailed(str(error)) from error


def count_subscribers(asked: "SystemRequests", account: str, subject: str, queue: str) -> int:
    """Count the subscriptions of an account that get a subject."""
    wanted, group = subject.encode(), queue.encode()
    return sum(
        one.account == account and matches(one.subject, wanted) and (not group or one.queue == group)
        for one in asked.broker.engine.subscriptions()
    )


def user(asked: "SystemRequests", about: Mapping[str, Any], connection_id: int) -> dict[str, Any]:
    """Tell a client who it is and what it may do."""
    account = str(about.get("acc", ""))
    known: dict[str, Any] = {"user": about.get("user", ""), "account": account}
    if account in asked.broker.accounts:
        known["account_name"] = asked.broker.accounts[account].options.name_tag or account
    if about.get("name_tag"):
        known["user_name"] = about["name_tag"]
    session = asked.broker.session(connection_id)
    permissions = None if session is None else session.connection.permissions
    if isinstance(permissions, Permissions):
        known["permissions"] = _permissions(permissions)
    return known


def _permissions(permissions: Permissions) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, rules in (("publish", permissions.publish), ("subscribe", permissions.subscribe)):
        if rules != SubjectRules():
            lists = {"allow": sorted(rules.allow or ()), "deny": sorted(rules.deny)}
            shown[name] = {key: subjects for key, subjects in lists.items() if subjects}
    if permissions.responses is not None:
        responses = permissions.responses
        shown["responses"] = {"max": responses.max_messages, "ttl": responses.expires_ns}
    return shown


# of the server


def _parameters(options: Mapping[str, Any]) -> Parameters:
    query: dict[str, str] = {}
    for key, value in options.items():
        if isinstance(value, bool):
            query[_RENAMED.get(key, key)] = "true" if value else "false"
        elif isinstance(value, str | int):
            query[_RENAMED.get(key, key)] = str(value)
    return Parameters(query)


def _connz(asked: "SystemRequests", options: Mapping[str, Any]) -> dict[str, Any]:
    query = {key: value for key, value in options.items() if not key.startswith("subscriptions")}
    if options.get("subscriptions_detail"):
        query["subs"] = "detail"
    elif options.get("subscriptions"):
        query["subs"] = True
    state = options.get("state")
    if isinstance(state, int) and 0 <= state < len(_STATES):
        query["state"] = _STATES[state]
    return connz(asked.broker, _parameters(query))


def _subsz(asked: "SystemRequests", options: Mapping[str, Any]) -> dict[str, Any]:
    query = {**options, "subs": bool(options.get("subscriptions"))}
    return subsz(asked.broker, _parameters(query))


def _varz(asked: "SystemRequests", _options: Mapping[str, Any]) -> dict[str, Any]:
    broker = asked.broker
    return varz(
        broker,
        asked.process,
        asked.jetstream,
        client_port=broker.facts.port,
        http_host=broker.options.host,
        http_port=0,
        request_counts={},
        config_digest=asked.config_digest,
    )


def _healthz(asked: "SystemRequests", options: Mapping[str, Any]) -> dict[str, Any]:
    query = {
        _RENAMED.get(key, key) if key not in {"account", "consumer"} else key: value
        for key, value in options.items()
    }
    parameters = Parameters(
        {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in query.items()}
    )
    body, status = healthz(asked.jetstream, parameters, is_listening=True)
    rest = {key: value for key, value in body.items() if key != "status"}
    return {"status": body["status"], "status_code": int(status), **rest}


def _profilez(_asked: "SystemRequests", options: Mapping[str, Any]) -> dict[str, Any]:
    name = options.get("name")
    return {"profile": None, "error": f'Profile "{name}" not found' if name else "Profile name not specified"}


_ENDPOINTS: Final[Mapping[str, Callable[["SystemRequests", Mapping[str, Any]], dict[str, Any]]]] = {
    "VARZ": _varz,
    "SUBSZ": _subsz,
    "CONNZ": _connz,
    "ROUTEZ": lambda asked, _options: routez(asked.broker),
    "GATEWAYZ": lambda asked, _options: gatewayz(asked.broker),
    "LEAFZ": lambda asked, _options: leafz(asked.broker),
    "ACCOUNTZ": lambda asked, options: accountz(asked.broker, _parameters(options)),
    "JSZ": lambda asked, options: jsz(asked.broker, asked.jetstream, _parameters(options)),
    "HEALTHZ": _healthz,
    "PROFILEZ": _profilez,
    "EXPVARZ": lambda asked, _options: variables(asked.process),
    "IPQUEUESZ": lambda _asked, _options: {},
    "RAFTZ": lambda _asked, _options: {},
}


# of an account


def _of_account(asked: "SystemRequests", name: str, account: str, options: Mapping[str, Any]) -> object:
    broker = asked.broker
    if name == "STATZ":
        named = options.get("accounts") or ()
        unused = bool(options.get("include_unused"))
        names = [str(one) for one in named] if account == PING else [account]
        body = accstatz(broker, names, unused=unused or account != PING)
        if not body["account_statz"] and not unused:
            raise NothingToTell
        return body
    if name == "INFO":
        return account_detail(broker, account)
    if name == "JSZ":
        if asked.jetstream is None or account not in broker.accounts:
            raise RequestFailed(f'account "{account}" not found')
        body = jsz(broker, asked.jetstream, _parameters({**options, "account": account}))
        found = [one for one in body.get("account_details", ()) if one.get("name") == account]
        if not found:
            raise RequestFailed(f'account "{account}" not found')
        return found[0]
    scoped = {**options, "acc": account}
    if name == "SUBSZ":
        scoped["subscriptions"] = True
    return _ENDPOINTS[name](asked, scoped)
