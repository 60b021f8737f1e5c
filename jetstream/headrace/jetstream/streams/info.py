"""What is said about a stream: StreamInfo and its parts.

Source: the JetStream API reference, section 2.3, and the streams reference, section 4.
"""

from typing import TYPE_CHECKING, Any, Final

from headrace.jetstream.levels import shown_metadata
from headrace.jetstream.models.times import encode_time

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

DETAILS_MAX: Final = 1_000_000
"""The most single sequences (deleted or lost) that one answer lists."""


def stream_state(
    stream: "Stream", *, with_deleted: bool = False, with_subjects: bool = True
) -> dict[str, Any]:
    """Give `state`. Raises IndexRebuilding where it is asked for `with_subjects`."""
    head = stream.log.head
    state: dict[str, Any] = {
        "messages": head.messages,
        "bytes": head.size,
        "first_seq": head.first_sequence or stream.config.first_seq,
        "first_ts": encode_time(head.first_time_ns if head.messages else 0),
        "last_seq": head.last_sequence,
        "last_ts": encode_time(head.last_time_ns),
    }
    if with_subjects and head.subject_count:
        state["num_subjects"] = head.subject_count
    if head.deleted_count:
        state["num_deleted"] = head.deleted_count
        if with_deleted:
            state["deleted"] = _expanded(stream.log.deleted())
    if head.lost:
        state["lost"] = {"msgs": _expanded(head.lost), "bytes": 0}
    state["consumer_count"] = len(stream.consumers)
    return state


def _expanded(ranges: Any) -> list[int]:  # noqa: ANN401
    sequences: list[int] = []
    for first, last in ranges:
        sequences.extend(range(first, min(last, first + DETAILS_MAX - len(sequences) - 1) + 1))
        if len(sequences) >= DETAILS_MAX:
            break
    return sequences


def stream_info(
    stream: "Stream", *, with_version: bool = True, with_place: bool = False, with_deleted: bool = False
) -> dict[str, Any]:
    """Give StreamInfo. `with_version`: metadata as most answers show it; `with_place`: cluster and domain."""
    context = stream.context
    config = stream.config.fields()
    if with_version:
        config["metadata"] = shown_metadata(stream.config.metadata, context.version)
    info: dict[str, Any] = {
        "config": config,
        "created": encode_time(stream.created_ns),
        "state": stream_state(stream, with_deleted=with_deleted),
    }
    if with_place:
        if context.options.domain:
            info["domain"] = context.options.domain
        info["cluster"] = {"leader": context.server_name}
    info |= stream.upstreams.info()
    info["ts"] = encode_time(context.scheduler.now_ns())
    return info
