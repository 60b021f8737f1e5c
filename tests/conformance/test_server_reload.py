"""SIGHUP and the system account's RELOAD on a running server."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest

from conformance.server_process import ServerProcess
from headrace.core.errors import ConfigError
from headrace.core.options import ServerOptions, UserOptions
from headrace.embed import Server

BASE = """
listen: 127.0.0.1:-1
http: 127.0.0.1:-1
jetstream: {{store_dir: "{store}"}}
accounts {{
  A {{ users: [{{user: a, password: {password}}}], jetstream: enabled }}
  $SYS {{ users: [{{user: sys, password: sys}}] }}
}}
"""


def closing() -> tuple[asyncio.Event, Callable[[], Awaitable[None]]]:
    """Give an event, and a callback for a client that sets it."""
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    return closed, on_closed


def write(folder: Path, password: str = "a", more: str = "") -> Path:
    path = folder / "server.conf"
    path.write_text(BASE.format(store=folder / "store", password=password) + more)
    return path


def test_hup_takes_over_what_changed_and_sends_away_who_may_not_stay(tmp_path: Path) -> None:
    path = write(tmp_path)

    async def run(server: ServerProcess) -> None:
        url = f"127.0.0.1:{server.port()}"
        closed, on_closed = closing()
        client = await nats.connect(f"nats://a:a@{url}", allow_reconnect=False, closed_cb=on_closed)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        write(tmp_path, "new", "max_payload: 2000\npid_file: " + str(tmp_path / "pid"))
        server.send(signal.SIGHUP)
        await asyncio.wait_for(closed.wait(), 5)
        client = await nats.connect(f"nats://a:new@{url}")
        assert client.max_payload == 2000
        await client.jetstream().publish("s", b"still there")
        await client.close()

    with ServerProcess(["-c", str(path), "-D"]) as server:
        asyncio.run(run(server))
        server.wait_for("Reloaded server configuration (sha256:")
        assert "Reloaded: max_payload = 2000" in server.text
        assert (tmp_path / "pid").read_text() == str(server.process.pid)
        assert server.stop() == 0


def test_a_reload_is_all_or_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)

    async def publish(server: ServerProcess) -> None:
        client = await nats.connect(f"nats://a:a@127.0.0.1:{server.port()}", allow_reconnect=False)
        write(tmp_path, "new", "server_name: other")
        server.send(signal.SIGHUP)
        await asyncio.to_thread(
            server.wait_for, "config reload not supported for ServerName: old=, new=other"
        )
        write(tmp_path, "new", "max_paylod: 3")
        server.send(signal.SIGHUP)
        await asyncio.to_thread(server.wait_for, 'unknown field "max_paylod"')
        await client.flush()
        await client.close()

    with ServerProcess(["-c", str(path)]) as server:
        asyncio.run(publish(server))
        assert server.stop() == 0


def test_without_a_file_there_is_nothing_to_reload() -> None:
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1"]) as server:
        server.send(signal.SIGHUP)
        server.wait_for("[ERR] Failed to reload server configuration: no configuration file was given")
        assert server.stop() == 0


def test_the_system_account_reloads_and_hears_of_refusals(tmp_path: Path) -> None:
    path = write(tmp_path)

    async def run(server: ServerProcess) -> None:
        system = await nats.connect(f"nats://sys:sys@127.0.0.1:{server.port()}")
        found = json.loads((await system.request("$SYS.REQ.SERVER.PING.VARZ", timeout=3)).data)
        subject = f"$SYS.REQ.SERVER.{found['server']['id']}.RELOAD"
        write(tmp_path, more="max_connections: 77")
        assert set(json.loads((await system.request(subject, timeout=3)).data)) == {"server"}
        after = json.loads((await system.request("$SYS.REQ.SERVER.PING.VARZ", timeout=3)).data)["data"]
        assert after["max_connections"] == 77
        assert after["config_digest"] != found["data"]["config_digest"]
        assert after["config_load_time"] > found["data"]["config_load_time"]
        write(tmp_path, more="max_pending: 2000000")
        refused = json.loads((await system.request(subject, timeout=3)).data)
        assert refused["error"]["code"] == 500
        assert "MaxPending: old=67108864, new=2000000" in refused["error"]["description"]
        await system.close()

    with ServerProcess(["-c", str(path)]) as server:
        asyncio.run(run(server))
        assert server.stop() == 0


async def test_an_embedded_server_takes_over_changed_options() -> None:
    options = ServerOptions(host="127.0.0.1", port=-1, users=(UserOptions("a", "a"),))
    async with Server(options) as server:
        closed, on_closed = closing()
        client = await nats.connect(
            server.url, user="a", password="a", allow_reconnect=False, closed_cb=on_closed
        )
        with pytest.raises(ConfigError, match="not supported for ServerName"):
            server.reconfigure(ServerOptions(host="127.0.0.1", port=-1, server_name="x"))
        await client.flush()
        server.reconfigure(ServerOptions(host="127.0.0.1", port=-1))
        await asyncio.wait_for(closed.wait(), 5)
        await (await nats.connect(server.url)).close()
