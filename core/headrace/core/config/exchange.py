"""What accounts of a configuration file give to each other, and how they map subjects: the blocks, and what they mean.

Source: the reference server 2.15's configuration, probed.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, model_validator

from headrace.core.config.block import Block, QuotedDuration
from headrace.core.exports import (
    RESPONSE_THRESHOLD_NS,
    SAMPLING_ALL,
    SAMPLING_BY_HEADERS,
    Latency,
    Mapping,
    MappingDestination,
    MessageTrace,
    ResponseType,
    ServiceExport,
    ServiceImport,
    StreamExport,
    StreamImport,
)
from headrace.core.imports.exchange import resolve_all
from headrace.core.options import AccountOptions
from headrace.core.routing.mapping import MappingInvalid, check
from headrace.core.subject import ANY_TOKEN, has_wildcard, is_valid, is_valid_literal, tokens
from headrace.core.subject_transform import TransformInvalid

_RESPONSES: Final = {
    "single": ResponseType.SINGLETON,
    "singleton": ResponseType.SINGLETON,
    "stream": ResponseType.STREAM,
    "chunk": ResponseType.CHUNKED,
    "chunked": ResponseType.CHUNKED,
}


def _percent(value: object, least: int, text: str) -> int:
    if isinstance(value, str):
        value = int(value.removesuffix("%")) if value.removesuffix("%").isdigit() else -1
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= SAMPLING_ALL:
        raise ValueError(text)
    return value


def _sampling(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "headers":
        return SAMPLING_BY_HEADERS
    return _percent(value, 1, "bad sampling percentage, should be 1-100")


def _weight(value: object) -> object:
    return _percent(value, 0, f"Invalid weight {value!r} for mapping destination")


def _response(value: object) -> object:
    if not isinstance(value, str) or value.lower() not in _RESPONSES:
        raise ValueError(f'Unknown response type: "{value}"')
    return _RESPONSES[value.lower()]


def _subject_of(name: str) -> BeforeValidator:
    def expanded(value: object) -> object:
        return {name: value} if isinstance(value, str) else value

    return BeforeValidator(expanded)


class LatencyBlock(Block):
    subject: str
    sampling: Annotated[int, BeforeValidator(_sampling)] = SAMPLING_ALL


class Export(Block):
    aliases = {
        "response_type": "response",
        "response_threshold": "threshold",
        "response_max_time": "threshold",
        "response_time": "threshold",
    }

    stream: str | None = None
    service: str | None = None
    accounts: list[str] = []
    account_token_position: int = 0
    response: Annotated[ResponseType | None, BeforeValidator(_response)] = None
    threshold: QuotedDuration | None = None
    latency: Annotated[LatencyBlock | None, _subject_of("subject")] = None
    allow_trace: bool | None = None

    @model_validator(mode="after")
    def _refuse_what_does_not_fit(self) -> "Export":
        if self.stream is not None and self.service is not None:
            raise ValueError(f'Detected stream "{self.stream}" but already saw a service')
        subject = self.stream if self.stream is not None else self.service
        if subject is None:
            raise ValueError("an export needs a stream or a service")
        kind = "stream" if self.stream is not None else "service"
        if not is_valid(subject.encode()):
            raise ValueError(f'Error adding {kind} export "{subject}": invalid subject')
        if self.stream is not None:
            for name, value in (
                ("response", self.response),
                ("response", self.threshold),
                ("latency", self.latency),
                ("allow_trace", self.allow_trace),
            ):
                if value is not None:
                    raise ValueError(f"Detected {name} directive on non-service")
        position = self.account_token_position
        if position:
            parts = tokens(subject.encode())
            if not 0 < position <= len(parts) or parts[position - 1] != ANY_TOKEN:
                raise ValueError(f'Error adding {kind} export "{subject}": invalid subject')
        if self.latency is not None and self.response not in {None, ResponseType.SINGLETON}:
            raise ValueError(
                f'Error adding service latency sampling for "{subject}" on subject "{self.latency.subject}": '
                "response type must be singleton to track latency"
            )
        if self.latency is not None and not is_valid_literal(self.latency.subject.encode()):
            raise ValueError(
                f'Error adding service latency sampling for "{subject}" on subject "{self.latency.subject}": '
                "invalid publish subject"
            )
        return self


class Source(Block):
    account: str
    subject: str


class Import(Block):
    stream: Source | None = None
    service: Source | None = None
    prefix: str | None = None
    to: str | None = None
    share: bool = False
    allow_trace: bool | None = None

    @model_validator(mode="after")
    def _refuse_what_does_not_fit(self) -> "Import":
        if self.stream is not None and self.service is not None:
            raise ValueError("Detected stream but already saw a service")
        if self.stream is None and self.service is None:
            raise ValueError("an import needs a stream or a service")
        if self.service is not None and self.allow_trace is not None:
            raise ValueError("Detected allow_trace directive on a non-stream")
        if self.stream is not None and self.prefix is not None:
            if self.to is not None:
                raise ValueError("Stream import can not have a 'prefix' and a 'to' property")
            if has_wildcard(self.prefix.rstrip(".").encode()):
                raise ValueError(
                    f'Error adding stream import "{self.stream.subject}": '
                    "stream import prefix can not contain wildcard tokens"
                )
        return self


class Destination(Block):
    aliases = {"dest": "destination"}

    destination: str
    weight: Annotated[int, BeforeValidator(_weight)] = SAMPLING_ALL
    cluster: str = ""


def _destinations(value: object) -> object:
    written = value if isinstance(value, list) else [value]
    return [{"destination": one} if isinstance(one, str) else one for one in written]


Mappings = dict[str, Annotated[list[Destination], BeforeValidator(_destinations)]]


def mappings_of(blocks: Mappings) -> tuple[Mapping, ...]:
    """Give the mappings that a block of them means."""
    return tuple(
        Mapping(
            source,
            tuple(MappingDestination(one.destination, one.weight, one.cluster) for one in destinations),
        )
        for source, destinations in blocks.items()
    )


def checked_mappings(blocks: Mappings) -> Mappings:
    """Raise ValueError in the reference's words where something is no mapping."""
    for mapping in mappings_of(blocks):
        if not is_valid(mapping.source.encode()):
            raise ValueError(f'Subject "{mapping.source}" is not a valid subject')
        try:
            check(mapping)
        except (MappingInvalid, TransformInvalid) as error:
            raise ValueError(f'Error adding mapping for "{mapping.source}" : {error}') from error
    return blocks


def _trace_sampling(value: object) -> object:
    return _percent(value, 1, f"Trace destination sampling value {value!r} is invalid, needs to be [1..100]")


def _trace_destination(value: str) -> str:
    if not is_valid_literal(value.encode()):
        raise ValueError(f'Trace destination "{value}" is not valid')
    return value


class MessageTraceBlock(Block):
    dest: Annotated[str, AfterValidator(_trace_destination)]
    sampling: Annotated[int, BeforeValidator(_trace_sampling)] = SAMPLING_ALL


class ExchangeBlock(Block):
    """What stands in an account beside its users and limits."""

    msg_trace: Annotated[MessageTraceBlock | None, _subject_of("dest")] = None
    exports: list[Export] = []
    imports: list[Import] = []
    mappings: Annotated[Mappings, AfterValidator(checked_mappings)] = {}


ALIASES: Final = {"maps": "mappings", "trace_dest": "msg_trace"}


def exchange_of(block: ExchangeBlock) -> dict[str, Any]:
    """Give what the block adds to an account's options."""
    return {
        "stream_exports": tuple(
            StreamExport(one.stream, tuple(one.accounts) or None, one.account_token_position)
            for one in block.exports
            if one.stream is not None
        ),
        "service_exports": tuple(_service_export(one) for one in block.exports if one.service is not None),
        "stream_imports": tuple(_stream_import(one, one.stream) for one in block.imports if one.stream),
        "service_imports": tuple(
            ServiceImport(one.service.account, one.service.subject, one.to or "", share=one.share)
            for one in block.imports
            if one.service
        ),
        "mappings": mappings_of(block.mappings),
        "trace": None
        if block.msg_trace is None
        else MessageTrace(block.msg_trace.dest, block.msg_trace.sampling),
    }


def exchange_problems(accounts: Sequence[AccountOptions], system: str) -> Iterator[str]:
    """Tell, in the reference's words, what accounts cannot have of each other."""
    names = {account.name for account in accounts}
    for account in accounts:
        for kind, exports in (("stream", account.stream_exports), ("service", account.service_exports)):
            for export in exports:
                for name in export.accounts or ():
                    if name not in names:
                        yield f'"{name}" account not defined for {kind} export'
    known = accounts if system in names else (*accounts, AccountOptions(system))
    for refused in resolve_all(known, system).refused:
        yield str(refused)


def _service_export(block: Export) -> ServiceExport:
    latency = block.latency
    return ServiceExport(
        block.service or "",
        tuple(block.accounts) or None,
        block.account_token_position,
        response=block.response or ResponseType.SINGLETON,
        response_threshold_ns=RESPONSE_THRESHOLD_NS if block.threshold is None else block.threshold,
        latency=None if latency is None else Latency(latency.subject, latency.sampling),
        allow_trace=bool(block.allow_trace),
    )


def _stream_import(block: Import, source: Source) -> StreamImport:
    local = block.to or ""
    if block.prefix:
        local = f"{block.prefix.removesuffix('.')}.{source.subject}"
    return StreamImport(source.account, source.subject, local, allow_trace=bool(block.allow_trace))
