"""/varz, /jsz and /healthz: the server as a whole.

Source: the reference server 2.15's monitoring, probed. `version` is the reference release that we are compatible
with, as clients and tools compare it; our own stands beside it as `headrace`. Blocks of features that this version
lacks are there and empty, as with a reference server that does not use them.
"""

from http import HTTPStatus
from platform import python_version
from typing import Any, Final

from headrace.core import limits
from headrace.core.base.clock import NS_PER_S
from headrace.core.broker import Broker
from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JetStreamView, JszOptions
from headrace.core.monitoring.parameters import Page, Parameters
from headrace.core.monitoring.process import Process
from headrace.core.monitoring.texts import timestamp, uptime
from headrace.core.options import TlsOptions, WebsocketOptions

_STATS: Final = ("memory", "storage", "reserved_memory", "reserved_storage", "accounts", "ha_assets", "api")
_NO_STATS: Final[dict[str, Any]] = {
    "memory": 0,
    "storage": 0,
    "reserved_memory": 0,
    "reserved_storage": 0,
    "accounts": 0,
    "ha_assets": 0,
    "api": {"level": 0, "total": 0, "errors": 0},
}


def varz(
    broker: Broker,
    process: Process,
    jetstream: JetStreamView | None,
    *,
    client_port: int,
    websocket_port: int = 0,
    http_host: str,
    http_port: int,
    request_counts: dict[str, int],
    config_digest: str,
) -> dict[str, Any]:
    """Give the body of /varz."""
    options, stats = broker.options, broker.stats
    now_ns = broker.scheduler.now_ns()
    shown: dict[str, Any] = {
        "server_id": broker.id,
        "server_name": broker.name,
        "version": limits.COMPATIBLE_VERSION,
        "headrace": broker.facts.version,
        "headrace_engine": broker.engine.name,
        "proto": limits.PROTOCOL_VERSION,
        "go": f"python{python_version()}",
        "host": options.host,
        "port": client_port,
    }
    if broker.facts.auth_required:
        shown["auth_required"] = True
    if options.tls is not None:
        required = {
            "tls_required": not options.allow_non_tls or options.tls.handshake_first,
            "tls_verify": options.tls.verify,
        }
        shown |= {name: True for name, is_so in required.items() if is_so}
    if broker.facts.connect_urls:
        shown["connect_urls"] = broker.facts.connect_urls
    shown["max_connections"] = options.max_connections
    if options.max_subscriptions > 0:
        shown["max_subscriptions"] = options.max_subscriptions
    shown |= {
        "ping_interval": options.ping_interval_ns,
        "ping_max": options.ping_max,
        "http_host": http_host,
        "http_port": 0 if options.monitor_is_tls else http_port,
        "http_base_path": options.monitor_base_path,
        "https_port": http_port if options.monitor_is_tls else 0,
        "auth_timeout": _seconds(options.auth_timeout_ns),
        "max_control_line": options.max_control_line,
        "max_payload": options.max_payload,
        "max_pending": options.max_pending,
        "cluster": {},
        "gateway": {},
        "leaf": {},
        "mqtt": {},
        "websocket": _websocket(options.websocket, websocket_port),
        "jetstream": {} if jetstream is None else _jetstream(jetstream),
        "tls_timeout": _seconds((options.tls or TlsOptions()).timeout_ns),
        "write_deadline": options.write_deadline_ns,
        "start": timestamp(broker.start_ns),
        "now": timestamp(now_ns),
        "uptime": uptime(now_ns - broker.start_ns),
        "mem": process.memory_size,
        "cores": process.core_count,
        "gomaxprocs": 1,
        "cpu": process.cpu_percent(),
        "connections": broker.connection_count,
        "total_connections": stats.total_connections,
        "routes": 0,
        "remotes": 0,
        "leafnodes": 0,
        "in_msgs": stats.in_messages,
        "in_bytes": stats.in_bytes,
        "in_client_msgs": stats.in_messages,
        "in_client_bytes": stats.in_bytes,
        "out_msgs": stats.out_messages,
        "out_bytes": stats.out_bytes,
        "out_client_msgs": stats.out_messages,
        "out_client_bytes": stats.out_bytes,
        "slow_consumers": stats.slow_consumers,
        "stale_connections": stats.stale_connections,
        "stalled_clients": stats.stalled_clients,
        "subscriptions": broker.engine.subscription_count,
        "http_req_stats": dict(sorted(request_counts.items())),
        "config_load_time": timestamp(broker.loaded_ns),
        "config_digest": config_digest,
    }
    if options.tags:
        shown["tags"] = list(options.tags)
    if options.metadata:
        shown["metadata"] = options.metadata
    nobody = {"clients": 0, "routes": 0, "gateways": 0, "leafs": 0}
    return shown | {
        "system_account": options.system_account,
        "slow_consumer_stats": nobody | {"clients": stats.slow_consumers},
        "stale_connection_stats": nobody | {"clients": stats.stale_connections},
    }


def _seconds(duration_ns: int) -> float | int:
    whole, rest = divmod(duration_ns, NS_PER_S)
    return duration_ns / NS_PER_S if rest else whole


def _websocket(block: WebsocketOptions | None, port: int) -> dict[str, Any]:
    if block is None:
        return {}
    shown: dict[str, Any] = {
        "host": block.host,
        "port": port,
        "advertise": block.advertise,
        "no_auth_user": block.no_auth_user,
        "jwt_cookie": block.jwt_cookie,
        "handshake_timeout": block.handshake_timeout_ns,
        "auth_timeout": _seconds(block.auth_timeout_ns),
        "no_tls": block.tls is None,
        "tls_map": block.tls is not None and block.tls.map_users,
        "same_origin": block.same_origin,
        "allowed_origins": list(block.allowed_origins),
        "compression": block.compression,
    }
    return {name: value for name, value in shown.items() if value}


def _jetstream(jetstream: JetStreamView) -> dict[str, Any]:
    body = jetstream.jsz(JszOptions())
    return {
        "config": body.get("config", {}),
        "stats": {name: body[name] for name in _STATS if name in body},
        "limits": body.get("limits", {}),
    }


def jsz(broker: Broker, jetstream: JetStreamView | None, parameters: Parameters) -> dict[str, Any]:
    """Give the body of /jsz; raises BadParameter."""
    with_consumers = parameters.boolean("consumers")
    with_streams = parameters.boolean("streams") or with_consumers
    account = parameters.text("acc")
    page = Page(parameters)
    options = JszOptions(
        account=account,
        accounts=parameters.boolean("accounts") or with_streams or bool(account),
        streams=with_streams,
        consumers=with_consumers,
        config=parameters.boolean("config"),
        offset=page.offset,
        limit=page.limit,
    )
    about = {"server_id": broker.id, "now": timestamp(broker.scheduler.now_ns())}
    if jetstream is None:
        nothing = {"disabled": True, "streams": 0, "consumers": 0, "messages": 0, "bytes": 0, "total": 0}
        return _NO_STATS | about | nothing
    body = jetstream.jsz(options)
    statistics = {name: body[name] for name in _STATS if name in body}
    return statistics | about | {name: value for name, value in body.items() if name not in statistics}


def healthz(
    jetstream: JetStreamView | None, parameters: Parameters, *, is_listening: bool
) -> tuple[dict[str, Any], HTTPStatus]:
    """Give the body and the status of /healthz; raises BadParameter.

    With `js-enabled-only`, only whether JetStream runs is asked; with `js-server-only`, no stream is looked at.
    """
    enabled_only = parameters.boolean("js-enabled-only") or parameters.boolean("js-enabled")
    server_only = parameters.boolean("js-server-only")
    with_details = parameters.boolean("details")
    options = HealthOptions(
        account=parameters.text("account"),
        stream=parameters.text("stream"),
        consumer=parameters.text("consumer"),
        is_server_only=server_only,
    )
    problem = _misasked(options)
    if problem is not None:
        return _unhealthy([problem], with_details=with_details)
    if not is_listening:
        closed = HealthProblem("CONNECTION", "not listening for client connections", status=500)
        return _unhealthy([closed], with_details=with_details)
    if jetstream is None or enabled_only:
        return {"status": "ok"}, HTTPStatus.OK
    found = list(jetstream.problems(options))
    problems = [problem for problem in found if problem.status != HTTPStatus.OK]
    if problems:
        return _unhealthy(problems, with_details=with_details)
    body: dict[str, Any] = {"status": "ok"}
    if found:
        # Ours: what no restart mends, so it must not take the server out of service.
        body["warnings"] = [
            {"type": problem.kind, **problem.names, "warning": problem.text} for problem in found
        ]
    return body, HTTPStatus.OK


def _misasked(options: HealthOptions) -> HealthProblem | None:
    if options.stream and not options.account:
        text = '"account" must not be empty when checking stream health'
    elif options.consumer and not options.stream:
        text = '"stream" must not be empty when checking consumer health'
    else:
        return None
    return HealthProblem("BAD_REQUEST", text, status=400)


def _unhealthy(problems: list[HealthProblem], *, with_details: bool) -> tuple[dict[str, Any], HTTPStatus]:
    first = problems[0]
    status = HTTPStatus(first.status)
    if with_details:
        errors = [{"type": problem.kind, **problem.names, "error": problem.text} for problem in problems]
        return {"status": "error", "errors": errors}, status
    word = "error" if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR} else "unavailable"
    return {"status": word, "error": first.text}, status
