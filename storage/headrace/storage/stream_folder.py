"""The folder of a stream's files, and how a new one becomes part of the store.

A new stream's folder is made on the loop as `<id>.new`, with its files written but not synced. An errand of the next
commit cycle, off the loop, makes all of that durable and gives the folder its name; the API's answer waits for that
cycle. A start removes what is still called `.new`, so a stream is there whole or not at all.

Meanwhile the loop may need a segment's file in it, or delete it again. Both go by the path that the folder has
at that moment, under a lock that is held for one system call.
"""

import contextlib
import threading
from collections.abc import Sequence

from headrace.storage.files import Files, remove_tree, sync_path
from headrace.storage.segment import SEGMENTS_FOLDER


class StreamFolder:
    """One stream's folder. `path` is where it ends up: what is said of a stream names no other."""

    def __init__(self, files: Files, path: str) -> None:
        """A folder that has its name."""
        self._files = files
        self.path = path
        self.segments = f"{path}/{SEGMENTS_FOLDER}"
        self._now = path
        self._is_deleted = False
        self._lock = threading.Lock()

    @classmethod
    def made(cls, files: Files, path: str) -> "StreamFolder":
        """Make a new one, without its name yet. Raises OSError, and then nothing is left of it."""
        folder = cls(files, path)
        folder._now = f"{path}.new"
        files.make_folder(folder._now)
        try:
            files.make_folder(f"{folder._now}/{SEGMENTS_FOLDER}")
        except OSError:
            folder.abandon()
            raise
        return folder

    @property
    def now(self) -> str:
        """Where it is, as long as nobody was asked to complete it."""
        return self._now

    @property
    def dead(self) -> str:
        """What it is called once it was deleted."""
        return f"{self.path}.dead"

    def create_segment(self, name: str) -> int:
        """Create a file among the segments; give its handle. Raises OSError."""
        with self._lock:
            return self._files.create(f"{self._now}/{SEGMENTS_FOLDER}/{name}")

    def unlink_segment(self, name: str) -> None:
        """Remove one of them. Raises OSError."""
        with self._lock:
            self._files.unlink(f"{self._now}/{SEGMENTS_FOLDER}/{name}")

    def complete(self, names: Sequence[str]) -> None:
        """Make durable what the new folder holds, its files of these names among it, and name it; blocks.

        The name is durable when the folder above was synced. Raises OSError.
        """
        try:
            for name in names:
                # By a handle of its own: the log may close its one meanwhile.
                sync_path(self._files, f"{self._now}/{name}")
            self._files.sync_folder(self._now)
        except FileNotFoundError:
            if self._is_deleted:
                return
            raise
        with self._lock:
            if not self._is_deleted:
                self._files.rename(self._now, self.path)
                self._now = self.path

    def abandon(self) -> None:
        """Remove a folder that was not completed, whose files are closed; what stays is removed at the next start."""
        with contextlib.suppress(OSError):
            remove_tree(self._files, self._now)

    def delete(self) -> None:
        """Rename it, so that a start removes what is left of it. Raises OSError, and then it is as it was."""
        with self._lock:
            self._files.rename(self._now, self.dead)
            self._is_deleted = True
            self._now = self.dead

    def remove(self) -> None:
        """Remove the files of a deleted stream, which are closed; blocks. Raises OSError."""
        remove_tree(self._files, self.dead)
