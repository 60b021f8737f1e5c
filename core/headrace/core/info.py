"""INFO: what the server tells a client about itself and about the connection.

Source: the client protocol of NATS server 2.15, §2.1. Field order does not matter to clients; fields the reference
leaves out when empty are left out here. `headrace` and `headrace_version` are ours.
"""

import json
from dataclasses import dataclass, field
from platform import python_version

from headrace.core import limits
from headrace.core.base.version import VERSION


@dataclass(slots=True)
class ServerFacts:
    """What INFO says of the server, the same for all connections at one time."""

    server_id: str
    server_name: str
    host: str
    port: int
    max_payload: int
    headers: bool
    auth_required: bool
    has_no_auth_user: bool
    engine: str
    jetstream: bool = False
    domain: str = ""
    lame_duck: bool = False
    connect_urls: list[str] = field(default_factory=list[str])
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What INFO says of one connection. `account` is set once the client has connected and sent a PING."""

    client_id: int
    client_ip: str
    max_payload: int
    account: str = ""
    is_system_account: bool = False
    is_first: bool = False
    host: str = ""  # "": the server's
    port: int = 0
    tls_required: bool = False
    tls_verify: bool = False
    tls_available: bool = False
    auth_required: bool | None = None  # None: as the server's
    nonce: str = ""  # what the client may be asked to sign


def encode_info(server: ServerFacts, connection: ConnectionFacts) -> bytes:
    """Make the INFO line for one connection."""
    info: dict[str, object] = {
        "server_id": server.server_id,
        "server_name": server.server_name,
        "version": limits.COMPATIBLE_VERSION,
        "proto": limits.PROTOCOL_VERSION,
        "go": f"python{python_version()}",
        "host": connection.host or server.host,
        "port": connection.port or server.port,
        "headers": server.headers,
        "max_payload": connection.max_payload,
        "client_id": connection.client_id,
        "client_ip": connection.client_ip,
        "api_lvl": limits.API_LEVEL,
        "headrace": server.version,
        "headrace_engine": server.engine,
    }
    # A client that sees auth_required asks for credentials; with a no_auth_user it needs none to begin.
    auth_required = server.auth_required and not (connection.is_first and server.has_no_auth_user)
    if auth_required if connection.auth_required is None else connection.auth_required:
        info["auth_required"] = True
    if connection.nonce:
        info["nonce"] = connection.nonce
    for name in ("tls_required", "tls_verify", "tls_available"):
        if getattr(connection, name):
            info[name] = True
    if server.jetstream:
        info["jetstream"] = True
        if server.domain:
            info["domain"] = server.domain
    if server.connect_urls:
        info["connect_urls"] = server.connect_urls
    if server.lame_duck:
        info["ldm"] = True
    if connection.account:
        info["connect_info"] = True
        info["remote_account"] = connection.account
        if connection.is_system_account:
            info["acc_is_sys"] = True
    return b"INFO %b \r\n" % json.dumps(info, separators=(",", ":")).encode()
