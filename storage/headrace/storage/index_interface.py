"""What a file log sees of its lookup index: which messages a subject has, and where a message id was used.

The log tells everything that becomes part of its *appended* state, in order: appends, removals, and at the end of each
commit cycle a `mark` with the cycle's `Position`. The index keeps what is not yet on disk in memory; `advance` tells
it how far the log is durable, and it writes up to there in small steps. So what is on disk never knows more than
the log does after a crash.

After an open the log asks `replay_from` and tells again, in the same order and with the same numbers as the first
time, all that came after it. Only then may the index be asked; its answers are exact.

The index is derived. When a row turns out to be damaged, `IndexDamaged` is raised; the log then calls `rebuild()` and
tells everything from its first message on.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from headrace.storage.interface import Matcher, StorageError, SubjectState


class IndexDamaged(StorageError):
    """The index does not check. Nothing is lost: it is rebuilt from the log."""


class IndexUnwritable(StorageError):
    """The index cannot be written now: no room, or an error of the disk. It stays as it was; memory grows."""


class Position(NamedTuple):
    """A boundary of a group commit: the last sequence used up, and the number of the last change that was no append."""

    sequence: int
    change: int


START = Position(sequence=0, change=0)


class LogIndex(Protocol):
    """The lookups of one log. Loop thread only."""

    @property
    def replay_from(self) -> Position:
        """What is on disk. After an open the log tells all that came behind it; `START`: everything.

        Later it follows `advance`: records at or below it are not needed for the index any more.
        """
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
        """Forget everything; the log tells it again from the beginning."""
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
