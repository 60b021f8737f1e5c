"""Getting a small text from a web server, without holding up the loop: what a URL resolver does.

One connection a request, and a bounded number of them at a time; each has a deadline, and an answer a greatest
size. Only status 200 counts.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import h11

from headrace.core.base.clock import NS_PER_S

BODY_SIZE_MAX: Final = 1024 * 1024
FETCHES_MAX: Final = 32
"""Requests under way at a time; others wait for their turn within their own deadline."""

_CHUNK_SIZE: Final = 64 * 1024
_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


class FetchFailed(Exception):
    """The server answered otherwise than with the text; says how."""


class UrlFetcher:
    """Fetches URLs in the running event loop."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._turns = asyncio.Semaphore(FETCHES_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch(self, url: str, timeout_ns: int, then: Callable[[bytes | None], None]) -> None:
        """Call `then` with the body, later; with None where it could not be had in time."""
        task = asyncio.get_running_loop().create_task(self._run(url, timeout_ns / NS_PER_S, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, url: str, timeout_s: float, then: Callable[[bytes | None], None]) -> None:
        body: bytes | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turns:
                body = await _get(url)
        except (OSError, TimeoutError, FetchFailed, h11.RemoteProtocolError, ValueError) as error:
            self._log.warning('could not fetch <"%s">: %s', url, str(error) or "no answer in time")
        then(body)


async def _get(url: str) -> bytes:
    parts = urlsplit(url)
    host = parts.hostname or ""
    context = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(host, parts.port or _PORTS[parts.scheme], ssl=context)
    try:
        http = h11.Connection(h11.CLIENT)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = [("Host", parts.netloc.rpartition("@")[2]), ("Connection", "close"), ("Accept", "*/*")]
        request = h11.Request(method="GET", target=target, headers=fields)
        writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK_SIZE))
            elif isinstance(event, h11.Response):
                if event.status_code != _OK:
                    raise FetchFailed(f"status {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_SIZE_MAX:
                    raise FetchFailed(f"more than {BODY_SIZE_MAX} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise FetchFailed("the connection ended early")
    finally:
        writer.close()
