"""Waiting pull requests: who asked for messages, in whose turn the next one is, and how each request ends.

Requests wait in a queue and are served round robin: whoever got a message goes to the back while its batch has
room. A request ends when its batch is full, its bytes do not suffice, its time is over, nobody listens to
its reply any more, or, if it did not want to wait, when there is nothing to give.

The machine is pure. The caller offers requests, says what it delivered and what time it is, and sends what
gathers in `answers`: pairs of a reply subject and a status header block.

    offer ──► waiting ──served──► waiting (at the back) or over
                 │ on_time, run_dry, does not fit, drop, close
                 ▼
                over

Source: the consumer reference, section 6, probed on the reference server 2.15.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.consumers import status
from headrace.jetstream.consumers.groups import GroupOptions, Load, PriorityGroups, Verdict
from headrace.jetstream.models.times import duration_text
from headrace.jetstream.models.wire import InvalidJson, parse_json

PRUNE_INTERVAL_NS: Final = NS_PER_S
"""How often, at most, a full queue is searched for requests that nobody listens to any more."""


_EXPECTED: Final = {"Expecting value": "value", "Expecting property name": "object key string"}


class BadPullRequest(ValueError):
    """A pull request's body cannot be used; the text is what the client is told."""


@dataclass(frozen=True, slots=True)
class PullLimits:
    """What a consumer allows its pull requests; 0: no limit."""

    max_waiting: int = 512
    max_batch: int = 0
    max_expires_ns: int = 0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PullOptions:
    """A pull request's body. `expires_ns`, `idle_heartbeat_ns` are durations, 0: none; `max_bytes` 0: no limit.

    `group` is what a JSON body says about its priority group, if only nothing; other bodies have none.
    """

    batch: int = 1
    expires_ns: int = 0
    no_wait: bool = False
    max_bytes: int = 0
    idle_heartbeat_ns: int = 0
    group: GroupOptions | None = None


_INT64_END: Final = 2**63

_FIELDS: Final = {
    "batch": ("batch", int),
    "expires": ("expires_ns", int),
    "no_wait": ("no_wait", bool),
    "max_bytes": ("max_bytes", int),
    "idle_heartbeat": ("idle_heartbeat_ns", int),
}
_GROUP_FIELDS: Final = {
    "group": ("group", str),
    "min_pending": ("min_pending", int),
    "min_ack_pending": ("min_ack_pending", int),
    "id": ("pin_id", str),
    "priority": ("priority", int),
}


def parse_pull_options(body: bytes) -> PullOptions:
    """Read a pull request's body: nothing, a number, or JSON (unknown fields are ignored).

    Raises BadPullRequest where it looks like JSON and is none, a field has a wrong type, or two heartbeats do not
    fit in `expires`. Anything else that is no number asks for one message.
    """
    body = body.strip()
    if not body:
        return PullOptions()
    if not body.startswith(b"{"):
        try:
            return PullOptions(batch=int(body))
        except ValueError:
            return PullOptions()
    try:
        given = cast("dict[str, Any]", parse_json(body))
    except InvalidJson as error:
        raise BadPullRequest(_json_complaint(body, str(error))) from None
    group = GroupOptions(**_typed(given, _GROUP_FIELDS))
    options = PullOptions(**_typed(given, _FIELDS), group=group)
    if options.idle_heartbeat_ns > 0 and 2 * options.idle_heartbeat_ns > options.expires_ns:
        raise BadPullRequest("heartbeat value too large")
    return options


def _typed(given: dict[str, Any], known: dict[str, tuple[str, type]]) -> dict[str, Any]:
    """Take the known fields out of a body, under the names that they have here."""
    fields: dict[str, Any] = {}
    for key, (name, kind) in known.items():
        value = given.get(key)
        if value is None:
            continue
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadPullRequest(f"json: cannot unmarshal: {key} is not of type {kind.__name__}")
        if isinstance(value, int) and not -_INT64_END <= value < _INT64_END:
            raise BadPullRequest(f"json: cannot unmarshal: {key} is beyond 64 bits")
        fields[name] = value
    return fields


def _json_complaint(body: bytes, error: str) -> str:
    """Say what is wrong with a body, in the reference's words where they are easily told."""
    text, _, offset = error.rpartition(" at offset ")
    if not offset.isdigit():
        return error
    if int(offset) >= len(body):
        return "unexpected end of JSON input"
    found = body[int(offset) : int(offset) + 1].decode("ascii", "replace")
    for start, where in _EXPECTED.items():
        if text.startswith(start):
            return f"invalid character '{found}' looking for beginning of {where}"
    return error


def refusal(options: PullOptions, limits: PullLimits) -> bytes | None:
    """Give the status that refuses a request asking for more than the consumer allows."""
    if limits.max_batch and options.batch > limits.max_batch:
        return status.exceeded("MaxRequestBatch", limits.max_batch)
    if limits.max_expires_ns and options.expires_ns > limits.max_expires_ns:
        return status.exceeded("MaxRequestExpires", duration_text(limits.max_expires_ns))
    if limits.max_bytes and options.max_bytes > limits.max_bytes:
        return status.exceeded("MaxRequestMaxBytes", limits.max_bytes)
    return None


@dataclass(slots=True, eq=False)
class PullRequest:
    """A waiting request. `remaining_size` counts only where `max_bytes` was given; `expires_ns` 0: never."""

    reply: bytes
    remaining: int
    no_wait: bool
    has_size_limit: bool
    remaining_size: int
    expires_ns: int
    heartbeat_ns: int
    heartbeat_due_ns: int
    group: GroupOptions | None = None
    rank: int = 0
    pin_id: str = ""
    delivered: int = 0


class WaitingPulls:
    """The queue of one consumer's pull requests."""

    def __init__(self, limits: PullLimits, groups: PriorityGroups, load: Callable[[], Load]) -> None:
        self.limits = limits
        self.groups = groups
        self._load = load
        self.answers: list[tuple[bytes, bytes]] = []
        self._waiting: deque[PullRequest] = deque()
        self._wake_ns = 0  # at or before the earliest expiry or heartbeat; 0: there is none
        self._prune_after_ns = 0
        self._some_without_wait = False  # whether a request with `no_wait` may be waiting

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wanted(self) -> int:
        """Messages that all waiting requests still want together."""
        return sum(request.remaining for request in self._waiting)

    def wanted_now(self) -> int:
        """Give how many messages to offer; no more than could be taken."""
        groups = self.groups
        if groups.pin_id:
            return sum(request.remaining for request in self._waiting if request.pin_id)
        if groups.policy == "overflow" and any(r.group and r.group.has_minimum for r in self._waiting):
            return 1  # each delivery changes who may have the next one
        return self.wanted

    def offer(
        self,
        reply: bytes,
        options: PullOptions,
        *,
        available: int,
        now_ns: int,
        has_interest: Callable[[bytes], bool],
        is_paused: bool = False,
    ) -> bool:
        """Take a request that the consumer's limits allow; tell whether it waits now.

        `available`: messages that could be delivered, new ones and again, were the consumer not paused. A refusal is
        among `answers`.
        """
        if options.expires_ns < 0:
            text = status.with_pending(
                status.REQUEST_TIMEOUT, max(1, options.batch), max(0, options.max_bytes)
            )
            self.answers.append((reply, text))
            return False
        if options.no_wait:
            if available == 0 and options.expires_ns <= 0:
                self.answers.append((reply, status.NO_MESSAGES))
                return False
            if 0 < available < self.wanted:
                self.answers.append((reply, status.REQUESTS_PENDING))
                return False
            if is_paused and options.expires_ns <= 0:
                self.answers.append((reply, status.NO_MESSAGES))
                return False
        if len(self._waiting) >= self.limits.max_waiting and now_ns >= self._prune_after_ns:
            self._prune_after_ns = now_ns + PRUNE_INTERVAL_NS
            self.prune(now_ns, has_interest)
        if len(self._waiting) >= self.limits.max_waiting:
            if options.idle_heartbeat_ns <= 0:
                self.answers.append((reply, status.EXCEEDED_MAX_WAITING))
            return False
        heartbeat_ns = max(0, options.idle_heartbeat_ns)
        request = PullRequest(
            reply=reply,
            remaining=max(1, options.batch),
            no_wait=options.no_wait,
            has_size_limit=options.max_bytes > 0,
            remaining_size=max(0, options.max_bytes),
            expires_ns=now_ns + options.expires_ns if options.expires_ns > 0 else 0,
            heartbeat_ns=heartbeat_ns,
            heartbeat_due_ns=now_ns + heartbeat_ns if heartbeat_ns else 0,
            group=options.group,
            rank=self.groups.rank(options.group),
            pin_id=options.group.pin_id if options.group is not None else "",
        )
        self._enqueue(request)
        self._some_without_wait |= request.no_wait
        self._wake_for(request)
        return True

    def head(self, now_ns: int) -> PullRequest | None:
        """Give the request whose turn it is, which is the first one then.

        Those before it whose time is over, or who name a pin that is gone, end; others that must wait go to the back.
        """
        waiting, groups = self._waiting, self.groups
        for _ in range(len(waiting)):
            request = waiting[0]
            if request.expires_ns and request.expires_ns <= now_ns:
                waiting.popleft()
                self._answer_with_pending(request, status.REQUEST_TIMEOUT)
                continue
            verdict = groups.judge(request.group, request.pin_id, self._load)
            if verdict is Verdict.SERVE:
                return request
            if verdict is Verdict.STALE:
                waiting.popleft()
                self._answer_with_pending(request, status.WRONG_PIN_ID)
            elif groups.policy == "overflow" and _is_one_shot(request):
                waiting.popleft()  # there is nothing for it now, and it does not wait
                self.answers.append((request.reply, status.NO_MESSAGES))
            else:
                waiting.rotate(-1)
        return None

    def run_length(self, request: PullRequest) -> int:
        """Give how many messages the head may have at once, because nobody else's turn comes between."""
        if request.has_size_limit:
            return 1
        if self.groups.pin_id:
            is_alone = all(r is request or r.pin_id != request.pin_id for r in self._waiting)
        else:
            is_alone = len(self._waiting) == 1 or self._waiting[1].rank > request.rank
        return request.remaining if is_alone else 1

    def fits(self, request: PullRequest, size: int) -> bool:
        """Tell whether the head may be sent a message of `size` bytes; where not, it ends."""
        if not request.has_size_limit or size <= request.remaining_size:
            return True
        self._take_head(request)
        self._answer_with_pending(request, status.MESSAGE_TOO_BIG)
        return False

    def served(self, request: PullRequest, count: int, size: int, now_ns: int) -> None:
        """The head was sent `count` messages of `size` bytes together; it is somebody else's turn."""
        self._take_head(request)
        assert 0 < count <= request.remaining, "a request gets what it asked for"
        request.remaining -= count
        request.delivered += count
        request.pin_id = self.groups.served(request.group, now_ns)
        if request.heartbeat_ns:
            request.heartbeat_due_ns = now_ns + request.heartbeat_ns
        if request.has_size_limit:
            request.remaining_size -= size
            if request.remaining_size <= 0:
                return
        if request.remaining:
            self._enqueue(request)
        elif request.has_size_limit:
            self._answer_with_pending(request, status.BATCH_COMPLETED)

    def are_alike(self, now_ns: int) -> bool:
        """Tell whether all are equal, answered on one subject, have no limit of bytes, and are in time.

        Then nobody can tell whose turn it was, and messages may be sent in runs.
        """
        reply = self._waiting[0].reply if self._waiting else b""
        return self.groups.is_plain and all(
            request.reply == reply
            and not request.has_size_limit
            and (not request.expires_ns or request.expires_ns > now_ns)
            for request in self._waiting
        )

    def served_in_turns(self, count: int, now_ns: int) -> None:
        """Requests that are alike were sent `count` messages together."""
        while count:
            waiting = self._waiting
            rounds = min(count // len(waiting), *(request.remaining for request in waiting))
            for _ in range(len(waiting) if rounds else count):
                self.served(waiting[0], rounds or 1, 0, now_ns)
                count -= rounds or 1

    def drop(self, request: PullRequest) -> None:
        """Nobody listens to the head's reply."""
        self._take_head(request)

    def rotate(self) -> None:
        """The head cannot take a message now: the next one's turn. Not where requests are ranked."""
        self._waiting.rotate(-1)

    def rank_anew(self) -> None:
        """The priority policy may be another one: put all in the order that it asks for."""
        for request in self._waiting:
            request.rank = self.groups.rank(request.group)
        self._waiting = deque(sorted(self._waiting, key=lambda request: request.rank))

    def run_dry(self) -> None:
        """There is nothing to give: requests that do not want to wait end."""
        if not self._some_without_wait:
            return
        self._some_without_wait = False
        kept: deque[PullRequest] = deque()
        for request in self._waiting:
            if _is_one_shot(request):
                self.answers.append((request.reply, status.NO_MESSAGES))
            else:
                self._some_without_wait |= request.no_wait
                kept.append(request)
        self._waiting = kept

    def prune(self, now_ns: int, has_interest: Callable[[bytes], bool]) -> None:
        """End requests whose time is over and forget those that nobody listens to."""
        kept: deque[PullRequest] = deque()
        for request in self._waiting:
            if request.expires_ns and request.expires_ns <= now_ns:
                self._answer_with_pending(request, status.REQUEST_TIMEOUT)
            elif has_interest(request.reply):
                kept.append(request)
        self._waiting = kept

    def next_deadline_ns(self) -> int | None:
        """Give when `on_time` has something to do; it may turn out to be nothing."""
        return self._wake_ns or None

    def on_time(self, now_ns: int, heartbeat: Callable[[], bytes]) -> None:
        """End what expired and send the heartbeats that are due; `heartbeat` gives their header block.

        When one request is due all are looked at, and one that got messages and does not want to wait for more
        ends: it was not served out, so acks are what is missing.
        """
        kept: deque[PullRequest] = deque()
        is_check = any(_is_due(request, now_ns) for request in self._waiting)
        self._wake_ns = 0
        for request in self._waiting:
            if request.expires_ns and request.expires_ns <= now_ns:
                self._answer_with_pending(request, status.REQUEST_TIMEOUT)
                continue
            if is_check and request.no_wait and request.delivered:
                self.answers.append((request.reply, status.NO_MESSAGES))
                continue
            if request.heartbeat_ns and request.heartbeat_due_ns <= now_ns:
                self.answers.append((request.reply, heartbeat()))
                request.heartbeat_due_ns = now_ns + request.heartbeat_ns
            self._wake_for(request)
            kept.append(request)
        self._waiting = kept

    def close(self, reason: bytes) -> None:
        """End all with `reason`: a whole header block, or the status that goes with what was pending."""
        for request in self._waiting:
            if reason.endswith(b"\r\n\r\n"):
                self.answers.append((request.reply, reason))
            else:
                self._answer_with_pending(request, reason)
        self._waiting.clear()
        self._wake_ns = 0

    def _enqueue(self, request: PullRequest) -> None:
        """Put a request behind all others of its rank."""
        waiting = self._waiting
        if not request.rank and not self.groups.is_ranking:
            waiting.append(request)
            return
        index = len(waiting)
        while index and waiting[index - 1].rank > request.rank:
            index -= 1
        waiting.insert(index, request)

    def _take_head(self, request: PullRequest) -> None:
        assert self._waiting[0] is request, "only the head is served"
        self._waiting.popleft()

    def _wake_for(self, request: PullRequest) -> None:
        for due_ns in (request.expires_ns, request.heartbeat_due_ns):
            if due_ns and (not self._wake_ns or due_ns < self._wake_ns):
                self._wake_ns = due_ns

    def _answer_with_pending(self, request: PullRequest, text: bytes) -> None:
        self.answers.append(
            (request.reply, status.with_pending(text, request.remaining, request.remaining_size))
        )


def _is_due(request: PullRequest, now_ns: int) -> bool:
    return 0 < request.expires_ns <= now_ns or 0 < request.heartbeat_due_ns <= now_ns


def _is_one_shot(request: PullRequest) -> bool:
    """A request that does not want to wait; with a time, it does wait for its first message."""
    return request.no_wait and (not request.expires_ns or request.delivered > 0)
