"""Priority groups: which of a consumer's waiting pull requests may have the next message.

A consumer with a priority policy serves its requests unequally:

- `overflow`: a request may say from how many messages to come, or waiting for acks, on it wants to help;
- `pinned_client`: one client gets everything. The first to be served is told the id of its pin, and proves with it
  in its next requests that it is still there; where it does not for `priority_timeout`, the pin goes;
- `prioritized`: requests of a lower number first.

Only the first group of a consumer is tracked, as on the reference; the others' names are accepted. Requests whose body
is no JSON belong to no group and pass all checks.

The machine is pure: it judges requests and says what became of the pin in `events`, to be announced by its owner.

Source: the consumer reference, section 9, probed on the reference server 2.15.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from headrace.jetstream.consumers import status
from headrace.jetstream.models.consumer_config import ConsumerConfig

PRIORITY_MAX: Final = 9
LAST_PRIORITY: Final = PRIORITY_MAX + 1
"""The rank of requests that belong to no group."""

PIN_ID_SIZE: Final = 22
"""Characters of a pin's id, as of every unique id on the wire."""


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """What a request says about its group; only a JSON body can."""

    group: str = ""
    min_pending: int = 0
    min_ack_pending: int = 0
    pin_id: str = ""
    priority: int = 0

    @property
    def has_minimum(self) -> bool:
        return self.min_pending > 0 or self.min_ack_pending > 0


class Load(NamedTuple):
    """How busy a consumer is: messages to come, the one at hand included, and those that wait for an ack."""

    pending: int
    ack_pending: int


class Verdict(Enum):
    """What a request may expect when its turn comes."""

    SERVE = "serve"
    WAIT = "wait"
    STALE = "stale"  # it names a pin that is gone


class PinEvent(NamedTuple):
    """A client was pinned, or, with a reason, is so no longer."""

    pin_id: str
    reason: str = ""


class PriorityGroups:
    """The priority policy of one consumer, and its pin."""

    def __init__(self, config: ConsumerConfig, new_id: Callable[[], str]) -> None:
        self.events: list[PinEvent] = []
        self.pin_id = ""
        self.pinned_ns = 0  # when the client was pinned; 0: nobody is
        self.expires_ns = 0  # when the pin goes; 0: there is none
        self._offered_id = ""  # drawn, but not delivered to anybody yet
        self._new_id = new_id
        self._configure(config)

    def _configure(self, config: ConsumerConfig) -> None:
        self.policy = config.priority_policy or "none"
        self.groups = config.priority_groups
        self._timeout_ns = config.priority_timeout

    def configure(self, config: ConsumerConfig) -> None:
        """Go on under a changed configuration; under another policy, or for other groups, nobody is pinned."""
        before = (self.policy, self.groups)
        self._configure(config)
        if (self.policy, self.groups) != before:
            self._drop_pin()

    @property
    def is_plain(self) -> bool:
        """Whether all requests are equal."""
        return self.policy == "none"

    @property
    def is_pinning(self) -> bool:
        return self.policy == "pinned_client"

    @property
    def is_ranking(self) -> bool:
        return self.policy == "prioritized"

    # requests

    def refusal(self, options: GroupOptions | None) -> bytes | None:
        """Give the status that refuses a request's group options; None: they are accepted."""
        if options is None:
            return None
        if (options.min_pending or options.min_ack_pending) and self.policy != "overflow":
            return status.bad_request("Not a Overflow Priority consumer")
        if options.pin_id and not self.is_pinning:
            return status.bad_request("Not a Pinned Client Priority consumer")
        if not 0 <= options.priority <= PRIORITY_MAX:
            return status.bad_request("Priority must be between 0 and 9")
        if self.is_plain:
            return None
        if not options.group:
            return status.bad_request("Priority Group missing")
        if options.group not in self.groups:
            return status.bad_request("Invalid Priority Group")
        if self.pin_id and options.pin_id not in {"", self.pin_id}:
            return status.PIN_ID_MISMATCH
        return None

    def renew(self, options: GroupOptions | None, now_ns: int) -> None:
        """An accepted request came: where it is the pinned client's, that one is still there."""
        if self.pin_id and options is not None and options.pin_id == self.pin_id:
            self.expires_ns = now_ns + self._timeout_ns

    def rank(self, options: GroupOptions | None) -> int:
        """Give a request's place in the queue: lower ones go before."""
        if not self.is_ranking:
            return 0
        return LAST_PRIORITY if options is None else options.priority

    def judge(self, options: GroupOptions | None, pin_id: str, load: Callable[[], Load]) -> Verdict:
        """Tell whether a request may have the message at hand; `pin_id` is the pin that it holds or names."""
        if self.is_pinning:
            if pin_id:
                return Verdict.SERVE if pin_id == self.pin_id else Verdict.STALE
            return Verdict.WAIT if self.pin_id else Verdict.SERVE
        if self.policy == "overflow" and options is not None and options.has_minimum:
            pending, ack_pending = load()
            wants_pending = 0 < options.min_pending <= pending
            wants_ack_pending = 0 < options.min_ack_pending <= ack_pending
            return Verdict.SERVE if wants_pending or wants_ack_pending else Verdict.WAIT
        return Verdict.SERVE

    # the pin

    def pin_for(self, options: GroupOptions | None) -> str:
        """Give the id that a delivery to a request carries; empty: none. It is a pin only when it was `served`."""
        if not self.is_pinning:
            return ""
        if self.pin_id:
            return self.pin_id
        if options is None:
            return ""
        if not self._offered_id:
            self._offered_id = self._new_id()
        return self._offered_id

    def served(self, options: GroupOptions | None, now_ns: int) -> str:
        """A request got a message: give the pin that it holds now."""
        if not self.is_pinning or options is None:
            return ""
        if not self.pin_id:
            self.pin_id, self._offered_id = self._offered_id, ""
            self.pinned_ns = now_ns
            self.expires_ns = now_ns + self._timeout_ns
            self.events.append(PinEvent(self.pin_id))
        return self.pin_id

    def unpin(self) -> None:
        """An operator wants somebody else's turn; it is announced even if nobody was pinned."""
        self.events.append(PinEvent(self.pin_id, "admin"))
        self._drop_pin()

    def on_time(self, now_ns: int) -> bool:
        """Tell whether the pin went because its time was over."""
        if not self.pin_id or now_ns < self.expires_ns:
            return False
        self.events.append(PinEvent(self.pin_id, "timeout"))
        self._drop_pin()
        return True

    def _drop_pin(self) -> None:
        self.pin_id = ""
        self.pinned_ns = self.expires_ns = 0
