"""WebSocket in virtual time: requests, frames and closes, as bytes; the client's side is wsproto's."""

import logging
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from core_lab import BrokerLab, info_of
from headrace.core.base.clock import NS_PER_S
from headrace.core.link import LinkKind
from headrace.core.options import ServerOptions, UserOptions, WebsocketOptions
from headrace.core.transport import memory
from headrace.core.transport.websocket import REQUEST_SIZE_MAX, WebSocketFront

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CONNECT = b'CONNECT {"verbose":false,"headers":true}\r\n'


def request(path: str = "/", method: str = "GET", **changes: str | None) -> bytes:
    """Make a request; a header is changed or, with None, left out by its name with underscores."""
    headers: dict[str, str | None] = {
        "host": "127.0.0.1:80",
        "upgrade": "websocket",
        "connection": "keep-alive, Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join((f"{method} {path} HTTP/1.1", *lines, "", "")).encode()


class Lab(BrokerLab):
    """A broker behind WebSocket."""

    def __init__(self, websocket: WebsocketOptions | None = None, **options: Any) -> None:
        websocket = websocket if websocket is not None else WebsocketOptions(port=8080)
        super().__init__(ServerOptions(websocket=websocket, **options))
        self.front = WebSocketFront(
            websocket,
            self.broker.accept,
            self.scheduler,
            logging.getLogger("headrace.test_websocket"),
            max_payload=self.broker.options.max_payload,
        )
        self.accept = self.front.accept

    def client(self) -> memory.MemoryClient:
        client = memory.connect(self, self.scheduler)
        self.scheduler.settle()
        return client

    @property
    def reasons(self) -> Sequence[str]:
        """Why sessions were closed."""
        return [record.reason for record in self.broker.closed_records()]


class WsClient:
    """A client that has asked, and speaks frames."""

    def __init__(self, lab: Lab, asked: bytes | None = None, *, is_masked: bool = True) -> None:
        self.lab = lab
        self.wire = lab.client()
        self.writer = FrameProtocol(client=is_masked, extensions=[])
        self.reader = FrameProtocol(client=True, extensions=[])
        self.closed: tuple[int, str] | None = None
        self.frame_count = 0
        answer = lab.say(self.wire, request() if asked is None else asked)
        self.response, _, rest = answer.partition(b"\r\n\r\n")
        self.reader.receive_bytes(rest)

    def read(self) -> bytes:
        """Give the payloads that have come."""
        self.reader.receive_bytes(self.wire.received())
        data = bytearray()
        for frame in self.reader.received_frames():
            if frame.opcode is Opcode.CLOSE:
                assert isinstance(frame.payload, tuple)
                self.closed = frame.payload
            elif isinstance(frame.payload, bytes):
                data += frame.payload
                self.frame_count += frame.frame_finished
        return bytes(data)

    def send(self, data: bytes, *, is_last: bool = True) -> None:
        self.send_raw(bytes(self.writer.send_data(data, fin=is_last)))

    def send_raw(self, data: bytes) -> None:
        self.wire.send(data)
        self.lab.scheduler.settle()

    def say(self, data: bytes) -> bytes:
        self.send(data)
        return self.read()


# the request


def test_a_request_is_granted_and_info_follows_in_a_frame() -> None:
    lab = Lab()
    lab.front.port = 8080
    client = WsClient(lab)
    assert client.response.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert ACCEPT in client.response
    info = info_of(client.read())
    assert (info["host"], info["port"]) == ("0.0.0.0", 8080)
    assert "tls_required" not in info
    assert lab.broker.sessions[0].link.kind is LinkKind.WEBSOCKET


def test_a_request_may_come_byte_by_byte() -> None:
    lab = Lab()
    client = lab.client()
    for byte in request():
        assert client.received() == b""
        client.send(bytes([byte]))
        lab.scheduler.settle()
    assert client.received().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(method="POST"), b"405 Method Not Allowed"),
        (request(host=None), b"400 Bad Request"),
        (request(upgrade=None), b"400 Bad Request"),
        (request(upgrade="h2c"), b"400 Bad Request"),
        (request(connection="close"), b"400 Bad Request"),
        (request(sec_websocket_key=None), b"400 Bad Request"),
        (request(sec_websocket_key="c2hvcnQ="), b"400 Bad Request"),
        (request(sec_websocket_key="no base 64!"), b"400 Bad Request"),
        (request(sec_websocket_version="8"), b"400 Bad Request"),
        (request() + b"\x81\x80\x00\x00\x00\x00", b"400 Bad Request"),
        (request("/leafnode"), b"404 Not Found"),
        (request("/any/mqtt?x=1"), b"404 Not Found"),
        (b"INFO {}\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01 this is TLS\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_a_request_that_begins_no_websocket_is_answered_and_closed(asked: bytes, status: bytes) -> None:
    lab = Lab()
    client = lab.client()
    answer = lab.say(client, asked)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Sec-Websocket-Version: 13\r\n" in answer
    assert client.is_closed
    assert lab.broker.connection_count == 0
    assert not lab.front.asking


@pytest.mark.parametrize(("path", "feature"), [("/leafnode", b"leaf nodes"), ("/mqtt", b"MQTT")])
def test_paths_of_what_is_absent_are_refused_by_name(path: str, feature: bytes) -> None:
    lab = Lab()
    assert feature in lab.say(lab.client(), request(path))


def test_any_other_path_is_a_clients() -> None:
    assert b" 101 " in WsClient(Lab(), request("/some/where?x=y")).response


def test_a_request_without_an_end_is_bounded() -> None:
    lab = Lab()
    client = lab.client()
    answer = lab.say(client, b"GET / HTTP/1.1\r\nx: " + b"y" * (REQUEST_SIZE_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert client.is_closed


def test_who_does_not_ask_in_time_is_closed_silently() -> None:
    lab = Lab(WebsocketOptions(port=1, handshake_timeout_ns=2 * NS_PER_S))
    client = lab.client()
    lab.scheduler.advance(2 * NS_PER_S - 1)
    assert not client.is_closed
    lab.scheduler.advance(1)
    assert client.is_closed
    assert client.received() == b""
    assert not lab.front.asking


def test_who_has_asked_is_not_closed_by_that_timeout() -> None:
    lab = Lab(WebsocketOptions(port=1, handshake_timeout_ns=2 * NS_PER_S))
    client = WsClient(lab)
    lab.scheduler.advance(3 * NS_PER_S)
    assert not client.wire.is_closed


def test_a_stop_lets_those_go_that_have_not_asked() -> None:
    lab = Lab()
    client = lab.client()
    lab.front.close()
    assert client.is_closed


@pytest.mark.parametrize(
    ("options", "origin", "is_allowed"),
    [
        ({}, "http://evil.example", True),
        ({"same_origin": True}, None, True),
        ({"same_origin": True}, "http://127.0.0.1", True),
        ({"same_origin": True}, "https://127.0.0.1", False),
        ({"same_origin": True}, "http://127.0.0.1:81", False),
        ({"same_origin": True}, "http://evil.example", False),
        ({"allowed_origins": ("https://a.example",)}, "https://A.example:443", True),
        ({"allowed_origins": ("https://a.example",)}, "http://a.example", False),
        ({"allowed_origins": ("https://a.example",)}, "https://a.example:8443", False),
        ({"allowed_origins": ("https://a.example",)}, "https://a.example:x", False),
        ({"allowed_origins": ("https://a.example",), "same_origin": True}, "http://127.0.0.1", False),
    ],
)
def test_pages_may_connect_by_their_origin(
    options: dict[str, Any], origin: str | None, is_allowed: bool
) -> None:
    lab = Lab(WebsocketOptions(port=1, **options))
    answer = lab.say(lab.client(), request(origin=origin))
    assert answer.startswith(b"HTTP/1.1 101 " if is_allowed else b"HTTP/1.1 403 Forbidden\r\n")


def test_configured_headers_are_sent() -> None:
    lab = Lab(WebsocketOptions(port=1, headers=(("X-Who", "headrace"),)))
    assert b"\r\nX-Who: headrace" in WsClient(lab).response


def test_a_forwarded_address_is_noted_where_it_is_one() -> None:
    lab = Lab()
    WsClient(lab, request(x_forwarded_for="1.2.3.4"))
    WsClient(lab, request(x_forwarded_for="::1"))
    WsClient(lab, request(x_forwarded_for="nobody"))
    assert [session.link.forwarded_host for session in lab.broker.sessions] == ["1.2.3.4", "[::1]", ""]


# login


def test_cookies_stand_in_for_what_connect_leaves_out() -> None:
    options = WebsocketOptions(port=1, user_cookie="u", password_cookie="p")
    lab = Lab(options, users=(UserOptions("alice", "secret"),))
    client = WsClient(lab, request(cookie='x=1; u=alice; p="secret"'))
    client.read()
    assert client.say(CONNECT + b"PING\r\n").startswith(b"PONG")
    client = WsClient(lab, request(cookie="u=alice; p=wrong"))
    client.read()
    assert client.say(CONNECT) == b"-ERR 'Authorization Violation'\r\n"


def test_what_connect_says_counts_more_than_cookies() -> None:
    options = WebsocketOptions(port=1, user_cookie="u", password_cookie="p")
    lab = Lab(options, users=(UserOptions("alice", "secret"), UserOptions("bob", "other")))
    client = WsClient(lab, request(cookie="u=alice; p=secret"))
    client.read()
    client.send(b'CONNECT {"user":"bob","pass":"other"}\r\n')
    assert lab.broker.sessions[0].user == "bob"


def test_the_block_may_have_a_login_of_its_own() -> None:
    lab = Lab(WebsocketOptions(port=1, token="t"), token="another")
    client = WsClient(lab)
    assert info_of(client.read())["auth_required"] is True
    assert b"PONG" in client.say(b'CONNECT {"auth_token":"t","verbose":false}\r\nPING\r\n')
    client = WsClient(lab)
    client.read()
    assert b"-ERR" in client.say(b'CONNECT {"auth_token":"another"}\r\n')


# frames


def test_messages_cross_frames_and_frames_hold_many() -> None:
    client = WsClient(Lab())
    client.read()
    client.send(CONNECT + b"SUB a 1\r\nPUB a 5\r\nhe", is_last=False)
    client.send(b"llo\r\nPUB a 2\r\nhi\r\n")
    assert client.read() == b"MSG a 1 5\r\nhello\r\nMSG a 1 2\r\nhi\r\n"


def test_frames_may_come_byte_by_byte() -> None:
    client = WsClient(Lab())
    client.read()
    for byte in bytes(client.writer.send_data(CONNECT + b"PING\r\n")):
        client.send_raw(bytes([byte]))
    assert client.read().startswith(b"PONG\r\n")


def test_text_is_as_good_as_binary() -> None:
    client = WsClient(Lab())
    client.read()
    client.send_raw(bytes(client.writer.send_data((CONNECT + b"PING\r\n").decode())))
    assert client.read().startswith(b"PONG\r\n")


def test_large_payloads_cross_both_ways() -> None:
    client = WsClient(Lab())
    client.read()
    payload = bytes(range(256)) * 4000
    client.send(CONNECT + b"SUB a 1\r\n")
    line = b"a %d\r\n%b\r\n" % (len(payload), payload)
    assert client.say(b"PUB " + line) == b"MSG " + line.replace(b"a ", b"a 1 ", 1)


def test_a_ping_is_answered_with_its_payload_even_between_fragments() -> None:
    client = WsClient(Lab())
    client.read()
    client.send(CONNECT + b"PI", is_last=False)
    client.wire.received()
    client.send_raw(bytes(client.writer.ping(b"are you there")))
    assert client.wire.received() == b"\x8a\x0dare you there"
    client.send_raw(bytes(client.writer.pong(b"")))
    client.send(b"NG\r\n")
    assert client.read().startswith(b"PONG\r\n")


def test_a_turn_is_one_frame_and_browsers_get_smaller_ones() -> None:
    for agent, count in (("nats.go", 1), ("Mozilla/5.0", 1 + 10000 // 4096)):
        client = WsClient(Lab(), request(user_agent=agent))
        client.read()
        client.send(CONNECT + b"SUB a 1\r\n")
        client.frame_count = 0
        client.say(b"PUB a 10000\r\n%b\r\n" % bytes(10000))
        assert client.frame_count == count


@pytest.mark.parametrize(
    "broken",
    [
        b"\x82\x02hi",  # no mask
        b"\xf2\x80\x00\x00\x00\x00",  # reserved bits
        b"\xc2\x80\x00\x00\x00\x00",  # compressed, which was not agreed on
        b"\x83\x80\x00\x00\x00\x00",  # no such operation
        b"\x80\x80\x00\x00\x00\x00",  # goes on with nothing
        b"\x09\x80\x00\x00\x00\x00",  # a control frame in pieces
        b"\x89\xfe\x00\x7e\x00\x00\x00\x00",  # a large control frame
        b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",  # a size that is none
        b"\x88\x81\x00\x00\x00\x00x",  # a close with half a code
        b"\x88\x82\x00\x00\x00\x00\x03\xed",  # a code that is not sent
    ],
)
def test_what_is_no_frame_ends_the_connection_without_a_word(broken: bytes) -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    client.send_raw(broken)
    assert client.wire.received() == b""
    assert client.wire.is_closed
    assert lab.reasons == ["Read Error"]


def test_what_is_no_operation_ends_it_without_a_word_too() -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    client.send(CONNECT + b"PING\r\nFOO\r\n")
    assert client.wire.received() == b""
    assert lab.reasons == ["Read Error"]


def test_masks_may_be_left_out_where_that_was_agreed_on() -> None:
    client = WsClient(Lab(), request(nats_no_masking="true"), is_masked=False)
    assert b"Nats-No-Masking: true" in client.response
    client.read()
    assert client.say(CONNECT + b"PING\r\n").startswith(b"PONG\r\n")


# the end


@pytest.mark.parametrize(
    ("code", "answer"), [(1000, (1000, "bye")), (4001, (4001, "bye")), (None, (1005, ""))]
)
def test_a_close_is_answered_with_its_code(code: int | None, answer: tuple[int, str]) -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    client.send_raw(bytes(client.writer.close(code, "bye" if code else None)))
    client.read()
    assert client.closed == answer
    assert client.wire.is_closed
    assert lab.reasons == ["Client Closed"]


def test_what_was_sent_before_a_close_counts() -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    other = WsClient(lab)
    other.read()
    other.send(CONNECT + b"SUB a 1\r\n")
    pub = bytes(client.writer.send_data(CONNECT + b"PUB a 2\r\nhi\r\n"))
    client.send_raw(pub + bytes(client.writer.close(1000, "")))
    assert other.read() == b"MSG a 1 2\r\nhi\r\n"


def test_a_refused_login_is_told_and_closed_with_a_code() -> None:
    client = WsClient(Lab(token="t"))
    client.read()
    assert client.say(CONNECT) == b"-ERR 'Authorization Violation'\r\n"
    assert client.closed == (1008, "Authentication Failure")
    assert client.wire.is_closed


def test_a_payload_too_large_is_told_and_closed_with_a_code() -> None:
    client = WsClient(Lab(max_payload=10))
    client.read()
    assert client.say(CONNECT + b"PUB a 11\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"
    assert client.closed == (1009, "Maximum Message Payload Exceeded")


def test_a_shutdown_closes_with_its_code() -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    lab.broker.shutdown()
    client.read()
    assert client.closed == (1001, "Server Shutdown")


def test_the_blocks_ping_interval_counts() -> None:
    lab = Lab(WebsocketOptions(port=1, ping_interval_ns=NS_PER_S))
    client = WsClient(lab)
    client.read()
    client.send(CONNECT)
    lab.scheduler.advance(2 * NS_PER_S)
    assert client.read().startswith(b"PING\r\n")


# compression


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame(first_byte: int, payload: bytes) -> bytes:
    """Make a frame with a mask of zeros."""
    size = len(payload)
    head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    if size > 65535:
        head = b"\xff" + size.to_bytes(8, "big")
    return bytes([first_byte]) + head + bytes(4) + payload


COMPRESSED = request(sec_websocket_extensions="x-other, permessage-deflate; client_max_window_bits")


def test_compression_is_agreed_on_where_it_is_configured() -> None:
    client = WsClient(Lab(WebsocketOptions(port=1, compression=True)), COMPRESSED)
    extension = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert b"Sec-WebSocket-Extensions: " + extension in client.response
    assert b"Extensions" not in WsClient(Lab(), COMPRESSED).response


def test_compressed_messages_are_understood_and_sent() -> None:
    client = WsClient(Lab(WebsocketOptions(port=1, compression=True)), COMPRESSED)
    client.wire.received()
    data = deflated(CONNECT + b"SUB a 1\r\nPUB a 1000\r\n%b\r\n" % (b"x" * 1000))
    client.send_raw(frame(0x42, data[:5]) + frame(0x89, b"between") + frame(0x80, data[5:]))
    answer = client.wire.received()
    assert answer.startswith(b"\x8a\x07between\xc2")
    size = answer[10]
    packed = answer[11 : 11 + size]
    assert zlib.decompressobj(-15).decompress(packed + b"\x00\x00\xff\xff").startswith(b"MSG a 1 1000\r\n")
    assert size < 100
    client.send_raw(frame(0x82, b"PING\r\n"))
    assert client.wire.received() == b"\x82\x06PONG\r\n"


@pytest.mark.parametrize(
    ("agent", "is_split"),
    [("Mozilla/5.0 Chrome/1 Safari/1", True), ("Mozilla/5.0 Version/1 Safari/1", False)],
)
def test_compressed_messages_are_split_for_browsers_that_can_take_it(agent: str, is_split: bool) -> None:
    asked = request(sec_websocket_extensions="permessage-deflate", user_agent=agent)
    client = WsClient(Lab(WebsocketOptions(port=1, compression=True)), asked)
    client.wire.received()
    noise = bytes((i * i * 7919 + i // 3) & 0xFF for i in range(20000))
    noise = b"".join(zlib.crc32(noise[i:]).to_bytes(4, "big") for i in range(0, 20000, 4))
    client.send_raw(frame(0x82, CONNECT + b"SUB a 1\r\nPUB a %d\r\n%b\r\n" % (len(noise), noise)))
    assert client.wire.received()[0] == (0x42 if is_split else 0xC2)


def test_a_message_that_unpacks_to_too_much_ends_the_connection() -> None:
    lab = Lab(WebsocketOptions(port=1, compression=True), max_payload=1000)
    client = WsClient(lab, COMPRESSED)
    client.wire.received()
    client.send_raw(frame(0xC2, deflated(CONNECT + b"\r\n" * 8000)))
    assert client.wire.is_closed


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x07"])
def test_what_is_not_deflated_ends_the_connection(payload: bytes) -> None:
    lab = Lab(WebsocketOptions(port=1, compression=True))
    client = WsClient(lab, COMPRESSED)
    client.wire.received()
    client.send_raw(frame(0xC2, payload))
    assert client.wire.is_closed
    assert lab.reasons == ["Read Error"]


def test_a_control_frame_is_never_compressed() -> None:
    client = WsClient(Lab(WebsocketOptions(port=1, compression=True)), COMPRESSED)
    client.wire.received()
    client.send_raw(frame(0xC9, b""))
    assert client.wire.is_closed


def test_a_stalled_publisher_is_not_read_and_loses_nothing() -> None:
    lab = Lab()
    client = WsClient(lab)
    client.read()
    client.send(CONNECT + b"SUB a 1\r\n")
    session = lab.broker.sessions[0]
    session.hold()
    client.send(b"PUB a 2\r\nhi\r\n")
    assert client.read() == b""
    session.release()
    lab.scheduler.settle()
    assert client.read() == b"MSG a 1 2\r\nhi\r\n"
