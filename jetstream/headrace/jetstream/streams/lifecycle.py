"""How streams come, change and go: what an account and its other streams have to say about it.

`create_stream`, `update_stream` and `delete_stream` do all of it, in the reference server's order of checks,
and raise `ApiError` having changed nothing. Their effect is durable after the next sync; the advisory is sent
then.

Source: the JetStream API reference, section 2.2, and the streams reference, section 1.
"""

from typing import Any, Final

from headrace.core.subject import ANY_TAIL, ANY_TOKEN, overlaps
from headrace.jetstream import error_table
from headrace.jetstream.accounts import AccountState
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.levels import own_metadata, stream_level, without_reserved
from headrace.jetstream.mirrors.rules import with_origins
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.streams import rules
from headrace.jetstream.streams.attached import CloseReason
from headrace.jetstream.streams.stream import Stream, stored_config, subject_heads
from headrace.storage.interface import DiskFull, IndexRebuilding, StorageError

WILDCARDS: Final = frozenset((ANY_TOKEN, ANY_TAIL))
ADVISORY_TYPE: Final = "io.nats.jetstream.advisory.v1.stream_action"


def create_stream(
    context: Context, account: AccountState, asked: StreamConfig, *, is_pedantic: bool
) -> Stream:
    """Make a stream, or give the one that is there with the same configuration. Raises ApiError."""
    if "/" in asked.name or "\\" in asked.name:
        raise ApiError(error_table.STREAM_NAME_CONTAINS_PATH_SEPARATORS)
    if asked.sealed:
        raise rules.invalid("stream configuration for create can not be sealed")
    if asked.mirror_direct and asked.mirror is None:
        raise rules.invalid("stream has no mirror but does have mirror direct")
    config = rules.checked(asked, is_pedantic=is_pedantic)
    config = with_origins(account.streams, config, is_pedantic=is_pedantic)
    if config.num_replicas > 1:
        raise ApiError(error_table.STREAM_REPLICAS_NOT_SUPPORTED)
    existing = account.streams.get(config.name)
    if existing is not None:
        if not is_same(existing.config, config):
            raise ApiError(error_table.STREAM_NAME_EXIST)
        return existing
    if config.name in account.offline:
        raise ApiError(error_table.STREAM_OFFLINE_REASON, err=account.offline[config.name])
    check_admission(account, config)
    try:
        log = context.store.create(
            stored_config(account.name, config),
            memory=config.in_memory,
            created_ns=context.scheduler.now_ns(),
            first_sequence=config.first_seq,
        )
    except DiskFull:
        raise ApiError(error_table.INSUFFICIENT_RESOURCES) from None
    except StorageError as error:
        context.log.warning(f"Stream '{account.name} > {config.name}' not created: {error}")
        raise ApiError(error_table.STREAM_CREATE, err="error creating store for stream") from error
    stream = Stream(context, account, config, log)
    account.streams[config.name] = stream
    stream.open()
    _announce(context, account, config.name, b"CREATED", "create")
    return stream


def check_admission(account: AccountState, config: StreamConfig) -> None:
    """Refuse a new stream for which limits or other streams' subjects leave no room. Raises ApiError."""
    _check_account(account, config, old=None)
    _check_overlaps(account, config)


def update_stream(stream: Stream, config: StreamConfig) -> None:
    """Change a stream's configuration to exactly this one; `rules.checked` gave it. Raises ApiError."""
    old = stream.config
    config = with_origins(stream.account.streams, config, is_pedantic=False)
    rules.check_update(old, config)
    if config.sealed:
        config = rules.sealed(config)
    _check_account(stream.account, config, old=old)
    _check_consumers(stream, config)
    _check_overlaps(stream.account, config)
    try:
        stream.update(config.replaced(metadata=own_metadata(config.metadata, stream_level(config))))
    except IndexRebuilding:
        raise
    except StorageError as error:
        raise ApiError(error_table.STREAM_UPDATE, err=error) from error
    _announce(stream.context, stream.account, config.name, b"UPDATED", "modify")


def delete_stream(stream: Stream) -> None:
    """Delete a stream with its messages and consumers. Raises ApiError."""
    try:
        stream.context.store.delete(stream.log)
    except StorageError as error:
        raise ApiError(error_table.STREAM_DELETE, err=error) from error
    stream.close(CloseReason.STREAM_DELETED)
    del stream.account.streams[stream.name]
    _announce(stream.context, stream.account, stream.name, b"DELETED", "delete")


def is_same(one: StreamConfig, other: StreamConfig) -> bool:
    """Tell whether two configurations ask for the same stream; what the server adds to metadata is ignored."""
    return _compared(one) == _compared(other)


def _compared(config: StreamConfig) -> dict[str, Any]:
    return config.fields() | {"metadata": without_reserved(config.metadata)}


def _check_account(account: AccountState, config: StreamConfig, *, old: StreamConfig | None) -> None:
    """Refuse what is beyond the account's limits; of an update only what is more than before counts."""
    limits = account.options
    if old is None and 0 <= limits.max_streams <= len(account.streams):
        raise ApiError(error_table.MAXIMUM_STREAMS_LIMIT)
    if limits.max_bytes_required and config.max_bytes <= 0:
        raise ApiError(error_table.STREAM_MAX_BYTES_REQUIRED)
    largest = limits.memory_max_stream_bytes if config.in_memory else limits.storage_max_stream_bytes
    if 0 < largest < config.max_bytes:
        raise ApiError(error_table.STREAM_MAX_STREAM_BYTES_EXCEEDED)
    before = max(0, old.max_bytes) if old is not None else 0
    increase = max(0, config.max_bytes) - before
    if increase > 0 or old is None:
        account.check_reservation(max(0, increase), in_memory=config.in_memory)


def _check_consumers(stream: Stream, config: StreamConfig) -> None:
    """Refuse consumer limits below what a consumer of the stream has."""
    limits = config.consumer_limits
    violating = sorted(
        consumer.name
        for consumer in stream.consumers.values()
        if (0 < limits.max_ack_pending < consumer.max_ack_pending)
        or (0 < limits.inactive_threshold < consumer.inactive_threshold_ns)
    )
    if violating:
        names = ", ".join(violating)
        raise ApiError(error_table.STREAM_UPDATE, err=f"change to limits violates consumers: {names}")


def _check_overlaps(account: AccountState, config: StreamConfig) -> None:
    own = [subject.encode() for subject in config.subjects]
    heads = subject_heads(config)
    is_anywhere = not heads.isdisjoint(WILDCARDS)
    for name, other in account.streams.items():
        if name == config.name:
            continue
        # Of thousands of streams, most begin with another token: comparing those makes creation slow.
        if (
            not is_anywhere
            and heads.isdisjoint(other.subject_heads)
            and WILDCARDS.isdisjoint(other.subject_heads)
        ):
            continue
        for taken in other.config.subjects:
            if any(overlaps(taken.encode(), subject) for subject in own):
                raise ApiError(error_table.STREAM_SUBJECT_OVERLAP)


def _announce(context: Context, account: AccountState, name: str, event: bytes, action: str) -> None:
    """Send the advisory once what it says is durable."""
    subject = b"$JS.EVENT.ADVISORY.STREAM.%b.%b" % (event, name.encode())

    def send(error: StorageError | None) -> None:
        if error is None:
            context.advise(account.name, subject, {"type": ADVISORY_TYPE, "stream": name, "action": action})

    context.store.after_sync(send)
