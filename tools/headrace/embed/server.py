"""A server inside your own program's event loop.

    async with Server(jetstream=True) as server:
        client = await nats.connect(server.url)

It listens on loopback and on a port of its own choice, and writes its log to the logger `headrace.embed`, unless told
otherwise. It installs no signal handlers. Several may run in one loop.
"""

import asyncio
import logging
import shutil
import tempfile
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from headrace.core.options import JetStreamOptions, ServerOptions
from headrace.tools import server as serving

LOGGER: Final = "headrace.embed"


class Server:
    """A server that starts and stops with a block.

    `options` says everything that `headrace-server` can be told. Without it, `host`, `port` (-1: any free one) and
    `jetstream` say what most embedders need: with `store_dir` the store is kept there, without it is in a temporary
    folder that goes when the server stops.
    """

    def __init__(
        self,
        options: ServerOptions | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = -1,
        jetstream: bool = False,
        store_dir: str = "",
        log: logging.Logger | None = None,
    ) -> None:
        if options is None:
            wish = JetStreamOptions(store_dir=store_dir, index_process=False) if jetstream else None
            options = ServerOptions(host=host, port=port, jetstream=wish)
        self._options = options
        self._log = log if log is not None else logging.getLogger(LOGGER)
        self._temporary = ""
        self._server: serving.Server | None = None

    async def start(self) -> None:
        """Start; raises `headrace.tools.compose.StartError`, and then nothing is left open."""
        assert self._server is None, "a server starts once; make another"
        options = self._options
        if options.jetstream is not None and not options.jetstream.store_dir:
            self._temporary = await asyncio.to_thread(tempfile.mkdtemp, prefix="headrace-")
            options = replace(options, jetstream=replace(options.jetstream, store_dir=self._temporary))
        self._server = serving.Server(options, log=self._log)
        try:
            await self._server.start()
        except BaseException:
            await self._remove_temporary()
            raise

    def reconfigure(self, options: ServerOptions) -> None:
        """Take over changed options while the server runs, all or nothing.

        Raises `headrace.core.errors.ConfigError` where one of them cannot change; then everything is as it was. A port
        of -1 is the one that it has, and a store that is not named is the one that it uses.
        """
        held = self.server.options.jetstream
        if held is not None and options.jetstream is not None and not options.jetstream.store_dir:
            options = replace(options, jetstream=replace(options.jetstream, store_dir=held.store_dir))
        self.server.reconfigure(options)

    async def stop(self) -> None:
        """Sync, acknowledge, send what is due, and stop; harmless when repeated."""
        if self._server is not None:
            await self._server.stop()
        await self._remove_temporary()

    async def _remove_temporary(self) -> None:
        if self._temporary:
            folder, self._temporary = self._temporary, ""
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def server(self) -> serving.Server:
        """The running server, with its parts."""
        assert self._server is not None, "the server was started"
        return self._server

    @property
    def url(self) -> str:
        """What clients connect to."""
        return self.server.url

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.server.port

    @property
    def monitor_url(self) -> str:
        """Where monitoring is; "" without."""
        return self.server.monitor_url
