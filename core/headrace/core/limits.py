"""Every number of the protocol and of its limits, each named once.

Source: the reference server 2.15's defaults, probed; where ours differ, the line says why.
"""

from typing import Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S

COMPATIBLE_VERSION: Final = "2.15.1"
"""The reference release whose behaviour INFO and /varz claim; clients skip tests below 2.14."""

PROTOCOL_VERSION: Final = 1
API_LEVEL: Final = 5

PORT: Final = 4222
HOST: Final = "0.0.0.0"

MAX_CONTROL_LINE: Final = 4096
MAX_PAYLOAD: Final = 1024 * 1024
MAX_PENDING: Final = 64 * 1024 * 1024
MAX_CONNECTIONS: Final = 64 * 1024
MAX_SUBSCRIPTIONS: Final = 0  # no limit
MAX_CLOSED_CLIENTS: Final = 10_000
"""How many closed connections monitoring remembers."""

PING_INTERVAL_NS: Final = 120 * NS_PER_S
PING_MAX: Final = 2
FIRST_PING_NS: Final = 2 * NS_PER_S
AUTH_TIMEOUT_NS: Final = 2 * NS_PER_S
TLS_TIMEOUT_NS: Final = 2 * NS_PER_S
TLS_FIRST_FALLBACK_NS: Final = 50 * NS_PER_MS
"""How long `handshake_first: auto` waits for a client to begin."""

RESOLVER_INTERVAL_NS: Final = 60 * NS_PER_S
RESOLVER_TIMEOUT_NS: Final = 1900 * NS_PER_MS

WRITE_DEADLINE_NS: Final = 10 * NS_PER_S
STALL_NS: Final = 10 * NS_PER_MS
"""The longest a fast publisher waits for a slow subscriber, per chunk received."""

LAME_DUCK_DURATION_NS: Final = 120 * NS_PER_S
LAME_DUCK_GRACE_PERIOD_NS: Final = 10 * NS_PER_S

GLOBAL_ACCOUNT: Final = "$G"
SYSTEM_ACCOUNT: Final = "$SYS"
