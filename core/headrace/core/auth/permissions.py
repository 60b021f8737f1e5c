"""Permissions: allow and deny lists made into quick answers.

Publish: allowed if there is no allow list or some entry matches, and no deny entry matches. Subscribe: the requested
pattern must lie within an allowed one and not within a denied one; where it only overlaps a denied one, the
subscription is made and each delivery is checked (`Verdict.FILTERED`).

An entry of a subscribe list may name a queue: `"subject queue"`. In an allow list such entries admit only those
groups, and where a subject has both a plain entry and queue entries, the plain entry admits the plain
subscription only. In a deny list an entry with a queue forbids only that group. Queue names are matched by tokens.

Source: the client protocol of NATS server 2.15, §5.3, probed.
"""

from dataclasses import dataclass

from headrace.core.engine.interface import Verdict
from headrace.core.options import Permissions, SubjectRules
from headrace.core.subject import is_subset, matches, overlaps


@dataclass(frozen=True, slots=True)
class _Entry:
    subject: bytes
    queue: bytes


def _entries(rules: tuple[str, ...]) -> tuple[_Entry, ...]:
    found: list[_Entry] = []
    for rule in rules:
        subject, _, queue = rule.strip().partition(" ")
        found.append(_Entry(subject.encode(), queue.strip().encode()))
    return tuple(found)


class _Lists:
    """One compiled `SubjectRules`."""

    __slots__ = ("allow", "deny")

    def __init__(self, rules: SubjectRules) -> None:
        self.allow = None if rules.allow is None else _entries(rules.allow)
        self.deny = _entries(rules.deny)

    def may_publish(self, subject: bytes) -> bool:
        if self.allow is not None and not any(matches(entry.subject, subject) for entry in self.allow):
            return False
        return not any(matches(entry.subject, subject) for entry in self.deny)

    def is_allowed(self, subject: bytes, queue: bytes) -> bool:
        """Tell whether the allow list admits this subscription."""
        if self.allow is None:
            return True
        within = [entry for entry in self.allow if is_subset(subject, entry.subject)]
        if not queue:
            return any(not entry.queue for entry in within)
        named = [entry for entry in within if entry.queue]
        if named:
            return any(matches(entry.queue, queue) for entry in named)
        return bool(within)

    def is_denied(self, subject: bytes, queue: bytes) -> bool:
        """Tell whether the deny list forbids this subscription altogether."""
        for entry in self.deny:
            if is_subset(subject, entry.subject) and (
                not entry.queue or (queue and matches(entry.queue, queue))
            ):
                return True
        return False

    def is_narrowed(self, subject: bytes) -> bool:
        """Tell whether some of what the pattern matches is denied."""
        return any(not entry.queue and overlaps(subject, entry.subject) for entry in self.deny)

    def may_receive(self, subject: bytes) -> bool:
        return not any(not entry.queue and matches(entry.subject, subject) for entry in self.deny)


class _Compiled:
    __slots__ = ("publish", "subscribe")

    def __init__(self, permissions: Permissions) -> None:
        self.publish = _Lists(permissions.publish)
        self.subscribe = _Lists(permissions.subscribe)


class PermissionRules:
    """The engine's `Rules`: answers by permission set, each compiled once."""

    def __init__(self) -> None:
        self._compiled: dict[Permissions, _Compiled] = {}

    def may_publish(self, permissions: object, subject: bytes) -> Verdict:
        lists = self._of(permissions).publish
        return Verdict.ALLOWED if lists.may_publish(subject) else Verdict.REFUSED

    def may_subscribe(self, permissions: object, subject: bytes, queue: bytes) -> Verdict:
        lists = self._of(permissions).subscribe
        if not lists.is_allowed(subject, queue) or lists.is_denied(subject, queue):
            return Verdict.REFUSED
        return Verdict.FILTERED if lists.is_narrowed(subject) else Verdict.ALLOWED

    def may_receive(self, permissions: object, subject: bytes) -> bool:
        return self._of(permissions).subscribe.may_receive(subject)

    def forget(self, permissions: Permissions) -> None:
        """Drop a permission set that nobody has any more."""
        self._compiled.pop(permissions, None)

    def _of(self, permissions: object) -> _Compiled:
        assert isinstance(permissions, Permissions), "the session hands the engine Permissions or None"
        compiled = self._compiled.get(permissions)
        if compiled is None:
            compiled = self._compiled[permissions] = _Compiled(permissions)
        return compiled
