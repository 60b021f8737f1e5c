"""What a snapshot holds, as bytes: frames, each a length, a checksum and a msgpack value.

    size (4) | CRC-32 (4) | value

The first frame is the head: format, configuration, first and last sequence, consumers. Then come runs of messages,
`[sequence, time, subject, headers, payload]`, ascending, and last a frame with the number of messages, so that what
was cut short is known. Numbers are little-endian.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgpack

from headrace.core.base.errors import HeadraceError
from headrace.core.base.message import View

FORMAT: Final = "headrace-snapshot-1"
FRAME_SIZE_MAX: Final = 128 * 1024 * 1024
_PREFIX: Final = struct.Struct("<II")


class BadSnapshot(HeadraceError):
    """These bytes are no snapshot, or not a whole one."""


def encode_frame(value: object) -> bytes:
    """Give one frame."""
    body: bytes = msgpack.packb(value)
    return _PREFIX.pack(len(body), zlib.crc32(body)) + body


def encode_views(views: list[View]) -> bytes:
    """Give the frame of a run of messages."""
    return encode_frame([tuple(view) for view in views])


class Frames:
    """Takes bytes as they come, and gives the frames that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.size = 0

    @property
    def is_between(self) -> bool:
        """Whether nothing of a frame is left over."""
        return not self._buffer

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Give the frames that end in this chunk. Raises BadSnapshot."""
        self._buffer += chunk
        self.size += len(chunk)
        while len(self._buffer) >= _PREFIX.size:
            size, checksum = _PREFIX.unpack_from(self._buffer)
            if size > FRAME_SIZE_MAX:
                raise BadSnapshot("not a snapshot of this server")
            end = _PREFIX.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_PREFIX.size : end])
            del self._buffer[:end]
            if zlib.crc32(body) != checksum:
                raise BadSnapshot("checksum does not match")
            try:
                yield msgpack.unpackb(body, strict_map_key=False)
            except (ValueError, msgpack.UnpackException) as error:
                raise BadSnapshot(f"not readable: {error}") from None
