"""API levels: which feature needs which, and what a configuration says about it in its metadata.

`_nats.req.level` is stored with a configuration; `_nats.ver` and `_nats.level` are added to most answers and never
stored. A client's own values for these keys are dropped.

Source: the JetStream API reference, "API levels".
"""

from collections.abc import Mapping
from typing import Final

from headrace.core import headers
from headrace.jetstream.models.stream_config import StreamConfig

API_LEVEL: Final = 5
REQUIRED_HEADER: Final = b"Nats-Required-Api-Level"
REQUIRED_KEY: Final = "_nats.req.level"
_RESERVED: Final = "_nats."


def is_served(block: bytes) -> bool:
    """Tell whether the API level that a request's headers ask for, if any, is one of ours."""
    wanted = headers.get(block, REQUIRED_HEADER) if block else None
    if not wanted:
        return True
    return wanted.isdigit() and len(wanted) < 10 and int(wanted) <= API_LEVEL


def own_metadata(metadata: Mapping[str, str], level: int) -> dict[str, str]:
    """Give the metadata to store: the client's own keys and the level that the features need."""
    kept = {key: value for key, value in metadata.items() if not key.startswith(_RESERVED)}
    return kept | {REQUIRED_KEY: str(level)}


def shown_metadata(metadata: Mapping[str, str], version: str) -> dict[str, str]:
    """Give stored metadata with what an answer adds."""
    return dict(metadata) | {"_nats.level": str(API_LEVEL), "_nats.ver": version}


def without_reserved(metadata: Mapping[str, str]) -> dict[str, str]:
    """Give the client's own keys, by which two configurations are compared."""
    return {key: value for key, value in metadata.items() if not key.startswith(_RESERVED)}


def stream_level(config: StreamConfig) -> int:
    """Give the level that a stream's features need."""
    if config.allow_batched:
        return 4
    is_counting = config.allow_msg_counter or config.allow_atomic or config.allow_msg_schedules
    if is_counting or config.persist_mode == "async":
        return 2
    return 1 if config.allow_msg_ttl or config.subject_delete_marker_ttl > 0 else 0


def unsupported_reason(metadata: Mapping[str, str]) -> str:
    """Tell why a stored configuration cannot be served by this version; empty where it can."""
    level = metadata.get(REQUIRED_KEY, "0")
    if level.isdigit() and len(level) < 10 and int(level) <= API_LEVEL:
        return ""
    return f"unsupported - required API level: {level}, current API level: {API_LEVEL}"
