"""What a server sends is cut into frames, wherever the bytes were cut on their way."""

import pytest

from headrace.tools.frames import LINE_SIZE_MAX, BrokenFrame, Frame, FrameParser

TEXT = (
    b'INFO {"port":1} \r\nPING\r\nMSG a 1 2\r\n\r\n\r\nMSG a.b 22 re 3\r\nxyz\r\n'
    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG a 1 re 31 31\r\nNATS/1.0 408 Time Out\r\nA: b\r\n\r\n\r\n"
    b"-ERR 'Stale Connection'\r\n+OK\r\nPONG\r\n"
)
FRAMES = [
    Frame("INFO", '{"port":1}'),
    Frame("PING"),
    Frame("MSG", subject="a", sid="1", payload=b"\r\n"),
    Frame("MSG", subject="a.b", sid="22", reply="re", payload=b"xyz"),
    Frame("HMSG", subject="a", sid="1", headers=b"NATS/1.0\r\n\r\n", payload=b"hi"),
    Frame("HMSG", subject="a", sid="1", reply="re", headers=b"NATS/1.0 408 Time Out\r\nA: b\r\n\r\n"),
    Frame("-ERR", "Stale Connection"),
    Frame("+OK"),
    Frame("PONG"),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_frames_are_the_same_however_the_bytes_are_cut(step: int) -> None:
    parser = FrameParser()
    found: list[Frame] = []
    for at in range(0, len(TEXT), step):
        found += parser.feed(TEXT[at : at + step])
    assert found == FRAMES


def test_a_status_and_headers_are_read_from_the_block() -> None:
    frame = FRAMES[5]
    assert frame.status == "408 Time Out"
    assert frame.header("A") == "b"
    assert frame.header("B") is None
    assert FRAMES[4].status == ""


@pytest.mark.parametrize(
    "text",
    [
        b"HELLO\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 x\r\n",
        b"HMSG a 1 5\r\n",
        b"MSG a 1 1\r\nxyz",
        b"x" * (LINE_SIZE_MAX + 1),
    ],
)
def test_what_is_not_the_protocol_is_refused(text: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameParser().feed(text)
