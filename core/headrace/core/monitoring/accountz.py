"""/accountz and /accstatz: accounts, what they exchange, and how many are connected.

Source: the reference server 2.15's monitoring, probed.
"""

from collections.abc import Collection
from typing import Any

from headrace.core.broker import Broker
from headrace.core.exports import Mapping, ServiceExport, StreamExport
from headrace.core.monitoring.parameters import BadParameter, Parameters
from headrace.core.monitoring.texts import timestamp
from headrace.core.system.facts import account_statistics


def accountz(broker: Broker, parameters: Parameters) -> dict[str, Any]:
    """Give the body of /accountz; raises BadParameter."""
    name = parameters.text("acc")
    body: dict[str, Any] = {
        "server_id": broker.id,
        "now": timestamp(broker.scheduler.now_ns()),
        "system_account": broker.options.system_account,
    }
    if name:
        return body | {"account_detail": account_detail(broker, name)}
    return body | {"accounts": sorted(account.name for account in broker.accounts)}


def accstatz(broker: Broker, names: Collection[str], *, unused: bool) -> dict[str, Any]:
    """Give the body of /accstatz; without names, all accounts. `unused`: those without connections too."""
    shown = [
        account_statistics(broker, account)
        for account in broker.accounts
        if (not names or account.name in names) and (unused or account.connection_count)
    ]
    about = {"server_id": broker.id, "now": timestamp(broker.scheduler.now_ns())}
    return about | {"account_statz": shown}


def account_detail(broker: Broker, name: str) -> dict[str, Any]:
    """Describe an account; raises BadParameter."""
    if name not in broker.accounts:
        raise BadParameter(f"Account {name} does not exist")
    account = broker.accounts[name]
    options = account.options
    sessions = [session for session in broker.sessions if session.account is account]
    detail: dict[str, Any] = {
        "account_name": name,
        "update_time": timestamp(broker.start_ns),
        **({"is_system": True} if account.is_system else {}),
        "expired": False,
        "complete": True,
        "jetstream_enabled": options.jetstream is not None,
        "leafnode_connections": 0,
        "client_connections": len(sessions),
        "subscriptions": sum(session.connection.subscription_count for session in sessions),
    }
    if options.mappings:
        detail["mappings"] = {mapping.source: _destinations(mapping) for mapping in options.mappings}
    exports = [_export(one) for one in options.service_exports]
    exports += [_export(one) for one in options.stream_exports]
    if exports:
        detail["exports"] = exports
    imports = _imports(broker, name)
    if imports:
        detail["imports"] = imports
    if options.name_tag:
        detail["name_tag"] = options.name_tag
    waiting = broker.services.responses.of_account(name)
    if waiting:
        detail["responses"] = waiting
    return detail


def _destinations(mapping: Mapping) -> list[dict[str, Any]]:
    return [
        {"subject": one.subject, "weight": one.weight, **({"cluster": one.cluster} if one.cluster else {})}
        for one in mapping.destinations
    ]


def _export(export: StreamExport | ServiceExport) -> dict[str, Any]:
    shown: dict[str, Any] = {"subject": export.subject}
    if isinstance(export, ServiceExport):
        shown |= {"type": "service", "response_type": export.response.value}
        if export.latency is not None:
            shown["latency"] = {"sampling": export.latency.sampling, "results": export.latency.subject}
    else:
        shown["type"] = "stream"
    if export.accounts is not None:
        shown["approved_accounts"] = sorted(export.accounts)
    if export.is_token_required:
        shown["token_req"] = True
    if export.token_position:
        shown["account_token_position"] = export.token_position
    return shown


def _imports(broker: Broker, name: str) -> list[dict[str, Any]]:
    streams, services = broker.imports_of(name)
    rest = {"invalid": False, "share": False, "tracking": False}
    shown = [
        {
            "subject": one.source.decode(),
            "account": one.exporter,
            "local_subject": one.local.decode(),
            "type": "stream",
            **rest,
        }
        for one in streams
    ]
    return shown + [
        {
            "subject": one.source.decode(),
            "account": one.exporter,
            "to": one.local.decode(),
            "local_subject": one.local.decode(),
            "type": "service",
            **rest,
            "share": one.share,
            "tracking": one.export is not None and one.export.latency is not None,
        }
        for one in services
    ]
