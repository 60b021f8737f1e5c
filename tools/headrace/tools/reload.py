"""Reload: which changed options a running server takes over, which make it refuse all of them, and what it says.

Every option is either in `FOLLOWED`, with how the log tells of it, or in `FIXED`, with the name that the reference
gives it in a refusal. A reload is all or nothing: `plan` refuses before anything has changed, `Server.reconfigure`
then takes over the whole. `Reloader` is what SIGHUP and the system account call: it reads the file again, lays the
flags over it as at the start, and looks after log, pid file and ports file.

Source: the reference server 2.15, probed. It can also switch JetStream, TLS and WebSocket on and off, and change
`no_fast_producer_stall`; here that is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_S
from headrace.core.errors import ConfigError
from headrace.core.log import set_log
from headrace.core.options import ServerOptions
from headrace.tools.wish import Wish, open_sink

if TYPE_CHECKING:
    from headrace.tools.server import Server

Tell = Callable[[ServerOptions], str]


class ReloadRefused(ConfigError):
    """A changed configuration asks for what a running server cannot do; nothing was changed."""


def _duration(duration_ns: int) -> str:
    """Give a duration as the reference's log writes it: `2m0s`, `1h0m0s`, `10s`, `300ms`."""
    whole_s, rest_ns = divmod(duration_ns, NS_PER_S)
    if not whole_s:
        return f"{duration_ns / 1_000_000:g}ms" if duration_ns else "0s"
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds + rest_ns / NS_PER_S:.9g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _value(name: str, *, shown: str = "") -> Tell:
    def tell(options: ServerOptions) -> str:
        value = getattr(options, name)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"{shown or name} = {text}"

    return tell


def _time(name: str) -> Tell:
    return lambda options: f"{name.removesuffix('_ns')} = {_duration(getattr(options, name))}"


def _word(text: str) -> Tell:
    return lambda _options: text


FOLLOWED: Final[Mapping[str, Tell]] = {
    "debug": _value("debug"),
    "trace": _value("trace"),
    "log_time": _value("log_time", shown="logtime"),
    "log_utc": _value("log_utc", shown="logtime_utc"),
    "log_file": _value("log_file"),
    "max_connections": _value("max_connections"),
    "token": _word("authorization token"),  # never the token itself
    "users": _word("authorization users"),
    "accounts": _word("accounts"),
    "mappings": _word("accounts"),
    "callout": _word("authorization callout"),
    "auth_timeout_ns": lambda options: f"authorization timeout = {_duration(options.auth_timeout_ns)}",
    "pid_file": _value("pid_file"),
    "ports_file_dir": _value("ports_file_dir"),
    "max_control_line": _value("max_control_line"),
    "max_payload": _value("max_payload"),
    "ping_interval_ns": _time("ping_interval_ns"),
    "ping_max": _value("ping_max"),
    "write_deadline_ns": _time("write_deadline_ns"),
    "client_advertise": _value("client_advertise"),
    "tags": _word("tags"),
    "metadata": _word("metadata"),
    "tls": _word("tls"),
    "allow_non_tls": _value("allow_non_tls"),
    "websocket": _word("websocket tls"),
}
"""Options that a running server takes over."""

FIXED: Final[Mapping[str, str]] = {
    "host": "Host",
    "port": "Port",
    "server_name": "ServerName",
    "monitor_host": "HTTPHost",
    "monitor_port": "HTTPPort",
    "monitor_base_path": "HTTPBasePath",
    "monitor_is_tls": "HTTPSPort",
    "max_subscriptions": "MaxSubs",
    "max_pending": "MaxPending",
    "max_sub_tokens": "MaxSubTokens",
    "max_closed_clients": "MaxClosedClients",
    "log_size_max": "LogSizeLimit",
    "log_count_max": "LogMaxFiles",
    "no_header_support": "NoHeaderSupport",
    "no_fast_producer_stall": "NoFastProducerStall",
    "no_auth_user": "NoAuthUser",
    "operator": "TrustedOperators",
    "system_account": "SystemAccount",
    "jetstream": "JetStream",
    "lame_duck_duration_ns": "LameDuckDuration",
    "lame_duck_grace_period_ns": "LameDuckGracePeriod",
}
"""Options that stay as they were at the start."""

_SHOWN_TYPES: Final = (int, str)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload will do: the options that then count, and a line for each change."""

    options: ServerOptions
    lines: tuple[str, ...]


def plan(old: ServerOptions, new: ServerOptions, *, port: int) -> Plan:
    """Compare options; raises ReloadRefused. `port` is where clients connect now."""
    if new.port in {-1, port}:
        new = replace(new, port=old.port)  # any port will do, or the same
    if old.monitor_port and new.monitor_port == -1:
        new = replace(new, monitor_port=old.monitor_port)
    for name, shown in FIXED.items():
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            before = port if name == "port" else before
            raise ReloadRefused(_refusal(name, shown, before, after))
    for name, before, after in (
        ("TLSConfig", old.tls, new.tls),
        ("Websocket", old.websocket, new.websocket),
        ("AuthCallout", old.callout, new.callout),
    ):
        if (before is None) != (after is None):
            verb = "on" if before is None else "off"
            raise ReloadRefused(
                f"config reload not supported for {name}: restart the server to switch it {verb}"
            )
    if old.websocket is not None and new.websocket is not None:
        old_block, new_block = replace(old.websocket, tls=None), replace(new.websocket, tls=None)
        if new_block.port == -1:
            new_block = replace(new_block, port=old_block.port)
        if old_block != new_block or (old.websocket.tls is None) != (new.websocket.tls is None):
            raise ReloadRefused("config reload not supported for Websocket, except for its certificates")
        new = replace(new, websocket=replace(new_block, tls=new.websocket.tls))
    told = {tell(new): None for name, tell in FOLLOWED.items() if getattr(old, name) != getattr(new, name)}
    return Plan(new, tuple(told))


def _refusal(name: str, shown: str, before: object, after: object) -> str:
    text = f"config reload not supported for {shown}"
    if name.endswith("_ns"):
        assert isinstance(before, int), "durations are integers"
        assert isinstance(after, int), "durations are integers"
        return f"{text}: old={_duration(before)}, new={_duration(after)}"
    if isinstance(before, bool):
        return f"{text}: old={str(before).lower()}, new={str(after).lower()}"
    # Blocks may hold secrets, so they are not shown.
    return f"{text}: old={before}, new={after}" if isinstance(before, _SHOWN_TYPES) else text


class Reloader:
    """Reloads one server. `read` reads flags and file; `place_files(options)` renews pid and ports file."""

    def __init__(
        self, server: "Server", read: Callable[[], Wish], place_files: Callable[[ServerOptions], None]
    ) -> None:
        self._server = server
        self._read = read
        self._place_files = place_files

    def reload(self) -> str:
        """Take over what changed; give "", or why all of it was refused. The log tells either."""
        server, log = self._server, self._server.log
        before = server.options
        try:
            found = self._read()
            for warning in found.warnings:
                log.warning("%s", warning)
            sink = None
            if found.options.log_file != before.log_file:
                sink = open_sink(found.options)
            try:
                server.reconfigure(found.options, digest=found.digest)
            except BaseException:
                if sink is not None:
                    sink.close()
                raise
        except (ConfigError, OSError) as error:
            reason = str(error)
            log.error("Failed to reload server configuration: %s", reason)  # noqa: TRY400  (no place in our code)
            return reason
        options = server.options
        set_log(
            log,
            sink,
            is_debug=options.debug,
            is_trace=options.trace,
            with_time=options.log_time,
            in_utc=options.log_utc,
        )
        if (before.pid_file, before.ports_file_dir) != (options.pid_file, options.ports_file_dir):
            try:
                self._place_files(options)
            except OSError as error:
                log.error("Pid file or ports file: %s", error)  # noqa: TRY400  (no place in our code)
        log.info("Reloaded server configuration (%s)", found.digest)
        return ""
