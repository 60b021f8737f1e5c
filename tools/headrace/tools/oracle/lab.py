"""Where a scenario is played: clients of one server, and the transcript of what they saw.

Every `note` is a step of the transcript. The clients are closed and the streams deleted when the scenario is over, so
that scenarios may follow each other on one server.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.tools.oracle.normalise import Json, normalise
from headrace.tools.oracle.raw_client import RawClient

API_TIMEOUT_S: Final = 5.0
PLAIN_CONNECT: Final[dict[str, Any]] = {
    "verbose": False,
    "pedantic": False,
    "protocol": 1,
    "headers": True,
    "no_responders": True,
}


class Lab:
    """One playing of one scenario."""

    def __init__(
        self, host: str, port: int, on_answer: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """`on_answer` is given every answer of the API as it came."""
        self._on_answer = on_answer
        self.host = host
        self.port = port
        self._steps: list[dict[str, Any]] = []
        self._aliases: dict[str, str] = {}
        self._clients: list[Client] = []
        self._raw_clients: list[RawClient] = []
        self._api_client: Client | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    def transcript(self) -> list[dict[str, Any]]:
        """Give the steps noted so far, normalised."""
        aliases = {**self._aliases, f"{self.host}:{self.port}": "<address>"}
        return [{"step": step["step"], "saw": normalise(step["saw"], aliases)} for step in self._steps]

    def note(self, step: str, saw: Json) -> None:
        """Add a step: what was done or asked, and what was seen (JSON-able, bytes allowed)."""
        self._steps.append({"step": step, "saw": saw})

    def alias(self, text: str, name: str) -> None:
        """Call a random text of this run (an ephemeral's name) `name` in the transcript."""
        self._aliases[text] = name

    # clients

    async def connect(self, **options: Json) -> Client:
        """Connect with nats-py. Errors that are reported asynchronously are dropped unless `error_cb` takes them."""

        async def drop(_: Exception) -> None: ...

        wanted: dict[str, Any] = {"error_cb": drop, "allow_reconnect": False, "connect_timeout": 5, **options}
        client = Client()
        try:
            await client.connect(self.url, **wanted)
        except BaseException:
            await _close_refused(client)
            raise
        self._clients.append(client)
        return client

    async def raw(self, **connect: Json) -> RawClient:
        """Connect a raw client that has sent CONNECT and seen all that answers it."""
        client = await self.raw_greeted()
        arguments = json.dumps({**PLAIN_CONNECT, **connect})
        client.send(f"CONNECT {arguments}\r\n".encode())
        await client.until_pong()
        if {**PLAIN_CONNECT, **connect}["protocol"] == 1:
            await client.frame()  # the INFO behind the first PONG
        return client

    async def raw_greeted(self) -> RawClient:
        """Connect a raw client that has read the greeting and sent nothing."""
        client = await self.raw_silent()
        await client.frame()
        return client

    async def raw_silent(self) -> RawClient:
        """Connect a raw client that has read and sent nothing."""
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=8 * 1024 * 1024)
        client = RawClient(reader, writer)
        self._raw_clients.append(client)
        return client

    # JetStream

    async def api(self, subject: str, body: Json = None, *, client: Client | None = None) -> dict[str, Any]:
        """Ask `$JS.API.<subject>`, note request and answer, and give the answer. A text body is sent as it is."""
        answer = await self.ask(subject, body, client=client)
        request = (
            subject if body is None else f"{subject} {body if isinstance(body, str) else json.dumps(body)}"
        )
        self.note(request, answer)
        return answer

    async def ask(
        self,
        subject: str,
        body: Json = None,
        *,
        client: Client | None = None,
        timeout_s: float = API_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Ask `$JS.API.<subject>` without noting it."""
        asking = client or await self._own_client()
        payload = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        reply = await asking.request(f"$JS.API.{subject}", payload.encode(), timeout=timeout_s)
        answer: dict[str, Any] = json.loads(reply.data)
        if self._on_answer is not None:
            self._on_answer(answer)
        return answer

    async def do(self, subject: str, body: Json = None, *, client: Client | None = None) -> None:
        """Ask `$JS.API.<subject>` without noting it; it must succeed."""
        answer = await self.ask(subject, body, client=client)
        assert "error" not in answer, f"{subject} was refused: {answer['error']}"

    async def stream(self, name: str, *subjects: str, **config: Json) -> None:
        """Create a stream without noting it; it must succeed."""
        wanted = {"name": name, **({"subjects": list(subjects)} if subjects else {}), **config}
        await self.do(f"STREAM.CREATE.{name}", wanted)

    async def consumer(self, stream: str, name: str, **config: Json) -> None:
        """Create a consumer without noting it; it must succeed."""
        wanted = {"name": name, "durable_name": name, "ack_policy": "explicit", **config}
        body = {"stream_name": stream, "config": wanted}
        await self.do(f"CONSUMER.CREATE.{stream}.{name}", body)

    async def store(self, subject: str, payload: str = "", **headers: str) -> dict[str, Any]:
        """Publish to a stream and give the ack, without noting it. Underscores in header names stand for hyphens."""
        client = await self._own_client()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await client.request(subject, payload.encode(), timeout=API_TIMEOUT_S, headers=named or None)
        ack: dict[str, Any] = json.loads(reply.data)
        return ack

    async def publish(self, subject: str, payload: str = "", **headers: str) -> dict[str, Any]:
        """Publish to a stream, note the ack and give it."""
        ack = await self.store(subject, payload, **headers)
        told = "".join(f" {name.replace('_', '-')}: {value}" for name, value in headers.items())
        self.note(f"publish {subject} {payload[:40]!r}{told}", ack)
        return ack

    async def state(self, stream: str, **request: Json) -> dict[str, Any]:
        """Note a stream's state and give it."""
        answer = await self.ask(f"STREAM.INFO.{stream}", request or None)
        state: dict[str, Any] = answer["state"]
        self.note(f"state of {stream}", state)
        return state

    async def consumer_state(self, stream: str, name: str) -> dict[str, Any]:
        """Note a consumer's progress (its info without its configuration) and give it."""
        answer = await self.ask(f"CONSUMER.INFO.{stream}.{name}")
        progress = {
            key: value for key, value in answer.items() if key not in {"config", "cluster", "type", "ts"}
        }
        self.note(f"progress of {name}", progress)
        return progress

    async def settled(self, stream: str, name: str, **wanted: int) -> None:
        """Wait until a consumer's info shows the wanted numbers: acks without reply are handled some time later."""
        for _ in range(100):
            answer = await self.ask(f"CONSUMER.INFO.{stream}.{name}")
            if all(answer.get(key) == value for key, value in wanted.items()):
                return
            await asyncio.sleep(0.02)

    async def refused(self, step: str, attempt: Awaitable[Any]) -> None:
        """Note how an attempt fails: the client's error, and code and text where the server gave them."""
        try:
            result = await attempt
        except nats.js.errors.APIError as error:
            facts = [getattr(error, name, None) for name in ("code", "err_code", "description")]
            self.note(step, [type(error).__name__, *facts])
        except (TimeoutError, nats.errors.Error) as error:
            self.note(step, [type(error).__name__, str(error)])
        else:
            self.note(step, ["accepted", result if isinstance(result, dict) else repr(result)])

    async def _own_client(self) -> Client:
        if self._api_client is None:
            self._api_client = await self.connect()
        return self._api_client

    async def close(self) -> None:
        """Close every client, then delete the streams that were made."""
        for client in self._clients:
            if not client.is_closed:
                await client.close()
        cleaner = await self.raw()
        try:
            names = await cleaner.request("$JS.API.STREAM.NAMES")
            if (
                names[0] == "MSG"
            ):  # who may not log in without a name, or has no JetStream, has nothing to clean
                for name in json.loads(names[4])["streams"] or ():
                    deleted = await cleaner.request(f"$JS.API.STREAM.DELETE.{name}")
                    assert '"error"' not in deleted[4], f"stream {name} is still there: {deleted[4]}"
        finally:
            for raw_client in self._raw_clients:
                await raw_client.close()


async def _close_refused(client: Client) -> None:
    """Close what a client leaves open that was refused: nats-py forgets its connection then."""
    transport: Any = getattr(client, "_transport", None)  # it has no public way
    if transport is not None:
        transport.close()
        with contextlib.suppress(ConnectionError):
            await transport.wait_closed()


def message_fields(message: Msg) -> dict[str, Any]:
    """Give what a subscriber sees of a message, for a note."""
    fields: dict[str, Any] = {"subject": message.subject, "data": message.data}
    if message.reply:
        fields["reply"] = message.reply
    if message.headers:
        fields["headers"] = dict(message.headers)
    return fields
