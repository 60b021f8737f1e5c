"""What every message of the system account says of its server, and of an account's connections."""

import itertools
from typing import Any

from headrace.core import limits
from headrace.core.accounts import Account
from headrace.core.broker import Broker
from headrace.core.monitoring.jetstream import JetStreamView, JszOptions
from headrace.core.monitoring.process import Process
from headrace.core.monitoring.texts import timestamp

_JETSTREAM_FLAG = 1
_JETSTREAM_STATISTICS = (
    "memory",
    "storage",
    "reserved_memory",
    "reserved_storage",
    "accounts",
    "ha_assets",
    "api",
)
_NOTHING_ELSEWHERE = {
    "gateways": {"msgs": 0, "bytes": 0},
    "routes": {"msgs": 0, "bytes": 0},
    "leafs": {"msgs": 0, "bytes": 0},
}


class ServerInfo:
    """The server as it presents itself; each presentation has the next number."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sequence = itertools.count(1)

    def __call__(self) -> dict[str, Any]:
        broker = self._broker
        facts = broker.facts
        shown: dict[str, Any] = {"name": broker.name, "host": broker.options.host, "id": broker.id}
        if facts.domain:
            shown["domain"] = facts.domain
        shown["ver"] = limits.COMPATIBLE_VERSION
        if broker.options.tags:
            shown["tags"] = list(broker.options.tags)
        if broker.options.metadata:
            shown["metadata"] = broker.options.metadata
        return shown | {
            "jetstream": facts.jetstream,
            "flags": _JETSTREAM_FLAG if facts.jetstream else 0,
            "seq": next(self._sequence),
            "time": timestamp(broker.scheduler.now_ns()),
        }

    def event(self, kind: str, **fields: object) -> dict[str, Any]:
        """Give an event of the system account."""
        broker = self._broker
        return {
            "type": f"io.nats.server.advisory.v1.{kind}",
            "id": broker.chance.nuid(),
            "timestamp": timestamp(broker.scheduler.now_ns()),
            "server": self(),
            **fields,
        }


def account_statistics(broker: Broker, account: Account) -> dict[str, Any]:
    """Give an account's connections and what they sent and received; `sent` is the server's view."""
    sessions = [session for session in broker.sessions if session.account is account]
    connections = [session.connection for session in sessions]
    gone = account.gone
    return {
        "acc": account.name,
        "name": account.options.name_tag or account.name,
        "conns": len(sessions),
        "leafnodes": 0,
        "total_conns": len(sessions),
        "num_subscriptions": sum(one.subscription_count for one in connections),
        "sent": {
            "msgs": gone.out_messages + sum(one.out_messages for one in connections),
            "bytes": gone.out_bytes + sum(one.out_bytes for one in connections),
            **_NOTHING_ELSEWHERE,
        },
        "received": {
            "msgs": gone.in_messages + sum(one.in_messages for one in connections),
            "bytes": gone.in_bytes + sum(one.in_bytes for one in connections),
            **_NOTHING_ELSEWHERE,
        },
        "slow_consumers": account.slow_consumer_count,
    }


def statsz(broker: Broker, process: Process, jetstream: JetStreamView | None) -> dict[str, Any]:
    """Give the server's statistics as it publishes them."""
    stats = broker.stats
    sent = {"msgs": stats.out_messages, "bytes": stats.out_bytes}
    received = {"msgs": stats.in_messages, "bytes": stats.in_bytes}
    shown: dict[str, Any] = {
        "start": timestamp(broker.start_ns),
        "mem": process.memory_size,
        "cores": process.core_count,
        "cpu": process.cpu_percent(),
        "connections": broker.connection_count,
        "total_connections": stats.total_connections,
        "active_accounts": sum(account.connection_count > 0 for account in broker.accounts),
        "subscriptions": broker.engine.subscription_count,
        "sent": sent,
        "sent_to_clients": sent,
        "received": received,
        "received_from_clients": received,
        "slow_consumers": stats.slow_consumers,
        "active_servers": 1,
    }
    troubles = {"stale_connections": stats.stale_connections, "stalled_clients": stats.stalled_clients}
    shown |= {name: count for name, count in troubles.items() if count}
    if jetstream is not None:
        body = jetstream.jsz(JszOptions())
        config = {name: value for name, value in body.get("config", {}).items() if name != "store_dir"}
        shown["jetstream"] = {
            "config": config,
            "stats": {name: body[name] for name in _JETSTREAM_STATISTICS if name in body},
            "limits": body.get("limits", {}),
        }
    return shown
