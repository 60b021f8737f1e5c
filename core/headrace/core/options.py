"""What a server is told: the result of flags and configuration file, as plain values.

The configuration grammar and its models (`core/config`) and the command line (`tools/serve.py`) produce it; broker,
monitoring and JetStream read it. Nothing else carries a default.
"""

from dataclasses import dataclass, field
from enum import Enum

from headrace.core import limits
from headrace.core.base.clock import NS_PER_S
from headrace.core.exports import (
    Mapping,
    MessageTrace,
    ServiceExport,
    ServiceImport,
    StreamExport,
    StreamImport,
)


@dataclass(frozen=True, slots=True)
class SubjectRules:
    """An allow and a deny list. `allow` None: everything; an entry is `subject` or `subject queue`."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """`allow_responses`: how many replies to a delivered request are allowed, and for how long."""

    max_messages: int = 1
    expires_ns: int = 120_000_000_000


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may publish and subscribe to. Hashable: it is its own key in the engine's verdicts."""

    publish: SubjectRules = SubjectRules()
    subscribe: SubjectRules = SubjectRules()
    responses: ResponseRule | None = None


@dataclass(frozen=True, slots=True)
class UserOptions:
    """Someone who may log in with user and password (plain, or bcrypt as `$2a$...`), or with a key.

    With `is_nkey`, `user` is the public key. `connection_types`, as in configuration; empty: all.
    """

    user: str
    password: str = ""
    account: str = limits.GLOBAL_ACCOUNT
    permissions: Permissions | None = None
    is_nkey: bool = False
    connection_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AccountJetStreamOptions:
    """An account's JetStream limits; -1: none."""

    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1
    max_ack_pending: int = -1
    memory_max_stream_bytes: int = -1
    storage_max_stream_bytes: int = -1
    max_bytes_required: bool = False


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """A configured account; `jetstream` None: JetStream is not enabled for it.

    `name_tag` is what people call it, where its name is a key.
    """

    name: str
    jetstream: AccountJetStreamOptions | None = None
    max_connections: int = -1
    max_subscriptions: int = -1
    max_payload: int = -1
    max_leafnodes: int = -1
    stream_exports: tuple[StreamExport, ...] = ()
    service_exports: tuple[ServiceExport, ...] = ()
    stream_imports: tuple[StreamImport, ...] = ()
    service_imports: tuple[ServiceImport, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    trace: MessageTrace | None = None
    name_tag: str = ""


@dataclass(frozen=True, slots=True)
class JetStreamOptions:
    """The server's JetStream: where the store is and how much it may hold."""

    store_dir: str = ""
    max_memory: int = -1
    max_file: int = -1
    domain: str = ""
    sync_always: bool = True  # ours: an ack means it is on disk
    sync_interval_ns: int = 0  # used when `sync_always` is off
    strict: bool = True
    max_ack_pending: int = -1
    batch_inflight_per_stream: int = 0  # of the four limits of batches, 0: the usual one
    batch_inflight_total: int = 0
    batch_size: int = 0
    batch_timeout_ns: int = 0
    max_buffered_size: int = 0  # of what a stream was sent and has not stored, above it publishes are refused
    max_buffered_messages: int = 0  # 0 for these two: the usual one
    scrub_rate: int = 1024 * 1024
    """Ours: bytes a second of what is stored that are read again to find damage, 2.5 TB in a month; 0: none."""
    rewrite_rate: int = 16 * 1024 * 1024
    """Ours: bytes a second that copying mostly deleted segments may read and write."""
    disk_reserve: int = 16 * 1024 * 1024
    """Ours: bytes that are kept for deletes and acks on a full disk; 0: none."""
    index_memory: int = 256 * 1024 * 1024
    """Ours: about how many bytes of what the lookup index has yet to write are kept in memory; then publishes wait."""
    index_process: bool = True
    """Ours: whether a process of its own writes the lookup index of a server that has a thread to sync."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How a listener speaks TLS. The first of `certificates` (certificate file, key file) is the default one."""

    certificates: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""  # "": the system's
    verify: bool = False  # clients must have a certificate
    map_users: bool = False  # `verify_and_map`
    timeout_ns: int = limits.TLS_TIMEOUT_NS
    handshake_first: bool = False
    first_fallback_ns: int = 0  # with `handshake_first`: greet in clear who has not begun by then; 0: never
    cipher_suites: tuple[str, ...] = ()  # registered names; (): the library's choice
    curves: tuple[str, ...] = ()  # as OpenSSL names them
    min_version: str = "1.2"
    pinned_certs: frozenset[str] = frozenset()  # SHA-256 of the clients' public keys, in hexadecimal
    connection_rate_limit: int = 0  # handshakes in a second; 0: no limit


def login_timeout_ns(tls: TlsOptions) -> int:
    """Give how long a login may take where nobody says: a second more than the handshake."""
    return tls.timeout_ns + NS_PER_S


@dataclass(frozen=True, slots=True)
class WebsocketOptions:
    """The WebSocket listener. `user`, `token` and `no_auth_user` replace the server's own where one is given."""

    host: str = limits.HOST
    port: int = 0  # -1: any free port
    tls: TlsOptions | None = None
    same_origin: bool = False
    allowed_origins: tuple[str, ...] = ()
    compression: bool = False
    handshake_timeout_ns: int = 0  # 0: no limit
    ping_interval_ns: int = 0  # 0: the server's
    headers: tuple[tuple[str, str], ...] = ()
    jwt_cookie: str = ""
    user_cookie: str = ""
    password_cookie: str = ""
    token_cookie: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    no_auth_user: str = ""
    auth_timeout_ns: int = 0  # 0: the server's
    advertise: str = ""

    @property
    def overrides_login(self) -> bool:
        """Whether its clients log in by the rules of this block."""
        return bool(self.user or self.token or self.no_auth_user)


class ResolverKind(Enum):
    """Where accounts' tokens come from in operator mode."""

    MEMORY = "memory"
    FULL = "full"
    CACHE = "cache"
    URL = "url"


@dataclass(frozen=True, slots=True)
class ResolverOptions:
    """How accounts' tokens are found; `directory` for FULL and CACHE, `url` for URL."""

    kind: ResolverKind = ResolverKind.MEMORY
    url: str = ""
    directory: str = ""
    allow_delete: bool = False
    hard_delete: bool = False
    limit: int = 0  # tokens that the directory holds; 0: no limit
    interval_ns: int = limits.RESOLVER_INTERVAL_NS
    ttl_ns: int = 0  # how long CACHE keeps what nobody asks for; 0: for good
    timeout_ns: int = limits.RESOLVER_TIMEOUT_NS


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """Operator mode: whose tokens are trusted, and where accounts' tokens come from. Tokens are texts."""

    operators: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()  # instead of operators
    resolver: ResolverOptions = ResolverOptions()
    preload: tuple[tuple[str, str], ...] = ()
    pinned_accounts: tuple[str, ...] = ()  # (): all
    default_sentinel: str = ""  # the user whom those become who bring no token


@dataclass(frozen=True, slots=True)
class CalloutOptions:
    """Another service decides about logins: users of `account` listen there; `issuer` signs their answers."""

    issuer: str
    auth_users: tuple[str, ...]
    account: str = limits.GLOBAL_ACCOUNT
    xkey: str = ""
    allowed_accounts: tuple[str, ...] = ()  # (): all


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Everything that a server is told."""

    host: str = limits.HOST
    port: int = limits.PORT  # -1: any free port
    server_name: str = ""  # "": the server's id
    monitor_host: str = ""  # "": loopback
    monitor_port: int = 0  # 0: no monitoring; -1: any free port
    monitor_base_path: str = ""
    monitor_is_tls: bool = False  # monitoring over HTTPS, with the certificate of `tls`
    max_connections: int = limits.MAX_CONNECTIONS  # negative: none allowed
    max_subscriptions: int = limits.MAX_SUBSCRIPTIONS
    max_control_line: int = limits.MAX_CONTROL_LINE
    max_payload: int = limits.MAX_PAYLOAD
    max_pending: int = limits.MAX_PENDING
    max_sub_tokens: int = 0
    max_closed_clients: int = limits.MAX_CLOSED_CLIENTS
    ping_interval_ns: int = limits.PING_INTERVAL_NS
    ping_max: int = limits.PING_MAX
    write_deadline_ns: int = limits.WRITE_DEADLINE_NS
    auth_timeout_ns: int = limits.AUTH_TIMEOUT_NS
    no_header_support: bool = False
    no_fast_producer_stall: bool = False
    token: str = ""
    users: tuple[UserOptions, ...] = ()
    accounts: tuple[AccountOptions, ...] = ()
    mappings: tuple[Mapping, ...] = ()  # of `$G`
    no_auth_user: str = ""
    operator: OperatorOptions | None = None
    callout: CalloutOptions | None = None
    system_account: str = limits.SYSTEM_ACCOUNT
    jetstream: JetStreamOptions | None = None
    lame_duck_duration_ns: int = limits.LAME_DUCK_DURATION_NS
    lame_duck_grace_period_ns: int = limits.LAME_DUCK_GRACE_PERIOD_NS
    client_advertise: str = ""
    tls: TlsOptions | None = None
    allow_non_tls: bool = False
    websocket: WebsocketOptions | None = None
    pid_file: str = ""
    ports_file_dir: str = ""
    log_file: str = ""
    log_size_max: int = 0  # bytes of a log file before the next is begun; 0: no limit
    log_count_max: int = 0  # log files that are kept, the current one included; 0: all
    debug: bool = False
    trace: bool = False
    log_time: bool = True
    log_utc: bool = False
    config_file: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict[str, str])
