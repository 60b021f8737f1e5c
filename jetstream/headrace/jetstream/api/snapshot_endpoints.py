"""STREAM.SNAPSHOT and STREAM.RESTORE: the requests that begin a transfer, and the advisories around it.

Source: the JetStream API reference, section 2.8.
"""

from typing import Any, Final

from headrace.core.subject import has_wildcard, is_valid
from headrace.jetstream import error_table
from headrace.jetstream.api.request import ApiRequest, Body, Endpoint
from headrace.jetstream.consumers.registry import Consumers, consumers_of
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.mirrors.rules import with_origins
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.models.wire import WireModel
from headrace.jetstream.snapshots.restoring import Restoring
from headrace.jetstream.snapshots.sending import Sending, SnapshotRequest
from headrace.jetstream.streams.info import stream_state
from headrace.jetstream.streams.lifecycle import check_admission
from headrace.jetstream.streams.rules import checked
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import StorageError

_TYPE: Final = "io.nats.jetstream.advisory.v1."


class RestoreRequest(WireModel):
    """The body of STREAM.RESTORE; `state` is told for the operator, and nothing follows from it."""

    config: StreamConfig | None = None
    state: dict[str, Any] | None = None


class SnapshotEndpoints:
    """The handlers."""

    def __init__(self, context: Context, consumers: Consumers) -> None:
        self._context = context
        self._consumers = consumers

    def snapshot(self, request: ApiRequest) -> dict[str, Any]:
        stream = request.account.stream(request.tokens[2])
        asked = request.decode(SnapshotRequest)
        subject = asked.deliver_subject.encode()
        if not is_valid(subject) or has_wildcard(subject):
            raise ApiError(error_table.SNAPSHOT_DELIVER_SUBJECT_INVALID)
        consumers: list[Any] = []
        for consumer in () if asked.no_consumers else consumers_of(stream):
            record = consumer.record()
            consumers.append([record.name, record.config, record.register.numbers, record.register.rows])
        state = stream_state(stream)
        start = encode_time(self._context.scheduler.now_ns())

        def ended(error: str) -> None:
            done = {
                "stream": stream.name,
                "start": start,
                "end": encode_time(self._context.scheduler.now_ns()),
            }
            self._advise(
                stream.account.name,
                stream.name,
                "snapshot_complete",
                done | ({"error": error} if error else {}),
            )

        def begin() -> None:
            self._advise(
                stream.account.name, stream.name, "snapshot_create", {"stream": stream.name, "state": state}
            )
            Sending(stream, asked, consumers, ended)

        def answered(_: StorageError | None) -> None:
            scheduler = self._context.scheduler
            scheduler.call_at(
                scheduler.monotonic_ns(), begin
            )  # behind the answer, which waits for the same sync

        self._context.store.after_sync(answered)
        return {"config": stream.config.fields(), "state": state}

    def restore(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode(RestoreRequest)
        account, name = request.account, request.tokens[2]
        if asked.config is None:
            raise ApiError(error_table.BAD_REQUEST)
        if asked.config.name not in ("", name):
            raise ApiError(error_table.STREAM_MISMATCH)
        if name in account.streams or name in account.offline:
            raise ApiError(error_table.STREAM_NAME_EXIST_RESTORE_FAILED)
        config = with_origins(account.streams, checked(asked.config.replaced(name=name)), is_pedantic=False)
        check_admission(account, config)
        start = encode_time(self._context.scheduler.now_ns())

        def ended(_: Stream | None, size: int) -> None:
            end = encode_time(self._context.scheduler.now_ns())
            body = {"stream": name, "start": start, "end": end, "bytes": size}
            self._advise(account.name, name, "restore_complete", body)

        restoring = Restoring(self._context, account, config, self._consumers.attach, ended)
        self._advise(account.name, name, "restore_create", {"stream": name})
        return {"deliver_subject": restoring.subject}

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Give the table."""
        no_subject = {"deliver_subject": ""}
        return (
            Endpoint("STREAM.SNAPSHOT.*", "stream_snapshot_response", self.snapshot, Body.NEEDED),
            Endpoint("STREAM.RESTORE.*", "stream_restore_response", self.restore, Body.NEEDED, no_subject),
        )

    def _advise(self, account: str, name: str, kind: str, body: dict[str, Any]) -> None:
        subject = b"$JS.EVENT.ADVISORY.STREAM.%b.%b" % (kind.upper().encode(), name.encode())
        self._context.advise(account, subject, {"type": _TYPE + kind} | body)
