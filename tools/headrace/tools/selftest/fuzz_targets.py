"""What is fuzzed: everything that reads bytes of somebody who has not logged in, or of a file that somebody wrote.

A target takes any bytes and returns; whatever it raises is a finding. Inputs that were findings once are kept in
`tests/property/fuzz_findings/<target>` and given to every run of the suite.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from headrace.core.auth.jwt.account_claims import account_problem, decode_account
from headrace.core.auth.jwt.account_options import Activations, account_options
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.operator_claims import decode_operator
from headrace.core.auth.jwt.templates import Names, fill_in
from headrace.core.auth.jwt.token import decode_token, encode_token, undecorated
from headrace.core.auth.jwt.user_claims import decode_user, may_come_at, may_come_from, problem_of
from headrace.core.auth.keys import KeyKind, SigningKey
from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.engine_choice import is_compiled_available
from headrace.core.broker import Broker
from headrace.core.config.load import load_text
from headrace.core.config.tree import ConfigInvalid
from headrace.core.engine.interface import EngineFactory
from headrace.core.engine.plain import PlainEngine
from headrace.core.options import Permissions, ServerOptions, SubjectRules, UserOptions, WebsocketOptions
from headrace.core.transport import memory
from headrace.core.transport.tcp import Accept
from headrace.core.transport.websocket import WebSocketFront

Target = Callable[[bytes], None]

MAX_PAYLOAD: Final = 4096
NOW_S: Final = 1_700_000_000
CONNECT: Final = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


def _factories() -> list[EngineFactory]:
    if not is_compiled_available():
        return [PlainEngine]
    from headrace.core.engine.compiled_engine import CompiledEngine  # noqa: PLC0415  (may not be built)

    return [PlainEngine, CompiledEngine]


def _pieces(data: bytes) -> list[bytes]:
    """Cut the input where its first bytes say: how bytes arrive must not matter."""
    places, rest = data[:3], data[3:]
    cuts = [0, *sorted(place % (len(rest) + 1) for place in places), len(rest)]
    return [rest[start:end] for start, end in pairwise(cuts) if end > start]


class _World:
    """A broker in virtual time."""

    def __init__(self, options: ServerOptions, factory: EngineFactory | None = None) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = Broker(options, scheduler=self.scheduler, chance=Chance(1), engine_factory=factory)
        self.accept: Accept = self.broker.accept

    def feed(self, client: memory.MemoryClient, pieces: list[bytes]) -> bytes:
        """Send pieces and hang up; give what was answered."""
        answers: list[bytes] = []
        for piece in pieces:
            if client.is_closed:
                break
            client.send(piece)
            self.scheduler.settle()
            answers.append(client.received())
        client.close()
        self.scheduler.settle()
        return b"".join(answers)

    def check_empty(self) -> None:
        """What a connection held is given back when it ends."""
        assert self.broker.connection_count == 0
        assert self.broker.engine.subscription_count == 0


def _parser() -> Target:
    """The client protocol, before and after CONNECT, on each engine that is there: the answers are the same."""
    options = ServerOptions(
        max_payload=MAX_PAYLOAD,
        users=(
            UserOptions(user="a", password="a"),
            UserOptions(
                user="b", password="b", permissions=Permissions(publish=SubjectRules(None, ("deny.>",)))
            ),
        ),
        no_auth_user="b",
    )
    factories = _factories()

    def target(data: bytes) -> None:
        is_connected, pieces = data[:1] >= b"\x80", _pieces(data[1:])
        answers: list[bytes] = []
        for factory in factories:
            world = _World(options, factory)
            client = memory.connect(world.broker, world.scheduler)
            world.scheduler.settle()
            client.received()
            answers.append(world.feed(client, [CONNECT, *pieces] if is_connected else pieces))
            world.check_empty()
        assert all(answer == answers[0] for answer in answers[1:]), "the engines differ"

    return target


def _websocket() -> Target:
    """What comes on a WebSocket port: a request, then frames."""
    options = WebsocketOptions(port=1, compression=True)
    log = logging.getLogger("headrace.fuzz")
    log.disabled = True

    def target(data: bytes) -> None:
        is_upgraded, pieces = data[:1] >= b"\x80", _pieces(data[1:])
        world = _World(ServerOptions(websocket=options, max_payload=MAX_PAYLOAD))
        front = WebSocketFront(options, world.accept, world.scheduler, log, max_payload=MAX_PAYLOAD)
        world.accept = front.accept
        client = memory.connect(world, world.scheduler)
        world.scheduler.settle()
        world.feed(client, [UPGRADE, *pieces] if is_upgraded else pieces)
        assert not front.asking
        world.check_empty()

    return target


def _config() -> Target:
    """The text of a configuration file."""

    def target(data: bytes) -> None:
        try:
            load_text(data.decode("utf-8", "replace"), environment={})
        except ConfigInvalid as error:
            if not error.problems:
                raise AssertionError("a refusal says why") from error

    return target


def _jwt() -> Target:
    """Tokens: the envelope as anybody can send it, and claims as somebody with a key can sign them."""
    operator, account, user = (
        SigningKey(kind, bytes([number]) * 32)
        for number, kind in enumerate((KeyKind.OPERATOR, KeyKind.ACCOUNT, KeyKind.USER), 1)
    )

    def of_user(body: dict[str, object]) -> None:
        claims = {"sub": user.public, "nats": {**body, "type": "user", "version": 2}}
        read = decode_user(encode_token(claims, account, now_s=NOW_S))
        if not problem_of(read, NOW_S):
            may_come_from(read.limits, "127.0.0.1")
            may_come_at(read.limits, NOW_S * 10**9)
            fill_in(read.limits, Names("n", "U", ("x:1", "x:2"), "a", "A", ()))

    def of_account(body: dict[str, object]) -> None:
        claims = {"sub": account.public, "nats": {**body, "type": "account", "version": 2}}
        read = decode_account(encode_token(claims, operator, now_s=NOW_S))
        if not account_problem(read):
            account_options(read, Activations(read, {read.name: read}, NOW_S))

    def of_operator(body: dict[str, object]) -> None:
        claims = {"sub": operator.public, "nats": {**body, "type": "operator", "version": 2}}
        decode_operator(encode_token(claims, operator, now_s=NOW_S))

    readers = (of_user, of_account, of_operator)

    def target(data: bytes) -> None:
        with contextlib.suppress(BadToken):
            decode_token(undecorated(data.decode("latin-1")))
        try:
            body = json.loads(data[1:])
        except (ValueError, RecursionError):
            return
        if isinstance(body, dict):
            try:
                readers[data[0] % len(readers)](body)
            except BadToken:
                return

    return target


TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "parser": _parser,
    "config": _config,
    "websocket": _websocket,
    "jwt": _jwt,
}

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "parser": (
        b"\xff\x00\x09\x20SUB a.* 1\r\nPUB a.b 2\r\nhi\r\nPING\r\nUNSUB 1\r\n",
        b"\xff\x00\x00\x00SUB foo q 7\r\nHPUB foo re 14 16\r\nNATS/1.0\r\nA:\r\n\r\nhi\r\n",
        b'\x00\x00\x00\x00CONNECT {"user":"a","pass":"a"}\r\nPING\r\nPUB deny.a 0\r\n\r\n',
    ),
    "config": (
        b"port: 4222\njetstream { store_dir: /tmp/x, max_mem: 1G }\n",
        b'accounts { A { users: [{user: a, password: "b"}], exports: [{stream: "a.>"}] } }\n# c\n',
        b"X = 5s\nping_interval: $X\nauthorization { user: a, password: b, timeout: 1 }\n",
    ),
    "websocket": (
        b"\xff\x00\x00\x00\x82\x86\x00\x00\x00\x00PING\r\n\x88\x82\x00\x00\x00\x00\x03\xe8",
        b"\x00\x00\x00\x00" + UPGRADE,
    ),
    "jwt": (
        b'\x00{"pub":{"allow":["a.>"]},"sub":{"deny":["b"]},"resp":{"max":1,"ttl":5},"src":["127.0.0.0/8"]}',
        b'\x01{"limits":{"subs":-1,"conn":1},"exports":[{"subject":"a.*","type":"stream","token_req":true}]}',
        b'\x02{"signing_keys":[],"account_server_url":"https://x","strict_signing_key_usage":true}',
    ),
}
