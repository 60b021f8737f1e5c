"""Logins with the client library: keys, credential files, resolvers, JetStream for accounts known by tokens."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import nats
import nkeys
import pytest
from nats.aio.client import Client

from claims_lab import ACCOUNT, SYSTEM, USER, account_token, key, operator_token, user_token
from headrace.core.auth.keys import KeyKind
from headrace.core.config.load import load_text
from headrace.embed import Server

NOW_S = int(time.time()) - 1
JETSTREAM = {"mem_storage": -1, "disk_storage": -1, "streams": 2, "consumer": -1}


def seed(kind: KeyKind, name: str) -> str:
    """Give the seed of one of the lab's keys."""
    prefixes = {KeyKind.USER: nkeys.PREFIX_BYTE_USER}
    raw = bytes(key(kind, name)._key)  # pyright: ignore[reportPrivateUsage]  (a server never gives its seeds away)
    return nkeys.encode_seed(raw, prefixes[kind]).decode()


def credentials(folder: Path, token: str) -> str:
    path = folder / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed(KeyKind.USER, 'user')}\n------END USER NKEY SEED------\n"
    )
    return str(path)


def server(text: str) -> Server:
    return Server(load_text(f"listen: 127.0.0.1:-1\n{text}", environment={}).options)


async def refused(url: str, **options: Any) -> bool:
    client = Client()
    try:
        await client.connect(url, allow_reconnect=False, connect_timeout=2, **options)
    except (nats.errors.Error, OSError):
        # The library leaves its socket open when it is refused.
        transport = client._transport  # pyright: ignore[reportPrivateUsage]
        if transport is not None:
            transport.close()
            await transport.wait_closed()
        return True
    await client.close()
    return False


async def test_a_client_logs_in_with_its_key(tmp_path: Path) -> None:
    text = f"authorization {{ users: [ {{ nkey: {USER.public}, permissions: {{ publish: a }} }} ] }}"
    path = tmp_path / "user.nk"
    path.write_text(seed(KeyKind.USER, "user"))
    wrong = tmp_path / "wrong.nk"
    wrong.write_text(seed(KeyKind.USER, "other"))
    async with server(text) as running:
        client = await nats.connect(running.url, nkeys_seed=str(path))
        await client.close()
        assert await refused(running.url, nkeys_seed=str(wrong))
        assert await refused(running.url)


def operator_text(resolver: str) -> str:
    return f"operator: {operator_token(now_s=NOW_S)}\nresolver: {resolver}\n"


async def test_credential_files_open_an_account_with_jetstream(tmp_path: Path) -> None:
    preload = {
        SYSTEM.public: account_token(SYSTEM, now_s=NOW_S),
        ACCOUNT.public: account_token(limits=JETSTREAM, now_s=NOW_S),
    }
    tokens = "\n".join(f"{name}: {token}" for name, token in preload.items())
    text = (
        operator_text("MEMORY") + f'resolver_preload {{ {tokens} }}\njetstream {{ store_dir: "{tmp_path}" }}'
    )
    async with server(text) as running:
        credential = credentials(tmp_path, user_token(now_s=NOW_S))
        client = await nats.connect(running.url, user_credentials=credential)
        stream = client.jetstream()
        await stream.add_stream(name="S", subjects=["s"])
        assert (await stream.publish("s", b"1")).seq == 1
        info = await stream.account_info()
        assert info.limits.max_streams == 2
        await client.close()
        assert await refused(running.url)


async def test_an_account_that_comes_later_has_its_jetstream_and_its_streams_again(tmp_path: Path) -> None:
    text = operator_text(f'{{ type: full, dir: "{tmp_path}/jwt" }}')
    text += f"\nresolver_preload {{ {SYSTEM.public}: {account_token(SYSTEM, now_s=NOW_S)} }}"
    text += f'\njetstream {{ store_dir: "{tmp_path}" }}'
    credential = credentials(tmp_path, user_token(now_s=NOW_S))
    async with server(text) as running:
        folder = tmp_path / "system"
        folder.mkdir()
        admin = await nats.connect(
            running.url, user_credentials=credentials(folder, user_token(signer=SYSTEM, now_s=NOW_S))
        )
        assert await refused(running.url, user_credentials=credential)
        token = account_token(limits=JETSTREAM, now_s=NOW_S)
        answer = await admin.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=2)
        assert b"jwt updated" in answer.data
        client = await nats.connect(running.url, user_credentials=credential)
        stream = client.jetstream()
        await stream.add_stream(name="S", subjects=["s"])
        await stream.publish("s", b"1")
        await client.close()
        await admin.close()
    async with server(text) as running:
        client = await nats.connect(running.url, user_credentials=credential)
        assert (await client.jetstream().stream_info("S")).state.messages == 1
        await client.close()


@pytest.fixture
def accounts_url() -> Iterator[str]:
    """Serve accounts' tokens over HTTP."""
    tokens = {
        SYSTEM.public: account_token(SYSTEM, now_s=NOW_S),
        ACCOUNT.public: account_token(now_s=NOW_S),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = tokens.get(self.path.rpartition("/")[2], "")
            self.send_response(200 if token else 404)
            self.end_headers()
            self.wfile.write(token.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    web = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}/jwt/v1/accounts/"
    web.shutdown()
    thread.join()
    web.server_close()


async def test_accounts_are_fetched_from_a_web_server(tmp_path: Path, accounts_url: str) -> None:
    async with server(operator_text(f'URL("{accounts_url}")')) as running:
        credential = credentials(tmp_path, user_token(now_s=NOW_S))
        clients = await asyncio.gather(
            *(nats.connect(running.url, user_credentials=credential) for _ in range(3))
        )
        for client in clients:
            await client.close()
        unknown = tmp_path / "unknown"
        unknown.mkdir()
        stranger = user_token(signer=key(KeyKind.ACCOUNT, "stranger"), now_s=NOW_S)
        assert await refused(running.url, user_credentials=credentials(unknown, stranger))
