"""Replies on their way back through a service import: a table with deadlines.

A request that crosses from account B into account A gets a reply subject of the server's own,
`_R_.<account>.<request>`, and a *response* remembers where in B the answer belongs. It is used up by one answer
(singleton), or by an empty one, or when its export's threshold has passed without an answer (stream, chunked). Nothing
else knows these subjects: an answer to one that is not in the table goes nowhere.

Responses of equal thresholds are kept in the order of their last use, so that only the first ones are ever looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.deadlines import Deadlines
from headrace.core.engine.interface import Registration
from headrace.core.exports import Latency, ResponseType

PREFIX: Final = b"_R_."
_NAME_SIZE: Final = 6
RESPONSES_MAX: Final = 1_000_000
"""Responses awaited at most; beyond that the oldest are given up. Some 300 MB."""

DEPTH_MAX: Final = 16
"""Accounts that one message may cross."""


@dataclass(slots=True)
class Tracking:
    """A response whose latency is measured: what was asked, by whom, and when."""

    latency: Latency
    requestor: dict[str, object]
    requestor_rtt_ns: int
    start_ns: int  # wall clock
    headers: dict[str, list[str]] | None
    interest: Registration | None = None
    is_told: bool = False


@dataclass(slots=True, eq=False)
class Response:
    """An answer that is awaited in `account` under `name`; it goes to `to` in `to_account`."""

    name: bytes
    account: str
    to_account: str
    to: bytes
    kind: ResponseType
    threshold_ns: int
    share: bool
    used_ns: int
    tracking: Tracking | None = None


class Responses:
    """All responses of a server."""

    def __init__(
        self,
        chance: Chance,
        deadlines: Deadlines,
        now_ns: Callable[[], int],
        listen: Callable[[str, bytes], Registration],
        on_expired: Callable[[Response], None],
    ) -> None:
        """`listen` has answers on a pattern of an account brought here; `now_ns` is monotonic."""
        self._chance = chance
        self._deadlines = deadlines
        self._now_ns = now_ns
        self._listen = listen
        self._on_expired = on_expired
        self._prefixes: dict[str, bytes] = {}
        self._by_name: dict[bytes, Response] = {}
        self._by_threshold: dict[int, dict[bytes, Response]] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def add(
        self,
        account: str,
        to_account: str,
        to: bytes,
        kind: ResponseType,
        threshold_ns: int,
        *,
        share: bool,
        tracking_suffix: bytes = b"",
    ) -> Response:
        """Await an answer in `account`."""
        prefix = self._prefixes.get(account)
        if prefix is None:
            prefix = self._prefixes[account] = PREFIX + self._chance.base62(_NAME_SIZE) + b"."
            self._listen(account, prefix + b">")
        name = prefix + self._chance.base62(_NAME_SIZE) + tracking_suffix
        while name in self._by_name:
            name = prefix + self._chance.base62(_NAME_SIZE) + tracking_suffix
        now_ns = self._now_ns()
        response = Response(name, account, to_account, to, kind, threshold_ns, share, now_ns)
        self._by_name[name] = response
        waiting = self._by_threshold.setdefault(threshold_ns, {})
        if not waiting:
            self._deadlines.set(
                ("responses", threshold_ns),
                now_ns + threshold_ns,
                lambda now: self._expire(threshold_ns, now),
            )
        waiting[name] = response
        if len(self._by_name) > RESPONSES_MAX:
            self.remove(next(iter(self._by_name.values())))
        return response

    def get(self, account: str, name: bytes) -> Response | None:
        """Give the response awaited in an account under this subject."""
        response = self._by_name.get(name)
        return response if response is not None and response.account == account else None

    def of_account(self, account: str) -> int:
        """Count what is awaited in an account."""
        return sum(response.account == account for response in self._by_name.values())

    def use(self, response: Response) -> None:
        """Note an answer to a response that stays."""
        waiting = self._by_threshold[response.threshold_ns]
        if waiting.pop(response.name, None) is not None:
            response.used_ns = self._now_ns()
            waiting[response.name] = response

    def remove(self, response: Response) -> None:
        """Await it no more; harmless when repeated."""
        if self._by_name.pop(response.name, None) is not None:
            self._by_threshold[response.threshold_ns].pop(response.name, None)
            if response.tracking is not None and response.tracking.interest is not None:
                response.tracking.interest.close()

    def end(self, subject: bytes) -> tuple[str, bytes] | None:
        """Follow a reply subject through accounts to who asked first; None where nobody waits for it."""
        response = self._by_name.get(subject)
        for _ in range(DEPTH_MAX):
            if response is None:
                return None
            if not response.to.startswith(PREFIX):
                return response.to_account, response.to
            response = self._by_name.get(response.to)
        return None

    def on_delivered(self, subject: bytes) -> None:
        """Note that something was delivered past the table, to who asked first."""
        for _ in range(DEPTH_MAX):
            response = self._by_name.get(subject)
            if response is None:
                return
            if response.kind is ResponseType.SINGLETON:
                self.remove(response)
            else:
                self.use(response)
            subject = response.to

    def _expire(self, threshold_ns: int, now_ns: int) -> int | None:
        waiting = self._by_threshold[threshold_ns]
        while waiting:
            response = next(iter(waiting.values()))
            if response.used_ns + threshold_ns > now_ns:
                return response.used_ns + threshold_ns
            self.remove(response)
            self._on_expired(response)
        return None
