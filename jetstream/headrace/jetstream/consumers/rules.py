"""What a consumer's configuration may say, what is filled in, and what may become of it in an update.

Each function takes a configuration and raises `ApiError` for the first rule that is broken, in the reference server's
order and words. Nothing here knows a running consumer.

Source: the consumer reference, section 1, probed on the reference server 2.15.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.subject import has_wildcard, is_subset, is_valid, overlaps
from headrace.jetstream import error_table
from headrace.jetstream.consumers.state import AckPolicy, DeliveryRules
from headrace.jetstream.errors import ApiError
from headrace.jetstream.levels import own_metadata, without_reserved
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.models.times import duration_text

NAME_SIZE_MAX: Final = 255
DESCRIPTION_SIZE_MAX: Final = 4096
METADATA_SIZE_MAX: Final = 131072
MAX_WAITING: Final = 512
MAX_ACK_PENDING: Final = 1000
ACK_WAIT_NS: Final = 30 * NS_PER_S
INACTIVE_THRESHOLD_NS: Final = 5 * NS_PER_S
PRIORITY_TIMEOUT_NS: Final = 120 * NS_PER_S
FLOW_ACK_HEARTBEAT_NS: Final = NS_PER_S
IDLE_HEARTBEAT_MIN_NS: Final = 100 * NS_PER_MS
MAX_EXPIRES_MIN_NS: Final = NS_PER_MS

_NAME_REFUSED: Final = frozenset(".*>\\/ \t\r\n\f")
_GROUP_NAME: Final = re.compile(r"[a-zA-Z0-9/_=-]{1,16}")
_POLICY_WORDS: Final = {
    "all": "all",
    "last": "last",
    "last_per_subject": "last per subject",
    "new": "new",
    "by_start_sequence": "by start sequence",
    "by_start_time": "by start time",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What bounds a consumer from outside: its stream, and the smaller of the server's and account's limits."""

    stream: StreamConfig
    max_ack_pending: int = -1  # -1: none


def level(config: ConsumerConfig) -> int:
    """Give the API level that a consumer's features need."""
    if config.ack_policy == "flow_control":
        return 4
    has_priority = (
        config.priority_policy not in {"", "none"} or config.priority_groups or config.priority_timeout
    )
    return 1 if config.pause_until or has_priority else 0


def checked(
    config: ConsumerConfig, surroundings: Surroundings, *, is_pedantic: bool = False
) -> ConsumerConfig:
    """Give the configuration with its defaults filled in, if it is one that can be served. Raises ApiError."""
    full = _defaulted(config, surroundings, is_pedantic=is_pedantic)
    _check_names(full)
    _check_replicas(full, surroundings.stream)
    _check_waits(full)
    if len(full.description.encode()) > DESCRIPTION_SIZE_MAX:
        raise ApiError(error_table.CONSUMER_DESCRIPTION_TOO_LONG, max=DESCRIPTION_SIZE_MAX)
    if full.is_push:
        _check_push(full, surroundings.stream)
    else:
        _check_pull(full, surroundings.stream)
    _check_limits(full, surroundings)
    if full.direct and not full.is_push:
        raise ApiError(error_table.CONSUMER_DIRECT_REQUIRES_PUSH)
    if full.direct and full.is_durable:
        raise ApiError(error_table.CONSUMER_DIRECT_REQUIRES_EPHEMERAL)
    _check_filters(full)
    _check_deliver_policy(full)
    sampling(full.sample_freq)
    if full.flow_control and full.idle_heartbeat == 0:
        raise ApiError(error_table.CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS)
    if full.durable_name and full.name and full.durable_name != full.name:
        raise ApiError(error_table.CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH)
    metadata_size = sum(len(key.encode()) + len(value.encode()) for key, value in full.metadata.items())
    if metadata_size > METADATA_SIZE_MAX:
        raise ApiError(error_table.CONSUMER_METADATA_LENGTH, limit="128KB")
    _check_priority(full)
    return full.replaced(metadata=own_metadata(full.metadata, level(full)))


def delivery_rules(config: ConsumerConfig) -> DeliveryRules:
    """Give the part of a checked configuration that rules redelivery."""
    return DeliveryRules(
        ack_policy=AckPolicy(config.ack_policy),
        ack_wait_ns=config.ack_wait or ACK_WAIT_NS,
        backoff_ns=config.backoff,
        max_deliver=config.max_deliver,
        max_ack_pending=config.max_ack_pending,
    )


def sampling(frequency: str) -> int:
    """Give the percentage of acks that are reported. Raises ApiError."""
    if not frequency:
        return 0
    number = frequency.removesuffix("%")
    if number.startswith("-") and number[1:].isascii() and number[1:].isdigit():
        raise ApiError(error_table.CONSUMER_INVALID_SAMPLING, err="<nil>")
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        reason = f'strconv.Atoi: parsing "{number}": invalid syntax'
        raise ApiError(error_table.CONSUMER_INVALID_SAMPLING, err=reason)
    return int(number)


def same(first: ConsumerConfig, second: ConsumerConfig) -> bool:
    """Tell whether two checked configurations ask for the same consumer."""
    return first.replaced(metadata=without_reserved(first.metadata)) == second.replaced(
        metadata=without_reserved(second.metadata)
    )


def check_update(old: ConsumerConfig, new: ConsumerConfig, *, is_bound: bool) -> None:
    """Raise ApiError where a consumer cannot become `new`; `is_bound`: somebody takes its old deliver subject."""
    for name, words in (
        ("deliver_policy", "deliver policy"),
        ("mem_storage", "storage type"),
        ("direct", "direct"),
        ("sourcing", "sourcing"),
        ("opt_start_seq", "start sequence"),
        ("opt_start_time", "start time"),
        ("ack_policy", "ack policy"),
        ("replay_policy", "replay policy"),
        ("idle_heartbeat", "heart beats"),
        ("flow_control", "flow control"),
    ):
        if getattr(old, name) != getattr(new, name):
            raise _not_updatable(f"{words} can not be updated")
    if old.deliver_subject != new.deliver_subject:
        if not old.is_push:
            raise _not_updatable("can not update pull consumer to push based")
        if not new.is_push:
            raise _not_updatable("can not update push consumer to pull based")
        if is_bound:
            raise ApiError(error_table.CONSUMER_NAME_EXIST)
    if old.max_waiting != new.max_waiting:
        raise _not_updatable("max waiting can not be updated")


def check_workqueue(config: ConsumerConfig, others: Iterable[ConsumerConfig], *, is_new: bool) -> None:
    """Raise ApiError where a work queue cannot have this consumer beside `others`."""
    if is_new and config.ack_policy not in {"explicit", "flow_control"}:
        raise ApiError(error_table.CONSUMER_WQ_REQUIRES_EXPLICIT_ACK)
    ours = [subject.encode() for subject in config.filters]
    for other in others:
        if not ours:
            raise ApiError(error_table.CONSUMER_WQ_MULTIPLE_UNFILTERED)
        theirs = [subject.encode() for subject in other.filters]
        if not theirs or any(overlaps(mine, its) for mine in ours for its in theirs):
            raise ApiError(error_table.CONSUMER_WQ_CONSUMER_NOT_UNIQUE)
    if is_new and config.deliver_policy != "all":
        raise ApiError(error_table.CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL)


def _not_updatable(reason: str) -> ApiError:
    return ApiError(error_table.CONSUMER_CREATE, err=reason)


def _invalid(reason: str) -> ApiError:
    return ApiError(error_table.STREAM_INVALID_CONFIG, err=reason)


def _pedantic(reason: str) -> ApiError:
    return ApiError(error_table.PEDANTIC, err=reason)


def _defaulted(config: ConsumerConfig, surroundings: Surroundings, *, is_pedantic: bool) -> ConsumerConfig:
    """Fill in what is not said; a pedantic request wants to hear of what would be changed silently."""
    changes: dict[str, Any] = {}
    limits = surroundings.stream.consumer_limits
    if is_pedantic:
        _check_pedantic(config, surroundings)
    if config.deliver_policy == "undefined":
        changes["deliver_policy"] = "all"
    if config.max_deliver <= 0:
        changes["max_deliver"] = -1
    if config.idle_heartbeat < 0:
        changes["idle_heartbeat"] = 0
    if config.max_waiting <= 0:
        changes["max_waiting"] = 0 if config.is_push else MAX_WAITING
    if config.priority_policy == "pinned_client" and config.priority_timeout <= 0:
        changes["priority_timeout"] = PRIORITY_TIMEOUT_NS
    elif config.priority_timeout < 0:
        changes["priority_timeout"] = 0
    for name in ("max_batch", "max_expires", "max_bytes", "inactive_threshold"):
        if getattr(config, name) < 0:
            changes[name] = 0
    asks_acks = config.ack_policy != "none"
    if config.ack_policy in {"explicit", "all"} and config.ack_wait == 0:
        changes["ack_wait"] = ACK_WAIT_NS
    if config.ack_policy == "flow_control" and not is_pedantic:
        changes |= {"flow_control": True, "idle_heartbeat": FLOW_ACK_HEARTBEAT_NS}
    if config.backoff:
        changes["ack_wait"] = config.backoff[0]
    pending_max = config.max_ack_pending or limits.max_ack_pending
    if pending_max == 0 and asks_acks:
        bound = surroundings.max_ack_pending
        pending_max = min(MAX_ACK_PENDING, bound) if bound > 0 else MAX_ACK_PENDING
    changes["max_ack_pending"] = max(-1, pending_max)
    threshold_ns = max(0, config.inactive_threshold) or limits.inactive_threshold
    if threshold_ns == 0 and not config.is_durable:
        threshold_ns = INACTIVE_THRESHOLD_NS
    changes["inactive_threshold"] = threshold_ns
    return config.replaced(**changes)


def _check_pedantic(config: ConsumerConfig, surroundings: Surroundings) -> None:
    limits = surroundings.stream.consumer_limits
    for name in ("max_deliver", "max_ack_pending"):
        if getattr(config, name) < -1:
            raise _pedantic(f"{name} must be set to -1")
    for name in (
        "max_waiting",
        "max_batch",
        "max_expires",
        "max_bytes",
        "idle_heartbeat",
        "inactive_threshold",
        "priority_timeout",
    ):
        if getattr(config, name) < 0:
            raise _pedantic(f"{name} must not be negative")
    if config.backoff and (config.ack_wait or ACK_WAIT_NS) != config.backoff[0]:
        raise _pedantic("first backoff value has to equal batch AckWait")
    if config.max_ack_pending == 0 and limits.max_ack_pending > 0:
        raise _pedantic("max_ack_pending must be set if it's configured in stream limits")
    if config.inactive_threshold == 0 and limits.inactive_threshold > 0:
        raise _pedantic("inactive_threshold must be set if it's configured in stream limits")


def is_group_name(name: str) -> bool:
    """Tell whether a priority group may be called so."""
    return _GROUP_NAME.fullmatch(name) is not None


def _check_names(config: ConsumerConfig) -> None:
    if len(config.durable_name.encode()) > NAME_SIZE_MAX:
        raise ApiError(error_table.CONSUMER_NAME_TOO_LONG, max=NAME_SIZE_MAX)
    for name, words in ((config.durable_name, "durable name"), (config.name, "name")):
        if _NAME_REFUSED.intersection(name):
            raise _invalid(f"consumer {words} can not contain '.', '*', '>', '\\', '/'")


def _check_replicas(config: ConsumerConfig, stream: StreamConfig) -> None:
    if config.num_replicas < 0:
        raise ApiError(error_table.REPLICAS_COUNT_CANNOT_BE_NEGATIVE)
    if config.num_replicas > stream.num_replicas:
        raise ApiError(error_table.CONSUMER_REPLICAS_EXCEEDS_STREAM)
    if stream.retention != "limits" and config.num_replicas not in {0, stream.num_replicas}:
        raise ApiError(error_table.CONSUMER_REPLICAS_SHOULD_MATCH_STREAM)


def _check_waits(config: ConsumerConfig) -> None:
    if any(wait_ns < 0 for wait_ns in config.backoff):
        raise ApiError(error_table.CONSUMER_BACK_OFF_NEGATIVE)
    if config.ack_wait < 0:
        raise ApiError(error_table.CONSUMER_ACK_WAIT_NEGATIVE)
    if config.ack_policy == "flow_control":
        _check_flow_acks(config)
    if config.max_deliver != -1 and len(config.backoff) > config.max_deliver:
        raise ApiError(error_table.CONSUMER_MAX_DELIVER_BACKOFF)


def _check_flow_acks(config: ConsumerConfig) -> None:
    if not config.is_push:
        raise ApiError(error_table.CONSUMER_ACK_FC_REQUIRES_PUSH)
    if not config.flow_control:
        raise ApiError(error_table.CONSUMER_ACK_FC_REQUIRES_FC)
    if config.idle_heartbeat != FLOW_ACK_HEARTBEAT_NS:
        raise _invalid("flow control ack policy heartbeat needs to be 1s")
    if config.max_ack_pending <= 0:
        raise ApiError(error_table.CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING)
    if config.ack_wait or config.backoff:
        raise ApiError(error_table.CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT)
    if config.max_deliver > 0:
        raise ApiError(error_table.CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER)


def _check_push(config: ConsumerConfig, stream: StreamConfig) -> None:
    subject = config.deliver_subject.encode()
    if has_wildcard(subject):
        raise ApiError(error_table.CONSUMER_DELIVER_TO_WILDCARDS)
    if not is_valid(subject):
        raise ApiError(error_table.CONSUMER_INVALID_DELIVER_SUBJECT)
    if any(is_subset(subject, captured.encode()) for captured in stream.subjects):
        raise ApiError(error_table.CONSUMER_DELIVER_CYCLE)
    if config.max_waiting > 0:
        raise ApiError(error_table.CONSUMER_PUSH_MAX_WAITING)
    if config.max_ack_pending > 0 and config.ack_policy == "none":
        raise ApiError(error_table.CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED)
    if 0 < config.idle_heartbeat < IDLE_HEARTBEAT_MIN_NS:
        raise ApiError(error_table.CONSUMER_SMALL_HEARTBEAT)


def _check_pull(config: ConsumerConfig, stream: StreamConfig) -> None:
    if stream.retention == "workqueue" and config.ack_policy == "none":
        raise ApiError(error_table.CONSUMER_PULL_REQUIRES_ACK)
    if config.rate_limit_bps > 0:
        raise ApiError(error_table.CONSUMER_PULL_WITH_RATE_LIMIT)
    if config.idle_heartbeat > 0:
        raise ApiError(error_table.CONSUMER_HB_REQUIRES_PUSH)
    if config.flow_control:
        raise ApiError(error_table.CONSUMER_FC_REQUIRES_PUSH)
    if 0 < config.max_expires < MAX_EXPIRES_MIN_NS:
        raise ApiError(error_table.CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL)


def _check_limits(config: ConsumerConfig, surroundings: Surroundings) -> None:
    limits = surroundings.stream.consumer_limits
    for bound in (limits.max_ack_pending, surroundings.max_ack_pending):
        if 0 < bound < config.max_ack_pending:
            raise ApiError(error_table.CONSUMER_MAX_PENDING_ACK_EXCESS, limit=bound)
    if 0 < limits.inactive_threshold < config.inactive_threshold:
        threshold = duration_text(limits.inactive_threshold)
        raise ApiError(error_table.CONSUMER_INACTIVE_THRESHOLD_EXCESS, limit=threshold)


def _check_filters(config: ConsumerConfig) -> None:
    if config.filter_subject and config.filter_subjects:
        raise ApiError(error_table.CONSUMER_DUPLICATE_FILTER_SUBJECTS)
    if "" in config.filter_subjects:
        raise ApiError(error_table.CONSUMER_EMPTY_FILTER)
    filters = [subject.encode() for subject in config.filters]
    if not all(is_valid(subject) for subject in filters):
        raise _invalid("invalid subject")
    for index, subject in enumerate(filters):
        for other in filters[:index]:
            if is_subset(subject, other) or is_subset(other, subject):
                raise ApiError(error_table.CONSUMER_OVERLAPPING_SUBJECT_FILTERS)


def _check_deliver_policy(config: ConsumerConfig) -> None:
    policy = config.deliver_policy
    has_sequence, has_time = config.opt_start_seq > 0, bool(config.opt_start_time)

    def refused(what: str, state: str) -> ApiError:
        reason = (
            f"consumer delivery policy is deliver {_POLICY_WORDS[policy]}, but optional {what} is {state}"
        )
        return ApiError(error_table.CONSUMER_INVALID_POLICY, err=reason)

    if policy == "by_start_sequence":
        if not has_sequence:
            raise refused("start sequence", "not set")
        if has_time:
            raise refused("start time", "also set")
    elif policy == "by_start_time":
        if not has_time:
            raise refused("start time", "not set")
        if has_sequence:
            raise refused("start start sequence", "also set")
    else:
        if policy == "last_per_subject" and not config.filters:
            raise refused("filter subject", "not set")
        if has_sequence:
            raise refused("start sequence", "also set")
        if has_time:
            raise refused("start time", "also set")


def _check_priority(config: ConsumerConfig) -> None:
    has_policy = config.priority_policy not in {"", "none"}
    if not has_policy:
        if config.priority_groups:
            raise ApiError(error_table.CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE)
        if config.priority_timeout:
            raise ApiError(error_table.CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE)
        return
    if config.is_push:
        raise ApiError(error_table.CONSUMER_PUSH_WITH_PRIORITY_GROUP)
    if not config.priority_groups:
        raise ApiError(error_table.CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP)
    for group in config.priority_groups:
        if not group:
            raise ApiError(error_table.CONSUMER_EMPTY_GROUP_NAME)
        if not is_group_name(group):
            raise ApiError(error_table.CONSUMER_INVALID_GROUP_NAME)
