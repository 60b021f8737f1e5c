"""What slows a push consumer down: its client's flow control, a rate limit, and the time between old messages.

Three small machines without a clock; each is told what was sent and says whether more may be, or when.

Source: the consumer reference, sections 3 and 8, probed on the reference server 2.15.
"""

from collections.abc import Sequence
from typing import Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S

WINDOW_SIZE_MAX: Final = 32 * 1024 * 1024
WINDOW_SIZE_FIRST: Final = WINDOW_SIZE_MAX // 16
ORIGINAL_GAP_MIN_NS: Final = NS_PER_MS
"""Messages that lie closer together are replayed at once."""


class FlowWindow:
    """How many bytes may be on their way to a client that answers flow control requests.

    When more than half the window is outstanding, one request is sent; when more than all of it is, nothing. The answer
    takes off what was outstanding at the request, and doubles the window.
    """

    def __init__(self) -> None:
        self.reply = b""  # of the request that is not answered yet
        self._window = WINDOW_SIZE_FIRST
        self._outstanding = 0
        self._requested = 0

    @property
    def is_full(self) -> bool:
        return self._outstanding > self._window

    @property
    def wants_request(self) -> bool:
        return not self.reply and self._outstanding > self._window // 2

    def run_length(self, sizes: Sequence[int]) -> int:
        """Give how many messages of these sizes may go before there is a request to send or an answer to await."""
        limit = self._window if self.reply else self._window // 2
        total = self._outstanding
        for count, size in enumerate(sizes):
            if total > limit:
                return count
            total += size
        return len(sizes)

    def sent(self, size: int) -> None:
        self._outstanding += size

    def requested(self, reply: bytes) -> None:
        self.reply = reply
        self._requested = self._outstanding

    def answered(self, reply: bytes) -> bool:
        """Take the answer to a request; one to an older request counts for nothing."""
        if not self.reply or reply != self.reply:
            return False
        self.reply = b""
        self._outstanding -= self._requested
        self._window = min(2 * self._window, WINDOW_SIZE_MAX)
        return True

    def restart(self) -> None:
        """Somebody else listens now: nothing is on its way to them."""
        self.reply = b""
        self._outstanding = self._requested = 0


class RateLimit:
    """So many bits a second, with a burst of one whole message."""

    def __init__(self, bits_per_second: int, burst_size: int) -> None:
        self._bytes_per_second = max(1, bits_per_second // 8)
        self._burst_ns = burst_size * NS_PER_S // self._bytes_per_second
        self._paid_until_ns = 0

    def may_send_at(self, size: int) -> int:
        """Give when a message of `size` bytes may go out."""
        return self._paid_until_ns + size * NS_PER_S // self._bytes_per_second - self._burst_ns

    def sent(self, size: int, now_ns: int) -> None:
        self._paid_until_ns = max(self._paid_until_ns, now_ns) + size * NS_PER_S // self._bytes_per_second


class OriginalPace:
    """Messages come as far apart as they were published, until the end of the stream as it was is reached."""

    def __init__(self, last_sequence: int) -> None:
        self._last_sequence = last_sequence
        self._previous_ns = 0  # publication of the message delivered last
        self._sent_ns = 0

    def is_over(self, sequence: int) -> bool:
        return sequence > self._last_sequence

    def may_send_at(self, published_ns: int) -> int:
        """Give when a message published at `published_ns` may be delivered; 0: at once."""
        gap_ns = published_ns - self._previous_ns
        if not self._previous_ns or gap_ns <= ORIGINAL_GAP_MIN_NS:
            return 0
        return self._sent_ns + gap_ns

    def sent(self, published_ns: int, now_ns: int) -> None:
        self._previous_ns = published_ns
        self._sent_ns = now_ns
