"""What JetStream sees of a store: logs of messages with two heads, and records that ride with them.

A `StreamLog` holds one stream: messages by sequence, what is removed, its configuration, its consumers' state.
File logs and memory logs are the same to the caller.

**Two heads.** Every change is visible in `head` (the *appended* state) as soon as the call returns. It is durable
only after the sync that covers it; `durable_sequence` and `Store.after_sync` tell. Callers answer clients from
`after_sync` alone, and show consumers nothing above `durable_sequence`. Memory logs are durable at once.

**Opaque.** Subjects are byte strings without structure here; a wildcard reaches storage as a `Matcher`. A consumer is
a `Register`: some numbers, and rows of numbers by sequence. Configurations are msgpack-able dictionaries.

Nothing here blocks longer than a read of one block; what writes and syncs does so off the loop (group commit).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from headrace.core.base.errors import HeadraceError
from headrace.core.base.message import Batch, View


class StorageError(HeadraceError):
    """The store cannot do what was asked."""


class StoreLocked(StorageError):
    """Another server uses this store."""


class StoreUnusable(StorageError):
    """The folder cannot be used as a store; says why and what to do."""


class LogFenced(StorageError):
    """A write or sync of this log failed: nothing more is written to it until a restart. Reads go on."""


class DiskFull(StorageError):
    """There is no room; nothing was written. Passes when there is."""


class IndexRebuilding(StorageError):
    """The lookup index is being rebuilt: which messages a subject has is not known yet. Passes by itself.

    `when_ready` calls back when it has passed.
    """

    def __init__(self, when_ready: Callable[[Callable[[], None]], None]) -> None:
        super().__init__("lookup index is being rebuilt")
        self.when_ready = when_ready


class CorruptRecord(StorageError):
    """A stored record does not check; it is in the lost list from now on."""

    def __init__(self, path: str, offset: int, sequence: int) -> None:
        super().__init__(f"{path} at {offset}: record {sequence} does not check")
        self.path = path
        self.offset = offset
        self.sequence = sequence


class Effect(NamedTuple):
    """What else an append causes; part of its record, so that replay needs no rule.

    `first_sequence`: everything below is gone (0: no change). `evicted`: single sequences that go (an older message of
    the subject). `subject_before`: all earlier messages of the same subject go. `all_before`: all earlier ones go.
    """

    first_sequence: int = 0
    evicted: tuple[int, ...] = ()
    subject_before: bool = False
    all_before: bool = False


NO_EFFECT = Effect()


class Entry(NamedTuple):
    """A message to append. Its sequence is the log's next one.

    `previous`: the subject's previous sequence where the caller looked it up, else 0. `message_id`: its
    deduplication id, else empty; it is indexed.
    """

    subject: bytes
    headers: bytes
    payload: bytes
    time_ns: int
    message_id: bytes = b""
    previous: int = 0
    effect: Effect = NO_EFFECT


def _none() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a log as its owner sees it. An empty log has first = last + 1, and 0, 0 when it never held any.

    `size` is by the reference's formulas (file: 30 + subject + payload, + 4 + headers where there are any;
    memory: 16 + subject + headers + payload); limits and `state.bytes` use it. `lost`: inclusive ranges of
    sequences that were acknowledged, or may have been, and cannot be read.
    """

    messages: int = 0
    size: int = 0
    first_sequence: int = 0
    first_time_ns: int = 0
    last_sequence: int = 0
    last_time_ns: int = 0
    counted: Callable[[], int] = field(default=_none, compare=False, repr=False)
    deleted_count: int = 0
    lost: tuple[tuple[int, int], ...] = ()

    @property
    def subject_count(self) -> int:
        """How many subjects there are; counted when it is asked. Raises IndexRebuilding."""
        return self.counted()


@dataclass(frozen=True, slots=True)
class SubjectState:
    """One subject's messages that are still there."""

    subject: bytes
    count: int
    first_sequence: int
    last_sequence: int


class Matcher(Protocol):
    """Which subjects are meant. `literals`: exactly these; None: whatever `matches` says."""

    @property
    def literals(self) -> frozenset[bytes] | None: ...

    def matches(self, subject: bytes) -> bool: ...


class Scan(NamedTuple):
    """Messages found, ascending, and where the search goes on; `next_sequence` is past the stop when it is over."""

    views: list[View]
    next_sequence: int


class Register(NamedTuple):
    """A consumer's progress in neutral form: named numbers, and rows of numbers by stream sequence."""

    numbers: dict[str, int]
    rows: dict[int, tuple[int, ...]]


class RegisterChange(NamedTuple):
    """What became of a register: new numbers, rows put, rows dropped (inclusive ranges). Applied in that order:
    numbers, drops, puts.
    """

    numbers: Mapping[str, int]
    drops: Sequence[tuple[int, int]]
    puts: Mapping[int, tuple[int, ...]]


class ConsumerRecord(NamedTuple):
    """A stored consumer."""

    name: str
    config: dict[str, Any]
    created_ns: int
    register: Register


class StreamLog(Protocol):
    """One stream's log. Loop thread only."""

    @property
    def stream_id(self) -> int:
        """Random, 64 bits, never reused."""
        ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def created_ns(self) -> int: ...

    @property
    def head(self) -> Head:
        """The appended state."""
        ...

    @property
    def durable_sequence(self) -> int: ...

    @property
    def fenced(self) -> str:
        """Why nothing can be written any more; empty where it can."""
        ...

    @property
    def is_index_ready(self) -> bool:
        """Whether questions about subjects and message ids are answered; else they raise IndexRebuilding."""
        ...

    def when_index_ready(self, callback: Callable[[], None]) -> None:
        """Call back when they are; they are not now."""
        ...

    @property
    def is_index_full(self) -> bool:
        """Whether the lookup index holds as much in memory as it may: appends should wait."""
        ...

    def when_index_has_room(self, callback: Callable[[], None]) -> None:
        """Call back when it has room again; it has none now."""
        ...

    # changes; each raises LogFenced or DiskFull and then has changed nothing

    def append(self, entries: Sequence[Entry], *, is_atomic: bool = False) -> int:
        """Append all or none; give the first one's sequence.

        `is_atomic`: a crash too leaves all of them or none.
        """
        ...

    def append_batch(self, batch: Batch, time_ns: int) -> int:
        """Append every message of `batch` as it is, without effects; give the first one's sequence."""
        ...

    def skip(self, last_sequence: int, time_ns: int) -> None:
        """Use up sequences to `last_sequence` without messages."""
        ...

    def remove(self, ranges: Sequence[tuple[int, int]], *, secure: bool = False) -> int:
        """Remove the messages of inclusive ranges; give how many there were.

        A range that begins at or below the first sequence moves it, beyond the last sequence too (a purge ahead).
        `secure`: overwrite them as well.
        """
        ...

    def remove_subjects(self, match: Matcher, *, below: int = 0, keep: int = 0) -> int:
        """Remove messages of matching subjects with sequence < `below` (0: all) but the newest `keep` of them."""
        ...

    def save_config(self, config: dict[str, Any]) -> None: ...

    def save_consumer(
        self, name: str, config: dict[str, Any], created_ns: int, register: Register | None
    ) -> None:
        """Create a consumer, or change its configuration (`register` None: it keeps its own)."""
        ...

    def delete_consumer(self, name: str) -> None: ...

    def change_register(self, name: str, change: RegisterChange, *, sync: bool) -> None:
        """Record a consumer's progress; with `sync`, the next group commit covers it, else it goes out unsynced."""
        ...

    def consumers(self) -> Mapping[str, ConsumerRecord]:
        """The consumers as recovered at open; jetstream keeps them from then on."""
        ...

    # reads, of the appended state

    def get(self, sequence: int) -> View | None:
        """Give a message, or None where there is none. Raises CorruptRecord."""
        ...

    def scan(
        self,
        start: int,
        stop: int,
        match: Matcher | None,
        *,
        messages_max: int,
        size_max: int,
        steps_max: int = 20_000,
    ) -> Scan:
        """Read matching messages from `start` to `stop` inclusive, within bounds; skips what does not check.

        Ends after `messages_max` messages, when their bytes reach `size_max` (at least one is given), or when
        `steps_max` records were looked at.
        """
        ...

    def size_of(self, sequence: int) -> int:
        """Give a message's accounted size (see `Head.size`); 0 where there is none."""
        ...

    def next_sequence(self, sequence: int) -> int:
        """Give the first existing sequence at or above `sequence`; last + 1 where there is none."""
        ...

    def sequence_at(self, time_ns: int) -> int:
        """Give the first sequence whose timestamp is at or after `time_ns`; last + 1 where there is none."""
        ...

    def deleted(self) -> Iterable[tuple[int, int]]:
        """Give the inclusive ranges between first and last that hold no message, ascending."""
        ...

    def subject(self, subject: bytes) -> SubjectState | None: ...

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        """Give matching subjects in byte order, those behind `after`; 0: all."""
        ...

    def last_matching(self, match: Matcher, *, at_most: int = 0) -> View | None:
        """Give the newest message of matching subjects, with sequence <= `at_most` unless 0."""
        ...

    def count_matching(self, match: Matcher | None, start: int) -> int:
        """Count messages of matching subjects with sequence >= `start`. Cheap from the first sequence on."""
        ...

    def keep_message_ids(self, window_ns: int) -> None:
        """Say for how long ids are wanted: those of messages whose files go are kept so long, over starts too."""
        ...

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        """Give the sequence of the newest append with this id at or after `since_ns`, removed since or not."""
        ...


class Store(Protocol):
    """All logs of one server."""

    def logs(self) -> Sequence[StreamLog]:
        """The logs that are there, as recovered or made since."""
        ...

    def create(
        self, config: dict[str, Any], *, memory: bool, created_ns: int, first_sequence: int = 0
    ) -> StreamLog:
        """Make a log; raises StorageError. It is durable after the next `after_sync`."""
        ...

    def delete(self, log: StreamLog) -> None:
        """Delete a log with all that it holds; durable after the next `after_sync`."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether nothing that asks for a sync is waiting for one."""
        ...

    def after_sync(
        self, callback: Callable[[StorageError | None], None], log: StreamLog | None = None
    ) -> None:
        """Call back when all that was changed up to now is durable, in the order of asking; at once if it is.

        With an error, a write or sync failed: what is on disk is unknown, and the logs concerned are fenced. Who names
        a `log` hears only of that one, and of its fence whenever that came; else of every log that failed meanwhile.
        """
        ...

    def commit(self) -> None:
        """End of a turn: hand over what waits, unless a sync is in flight (its end hands over the next)."""
        ...

    def close(self) -> None:
        """Sync everything, write close records, release the lock. Waits."""
        ...
