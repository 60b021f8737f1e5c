"""Latency of services: which requests are measured, and what is published about one.

An export says of how many requests, in percent; a request that is not drawn is measured if its headers carry a trace
that is sampled: Jaeger's `Uber-Trace-Id`, Zipkin's `X-B3-*` and `b3`, or W3C's `traceparent`.

Source: the NATS server 2.15's service latency, probed.
"""

from typing import Any

from headrace.core import headers as header_block
from headrace.core.base.chance import Chance
from headrace.core.exports import SAMPLING_ALL, Latency
from headrace.core.imports.responses import Tracking
from headrace.core.monitoring.texts import timestamp

__all__ = ["Latency", "measured", "sample"]

_TYPE = "io.nats.server.metric.v1.service_latency"
_DESCRIPTIONS = {
    400: "Bad Request",
    408: "Request Timeout",
    503: "Service Unavailable",
    504: "Service Timeout",
}


def sample(asked: Latency, block: bytes, chance: Chance) -> dict[str, list[str]] | None:
    """Tell whether to measure a request, and give the headers that asked for it; None: it is not measured."""
    if asked.sampling >= SAMPLING_ALL:
        return {}
    if asked.sampling > 0 and chance.below(SAMPLING_ALL) < asked.sampling:
        return {}
    parsed = header_block.parse(block) if block else None
    if parsed is None:
        return None
    found: dict[str, list[str]] = {}
    for name, value in parsed.fields:
        found.setdefault(name.decode(errors="replace"), []).append(value.decode(errors="replace"))
    return _sampled(found)


def _sampled(found: dict[str, list[str]]) -> dict[str, list[str]] | None:
    if "Uber-Trace-Id" in found:
        parts = found["Uber-Trace-Id"][0].split(":")
        if len(parts) != 4 or not _is_odd(parts[3]):
            return None
        return {
            name: values
            for name, values in found.items()
            if name == "Uber-Trace-Id" or name.startswith("Uberctx-")
        }
    b3: dict[str, list[str]] = {
        name: found[name]
        for name in ("X-B3-Sampled", "X-B3-TraceId", "X-B3-ParentSpanId", "X-B3-SpanId")
        if name in found
    }
    drawn = found.get("X-B3-Sampled", [""])[0]
    if drawn:
        return b3 if drawn == "1" else None
    if "X-B3-TraceId" in found:
        return b3
    if "B3" in found or "b3" in found:
        name = "B3" if "B3" in found else "b3"
        parts = found[name][0].split("-")
        is_denied = (len(parts) > 2 and parts[2] == "0") or parts == ["0"]
        return None if is_denied else {name: found[name]}
    if "traceparent" in found or "Traceparent" in found:
        name = "traceparent" if "traceparent" in found else "Traceparent"
        parts = found[name][0].split("-")
        if len(parts) == 4 and len(parts[3]) == 2 and _is_odd(parts[3]):
            return {key: found[key] for key in (name, "tracestate", "Tracestate") if key in found}
    return None


def _is_odd(flags: str) -> bool:
    try:
        return 0 < len(flags) <= 2 and int(flags, 16) & 1 == 1
    except ValueError:
        return False


def measured(
    tracking: Tracking,
    status: int,
    responder: dict[str, Any] | None,
    responder_rtt_ns: int,
    *,
    now_ns: int,
    event_id: str,
) -> dict[str, Any]:
    """Give the message about one request."""
    body: dict[str, Any] = {
        "type": _TYPE,
        "id": event_id,
        "timestamp": timestamp(now_ns),
        "status": status,
    }
    if status in _DESCRIPTIONS:
        body["description"] = _DESCRIPTIONS[status]
    if tracking.requestor:
        body["requestor"] = tracking.requestor
    if responder is not None:
        body["responder"] = responder
    if tracking.headers:
        body["header"] = tracking.headers
    body["start"] = timestamp(tracking.start_ns - tracking.requestor_rtt_ns)
    service_ns = total_ns = 0
    if status == 200:
        passed_ns = now_ns - tracking.start_ns
        service_ns = max(0, passed_ns - responder_rtt_ns)
        total_ns = passed_ns + tracking.requestor_rtt_ns
    return body | {"service": service_ns, "system": 0, "total": total_ns}
