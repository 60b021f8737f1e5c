"""The HTTP request that begins a WebSocket: what is wanted of it, and the answer, as bytes.

Any path is a client's, but for those of the reference's other listeners, which are refused by name. The checks, and
their order, are the reference's. Source: the WebSocket protocol of NATS server 2.15, probed; RFC 6455, §4.2.
"""

import base64
import binascii
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from headrace.core.link import Cookies
from headrace.core.options import WebsocketOptions

DEFLATE: Final = "permessage-deflate"
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, §1.3
_ABSENT_PATHS: Final = {"/leafnode": "leaf nodes", "/mqtt": "MQTT"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Refusal(Exception):
    """The request begins no WebSocket. `text` is for the log."""

    def __init__(self, status: HTTPStatus, text: str, body: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.body = body or status.phrase

    def encode(self) -> bytes:
        """Give the whole response; the connection is closed after it."""
        body = f"{self.body}\n"
        lines = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            "Content-Type: text/plain; charset=utf-8",
            "Sec-Websocket-Version: 13",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            f"Content-Length: {len(body)}",
        )
        return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What was agreed on, and the response that says so."""

    response: bytes
    compresses: bool
    is_unmasked: bool  # the client's frames come without masks
    is_browser: bool
    fragments_compressed: bool  # some browsers cannot take compressed messages in pieces
    forwarded_host: str
    cookies: Cookies


class Request:
    """A request's line and headers, by lower-case name."""

    def __init__(self, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.path = target.partition("?")[0]
        self._headers: dict[str, list[str]] = {}
        for name, value in headers:
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def get(self, name: str) -> str:
        """Give a header's first value; "" without one."""
        return self._headers.get(name, [""])[0]

    def tokens(self, name: str) -> set[str]:
        """Give what stands between the commas of a header, in lower case."""
        return {token.strip().lower() for line in self._headers.get(name, ()) for token in line.split(",")}

    def cookies(self) -> Mapping[str, str]:
        """Give all cookies; where a name comes twice, the last counts."""
        found: dict[str, str] = {}
        for line in self._headers.get("cookie", ()):
            for pair in line.split(";"):
                name, equals, value = pair.strip().partition("=")
                if equals:
                    found[name] = value.strip('"')
        return found


def agree(request: Request, options: WebsocketOptions, *, is_secured: bool) -> Upgrade:
    """Check a request and say what is agreed on; raises Refusal."""
    bad = HTTPStatus.BAD_REQUEST
    for suffix, feature in _ABSENT_PATHS.items():
        if request.path.endswith(suffix):
            text = f"this version of Headrace does not have {feature}"
            raise Refusal(HTTPStatus.NOT_FOUND, text, text)
    if request.method != "GET":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "request method must be GET")
    if not request.get("host"):
        raise Refusal(bad, "'Host' missing in request")
    if "websocket" not in request.tokens("upgrade"):
        raise Refusal(bad, "invalid value for header 'Upgrade'")
    if "upgrade" not in request.tokens("connection"):
        raise Refusal(bad, "invalid value for header 'Connection'")
    key = request.get("sec-websocket-key")
    if not key:
        raise Refusal(bad, "key missing")
    if not _is_key(key):
        raise Refusal(bad, "invalid websocket key")
    if "13" not in request.tokens("sec-websocket-version"):
        raise Refusal(bad, "invalid version")
    problem = _origin_problem(request, options, is_secured=is_secured)
    if problem:
        raise Refusal(HTTPStatus.FORBIDDEN, f"origin not allowed: {problem}")
    return _agreed(request, options, key)


def _agreed(request: Request, options: WebsocketOptions, key: str) -> Upgrade:
    compresses = options.compression and any(
        offer.partition(";")[0].strip() == DEFLATE for offer in request.tokens("sec-websocket-extensions")
    )
    is_unmasked = request.get("nats-no-masking") == "true"
    accept = base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest())
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept.decode()}",
    ]
    if compresses:
        extension = f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover"
        lines.append(f"Sec-WebSocket-Extensions: {extension}")
    if is_unmasked:
        lines.append("Nats-No-Masking: true")
    lines += [f"{name}: {value}" for name, value in options.headers]
    agent = request.get("user-agent")
    cookies = request.cookies()
    return Upgrade(
        response=("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"),
        compresses=compresses,
        is_unmasked=is_unmasked,
        is_browser=agent.startswith("Mozilla/"),
        fragments_compressed=not ("Version/" in agent and "Safari/" in agent),
        forwarded_host=_forwarded_host(request),
        cookies=Cookies(
            jwt=cookies.get(options.jwt_cookie, ""),
            user=cookies.get(options.user_cookie, ""),
            password=cookies.get(options.password_cookie, ""),
            token=cookies.get(options.token_cookie, ""),
        ),
    )


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _forwarded_host(request: Request) -> str:
    """Give who a proxy says that the client is, if that is an address."""
    try:
        address = ipaddress.ip_address(request.get("x-forwarded-for"))
    except ValueError:
        return ""
    return f"[{address}]" if address.version == 6 else str(address)


def _origin_problem(request: Request, options: WebsocketOptions, *, is_secured: bool) -> str:
    """Say why a page of this origin may not connect; "": it may. What is no page sends none."""
    if not options.same_origin and not options.allowed_origins:
        return ""
    text = request.get("origin") or request.get("sec-websocket-origin")
    if not text:
        return ""
    try:
        origin = _origin(urlsplit(text))
        if options.same_origin:
            scheme = "https" if is_secured else "http"
            if origin != _origin(urlsplit(f"{scheme}://{request.get('host')}")):
                return "not same origin"
        if options.allowed_origins and origin not in {
            _origin(urlsplit(allowed)) for allowed in options.allowed_origins
        }:
            return "not in the allowed list"
    except ValueError as error:
        return str(error)
    return ""


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Give scheme, host and port; ValueError where that is no number."""
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme, 80)
