"""Which subjects are meant: NATS filters as storage's `Matcher`.

Storage knows no wildcard. It asks `matches` about the subjects it comes across; a stream of few subjects asks
about the same ones over and over, so verdicts are kept, within a bound.
"""

from collections.abc import Iterable
from typing import Final

from headrace.core.subject import has_wildcard, matches

_VERDICTS_MAX: Final = 4096


class SubjectFilter:
    """One or more filters; a subject is meant if any of them matches it. No filter at all means every subject."""

    __slots__ = ("_verdicts", "filters", "literals")

    def __init__(self, filters: Iterable[bytes]) -> None:
        self.filters = tuple(filters)
        all_literal = bool(self.filters) and not any(has_wildcard(subject) for subject in self.filters)
        self.literals: frozenset[bytes] | None = frozenset(self.filters) if all_literal else None
        self._verdicts: dict[bytes, bool] = {}

    def matches(self, subject: bytes) -> bool:
        """Tell whether the filters mean this literal subject."""
        if self.literals is not None:
            return subject in self.literals
        verdict = self._verdicts.get(subject)
        if verdict is None:
            verdict = not self.filters or any(matches(pattern, subject) for pattern in self.filters)
            if len(self._verdicts) >= _VERDICTS_MAX:
                self._verdicts.clear()
            self._verdicts[subject] = verdict
        return verdict

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubjectFilter) and other.filters == self.filters

    def __hash__(self) -> int:
        return hash(self.filters)

    def __repr__(self) -> str:
        return f"SubjectFilter({list(self.filters)!r})"
