"""Which imports are allowed, and what each means: from what accounts ask for to what is put into routes.

An import needs an export of the other account that covers its subject and admits the importer: a public one, one that
names it, one with its name at a certain token, or one for which it has an activation. Imports are looked at in
the order of the accounts, all streams before all services; one that would close a circle is refused. So are two
imports of the same stream, and of services with the same local subject from one account.

Every refusal is listed, and the rest stands: a configuration file with one is refused as a whole by whoever loads it,
an account whose claims have one goes on without.

Source: the NATS server 2.15's configuration of accounts, probed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from headrace.core.exports import ServiceExport, ServiceImport, StreamExport, StreamImport
from headrace.core.options import AccountOptions
from headrace.core.subject import has_wildcard, is_subset, is_valid, overlaps, tokens
from headrace.core.subject_transform import (
    SubjectTransform,
    TransformInvalid,
    tokenize_wildcards,
    untokenize_wildcards,
)

Export = TypeVar("Export", StreamExport, ServiceExport)

STREAM_NOT_AUTHORIZED: Final = "stream import not authorized"
SERVICE_NOT_AUTHORIZED: Final = "service import not authorized"
FORMS_CYCLE: Final = "import forms a cycle"
STREAM_DUPLICATE: Final = "stream import already exists"
INVALID_SUBJECT: Final = "invalid subject"


@dataclass(frozen=True, slots=True)
class ImportRefused:
    """An import that is not made. `kind` is `stream` or `service`; `text` is the reference server's."""

    account: str
    kind: str
    subject: str
    text: str
    exporter_exists: bool = True

    def __str__(self) -> str:
        if not self.exporter_exists:
            return self.text
        return f'Error adding {self.kind} import "{self.subject}": {self.text}'


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """A stream import as routes need it: `source` is the exporter's pattern, `local` the importer's."""

    importer: str
    exporter: str
    source: bytes
    local: bytes
    renames: SubjectTransform | None
    allow_trace: bool


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """A service import: what is published on `local` is sent to `source` in the other account.

    `renames` None: `source` is literal, or both are the same. `export` None: the server's own services.
    """

    importer: str
    exporter: str
    local: bytes
    source: bytes
    renames: SubjectTransform | None
    export: ServiceExport | None
    share: bool


@dataclass(frozen=True, slots=True)
class Imports:
    """All imports of a server that are allowed, and those that are not."""

    streams: tuple[StreamRoute, ...]
    services: tuple[ServiceRoute, ...]
    refused: tuple[ImportRefused, ...]


def resolve(accounts: Iterable[AccountOptions]) -> Imports:
    """Look at every import of these accounts."""
    return _Resolution({account.name: account for account in accounts}).imports()


def export_of(account: AccountOptions, subject: bytes) -> ServiceExport | None:
    """Give the service export that covers a subject, an equal one before a wider one."""
    return _covering(account.service_exports, subject)


class _Resolution:
    def __init__(self, accounts: Mapping[str, AccountOptions]) -> None:
        self._accounts = accounts
        self._streams: list[StreamRoute] = []
        self._services: list[ServiceRoute] = []
        self._refused: list[ImportRefused] = []

    def imports(self) -> Imports:
        for account in self._accounts.values():
            for wanted in account.stream_imports:
                self._add_stream(account.name, wanted)
        for account in self._accounts.values():
            for service in account.service_imports:
                self._add_service(account.name, service)
        return Imports(tuple(self._streams), tuple(self._services), tuple(self._refused))

    def _refuse(self, importer: str, kind: str, subject: str, text: str) -> None:
        self._refused.append(ImportRefused(importer, kind, subject, text))

    def _exporter(
        self, importer: str, kind: str, wanted: StreamImport | ServiceImport
    ) -> AccountOptions | None:
        exporter = self._accounts.get(wanted.account)
        if exporter is None:
            text = f'"{wanted.account}" account not defined for {kind} import'
            self._refused.append(ImportRefused(importer, kind, wanted.subject, text, exporter_exists=False))
        return exporter

    def _add_stream(self, importer: str, wanted: StreamImport) -> None:
        exporter = self._exporter(importer, "stream", wanted)
        if exporter is None:
            return
        source = wanted.subject.encode()
        local = (wanted.local or wanted.subject).encode()
        problem = ""
        renames = None
        if not is_valid(source) or not _admits(
            _covering(exporter.stream_exports, source), source, importer, is_activated=wanted.is_activated
        ):
            problem = STREAM_NOT_AUTHORIZED
        elif self._streams_form_cycle(exporter, local, {importer}) or self._streams_form_cycle(
            exporter, source, {importer}
        ):
            problem = FORMS_CYCLE
        elif has_wildcard(source) and local != source:
            try:
                renames = SubjectTransform(source, tokenize_wildcards(local), strict=True)
            except TransformInvalid as error:
                problem = (
                    f'failed to create mapping transform for stream import subject from "{wanted.subject}" '
                    f'to "{wanted.local}": {error}'
                )
            local, _ = untokenize_wildcards(tokenize_wildcards(local))
        elif not is_valid(local):
            problem = INVALID_SUBJECT
        if not problem and any(
            (held.importer, held.exporter, held.source) == (importer, exporter.name, source)
            for held in self._streams
        ):
            problem = STREAM_DUPLICATE
        if problem:
            self._refuse(importer, "stream", wanted.subject, problem)
            return
        self._streams.append(StreamRoute(importer, exporter.name, source, local, renames, wanted.allow_trace))

    def _add_service(self, importer: str, wanted: ServiceImport) -> None:
        exporter = self._exporter(importer, "service", wanted)
        if exporter is None:
            return
        source = wanted.subject.encode()
        local = (wanted.local or wanted.subject).encode()
        pattern = untokenize_wildcards(local)[0] if has_wildcard(source) else local
        problem = ""
        renames = None
        export = export_of(exporter, source)
        duplicate = self._service(importer, exporter.name, pattern)
        if not is_valid(local) or not is_valid(source):
            problem = INVALID_SUBJECT
        elif not _admits(export, source, importer, is_activated=wanted.is_activated):
            problem = SERVICE_NOT_AUTHORIZED
        elif self._services_form_cycle(exporter.name, pattern, {importer}):
            problem = FORMS_CYCLE
        elif duplicate is not None:
            problem = (
                f'duplicate service import subject "{local.decode()}", previously used in import for '
                f'account "{duplicate.exporter}", subject "{duplicate.source.decode()}"'
            )
        elif has_wildcard(source) and source != local:
            try:
                there = SubjectTransform(
                    untokenize_wildcards(source)[0], tokenize_wildcards(local), strict=True
                )
            except TransformInvalid as error:
                problem = (
                    f'failed to create mapping transform for service import subject from "{local.decode()}" '
                    f'to "{wanted.subject}": {error}'
                )
            else:
                renames = there.reversed()
                pattern = renames.source
        if problem:
            self._refuse(importer, "service", wanted.subject, problem)
            return
        self._services.append(
            ServiceRoute(importer, exporter.name, pattern, source, renames, export, wanted.share)
        )

    def _service(self, importer: str, exporter: str, local: bytes) -> ServiceRoute | None:
        for held in self._services:
            if (held.importer, held.exporter, held.local) == (importer, exporter, local):
                return held
        return None

    def _services_form_cycle(self, account: str, local: bytes, visited: set[str]) -> bool:
        for held in self._services:
            if held.importer == account and overlaps(local, held.source):
                if held.exporter in visited:
                    return True
                visited.add(account)
                following = held.local if is_subset(held.local, local) else local
                if self._services_form_cycle(held.exporter, following, visited):
                    return True
        return False

    def _streams_form_cycle(self, account: AccountOptions, local: bytes, visited: set[str]) -> bool:
        if not any(is_subset(local, export.subject.encode()) for export in account.stream_exports):
            return False
        for held in self._streams:
            if held.importer == account.name and overlaps(local, held.local):
                if held.exporter in visited:
                    return True
                visited.add(account.name)
                following = held.local if is_subset(held.local, local) else local
                if self._streams_form_cycle(self._accounts[held.exporter], following, visited):
                    return True
        return False


def _covering(exports: Iterable[Export], subject: bytes) -> Export | None:
    wider: Export | None = None
    for export in exports:
        pattern = export.subject.encode()
        if pattern == subject:
            return export
        if wider is None and is_subset(subject, pattern):
            wider = export
    return wider


def _admits(
    export: StreamExport | ServiceExport | None, subject: bytes, importer: str, *, is_activated: bool
) -> bool:
    if export is None:
        return False
    if export.token_position:
        parts = tokens(subject)
        return export.token_position <= len(parts) and parts[export.token_position - 1] == importer.encode()
    if export.is_token_required:
        return is_activated
    return export.accounts is None or importer in export.accounts
