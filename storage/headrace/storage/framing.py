"""Files of records: their header, and walking over what lies in them.

`walk` goes over the records of any of our files. It never stops at damage: it says where an unreadable place begins
and ends, and goes on behind it. What the damage means (loss, or a write that was not finished) is decided by the one
who asked, who knows what should be there.

The guard makes resynchronisation cheap: the upper half of a guard is the upper half of the file's salt, so the next
record is found by searching for four bytes and checking the rest.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple
from zlib import crc32

from headrace.core.base.chance import Chance
from headrace.storage.interface import StorageError
from headrace.storage.record import ALIGNMENT, HEADER_SIZE, Header, RecordInvalid, check_body, parse_header

FORMAT_VERSION: Final = 1
MAGIC: Final = b"HEADRACE"
FILE_HEADER_SIZE: Final = 128
WINDOW_SIZE: Final = 1024 * 1024
"""How much of a file is read at a time when it is walked over."""

_COPY_SIZE: Final = 64
_FILE_HEADER: Final = struct.Struct("<8sHBBIQQQQQI")
_ZEROS: Final = bytes(WINDOW_SIZE)

Read = Callable[[int, int], bytes]
"""Reads (size, offset) of a file; fewer bytes only where it ends."""


class FileKind(IntEnum):
    """What a file of records is."""

    SEGMENT = 1
    STATE = 2
    JOURNAL = 3
    SIDECAR = 4
    REMOVALS = 5


class FileHeader(NamedTuple):
    """What a file says of itself. `subject` is a state log's generation, or the salt of the segment it belongs to."""

    kind: FileKind
    salt: int
    stream_id: int
    subject: int
    created_ns: int
    capacity: int


class HeaderUnreadable(StorageError):
    """Neither copy of a file's header checks."""


class NewerFormat(StorageError):
    """A later version of Headrace wrote this."""


class Found(NamedTuple):
    """A valid record."""

    offset: int
    header: Header
    body: bytes

    @property
    def end(self) -> int:
        return self.offset + self.header.end


class Damage(NamedTuple):
    """Bytes that are no record. `header` is there where the record's header could still be read."""

    offset: int
    size: int
    what: str
    header: Header | None = None


class Unreadable(NamedTuple):
    """Bytes of a file that do not check, and what is wrong with them."""

    offset: int
    size: int
    what: str


class End(NamedTuple):
    """Behind this offset there is nothing but zeros."""

    offset: int


def fresh_salt(chance: Chance) -> int:
    """Give a salt for a new file. Its upper half is never zero, for resynchronisation searches for that half."""
    while True:
        salt = chance.bits64()
        if salt >> 32:
            return salt


def encode_file_header(header: FileHeader) -> bytes:
    """Encode a file's first 128 bytes."""
    fields = _FILE_HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        header.kind,
        0,
        FILE_HEADER_SIZE,
        header.salt,
        header.stream_id,
        header.subject,
        header.created_ns,
        header.capacity,
        0,
    )
    copy = fields + crc32(fields).to_bytes(4, "little")
    return copy + copy


def parse_file_header(data: bytes, path: str) -> FileHeader:
    """Read a file's first 128 bytes. Raises HeaderUnreadable and NewerFormat."""
    for start in (0, _COPY_SIZE):
        copy = data[start : start + _COPY_SIZE]
        if len(copy) < _COPY_SIZE or crc32(copy[:-4]) != int.from_bytes(copy[-4:], "little"):
            continue
        magic, version, kind, _, _, salt, stream_id, subject, created_ns, capacity, _ = (
            _FILE_HEADER.unpack_from(copy)
        )
        if magic != MAGIC:
            continue
        if version > FORMAT_VERSION:
            raise NewerFormat(
                f"{path} has storage format {version}, this version reads up to {FORMAT_VERSION}"
            )
        return FileHeader(FileKind(kind), salt, stream_id, subject, created_ns, capacity)
    raise HeaderUnreadable(f"{path}: neither copy of the file's header can be read")


def walk(read: Read, salt: int, start: int = FILE_HEADER_SIZE) -> Iterator[Found | Damage | End]:
    """Give the records from `start` on and the damage between them, in order; the end comes last."""
    position = start
    window = b""
    base = start
    while True:
        index = position - base
        if index + HEADER_SIZE > len(window):
            window = read(WINDOW_SIZE, position)
            base, index = position, 0
        try:
            header = parse_header(window, index, salt ^ position)
        except RecordInvalid as error:
            if _is_blank(window, index) and not _is_filled_behind(read, base + len(window)):
                yield End(position)
                return
            following, end = _resynchronise(read, salt, position + ALIGNMENT)
            yield Damage(position, (following or end) - position, str(error))
            if following is None:
                yield End(end)
                return
            position = following
            continue
        end = index + header.end
        if end <= len(window):
            body = window[index + HEADER_SIZE : end]
        else:
            body = read(header.end - HEADER_SIZE, position + HEADER_SIZE)
        try:
            check_body(header, body)
        except RecordInvalid as error:
            yield Damage(position, header.end, str(error), header)
        else:
            yield Found(position, header, body)
        position += header.end


def _is_blank(window: bytes, index: int) -> bool:
    return not window[index:].strip(b"\0")


def _is_filled_behind(read: Read, position: int) -> bool:
    while True:
        window = read(WINDOW_SIZE, position)
        if not window:
            return False
        if window != _ZEROS[: len(window)]:
            return True
        position += len(window)


def _resynchronise(read: Read, salt: int, position: int) -> tuple[int | None, int]:
    """Find the next place that begins with a good header; else give the aligned end of what is not zero."""
    upper_half = (salt >> 32).to_bytes(4, "little")
    filled_end = position
    while True:
        window = read(WINDOW_SIZE, position)
        if len(window) < HEADER_SIZE:
            filled_end = _filled_end(window, position, filled_end)
            return None, filled_end
        index = window.find(upper_half, 4) - 4
        while index >= 0:
            if not (position + index) % ALIGNMENT and index + HEADER_SIZE <= len(window):
                try:
                    parse_header(window, index, salt ^ (position + index))
                except RecordInvalid:
                    pass
                else:
                    return position + index, filled_end
            index = window.find(upper_half, index + 5) - 4
        filled_end = _filled_end(window, position, filled_end)
        if len(window) < WINDOW_SIZE:
            return None, filled_end
        # Windows overlap by a header, so that none is missed at their border.
        position += len(window) - HEADER_SIZE & ~(ALIGNMENT - 1)


def _filled_end(window: bytes, position: int, so_far: int) -> int:
    filled = len(window.rstrip(b"\0"))
    return max(so_far, position + filled + 7 & ~7) if filled else so_far
