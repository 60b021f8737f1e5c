"""Putting the system account together: its events and the requests that it answers."""

from headrace.core.broker import Broker
from headrace.core.monitoring.jetstream import JetStreamView
from headrace.core.monitoring.process import Process
from headrace.core.system.events import Events
from headrace.core.system.facts import ServerInfo
from headrace.core.system.requests import SystemRequests


def open_system_account(broker: Broker, process: Process, jetstream: JetStreamView | None) -> SystemRequests:
    """Let the system account hear of this server, and ask it."""
    info = ServerInfo(broker)
    broker.tracer.describe_server = info
    events = Events(broker, info, process, jetstream)
    broker.observe(events)
    return SystemRequests(broker, info, events, process, jetstream)
