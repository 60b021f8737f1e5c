"""From an account's claims to the account as a server has it: the same values as a configuration file gives.

Also the tokens by which an importer shows that it may import (activations): they are checked here, as the
routes know only whether one was found good.

Source: what the reference server makes of account claims.
"""

from collections.abc import Mapping
from typing import Final

from headrace.core import exports as shared
from headrace.core.auth.jwt.account_claims import (
    AccountClaims,
    ClaimedExport,
    ClaimedImport,
    JetStreamTier,
    is_revoked,
)
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.token import TokenKind, decode_kind
from headrace.core.options import AccountJetStreamOptions, AccountOptions
from headrace.core.subject import has_wildcard, is_subset, is_valid

TIER: Final = "R1"
"""The tier of streams with one replica: the only one that a single server has."""

STREAM: Final = "stream"


class Activations:
    """Which imports of an account are activated, and until when the earliest of them is."""

    def __init__(self, claims: AccountClaims, exporters: Mapping[str, AccountClaims], now_s: int) -> None:
        self.expires = 0
        self._claims = claims
        self._exporters = exporters
        self._now_s = now_s

    def holds(self, wanted: ClaimedImport) -> bool:
        """Tell whether the import carries a good token, and remember when that ends."""
        exporter = self._exporters.get(wanted.account)
        if not wanted.token or exporter is None:
            return False
        try:
            token = decode_kind(wanted.token, TokenKind.ACTIVATION)
            old = token.version <= 1
            issuer_account = (token.top if old else token.body).text("issuer_account")
            subject = token.body.text("subject")
            kind = token.body.text("type" if old else "kind")
        except BadToken:
            return False
        there = wanted.to if wanted.kind != STREAM and wanted.to else wanted.subject
        good = (
            wanted.account in {token.issuer, issuer_account}
            and (not issuer_account or token.issuer in {exporter.name, *exporter.signing_keys})
            and token.subject == self._claims.name
            and kind == wanted.kind
            and is_valid(subject.encode())
            and is_subset(there.encode(), subject.encode())
            and not token.time_problem(self._now_s)
            and not 0 < token.expires <= self._now_s
            and not is_revoked(_revocations(exporter, wanted, there), token.subject, token.issued_at)
        )
        if good and token.expires:
            self.expires = min(self.expires or token.expires, token.expires)
        return good


def account_options(claims: AccountClaims, activations: Activations) -> AccountOptions:
    """Give the account as the server has it."""
    trace = claims.trace_destination
    traces = bool(trace) and is_valid(trace.encode()) and not has_wildcard(trace.encode())
    return AccountOptions(
        name=claims.name,
        name_tag=claims.token.name,
        jetstream=_jetstream(claims.jetstream),
        max_connections=claims.limits.connections,
        max_subscriptions=_subscriptions(claims.limits.subscriptions),
        max_payload=claims.limits.payload,
        max_leafnodes=claims.limits.leafnodes,
        stream_exports=tuple(_stream_export(each) for each in claims.exports if each.kind == STREAM),
        service_exports=tuple(_service_export(each) for each in claims.exports if each.kind != STREAM),
        stream_imports=tuple(
            shared.StreamImport(
                each.account,
                each.subject,
                each.local or (f"{each.to.removesuffix('.')}.{each.subject}" if each.to else ""),
                each.allow_trace,
                activations.holds(each),
            )
            for each in claims.imports
            if each.kind == STREAM
        ),
        service_imports=tuple(
            shared.ServiceImport(each.account, *_service_subjects(each), each.share, activations.holds(each))
            for each in claims.imports
            if each.kind != STREAM
        ),
        mappings=tuple(
            shared.Mapping(
                mapping.source, tuple(shared.MappingDestination(*each) for each in mapping.destinations)
            )
            for mapping in claims.mappings
        ),
        trace=shared.MessageTrace(trace, claims.trace_sampling) if traces else None,
    )


def _subscriptions(limit: int) -> int:
    """Give the limit as routes take it, where 0 is "no limit": an account that may have none keeps one at most."""
    return limit or 1


def _service_subjects(wanted: ClaimedImport) -> tuple[str, str]:
    """Give the exporter's subject and the own one; the older spelling has them the other way round."""
    return (wanted.to, wanted.subject) if wanted.to and not wanted.local else (wanted.subject, wanted.local)


def _stream_export(export: ClaimedExport) -> shared.StreamExport:
    return shared.StreamExport(
        export.subject, token_position=export.token_position, is_token_required=export.is_token_required
    )


def _service_export(export: ClaimedExport) -> shared.ServiceExport:
    types = {each.value: each for each in shared.ResponseType}
    latency = (
        shared.Latency(export.latency_subject, export.latency_sampling) if export.latency_subject else None
    )
    return shared.ServiceExport(
        export.subject,
        token_position=export.token_position,
        is_token_required=export.is_token_required,
        response=types.get(export.response_type, shared.ResponseType.SINGLETON),
        response_threshold_ns=export.response_threshold_ns or shared.RESPONSE_THRESHOLD_NS,
        latency=latency,
        allow_trace=export.allow_trace,
    )


def _jetstream(tiers: Mapping[str, JetStreamTier]) -> AccountJetStreamOptions | None:
    if not any(tier.is_enabled for tier in tiers.values()):
        return None
    tier = tiers.get("") or tiers.get(TIER)
    if tier is None:  # tiers for other numbers of replicas alone: here nothing may be stored
        return AccountJetStreamOptions(max_memory=0, max_storage=0, max_streams=0, max_consumers=0)
    return AccountJetStreamOptions(
        max_memory=tier.memory,
        max_storage=tier.disk,
        max_streams=tier.streams,
        max_consumers=tier.consumers,
        max_ack_pending=tier.max_ack_pending,
        memory_max_stream_bytes=tier.memory_max_stream_bytes,
        storage_max_stream_bytes=tier.disk_max_stream_bytes,
        max_bytes_required=tier.max_bytes_required,
    )


def _revocations(exporter: AccountClaims, wanted: ClaimedImport, subject: str) -> Mapping[str, int]:
    """Give the revocations of the export that an import goes by."""
    for export in exporter.exports:
        if export.kind == wanted.kind and is_subset(subject.encode(), export.subject.encode()):
            return export.revocations
    return {}
