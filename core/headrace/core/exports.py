"""What accounts give to each other, and how they rename what is theirs: the plain values.

They come from a configuration file or from an account's claims, and say only what is wanted. Whether an import
is allowed, and what it means for routes, is decided in `core/imports`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

RESPONSE_THRESHOLD_NS: Final = 120_000_000_000
"""How long a service's reply is waited for where its export does not say."""

SAMPLING_ALL: Final = 100
SAMPLING_BY_HEADERS: Final = 0


class ResponseType(Enum):
    """How many replies a service gives to one request."""

    SINGLETON = "Singleton"
    STREAM = "Stream"
    CHUNKED = "Chunked"


@dataclass(frozen=True, slots=True)
class Latency:
    """Where an export's latencies are published, and of how many requests: percent; 0: of those whose headers ask."""

    subject: str
    sampling: int = SAMPLING_ALL


@dataclass(frozen=True, slots=True)
class StreamExport:
    """Subjects that other accounts may listen to.

    `accounts` None: public; else the names of those that may. `token_position` (from 1; 0: none): this token of the
    subject must be the importer's name. `is_token_required`: an import needs an activation.
    """

    subject: str
    accounts: tuple[str, ...] | None = None
    token_position: int = 0
    is_token_required: bool = False


@dataclass(frozen=True, slots=True)
class ServiceExport:
    """Subjects that other accounts may send requests to; see `StreamExport`."""

    subject: str
    accounts: tuple[str, ...] | None = None
    token_position: int = 0
    is_token_required: bool = False
    response: ResponseType = ResponseType.SINGLETON
    response_threshold_ns: int = RESPONSE_THRESHOLD_NS
    latency: Latency | None = None
    allow_trace: bool = False


@dataclass(frozen=True, slots=True)
class StreamImport:
    """Another account's subjects, listened to under own names.

    `subject` is the exporter's, `local` what it is here, with `$1` for the first `*`; empty: the same.
    `is_activated`: who loaded it has checked an activation token for it.
    """

    account: str
    subject: str
    local: str = ""
    allow_trace: bool = False
    is_activated: bool = False


@dataclass(frozen=True, slots=True)
class ServiceImport:
    """Another account's service, reached under own subjects.

    `subject` is the exporter's, `local` what is published here; empty: the same. `share`: the exporter sees who asks.
    """

    account: str
    subject: str
    local: str = ""
    share: bool = False
    is_activated: bool = False


@dataclass(frozen=True, slots=True)
class MappingDestination:
    """One of the subjects that a mapping leads to; `weight` in percent. `cluster` "": in every cluster."""

    subject: str
    weight: int = 100
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """What is published on `source` goes to one of the destinations instead."""

    source: str
    destinations: tuple[MappingDestination, ...]


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """Where to send the traces of messages that carry a `traceparent`, and of how many of them, in percent."""

    destination: str
    sampling: int = SAMPLING_ALL
