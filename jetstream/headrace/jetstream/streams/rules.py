"""What a stream's configuration may say, and what may become of it in an update.

Each function takes a configuration and raises `ApiError` for the first rule that is broken, in the reference server's
order and words. Nothing here knows a running stream; limits of accounts and overlaps with others are in
`streams/admission.py`.

Source: the streams reference, sections 1 and 2.
"""

from typing import Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.subject import is_subset, is_valid, overlaps
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.levels import own_metadata, stream_level
from headrace.jetstream.mirrors.rules import check_copies
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.streams.transforms import check_transform, with_full_republish

NAME_SIZE_MAX: Final = 255
DESCRIPTION_SIZE_MAX: Final = 4096
METADATA_SIZE_MAX: Final = 131072
REPLICAS_MAX: Final = 5
DURATION_MIN_NS: Final = 100 * NS_PER_MS

_NAME_REFUSED: Final = frozenset(".*>\\/ \t\r\n\f")
_API_SUBJECTS: Final = (b"$JS.>", b"$JSC.>", b"$NRG.>")
_LIMITS: Final = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")


def invalid(reason: str) -> ApiError:
    """Give error 10052, whose description is the whole reason."""
    return ApiError(error_table.STREAM_INVALID_CONFIG, err=reason)


def pedantic(reason: str) -> ApiError:
    """Give error 10157: something would be adjusted silently, and the request forbids that."""
    return ApiError(error_table.PEDANTIC, err=reason)


def is_valid_name(name: str) -> bool:
    """Tell whether a stream or consumer may be called so."""
    return bool(name) and not _NAME_REFUSED.intersection(name)


def checked(config: StreamConfig, *, is_pedantic: bool = False) -> StreamConfig:
    """Give the configuration with its defaults filled in, if it is one that can be served. Raises ApiError."""
    _check_texts(config)
    if config.num_replicas > REPLICAS_MAX:
        raise invalid(f"maximum replicas is {REPLICAS_MAX}")
    if config.num_replicas < 0:
        raise ApiError(error_table.REPLICAS_COUNT_CANNOT_BE_NEGATIVE)
    if is_pedantic:
        for name in _LIMITS:
            if getattr(config, name) < -1:
                raise pedantic(f"{name} must be set to -1")
    full = config.defaulted()
    _check_durations(full)
    _check_switches(full)
    full = _with_implied(full, is_pedantic=is_pedantic)
    _check_persistence(full)
    check_copies(full)
    _check_subjects(full)
    check_transform(full)
    full = with_full_republish(full, is_pedantic=is_pedantic)
    return full.replaced(metadata=own_metadata(full.metadata, stream_level(full)))


def _check_texts(config: StreamConfig) -> None:
    if not is_valid_name(config.name):
        raise invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'")
    if len(config.name.encode()) > NAME_SIZE_MAX:
        raise invalid(f"stream name is too long, maximum allowed is {NAME_SIZE_MAX}")
    if len(config.description.encode()) > DESCRIPTION_SIZE_MAX:
        raise invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_SIZE_MAX}")
    metadata_size = sum(len(key.encode()) + len(value.encode()) for key, value in config.metadata.items())
    if metadata_size > METADATA_SIZE_MAX:
        raise invalid(f"stream metadata exceeds maximum size of {METADATA_SIZE_MAX} bytes")


def _with_implied(config: StreamConfig, *, is_pedantic: bool) -> StreamConfig:
    """Fill in what one setting implies for others."""
    if config.subject_delete_marker_ttl < 0:
        raise invalid("subject delete marker TTL must not be negative")
    if config.subject_delete_marker_ttl > 0:
        if config.subject_delete_marker_ttl < NS_PER_S:
            raise invalid("subject delete marker TTL must be at least 1 second")
        if is_pedantic and not config.allow_msg_ttl:
            raise invalid("subject delete marker cannot be set if message TTLs are disabled")
        if is_pedantic and not config.allow_rollup_hdrs:
            raise invalid("subject delete marker cannot be set if roll-ups are disabled")
        config = config.replaced(allow_msg_ttl=True, allow_rollup_hdrs=True, deny_purge=False)
    if config.allow_msg_schedules:
        if config.discard == "new":
            raise invalid("message scheduling cannot use discard new")
        if is_pedantic and not config.allow_rollup_hdrs:
            raise invalid("message scheduling cannot be set if roll-ups are disabled")
        config = config.replaced(allow_rollup_hdrs=True, deny_purge=False)
    return config


def _check_durations(config: StreamConfig) -> None:
    if config.max_age < 0:
        raise invalid("max age can not be negative")
    if 0 < config.max_age < DURATION_MIN_NS:
        raise invalid("max age needs to be >= 100ms")
    window = config.duplicate_window
    if window < 0:
        raise invalid("duplicates window can not be negative")
    if 0 < config.max_age < window:
        raise invalid("duplicates window can not be larger then max age")
    if 0 < window < DURATION_MIN_NS:
        raise invalid("duplicates window needs to be >= 100ms")


def _check_switches(config: StreamConfig) -> None:
    if config.deny_purge and config.allow_rollup_hdrs:
        raise invalid("roll-ups require the purge permission")
    if config.allow_msg_counter:
        _check_counter(config)
    if config.discard_new_per_subject:
        if config.discard != "new":
            raise invalid("discard new per subject requires discard new policy to be set")
        if config.max_msgs_per_subject <= 0:
            raise invalid("discard new per subject requires max msgs per subject > 0")


def _check_persistence(config: StreamConfig) -> None:
    if config.placement is not None and config.placement.preferred:
        raise invalid("preferred server not permitted in placement")
    if config.persist_mode == "async":
        if config.in_memory:
            raise invalid("async persist mode is only supported on file storage")
        if config.allow_atomic:
            raise invalid("async persist mode is not supported with atomic batch publish")


def _check_counter(config: StreamConfig) -> None:
    if config.discard == "new":
        raise invalid("counter stream cannot use discard new")
    if config.allow_msg_ttl:
        raise invalid("counter stream cannot use message TTLs")
    if config.allow_msg_schedules:
        raise invalid("counter stream cannot use message schedules")
    if config.retention != "limits":
        raise invalid("counter stream can only use limits retention")


def _check_subjects(config: StreamConfig) -> None:
    subjects = [subject.encode() for subject in config.subjects]
    for index, subject in enumerate(subjects):
        if not is_valid(subject):
            raise invalid("invalid subject")
        for later in subjects[index + 1 :]:
            if overlaps(subject, later):
                raise invalid(f'subject "{subject.decode()}" overlaps with "{later.decode()}"')
        if not config.no_ack:
            _check_reserved(subject)
    if not subjects and config.mirror is None and not config.sources:
        raise invalid("stream needs at least one configured subject or be a source/mirror")


def _check_reserved(subject: bytes) -> None:
    """Refuse subjects whose publishers wait for other answers than a pub ack."""
    if subject == b">":
        raise invalid("capturing all subjects requires no-ack to be true")
    for reserved in _API_SUBJECTS:
        if overlaps(subject, reserved) and not is_subset(subject, b"$JS.EVENT.>"):
            raise invalid("subjects that overlap with jetstream api require no-ack to be true")
    if overlaps(subject, b"$SYS.>") and not is_subset(subject, b"$SYS.ACCOUNT.>"):
        raise invalid("subjects that overlap with system api require no-ack to be true")


def sealed(config: StreamConfig) -> StreamConfig:
    """Give the configuration with what sealing forces."""
    return config.replaced(
        max_age=0, discard="new", deny_delete=True, deny_purge=True, allow_rollup_hdrs=False
    )


def check_update(old: StreamConfig, new: StreamConfig) -> None:
    """Refuse what an update may not change. Raises ApiError."""
    if new.num_replicas > 1:
        raise ApiError(error_table.STREAM_REPLICAS_NOT_SUPPORTED)
    if new.storage != old.storage:
        raise invalid("stream configuration update can not change storage type")
    if new.retention != old.retention and "workqueue" in (new.retention, old.retention):
        raise invalid("stream configuration update can not change retention policy to/from workqueue")
    if old.sealed and not new.sealed:
        raise invalid("stream configuration update can not unseal a sealed stream")
    if old.deny_delete and not new.deny_delete:
        raise invalid("stream configuration update can not cancel deny message deletes")
    if old.deny_purge and not new.deny_purge:
        raise invalid("stream configuration update can not cancel deny purge")
    if new.mirror is not None and new.mirror != old.mirror:
        raise ApiError(error_table.STREAM_MIRROR_NOT_UPDATABLE)
    if old.allow_msg_ttl and not new.allow_msg_ttl:
        raise invalid("message TTL status can not be disabled")
    if old.allow_msg_counter != new.allow_msg_counter:
        raise invalid("stream configuration update can not change message counter setting")
    if old.allow_msg_schedules and not new.allow_msg_schedules:
        raise invalid("message schedules can not be disabled")
    if old.persist_mode != new.persist_mode:
        raise invalid("stream configuration update can not change persist mode")
