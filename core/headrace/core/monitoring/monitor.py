"""The monitor: which path shows what. Takes requests and gives responses; where they come from is not its business."""

import json
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from headrace.core import limits
from headrace.core.broker import Broker
from headrace.core.monitoring.accountz import accountz, accstatz
from headrace.core.monitoring.connz import connz, subsz
from headrace.core.monitoring.http import Request, Response, text_response
from headrace.core.monitoring.jetstream import JetStreamView
from headrace.core.monitoring.page import Link, page
from headrace.core.monitoring.parameters import BadParameter, Parameters
from headrace.core.monitoring.process import Process
from headrace.core.monitoring.runtime import stacks, variables
from headrace.core.monitoring.texts import uptime
from headrace.core.monitoring.unused import gatewayz, leafz, routez
from headrace.core.monitoring.varz import healthz, jsz, varz

_OPEN_TO_ALL: Final = {"Access-Control-Allow-Origin": "*"}
_LINKS: Final = (
    Link("/varz", "the server: settings, totals, use of the machine"),
    Link("/connz", "connections"),
    Link("/subsz", "subscriptions"),
    Link("/accountz", "accounts"),
    Link("/accstatz", "use of accounts"),
    Link("/jsz", "JetStream"),
    Link("/healthz", "whether all is well"),
    Link("/metrics", "numbers for Prometheus"),
)


class Monitor:
    """Answers requests about one server."""

    def __init__(
        self,
        broker: Broker,
        process: Process,
        *,
        jetstream: JetStreamView | None = None,
        config_digest: str = "",
    ) -> None:
        self.is_listening = True
        self.client_port = broker.options.port
        self.websocket_port = 0 if broker.options.websocket is None else broker.options.websocket.port
        self.http_host = ""
        self.http_port = 0
        self._broker = broker
        self._process = process
        self._jetstream = jetstream
        self.config_digest = config_digest
        base_path = broker.options.monitor_base_path.strip("/")
        self._base_path = f"/{base_path}" if base_path else ""
        self._counts: Counter[str] = Counter()
        self._paths: dict[str, Callable[[Parameters], Response]] = {
            "/varz": self._varz,
            "/connz": lambda parameters: _json(connz(broker, parameters)),
            "/subsz": lambda parameters: _json(subsz(broker, parameters)),
            "/subscriptionsz": lambda parameters: _json(subsz(broker, parameters)),
            "/jsz": lambda parameters: _json(jsz(broker, jetstream, parameters)),
            "/accountz": lambda parameters: _json(accountz(broker, parameters)),
            "/accstatz": lambda parameters: _json(accstatz(broker, (), unused=parameters.boolean("unused"))),
            "/routez": lambda _parameters: _json(routez(broker)),
            "/leafz": lambda _parameters: _json(leafz(broker)),
            "/gatewayz": lambda _parameters: _json(gatewayz(broker)),
            "/ipqueuesz": lambda _parameters: _json({}),
            "/raftz": lambda _parameters: text_response("No Raft nodes registered", HTTPStatus.NOT_FOUND),
            "/stacksz": lambda _parameters: text_response(stacks()),
            "/debug/vars": lambda _parameters: _json(variables(process)),
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        path = request.path
        if self._base_path and path != "/":
            path = path.removeprefix(self._base_path) or "/"
        answer = self._paths.get(path)
        if answer is None and path != "/":
            return text_response("404 page not found\n", HTTPStatus.NOT_FOUND)
        self._counts[path] += 1
        if answer is None:
            # Links are relative, so that they hold behind a proxy; so they depend on where the page was asked for.
            return self._page("" if request.path == f"{self._base_path}/" else self._base_path)
        try:
            return answer(Parameters(request.query))
        except BadParameter as error:
            return text_response(str(error), HTTPStatus.BAD_REQUEST)

    def _varz(self, _parameters: Parameters) -> Response:
        return _json(
            varz(
                self._broker,
                self._process,
                self._jetstream,
                client_port=self.client_port,
                websocket_port=self.websocket_port,
                http_host=self.http_host,
                http_port=self.http_port,
                request_counts=self._counts,
                config_digest=self.config_digest,
            )
        )

    def _metrics(self, _parameters: Parameters) -> Response:
        from headrace.core.monitoring.metrics import CONTENT_TYPE, metrics  # noqa: PLC0415  (only where it is asked for)

        return Response(metrics(self._broker, self._process, self._jetstream), CONTENT_TYPE)

    def _healthz(self, parameters: Parameters) -> Response:
        body, status = healthz(self._jetstream, parameters, is_listening=self.is_listening)
        compact = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return Response(compact, status=status, headers=_OPEN_TO_ALL)

    def _page(self, base_path: str) -> Response:
        broker = self._broker
        stats = broker.stats
        body, _ = healthz(self._jetstream, Parameters({}), is_listening=self.is_listening)
        health = "ok" if body["status"] == "ok" else f"{body['status']}: {body.get('error', '')}"
        facts = (
            ("Name", broker.name),
            ("Version", f"Headrace {broker.facts.version}, compatible with NATS {limits.COMPATIBLE_VERSION}"),
            ("Engine", broker.engine.name),
            ("Health", health),
            ("Up for", uptime(broker.scheduler.now_ns() - broker.start_ns)),
            ("Clients connect to", f"{broker.options.host}, port {self.client_port}"),
            ("Connections", f"{broker.connection_count:,} now, {stats.total_connections:,} in all"),
            ("Subscriptions", f"{broker.engine.subscription_count:,}"),
            ("Messages received", f"{stats.in_messages:,} ({stats.in_bytes:,} bytes)"),
            ("Messages sent", f"{stats.out_messages:,} ({stats.out_bytes:,} bytes)"),
            ("Slow consumers", f"{stats.slow_consumers:,}"),
            ("JetStream", "off" if self._jetstream is None else "on"),
        )
        links = tuple(Link(base_path + link.path, link.says) for link in _LINKS)
        html = page(f"Headrace: {broker.name}", facts, links)
        return Response(html.encode(), "text/html; charset=utf-8", headers={"Cache-Control": "no-store"})


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body, indent=2, ensure_ascii=False).encode(), headers=_OPEN_TO_ALL)
