"""TLS over memory buffers, in virtual time: a broker behind it, and a client that speaks through Python's ssl."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority, Leaf
from core_lab import BrokerLab, info_of
from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.engine.interface import Phase
from headrace.core.options import ServerOptions, TlsOptions, UserOptions
from headrace.core.transport import memory
from headrace.core.transport.tcp import Accept
from headrace.core.transport.tls import TlsFront, secured
from headrace.core.transport.tls_context import TlsUnusable, build, key_digest, read_peer

CONNECT = b'CONNECT {"verbose":false,"headers":true}\r\n'


class Pki:
    """An authority, a server and a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.leaf("server")
        self.client = self.authority.leaf("client", email="client@example.com")
        self.pair = (self.server.certificate, self.server.key)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Lab(BrokerLab):
    """A broker behind TLS."""

    def __init__(self, tls: TlsOptions, *, allow_non_tls: bool = False, **options: Any) -> None:
        super().__init__(ServerOptions(tls=tls, allow_non_tls=allow_non_tls, **options))
        self.front = TlsFront(tls, allow_non_tls=allow_non_tls)
        self.log = logging.getLogger("headrace.test_tls")
        self.accept: Accept = secured(self.broker.accept, self.front, self.scheduler, self.log)

    def client(self) -> memory.MemoryClient:
        client = memory.connect(self, self.scheduler)
        self.scheduler.settle()
        return client

    @property
    def reasons(self) -> Sequence[str]:
        """Why connections were closed."""
        return [record.reason for record in self.broker.closed_records()]


class TlsClient:
    """A client's half of TLS upon a connection in memory."""

    def __init__(
        self,
        lab: Lab,
        pki: Pki,
        leaf: Leaf | None = None,
        *,
        client: memory.MemoryClient | None = None,
        name: str = "localhost",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.lab = lab
        self.wire = client if client is not None else lab.client()
        self.greeting = self.wire.received()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context if context is not None else pki.authority.client_context(leaf)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def shake(self, *, piece_size: int = 1 << 20) -> None:
        """Do the handshake, sending no more than `piece_size` bytes at once."""
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange(piece_size)
            else:
                self.exchange(piece_size)
                return
        raise AssertionError("the handshake does not end")

    def exchange(self, piece_size: int = 1 << 20) -> None:
        data = self._outgoing.read()
        for start in range(0, len(data), piece_size):
            self.wire.send(data[start : start + piece_size])
            self.lab.scheduler.settle()
        self.lab.scheduler.settle()
        received = self.wire.received()
        if received:
            self._incoming.write(received)

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def read(self) -> bytes:
        self.exchange()
        data = bytearray()
        try:
            while piece := self.tls.read(65536):
                data += piece
        except ssl.SSLWantReadError:
            pass
        return bytes(data)

    def say(self, data: bytes) -> bytes:
        self.send(data)
        return self.read()


def options(pki: Pki, **changes: Any) -> TlsOptions:
    return replace(TlsOptions(certificates=(pki.pair,)), **changes)


def verifying(pki: Pki, **changes: Any) -> TlsOptions:
    return options(pki, verify=True, ca_file=pki.authority.file, **changes)


def test_info_comes_in_clear_and_all_else_is_encrypted(pki: Pki) -> None:
    client = TlsClient(Lab(options(pki)), pki)
    info = info_of(client.greeting)
    assert info["tls_required"] is True
    assert "tls_available" not in info
    assert "tls_verify" not in info
    client.shake()
    client.send(CONNECT.replace(b"{", b'{"protocol":1,') + b"PING\r\n")
    assert client.read().startswith(b"PONG\r\nINFO {")
    assert client.say(b"SUB a 1\r\nPUB a 2\r\nhi\r\n") == b"MSG a 1 2\r\nhi\r\n"


def test_info_goes_out_in_clear_before_a_handshake_that_does_not_wait_for_it(pki: Pki) -> None:
    lab = Lab(options(pki))
    hello = ssl.MemoryBIO()
    tls = pki.authority.client_context(None).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    wire = memory.connect(lab, lab.scheduler)
    wire.send(hello.read())
    wire.push()  # in the turn that took the connection
    lab.scheduler.settle()
    assert wire.received().startswith(b"INFO {")


def test_a_handshake_and_messages_may_come_byte_by_byte(pki: Pki) -> None:
    client = TlsClient(Lab(options(pki)), pki)
    client.shake(piece_size=1)
    client.tls.write(CONNECT + b"SUB a 1\r\nPUB a 2\r\nhi\r\n")
    client.exchange(1)
    assert client.read() == b"MSG a 1 2\r\nhi\r\n"


def test_payloads_larger_than_any_buffer_come_through_both_ways(pki: Pki) -> None:
    client = TlsClient(Lab(options(pki)), pki)
    client.shake()
    payload = bytes(range(256)) * 4000
    client.send(CONNECT + b"SUB a 1\r\n")
    assert client.say(b"PUB a %d\r\n%b\r\n" % (len(payload), payload)) == b"MSG a 1 %d\r\n%b\r\n" % (
        len(payload),
        payload,
    )


def test_a_client_that_speaks_in_clear_is_closed_without_a_word(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = lab.client()
    client.received()
    answer = lab.say(client, CONNECT)
    assert b"-ERR" not in answer
    assert client.is_closed
    assert lab.reasons == ["TLS Handshake Failure"]


def test_a_client_that_does_not_begin_is_closed_at_the_timeout(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = lab.client()
    lab.scheduler.advance(2 * NS_PER_S - 1)
    assert not client.is_closed
    lab.scheduler.advance(1)
    assert client.is_closed
    assert lab.reasons == ["TLS Handshake Failure"]


def test_a_handshake_that_is_slow_is_closed_at_the_same_time(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = lab.client()
    lab.scheduler.advance(NS_PER_S)
    client.send(b"\x16\x03\x01")
    lab.scheduler.advance(NS_PER_S)
    assert client.is_closed


def test_the_time_for_the_login_begins_with_the_end_of_the_handshake(pki: Pki) -> None:
    lab = Lab(options(pki), users=(UserOptions("u", "p"),), auth_timeout_ns=3 * NS_PER_S)
    client = TlsClient(lab, pki)
    lab.scheduler.advance(NS_PER_S)
    client.shake()
    lab.scheduler.advance(3 * NS_PER_S - 1)
    assert not client.wire.is_closed
    lab.scheduler.advance(1)
    assert b"-ERR 'Authentication Timeout'" in client.read()
    assert client.wire.is_closed


def test_who_hangs_up_within_the_handshake_is_noted(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(options(pki))
    client = lab.client()
    client.send(b"\x16\x03\x01")
    client.close()
    lab.scheduler.settle()
    assert lab.reasons == ["TLS Handshake Failure"]
    assert "TLS handshake error: EOF" in caplog.text


def test_a_farewell_closes_the_connection(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = TlsClient(lab, pki)
    client.shake()
    client.send(CONNECT)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.exchange()
    assert lab.reasons == ["Client Closed"]
    assert client.wire.is_closed
    client.tls.unwrap()  # the server said farewell too


def test_what_is_no_tls_behind_the_handshake_closes_the_connection(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = TlsClient(lab, pki)
    client.shake()
    client.wire.send(b"PUB a 2\r\nhi\r\n")
    lab.scheduler.settle()
    assert lab.reasons == ["Read Error"]


def test_errors_are_told_within_tls(pki: Pki) -> None:
    client = TlsClient(Lab(options(pki)), pki)
    client.shake()
    assert client.say(CONNECT + b"FOO\r\n") == b"-ERR 'Unknown Protocol Operation'\r\n"
    assert client.wire.is_closed


# certificates of clients


def test_a_verified_certificate_is_known_to_the_session(pki: Pki) -> None:
    lab = Lab(verifying(pki))
    client = TlsClient(lab, pki, pki.client)
    assert info_of(client.greeting)["tls_verify"] is True
    client.shake()
    link = lab.broker.sessions[0].link
    assert link.certificate is not None
    assert link.certificate.email_addresses == ("client@example.com",)
    assert link.certificate.subject == ((("O", "Headrace"),), (("CN", "client"),))
    assert link.certificate.der == pki.client.der()
    assert (link.tls_version, link.tls_cipher) == ("1.3", "TLS_AES_256_GCM_SHA384")


def test_a_client_without_a_certificate_is_refused(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(verifying(pki))
    client = TlsClient(lab, pki)
    client.shake()  # in TLS 1.3 the client is done before the server has looked
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
        client.tls.read(1)
    assert lab.reasons == ["TLS Handshake Failure"]
    assert "TLS handshake error: tls: client didn't provide a certificate" in caplog.text


def test_a_certificate_of_another_authority_is_refused(pki: Pki, tmp_path: Path) -> None:
    lab = Lab(verifying(pki))
    stranger = Authority(tmp_path, "other").leaf("stranger")
    TlsClient(lab, pki, stranger).shake()
    assert lab.reasons == ["TLS Handshake Failure"]


def test_only_pinned_certificates_are_let_in(pki: Pki) -> None:
    pin = key_digest(pki.client.der())
    lab = Lab(verifying(pki, pinned_certs=frozenset({pin})))
    client = TlsClient(lab, pki, pki.client)
    client.shake()
    assert client.say(CONNECT + b"PING\r\n").startswith(b"PONG")
    lab = Lab(verifying(pki, pinned_certs=frozenset({"0" * 64})))
    TlsClient(lab, pki, pki.client).shake()
    assert lab.reasons == ["TLS Handshake Failure"]


def test_a_peer_is_read_with_all_its_names(tmp_path: Path) -> None:
    leaf = Authority(tmp_path).leaf("x", dns=("a.example", "b.example"), email="x@example.com")
    peer = read_peer(leaf.der())
    assert peer.dns_names == ("a.example", "b.example")
    assert peer.email_addresses == ("x@example.com",)


# who begins


def test_handshake_first_sends_info_within_tls(pki: Pki) -> None:
    lab = Lab(options(pki, handshake_first=True))
    client = TlsClient(lab, pki)
    assert client.greeting == b""
    client.shake()
    assert info_of(client.read())["tls_required"] is True
    assert lab.broker.sessions[0].link.is_tls_first


def test_handshake_first_greets_nobody_in_clear(pki: Pki) -> None:
    lab = Lab(options(pki, handshake_first=True))
    client = lab.client()
    lab.scheduler.advance(2 * NS_PER_S)
    assert client.is_closed
    assert client.received() == b""


def test_with_a_fallback_who_waits_is_greeted_in_clear(pki: Pki) -> None:
    lab = Lab(options(pki, handshake_first=True, first_fallback_ns=50 * NS_PER_MS))
    wire = lab.client()
    assert wire.received() == b""
    lab.scheduler.advance(50 * NS_PER_MS)
    client = TlsClient(lab, pki, client=wire)
    assert info_of(client.greeting)["tls_required"] is True
    client.shake()
    assert client.say(CONNECT + b"PING\r\n").startswith(b"PONG")
    assert not lab.broker.sessions[0].link.is_tls_first


def test_with_a_fallback_who_begins_is_greeted_within_tls(pki: Pki) -> None:
    lab = Lab(options(pki, handshake_first=True, first_fallback_ns=50 * NS_PER_MS))
    client = TlsClient(lab, pki)
    client.shake()
    assert client.read().startswith(b"INFO ")
    assert lab.broker.sessions[0].link.is_tls_first


def test_a_fallback_leaves_the_whole_timeout_for_the_handshake(pki: Pki) -> None:
    lab = Lab(options(pki, handshake_first=True, first_fallback_ns=50 * NS_PER_MS))
    client = lab.client()
    lab.scheduler.advance(2 * NS_PER_S + 50 * NS_PER_MS - 1)
    assert not client.is_closed
    lab.scheduler.advance(1)
    assert client.is_closed


def test_where_tls_is_not_required_both_are_understood(pki: Pki) -> None:
    lab = Lab(options(pki), allow_non_tls=True)
    client = TlsClient(lab, pki)
    info = info_of(client.greeting)
    assert info["tls_available"] is True
    assert "tls_required" not in info
    client.shake()
    assert client.say(CONNECT + b"PING\r\n").startswith(b"PONG")
    plain = lab.client()
    plain.received()
    assert lab.say(plain, CONNECT + b"PING\r\n").startswith(b"PONG")


def test_where_tls_is_not_required_silence_is_taken_for_clear_speech(pki: Pki) -> None:
    lab = Lab(options(pki), allow_non_tls=True, users=(UserOptions("u", "p"),), auth_timeout_ns=NS_PER_S)
    client = lab.client()
    client.received()
    lab.scheduler.advance(2 * NS_PER_S)
    assert not client.is_closed
    lab.scheduler.advance(NS_PER_S)
    assert client.received() == b"-ERR 'Authentication Timeout'\r\n"
    assert client.is_closed


# limits


def test_more_handshakes_than_the_limit_are_sent_away_in_clear(pki: Pki) -> None:
    lab = Lab(options(pki, connection_rate_limit=2))
    for _ in range(2):
        TlsClient(lab, pki).shake()
    client = lab.client()
    client.received()
    text = b"-ERR 'Connection throttling is active. Please try again later.'\r\n"
    assert lab.say(client, b"\x16\x03\x01") == text
    assert client.is_closed
    assert lab.reasons == ["Maximum Connections Exceeded"]
    assert lab.front.throttled == 1
    lab.scheduler.advance(NS_PER_S)
    TlsClient(lab, pki).shake()


def test_a_connection_too_many_is_told_in_clear(pki: Pki) -> None:
    lab = Lab(options(pki), max_connections=1)
    lab.client()
    client = lab.client()
    assert client.received().endswith(b"-ERR 'maximum connections exceeded'\r\n")
    assert client.is_closed
    lab.scheduler.advance(5 * NS_PER_S)


def test_a_shutdown_within_a_handshake_closes_it(pki: Pki) -> None:
    lab = Lab(options(pki))
    client = lab.client()
    client.send(b"\x16\x03\x01")
    lab.scheduler.settle()
    lab.broker.shutdown()
    assert client.is_closed


def test_a_client_that_does_not_read_pends_like_any_other(pki: Pki) -> None:
    lab = Lab(options(pki), max_pending=256 * 1024)
    slow = TlsClient(lab, pki)
    slow.shake()
    slow.send(CONNECT + b"SUB a 1\r\n")
    slow.wire.stop_reading()
    fast = TlsClient(lab, pki)
    fast.shake()
    fast.send(CONNECT)
    for _ in range(8):
        fast.send(b"PUB a 65536\r\n%b\r\n" % bytes(65536))
    assert lab.reasons == ["Slow Consumer (Pending Bytes)"]


# versions, suites, names, files


def test_versions_below_the_minimum_are_refused(pki: Pki) -> None:
    old = pki.authority.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client = TlsClient(Lab(options(pki, min_version="1.3")), pki, context=old)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        client.shake()
    TlsClient(Lab(options(pki)), pki, context=old).shake()


def test_the_suites_that_were_chosen_are_used(pki: Pki) -> None:
    old = pki.authority.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    name = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    lab = Lab(options(pki, cipher_suites=(name,)))
    TlsClient(lab, pki, context=old).shake()
    assert lab.broker.sessions[0].link.tls_cipher == name


def test_the_curve_that_was_chosen_is_the_only_one(pki: Pki) -> None:
    strict = pki.authority.client_context()
    strict.set_ecdh_curve("secp521r1")
    TlsClient(Lab(options(pki, curves=("secp521r1",))), pki, context=strict).shake()
    with pytest.raises(ssl.SSLError):
        TlsClient(Lab(options(pki, curves=("secp384r1",))), pki, context=strict).shake()


def test_clients_are_shown_the_certificate_of_the_name_they_ask_for(pki: Pki, tmp_path: Path) -> None:
    leaves = [pki.authority.leaf("a", dns=("a.example",)), pki.authority.leaf("b", dns=("*.b.example",))]
    lab = Lab(TlsOptions(certificates=tuple((leaf.certificate, leaf.key) for leaf in leaves)))
    for name, leaf in (("a.example", leaves[0]), ("x.b.example", leaves[1])):
        client = TlsClient(lab, pki, name=name)
        client.shake()
        assert client.tls.getpeercert(binary_form=True) == leaf.der()
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsClient(lab, pki, name="other.example").shake()


def test_a_reload_shows_the_new_certificate_and_keeps_connections(pki: Pki, tmp_path: Path) -> None:
    lab = Lab(options(pki))
    old = TlsClient(lab, pki)
    old.shake()
    old.send(CONNECT + b"SUB a 1\r\n")
    other = pki.authority.leaf("renewed")
    lab.front.reload(TlsOptions(certificates=((other.certificate, other.key),)))
    new = TlsClient(lab, pki)
    new.shake()
    assert new.tls.getpeercert(binary_form=True) == other.der()
    new.send(CONNECT + b"PUB a 2\r\nhi\r\n")
    assert old.read() == b"MSG a 1 2\r\nhi\r\n"


def test_a_reload_that_cannot_be_leaves_what_was(pki: Pki) -> None:
    lab = Lab(options(pki))
    with pytest.raises(TlsUnusable):
        lab.front.reload(TlsOptions(certificates=(("nowhere.crt", "nowhere.key"),)))
    TlsClient(lab, pki).shake()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"certificates": ()}, "TLS Server certificate must be present and valid"),
        ({"certificates": (("no.crt", "no.key"),)}, "no such file or directory"),
        ({"ca_file": "no.pem", "verify": True}, "ca_file no.pem: no such file or directory"),
        ({"cipher_suites": ("TLS_RSA_WITH_AES_128_CBC_SHA",), "curves": ("no such curve",)}, "no such curve"),
    ],
)
def test_files_and_names_that_cannot_be_used_are_refused(
    pki: Pki, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(TlsUnusable, match=problem):
        build(options(pki, **changes))


def test_a_key_of_another_certificate_is_refused(pki: Pki) -> None:
    with pytest.raises(TlsUnusable, match="key values mismatch"):
        build(TlsOptions(certificates=((pki.server.certificate, pki.client.key),)))


def test_authorities_that_are_none_are_refused(pki: Pki) -> None:
    with pytest.raises(TlsUnusable, match="failed to parse root ca certificate"):
        build(options(pki, ca_file=pki.server.key))


def test_suites_of_tls_1_3_alone_leave_1_2_out(pki: Pki) -> None:
    context = build(options(pki, cipher_suites=("TLS_AES_128_GCM_SHA256",))).default
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_nothing_is_parsed_before_the_handshake_is_over(pki: Pki) -> None:
    lab = Lab(options(pki), users=(UserOptions("u", "p"),))
    client = TlsClient(lab, pki)
    client.shake()
    assert lab.broker.sessions[0].connection.phase is Phase.AWAITING_CONNECT
