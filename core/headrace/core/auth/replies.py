"""`allow_responses`: the replies a client may send because it was asked.

Every message delivered to the client with a reply subject grants that reply a number of publishes for a while.
Kept by the session, as it depends on count and time; the engine only reports which replies it delivered.

Source: the client protocol of NATS server 2.15, §5.3.
"""

from collections.abc import Iterable
from typing import Final

from headrace.core.options import ResponseRule

REPLIES_MAX: Final = 4096
"""Grants kept before expired ones are looked for; then the oldest go. The reference prunes at the same number."""


class ReplyGrants:
    """What one client may still answer."""

    def __init__(self, rule: ResponseRule) -> None:
        self._rule = rule
        self._grants: dict[bytes, tuple[int, int]] = {}  # reply → (uses, granted at)

    def __len__(self) -> int:
        return len(self._grants)

    def grant(self, replies: Iterable[bytes], now_ns: int) -> None:
        """Note replies that were just delivered."""
        for reply in replies:
            self._grants.pop(reply, None)  # granted again, it moves to the end
            self._grants[reply] = (0, now_ns)
        if len(self._grants) > REPLIES_MAX:
            self._prune(now_ns)

    def use(self, subject: bytes, now_ns: int) -> bool:
        """Tell whether a publish to `subject` answers a delivered message, and count it."""
        granted = self._grants.get(subject)
        if granted is None:
            return False
        uses, since_ns = granted
        rule = self._rule
        if (rule.max_messages > 0 and uses >= rule.max_messages) or (
            rule.expires_ns > 0 and now_ns - since_ns >= rule.expires_ns
        ):
            del self._grants[subject]
            return False
        self._grants[subject] = (uses + 1, since_ns)
        return True

    def _prune(self, now_ns: int) -> None:
        if self._rule.expires_ns > 0:
            limit_ns = now_ns - self._rule.expires_ns
            self._grants = {reply: grant for reply, grant in self._grants.items() if grant[1] > limit_ns}
        while len(self._grants) > REPLIES_MAX:
            del self._grants[next(iter(self._grants))]
