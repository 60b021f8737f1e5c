"""The life of consumers: made, changed, found again after a restart, ended.

A `Consumers` is made once by the service. It holds what consumers share, which is little: those that wait for room in
some connection. Each stream holds its own consumers by name.

Source: the JetStream API reference, section 2.11; the consumer reference, sections 1.3 and 13.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from headrace.jetstream import error_table, levels
from headrace.jetstream.consumers import rules
from headrace.jetstream.consumers.consumer import Consumer
from headrace.jetstream.consumers.position import (
    Position,
    make_filter,
    resumed,
    starting_point,
)
from headrace.jetstream.consumers.state import ConsumerState
from headrace.jetstream.consumers.stored import LISTED_TO
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.mirrors.positions import RECORD_NAME
from headrace.jetstream.mirrors.remote import RemoteFollower
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.jetstream.models.wire import InvalidJson, decode
from headrace.jetstream.streams.attached import CloseReason
from headrace.jetstream.streams.stream import Stream
from headrace.storage.interface import ConsumerRecord, StorageError

NAME_SIZE: Final = 8
"""Characters of a name that the server makes up."""

_NO_STORE: Final = "error creating store for consumer"


class Consumers:
    """Makes, changes and ends the consumers of all streams."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._without_room: dict[Consumer, None] = {}
        context.bus.on_room(self._on_room)

    def create(
        self,
        stream: Stream,
        name: str,
        config: ConsumerConfig,
        *,
        action: str = "",
        is_pedantic: bool = False,
    ) -> Consumer:
        """Make a consumer, or change the one of that name; `name` empty: make one up. Raises ApiError."""
        surroundings = rules.Surroundings(stream.config, self._max_ack_pending(stream))
        existing = find(stream, name) if name else None
        if existing is not None and existing.config.is_durable:
            config = config.replaced(durable_name=existing.config.durable_name)
        full = rules.checked(config, surroundings, is_pedantic=is_pedantic)
        if existing is not None:
            return self._update(stream, existing, full, action)
        if action == "update":
            raise ApiError(error_table.CONSUMER_DOES_NOT_EXIST)
        self._check_count(stream)
        if stream.config.retention == "workqueue" and not full.direct:
            rules.check_workqueue(full, [each.config for each in consumers_of(stream)], is_new=True)
        if len(name.encode()) > rules.NAME_SIZE_MAX or "\0" in name:
            # Only a durable name is measured before; on the reference this is the operating system's refusal.
            raise ApiError(error_table.CONSUMER_CREATE, err=_NO_STORE)
        return self._make(stream, name or self._free_name(stream), full)

    def expected_follower(self, name: str) -> RemoteFollower | None:
        """Give the stream that asks for one to copy under this name, if one does."""
        return self._context.expected_followers.get(name)

    def remove(self, consumer: Consumer) -> None:
        """End a consumer for good. Raises StorageError, and it then goes on."""
        stream = consumer.stream
        if stream.consumers.get(consumer.name) is not consumer:
            return
        if not consumer.config.mem_storage:
            stream.log.delete_consumer(consumer.name)
        del stream.consumers[consumer.name]
        self._without_room.pop(consumer, None)
        consumer.close(CloseReason.DELETED)
        consumer.advisories.deleted()
        stream.interest.sweep()

    def recover(self, stream: Stream) -> None:
        """Attach the consumers that the stream's log has kept."""
        self.attach(stream, stream.log.consumers().values())

    def attach(self, stream: Stream, records: Iterable[ConsumerRecord]) -> None:
        """Attach consumers that are stored already."""
        for record in records:
            if record.name == RECORD_NAME:
                continue  # of the stream itself
            try:
                config = decode(ConsumerConfig, dict(record.config), lenient=True)
            except InvalidJson as error:
                self._context.log.warning(f"Consumer '{stream.name} > {record.name}' cannot be read: {error}")
                continue
            reason = levels.unsupported_reason(config.metadata)
            if reason:
                self._context.log.warning(f"Consumer '{stream.name} > {record.name}' is offline: {reason}")
                continue
            consumer = self._recovered(stream, config, record)
            stream.consumers[record.name] = consumer
            if stream.config.retention == "workqueue":
                stream.settle(consumer, consumer.settled_messages())

    def _make(self, stream: Stream, name: str, config: ConsumerConfig) -> Consumer:
        match = make_filter(config)
        start = starting_point(config, stream.log, match)
        consumer = Consumer(
            stream,
            name,
            config,
            self._context.scheduler.now_ns(),
            state=ConsumerState(rules.delivery_rules(config), start=start.first),
            position=Position(stream.log, match, start.next_sequence, start.listed),
            listed_to=start.next_sequence - 1 if config.deliver_policy == "last_per_subject" else 0,
            await_room=self._await_room,
            expire=self._expire,
        )
        try:
            consumer.save()
        except StorageError as error:
            consumer.close(CloseReason.DELETED)
            raise ApiError(error_table.CONSUMER_STORE_FAILED, err=error) from error
        stream.consumers[name] = consumer
        consumer.advisories.created()
        if consumer.paused_for_ns:
            consumer.advisories.paused(config.pause_until_ns, is_paused=True)
        consumer.wake()
        return consumer

    def _update(self, stream: Stream, consumer: Consumer, config: ConsumerConfig, action: str) -> Consumer:
        old = consumer.config
        kept = config.replaced(pause_until=old.pause_until, name=old.name)
        wanted = kept.replaced(metadata=levels.own_metadata(kept.metadata, rules.level(kept)))
        is_same = rules.same(old, wanted)
        if action == "create" and not (is_same and old.is_durable):
            raise ApiError(error_table.CONSUMER_ALREADY_EXISTS)
        if is_same:
            return consumer
        if stream.config.retention == "workqueue":
            others = [each.config for each in consumers_of(stream) if each is not consumer]
            rules.check_workqueue(wanted, others, is_new=False)
        rules.check_update(old, wanted, is_bound=consumer.is_bound)
        try:
            consumer.update(wanted)
        except StorageError as error:
            raise ApiError(error_table.CONSUMER_STORE_FAILED, err=error) from error
        return consumer

    def _recovered(self, stream: Stream, config: ConsumerConfig, record: ConsumerRecord) -> Consumer:
        """Make a consumer of what was stored, and let it meet what the stream has lost since."""
        log = stream.log
        head = log.head
        state = ConsumerState(rules.delivery_rules(config))
        state.restore(record.register)
        match = make_filter(config)
        listed_to = record.register.numbers.get(LISTED_TO, 0)
        may_lie_ahead = config.deliver_policy in {"all", "by_start_sequence"}  # by a reset, or from the start
        if not may_lie_ahead or state.delivered_consumer:
            state.rolled_back(head.last_sequence)
        # Pending messages that went while their ack, or their removal, was being written.
        lowest = min(itertools.chain(state.pending, state.exhausted), default=head.first_sequence)
        has_gaps = head.messages != head.last_sequence - head.first_sequence + 1
        if has_gaps or lowest < head.first_sequence:
            state.keep_existing(lambda sequence: log.next_sequence(sequence) == sequence)
        return Consumer(
            stream,
            record.name,
            config,
            record.created_ns,
            state=state,
            position=resumed(log, match, state.delivered_stream, listed_to),
            listed_to=listed_to,
            await_room=self._await_room,
            expire=self._expire,
        )

    def _max_ack_pending(self, stream: Stream) -> int:
        bounds = (self._context.options.max_ack_pending, stream.account.options.max_ack_pending)
        return min((bound for bound in bounds if bound > 0), default=-1)

    def _check_count(self, stream: Stream) -> None:
        count = sum(not consumer.config.direct for consumer in consumers_of(stream))
        account_max = stream.account.options.max_consumers
        if 0 < stream.config.max_consumers <= count or 0 < account_max <= stream.account.consumer_count:
            raise ApiError(error_table.MAXIMUM_CONSUMERS_LIMIT)

    def _free_name(self, stream: Stream) -> str:
        while True:
            name = self._context.chance.base62(NAME_SIZE).decode()
            if name not in stream.consumers:
                return name

    def _expire(self, consumer: Consumer) -> None:
        """Nobody used the consumer for too long."""
        try:
            self.remove(consumer)
        except StorageError as error:
            self._context.log.warning(f"{consumer!r} cannot be deleted: {error}")
            consumer.on_activity()

    def _await_room(self, consumer: Consumer) -> None:
        self._without_room[consumer] = None

    def _on_room(self) -> None:
        waiting, self._without_room = self._without_room, {}
        for consumer in waiting:
            consumer.on_room()


def consumers_of(stream: Stream) -> Iterator[Consumer]:
    """Give a stream's consumers."""
    for consumer in stream.consumers.values():
        assert isinstance(consumer, Consumer), "only this module attaches consumers"
        yield consumer


def find(stream: Stream, name: str) -> Consumer | None:
    """Give the consumer of that name, if there is one."""
    consumer = stream.consumers.get(name)
    assert consumer is None or isinstance(consumer, Consumer), "only this module attaches consumers"
    return consumer
