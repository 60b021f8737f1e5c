"""Auth callout in virtual time: another service says who may come in."""

import json
import secrets
from typing import Any

import pytest

from claims_lab import (
    ACCOUNT,
    NOW_S,
    OTHER,
    SYSTEM,
    UNLIMITED,
    account_token,
    key,
    operator_options,
    signed,
    user_token,
)
from core_lab import BrokerLab, info_of
from headrace.core import headers
from headrace.core.auth.jwt.token import decode_token, encode_token
from headrace.core.auth.keys import CurveKey, KeyKind, SigningKey
from headrace.core.base.clock import NS_PER_S
from headrace.core.options import (
    AccountOptions,
    CalloutOptions,
    Permissions,
    ServerOptions,
    SubjectRules,
    UserOptions,
)
from headrace.core.transport.memory import MemoryClient

REFUSED = b"-ERR 'Authorization Violation'\r\n"
ISSUER = key(KeyKind.ACCOUNT, "issuer")
SUBJECT = "$SYS.REQ.USER.AUTH"


class Service:
    """The service that decides: one client of the server."""

    def __init__(self, lab: BrokerLab, client: MemoryClient) -> None:
        self.lab = lab
        self.client = client
        self.reply = ""
        self.headers = b""
        self.asked: dict[str, Any] = {}
        assert lab.say(client, f"SUB {SUBJECT} 1\r\n".encode()) == b""

    def take(self) -> bytes:
        """Take the request's payload."""
        line, _, rest = self.client.received().partition(b"\r\n")
        words = line.decode().split()
        self.reply = words[3]
        size = int(words[4]) if words[0] == "HMSG" else 0
        self.headers, payload = rest[:size], rest[size:].removesuffix(b"\r\n")
        return payload

    def hear(self) -> dict[str, Any]:
        token = decode_token(self.take().decode())
        claims = {name: token.body.raw(name) for name in token.body}
        self.asked = {"sub": token.subject, "aud": token.audience, "iss": token.issuer, **claims}
        return self.asked

    def say(self, payload: bytes) -> None:
        self.lab.say(self.client, f"PUB {self.reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def user(self, *, account: str = "APP", signer: SigningKey = ISSUER, **claims: Any) -> str:
        top: dict[str, Any] = {"sub": self.asked["user_nkey"], "name": claims.pop("name", "")}
        expires = claims.pop("expires", 0)
        body = {"type": "user", "version": 2, **UNLIMITED, **claims}
        top |= {"nats": body} | ({"aud": account} if account else {}) | ({"exp": expires} if expires else {})
        return encode_token(top, signer, now_s=NOW_S)

    def response(
        self, token: str = "", error: str = "", signer: SigningKey = ISSUER, **changes: Any
    ) -> bytes:
        body: dict[str, Any] = {"type": "authorization_response", "version": 2}
        body |= ({"jwt": token} if token else {}) | ({"error": error} if error else {})
        top = {"sub": self.asked["user_nkey"], "aud": self.lab.broker.id, "nats": body, **changes}
        return encode_token(top, signer, now_s=NOW_S).encode()


def options(**callout: Any) -> ServerOptions:
    return ServerOptions(
        accounts=(AccountOptions("AUTH"), AccountOptions("APP")),
        users=(UserOptions("auth", "pw", "AUTH"), UserOptions("app", "pw", "APP")),
        callout=CalloutOptions(issuer=ISSUER.public, auth_users=("auth",), account="AUTH", **callout),
    )


def opened(**callout: Any) -> tuple[BrokerLab, Service]:
    lab = BrokerLab(options(**callout))
    return lab, Service(lab, lab.connected(user="auth", **{"pass": "pw"}))


def knock(lab: BrokerLab, **connect: Any) -> MemoryClient:
    client = lab.client()
    client.received()
    said = {"verbose": False, "pedantic": False, **connect}
    assert lab.say(client, b"CONNECT %b\r\nPING\r\n" % json.dumps(said).encode()) == b"", "it waits"
    return client


def test_a_service_decides_who_comes_in() -> None:
    lab, service = opened()
    client = knock(lab, user="eve", **{"pass": "apple"}, name="app", lang="go")
    asked = service.hear()
    assert asked["aud"] == "nats-authorization-request"
    assert asked["iss"] == lab.broker.id
    assert asked["sub"] == ISSUER.public
    assert asked["connect_opts"] == {
        "user": "eve",
        "pass": "apple",
        "name": "app",
        "lang": "go",
        "protocol": 0,
    }
    assert asked["client_info"]["user"] == "eve"
    assert asked["server_id"]["id"] == lab.broker.id
    service.say(service.response(service.user(name="Eve", pub={"allow": ["a"]})))
    assert client.received() == b"PONG\r\n"
    session = lab.broker.sessions[-1]
    assert session.account is not None
    assert (session.account.name, session.user) == ("APP", "Eve")
    assert b"Permissions Violation" in lab.say(client, b"PUB b 0\r\n\r\n")


def test_users_of_the_callout_are_let_in_by_their_passwords_alone() -> None:
    lab, service = opened()
    client = lab.client()
    client.received()
    assert lab.say(client, b'CONNECT {"user":"auth","pass":"no"}\r\n') == REFUSED
    assert b"Permissions Violation" in lab.say(service.client, f"PUB {SUBJECT} 0\r\n\r\n".encode())


def test_users_of_other_accounts_are_asked_about_unless_that_is_not_wanted() -> None:
    lab, service = opened()
    knock(lab, user="app", **{"pass": "pw"})
    assert service.hear()["client_info"]["user"] == "app"
    lab, service = opened(allowed_accounts=("AUTH",))
    assert lab.say(lab.connected(user="app", **{"pass": "pw"}), b"PING\r\n") == b"PONG\r\n"


def test_who_gets_no_answer_in_time_is_refused() -> None:
    lab, _ = opened()
    client = knock(lab)
    lab.scheduler.advance(1 * NS_PER_S)
    assert not client.is_closed
    lab.scheduler.advance(2 * NS_PER_S)
    assert client.received() == REFUSED


def test_a_client_that_hangs_up_while_it_waits_is_forgotten() -> None:
    lab, service = opened()
    client = knock(lab)
    service.hear()
    client.close()
    lab.scheduler.settle()
    service.say(service.response(service.user()))
    assert lab.broker.connection_count == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda _service: b"",
        lambda _service: b"no token",
        lambda service: service.response(error="not today"),
        lambda service: service.response(),
        lambda service: service.response(service.user(), error="both"),
        lambda service: service.response(service.user(), sub=key(KeyKind.USER, "x").public),
        lambda service: service.response(service.user(), aud="elsewhere"),
        lambda service: service.response(service.user(), exp=NOW_S - 1),
        lambda service: service.response(service.user(signer=OTHER)),
        lambda service: service.response(service.user(account="NOWHERE")),
        lambda service: service.response(service.user(account="")),
        lambda service: service.response(service.user(expires=NOW_S - 1)),
        lambda service: service.response(service.user(issuer_account=ISSUER.public)),
        lambda service: service.response(service.user(allowed_connection_types=["X"])),
        lambda service: service.response(user_token(signer=ISSUER)),
        lambda service: service.response(account_token()),
    ],
)
def test_an_answer_that_is_not_right_in_every_respect_is_a_refusal(answer: Any) -> None:
    lab, service = opened()
    client = knock(lab)
    service.hear()
    service.say(answer(service))
    assert client.received() == REFUSED


def test_who_was_let_in_for_a_time_has_to_go_afterwards() -> None:
    lab, service = opened()
    client = knock(lab)
    service.hear()
    service.say(service.response(service.user(expires=NOW_S + 5)))
    assert client.received() == b"PONG\r\n"
    lab.scheduler.advance(6 * NS_PER_S)
    assert client.received().endswith(b"-ERR 'User Authentication Expired'\r\n")


def test_requests_and_answers_may_be_sealed() -> None:
    curve = CurveKey.fresh(secrets.token_bytes)
    lab, service = opened(xkey=curve.public)
    client = knock(lab)
    sealed = service.take()
    server_key = (headers.get(service.headers, b"Nats-Server-Xkey") or b"").decode()
    token = decode_token(curve.open(sealed, server_key).decode())
    service.asked = {"user_nkey": token.body.text("user_nkey")}
    assert token.body.inner("server_id").text("xkey") == server_key
    service.say(curve.seal(service.response(service.user()), server_key))
    assert client.received() == b"PONG\r\n"
    client = knock(lab)
    service.take()
    service.say(CurveKey.fresh(secrets.token_bytes).seal(b"x", server_key))
    assert client.received() == REFUSED


def test_a_callouts_own_user_keeps_its_permissions() -> None:
    permissions = Permissions(SubjectRules(("$SYS._INBOX.>",)))
    lab = BrokerLab(
        ServerOptions(
            accounts=(AccountOptions("AUTH"),),
            users=(UserOptions("auth", "pw", "AUTH", permissions),),
            callout=CalloutOptions(issuer=ISSUER.public, auth_users=("auth",), account="AUTH"),
        )
    )
    client = lab.connected(user="auth", **{"pass": "pw"})
    assert b"Permissions Violation" in lab.say(client, b"PUB other 0\r\n\r\n")


def test_in_operator_mode_an_account_may_have_its_users_decided_by_a_service() -> None:
    auth_user = key(KeyKind.USER, "auth")
    external = {"auth_users": [auth_user.public], "allowed_accounts": [OTHER.public]}
    operator = operator_options(
        (ACCOUNT, account_token(authorization=external)), (OTHER, account_token(OTHER))
    )
    lab = BrokerLab(ServerOptions(operator=operator, system_account=SYSTEM.public))

    def come(user: SigningKey, token: str) -> tuple[MemoryClient, bytes]:
        client = lab.client()
        nonce = info_of(client.received())["nonce"]
        said = {"verbose": False, "pedantic": False, "jwt": token, "sig": signed(nonce, user)}
        return client, lab.say(client, b"CONNECT %b\r\nPING\r\n" % json.dumps(said).encode())

    client, answer = come(auth_user, user_token(auth_user))
    assert answer == b"PONG\r\n"
    service = Service(lab, client)
    guest = key(KeyKind.USER, "guest")
    for signer, answered in ((OTHER, b"PONG\r\n"), (ACCOUNT, b"PONG\r\n"), (SYSTEM, REFUSED)):
        waiting, answer = come(guest, user_token(guest, bearer_token=True))
        assert answer == b""
        assert service.hear()["sub"] == ACCOUNT.public
        service.say(service.response(service.user(account="", signer=signer), signer=ACCOUNT))
        assert waiting.received() == answered
    waiting, _ = come(guest, user_token(guest))
    service.hear()
    service.say(service.response(service.user(account="", signer=OTHER), signer=OTHER))
    assert waiting.received() == REFUSED
