"""Is the client still there, and does it take what it is sent: two small machines that a session asks when time comes.

Neither knows a clock or a socket: they are told what happened, with monotonic times, and answer what to do.

Source: the client protocol of NATS server 2.15, §6 and §7, probed.
"""

from enum import Enum
from typing import Final

from headrace.core.base.clock import NS_PER_S

RTT_EVERY_NS: Final = 3600 * NS_PER_S
"""The round trip is measured at least this often, even on a busy connection."""


class Ping(Enum):
    """What is due when the interval is over."""

    SEND = "send"
    SKIP = "skip"  # the client was heard lately, and its round trip is known
    STALE = "stale"  # too many PINGs were not answered


class Pings:
    """When a PING is sent, when there were too many, and what the round trip was."""

    def __init__(self) -> None:
        self._sent_ns: int | None = None
        self._rtt_ns = 0

    def estimate(self, rtt_ns: int) -> None:
        """Take the time from greeting to CONNECT for a first round trip."""
        self._rtt_ns = max(1, rtt_ns)

    def rtt_ns(self, last_pong_ns: int) -> int:
        """Give the round trip last measured; 0 if none was."""
        if self._sent_ns is not None and last_pong_ns >= self._sent_ns:
            self._rtt_ns = max(1, last_pong_ns - self._sent_ns)
        return self._rtt_ns

    def due(
        self,
        now_ns: int,
        *,
        interval_ns: int,
        last_activity_ns: int,
        last_pong_ns: int,
        pings_out: int,
        ping_max: int,
    ) -> Ping:
        """Tell what to do at the end of an interval."""
        is_measured = self._sent_ns is not None and now_ns - self._sent_ns <= RTT_EVERY_NS
        if is_measured and self.rtt_ns(last_pong_ns) and now_ns - last_activity_ns < interval_ns:
            return Ping.SKIP
        return Ping.STALE if pings_out + 1 > ping_max else Ping.SEND

    def on_sent(self, now_ns: int, last_pong_ns: int) -> None:
        """Note a PING. `last_pong_ns` still belongs to the one before."""
        self.rtt_ns(last_pong_ns)
        self._sent_ns = now_ns


class WriteWatch:
    """Whether what was written is taken in time.

    A busy connection is full and drained thousands of times a second, so one deadline at a time serves them all: it
    is armed by the first `on_full`, and `on_time` moves it on.
    """

    def __init__(self, deadline_ns: int) -> None:
        self._deadline_ns = deadline_ns
        self._full_since_ns: int | None = None
        self._full_mark = 0  # what had been written by then
        self._is_armed = False

    def on_full(self, now_ns: int, written_size: int) -> int | None:
        """The operating system takes no more; give the deadline to arm, if none is."""
        self._full_since_ns = now_ns
        self._full_mark = written_size
        if self._is_armed:
            return None
        self._is_armed = True
        return now_ns + self._deadline_ns

    def on_drained(self) -> None:
        """Everything was taken."""
        self._full_since_ns = None

    def is_late(self, now_ns: int, taken_size: int) -> bool:
        """Tell whether what was pending a deadline ago still is."""
        since_ns = self._full_since_ns
        return (
            since_ns is not None and now_ns >= since_ns + self._deadline_ns and taken_size < self._full_mark
        )

    def on_time(self, now_ns: int, written_size: int) -> int | None:
        """Give the next deadline, where it is not late; None: nothing is pending."""
        since_ns = self._full_since_ns
        if since_ns is None:
            self._is_armed = False
            return None
        if (
            now_ns >= since_ns + self._deadline_ns
        ):  # all that was pending then has gone; what is pending is newer
            self._full_since_ns = since_ns = now_ns
            self._full_mark = written_size
        return since_ns + self._deadline_ns
