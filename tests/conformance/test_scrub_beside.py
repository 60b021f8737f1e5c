"""The background check of what is stored, on a whole server: damage that nobody reads is found, named and shown."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nats

from conformance.server_process import ServerProcess

PAYLOAD = b"payload of message %06d" + b"." * 1000
COUNT = 400
WAITS_MAX = 300


def shown(server: ServerProcess, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{server.monitor_port}{path}", timeout=5) as response:
        return json.load(response)


def sealed_file_with(folder: Path, text: bytes) -> Path:
    for path in folder.rglob("seg/*"):
        if not path.suffix and text in path.read_bytes():
            return path
    raise AssertionError(f"no segment holds {text!r}")


async def first_pass(server: ServerProcess) -> None:
    """Wait until every sealed segment was read."""
    for _ in range(WAITS_MAX):
        if shown(server, "/jsz")["scrub"]["passes"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the scrub does not come round")


async def test_damage_that_nobody_reads_is_found_named_and_shown(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    config.write_text(
        f"listen: 127.0.0.1:-1\nhttp: 127.0.0.1:-1\n"
        f'jetstream {{ store_dir: "{tmp_path / "store"}", scrub_rate: 64MiB }}\n'
    )
    with ServerProcess(["-c", str(config)]) as server:
        client = await nats.connect(f"nats://127.0.0.1:{server.port()}")
        jetstream = client.jetstream()
        await jetstream.add_stream(name="S", subjects=["s"])
        for number in range(1, COUNT + 1):
            await jetstream.publish("s", PAYLOAD % number)
        # The server was started a moment ago, and has scrubbed while there was nothing; so this is met after a restart.
        await client.close()
        server.stop()
    path = sealed_file_with(tmp_path / "store", b"message 000010")
    content = bytearray(path.read_bytes())
    content[content.index(b"message 000010")] ^= 1
    path.write_bytes(content)
    with ServerProcess(["-c", str(config)]) as server:
        await first_pass(server)
        health = shown(server, "/healthz")
        assert health["status"] == "ok"
        (warning,) = health["warnings"]
        assert (warning["stream"], "has lost messages: 1" in warning["warning"]) == ("S", True)
        (detail,) = shown(server, "/jsz?streams=1")["account_details"][0]["stream_detail"]
        assert detail["state"]["lost"] == {"msgs": [10], "bytes": 0}
        client = await nats.connect(f"nats://127.0.0.1:{server.port()}")
        jetstream = client.jetstream()
        info = await jetstream.stream_info("S")
        assert info.state.messages == COUNT - 1
        assert (await jetstream.get_msg("S", 11)).data == PAYLOAD % 11
        await client.close()
        lines = [line for line in server.lines if "cannot be read" in line]
        assert len(lines) == 1
        assert "'$G > S'" in lines[0]
        assert "message 10 " in lines[0]
