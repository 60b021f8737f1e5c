"""The configuration file's blocks, as pydantic models. Loaded only when there is a file.

Each block takes its keys in any case and under each of the reference's names; what is no key of it is refused. Fields
are spelled like the file's keys, and are None where the file says nothing: the defaults are those of `ServerOptions`.
Units are the file's; `Duration` has become nanoseconds.

Source: the reference server 2.15's configuration, probed.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from headrace.core.base.clock import NS_PER_S
from headrace.core.config.authorization import Authorization, PermissionRules, UserEntry
from headrace.core.config.block import (
    Block,
    Count,
    Duration,
    Listen,
    Port,
    Positive,
    QuotedDuration,
    StorageSize,
    Tags,
)
from headrace.core.config.exchange import ALIASES, ExchangeBlock, Mappings, checked_mappings
from headrace.core.config.operators import Names, Resolver
from headrace.core.config.transports import Leafnodes, Tls, Websocket

LAME_DUCK_DURATION_MIN_NS: Final = 30 * NS_PER_S
CONTROL_LINE_MAX: Final = 2**31 - 1


# accounts


class AccountLimits(Block):
    aliases = {
        "max_conn": "max_connections",
        "max_conns": "max_connections",
        "max_subs": "max_subscriptions",
        "max_pay": "max_payload",
        "max_leafs": "max_leafnodes",
    }

    max_connections: int = -1
    max_subscriptions: int = -1
    max_payload: int = -1
    max_leafnodes: int = -1


class AccountJetStream(Block):
    aliases = {
        "max_mem": "max_memory",
        "mem": "max_memory",
        "memory": "max_memory",
        "max_file": "max_store",
        "max_disk": "max_store",
        "store": "max_store",
        "disk": "max_store",
        "streams": "max_streams",
        "consumers": "max_consumers",
        "max_bytes": "max_bytes_required",
        "max_stream_bytes": "max_bytes_required",
        "mem_max_stream_bytes": "memory_max_stream_bytes",
        "store_max_stream_bytes": "disk_max_stream_bytes",
    }

    max_memory: StorageSize = -1
    max_store: StorageSize = -1
    max_streams: int = -1
    max_consumers: int = -1
    max_bytes_required: bool = False
    max_ack_pending: int = -1
    memory_max_stream_bytes: StorageSize = -1
    disk_max_stream_bytes: StorageSize = -1


def _jetstream_switch(value: object) -> object:
    """Take `true`, `enabled` and `{}` alike, and `false` and `disabled` for None."""
    if isinstance(value, str):
        if value.lower() not in {"enabled", "enable", "disabled", "disable"}:
            raise ValueError(f"Expected 'enabled' or 'disabled' for string value, got '{value}'")
        value = value.lower().startswith("enable")
    if isinstance(value, bool):
        return {} if value else None
    return value


class Account(ExchangeBlock):
    aliases = ALIASES

    users: list[UserEntry] = []
    default_permissions: PermissionRules | None = None
    limits: AccountLimits = AccountLimits()
    jetstream: Annotated[AccountJetStream | None, BeforeValidator(_jetstream_switch)] = None


def _accounts(value: object) -> object:
    """Take a list of names for accounts without settings."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    return value


# JetStream


class BatchLimits(Block):
    max_inflight_per_stream: int | None = None
    max_inflight_total: int | None = None
    max_msgs: int | None = None
    timeout: QuotedDuration | None = None


class JetStreamLimits(Block):
    max_ack_pending: int | None = None
    batch: BatchLimits = BatchLimits()


class JetStream(Block):
    aliases = {
        "store": "store_dir",
        "storedir": "store_dir",
        "max_mem": "max_memory_store",
        "max_mem_store": "max_memory_store",
        "max_file": "max_file_store",
    }

    enabled: bool = True
    store_dir: str | None = None
    max_memory_store: StorageSize | None = None
    max_file_store: StorageSize | None = None
    domain: str | None = None
    strict: bool | None = None
    sync_interval: Literal["always"] | QuotedDuration | None = None
    scrub_rate: Annotated[StorageSize, Field(ge=0)] | None = None
    rewrite_rate: Annotated[StorageSize, Field(gt=0)] | None = None
    disk_reserve: Annotated[StorageSize, Field(ge=0)] | None = None
    index_memory: Annotated[StorageSize, Field(gt=0)] | None = None
    index_process: bool | None = None
    max_buffered_size: Annotated[StorageSize, Field(ge=0)] | None = None
    max_buffered_msgs: Annotated[int, Field(ge=0)] | None = None
    limits: JetStreamLimits = JetStreamLimits()


# the whole file


def _name(value: object) -> object:
    if isinstance(value, str) and any(character.isspace() for character in value):
        raise ValueError("server name cannot contain spaces")
    return value


class ConfigFile(Block):
    aliases = {
        "net": "host",
        "monitor_port": "http_port",
        "log_file": "logfile",
        "log_size_limit": "logfile_size_limit",
        "log_max_num": "logfile_max_num",
        "pid_file": "pidfile",
        "max_conn": "max_connections",
        "max_subs": "max_subscriptions",
        "max_subscription_tokens": "max_sub_tokens",
        "system": "system_account",
        "maps": "mappings",
        **dict.fromkeys(("operators", "root", "roots", "root_operator", "root_operators"), "operator"),
        "account_resolver": "resolver",
        "accounts_resolver": "resolver",
        "trusted": "trusted_keys",
        "storedir": "store_dir",
        "ws": "websocket",
        "leaf": "leafnodes",
        "leafnode": "leafnodes",
    }

    listen: Listen | None = None
    host: str | None = None
    port: Port | None = None
    client_advertise: str | None = None
    server_name: Annotated[str, BeforeValidator(_name)] | None = None
    server_tags: Tags | None = None
    server_metadata: dict[str, str] | None = None

    debug: bool | None = None
    trace: bool | None = None
    logtime: bool | None = None
    logtime_utc: bool | None = None
    logfile: str | None = None
    logfile_size_limit: Count | None = None
    logfile_max_num: Count | None = None
    trace_verbose: bool | None = None
    pidfile: str | None = None
    ports_file_dir: str | None = None

    http: Listen | None = None
    http_port: Port | None = None
    https: Listen | None = None
    https_port: Port | None = None
    http_base_path: str | None = None

    max_connections: int | None = None
    max_subscriptions: int | None = None
    max_sub_tokens: Annotated[int, Field(ge=0, le=255)] | None = None
    max_control_line: Annotated[int, Field(ge=1, le=CONTROL_LINE_MAX)] | None = None
    max_payload: Annotated[int, Field(ge=0, le=CONTROL_LINE_MAX)] | None = None
    max_pending: Positive | None = None
    max_closed_clients: Count | None = None
    ping_interval: Duration | None = None
    ping_max: Positive | None = None
    write_deadline: Duration | None = None
    lame_duck_duration: QuotedDuration | None = None
    lame_duck_grace_period: QuotedDuration | None = None
    no_fast_producer_stall: bool | None = None
    no_header_support: bool | None = None

    tls: Tls | None = None
    allow_non_tls: bool | None = None
    websocket: Websocket | None = None
    leafnodes: Leafnodes | None = None

    authorization: Authorization | None = None
    accounts: Annotated[dict[str, Account], BeforeValidator(_accounts)] | None = None
    mappings: Annotated[Mappings, AfterValidator(checked_mappings)] = {}
    no_auth_user: str | None = None
    operator: Names | None = None
    resolver: Resolver | None = None
    resolver_preload: dict[str, str] = {}
    resolver_pinned_accounts: Names = []
    trusted_keys: Names = []
    default_sentinel: str = ""
    system_account: str | None = None
    jetstream: Annotated[JetStream | None, BeforeValidator(_jetstream_switch)] = None
    store_dir: str | None = None

    @model_validator(mode="after")
    def _refuse_short_lame_ducks(self) -> "ConfigFile":
        duration_ns = self.lame_duck_duration
        if duration_ns is not None and duration_ns < LAME_DUCK_DURATION_MIN_NS:
            raise ValueError(
                f"invalid lame_duck_duration of {duration_ns / NS_PER_S:g}s, minimum is 30 seconds"
            )
        if self.store_dir is not None and self.jetstream is not None and self.jetstream.store_dir is not None:
            raise ValueError("Duplicate 'store_dir' configuration")
        return self
