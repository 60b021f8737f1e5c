"""What the stream part of the API does: one function an endpoint, and the table of them at the end.

Source: the JetStream API reference, sections 2.1 to 2.10.
"""

import base64
from typing import Any, Final

from headrace.core.base.message import View
from headrace.core.subject import overlaps
from headrace.jetstream import error_table
from headrace.jetstream.accounts import AccountState
from headrace.jetstream.api.dispatcher import page
from headrace.jetstream.api.request import ApiRequest, Body, Endpoint
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.levels import API_LEVEL
from headrace.jetstream.mirrors.rules import with_origins
from headrace.jetstream.models.stream_api import (
    InfoRequest,
    MessageDeleteRequest,
    MessageGetRequest,
    NamesRequest,
    PurgeRequest,
    StreamRequest,
)
from headrace.jetstream.models.times import encode_time, parse_time
from headrace.jetstream.streams.info import stream_info
from headrace.jetstream.streams.lifecycle import create_stream, delete_stream, update_stream
from headrace.jetstream.streams.lookup import last_message, message_at, walk
from headrace.jetstream.streams.rules import checked
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import CorruptRecord

NAMES_LIMIT: Final = 1024
LIST_LIMIT: Final = 256
SUBJECTS_LIMIT: Final = 100_000
_NO_PAGE: Final = {"total": 0, "offset": 0, "limit": 0}


class StreamEndpoints:
    """The handlers; what they need beyond the request is the context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # account

    def account_info(self, request: ApiRequest) -> dict[str, Any]:
        info = account_totals(request.account)
        if self._context.options.domain:
            info["domain"] = self._context.options.domain
        account = request.account
        info["api"] = {"level": API_LEVEL, "total": account.api_total, "errors": account.api_errors}
        return info

    # streams

    def create(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode(StreamRequest)
        _check_name(request, asked.name)
        stream = create_stream(self._context, request.account, asked.config(), is_pedantic=asked.pedantic)
        return stream_info(stream) | {"did_create": True}

    def update(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode(StreamRequest)
        config = checked(asked.config(), is_pedantic=asked.pedantic)
        with_origins(request.account.streams, config, is_pedantic=asked.pedantic)
        config = checked(config)  # what the first look has switched on must go together too
        _check_name(request, asked.name)
        stream = request.account.stream(request.tokens[2])
        update_stream(stream, config)
        return stream_info(stream) | _domain(self._context)

    def names(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(NamesRequest)
        names = [stream.name for stream in _selected(request.account, asked.subject)]
        paging, part = page(len(names), asked.offset, NAMES_LIMIT)
        return paging | {"streams": names[part] or None}

    def list(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(NamesRequest)
        streams = _selected(request.account, asked.subject)
        paging, part = page(len(streams), asked.offset, LIST_LIMIT)
        domain = _domain(self._context)
        found: dict[str, Any] = dict(paging)
        found["streams"] = [stream_info(each, with_version=False) | domain for each in streams[part]]
        offline = request.account.offline
        if offline:
            found["missing"] = sorted(offline)
            found["offline"] = dict(offline)
        return found

    def info(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(InfoRequest)
        stream = request.account.stream(request.tokens[2])
        info = stream_info(stream, with_place=True, with_deleted=asked.deleted_details)
        if not asked.subjects_filter:
            return _NO_PAGE | info
        return (
            _subjects_page(stream, asked)
            | info
            | {"state": _state_with_subjects(stream, asked, info["state"])}
        )

    def delete(self, request: ApiRequest) -> dict[str, Any]:
        delete_stream(request.account.stream(request.tokens[2]))
        return {"success": True}

    def purge(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(PurgeRequest)
        if asked.seq and asked.keep:
            raise ApiError(error_table.BAD_REQUEST)
        stream = request.account.stream(request.tokens[2])
        purged = stream.purge(filter_subject=asked.filter, sequence=asked.seq, keep=asked.keep)
        return {"success": True, "purged": purged}

    # messages

    def delete_message(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode(MessageDeleteRequest)
        stream = request.account.stream(request.tokens[3])
        stream.delete_message(asked.seq, secure=not asked.no_erase)
        return {"success": True}

    def get_message(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode(MessageGetRequest)
        _check_get(asked)
        stream = request.account.stream(request.tokens[3])
        try:
            view = _found(stream, asked)
        except CorruptRecord:
            view = None
        if view is None:
            raise ApiError(error_table.NO_MESSAGE_FOUND)
        message: dict[str, Any] = {"subject": view.subject.decode("utf-8", "replace"), "seq": view.sequence}
        if view.headers and not asked.no_hdr:
            message["hdrs"] = base64.b64encode(view.headers).decode()
        if view.payload:
            message["data"] = base64.b64encode(view.payload).decode()
        message["time"] = encode_time(view.time_ns)
        return {"message": message}

    def needs_cluster(self, _: ApiRequest) -> dict[str, Any]:
        raise ApiError(error_table.CLUSTER_REQUIRED)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Give the table."""
        free, empty, needed = Body.FREE, Body.EMPTY, Body.NEEDED
        no_names: dict[str, Any] = _NO_PAGE | {"streams": None}
        no_list: dict[str, Any] = _NO_PAGE | {"streams": list[str]()}
        return (
            Endpoint("INFO", "account_info_response", self.account_info),
            Endpoint("STREAM.CREATE.*", "stream_create_response", self.create),
            Endpoint("STREAM.UPDATE.*", "stream_update_response", self.update),
            Endpoint("STREAM.NAMES", "stream_names_response", self.names, free, no_names),
            Endpoint("STREAM.LIST", "stream_list_response", self.list, free, no_list),
            Endpoint("STREAM.INFO.*", "stream_info_response", self.info, free, _NO_PAGE),
            Endpoint("STREAM.DELETE.*", "stream_delete_response", self.delete, empty),
            Endpoint("STREAM.PURGE.*", "stream_purge_response", self.purge, free, {"purged": 0}),
            Endpoint("STREAM.MSG.DELETE.*", "stream_msg_delete_response", self.delete_message, needed),
            Endpoint("STREAM.MSG.GET.*", "stream_msg_get_response", self.get_message, needed, is_quiet=True),
            Endpoint("STREAM.PEER.REMOVE.*", "stream_remove_peer_response", self.needs_cluster),
            Endpoint("STREAM.PEER.EVACUATE.*", "stream_remove_peer_response", self.needs_cluster),
            Endpoint("STREAM.CANCEL_MOVE.*", "stream_update_response", self.needs_cluster),
            Endpoint("STREAM.LEADER.STEPDOWN.*", "stream_leader_stepdown_response", self.needs_cluster),
            Endpoint("CONSUMER.LEADER.STEPDOWN.*.*", "consumer_leader_stepdown_response", self.needs_cluster),
        )


def account_totals(account: AccountState) -> dict[str, Any]:
    """Give what an account uses and may use, as INFO and monitoring show it."""
    options = account.options
    return {
        "memory": account.usage.memory,
        "storage": account.usage.file,
        "reserved_memory": account.reserved(in_memory=True),
        "reserved_storage": account.reserved(in_memory=False),
        "streams": len(account.streams),
        "consumers": account.consumer_count,
        "limits": {
            "max_memory": options.max_memory,
            "max_storage": options.max_storage,
            "max_streams": options.max_streams,
            "max_consumers": options.max_consumers,
            "max_ack_pending": options.max_ack_pending,
            "memory_max_stream_bytes": options.memory_max_stream_bytes,
            "storage_max_stream_bytes": options.storage_max_stream_bytes,
            "max_bytes_required": options.max_bytes_required,
        },
    }


def _domain(context: Context) -> dict[str, Any]:
    return {"domain": context.options.domain} if context.options.domain else {}


def _check_name(request: ApiRequest, name: str) -> None:
    if name != request.tokens[2]:
        raise ApiError(error_table.STREAM_MISMATCH)


def _selected(account: AccountState, subject: str) -> list[Stream]:
    """Give the streams that take a subject, or all, by name."""
    streams = sorted(account.streams.values(), key=lambda stream: stream.name)
    if not subject:
        return streams
    wanted = subject.encode()
    return [
        stream for stream in streams if any(overlaps(own.encode(), wanted) for own in stream.config.subjects)
    ]


def _matcher(asked: InfoRequest) -> SubjectFilter:
    return SubjectFilter((asked.subjects_filter.encode(),))


def _subjects_page(stream: Stream, asked: InfoRequest) -> dict[str, int]:
    count = len(stream.log.subjects(_matcher(asked)))
    if count == 0:
        return dict(_NO_PAGE)
    return page(count, asked.offset, SUBJECTS_LIMIT)[0] | {"offset": max(0, asked.offset)}


def _state_with_subjects(stream: Stream, asked: InfoRequest, state: dict[str, Any]) -> dict[str, Any]:
    states = stream.log.subjects(_matcher(asked))
    part = page(len(states), asked.offset, SUBJECTS_LIMIT)[1]
    counts = {each.subject.decode("utf-8", "replace"): each.count for each in states[part]}
    return state | {"subjects": counts} if counts else state


def _check_get(asked: MessageGetRequest) -> None:
    is_batch = asked.batch > 0 or asked.max_bytes > 0
    is_empty = not (asked.seq or asked.last_by_subj or asked.next_by_subj or asked.start_time)
    is_mixed = (
        (asked.seq and asked.last_by_subj)
        or (asked.seq and asked.start_time)
        or (asked.start_time and asked.last_by_subj)
        or (asked.last_by_subj and asked.next_by_subj)
    )
    if is_batch or is_empty or is_mixed:
        raise ApiError(error_table.BAD_REQUEST)


def _found(stream: Stream, asked: MessageGetRequest) -> View | None:
    log = stream.log
    if asked.last_by_subj:
        return last_message(log, asked.last_by_subj.encode())
    start = asked.seq
    if asked.start_time:
        try:
            start = log.sequence_at(parse_time(asked.start_time))
        except ValueError as error:
            raise ApiError(error_table.INVALID_JSON, err=error) from None
    elif not asked.next_by_subj:
        return message_at(log, start)
    views = walk(log, start, asked.next_by_subj, messages_max=1, size_max=1)
    return views[0] if views else None
