"""What monitoring shows of features that join servers: there are none of these connections, and it says so.

Source: the reference server 2.15's /routez, /leafz and /gatewayz where it uses none of them, probed.
"""

from typing import Any

from headrace.core.broker import Broker
from headrace.core.monitoring.texts import timestamp


def _about(broker: Broker) -> dict[str, Any]:
    return {"server_id": broker.id, "now": timestamp(broker.scheduler.now_ns())}


def routez(broker: Broker) -> dict[str, Any]:
    """Give the body of /routez."""
    about = _about(broker)
    return {
        "server_id": about["server_id"],
        "server_name": broker.name,
        "now": about["now"],
        "num_routes": 0,
        "routes": [],
    }


def leafz(broker: Broker) -> dict[str, Any]:
    """Give the body of /leafz."""
    return {**_about(broker), "leafnodes": 0, "leafs": []}


def gatewayz(broker: Broker) -> dict[str, Any]:
    """Give the body of /gatewayz."""
    return {**_about(broker), "outbound_gateways": {}, "inbound_gateways": {}}
