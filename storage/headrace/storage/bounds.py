"""The sizes at which a store turns a page. Tests use small ones; a store written under any of them is the same."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bounds:
    """When segments, checkpoints and generations end."""

    segment_size_first: int = 64 * 1024
    """A stream's first segment; each one after it is twice as large."""

    segment_size_max: int = 64 * 1024 * 1024
    """The largest segment, unless one record or batch needs more."""

    checkpoint_count: int = 50_000
    checkpoint_size: int = 32 * 1024 * 1024
    """After so many appends and removals, or bytes, a checkpoint is captured: what a start replays at most."""

    generation_size_min: int = 256 * 1024
    """Changes of fewer bytes never cause a new state log; nor do changes below twice the snapshot's size."""

    fold_size_min: int = 512
    """Removals in a sealed segment stay in the state log until they take so many bytes there."""

    rewrite_share_max: float = 0.5
    rewrite_gain_min: int = 64 * 1024
    """A sealed segment is copied when at most this share of it is live, and so many bytes come back."""

    rewrite_rate: int = 16 * 1024 * 1024
    """Bytes a second that copying may read and write, over all streams."""

    offsets_size_max: int = 32 * 1024 * 1024
    """Bytes of sealed segments' offsets that a store keeps in memory."""

    journal_size: int = 32 * 1024 * 1024
    """Each of the two journals; 0: none. Filling one takes much longer than syncing what it covers (a thousand files
    take 0.13 s [measured]), and replaying both fits into a start of a second."""

    journal_entry_size_max: int = 128 * 1024
    """A file with more to write in a cycle is synced by itself: writing it twice takes longer than that sync."""

    cache_size: int = 32 * 1024 * 1024
    """Bytes of segments' blocks that a store keeps in memory."""


DEFAULT_BOUNDS: Final = Bounds()
