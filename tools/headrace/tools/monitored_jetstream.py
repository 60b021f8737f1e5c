"""JetStream as core's monitoring asks for it: the two do not know each other, so they meet here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headrace.core.monitoring.jetstream import HealthOptions, HealthProblem, JszOptions
from headrace.jetstream import monitoring
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.service import JetStream

if TYPE_CHECKING:
    from headrace.storage.scrub import ScrubState
    from headrace.storage.store import FileStore


class MonitoredJetStream:
    """A `JetStreamView` of one server's JetStream, and of the streams that its store could not open."""

    def __init__(self, jetstream: JetStream, store: "FileStore | None" = None) -> None:
        self._jetstream = jetstream
        self._store = store
        self._unreadable: Sequence[tuple[str, str]] = () if store is None else store.unreadable

    def jsz(self, options: JszOptions) -> dict[str, Any]:
        body = monitoring.jsz(
            self._jetstream,
            account=options.account,
            with_accounts=options.accounts,
            with_streams=options.streams,
            with_consumers=options.consumers,
            with_config=options.config,
            offset=options.offset,
            limit=options.limit,
        )
        if self._store is not None:
            body["scrub"] = _scrub_fields(self._store.scrub_state)
        return body

    def sync_times(self) -> tuple[Sequence[tuple[float, int]], float] | None:
        if self._store is None:
            return None
        times = self._store.sync_times
        return times.buckets(), times.sum_s

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
            if self._store is not None and self._store.is_full:
                shown.append(HealthProblem("JETSTREAM", "the disk is full: publishes are refused"))
            if self._store is not None and self._store.rebuilding:
                text = f"lookup indexes being built again: {self._store.rebuilding}"
                shown.append(HealthProblem("JETSTREAM", text, status=200))
        return shown


def _scrub_fields(state: "ScrubState") -> dict[str, Any]:
    """Show what the background check of what is stored has done."""
    fields: dict[str, Any] = {
        "rate": state.rate,
        "passes": state.passes,
        "segments": state.segments,
        "bytes": state.size,
        "findings": state.findings,
    }
    if state.pass_ended_ns:
        fields["last_pass"] = encode_time(state.pass_ended_ns)
    if state.finding_ns:
        fields["last_finding"] = encode_time(state.finding_ns)
    return fields
