"""What a mirror and sources may say, by themselves and among the account's other streams.

Each function raises `ApiError` for the first rule that is broken, in the reference server's order and words.

Source: the streams reference, section 9, and the reference server's checks, probed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from headrace.core.subject import has_wildcard, is_subset, is_valid, overlaps
from headrace.core.subject_transform import TransformInvalid, check_mapping
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError, ErrorKind
from headrace.jetstream.mirrors.origins import index_name
from headrace.jetstream.models.stream_config import ExternalStream, StreamConfig, StreamSource
from headrace.jetstream.models.times import parse_time

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

_API: Final = "$JS.API"
_NAME_REFUSED: Final = frozenset(".*>\\/ \t\r\n\f")


def check_copies(config: StreamConfig) -> None:
    """Refuse a mirror or sources that can never be. Raises ApiError."""
    if config.mirror is not None:
        _check_mirror(config, config.mirror)
    if config.sources and config.allow_msg_schedules:
        raise ApiError(error_table.SOURCE_WITH_MSG_SCHEDULES)
    seen: set[str] = set()
    for source in config.sources:
        _check_source(source, seen)
    for source in _copied(config):
        if source.external is not None:
            _check_external(source.external)
        if source.opt_start_time:
            try:
                parse_time(source.opt_start_time)
            except ValueError as error:
                raise ApiError(error_table.INVALID_JSON, err=error) from None


def with_origins(streams: Mapping[str, "Stream"], config: StreamConfig, *, is_pedantic: bool) -> StreamConfig:
    """Judge a configuration by the streams it copies; give it with what a mirror takes over. Raises ApiError."""
    mirror = config.mirror
    if mirror is not None and mirror.external is None and mirror.name in streams:
        origin = streams[mirror.name].config
        if 0 < config.max_msg_size < origin.max_msg_size:
            raise ApiError(error_table.MIRROR_MAX_MESSAGE_SIZE_TOO_BIG)
        if is_pedantic and config.mirror_direct != origin.allow_direct:
            raise ApiError(
                error_table.PEDANTIC, err="origin stream has direct get set, mirror has it disabled"
            )
        config = config.replaced(mirror_direct=origin.allow_direct)
    for source in config.sources:
        if source.external is None and source.name in streams:
            origin_size = streams[source.name].config.max_msg_size
            if 0 < config.max_msg_size < origin_size:
                raise ApiError(error_table.SOURCE_MAX_MESSAGE_SIZE_TOO_BIG)
    _check_cycles(streams, config)
    return config


def _copied(config: StreamConfig) -> list[StreamSource]:
    return [*config.sources] + ([config.mirror] if config.mirror is not None else [])


def _check_mirror(config: StreamConfig, mirror: StreamSource) -> None:
    refusals: list[tuple[object, ErrorKind]] = [
        (config.first_seq, error_table.MIRROR_WITH_FIRST_SEQ),
        (config.subjects, error_table.MIRROR_WITH_SUBJECTS),
        (config.sources, error_table.MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, error_table.MIRROR_WITH_COUNTERS),
        (config.allow_atomic, error_table.MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, error_table.MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_msg_schedules, error_table.MIRROR_WITH_MSG_SCHEDULES),
    ]
    for is_wanted, kind in refusals:
        if is_wanted:
            raise ApiError(kind)
    _check_consumer(mirror, error_table.MIRROR_DURABLE_CONSUMER_CFG_INVALID)
    if mirror.filter_subject and mirror.subject_transforms:
        raise ApiError(error_table.MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED)
    if config.subject_delete_marker_ttl > 0:
        raise _invalid("subject delete markers forbidden on mirrors")
    _check_transforms(
        mirror,
        error_table.MIRROR_INVALID_SUBJECT_FILTER,
        error_table.MIRROR_INVALID_TRANSFORM_DESTINATION,
    )
    sources = [each.src.encode() for each in mirror.subject_transforms]
    if any(overlaps(one, other) for index, one in enumerate(sources) for other in sources[index + 1 :]):
        raise ApiError(error_table.MIRROR_OVERLAPPING_SUBJECT_FILTERS)
    if mirror.external is None and not _is_name(mirror.name):
        raise ApiError(error_table.MIRROR_INVALID_STREAM_NAME)
    _check_filter(mirror, f"subject filter '{mirror.filter_subject}' for the mirror invalid subject")


def _check_source(source: StreamSource, seen: set[str]) -> None:
    if not _is_name(source.name):
        raise ApiError(error_table.SOURCE_INVALID_STREAM_NAME)
    name = index_name(source)
    if name in seen:
        raise ApiError(error_table.SOURCE_DUPLICATE_DETECTED)
    seen.add(name)
    if source.filter_subject and source.subject_transforms:
        raise ApiError(error_table.SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED)
    _check_transforms(
        source,
        error_table.SOURCE_INVALID_SUBJECT_FILTER,
        error_table.SOURCE_INVALID_TRANSFORM_DESTINATION,
    )
    sources = [each.src.encode() for each in source.subject_transforms]
    for index, one in enumerate(sources):
        if any(is_subset(one, other) for place, other in enumerate(sources) if place != index):
            raise ApiError(error_table.SOURCE_OVERLAPPING_SUBJECT_FILTERS)
    _check_consumer(source, error_table.SOURCE_DURABLE_CONSUMER_CFG_INVALID)
    _check_filter(source, f"subject filter '{source.filter_subject}' for the source: invalid subject")


def _check_transforms(source: StreamSource, bad_source: ErrorKind, bad_destination: ErrorKind) -> None:
    for each in source.subject_transforms:
        if each.src and not is_valid(each.src.encode()):
            raise ApiError(bad_source, err=f"invalid subject {each.src}")
        try:
            check_mapping(each.src.encode(), each.dest.encode())
        except TransformInvalid as error:
            raise ApiError(bad_destination, err=error) from None


def _check_filter(source: StreamSource, refusal: str) -> None:
    if source.filter_subject and not is_valid(source.filter_subject.encode()):
        raise ApiError(error_table.STREAM_CREATE, err=refusal)


def _check_consumer(source: StreamSource, kind: ErrorKind) -> None:
    consumer = source.consumer
    if consumer is None:
        return
    subject = consumer.deliver_subject.encode()
    if not _is_name(consumer.name) or not is_valid(subject) or has_wildcard(subject):
        raise ApiError(kind)
    if source.opt_start_seq or source.opt_start_time or source.filter_subject:
        raise ApiError(kind)
    raise _invalid("a consumer of one's own for mirrors and sources is not supported by this server version")


def _check_external(external: ExternalStream) -> None:
    if external.deliver:
        subject = external.deliver.encode()
        if not is_valid(subject) or has_wildcard(subject):
            raise ApiError(error_table.STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ, prefix=external.deliver)
    if external.api:
        subject = external.api.encode()
        if not is_valid(subject) or has_wildcard(subject):
            raise _invalid(
                f'stream external api prefix "{external.api}" must be a valid subject without wildcards'
            )
        if overlaps(subject, _API.encode()):
            raise ApiError(error_table.STREAM_EXTERNAL_API_OVERLAP, prefix=external.api, subject=_API)


def _check_cycles(streams: Mapping[str, "Stream"], config: StreamConfig) -> None:
    """Refuse a stream that would, through others, copy itself."""
    pending, visited = [config], set[str]()
    while pending:
        current = pending.pop(0)
        visited.add(current.name)
        for source in _copied(current):
            if source.external is not None:
                continue
            if source.name not in visited:
                if source.name in streams:
                    pending.append(streams[source.name].config)
            elif source is current.mirror or _takes(current, source):
                raise _invalid("detected cycle")


def _takes(config: StreamConfig, source: StreamSource) -> bool:
    wanted = source.filter_subject.encode()
    return not wanted or any(overlaps(subject.encode(), wanted) for subject in config.subjects)


def _is_name(name: str) -> bool:
    return bool(name) and not _NAME_REFUSED.intersection(name)


def _invalid(reason: str) -> ApiError:
    return ApiError(error_table.STREAM_INVALID_CONFIG, err=reason)
