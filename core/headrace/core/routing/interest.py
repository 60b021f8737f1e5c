"""Watchers of interest: told when somebody subscribes to a literal subject, or nobody does any more.

Changes are only noted when they happen; `tell` asks again and calls back, once a turn, so that nothing is called from
inside a parse loop and a client that changes its mind within a turn is not noticed.
"""

from collections.abc import Callable

from headrace.core.subject import has_wildcard, matches

HasInterest = Callable[[str, bytes, bytes], bool]


class Watcher:
    """One callback on one subject; also its own registration."""

    def __init__(
        self,
        owner: "Watchers",
        account: str,
        subject: bytes,
        queue: bytes,
        callback: Callable[[bool], None],
        *,
        was_there: bool,
    ) -> None:
        self._owner = owner
        self.account = account
        self.subject = subject
        self.queue = queue
        self.callback = callback
        self.was_there = was_there

    def close(self) -> None:
        """Call back no more; harmless when repeated."""
        self._owner.remove(self)


class Watchers:
    """All watchers, by account and subject."""

    def __init__(self, has_interest: HasInterest) -> None:
        self._has_interest = has_interest
        self._watchers: dict[str, dict[bytes, list[Watcher]]] = {}
        self._changed: dict[Watcher, None] = {}

    def add(self, account: str, subject: bytes, queue: bytes, callback: Callable[[bool], None]) -> Watcher:
        watcher = Watcher(
            self,
            account,
            subject,
            queue,
            callback,
            was_there=self._has_interest(account, subject, queue),
        )
        self._watchers.setdefault(account, {}).setdefault(subject, []).append(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        self._changed.pop(watcher, None)
        subjects = self._watchers.get(watcher.account, {})
        held = subjects.get(watcher.subject, [])
        if watcher in held:
            held.remove(watcher)
            if not held:
                del subjects[watcher.subject]

    def changed(self, account: str, pattern: bytes) -> None:
        """Note that a subscription to `pattern` came or went."""
        subjects = self._watchers.get(account)
        if not subjects:
            return
        if has_wildcard(pattern):
            for subject, held in subjects.items():
                if matches(pattern, subject):
                    self._changed.update(dict.fromkeys(held))
        else:
            self._changed.update(dict.fromkeys(subjects.get(pattern, ())))

    def tell(self) -> None:
        """Call those whose answer is another one now."""
        while self._changed:
            changed, self._changed = self._changed, {}
            for watcher in changed:
                is_there = self._has_interest(watcher.account, watcher.subject, watcher.queue)
                if is_there != watcher.was_there:
                    watcher.was_there = is_there
                    watcher.callback(is_there)
