# ruff: noqa: ARG002  (whoever tells it something is not heard)
"""An index that wants to be told nothing, for those who only read a log."""

from collections.abc import Callable, Iterator, Sequence

from headrace.storage.index_interface import Feed, Position
from headrace.storage.interface import Matcher, SubjectState


class UntoldIndex:
    """Answers as if the log were empty."""

    replay_from = Position(1 << 64, 1 << 64)
    subject_count = 0
    is_ready = True
    is_full = False

    def note_append(self, sequence: int, time_ns: int, subject: bytes, message_id: bytes = b"") -> None: ...

    def note_appends(self, first_sequence: int, subjects: Sequence[bytes]) -> None: ...

    def note_removed(self, sequence: int, subject: bytes, change: int = 0) -> None: ...

    def note_cleared(self, change: int = 0) -> None: ...

    def note_id(self, message_id: bytes, sequence: int, time_ns: int) -> None: ...

    def mark(self, position: Position) -> None: ...

    def advance(self, durable: Position, budget_ns: int, *, urge: bool = False) -> bool:
        return False

    def flush(self) -> None: ...

    def rebuild(self) -> None: ...

    def distrust(self) -> None: ...

    def hurry(self) -> bool:
        return True

    def note_lost(self, sequence: int) -> None: ...

    def use(self, feed: Feed, durable: Position) -> None: ...

    def when_room(self, callback: Callable[[], None]) -> None: ...

    def when_ready(self, callback: Callable[[], None]) -> None: ...

    def subject(self, subject: bytes) -> SubjectState | None:
        return None

    def subjects(
        self, match: Matcher | None, *, after: bytes = b"", count_max: int = 0
    ) -> list[SubjectState]:
        return []

    def sequences(self, subject: bytes, start: int) -> Iterator[int]:
        return iter(())

    def last_matching(self, match: Matcher, at_most: int = 0) -> int:
        return 0

    def count_matching(self, match: Matcher | None, start: int) -> int:
        return 0

    def find_message_id(self, message_id: bytes, since_ns: int) -> int | None:
        return None
