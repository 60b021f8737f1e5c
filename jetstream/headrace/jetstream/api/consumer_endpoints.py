"""What the consumer part of the API does: one function an endpoint, and the table of them at the end.

Source: the JetStream API reference, sections 2.5, 2.11 and 2.12.
"""

from dataclasses import replace
from typing import Any, Final

from headrace.jetstream import error_table
from headrace.jetstream.api.dispatcher import page
from headrace.jetstream.api.request import ApiRequest, Body, Endpoint
from headrace.jetstream.consumers.consumer import Consumer
from headrace.jetstream.consumers.registry import Consumers, consumers_of, find
from headrace.jetstream.consumers.rules import is_group_name
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.consumer_api import (
    CreateRequest,
    PageRequest,
    PauseRequest,
    ResetRequest,
    UnpinRequest,
)
from headrace.jetstream.models.times import ZERO_TIME, encode_time
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import StorageError

NAMES_LIMIT: Final = 1024
LIST_LIMIT: Final = 256
_NO_PAGE: Final = {"total": 0, "offset": 0, "limit": 0}


class ConsumerEndpoints:
    """The handlers; what they need beyond the request is the consumers' registry."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers

    # the three forms of creating, and the legacy one

    def create_unnamed(self, request: ApiRequest) -> dict[str, Any]:
        """`CONSUMER.CREATE.<stream>`: an ephemeral one, with a name of its own or of ours."""
        asked = request.decode(CreateRequest)
        _check_request(request.tokens[2], asked)
        if asked.config.durable_name:
            raise ApiError(error_table.CONSUMER_EPHEMERAL_WITH_DURABLE_NAME)
        return self._create(request, request.tokens[2], asked.config.name, asked)

    def create_named(self, request: ApiRequest) -> dict[str, Any] | None:
        """`CONSUMER.CREATE.<stream>.<consumer>[.<filter>]`; other accounts' streams ask for one to copy here, too."""
        asked = request.decode(CreateRequest)
        stream, name, *filter_tokens = request.tokens[2:]
        _check_request(stream, asked, name)
        follower = self._consumers.expected_follower(name)
        if follower is not None:
            follower.on_origin(request.account.stream(stream))
            return None
        if asked.config.durable_name not in {"", name}:
            raise ApiError(error_table.CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT)
        if filter_tokens:
            if asked.config.filter_subjects:
                raise ApiError(error_table.CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED)
            if asked.config.filter_subject != ".".join(filter_tokens):
                raise ApiError(error_table.CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH)
        return self._create(request, stream, name, asked)

    def create_durable(self, request: ApiRequest) -> dict[str, Any]:
        """`CONSUMER.DURABLE.CREATE.<stream>.<consumer>`."""
        asked = request.decode(CreateRequest)
        if len(request.tokens) != 5:
            raise ApiError(error_table.CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT)
        stream, name = request.tokens[3:]
        _check_request(stream, asked, name)
        if not asked.config.durable_name:
            raise ApiError(error_table.CONSUMER_DURABLE_NAME_NOT_SET)
        if asked.config.durable_name != name:
            raise ApiError(error_table.CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT)
        return self._create(request, stream, name, asked)

    def _create(self, request: ApiRequest, stream: str, name: str, asked: CreateRequest) -> dict[str, Any]:
        if asked.config.num_replicas > 1:
            raise ApiError(error_table.STREAM_REPLICAS_NOT_SUPPORTED)
        consumer = self._consumers.create(
            request.account.stream(stream),
            name,
            asked.config.replaced(name=name),
            action=asked.action,
            is_pedantic=asked.pedantic,
        )
        return consumer.info()

    # looking

    def names(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(PageRequest)
        names = [consumer.name for consumer in _listed(request.account.stream(request.tokens[2]))]
        paging, part = page(len(names), asked.offset, NAMES_LIMIT)
        return paging | {"consumers": names[part]}

    def list(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(PageRequest)
        consumers = _listed(request.account.stream(request.tokens[2]))
        paging, part = page(len(consumers), asked.offset, LIST_LIMIT)
        return paging | {"consumers": [consumer.info(is_listed=True) for consumer in consumers[part]]}

    def info(self, request: ApiRequest) -> dict[str, Any]:
        return _named(request, 2).info()

    # changing

    def delete(self, request: ApiRequest) -> dict[str, Any]:
        self._consumers.remove(_named(request, 2))
        return {"success": True}

    def pause(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(PauseRequest)
        consumer = _named(request, 2)
        try:
            consumer.pause(asked.pause_until_ns)
        except StorageError as error:
            raise ApiError(error_table.CONSUMER_STORE_FAILED, err=error) from error
        answer: dict[str, Any] = {
            "paused": consumer.paused_for_ns > 0,
            "pause_until": encode_time(consumer.config.pause_until_ns),
        }
        if consumer.paused_for_ns:
            answer["pause_remaining"] = consumer.paused_for_ns
        return answer

    def unpin(self, request: ApiRequest) -> dict[str, Any]:
        asked = request.decode_optional(UnpinRequest)
        if not asked.group:
            raise ApiError(error_table.INVALID_JSON, err="consumer group not specified")
        if not is_group_name(asked.group):
            raise ApiError(error_table.CONSUMER_INVALID_GROUP_NAME)
        consumer = _named(request, 2)
        if asked.group not in consumer.config.priority_groups:
            raise ApiError(error_table.CONSUMER_INVALID_PRIORITY_GROUP)
        consumer.unpin()
        return {}

    def reset(self, request: ApiRequest) -> dict[str, Any]:
        """Unknown fields are overlooked; what is asked is asked of the consumer itself, and not counted."""
        asked = replace(request, is_strict=False).decode(ResetRequest)
        consumer = _named(request, 2)
        reset_to = consumer.reset(asked.seq)
        return consumer.info() | {"reset_seq": reset_to}

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Give the table."""
        free, empty = Body.FREE, Body.EMPTY
        no_list: dict[str, Any] = _NO_PAGE | {"consumers": list[str]()}
        not_paused: dict[str, Any] = {"paused": False, "pause_until": ZERO_TIME}
        created = "consumer_create_response"
        return (
            Endpoint("CONSUMER.CREATE.*", created, self.create_unnamed),
            Endpoint("CONSUMER.CREATE.*.*", created, self.create_named),
            Endpoint("CONSUMER.CREATE.*.*.>", created, self.create_named),
            Endpoint("CONSUMER.DURABLE.CREATE.>", created, self.create_durable),
            Endpoint("CONSUMER.NAMES.*", "consumer_names_response", self.names, free, no_list),
            Endpoint("CONSUMER.LIST.*", "consumer_list_response", self.list, free, no_list),
            Endpoint("CONSUMER.INFO.*.*", "consumer_info_response", self.info, empty),
            Endpoint("CONSUMER.DELETE.*.*", "consumer_delete_response", self.delete, empty),
            Endpoint("CONSUMER.PAUSE.*.*", "consumer_pause_response", self.pause, free, not_paused),
            Endpoint("CONSUMER.UNPIN.*.*", "consumer_unpin_response", self.unpin),
            Endpoint(
                "CONSUMER.RESET.*.*",
                "consumer_reset_response",
                self.reset,
                free,
                {"reset_seq": 0},
                is_quiet=True,
            ),
        )


def _check_request(stream: str, asked: CreateRequest, name: str = "") -> None:
    if asked.stream_name != stream:
        raise ApiError(error_table.STREAM_MISMATCH)
    names = (name, asked.config.name, asked.config.durable_name if name else "")
    if any(sign in each for each in names for sign in "/\\"):
        raise ApiError(error_table.CONSUMER_NAME_CONTAINS_PATH_SEPARATORS)


def _listed(stream: Stream) -> list[Consumer]:
    """Give the consumers that are shown, by name: not those that other streams keep for themselves."""
    shown = [consumer for consumer in consumers_of(stream) if not consumer.config.direct]
    return sorted(shown, key=lambda consumer: consumer.name)


def _named(request: ApiRequest, index: int) -> Consumer:
    """Give the consumer that the subject names. Raises ApiError 10059 or 10014."""
    consumer = find(request.account.stream(request.tokens[index]), request.tokens[index + 1])
    if consumer is None:
        raise ApiError(error_table.CONSUMER_NOT_FOUND)
    return consumer
