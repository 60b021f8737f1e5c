"""A server as a child process that can be killed and started again on the same store and port."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from typing import Final

from headrace.tools.wire import CommandFailed

READY_TIMEOUT_S: Final = 20.0
SERVER_COMMAND: Final = (sys.executable, "-m", "headrace.tools.serve")


def free_port() -> int:
    """Find a loopback port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One server: its command line, its process while it runs."""

    def __init__(self, store_dir: str, port: int, command: tuple[str, ...] = SERVER_COMMAND) -> None:
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self._arguments = (*command, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", store_dir)
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None

    async def start(self) -> float:
        """Start it and wait until it takes connections; give how long that took, seconds.

        Raises CommandFailed with the server's last line when it ends instead.
        """
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self._arguments, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        self._process = process
        assert process.stderr is not None
        last = ""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                async for line in process.stderr:
                    last = line.decode(errors="replace").strip() or last
                    if "Server is ready" in last:
                        break
                else:
                    await process.wait()
                    raise CommandFailed(f"the server did not start: {last}")
        except TimeoutError:
            await self.kill()
            raise CommandFailed(f"the server was not ready within {READY_TIMEOUT_S:g} s: {last}") from None
        self._drain = asyncio.create_task(self._read_on(process.stderr))
        return time.monotonic() - began

    async def kill(self) -> None:
        """End it with SIGKILL: it has no chance to save anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it with SIGTERM."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        await process.wait()
        if self._drain is not None:
            await self._drain
            self._drain = None

    @staticmethod
    async def _read_on(stream: asyncio.StreamReader) -> None:
        async for _ in stream:
            pass
