"""Frames of one WebSocket: `wsproto` does the framing, this adds what NATS makes of it.

`wsproto` was chosen because it hands on what has come of a frame before its end has: a client may put megabytes into
one, and nothing needs to be kept of that, before a login least of all. The NATS protocol is a stream of bytes, so where
frames and messages end means nothing, and text is as good as binary.

Compression is "permessage-deflate" without context takeover, each message by itself. Its messages are inflated as they
come, piece by piece, and are limited, packed and unpacked.

Source: the WebSocket protocol of NATS server 2.15, probed; RFC 6455 and 7692.
"""

import zlib
from collections.abc import Callable
from typing import Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    Frame,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    ParseFailed,
    RsvBits,
)

BROWSER_FRAME_SIZE: Final = 4096
"""Browsers are sent frames of at most this many bytes, as the reference does."""

COMPRESS_FROM: Final = 65
"""What is shorter is sent as it is, bytes."""

MESSAGE_MULTIPLE: Final = 8
MESSAGE_SIZE_MAX: Final = 64 * 1024 * 1024
"""A compressed message holds at most MESSAGE_MULTIPLE payloads of the largest size, and never more than this."""

INFLATE_SIZE: Final = 16 * 1024
"""Compressed bytes that are looked at at once: they become at most a thousand times as many."""

_TAIL: Final = b"\x00\x00\xff\xff"  # what RFC 7692 takes off the end of each message
_PLAIN: Final = RsvBits(rsv1=False, rsv2=False, rsv3=False)
_PACKED: Final = RsvBits(rsv1=True, rsv2=False, rsv3=False)

__all__ = ["CloseReason", "Frame", "Frames", "Opcode", "ParseFailed"]


def message_size_max(max_payload: int) -> int:
    """Give how large a compressed message may be, and what becomes of it."""
    return min(MESSAGE_MULTIPLE * max(max_payload, 1), MESSAGE_SIZE_MAX)


class Frames:
    """Frames in and out of one connection."""

    def __init__(
        self,
        *,
        compresses: bool,
        is_unmasked: bool,
        fragment_size: int,
        fragments_compressed: bool,
        size_max: int,
    ) -> None:
        self._deflate = Deflate(size_max) if compresses else None
        extensions: list[Extension] = [] if self._deflate is None else [self._deflate]
        # Who sends without masks is read as a client reads a server; what is written is never masked either way.
        self._reader = FrameProtocol(client=is_unmasked, extensions=extensions)
        self._writer = FrameProtocol(client=False, extensions=extensions)
        self._fragment_size = fragment_size  # 0: frames of any size
        self._fragments_compressed = fragments_compressed
        self._unread = bytearray()

    def receive(self, chunk: bytes | memoryview) -> None:
        """Take bytes from the wire."""
        if self._deflate is None:
            self._reader.receive_bytes(chunk)  # type: ignore[arg-type]  # it is appended to a bytearray
        else:
            self._unread += chunk

    def next(self) -> Frame | None:
        """Give the next frame, or what has come of it; None: wait for more. Raises ParseFailed."""
        while True:
            for frame in self._reader.received_frames():
                return frame
            if not self._unread:
                return None
            self._reader.receive_bytes(bytes(self._unread[:INFLATE_SIZE]))
            del self._unread[:INFLATE_SIZE]

    def encode(self, data: bytes) -> bytes:
        """Frame output."""
        size = self._fragment_size
        if self._deflate is not None and len(data) >= COMPRESS_FROM:
            data = self._deflate.pack(data)
            if not self._fragments_compressed:
                size = 0
        if not size or len(data) <= size:
            return bytes(self._writer.send_data(data))
        starts = range(0, len(data), size)
        return b"".join(
            self._writer.send_data(data[start : start + size], fin=start == starts[-1]) for start in starts
        )

    def encode_pong(self, payload: bytes) -> bytes:
        return bytes(self._writer.pong(payload))

    def encode_close(self, code: int | None, reason: str) -> bytes:
        """Make a close frame; no code: an empty one."""
        return bytes(self._writer.close(code, reason if code is not None else None))


class Deflate(Extension):
    """Compression, for both directions. Messages that come are limited to `size_max`, packed and unpacked."""

    name = "permessage-deflate"

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._decompress: Callable[[bytes, int], bytes] | None = None  # where the message is compressed
        self._is_control = False
        self._packed_size = 0
        self._size = 0
        self._marks_next = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False  # a server is offered, and agrees in its response

    def pack(self, data: bytes) -> bytes:
        """Compress a message; the next frame that is sent says so."""
        self._marks_next = True
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(_TAIL)

    # what wsproto calls

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  (the signature is wsproto's)
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,  # noqa: ARG002  (the signature is wsproto's)
    ) -> tuple[RsvBits, bytes]:
        if self._marks_next and opcode is Opcode.BINARY:
            self._marks_next = False
            return _PACKED, data
        return rsv, data

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  (the signature is wsproto's)
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002  (the signature is wsproto's)
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if self._is_control or opcode is Opcode.CONTINUATION:
            return _PLAIN  # the mark stands on a message's first frame alone
        self._decompress = zlib.decompressobj(-zlib.MAX_WBITS).decompress if rsv.rsv1 else None
        self._packed_size = self._size = 0
        return _PACKED

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  (the signature is wsproto's)
        data: bytes,
    ) -> bytes | CloseReason:
        if self._is_control or self._decompress is None:
            return data
        self._packed_size += len(data)
        return self._inflate(data)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  (the signature is wsproto's)
        fin: bool,
    ) -> bytes | CloseReason | None:
        if self._is_control or self._decompress is None or not fin:
            return None
        return self._inflate(_TAIL)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        assert self._decompress is not None, "asked for compressed messages alone"
        try:
            unpacked = self._decompress(data, self._size_max - self._size + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._size += len(unpacked)
        if max(self._size, self._packed_size) > self._size_max:
            return CloseReason.MESSAGE_TOO_BIG
        return unpacked
