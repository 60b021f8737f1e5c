"""From a configuration file to server options: parse, check against the models, translate.

Every problem is told with the place of its key and with what would be accepted; all problems of one pass are told
together. What is deprecated but understood becomes a warning.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headrace.core import limits
from headrace.core.config import absent, grammar, models
from headrace.core.config.block import Block
from headrace.core.config.exchange import exchange_of, exchange_problems, mappings_of
from headrace.core.config.logins import callout_of, permissions_of, user_of
from headrace.core.config.transports import (
    Tls,
    tls_options,
    websocket_contradiction,
    websocket_options,
)
from headrace.core.config.tree import ConfigInvalid, Node, Place, Plain, Table, Value, digest, plain
from headrace.core.options import (
    AccountJetStreamOptions,
    AccountOptions,
    JetStreamOptions,
    ServerOptions,
    TlsOptions,
    UserOptions,
    login_timeout_ns,
)
from headrace.core.transport.tls_context import TlsUnusable, build

_EXPECTED: Final = {
    "int_type": "an integer",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "literal_error": "'always' or a duration in quotes",
}

_KINDS: Final = ((bool, "the boolean"), (int, "the integer"), (float, "the number"), (str, "the string"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration file as it was understood. `digest` names its content."""

    options: ServerOptions
    digest: str
    warnings: tuple[str, ...]


def load(path: str, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read a configuration file; raises ConfigInvalid with every problem found."""
    return _loaded(grammar.load_file(path, environment), path)


def load_text(text: str, file: str = "configuration", environment: Mapping[str, str] | None = None) -> Loaded:
    """Read a configuration given as text."""
    return _loaded(grammar.parse(text, file, environment), file)


def _loaded(table: Table, file: str) -> Loaded:
    if not table.values:
        return Loaded(
            ServerOptions(config_file=file), digest(table), (f"{file}: config has no values or is empty",)
        )
    numeric_durations: list[str] = []
    model = _validated(table, file, numeric_durations)
    warnings = tuple(
        f'{_place_of(table, (name,), file)}: invalid use of field "{name}": {name} should be converted to a duration'
        for name in numeric_durations
    )
    if model.leafnodes is not None:
        warnings += (f"{_place_of(table, ('leafnodes',), file)}: {absent.UNSERVED_LEAFNODES}",)
    options = _Translation(model, table, file).options()
    return Loaded(options, digest(table), warnings)


# checking


def _validated(table: Table, file: str, numeric_durations: list[str]) -> models.ConfigFile:
    values = plain(table)
    while True:
        numeric_durations.clear()
        try:
            return models.ConfigFile.model_validate(values, context=numeric_durations)
        except ValidationError as error:
            details = error.errors(include_url=False)
        variables = [detail["loc"] for detail in details if _is_variable(table, detail)]
        if not variables:
            raise ConfigInvalid(_problems(details, table, file))
        # A key that a $variable names may be any key: it is taken out, and the rest is checked again.
        for location in variables:
            _take_out(values, location)


def _is_variable(table: Table, detail: ErrorDetails) -> bool:
    if detail["type"] != "extra_forbidden":
        return False
    holder = _spot(table, detail["loc"][:-1]).value
    return isinstance(holder, Table) and any(
        key.lower() == str(detail["loc"][-1]).lower() for key in holder.referenced
    )


def _take_out(values: Plain, location: Sequence[str | int]) -> None:
    holder: Any = values
    for step in location[:-1]:
        written = _written(holder, step)
        holder = holder if written is None else holder[written]
    written = _written(holder, location[-1])
    assert written is not None, "pydantic names a key that it was given"
    del holder[written]


def _written(holder: object, step: str | int) -> str | int | None:
    """Give the key or index of `holder` that a step of an error's location means; None for a step into a union."""
    if isinstance(step, int):
        return step if isinstance(holder, list) and step < len(cast("list[object]", holder)) else None
    if not isinstance(holder, dict):
        return None
    keys = cast("dict[str, object]", holder)
    if step in keys:
        return step
    names = {step, *(alias for block in _BLOCKS for alias, name in block.aliases.items() if name == step)}
    return next((key for key in keys if key.lower() in names), None)


_BLOCKS: Final = tuple(Block.__subclasses__())


class _Spot(NamedTuple):
    """What a location leads to: the value, and the last key and place on the way, as written."""

    value: Value
    key: str
    place: Place | None


def _spot(table: Table, location: Sequence[str | int]) -> _Spot:
    """Follow a location of pydantic's as far as it goes; it has steps of its own for unions."""
    spot = _Spot(table, "", None)
    for step in location:
        value = spot.value
        if isinstance(value, Table):
            key = _written(value.values, step)
            if isinstance(key, str):
                spot = _Spot(value.values[key].value, key, value.places[key])
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            item: Node = value[step]
            spot = _Spot(item.value, spot.key, item.place)
    return spot


def _place_of(table: Table, location: Sequence[str | int], file: str) -> str:
    place = _spot(table, location).place
    return file if place is None else str(place)


def _problems(details: Sequence[ErrorDetails], table: Table, file: str) -> list[str]:
    found: list[str] = []
    refused_in = {detail["loc"][:-1] for detail in details if detail["type"] == "extra_forbidden"}
    for detail in details:
        if detail["type"] == "missing" and detail["loc"][:-1] in refused_in:
            continue  # the refused key is what stands in its stead: an nkey instead of a user
        key = _spot(table, detail["loc"]).key
        problem = f"{_place_of(table, detail['loc'], file)}: {_sentence(detail, key)}"
        if problem not in found:
            found.append(problem)
    return found


def _sentence(detail: ErrorDetails, key: str) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(key)
    if kind == "missing":
        return f'"{detail["loc"][-1]}" is missing'
    if kind == "value_error":
        text = str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        return f"{key}: {text}" if key else text
    given = next((name for python, name in _KINDS if isinstance(detail["input"], python)), "")
    given = f"{given} {detail['input']!r}" if given else "a map or list"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{key}: {detail['msg'].lower()}, got {given}"
    return f"{key}: expected {expected}, got {given}"


def _unknown(key: str) -> str:
    feature = absent.KEYS.get(key.lower())
    if feature is not None:
        return f'"{key}" is refused: {absent.refusal(feature)}'
    known = {name for block in _BLOCKS for name in (*block.model_fields, *block.aliases)}
    similar = difflib.get_close_matches(key.lower(), known, n=1)
    return f'unknown field "{key}"' + (f'; did you mean "{similar[0]}"?' if similar else "")


# translating


class _Translation:
    """Turns a checked file into options, and refuses what only the whole shows."""

    def __init__(self, model: models.ConfigFile, table: Table, file: str) -> None:
        self._model = model
        self._table = table
        self._file = file

    def _fail(self, location: Sequence[str | int], text: str) -> ConfigInvalid:
        return ConfigInvalid([f"{_place_of(self._table, location, self._file)}: {text}"])

    def options(self) -> ServerOptions:
        model = self._model
        accounts = self._accounts()
        users = self._users()
        self._check_names(users, accounts)
        self._check_exchange(accounts)
        given: dict[str, Any] = {
            "host": model.host,
            "port": model.port,
            "client_advertise": model.client_advertise,
            "server_name": model.server_name,
            "tags": None if model.server_tags is None else tuple(model.server_tags),
            "metadata": model.server_metadata,
            "debug": model.debug,
            "trace": model.trace or model.trace_verbose,
            "log_time": model.logtime,
            "log_utc": model.logtime_utc,
            "log_file": model.logfile,
            "log_size_max": model.logfile_size_limit,
            "log_count_max": model.logfile_max_num,
            "pid_file": model.pidfile,
            "ports_file_dir": model.ports_file_dir,
            "monitor_port": model.http_port,
            "monitor_base_path": model.http_base_path,
            # The reference takes 0 for "none allowed", which it keeps as a negative number.
            "max_connections": -1 if model.max_connections == 0 else model.max_connections,
            "max_subscriptions": model.max_subscriptions,
            "max_sub_tokens": model.max_sub_tokens,
            "max_control_line": model.max_control_line,
            "max_payload": model.max_payload,
            "max_pending": model.max_pending,
            "max_closed_clients": model.max_closed_clients,
            "ping_interval_ns": model.ping_interval,
            "ping_max": model.ping_max,
            "write_deadline_ns": model.write_deadline,
            "lame_duck_duration_ns": model.lame_duck_duration,
            "lame_duck_grace_period_ns": model.lame_duck_grace_period,
            "no_fast_producer_stall": model.no_fast_producer_stall,
            "no_header_support": model.no_header_support,
            "allow_non_tls": model.allow_non_tls,
            "mappings": mappings_of(model.mappings),
            "no_auth_user": model.no_auth_user,
            "system_account": model.system_account,
            **self._listening(),
        }
        authorization = model.authorization
        if model.tls is not None:
            given["tls"] = tls = self._tls(model.tls, ("tls",))
            given["auth_timeout_ns"] = login_timeout_ns(tls)
        if model.websocket is not None:
            given["websocket"] = websocket_options(model.websocket)
            if model.websocket.tls is not None:
                self._tls(model.websocket.tls, ("websocket", "tls"))
        if authorization is not None:
            given["token"] = authorization.token
            if authorization.timeout:
                given["auth_timeout_ns"] = authorization.timeout
            given["callout"] = callout_of(authorization.auth_callout)
        given |= self._operators(has_users=bool(users), has_accounts=bool(accounts))
        options = ServerOptions(
            users=users,
            accounts=accounts,
            jetstream=self._jetstream(),
            config_file=self._file,
            **{name: value for name, value in given.items() if value is not None},
        )
        no_tls = model.websocket is not None and model.websocket.no_tls
        problem = contradiction(options) or websocket_contradiction(options, no_tls=no_tls)
        if problem:
            raise ConfigInvalid([f"{self._file}: {problem}"])
        return options

    def _tls(self, block: Tls, location: Sequence[str]) -> TlsOptions:
        """Translate a `tls` block, and see whether its files can be used."""
        options = tls_options(block)
        try:
            build(options)
        except TlsUnusable as error:
            raise self._fail(location, str(error)) from error
        return options

    def _operators(self, *, has_users: bool, has_accounts: bool) -> dict[str, object]:
        model = self._model
        if model.operator is None and not model.trusted_keys:
            if model.default_sentinel:
                raise self._fail(("default_sentinel",), "default sentinel requires operators and accounts")
            return {}
        from headrace.core.config.operator_options import operator_options  # noqa: PLC0415  (only in operator mode)

        try:
            operator, system = operator_options(
                model.operator or (),
                model.resolver,
                model.resolver_preload,
                trusted_keys=model.trusted_keys,
                pinned=model.resolver_pinned_accounts,
                sentinel=model.default_sentinel,
                system_account=model.system_account,
                has_users=has_users,
                has_accounts=has_accounts,
                has_callout=model.authorization is not None and model.authorization.auth_callout is not None,
                no_auth_user=model.no_auth_user or "",
            )
        except ValueError as error:
            raise self._fail(("operator",), str(error)) from error
        return {"operator": operator, "system_account": system or None}

    def _listening(self) -> dict[str, object]:
        given: dict[str, object] = {}
        if self._model.listen is not None:
            given |= {"host": self._model.listen.host or None, "port": self._model.listen.port}
            given = {name: value for name, value in given.items() if value is not None}
            for name in ("host", "port"):
                # `host` and `port` beside `listen` win, as they are the more particular.
                value = getattr(self._model, name)
                if value is not None:
                    given[name] = value
        if self._model.http is not None:
            given["monitor_port"] = self._model.http.port
            if self._model.http.host:
                given["monitor_host"] = self._model.http.host
        return given | self._listening_securely()

    def _listening_securely(self) -> dict[str, object]:
        """Give what `https` and `https_port` say; monitoring listens once."""
        model = self._model
        port = model.https.port if model.https is not None else model.https_port
        if not port:
            return {}
        clear = model.http.port if model.http is not None else model.http_port
        if clear:
            raise self._fail(("https",), f"can't specify both HTTP ({clear}) and HTTPs ({port}) ports")
        host = model.https.host if model.https is not None else ""
        return {"monitor_port": port, "monitor_host": host or None, "monitor_is_tls": True}

    def _users(self) -> tuple[UserOptions, ...]:
        users: list[UserOptions] = []
        authorization = self._model.authorization
        if authorization is not None:
            defaults = permissions_of(authorization.default_permissions)
            if authorization.user is not None:
                users.append(
                    UserOptions(authorization.user, authorization.password or "", permissions=defaults)
                )
            users += [user_of(entry, limits.GLOBAL_ACCOUNT, defaults) for entry in authorization.users or ()]
        for name, account in (self._model.accounts or {}).items():
            defaults = permissions_of(account.default_permissions)
            users += [user_of(entry, name, defaults) for entry in account.users]
        return tuple(users)

    def _accounts(self) -> tuple[AccountOptions, ...]:
        accounts = self._model.accounts or {}
        if limits.GLOBAL_ACCOUNT in accounts:
            raise self._fail(
                ("accounts", "$G"), '"$G" is a Reserved Account; its users stand in authorization'
            )
        return tuple(
            AccountOptions(
                name=name,
                jetstream=_account_jetstream(account.jetstream),
                max_connections=account.limits.max_connections,
                max_subscriptions=account.limits.max_subscriptions,
                max_payload=account.limits.max_payload,
                max_leafnodes=account.limits.max_leafnodes,
                **exchange_of(account),
            )
            for name, account in accounts.items()
        )

    def _check_exchange(self, accounts: Sequence[AccountOptions]) -> None:
        """Refuse exports to accounts that are not there, and imports that no export allows."""
        system = self._model.system_account or limits.SYSTEM_ACCOUNT
        for text in exchange_problems(accounts, system):
            raise self._fail(("accounts",), text)

    def _jetstream(self) -> JetStreamOptions | None:
        block = self._model.jetstream
        if block is None or not block.enabled:
            return None
        given: dict[str, Any] = {
            "store_dir": block.store_dir or self._model.store_dir,
            "max_memory": block.max_memory_store,
            "max_file": block.max_file_store,
            "domain": block.domain,
            "strict": block.strict,
            "scrub_rate": block.scrub_rate,
            "rewrite_rate": block.rewrite_rate,
            "disk_reserve": block.disk_reserve,
            "index_memory": block.index_memory,
            "index_process": block.index_process,
            "max_buffered_size": block.max_buffered_size,
            "max_buffered_messages": block.max_buffered_msgs,
            "max_ack_pending": block.limits.max_ack_pending,
            "batch_inflight_per_stream": block.limits.batch.max_inflight_per_stream,
            "batch_inflight_total": block.limits.batch.max_inflight_total,
            "batch_size": block.limits.batch.max_msgs,
            "batch_timeout_ns": block.limits.batch.timeout,
        }
        if isinstance(block.sync_interval, int):
            given |= {"sync_always": False, "sync_interval_ns": block.sync_interval}
        return replace(
            JetStreamOptions(), **{name: value for name, value in given.items() if value is not None}
        )

    def _check_names(self, users: Sequence[UserOptions], accounts: Sequence[AccountOptions]) -> None:
        seen: set[str] = set()
        for user in users:
            if user.user in seen:
                location = (
                    ("authorization",)
                    if user.account == limits.GLOBAL_ACCOUNT
                    else ("accounts", user.account)
                )
                raise self._fail(location, f'Duplicate user "{user.user}" detected')
            seen.add(user.user)
        anonymous = self._model.no_auth_user
        if self._model.operator is not None or self._model.trusted_keys:
            return  # accounts are known by their tokens
        if anonymous is not None and anonymous not in seen:
            raise self._fail(
                ("no_auth_user",),
                f'no_auth_user: "{anonymous}" not present as user or nkey in authorization block '
                "or account configuration",
            )
        names = {account.name for account in accounts}
        system = self._model.system_account
        if system not in {None, limits.SYSTEM_ACCOUNT, *names}:
            raise self._fail(
                ("system_account",), f'error resolving system account: no account is named "{system}"'
            )
        system = system or limits.SYSTEM_ACCOUNT
        for account in accounts:
            if account.name == system and account.jetstream is not None:
                raise self._fail(
                    ("accounts", system, "jetstream"), "Not allowed to enable JetStream on the system account"
                )


def contradiction(options: ServerOptions) -> str:
    """Say which two options, each fine by itself, contradict each other; "" where none do."""
    if options.monitor_is_tls and options.tls is None:
        return "TLS cert and key required for HTTPS"
    if options.max_payload > options.max_pending:
        return (
            f"max_payload ({options.max_payload}) cannot be higher than max_pending ({options.max_pending})"
        )
    if options.lame_duck_grace_period_ns >= options.lame_duck_duration_ns:
        grace_s, duration_s = (
            value // 1_000_000_000
            for value in (options.lame_duck_grace_period_ns, options.lame_duck_duration_ns)
        )
        return f"lame duck grace period ({grace_s}s) should be strictly lower than lame duck duration ({duration_s}s)"
    return ""


def _account_jetstream(block: models.AccountJetStream | None) -> AccountJetStreamOptions | None:
    if block is None:
        return None
    renamed = {"max_store": "max_storage", "disk_max_stream_bytes": "storage_max_stream_bytes"}
    values = {renamed.get(name, name): value for name, value in block.model_dump().items()}
    assert set(values) == {field.name for field in fields(AccountJetStreamOptions)}
    return AccountJetStreamOptions(**values)
