"""What was removed of a sealed segment, in a file of its own: one bit a message.

While a segment is young its removals stand in the state log. Once they are many they are **folded** into
`<segment>.del`, and the next generation of the state log only says that they were. So the state log of a stream
stays small however many messages were deleted in the middle of it.

The file is written twice, as `.del` and `.del2`, each replaced as a whole by a rename: damage to one of them,
of any kind, loses nothing. Bits are only ever added. What is folded is counted by a checkpoint that is durable,
so a file never knows more than the state log that a start replays; where it does, because that checkpoint was
damaged, the segment is counted again (`survey.py`).
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    FileHeader,
    FileKind,
    Found,
    HeaderUnreadable,
    encode_file_header,
    parse_file_header,
    walk,
)
from headrace.storage.record import RecordType, encode

SUFFIXES: Final = (".del", ".del2")

_PREFIX_SIZE: Final = 16
"""The segment's first sequence, and the count of bits."""


class Removals(NamedTuple):
    """The bits of a segment, and the change number up to which they are complete."""

    change: int
    bits: bytes


class LoadedRemovals(NamedTuple):
    """What was found; `unreadable` are the files of the two that cannot be used."""

    removals: Removals | None
    unreadable: list[str]


class Fold(NamedTuple):
    """A `.del` to be written, both times."""

    segment_path: str
    copies: tuple[bytes, bytes]


def bit_count(bits: bytes | bytearray) -> int:
    """Count the bits that are set."""
    return int.from_bytes(bits, "little").bit_count()


def set_places(bits: int) -> Iterator[int]:
    """Give the places of the bits that are set in a number, ascending."""
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    for index, byte in enumerate(data):
        while byte:
            lowest = byte & -byte
            yield (index << 3) + lowest.bit_length() - 1
            byte ^= lowest


def difference(bits: bytes | bytearray, folded: bytes | bytearray | None) -> int:
    """Give the bits that are set in `bits` and not in `folded`, as one number."""
    number = int.from_bytes(bits, "little")
    return number & ~int.from_bytes(folded, "little") if folded else number


def encode_removals(
    removals: Removals, *, segment_salt: int, first: int, stream_id: int, salt: int, time_ns: int
) -> bytes:
    """Encode one copy of a `.del`."""
    body = first.to_bytes(8, "little") + bit_count(removals.bits).to_bytes(8, "little") + removals.bits
    record = encode(
        RecordType.REMOVALS, body, guard=salt ^ FILE_HEADER_SIZE, sequence=removals.change, time_ns=time_ns
    )
    size = FILE_HEADER_SIZE + len(record)
    header = FileHeader(FileKind.REMOVALS, salt, stream_id, segment_salt, time_ns, size)
    return encode_file_header(header) + record


def load_removals(
    files: Files, segment_path: str, segment_salt: int, *, count: int, both: bool = False
) -> LoadedRemovals:
    """Read a segment's removals, of which there are at least `count`; the second copy where the first is unusable.

    With `both` the second is read in any case.
    """
    found: Removals | None = None
    unreadable: list[str] = []
    for suffix in SUFFIXES:
        removals = _load_copy(files, f"{segment_path}{suffix}", segment_salt)
        if removals is None or bit_count(removals.bits) < count:
            unreadable.append(f"{os.path.basename(segment_path)}{suffix}")
        elif found is None or removals.change > found.change:
            found = removals
        if found is not None and not both:
            break
    return LoadedRemovals(found, unreadable)


def fold(files: Files, folds: Sequence[Fold]) -> Iterator[int]:
    """Write `.del` files, both copies of each; a chore."""
    folder = ""
    for each in folds:
        for suffix, data in zip(SUFFIXES, each.copies, strict=True):
            path = f"{each.segment_path}{suffix}"
            with contextlib.suppress(FileNotFoundError):
                files.unlink(f"{path}.new")
            handle = files.create(f"{path}.new")
            try:
                files.pwrite(handle, data, 0)
                files.sync(handle)
            finally:
                files.close(handle)
            files.rename(f"{path}.new", path)
        folder = os.path.dirname(each.segment_path)
        yield len(each.copies[0])
    if folder:
        files.sync_folder(folder)


def _load_copy(files: Files, path: str, segment_salt: int) -> Removals | None:
    try:
        handle = files.open(path)
        try:
            data = files.pread(handle, files.size(handle), 0)
        finally:
            files.close(handle)
    except OSError:
        return None
    try:
        header = parse_file_header(data[:FILE_HEADER_SIZE], path)
    except HeaderUnreadable:
        return None
    if header.kind != FileKind.REMOVALS or header.subject != segment_salt:
        return None
    for found in walk(lambda size, offset: data[offset : offset + size], header.salt):
        if isinstance(found, Found) and found.header.type == RecordType.REMOVALS:
            padding = found.header.end - found.header.length
            return Removals(found.header.sequence, found.body[_PREFIX_SIZE : len(found.body) - padding])
    return None
