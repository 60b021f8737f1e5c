"""How long a consumer lives that nobody uses.

An ephemeral consumer, or one with an `inactive_threshold`, ends when no client has shown itself for that long. Where
many of one client's consumers would all end in the same moment, each draws some jitter.

Source: the consumer reference, section 7.
"""

from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS
from headrace.jetstream.consumers.rules import INACTIVE_THRESHOLD_NS
from headrace.jetstream.models.consumer_config import ConsumerConfig

JITTER_MIN_NS: Final = 100 * NS_PER_MS
JITTER_MAX_NS: Final = 1000 * NS_PER_MS


class Lifetime:
    """When a consumer was used last, and when it ends if it is not used again."""

    def __init__(self, config: ConsumerConfig, chance: Chance, now_ns: int) -> None:
        self.activity_ns = now_ns
        self._chance = chance
        self.configure(config)

    def configure(self, config: ConsumerConfig) -> None:
        """Take the threshold from a configuration, and draw the jitter."""
        self._threshold_ns = config.inactive_threshold
        self._jitter_ns = 0
        if self._threshold_ns and (not config.is_push or self._threshold_ns == INACTIVE_THRESHOLD_NS):
            self._jitter_ns = JITTER_MIN_NS + self._chance.below(JITTER_MAX_NS - JITTER_MIN_NS)

    @property
    def ends_ns(self) -> int:
        """When the consumer ends if nothing happens; 0: never."""
        return self.activity_ns + self._threshold_ns + self._jitter_ns if self._threshold_ns else 0
