"""Whatever comes on a WebSocket: no error of ours, no hang, no growth. In virtual time, at the bytes' own speed."""

import logging

from hypothesis import example, given
from hypothesis import strategies as st

from core_lab import BrokerLab
from headrace.core.options import ServerOptions, WebsocketOptions
from headrace.core.transport import memory
from headrace.core.transport.websocket import REQUEST_SIZE_MAX, WebSocketFront

HEADERS = (
    b"Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\n" + HEADERS + b"\r\n"
OPERATIONS = st.sampled_from(
    [b"PING\r\n", b"SUB a 1\r\n", b"PUB a 2\r\nhi\r\n", b'CONNECT {"verbose":false}\r\n', b"PUB a 9999\r\n"]
)


class Lab(BrokerLab):
    """A broker behind WebSocket with compression."""

    def __init__(self) -> None:
        options = WebsocketOptions(port=1, compression=True)
        super().__init__(ServerOptions(websocket=options, max_payload=2000))
        self.front = WebSocketFront(
            options, self.broker.accept, self.scheduler, logging.getLogger("fuzz"), max_payload=2000
        )
        self.accept = self.front.accept

    def asked(self) -> memory.MemoryClient:
        client = memory.connect(self, self.scheduler)
        assert self.say(client, REQUEST).startswith(b"HTTP/1.1 101 ")
        return client

    def feed(self, client: memory.MemoryClient, chunks: list[bytes]) -> None:
        for chunk in chunks:
            if client.is_closed:
                break
            client.send(chunk)
            self.scheduler.settle()
            client.received()
        client.close()
        self.scheduler.settle()
        assert self.broker.connection_count == 0
        assert not self.front.asking
        assert self.broker.engine.subscription_count == 0


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Something like a frame: its parts are right more often than not."""
    first = draw(
        st.sampled_from([0x82, 0x81, 0x02, 0x80, 0x00, 0xC2, 0x42, 0x88, 0x89, 0x8A]) | st.integers(0, 255)
    )
    payload = draw(st.lists(OPERATIONS, max_size=4).map(b"".join) | st.binary(max_size=200))
    size = len(payload) + draw(st.sampled_from([0, 0, 0, 0, 1, -1, 70000, 1 << 40]))
    size = max(size, 0)
    is_masked = draw(st.sampled_from([0x80, 0x80, 0x80, 0]))
    if size < 126:
        head = bytes([is_masked | size])
    elif size < 1 << 16:
        head = bytes([is_masked | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([is_masked | 127]) + size.to_bytes(8, "big")
    mask = draw(st.binary(min_size=4, max_size=4)) if is_masked else b""
    return (
        bytes([first])
        + head
        + mask
        + bytes(byte ^ mask[index % 4] if mask else byte for index, byte in enumerate(payload))
    )


@given(st.lists(frames() | st.binary(min_size=1, max_size=40), max_size=12))
@example([b"\x88\x82\x00\x00\x00\x00\x0f\xa1"])  # a code that the standard leaves to applications
@example([b"\xc2\x83\x00\x00\x00\x00\xff\xff\xff"])
def test_no_frame_breaks_the_server(chunks: list[bytes]) -> None:
    lab = Lab()
    lab.feed(lab.asked(), chunks)


@given(
    st.lists(
        st.binary(min_size=1, max_size=200) | st.sampled_from([HEADERS, b"\r\n", b"GET / HTTP/1.1\r\n"]),
        max_size=8,
    )
)
@example([b"GET / HTTP/1.1\r\nContent-Length: 5\r\n", HEADERS, b"\r\n"])
@example([b"GET http://[ HTTP/1.1\r\n", HEADERS, b"Origin: http://[\r\n\r\n"])
def test_no_request_breaks_the_server(chunks: list[bytes]) -> None:
    lab = Lab()
    lab.feed(memory.connect(lab, lab.scheduler), chunks)


@given(st.integers(1, 64))
def test_a_request_never_takes_more_than_its_bound(step_count: int) -> None:
    lab = Lab()
    client = memory.connect(lab, lab.scheduler)
    client.send(b"GET / HTTP/1.1\r\n")
    sent = 0
    while sent <= REQUEST_SIZE_MAX and not client.is_closed:
        piece = b"x: " + b"y" * (REQUEST_SIZE_MAX // step_count) + b"\r\n"
        client.send(piece)
        sent += len(piece)
        lab.scheduler.settle()
    assert client.is_closed
