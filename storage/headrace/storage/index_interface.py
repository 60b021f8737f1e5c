"""What a file log sees of its lookup index: which messages a subject has, and where a message id was used.

The log tells everything that becomes part of its *appended* state, in order: appends, removals, and at the end of each
commit cycle a `mark` with the cycle's `Position`. The index keeps what is not yet on disk in memory; `advance` tells
it how far the log is durable, and it writes up to there in small steps. So what is on disk never knows more than
the log does after a crash.

After an open the log asks `replay_from` and tells again, in the same order and with the same numbers as the first
time, all that came after it. Only then may the index be asked; its answers are exact.

The index is derived. Where its rows are lost, damaged, know more than the log, or too little to be told the rest, it is
**rebuilt** while the log serves: a `Feed` gives it part after part of what the log holds, and what the log tells
meanwhile about parts that were not given yet is left out, for they will show it. Until it is ready (`is_ready`) nothing
is known: asking raises `IndexRebuilding`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headrace.storage.interface import IndexRebuilding, Matcher, StorageError, SubjectState

if TYPE_CHECKING:
    from headrace.storage.framing import Unreadable
    from headrace.storage.part_notes import Part

__all__ = [
    "START",
    "Feed",
    "IndexDamaged",
    "IndexRebuilding",
    "IndexStore",
    "IndexUnwritable",
    "LogIndex",
    "Position",
]


class IndexDamaged(StorageError):
    """The index does not check. Nothing is lost: it is rebuilt from the log."""


class IndexUnwritable(StorageError):
    """The index cannot be written now: no room, or an error of the disk. It stays as it was; memory grows."""


class Position(NamedTuple):
    """A boundary of a group commit: the last sequence used up, and the number of the last change that was no append."""

    sequence: int
    change: int


START = Position(sequence=0, change=0)


class Feed(Protocol):
    """What a log gives an index that is rebuilt. `part_after` and what it leaves out belong to one moment."""

    def part_after(self, sequence: int, limit: int) -> "tuple[Part | None, int]":
        """Give the next part behind `sequence`, with nothing above `limit`, and the sequence that it reaches."""
        ...

    def note_unreadable(self, part: "Part", found: "Sequence[Unreadable]") -> None:
        """What of a part did not check: it was passed over, and is listed before the index may be asked."""
        ...

    def has(self, sequence: int, subject: bytes) -> bool:
        """Tell whether the log has this message, with this subject; one that cannot be read is believed to be it."""
        ...

    def known_ids(self) -> Sequence[tuple[bytes, int, int]]:
        """Give (message id, sequence, time) of ids that are known without their messages."""
        ...

    def position(self) -> Position:
        """Give the appended state's position."""
        ...


class LogIndex(Protocol):
    """The lookups of one log. Loop thread only."""

    @property
    def replay_from(self) -> Position:
        """What is on disk. After an open the log tells all that came behind it; `START`: everything.

        Later it follows `advance`: records at or below it are not needed for the index any more.
        """
        ...

    @property
    def is_full(self) -> bool:
        """Whether as much waits to be written as may: whoever appends should wait."""
        ...

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when there is room again; there is none now."""
        ...

    # telling

    def note_append(self, sequence: int, time_ns: int, subject: bytes, message_id: bytes = b"") -> None:
        """A message was appended. Removals that its append causes are told after it, with `change` 0."""
        ...

    def note_appends(self, first_sequence: int, subjects: Sequence[bytes]) -> None:
        """Messages without ids and effects were appended, with ascending sequences."""
        ...

    def note_removed(self, sequence: int, subject: bytes, change: int = 0) -> None:
        """A message was removed: by the change of this number, or (0) by the append told last."""
        ...

    def note_cleared(self, change: int = 0) -> None:
        """All messages told so far are removed (message ids stay known); cheap, whatever their number."""
        ...

    def note_id(self, message_id: bytes, sequence: int, time_ns: int) -> None:
        """An append used this id; for what is known without its message."""
        ...

    def mark(self, position: Position) -> None:
        """End of a commit cycle: all that was told up to now is within `position`."""
        ...

    def advance(self, durable: Position, budget_ns: int, *, urge: bool = False) -> bool:
        """Write what is durable, for about `budget_ns`; tell whether more is to do. May be called at every turn.

        Little is not worth a write; with `urge` it is written all the same, and `replay_from` comes up to `durable`.
        """
        ...

    def flush(self) -> None:
        """Write all that is durable, at a clean stop (after a last `mark` and `advance`)."""
        ...

    def rebuild(self) -> None:
        """Forget everything; it is rebuilt from the log."""
        ...

    def distrust(self) -> None:
        """An answer turned out to be wrong, or a row did not check: rebuild this index and all beside it."""
        ...

    def hurry(self) -> bool:
        """Get on with a rebuild as far as that takes no time that matters; tell whether it is ready."""
        ...

    def note_lost(self, sequence: int) -> None:
        """A message went of which nobody knows the subject."""
        ...

    def use(self, feed: Feed, durable: Position) -> None:
        """Say where a rebuild reads, and how far the log is durable."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it may be asked."""
        ...

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call back once it is ready; it is not now."""
        ...

    # asking; of the appended state

    @property
    def subject_count(self) -> int: ...

    def subject(self, subject: bytes) -> SubjectState | None: ...

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        """Give matching subjects in byte order, those behind `after`, at most `count_max` unless 0."""
        ...

    def sequences(self, subject: bytes, start: int) -> Iterator[int]:
        """Give a subject's messages from `start` on, ascending; nothing may be told meanwhile."""
        ...

    def last_matching(self, match: Matcher, at_most: int = 0) -> int:
        """Give the newest sequence of matching subjects, not above `at_most` unless 0; 0 where there is none."""
        ...

    def count_matching(self, match: Matcher | None, start: int) -> int:
        """Count messages of matching subjects at or above `start`; cheap where `start` is 0."""
        ...

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        """Give the sequence of the newest append with this id at or after `since_ns`.

        Ids older than the highest `since_ns` asked for may have been forgotten.
        """
        ...


class IndexStore(Protocol):
    """The indexes of all logs of a store."""

    def open_log(self, stream_id: int, recovered: Position) -> LogIndex:
        """Give a log's index; its rows are dropped where they know more than was `recovered`."""
        ...

    def drop_log(self, stream_id: int) -> None:
        """The log was deleted: its rows go, in the background."""
        ...

    def close(self) -> None:
        """After every log's `flush`: sync and let go; the next open trusts what it finds."""
        ...
