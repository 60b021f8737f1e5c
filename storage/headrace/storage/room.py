"""Room on the disk: what publishes may take, and a reserve for what must go on when they may not.

Publishes are accepted into segments, whose room is taken in advance; so a full disk shows when the next segment
is made, and nothing has changed then. Deletes, acks and the compaction of state logs also need room, a little,
and they are what gives room back. For them the store keeps a **reserve**: files `reserve-<n>` without content.
Where the disk has no room for them, a file of the reserve is given up.

A publish that finds no room makes the disk *short*, and so does giving up a part of the reserve. While it is
short no segment is prepared in advance, and space is given back without waiting for the index. Publishes are
refused while less is free than they need; where the reserve is not whole, they are refused until it could be
taken again, which is tried now and then when a publish comes. So writes resume by themselves, whoever made the
room.
"""

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from headrace.core.base.clock import NS_PER_MS, Clock
from headrace.storage.files import Files
from headrace.storage.interface import DiskFull

RESERVE_PREFIX: Final = "reserve-"
PIECES: Final = 4
"""Files of the reserve: so often it can be given up, a part at a time."""

FREE_SHARE: Final = 8
"""The reserve never takes more than this part of what is free."""

RETRY_NS: Final = 100 * NS_PER_MS
"""How long publishes are refused before the reserve is tried again."""

PIECE_SIZE_MIN: Final = 4096


def is_full(error: OSError) -> bool:
    """Tell whether there is no room, which passes."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Room:
    """The room that one store has. Loop thread only."""

    def __init__(self, files: Files, path: str, clock: Clock, *, reserve_size: int) -> None:
        self._files = files
        self._path = path
        self._clock = clock
        self._reserve_size = reserve_size
        self._held = set(self._found()) if reserve_size else set[str]()
        self._is_owing = False
        self._retry_ns = 0
        self.is_short = False
        """Whether publishes are refused."""
        self._fill()

    def admit(self, size: int) -> None:
        """A publish needs `size` bytes that were not taken yet. Raises DiskFull where it shall not even try."""
        if not self.is_short:
            return
        if not self._is_owing:
            if self._files.free_space(self._path) < size:
                raise DiskFull(f"no room for {size} bytes in {self._path}")
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._retry_ns:
            self._retry_ns = now_ns + RETRY_NS
            self._is_owing = not self._fill()
        if self._is_owing:
            raise DiskFull(f"no room in {self._path} but for deletes and acks")

    def admitted(self) -> None:
        """The publish got its room."""
        self.is_short = self._is_owing

    def refused(self) -> None:
        """The disk had no room for a publish."""
        self.is_short = True

    def release(self) -> bool:
        """Give up a part of the reserve, for what may not fail; tell whether there was one."""
        if not self._held:
            return False
        self.is_short = self._is_owing = True
        self._retry_ns = self._clock.monotonic_ns() + RETRY_NS
        name = self._held.pop()
        try:
            self._files.unlink(f"{self._path}/{name}")
        except OSError:
            return False
        return True

    def _fill(self) -> bool:
        """Take what is missing of the reserve; tell whether it is whole, or as large as the disk allows."""
        missing = [f"{RESERVE_PREFIX}{number}" for number in range(PIECES if self._reserve_size else 0)]
        missing = [name for name in missing if name not in self._held]
        if not missing:
            return True
        try:
            free = self._files.free_space(self._path)
        except OSError:
            return False
        size = min(self._reserve_size, free // FREE_SHARE) // PIECES
        if size < PIECE_SIZE_MIN:
            return False
        if not all(self._make(name, size) for name in missing):
            return False
        try:
            self._files.sync_folder(self._path)
        except OSError:
            return False
        return True

    def _found(self) -> Iterator[str]:
        """Give the files of the reserve that are there; those that a crash has left too small are no help."""
        for name in self._files.list_folder(self._path):
            if not name.startswith(RESERVE_PREFIX):
                continue
            path = f"{self._path}/{name}"
            status = self._files.status(path)
            if status is not None and status.size >= PIECE_SIZE_MIN:
                yield name
            else:
                with contextlib.suppress(OSError):
                    self._files.unlink(path)

    def _make(self, name: str, size: int) -> bool:
        path = f"{self._path}/{name}"
        try:
            handle = self._files.create(path)
        except OSError:
            return False
        try:
            self._files.preallocate(handle, 0, size)
            self._files.sync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.unlink(path)
            return False
        finally:
            self._files.close(handle)
        self._held.add(name)
        return True
