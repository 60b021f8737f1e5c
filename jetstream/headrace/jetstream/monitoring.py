"""What JetStream shows to who watches the server: totals and details for /jsz, and what is not well for /healthz.

Plain values go in and out, because what they look like in HTTP is the monitor's affair and this layer does not know it.

Source: the monitoring reference, "/jsz" and "/healthz".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.jetstream.accounts import AccountState
from headrace.jetstream.api.stream_endpoints import account_totals
from headrace.jetstream.levels import API_LEVEL
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.service import JetStream
from headrace.jetstream.streams.info import stream_state
from headrace.jetstream.streams.stream import Stream

_STATISTICS: Final = ("memory", "storage", "reserved_memory", "reserved_storage")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not well: what kind of thing, which, and the HTTP status to answer."""

    kind: str
    text: str
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int = 503


def jsz(
    jetstream: JetStream,
    *,
    account: str = "",
    with_accounts: bool = False,
    with_streams: bool = False,
    with_consumers: bool = False,
    with_config: bool = False,
    offset: int = 0,
    limit: int = 1024,
) -> dict[str, Any]:
    """Give the body of /jsz without the server's id and the time. `account` shows that one alone, if there is one."""
    options = jetstream.context.options
    accounts = list(jetstream.accounts.values())
    streams = [stream for each in accounts for stream in each.streams.values()]
    totals = [account_totals(each) for each in accounts]
    body: dict[str, Any] = {name: sum(each[name] for each in totals) for name in _STATISTICS}
    body |= {
        "accounts": len([each for each in accounts if each.streams]),
        "ha_assets": 0,
        "api": {
            "level": API_LEVEL,
            "total": sum(each.api_total for each in accounts),
            "errors": sum(each.api_errors for each in accounts),
        },
        "config": {
            "max_memory": options.max_memory,
            "max_storage": options.max_file,
            "store_dir": options.store_dir,
            "sync_interval": options.sync_interval_ns,
            "sync_always": options.sync_always,
            "strict": options.strict,
        },
        "limits": {},
        "streams": len(streams),
        "consumers": sum(len(stream.consumers) for stream in streams),
        "messages": sum(stream.log.head.messages for stream in streams),
        "bytes": sum(stream.log.head.size for stream in streams),
    }
    if options.domain:
        body["config"]["domain"] = options.domain
    named = jetstream.accounts.get(account) if account else None
    if named is not None or with_accounts or with_streams or with_consumers:
        shown = [named] if named is not None else sorted(accounts, key=lambda each: each.name)
        body["account_details"] = [
            _account_detail(
                each, with_streams=with_streams, with_consumers=with_consumers, with_config=with_config
            )
            for each in shown[offset : offset + limit]
        ]
    body["total"] = len(accounts)
    return body


def _account_detail(
    account: AccountState, *, with_streams: bool, with_consumers: bool, with_config: bool
) -> dict[str, Any]:
    totals = account_totals(account)
    detail: dict[str, Any] = {"name": account.name, "id": account.name}
    detail |= {name: totals[name] for name in _STATISTICS}
    detail["api"] = {"level": API_LEVEL, "total": account.api_total, "errors": account.api_errors}
    if with_streams or with_consumers:
        detail["stream_detail"] = [
            _stream_detail(account.streams[name], with_consumers=with_consumers, with_config=with_config)
            for name in sorted(account.streams)
        ]
    return detail


def _stream_detail(stream: Stream, *, with_consumers: bool, with_config: bool) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "name": stream.name,
        "created": encode_time(stream.created_ns),
        "cluster": {"leader": stream.context.server_name},
        "state": stream_state(stream, with_subjects=stream.log.is_index_ready),
    }
    if with_config:
        detail["config"] = stream.config.fields()
    if with_consumers:
        detail["consumer_detail"] = [stream.consumers[name].info() for name in sorted(stream.consumers)]
    return detail


def problems(
    jetstream: JetStream,
    *,
    account: str = "",
    stream: str = "",
    consumer: str = "",
    is_server_only: bool = False,
) -> list[Problem]:
    """Tell what is not well: of one account, stream or consumer where one is named, else of all."""
    if is_server_only:
        return []
    if account:
        return _named_problems(jetstream, account, stream, consumer)
    return [problem for each in jetstream.accounts.values() for problem in _account_problems(each)]


def _named_problems(jetstream: JetStream, account: str, stream: str, consumer: str) -> list[Problem]:
    found = jetstream.accounts.get(account)
    names = {"account": account}
    if found is None or not (found.streams or found.offline):
        return [Problem("ACCOUNT", f'JetStream account "{account}" not found', names, 404)]
    if not stream:
        return _account_problems(found)
    names = names | {"stream": stream}
    running = found.streams.get(stream)
    if running is None:
        if stream in found.offline:
            return [problem for problem in _account_problems(found) if problem.names.get("stream") == stream]
        text = f'JetStream stream "{stream}" not found on account "{account}"'
        return [Problem("STREAM", text, names, 404)]
    if consumer and consumer not in running.consumers:
        text = f'JetStream consumer "{consumer}" not found for stream "{stream}" on account "{account}"'
        return [Problem("CONSUMER", text, names | {"consumer": consumer}, 404)]
    return _stream_problems(running)


def _account_problems(account: AccountState) -> list[Problem]:
    found = [
        Problem(
            "STREAM",
            f"JetStream stream '{account.name} > {name}' is offline: {reason}",
            {"account": account.name, "stream": name},
        )
        for name, reason in account.offline.items()
    ]
    for stream in account.streams.values():
        found.extend(_stream_problems(stream))
    return found


def _stream_problems(stream: Stream) -> list[Problem]:
    names = {"account": stream.account.name, "stream": stream.name}
    who = f"JetStream stream '{stream.account.name} > {stream.name}'"
    found: list[Problem] = []
    if stream.log.fenced:
        found.append(Problem("STREAM", f"{who} is fenced: {stream.log.fenced}", names))
    lost = sum(last - first + 1 for first, last in stream.log.head.lost)
    if lost:
        # Said, but no reason to take the server out of service: no restart brings them back.
        found.append(Problem("STREAM", f"{who} has lost messages: {lost}", names, 200))
    return found
