"""/metrics: the numbers of monitoring as Prometheus reads them.

Counters begin anew with the process. Streams and consumers are labelled by account and name; nothing here comes from
a client's credentials. Imported when somebody asks for it: `prometheus_client` takes its time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from headrace.core.broker import Broker
from headrace.core.monitoring.jetstream import HealthOptions, JetStreamView, JszOptions
from headrace.core.monitoring.process import Process

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_STREAM: Final = ("account", "stream")
_CONSUMER: Final = ("account", "stream", "consumer")
_STREAM_GAUGES: Final[Mapping[str, str]] = {
    "messages": "Messages that a stream holds",
    "bytes": "Bytes that a stream holds",
    "first_seq": "First sequence of a stream",
    "last_seq": "Last sequence of a stream",
    "consumer_count": "Consumers of a stream",
}
_CONSUMER_GAUGES: Final[Mapping[str, str]] = {
    "num_pending": "Messages that a consumer has yet to deliver",
    "num_ack_pending": "Messages that were delivered and not acknowledged",
    "num_redelivered": "Messages that were delivered more than once and not acknowledged",
    "num_waiting": "Requests that wait for messages",
}
_EVERYTHING: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class _Server(Collector):
    """Collects one server's numbers when they are asked for."""

    broker: Broker
    process: Process
    jetstream: JetStreamView | None

    def collect(self) -> Iterator[Metric]:
        yield from self._broker_series()
        if self.jetstream is not None:
            yield from _jetstream_series(self.jetstream)

    def _broker_series(self) -> Iterator[Metric]:
        broker, stats = self.broker, self.broker.stats
        info = {"server_id": broker.id, "server_name": broker.name, "version": broker.facts.version}
        yield InfoMetricFamily("headrace_server", "The server", value={**info, "engine": broker.engine.name})
        for name, text, value in (
            ("start_time_seconds", "When the server started", broker.start_ns / 1e9),
            ("config_load_time_seconds", "When the configuration was read", broker.loaded_ns / 1e9),
            ("memory_bytes", "Resident memory", self.process.memory_size),
            ("cpu_percent", "Use of processors, 100 for one", self.process.cpu_percent()),
            ("connections", "Open client connections", broker.connection_count),
            ("subscriptions", "Subscriptions", broker.engine.subscription_count),
        ):
            yield GaugeMetricFamily(f"headrace_{name}", text, value=value)
        for name, text, value in (
            ("connections_accepted", "Client connections since the start", stats.total_connections),
            ("messages_received", "Messages from clients", stats.in_messages),
            ("bytes_received", "Bytes of messages from clients", stats.in_bytes),
            ("messages_sent", "Messages to clients", stats.out_messages),
            ("bytes_sent", "Bytes of messages to clients", stats.out_bytes),
            ("slow_consumers", "Clients closed as they read too slowly", stats.slow_consumers),
            ("stale_connections", "Clients closed as they did not answer", stats.stale_connections),
            (
                "stalled_publishers",
                "Times that a publisher waited for its subscribers",
                stats.stalled_clients,
            ),
        ):
            yield CounterMetricFamily(f"headrace_{name}", text, value=value)


def _jetstream_series(jetstream: JetStreamView) -> Iterator[Metric]:
    body = jetstream.jsz(JszOptions(accounts=True, streams=True, consumers=True, limit=_EVERYTHING))
    for name in ("memory", "storage", "streams", "consumers", "messages", "bytes"):
        yield GaugeMetricFamily(f"headrace_jetstream_{name}", f"JetStream's {name} in all", value=body[name])
    yield CounterMetricFamily("headrace_jetstream_api_requests", "API requests", value=body["api"]["total"])
    yield CounterMetricFamily(
        "headrace_jetstream_api_errors", "Refused API requests", value=body["api"]["errors"]
    )
    times = jetstream.sync_times()
    if times is not None:
        yield HistogramMetricFamily(
            "headrace_sync_seconds",
            "What the disk took to write and sync a batch",
            buckets=[("+Inf" if bound == float("inf") else f"{bound:g}", count) for bound, count in times[0]],
            sum_value=times[1],
        )
    problems = jetstream.problems(HealthOptions())
    yield GaugeMetricFamily(
        "headrace_jetstream_problems", "What /healthz names, warnings included", value=len(problems)
    )
    streams = [
        ((account["name"], stream["name"]), stream)
        for account in body["account_details"]
        for stream in account["stream_detail"]
    ]
    states = [(labels, stream["state"]) for labels, stream in streams]
    yield from _gauges("stream", _STREAM, _STREAM_GAUGES, states)
    consumers = [
        ((*labels, consumer["name"]), consumer)
        for labels, stream in streams
        for consumer in stream["consumer_detail"]
    ]
    yield from _gauges("consumer", _CONSUMER, _CONSUMER_GAUGES, consumers)


def _gauges(
    kind: str,
    label_names: tuple[str, ...],
    gauges: Mapping[str, str],
    found: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]],
) -> Iterator[Metric]:
    listed = list(found)
    for field, text in gauges.items():
        family = GaugeMetricFamily(f"headrace_{kind}_{field}", text, labels=label_names)
        for labels, values in listed:
            family.add_metric(labels, values[field])
        yield family


def metrics(broker: Broker, process: Process, jetstream: JetStreamView | None) -> bytes:
    """Give the body of /metrics."""
    registry = CollectorRegistry()
    registry.register(_Server(broker, process, jetstream))
    return generate_latest(registry)
