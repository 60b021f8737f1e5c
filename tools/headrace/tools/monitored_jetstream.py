"""JetStream as core's monitoring asks for it: the two do not know each other, so they meet here."""

from collections.abc import Sequence
from typing import Any

from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JszOptions
from headrace.jetstream import monitoring
from headrace.jetstream.service import JetStream


class MonitoredJetStream:
    """A `JetStreamView` of one server's JetStream, and of the streams that its store could not open."""

    def __init__(self, jetstream: JetStream, unreadable: Sequence[tuple[str, str]] = ()) -> None:
        self._jetstream = jetstream
        self._unreadable = unreadable

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        return monitoring.jsz(
            self._jetstream,
            account=options.account,
            with_accounts=options.accounts,
            with_streams=options.streams,
            with_consumers=options.consumers,
            with_config=options.config,
            offset=options.offset,
            limit=options.limit,
        )

    def problems(self, options: HealthOptions) -> Sequence[HealthProblem]:
        found = monitoring.problems(
            self._jetstream,
            account=options.account,
            stream=options.stream,
            consumer=options.consumer,
            is_server_only=options.is_server_only,
        )
        shown = [HealthProblem(each.kind, each.text, each.names, each.status) for each in found]
        if not (options.account or options.is_server_only):
            shown += [
                HealthProblem("STREAM", f"the stream in {folder} stays closed: {reason}")
                for folder, reason in self._unreadable
            ]
        return shown
