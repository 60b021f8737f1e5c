"""What a server sends, cut into frames: the client's side of the protocol, without a socket.

Bytes go in as they come, in pieces of any size; complete frames come out in order.
"""

from typing import Final, NamedTuple

from headrace.core.base.errors import HeadraceError

LINE_SIZE_MAX: Final = 1024 * 1024
"""A control line longer than this is nobody's; INFO of a large cluster stays far below."""


class BrokenFrame(HeadraceError):
    """A server sent what is not the protocol."""


class Frame(NamedTuple):
    """One operation of a server.

    `operation` is as on the wire: MSG, HMSG, INFO, PING, PONG, +OK, -ERR. `text` holds what follows INFO and -ERR
    (without quotes); the rest belongs to MSG and HMSG. `headers` is the whole block, or empty.
    """

    operation: str
    text: str = ""
    subject: str = ""
    sid: str = ""
    reply: str = ""
    headers: bytes = b""
    payload: bytes = b""

    @property
    def status(self) -> str:
        """The status line of a message without content (`503`, `408 Request Timeout`), or empty."""
        line = self.headers.partition(b"\r\n")[0]
        return line.removeprefix(b"NATS/1.0").strip().decode("latin-1")

    def header(self, name: str) -> str | None:
        """Give the first value of a header; None where there is none."""
        for line in self.headers.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.decode("latin-1") == name:
                return value.strip().decode("latin-1")
        return None


class FrameParser:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take what came next; give the frames that are complete now. Raises BrokenFrame."""
        self._data += data
        frames: list[Frame] = []
        position = 0
        while True:
            frame, following = self._next(position)
            if frame is None:
                self._data = self._data[position:]
                return frames
            frames.append(frame)
            position = following

    def _next(self, position: int) -> tuple[Frame | None, int]:
        """Give the frame that begins at `position` and where the next one does; None where it is not complete."""
        end = self._data.find(b"\r\n", position)
        if end < 0:
            if len(self._data) - position > LINE_SIZE_MAX:
                raise BrokenFrame(f"a line without end: {self._data[position : position + 100]!r}")
            return None, position
        operation, _, rest = self._data[position:end].decode("latin-1").partition(" ")
        match operation:
            case "MSG" | "HMSG":
                return self._message(operation, rest, end + 2)
            case "INFO":
                return Frame(operation, rest.strip()), end + 2
            case "-ERR":
                return Frame(operation, rest.strip().strip("'")), end + 2
            case "PING" | "PONG" | "+OK":
                return Frame(operation), end + 2
            case _:
                raise BrokenFrame(f"expected an operation, found {self._data[position:end][:100]!r}")

    def _message(self, operation: str, arguments: str, start: int) -> tuple[Frame | None, int]:
        words = arguments.split()
        sizes = 2 if operation == "HMSG" else 1
        if len(words) not in {2 + sizes, 3 + sizes} or not all(word.isdigit() for word in words[-sizes:]):
            raise BrokenFrame(f"expected {operation} with its arguments, found {arguments[:200]!r}")
        size = int(words[-1])
        header_size = int(words[-2]) if sizes == 2 else 0
        end = start + size
        if len(self._data) < end + 2:
            return None, start
        if self._data[end : end + 2] != b"\r\n":
            raise BrokenFrame(
                f"a payload of {size} bytes is not followed by CRLF: {self._data[end : end + 20]!r}"
            )
        reply = words[2] if len(words) == 3 + sizes else ""
        block = self._data[start:end]
        return (
            Frame(operation, "", words[0], words[1], reply, block[:header_size], block[header_size:]),
            end + 2,
        )
