"""The files that group commit writes to, and how far what is in them is safe.

A target is a segment or a state log that is open for appending. What is behind `covered` was written but never synced
(marks of an idle stream, plain progress of consumers, everything in the relaxed modes); the next sync of the file takes
it along, and so does the next entry of the journal, which otherwise would leave a hole.
"""

from typing import NamedTuple

from headrace.storage.files import Buffer


class Target:
    """An open file of records. `end`: written up to there; `covered`: durable, here or in the journal."""

    __slots__ = ("covered", "covered_last", "end", "handle", "path", "salt", "stream_id")

    def __init__(self, handle: int, *, path: str, stream_id: int, salt: int, end: int, last: int) -> None:
        self.handle = handle
        self.path = path
        self.stream_id = stream_id
        self.salt = salt
        self.end = self.covered = end
        self.covered_last = last
        """The last sequence (of a state log: change number) below `covered`."""

    @property
    def is_covered(self) -> bool:
        """Whether nothing in it could be lost."""
        return self.covered == self.end


class FileWrite(NamedTuple):
    """What goes to a target in a cycle: `data` at `offset`, up to the sequence (or change) `last`.

    With `sync`, everything up to there is durable before the answers; `data` may then be empty. The bytes are not
    changed while the cycle runs.
    """

    target: Target
    offset: int
    data: Buffer
    last: int
    sync: bool
