"""Who a client is, as other accounts and the system account are told: JSON with the reference server's keys.

It stands in the header of requests that cross into another account, in the events of the system account, and in latency
measurements. Without *details* it says no more than the account and the round trip.

Source: the NATS server 2.15's events and service imports, probed.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from headrace.core.monitoring.texts import timestamp

if TYPE_CHECKING:
    from headrace.core.session import Session

REQUEST_INFO: Final = b"Nats-Request-Info"

ORDER: Final = (
    *("start", "host", "id", "acc", "svc", "user", "name", "lang", "ver", "rtt", "server", "cluster", "alts"),
    *("stop", "jwt", "issuer_key", "name_tag", "tags", "kind", "client_type", "client_id", "nonce", "reply"),
)


def client_info(session: "Session", *, server_name: str = "", detailed: bool = True) -> dict[str, Any]:
    """Describe a client; what is empty is left out. `server_name` "": the server is not told."""
    account = session.account
    known: dict[str, Any] = {
        "acc": "" if account is None else account.name,
        "rtt": session.rtt_ns,
        "server": server_name,
    }
    if detailed:
        known |= {
            "start": timestamp(session.start_ns),
            "host": session.peer_host,
            "id": session.id,
            "user": session.user,
            "name": session.connect.name,
            "lang": session.connect.lang,
            "ver": session.connect.version,
            "kind": "Client",
            "client_type": "nats",
        }
    return ordered(known)


def ordered(known: Mapping[str, Any]) -> dict[str, Any]:
    """Put the keys in the reference's order, without those that say nothing."""
    return {key: known[key] for key in ORDER if known.get(key)}


def encode(known: Mapping[str, Any]) -> bytes:
    """Give compact JSON."""
    return json.dumps(known, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")
