"""A connection to a server for the command line: settings, API requests, and refusals as one clear line.

Every command of the online tools uses the wire protocol alone, so that it works with any NATS server.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from headrace.core.base.errors import HeadraceError

REQUEST_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3
RETRY_WAIT_S: Final = 0.05


class CommandFailed(HeadraceError):
    """The command cannot be carried out; its text is what the user reads."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server is, and how to log in."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password: str = ""
    token: str = ""


class Api:
    """The JetStream API of one connection."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def request(self, endpoint: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask `$JS.API.<endpoint>`; raises CommandFailed with the server's words when it refuses."""
        payload = json.dumps(body).encode() if body else b""
        try:
            answer = await self.client.request(f"$JS.API.{endpoint}", payload, timeout=REQUEST_TIMEOUT_S)
        except NoRespondersError:
            raise CommandFailed("the server has no JetStream for this account: start it with -js") from None
        except NatsTimeoutError:
            raise CommandFailed(f"no answer to {endpoint} within {REQUEST_TIMEOUT_S:g} s") from None
        fields: dict[str, Any] = json.loads(answer.data)
        if "error" in fields:
            error = fields["error"]
            raise CommandFailed(f"{error['description']} ({error.get('err_code', error['code'])})")
        return fields

    async def pages(self, endpoint: str, key: str) -> list[Any]:
        """Ask a paged endpoint until all is there."""
        found: list[Any] = []
        while True:
            answer = await self.request(endpoint, {"offset": len(found)})
            part: list[Any] = answer[key] or []
            found += part
            if not part or len(found) >= answer["total"]:
                return found


@asynccontextmanager
async def connected(settings: ServerSettings) -> AsyncGenerator[Api]:
    """Connect for the length of one command; raises CommandFailed when there is no server."""
    options: dict[str, Any] = {}
    if settings.user:
        options |= {"user": settings.user, "password": settings.password}
    if settings.token:
        options["token"] = settings.token
    failures: list[Exception] = []

    async def on_error(error: Exception) -> None:
        failures.append(error)

    try:
        client = await nats.connect(
            settings.url,
            name="headrace",
            allow_reconnect=False,
            # the client tries again even so, for ever unless it is given a count
            max_reconnect_attempts=1,
            reconnect_time_wait=RETRY_WAIT_S,
            connect_timeout=CONNECT_TIMEOUT_S,
            error_cb=on_error,
            **options,
        )
    except (OSError, NatsError) as error:
        reason = str(failures[-1] if failures else error) or type(error).__name__
        raise CommandFailed(f"cannot connect to {settings.url}: {reason}") from None
    try:
        yield Api(client)
    finally:
        await client.close()
