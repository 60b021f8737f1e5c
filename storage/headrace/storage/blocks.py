"""Reading sealed and written bytes: blocks of segments in a bounded cache, and handles of files that are open to read.

A block is 64 KiB of a segment, kept as the bytes that one `pread` gave. The block at the written end of a segment
grows: it is read again when something behind what was read is asked for. What is not written yet is not read
here; the log serves it from memory.
"""

from typing import Final

from headrace.storage.files import Files
from headrace.storage.segment import Segment

BLOCK_BITS: Final = 16
BLOCK_SIZE: Final = 1 << BLOCK_BITS
HANDLES_MAX: Final = 256


class Blocks:
    """The cache of all logs of a store."""

    def __init__(self, files: Files, *, size_max: int, handles_max: int = HANDLES_MAX) -> None:
        self._files = files
        self._count_max = max(1, size_max >> BLOCK_BITS)
        self._handles_max = handles_max
        self._blocks: dict[tuple[int, int], bytes] = {}
        self._handles: dict[int, int] = {}

    def read(self, segment: Segment, offset: int, size: int) -> bytes:
        """Give `size` bytes of what is written of a segment; fewer where it ends. Raises OSError."""
        number = offset >> BLOCK_BITS
        start = offset - (number << BLOCK_BITS)
        end = start + size
        if end > BLOCK_SIZE:
            if size > BLOCK_SIZE:
                return self._files.pread(self.handle(segment), size, offset)
            first = self._block(segment, number, BLOCK_SIZE)[start:]
            return first + self._block(segment, number + 1, end - BLOCK_SIZE)[: end - BLOCK_SIZE]
        return self._block(segment, number, end)[start:end]

    def block(self, segment: Segment, offset: int) -> tuple[bytes, int]:
        """Give the block of a written `offset`, as far as it is at hand, and where it begins. Raises OSError."""
        number = offset >> BLOCK_BITS
        start = number << BLOCK_BITS
        return self._block(segment, number, offset - start + 1), start

    def handle(self, segment: Segment) -> int:
        """Give a handle that reads a segment's file."""
        handles = self._handles
        handle = handles.pop(segment.salt, -1)
        if handle < 0:
            handle = self._files.open(segment.path)
            if len(handles) >= self._handles_max:
                self._files.close(handles.pop(next(iter(handles))))
        handles[segment.salt] = handle
        return handle

    def forget(self, salt: int) -> None:
        """Drop what is kept of a segment whose file goes or was overwritten."""
        handle = self._handles.pop(salt, -1)
        if handle >= 0:
            self._files.close(handle)
        for key in [each for each in self._blocks if each[0] == salt]:
            del self._blocks[key]

    def close(self) -> None:
        """Close all handles."""
        for handle in self._handles.values():
            self._files.close(handle)
        self._handles.clear()
        self._blocks.clear()

    def _block(self, segment: Segment, number: int, needed: int) -> bytes:
        """Give a block with at least `needed` bytes, unless the written part ends before."""
        key = (segment.salt, number)
        blocks = self._blocks
        block = blocks.pop(key, b"")
        start = number << BLOCK_BITS
        available = min(segment.written - start, BLOCK_SIZE)
        if len(block) < needed and len(block) < available:
            block = self._files.pread(self.handle(segment), available, start)
            if len(blocks) >= self._count_max:
                del blocks[next(iter(blocks))]
        blocks[key] = block
        return block
