"""Writing the redo journal: one sync for a cycle that touches many files.

A cycle whose bytes lie in more than one file writes them to the journal first, as one entry a file, and syncs that;
then it writes the files, and its answers go out. So a thousand files cost one sync, and after a power cut
`journal_replay.py` puts into the files what they lack.

Each of the two files, `journal-0` and `journal-1`, goes round these states:

    FREE      retired: a fresh salt, no entries, synced
    ACTIVE    the one that is written to; at most one
    SYNCING   full: the files that it covers are being synced off the loop, and then it is retired
    KEPT      that failed: it stays as it is until the next start, which replays it

When the active one is full, the free one takes over at once. Where that is not free yet, the cycle waits; where it is
KEPT, there is no journal any more, and every file is synced by itself. A failed late sync fences the streams that are
concerned; what they were told before is in the journal that is kept.

The files are made when a cycle first wants them. Where that fails, for want of room say, it is tried again later.
"""

import contextlib
import errno
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Final, Protocol

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, Scheduler
from headrace.storage.bounds import Bounds
from headrace.storage.files import Files, sync_path
from headrace.storage.framing import FILE_HEADER_SIZE, HeaderUnreadable, fresh_salt, parse_file_header
from headrace.storage.journal_entry import (
    JOURNAL_NAMES,
    STOP,
    EntryTarget,
    encode_beginning,
    encode_entry,
    entry_size,
)
from headrace.storage.sync import Errands, Write
from headrace.storage.targets import FileWrite

EACH_MAX: Final = 32
"""Up to so many files are synced late one by one; more of them all at once, where the system can."""

OVERWRITTEN_AT_ONCE: Final = 1024 * 1024

MAKE_AGAIN_NS: Final = 10 * NS_PER_S
"""How long it takes until the journal's files are tried again that could not be made."""


class JournalUser(Protocol):
    """What the journal sees of a log."""

    def fence(self, reason: str) -> None:
        """What was written may not have become durable."""
        ...


class Phase(Enum):
    """Where one of the files is."""

    FREE = "free"
    ACTIVE = "active"
    SYNCING = "syncing"
    KEPT = "kept"


class _File:
    """One of the two; `used` is where its next entry goes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.handle = -1
        self.phase = Phase.FREE
        self.salt = 0
        self.used = FILE_HEADER_SIZE
        self.filled = 0
        """Up to where it may hold what earlier uses left."""
        self.covered: dict[str, JournalUser] = {}
        self.rounds = 0
        """Late syncs that were asked for and have not reported."""
        self.is_lost = False
        """Whether a late sync failed, as its errand knows before the loop does."""


class Journal:
    """The journal of a store. Loop thread only, but for its errands."""

    def __init__(
        self,
        files: Files,
        folder: str,
        *,
        scheduler: Scheduler,
        chance: Chance,
        errands: Errands,
        bounds: Bounds,
    ) -> None:
        self._files = files
        self._folder = folder
        self._scheduler = scheduler
        self._chance = chance
        self._errands = errands
        self._size = bounds.journal_size
        self._entry_size_max = min(bounds.journal_entry_size_max, bounds.journal_size // 4)
        self._pair = [_File(f"{folder}/{name}") for name in JOURNAL_NAMES]
        self._active = self._pair[0]
        self._turn = 0
        self._is_made = False
        self._is_off = not bounds.journal_size
        self._make_again_ns = 0
        self._emptying: list[Callable[[OSError | None], None]] = []
        self._is_flying = False
        self._flying = (
            0,
            0,
        )  # where in the active one the cycle's bytes begin, and where the next entry goes
        self.on_free: Callable[[], None] | None = None
        """Called when a file has become free, or never will, for a cycle that waits for one."""

    # ---- at start and stop

    def take_over(self) -> None:
        """Go on with the files that are there; what they held was replayed. Raises OSError."""
        stale: list[_File] = []
        for each in self._pair:
            status = self._files.status(each.path)
            if status is not None and status.size != self._size:
                self._files.unlink(each.path)
                self._files.sync_folder(self._folder)
            elif status is not None:
                stale.append(each)
                each.filled = self._size
                each.handle = self._files.open(each.path, writable=True)
                self._turn = max(self._turn, self._turn_of(each))
        for each in stale:
            self._retire(each)
        self._is_made = len(stale) == len(self._pair) and not self._is_off

    def keep(self) -> None:
        """Leave the files as they are: not all that they hold could be put in its place."""
        self._is_off = True

    def close(self) -> None:
        """Sync what is covered and retire what can be; nothing is written any more. Waits."""
        for each in self._pair:
            if each.phase is Phase.ACTIVE and each.covered:
                with contextlib.suppress(OSError):  # The next start replays it.
                    if not self._sync_covered(each):
                        self._retire(each)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        for each in self._pair:
            if each.handle >= 0:
                self._files.close(each.handle)
                each.handle = -1

    # ---- for a cycle

    @property
    def handle(self) -> int:
        """The handle that the cycle's journal write has."""
        return self._active.handle

    @property
    def wants_making(self) -> bool:
        """Whether its files have to be made before it can be used; `make` does it, off the loop."""
        return (
            not self._is_made and not self._is_off and self._scheduler.monotonic_ns() >= self._make_again_ns
        )

    def make(self) -> None:
        """Make the files that are not there. An errand; where it fails, there is no journal for a while."""
        try:
            for each in self._pair:
                if each.handle < 0:
                    self._make_file(each)
        except OSError:
            self._make_again_ns = self._scheduler.monotonic_ns() + MAKE_AGAIN_NS
        else:
            self._is_made = True

    def chosen(self, writes: Sequence[FileWrite]) -> list[FileWrite]:
        """Give those of a cycle's writes that go through the journal: none, or more than one.

        A file with much to write is synced by itself: writing it twice would take longer than that.
        """
        if not self._is_made or self._is_off or len(writes) < 2:
            return []
        room = self._size - FILE_HEADER_SIZE - len(STOP)
        result: list[FileWrite] = []
        size_max = self._entry_size_max
        for write in writes:
            size = write.offset + len(write.data) - write.target.covered
            if size > size_max:
                continue
            room -= entry_size(size)
            if room < 0:
                break
            result.append(write)
        return result if len(result) > 1 else []

    def make_room(self, writes: Sequence[FileWrite]) -> bool:
        """Make sure that entries for these fit; False: not yet, `on_free` will tell, or there is no journal now."""
        size = len(STOP) + sum(
            entry_size(write.offset + len(write.data) - write.target.covered) for write in writes
        )
        active = self._active
        if active.phase in (Phase.FREE, Phase.ACTIVE) and active.used + size <= self._size:
            active.phase = Phase.ACTIVE
            return True
        if active.phase is Phase.ACTIVE:
            self._sync_late(active)
        other = self._pair[1 - self._pair.index(active)]
        if other.phase is Phase.FREE:
            other.phase = Phase.ACTIVE
            self._active = other
            return True
        if other.phase is Phase.KEPT:
            # Where one file is out of use, the other one's cycles would all wait for their late syncs.
            self._is_off = True
        return False

    @property
    def is_off(self) -> bool:
        """Whether there is no journal until the next start."""
        return self._is_off

    def encode(self, writes: Sequence[FileWrite]) -> Write:
        """Make the cycle's journal write; its room was made. Raises OSError where older bytes cannot be read."""
        active, pread = self._active, self._files.pread
        salt, place = active.salt, active.used
        time_ns = self._scheduler.now_ns()
        parts: list[bytes] = []
        for target, offset, data, last, _ in writes:
            covered = target.covered
            body = bytes(data)
            if covered < offset:
                body = pread(target.handle, offset - covered, covered) + body
            entry = encode_entry(
                EntryTarget(target.stream_id, target.salt, covered, last, len(body)),
                body,
                guard=salt ^ place,
                first=min(target.covered_last + 1, last),
                time_ns=time_ns,
            )
            parts.append(entry)
            place += len(entry)
        parts.append(STOP)
        assert place + len(STOP) <= self._size, "room was made"
        self._flying = (active.used, place)
        self._is_flying = True
        return active.handle, active.used, b"".join(parts)

    def on_synced(self, users: Iterable[tuple[JournalUser, FileWrite]]) -> None:
        """The cycle's journal write is durable, and its files were written."""
        active = self._active
        self._is_flying = False
        active.used = self._flying[1]
        active.covered.update((write.target.path, user) for user, write in users)
        if self._emptying:
            self._empty_both()

    def empty(self, then: Callable[[OSError | None], None]) -> None:
        """Bring all to its files, durably, and overwrite it here; `then` hears how that ended.

        Cycles that want the journal wait meanwhile.
        """
        self._emptying.append(then)
        if not self._is_flying:
            self._empty_both()

    # ---- retiring

    def _empty_both(self) -> None:
        """Let both files go round once, overwritten; those that are being synced first get there."""
        waiting, self._emptying = self._emptying, []
        errors: list[OSError] = []

        def on_emptied() -> None:
            for then in waiting:
                then(errors[0] if errors else None)

        errors += [
            OSError(errno.EBUSY, "the journal is kept until the next start", each.path)
            for each in self._pair
            if each.phase is Phase.KEPT or (self._is_off and each.handle >= 0)
        ]
        if errors or not self._is_made:
            self._errands.run(lambda: None, lambda _: on_emptied())
            return
        for each in self._pair:
            self._sync_late(each, overwrite=True)
        # Errands run in order: when this one comes back, those have ended.
        self._errands.run(lambda: None, lambda _: on_emptied())

    def _sync_late(self, file: _File, *, overwrite: bool = False) -> None:
        """Sync what a full file covers, off the loop, and retire it; with `overwrite`, leave nothing of it."""
        file.phase = Phase.SYNCING
        file.rounds += 1
        failed: dict[str, str] = {}

        def sync() -> None:
            if file.is_lost:
                raise OSError(errno.EBUSY, "the journal is kept until the next start", file.path)
            file.is_lost = True
            failed.update(self._sync_covered(file))
            if not failed:
                self._retire(file, overwrite=overwrite)
                file.is_lost = False

        def on_synced(error: OSError | None) -> None:
            # Where only the retiring failed, all is in its place; the next start replays it for nothing.
            file.rounds -= 1
            if error is not None or failed:
                file.phase = Phase.KEPT
            elif not file.rounds:
                file.phase = Phase.FREE
            for path, reason in failed.items():
                file.covered[path].fence(f"{path}: a late sync failed: {reason}")
            file.covered = {}
            if self.on_free is not None:
                self.on_free()

        self._errands.run(sync, on_synced)

    def _sync_covered(self, file: _File) -> dict[str, str]:
        """Make durable what the files have that a journal file covers; give those for which that failed, and why."""
        failed: dict[str, str] = {}
        if len(file.covered) > EACH_MAX:
            try:
                if self._files.sync_disk(file.handle):
                    return {}
            except OSError as error:
                return dict.fromkeys(file.covered, error.strerror or "")
        for path in file.covered:
            try:
                sync_path(self._files, path)
            except FileNotFoundError:
                continue  # it was dropped since
            except OSError as error:
                failed[path] = error.strerror or ""
        return failed

    def _retire(self, file: _File, *, overwrite: bool = False) -> None:
        """Begin a file anew: what it held is in its place."""
        salt = fresh_salt(self._chance)
        self._turn += 1
        beginning = encode_beginning(
            salt=salt, turn=self._turn, created_ns=self._scheduler.now_ns(), capacity=self._size
        )
        filled = max(file.filled, file.used + len(STOP))
        self._files.pwrite(file.handle, beginning, 0)
        if overwrite:
            for start in range(len(beginning), min(filled, self._size), OVERWRITTEN_AT_ONCE):
                zeros = bytes(min(OVERWRITTEN_AT_ONCE, self._size - start))
                self._files.pwrite(file.handle, zeros, start)
            filled = 0
        self._files.sync(file.handle)
        file.filled = filled
        file.salt = salt
        file.used = FILE_HEADER_SIZE

    def _make_file(self, file: _File) -> None:
        temporary = f"{file.path}.new"
        if self._files.status(temporary) is not None:
            self._files.unlink(temporary)
        file.handle = self._files.create(temporary)
        try:
            self._files.preallocate(file.handle, 0, self._size)
            self._retire(file)
            self._files.rename(temporary, file.path)
            self._files.sync_folder(self._folder)
        except OSError:
            self._files.close(file.handle)
            file.handle = -1
            with contextlib.suppress(OSError):  # The next start does it.
                self._files.unlink(temporary)
            raise

    def _turn_of(self, file: _File) -> int:
        try:
            return parse_file_header(self._files.pread(file.handle, FILE_HEADER_SIZE, 0), file.path).subject
        except HeaderUnreadable:
            return 0
