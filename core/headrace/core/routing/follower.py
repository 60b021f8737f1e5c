"""A follower: an account that imports a stream, as the exporting account's routes see it.

It knows how the exporter's subjects are called in the importing account, and the way back, so that a subscription there
can tell which route here it concerns.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.core.base.chance import Chance
from headrace.core.subject import matches
from headrace.core.subject_transform import SubjectTransform

if TYPE_CHECKING:
    from headrace.core.routing.entries import Entry

_NO_CHANCE = Chance(0)
"""Imports have no random parts, so it is never drawn from."""


class Follower:
    """One stream import. `source` is the exporter's pattern, `local` the importer's; `renames` None: they are equal."""

    __slots__ = ("_back", "_renames", "account", "allow_trace", "entries_of", "local", "source")

    def __init__(
        self,
        account: str,
        source: bytes,
        local: bytes,
        renames: SubjectTransform | None,
        *,
        allow_trace: bool = False,
    ) -> None:
        self.account = account
        self.source = source
        self.local = local
        self.allow_trace = allow_trace
        self._renames = renames
        self._back = None if renames is None else renames.reversed()
        self.entries_of: Callable[[bytes], Sequence[Entry]] = _nobody

    def shown(self, subject: bytes) -> bytes | None:
        """Give what a subject of the exporter is called here; None where it is not imported."""
        if not matches(self.source, subject):
            return None
        if self._renames is None:
            return self.local if self.source == subject else subject
        return self._renames.apply(subject, _NO_CHANCE)

    def original(self, subject: bytes) -> bytes | None:
        """Give the exporter's subject for one of this account; None where it is no imported one."""
        if not matches(self.local, subject):
            return None
        if self._back is None:
            return self.source if self.local == subject else subject
        return self._back.apply(subject, _NO_CHANCE)


def _nobody(_subject: bytes) -> "Sequence[Entry]":
    return ()
