"""Requests to the system account: which there are, which server is meant, and the envelope of an answer.

What is asked for is found out by `endpoints`, loaded when the first request comes. A request may name the servers that
are meant; any other is silent, and so is one that is asked for what it does not have to tell.

Source: the NATS server 2.15's system services, probed.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from headrace.core import headers as header_block
from headrace.core.base.errors import HeadraceError
from headrace.core.base.message import Batch, Message
from headrace.core.broker import Broker
from headrace.core.client_info import REQUEST_INFO, encode
from headrace.core.monitoring.jetstream import JetStreamView
from headrace.core.monitoring.process import Process
from headrace.core.system.events import Events
from headrace.core.system.facts import ServerInfo

SERVER_ENDPOINTS: Final = (
    *("VARZ", "SUBSZ", "CONNZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ", "JSZ", "HEALTHZ"),
    *("PROFILEZ", "EXPVARZ", "IPQUEUESZ", "RAFTZ"),
)
ACCOUNT_ENDPOINTS: Final = ("SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ")
PING: Final = "PING"
_BAD_REQUEST: Final = 400
_FAILED: Final = 500

_SYNTAX: Final = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Extra data": "after top-level value",
}
_KINDS: Final = ((bool, "bool"), (str, "string"), (int, "number"), (float, "number"), (list, "array"))


class RequestFailed(HeadraceError):
    """A request that is answered with an error."""

    def __init__(self, text: str, code: int = _FAILED) -> None:
        super().__init__(text)
        self.code = code


class NothingToTell(HeadraceError):
    """A request that is not answered."""


class SystemRequests:
    """Answers what is asked of the system account. `reload` is what RELOAD calls; it raises RequestFailed."""

    wants_request_info = True  # a service import leaves in who asks

    def __init__(
        self,
        broker: Broker,
        facts: ServerInfo,
        events: Events,
        process: Process,
        jetstream: JetStreamView | None,
    ) -> None:
        self.broker = broker
        self.events = events
        self.process = process
        self.jetstream = jetstream
        self.config_digest = ""
        self.reload: Callable[[], None] | None = None
        self._facts = facts
        account = broker.options.system_account
        self._handlers: dict[str, Callable[[Message, str], None]] = {}
        for subject, handler in self._subjects().items():
            self._handlers[subject] = handler
            broker.bus.capture(account, subject.encode(), self)

    def _subjects(self) -> dict[str, Callable[[Message, str], None]]:
        found: dict[str, Callable[[Message, str], None]] = {"$SYS.REQ.SERVER.PING": self._statistics}
        for server in (PING, self.broker.id):
            for name in SERVER_ENDPOINTS:
                found[f"$SYS.REQ.SERVER.{server}.{name}"] = self._endpoint(name)
            for name in ("STATSZ", "STATZ"):
                found[f"$SYS.REQ.SERVER.{server}.{name}"] = self._statistics
            found[f"$SYS.REQ.SERVER.{server}.IDZ"] = self._identity
        own = f"$SYS.REQ.SERVER.{self.broker.id}"
        found[f"{own}.RELOAD"] = self._command(self._on_reload)
        found[f"{own}.KICK"] = self._command(self._on_kick)
        found[f"{own}.LDM"] = self._command(self._on_lame_duck)
        for name in ACCOUNT_ENDPOINTS:
            found[f"$SYS.REQ.ACCOUNT.*.{name}"] = self._endpoint(name)
        found["$SYS.REQ.ACCOUNT.*.CONNS"] = self._connections
        found["$SYS.REQ.ACCOUNT.NSUBS"] = self._count_subscriptions
        found["$SYS.REQ.USER.*.INFO"] = self._user
        found["$SYS.DEBUG.SUBSCRIBERS"] = self._debug_subscribers
        return found

    def on_messages(self, batch: Batch) -> None:
        """Answer requests; called as the sink of all these subjects."""
        for message in batch:
            subject = message.subject.decode(errors="replace")
            handler = self._handlers.get(subject)
            account = ""
            if handler is None:
                parts = subject.split(".")
                account = parts[3] if len(parts) == 5 else ""
                handler = self._handlers.get(".".join((*parts[:3], "*", *parts[4:])))
            if handler is not None:
                handler(message, account)

    # answers

    def _say(self, message: Message, body: Mapping[str, Any], *, is_compressed: bool = False) -> None:
        if not message.reply:
            return
        payload, headers = encode(body), b""
        wanted = header_block.get(message.headers, b"Accept-Encoding") if message.headers else None
        if is_compressed and wanted is not None and wanted.lower() == b"gzip":
            payload = gzip.compress(payload, 1)
            headers = header_block.encode([(b"Content-Encoding", b"gzip")])
        self.broker.bus.publish(self.broker.options.system_account, message.reply, payload, headers=headers)

    def _endpoint(self, name: str) -> Callable[[Message, str], None]:
        def handle(message: Message, account: str) -> None:
            if not message.reply:
                return
            from headrace.core.system import endpoints  # noqa: PLC0415  (loaded by the first request)

            try:
                options = self._options(message.payload, name)
                data = endpoints.ask(self, name, account, options)
            except NothingToTell:
                return
            except RequestFailed as error:
                self._fail(message, error, with_data=error.code == _FAILED)
                return
            self._say(message, {"server": self._facts(), "data": data}, is_compressed=True)

        return handle

    def _command(self, act: Callable[[dict[str, Any]], None]) -> Callable[[Message, str], None]:
        def handle(message: Message, _account: str) -> None:
            try:
                act(self._options(message.payload, "Kick"))
            except NothingToTell:
                return
            except RequestFailed as error:
                self._fail(message, error)
                return
            self._say(message, {"server": self._facts()})

        return handle

    def _fail(self, message: Message, error: RequestFailed, *, with_data: bool = False) -> None:
        body: dict[str, Any] = {"server": self._facts()}
        if with_data:
            body["data"] = None
        self._say(message, body | {"error": {"code": error.code, "description": str(error)}})

    def _options(self, payload: bytes, name: str) -> dict[str, Any]:
        """Read what is asked; raises RequestFailed, and NothingToTell where another server is meant."""
        if not payload:
            return {}
        options = parsed(payload, f"server.{name.capitalize()}EventOptions")
        if not self._is_meant(options):
            raise NothingToTell
        return options

    def _is_meant(self, options: Mapping[str, Any]) -> bool:
        broker = self.broker
        own = {"server_name": broker.name, "host": broker.options.host, "cluster": ""}
        for key, value in own.items():
            wanted = options.get(key)
            if not isinstance(wanted, str) or not wanted:
                continue
            if value != wanted if options.get("exact_match") else wanted not in value:
                return False
        tags = options.get("tags")
        if isinstance(tags, list) and not set(cast("list[str]", tags)) <= set(broker.options.tags):
            return False
        domain = options.get("domain")
        return not domain or domain == broker.facts.domain

    # single services

    def _identity(self, message: Message, _account: str) -> None:
        broker = self.broker
        self._say(message, {"name": broker.name, "host": broker.options.host, "id": broker.id})

    def _statistics(self, message: Message, _account: str) -> None:
        try:
            self._options(message.payload, "Statsz")
        except NothingToTell:
            return
        except RequestFailed as error:
            self._fail(message, error)
            return
        self._say(message, self.events.statistics())

    def _connections(self, message: Message, account: str) -> None:
        if account in self.broker.accounts:
            self._say(message, self.events.connections(self.broker.accounts[account]))

    def _count_subscriptions(self, message: Message, _account: str) -> None:
        from headrace.core.system import endpoints  # noqa: PLC0415  (loaded by the first request)

        try:
            options = self._options(message.payload, "NSubs")
        except (NothingToTell, RequestFailed):
            return
        count = endpoints.count_subscribers(
            self, str(options.get("acc", "")), str(options.get("subject", "")), str(options.get("queue", ""))
        )
        self._say_text(message, str(count))

    def _debug_subscribers(self, message: Message, _account: str) -> None:
        from headrace.core.system import endpoints  # noqa: PLC0415  (loaded by the first request)

        subject, _, queue = message.payload.decode(errors="replace").partition(" ")
        asking = self.broker.session(message.connection_id)
        account = asking.account.name if asking is not None and asking.account is not None else ""
        self._say_text(message, str(endpoints.count_subscribers(self, account, subject, queue.strip())))

    def _say_text(self, message: Message, text: str) -> None:
        if message.reply:
            self.broker.bus.publish(self.broker.options.system_account, message.reply, text.encode())

    def _user(self, message: Message, _account: str) -> None:
        from headrace.core.system import endpoints  # noqa: PLC0415  (loaded by the first request)

        held = header_block.get(message.headers, REQUEST_INFO) if message.headers else None
        if held is None:
            self._say(message, {"server": self._facts(), "error": {"code": _BAD_REQUEST}})
            return
        about = endpoints.user(self, parsed(held, "server.ClientInfo"), message.connection_id)
        self._say(message, {"server": self._facts(), "data": about})

    def _on_reload(self, _options: dict[str, Any]) -> None:
        if self.reload is None:
            raise RequestFailed("this server cannot reload its configuration")
        self.reload()

    def _on_kick(self, options: dict[str, Any]) -> None:
        session = self.broker.session(_connection_id(options))
        if session is None:
            raise RequestFailed("no such client or leafnode id")
        session.close("Kicked")

    def _on_lame_duck(self, options: dict[str, Any]) -> None:
        session = self.broker.session(_connection_id(options))
        if session is None:
            raise RequestFailed("no such client id")
        if not session.takes_async_info:
            raise RequestFailed(
                "client does not support Lame Duck Mode or is not ready to receive the notification"
            )
        session.send_info(is_lame_duck=True)


def _connection_id(options: Mapping[str, Any]) -> int:
    value = options.get("cid")
    if not isinstance(value, int):
        raise NothingToTell
    return value


def parsed(payload: bytes, into: str) -> dict[str, Any]:
    """Read a JSON object; raises RequestFailed in the reference's words. `into` is what it calls the target."""
    text = payload.decode(errors="replace")
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise RequestFailed("unexpected end of JSON input", _BAD_REQUEST) from error
        where = _SYNTAX.get(error.msg, "in string literal")
        raise RequestFailed(f"invalid character '{text[error.pos]}' {where}", _BAD_REQUEST) from error
    if not isinstance(value, dict):
        kind = next((name for python, name in _KINDS if isinstance(value, python)), "null")
        raise RequestFailed(f"json: cannot unmarshal {kind} into Go value of type {into}", _BAD_REQUEST)
    return cast("dict[str, Any]", value)
