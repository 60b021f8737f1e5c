"""One stream: its configuration, its log, its consumers, and the subjects it takes messages from.

The stream is the place where things meet; what is done is done elsewhere. `Publishing` takes messages, `Expiry`
ends them, `DirectGet` gives them back, consumers deliver them. What they share is here: that the account's
totals follow the log (`on_appended`), that consumers hear what is durable (`on_durable`) and what went
(`tell_removed`, `tell_purged`), and the rules of a purge, a delete and an update.

Two heads: rules are judged by what was appended (`log.head`), consumers see what is durable
(`visible_sequence`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import headers
from headrace.core.base.message import Message
from headrace.core.bus import Registration
from headrace.core.subject import tokens
from headrace.jetstream import error_table
from headrace.jetstream.accounts import AccountState
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.mirrors.follower import Follower
from headrace.jetstream.mirrors.upstreams import Upstreams
from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.streams.atomic import AtomicBatches
from headrace.jetstream.streams.attached import AttachedConsumer, CloseReason, Interested
from headrace.jetstream.streams.direct_get import DirectGet
from headrace.jetstream.streams.expiry import Expiry
from headrace.jetstream.streams.fast import FastBatches
from headrace.jetstream.streams.interest import Interest
from headrace.jetstream.streams.publish import Publishing
from headrace.jetstream.streams.republish import Republisher
from headrace.jetstream.streams.schedules import Schedules
from headrace.jetstream.streams.transforms import input_transform
from headrace.storage.interface import CorruptRecord, IndexRebuilding, StorageError, StreamLog


class Stream:
    """A stream, as the API, the publish path and consumers see it."""

    def __init__(self, context: Context, account: AccountState, config: StreamConfig, log: StreamLog) -> None:
        self.context = context
        self.account = account
        self.config = config
        self.log = log
        self.consumers: dict[str, AttachedConsumer] = {}
        self.subject_heads = subject_heads(config)
        self.accounted_size = 0
        self.last_message_id: bytes | None = None
        self._captures: dict[bytes, Registration] = {}
        self._direct_captures: dict[str, list[Registration]] = {}
        self._is_origin_direct = False
        self.transform = input_transform(config)
        self.republisher = Republisher(self)
        self.interest = Interest(self)
        self.followers: list[Follower] = []
        self.upstreams = Upstreams(self)
        self.atomic_batches = AtomicBatches(self)
        self.fast_batches = FastBatches(self)
        self._publishing = Publishing(self)
        self._expiry = Expiry(self)
        self.schedules = Schedules(self)
        log.keep_message_ids(config.duplicate_window)

    def __repr__(self) -> str:
        return f"Stream({self.account.name!r}, {self.name!r})"

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def created_ns(self) -> int:
        return self.log.created_ns

    @property
    def visible_sequence(self) -> int:
        """The last sequence that consumers may be shown."""
        return self.log.durable_sequence

    @property
    def is_durable(self) -> bool:
        """Whether all that was appended is durable, so that answers need not wait."""
        return self.context.store.is_settled or (
            self.config.in_memory and self.log.durable_sequence >= self.log.head.last_sequence
        )

    def time_ns(self) -> int:
        """Give the time for a new message: never before the last one's, whatever the clock does."""
        return max(self.context.scheduler.now_ns(), self.log.head.last_time_ns)

    def last_message_id_or_read(self) -> bytes:
        """Give the deduplication id of the last message that was appended; empty where it had none."""
        if self.last_message_id is None:
            try:
                view = self.log.get(self.log.head.last_sequence)
            except CorruptRecord:
                view = None
            found = headers.get(view.headers, b"Nats-Msg-Id") if view is not None else None
            self.last_message_id = found or b""
        return self.last_message_id

    # life

    def open(self) -> None:
        """Begin to take messages and to serve them. The log is as recovered, and its consumers are attached."""
        try:
            self._expiry.open()
            if self._evict_front():
                self.tell_thinned()
        except StorageError as error:
            self.context.log.warning(
                f"Stream '{self.name}': what its limits leave no room for stays: {error}"
            )
        self.interest.sweep_later()
        self.schedules.open()
        self._capture_subjects()
        self._capture_direct(self._direct_names())
        self.on_changed()
        self.on_durable()
        self.upstreams.open()
        for follower in list(self.account.followers.get(self.name, ())):
            follower.on_origin(self)

    def close(self, reason: CloseReason) -> None:
        """Take no more messages; the log stays as it is."""
        for capture in self._captures.values():
            capture.close()
        self._captures.clear()
        self._capture_direct(frozenset())
        self._expiry.close()
        self.interest.close()
        self.schedules.close()
        self._publishing.close()
        self.atomic_batches.drop()
        self.fast_batches.drop()
        self.upstreams.close()
        followers, self.followers = self.followers, []
        for follower in followers:
            follower.on_origin_gone()
        for consumer in list(self.consumers.values()):
            consumer.close(reason)
        if reason is not CloseReason.SHUTDOWN:
            self.account.add_usage(-self.accounted_size, in_memory=self.config.in_memory)
            self.accounted_size = 0

    def update(self, config: StreamConfig) -> None:
        """Go on under another configuration; it was checked. Raises StorageError and then has changed nothing."""
        if config.max_msgs_per_subject > 0:
            self.log.subject(
                b""
            )  # where nobody knows what the subjects have, this says so before anything changes
        self.log.save_config(stored_config(self.account.name, config))
        old, self.config = self.config, config
        self.subject_heads = subject_heads(config)
        self.log.keep_message_ids(config.duplicate_window)
        self.transform = input_transform(config)
        self.republisher.on_config()
        self._publishing.on_config()
        if not config.allow_atomic:
            self.atomic_batches.drop()
        if not config.allow_batched:
            self.fast_batches.drop()
        self._enforce_limits(old)
        if old.retention != config.retention:
            self.interest.sweep()
        self._capture_subjects()
        self._capture_direct(self._direct_names())
        for follower in self.followers:
            follower.on_origin_changed(self)
        self._expiry.on_config()
        self.upstreams.on_config()
        self.on_changed()

    def _capture_subjects(self) -> None:
        wanted = {subject.encode() for subject in self.config.subjects}
        for subject in set(self._captures) - wanted:
            self._captures.pop(subject).close()
        bus = self.context.bus
        for subject in sorted(wanted - set(self._captures)):
            self._captures[subject] = bus.capture(self.account.name, subject, self._publishing)

    def on_mirrored(self, *, is_origin_direct: bool) -> None:
        """The stream that this one mirrors has come, changed or gone; it answers direct gets itself or does not."""
        self._is_origin_direct = is_origin_direct
        self._capture_direct(self._direct_names())

    def _direct_names(self) -> frozenset[str]:
        """Give the names under which this stream answers direct gets: its own, and its origin's that does not."""
        config = self.config
        names = {self.name} if config.allow_direct else set[str]()
        mirror = config.mirror
        if (
            config.mirror_direct
            and mirror is not None
            and mirror.external is None
            and not self._is_origin_direct
        ):
            names.add(mirror.name)
        return frozenset(names)

    def _capture_direct(self, names: frozenset[str]) -> None:
        for name in set(self._direct_captures) - names:
            for capture in self._direct_captures.pop(name):
                capture.close()
        for name in sorted(names - set(self._direct_captures)):
            sink = DirectGet(self, name)
            self._direct_captures[name] = [
                self.context.bus.capture(self.account.name, each, sink)
                for prefix in self.context.api_prefixes
                for subject in (b"%bDIRECT.GET.%b" % (prefix, name.encode()),)
                for each in (subject, subject + b".>")
            ]

    # what follows from a change of the log

    def on_changed(self) -> None:
        """The log's head is another one: let totals and deadlines follow."""
        size = self.log.head.size
        if size != self.accounted_size:
            self.account.add_usage(size - self.accounted_size, in_memory=self.config.in_memory)
            self.accounted_size = size
        self._expiry.arm()

    def on_durable(self) -> None:
        """A sync has returned: tell the consumers how far they may go."""
        if self.consumers:
            visible = self.visible_sequence
            for consumer in self.consumers.values():
                consumer.on_visible(visible)
        for follower in self.followers:
            follower.wake()

    def tell_removed(self, first: int, last: int, subject: bytes | None) -> None:
        """Tell the consumers that an inclusive range went."""
        for consumer in self.consumers.values():
            consumer.on_removed(first, last, subject)

    def tell_thinned(self) -> None:
        """Tell the consumers that messages went by the stream's limits, anywhere."""
        for consumer in self.consumers.values():
            consumer.on_thinned()

    def tell_purged(self) -> None:
        """Tell the consumers that messages went, anywhere."""
        for consumer in self.consumers.values():
            consumer.on_purged()

    def when_durable(self, callback: Callable[[StorageError | None], None]) -> None:
        """Call back when all that was changed up to now is durable; at once where it is."""
        if self.is_durable:
            callback(None)
        else:
            self.context.store.after_sync(callback)

    # removals

    def append_own(self, message: Message, *, ends: int = 0) -> ApiError | None:
        """Store what the stream itself says; give why not where that is refused. Raises IndexRebuilding.

        `ends`: a message that goes with it.
        """
        return self._publishing.append_own(message, ends=ends)

    def end_at(self, sequence: int, subject: bytes, end_ns: int) -> None:
        """A message that was appended has a TTL: it goes at this time."""
        self._expiry.add(sequence, subject, end_ns)

    def interested(self) -> list[Interested]:
        """Give those who may need messages: consumers, and streams that copy this one."""
        return [*self.consumers.values(), *self.followers]

    def settle(self, consumer: Interested, ranges: Sequence[tuple[int, int]]) -> None:
        """A consumer needs the messages of these inclusive ranges no more: remove what retention says.

        On a workqueue a message has one consumer, so the others need not hear of it.
        """
        if self.config.retention == "workqueue" and ranges:
            self.log.remove(ranges)
            self.on_changed()
        elif self.interest.is_on and self.interest.settle(consumer, ranges):
            self.on_changed()

    def delete_message(self, sequence: int, *, secure: bool) -> None:
        """Delete one message. Raises ApiError."""
        if self.config.sealed:
            raise ApiError(error_table.STREAM_SEALED)
        if self.config.deny_delete:
            raise ApiError(error_table.STREAM_MSG_DELETE_FAILED, err="message delete not permitted")
        if not self.log.size_of(sequence):
            raise self._no_message_to_delete(sequence)
        subject = self._subject_of(sequence)
        self.upstreams.before_removal()
        try:
            self.log.remove([(sequence, sequence)], secure=secure)
        except StorageError as error:
            raise ApiError(error_table.STREAM_MSG_DELETE_FAILED, err=error) from error
        self.on_changed()
        self.tell_removed(sequence, sequence, subject)

    def _no_message_to_delete(self, sequence: int) -> ApiError:
        """Say it as the reference does, whose two kinds of storage differ outside of what a stream has."""
        if not self.config.in_memory:
            if sequence > self.log.head.last_sequence:
                return ApiError(error_table.STREAM_MSG_DELETE_FAILED, err="stream store EOF")
            if sequence < max(1, self.log.head.first_sequence):
                return ApiError(error_table.STREAM_MSG_DELETE_FAILED, err="no message found")
        return ApiError(error_table.SEQUENCE_NOT_FOUND, seq=sequence)

    def _subject_of(self, sequence: int) -> bytes | None:
        try:
            view = self.log.get(sequence)
        except CorruptRecord:
            return None
        return view.subject if view is not None else None

    def purge(self, *, filter_subject: str, sequence: int, keep: int) -> int:
        """Remove messages: of a subject, below a sequence, or all but the newest. Raises ApiError."""
        if self.config.sealed:
            raise ApiError(error_table.STREAM_SEALED)
        if self.config.deny_purge:
            raise ApiError(error_table.STREAM_PURGE_FAILED, err="stream purge not permitted")
        self.upstreams.before_removal()
        try:
            purged = self._purge(filter_subject, sequence, keep)
        except IndexRebuilding:
            raise
        except StorageError as error:
            raise ApiError(error_table.STREAM_PURGE_FAILED, err=error) from error
        self.on_changed()
        self.tell_purged()
        return purged

    def _purge(self, filter_subject: str, sequence: int, keep: int) -> int:
        head = self.log.head
        if filter_subject and filter_subject != ">":
            match = SubjectFilter((filter_subject.encode(),))
            return self.log.remove_subjects(match, below=sequence, keep=keep)
        if keep:
            return self._keep_newest(keep)
        last = sequence - 1 if sequence else head.last_sequence
        if last < head.first_sequence:
            return 0
        return self.log.remove([(head.first_sequence, last)])

    def _keep_newest(self, count: int) -> int:
        surplus = self.log.head.messages - count
        if surplus <= 0:
            return 0
        first = stays = self.log.head.first_sequence
        if self.log.head.deleted_count == 0:
            stays += surplus
        else:
            for _ in range(surplus):
                stays = self.log.next_sequence(stays + 1)
        return self.log.remove([(first, stays - 1)])

    def _enforce_limits(self, old: StreamConfig) -> None:
        """Remove what lower limits than the old ones leave no room for."""
        if self.config.sealed:
            return
        went = 0
        limit, before = self.config.max_msgs_per_subject, old.max_msgs_per_subject
        if limit > 0 and (before <= 0 or limit < before):
            for state in self.log.subjects(None):
                if state.count > limit:
                    went += self.log.remove_subjects(SubjectFilter((state.subject,)), keep=limit)
        went += self._evict_front()
        if went:
            self.tell_thinned()

    def _evict_front(self) -> int:
        config, head = self.config, self.log.head
        messages, size, stays = head.messages, head.size, head.first_sequence
        while (0 < config.max_msgs < messages) or (0 < config.max_bytes < size):
            messages -= 1
            size -= self.log.size_of(stays)
            stays = self.log.next_sequence(stays + 1)
        return self.log.remove([(head.first_sequence, stays - 1)]) if stays > head.first_sequence else 0


def subject_heads(config: StreamConfig) -> frozenset[bytes]:
    """Give the first tokens of a stream's subjects."""
    return frozenset(tokens(subject.encode())[0] for subject in config.subjects)


def stored_config(account: str, config: StreamConfig) -> dict[str, Any]:
    """Give what a log keeps as its configuration."""
    return {"account": account, "config": config.fields()}
