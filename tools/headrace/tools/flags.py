"""The server's command line: the reference's flags, read as Go programs read theirs.

One dash is as good as two, a value follows after a blank or `=`, and a switch takes a value only after `=`. Flags of
features that this version lacks are refused by name (`core/config/absent.py`).

Source: the reference server 2.15's command line, probed.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from headrace.core import limits
from headrace.core.config.absent import FLAGS as ABSENT
from headrace.core.config.absent import refusal
from headrace.core.config.values import checked_port
from headrace.core.errors import ConfigError
from headrace.core.options import (
    JetStreamOptions,
    ServerOptions,
    TlsOptions,
    UserOptions,
    login_timeout_ns,
)


class FlagError(ConfigError):
    """The command line cannot be used; says which flag, and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; None where it says nothing."""

    addr: str | None = None
    port: int | None = None
    name: str | None = None
    http_port: int | None = None
    https_port: int | None = None
    http_host: str | None = None
    client_advertise: str | None = None
    config: str | None = None
    jetstream: bool | None = None
    store_dir: str | None = None
    user: str | None = None
    password: str | None = None
    auth: str | None = None
    tls: bool | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_verify: bool | None = None
    tls_ca_cert: str | None = None
    debug: bool | None = None
    trace: bool | None = None
    log: str | None = None
    log_size_limit: int | None = None
    log_time: bool | None = None
    log_utc: bool | None = None
    pid_file: str | None = None
    ports_file_dir: str | None = None
    signal: str | None = None
    is_test: bool = False
    is_version: bool = False
    is_help: bool = False


@dataclass(frozen=True, slots=True)
class _Flag:
    """One flag: its names, the fields of `Flags` that it sets, what it takes ("" for a switch)."""

    names: tuple[str, ...]
    fields: tuple[str, ...]
    takes: str
    help: str


_SECTIONS: Final[tuple[tuple[str, tuple[_Flag, ...]], ...]] = (
    (
        "Server",
        (
            _Flag(
                ("a", "addr", "net"), ("addr",), "host", f"listen for clients here (default {limits.HOST})"
            ),
            _Flag(
                ("p", "port"), ("port",), "port", f"client port (default {limits.PORT}; -1: any free port)"
            ),
            _Flag(("n", "name", "server_name"), ("name",), "name", "server name (default: its id)"),
            _Flag(
                ("m", "http_port"), ("http_port",), "port", "serve monitoring on this port (-1: any free one)"
            ),
            _Flag(("ms", "https_port"), ("https_port",), "port", "the same over TLS, with its certificate"),
            _Flag(
                ("http_host", "m_host"), ("http_host",), "host", "serve monitoring here (default 127.0.0.1)"
            ),
            _Flag(("client_advertise",), ("client_advertise",), "address", "address to tell clients of"),
            _Flag(("c", "config"), ("config",), "file", "configuration file; flags win over it"),
            _Flag(("t",), ("is_test",), "", "check the configuration file and exit"),
            _Flag(("P", "pid"), ("pid_file",), "file", "write the process id to this file"),
            _Flag(
                ("ports_file_dir",), ("ports_file_dir",), "dir", "write <program>_<pid>.ports in this folder"
            ),
            _Flag(
                ("sl", "signal"),
                ("signal",),
                "cmd=pid",
                "signal a server (term, quit, stop, reopen, reload, ldm)",
            ),
        ),
    ),
    (
        "JetStream",
        (
            _Flag(("js", "jetstream"), ("jetstream",), "", "enable JetStream"),
            _Flag(("sd", "store_dir"), ("store_dir",), "dir", "where the store is"),
        ),
    ),
    (
        "Authorization",
        (
            _Flag(("user",), ("user",), "user", "user required of clients"),
            _Flag(("pass",), ("password",), "password", "password required of clients"),
            _Flag(("auth",), ("auth",), "token", "token required of clients"),
        ),
    ),
    (
        "TLS",
        (
            _Flag(("tls",), ("tls",), "", "speak TLS with clients"),
            _Flag(("tlscert",), ("tls_cert",), "file", "the server's certificate"),
            _Flag(("tlskey",), ("tls_key",), "file", "its private key"),
            _Flag(("tlsverify",), ("tls_verify",), "", "require certificates of clients, and verify them"),
            _Flag(("tlscacert",), ("tls_ca_cert",), "file", "authorities that they are verified by"),
        ),
    ),
    (
        "Logging",
        (
            _Flag(("l", "log"), ("log",), "file", "write the log to this file (default: standard error)"),
            _Flag(("log_size_limit",), ("log_size_limit",), "bytes", "begin a new log file beyond this size"),
            _Flag(("T", "logtime"), ("log_time",), "", "put the time before each entry (default true)"),
            _Flag(("logtime_utc",), ("log_utc",), "", "in UTC instead of local time"),
            _Flag(("D", "debug"), ("debug",), "", "log details"),
            _Flag(("V", "VV", "trace"), ("trace",), "", "log the protocol, the system account's too"),
            _Flag(("DV", "DVV"), ("debug", "trace"), "", "log both"),
        ),
    ),
    (
        "Common",
        (
            _Flag(("h", "help"), ("is_help",), "", "show this and exit"),
            _Flag(("v", "version"), ("is_version",), "", "show the version and exit"),
        ),
    ),
)
_BY_NAME: Final = {name: flag for _, flags in _SECTIONS for flag in flags for name in flag.names}
_SWITCH_VALUES: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_PORTS: Final = ("port", "http_port", "https_port")


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read a command line without the program's name; raises FlagError."""
    found: dict[str, str | int | bool] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            return _command(word, found)
        if word == "--":
            return _command(rest[0], found) if rest else _flags(found)
        name, equals, value = word.lstrip("-").partition("=")
        flag = _flag(name, word)
        if flag.takes and not equals:
            if not rest:
                raise FlagError(f"flag needs an argument: {word} <{flag.takes}>")
            value = rest.pop(0)
        for field in flag.fields:
            found[field] = _value(flag, field, word, value if flag.takes or equals else "true")
    return _flags(found)


def _flags(found: dict[str, str | int | bool]) -> Flags:
    # The values have the types of the fields: `_value` made them.
    return Flags(**found)  # type: ignore[arg-type]  # a table of flags cannot be typed field by field


def _command(word: str, found: dict[str, str | int | bool]) -> Flags:
    if word == "version":
        return _flags(found | {"is_version": True})
    if word == "help":
        return _flags(found | {"is_help": True})
    raise FlagError(f'unrecognized command: "{word}"; --help lists what can be given')


def _flag(name: str, word: str) -> _Flag:
    flag = _BY_NAME.get(name)
    if flag is not None:
        return flag
    written = word.partition("=")[0]
    if name in ABSENT:
        raise FlagError(f"flag {written} is refused: {refusal(ABSENT[name])}")
    similar = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean --{similar[0]}? " if similar else ""
    raise FlagError(f"flag provided but not defined: {written}; {hint}--help lists all flags")


def _value(flag: _Flag, field: str, word: str, text: str) -> str | int | bool:
    if not flag.takes:
        if text not in _SWITCH_VALUES:
            raise FlagError(
                f'invalid boolean value "{text}" for {word.partition("=")[0]}; expected true or false'
            )
        return _SWITCH_VALUES[text]
    if field == "log_size_limit":
        if not text.isdecimal():
            raise FlagError(
                f'invalid value "{text}" for flag {word.partition("=")[0]}; expected a number of bytes'
            )
        return int(text)
    if field not in _PORTS:
        return text
    try:
        return checked_port(int(text))
    except ValueError:
        written = word.partition("=")[0]
        raise FlagError(f'invalid value "{text}" for flag {written}; expected 0 to 65535, or -1') from None


def apply_flags(flags: Flags, options: ServerOptions) -> ServerOptions:
    """Lay the command line over the options of the file (or the defaults); raises FlagError."""
    given = {
        "host": flags.addr,
        "port": flags.port,
        "server_name": flags.name,
        "monitor_port": flags.http_port,
        "monitor_host": flags.http_host,
        "client_advertise": flags.client_advertise,
        "debug": flags.debug,
        "trace": flags.trace,
        "log_file": flags.log,
        "log_size_max": flags.log_size_limit,
        "log_time": flags.log_time,
        "log_utc": flags.log_utc,
        "pid_file": flags.pid_file,
        "ports_file_dir": flags.ports_file_dir,
    }
    if flags.name is not None and any(character.isspace() for character in flags.name):
        raise FlagError(f'flag --name "{flags.name}": server name cannot contain spaces')
    applied = replace(options, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # None is filtered, field by field
    return _with_login(flags, _with_jetstream(flags, _with_monitoring(flags, _with_tls(flags, applied))))


def _with_monitoring(flags: Flags, options: ServerOptions) -> ServerOptions:
    """A port for monitoring on the command line stands in for the file's, whichever of both it is."""
    if flags.https_port:
        if flags.http_port:
            raise FlagError(
                f"can't specify both HTTP ({flags.http_port}) and HTTPs ({flags.https_port}) ports"
            )
        if options.tls is None:
            raise FlagError("TLS cert and key required for HTTPS")
        return replace(options, monitor_port=flags.https_port, monitor_is_tls=True)
    return replace(options, monitor_is_tls=False) if flags.http_port else options


def _with_jetstream(flags: Flags, options: ServerOptions) -> ServerOptions:
    jetstream = options.jetstream
    if flags.jetstream is not None:
        jetstream = (jetstream or JetStreamOptions()) if flags.jetstream else None
    if jetstream is not None and flags.store_dir is not None:
        jetstream = replace(jetstream, store_dir=flags.store_dir)
    return replace(options, jetstream=jetstream)


def _with_tls(flags: Flags, options: ServerOptions) -> ServerOptions:
    """Any flag of TLS replaces what the file says of it, as in the reference; `--tls=false` takes it away."""
    given = (flags.tls_cert, flags.tls_key, flags.tls_verify, flags.tls_ca_cert)
    if flags.tls is None and all(value is None for value in given):
        return options
    if flags.tls is False and all(value is None for value in given):
        return replace(options, tls=None)
    if not flags.tls_cert:
        raise FlagError("TLS Server certificate must be present and valid")
    if not flags.tls_key:
        raise FlagError("TLS Server private key must be present and valid")
    tls = TlsOptions(
        certificates=((flags.tls_cert, flags.tls_key),),
        ca_file=flags.tls_ca_cert or "",
        verify=bool(flags.tls_verify),
    )
    timeout_ns = options.auth_timeout_ns
    if options.tls is None and timeout_ns == limits.AUTH_TIMEOUT_NS:
        timeout_ns = login_timeout_ns(tls)
    return replace(options, tls=tls, auth_timeout_ns=timeout_ns)


def _with_login(flags: Flags, options: ServerOptions) -> ServerOptions:
    """One user or one token for the global account, instead of what the file says about that account."""
    if flags.user is None and flags.password is None and flags.auth is None:
        return options
    if flags.auth is not None and (flags.user is not None or flags.password is not None):
        raise FlagError("--auth and --user/--pass are two ways to log in; give one")
    others = tuple(user for user in options.users if user.account != limits.GLOBAL_ACCOUNT)
    if flags.auth is not None:
        return replace(options, token=flags.auth, users=others)
    if flags.user is None:
        raise FlagError("--pass needs --user")
    return replace(options, token="", users=(UserOptions(flags.user, flags.password or ""), *others))


def help_text(program: str) -> str:
    """Give what `--help` prints."""
    lines = [f"Usage: {program} [options]", ""]
    for title, flags in _SECTIONS:
        lines.append(f"{title} options:")
        for flag in flags:
            names = ", ".join(f"-{name}" if len(name) <= 2 else f"--{name}" for name in flag.names)
            takes = f" <{flag.takes}>" if flag.takes else ""
            lines.append(f"    {names + takes:<34} {flag.help}")
        lines.append("")
    lines.append("Refused, as this version does not have them: " + ", ".join(f"--{name}" for name in ABSENT))
    return "\n".join(lines)
