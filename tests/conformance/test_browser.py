"""A page in a headless Chromium that speaks to the server through the official JavaScript client.

Browser, npm and the client's package come from the machine and from the registry; nothing of them is kept here. Where
they are missing, a developer's run skips; CI's fails.
"""

import asyncio
import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import nats
import pytest
from nats.aio.msg import Msg

from conformance.server_process import ServerProcess

CLIENT: Final = "@nats-io/nats-core@3.4.0"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGE: Final = Path(__file__).parent / "browser" / "page.html"
DEADLINE_S: Final = 30.0


def missing(what: str) -> None:
    """Skip, but not in CI: there the test has to run."""
    text = f"no {what}: this test needs Chromium, npm and the npm registry"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="module")
def browser() -> str:
    """Give the program."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing("browser")
    return str(found)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder with the client and what it requires."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm")
    folder = tmp_path_factory.mktemp("npm")
    command = [
        str(npm),
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        CLIENT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode:
        missing(f"client ({done.stderr.strip()[-300:]})")
    return folder / "node_modules"


class Site:
    """Serves the page and the client's modules, and takes the page's reports."""

    def __init__(self, modules: Path) -> None:
        self.reports: queue.Queue[tuple[str, str]] = queue.Queue()
        self.modules = modules
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/":
                    self.answer(PAGE.read_bytes(), "text/html")
                elif parts.path == "/module":
                    wanted = parse_qs(parts.query, keep_blank_values=True)
                    path = site.resolve(wanted["from"][0], wanted["name"][0])
                    self.answer((modules / path).read_bytes(), "text/javascript", path)
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                what, value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                site.reports.put((what, value))
                self.answer(b"", "text/plain")

            def answer(self, body: bytes, kind: str, path: str = "") -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Path", path)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def resolve(self, asker: str, name: str) -> str:
        """Find a module as Node does: beside the one that asks, or a package's main file."""
        if name.startswith("."):
            path = (self.modules / asker).parent / name
        else:
            path = self.modules / name
            if path.is_dir():
                path /= _main_of(json.loads((path / "package.json").read_text()))
        candidates = (path, path.with_name(path.name + ".js"), path / "index.js")
        found = next(candidate for candidate in candidates if candidate.is_file())
        return str(found.resolve().relative_to(self.modules.resolve()))

    async def wait_for(self, what: str, value: str | None = None) -> str:
        """Give the value of the next report of this kind; an error of the page's fails."""
        while True:
            found, given = await asyncio.to_thread(self.reports.get, timeout=DEADLINE_S)
            assert found != "error", given
            if found == what and (value is None or given == value):
                return given

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _main_of(package: dict[str, Any]) -> str:
    """Give the file that stands for a whole package."""
    entry = package.get("main") or package.get("exports", {}).get(".", "index.js")
    return str(entry["default"] if isinstance(entry, dict) else entry)


@contextlib.contextmanager
def page(browser: str, url: str, profile: Path) -> Iterator[None]:
    """Show a page until the end of the block."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", f"--user-data-dir={profile}", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def site(modules: Path) -> Iterator[Site]:
    site = Site(modules)
    yield site
    site.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_a_page_publishes_subscribes_requests_and_reconnects(
    browser: str, site: Site, tmp_path: Path
) -> None:
    client_port, websocket_port = free_port(), free_port()
    config = tmp_path / "server.conf"
    config.write_text(
        f"listen: 127.0.0.1:{client_port}\n"
        f"websocket {{ listen: 127.0.0.1:{websocket_port}, no_tls: true, compression: true,\n"
        f'  allowed_origins: ["{site.origin}"] }}\n'
    )
    url = quote(f"ws://127.0.0.1:{websocket_port}")
    from_page: asyncio.Queue[bytes] = asyncio.Queue()

    async def reverse(message: Msg) -> None:
        await message.respond(message.data[::-1])

    async def keep(message: Msg) -> None:
        from_page.put_nowait(message.data)

    with ServerProcess(["-c", str(config)]) as server:
        nc = await nats.connect(f"nats://127.0.0.1:{client_port}")
        await nc.subscribe("python.reverse", cb=reverse)
        await nc.subscribe("from.page", cb=keep)
        await nc.flush()
        with page(browser, f"{site.origin}/?url={url}", tmp_path / "profile"):
            assert await site.wait_for("own") == "to myself"
            assert await site.wait_for("answer") == "cba"
            assert await asyncio.wait_for(from_page.get(), DEADLINE_S) == b"x" * 100_000
            await site.wait_for("ready")
            await nc.publish("to.page", b"hello")
            assert await site.wait_for("got") == "hello"
            assert (await nc.request("page.upper", b"shout", timeout=DEADLINE_S)).data == b"SHOUT"
            await nc.close()
            assert server.stop() == 0
            await site.wait_for("status", "disconnect")
            with ServerProcess(["-c", str(config)]):
                await site.wait_for("status", "reconnect")
                nc = await nats.connect(f"nats://127.0.0.1:{client_port}")
                assert (await nc.request("page.upper", b"again", timeout=DEADLINE_S)).data == b"AGAIN"
                await nc.close()
