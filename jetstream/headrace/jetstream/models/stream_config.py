"""A stream's configuration, with the wire's names, units and defaults.

The model holds what JSON can say, and normalises what the reference server silently normalises. What a
configuration may not say is judged in `streams/rules.py`, in the reference server's order and words.
"""

from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator

from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.models.wire import NOTHING, Int32, Int64, Strings, Uint64, WireModel, without_empty

DUPLICATE_WINDOW_NS: Final = 120 * NS_PER_S
_ALWAYS: Final = frozenset(
    {
        "name",
        "retention",
        "max_consumers",
        "max_msgs",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "max_msg_size",
        "discard",
        "storage",
        "num_replicas",
        "compression",
        "allow_direct",
        "mirror_direct",
        "sealed",
        "deny_delete",
        "deny_purge",
        "allow_rollup_hdrs",
        "consumer_limits",
        "allow_msg_ttl",
        "metadata",
    }
)
_UNLIMITED: Final = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")


class Placement(WireModel):
    """Where a stream should be; kept and shown, without effect on a single server."""

    cluster: str = ""
    tags: Strings = ()
    preferred: str = ""


class SubjectTransform(WireModel):
    """From one subject to another."""

    src: str = ""
    dest: str = ""


class Republish(WireModel):
    """Where stored messages are published again."""

    src: str = ""
    dest: str = ""
    headers_only: bool = False


class ExternalStream(WireModel):
    """How to reach a stream of another account or domain."""

    api: str = ""
    deliver: str = ""


class SourceConsumer(WireModel):
    """A consumer that an administrator made for a mirror or source."""

    name: str = ""
    deliver_subject: str = ""


class StreamSource(WireModel):
    """A stream to copy from."""

    name: str = ""
    opt_start_seq: Uint64 = 0
    opt_start_time: str = ""
    filter_subject: str = ""
    subject_transforms: tuple[SubjectTransform, ...] = Field(default=(), strict=False)
    external: ExternalStream | None = None
    consumer: SourceConsumer | None = None


class ConsumerLimits(WireModel):
    """Bounds for the consumers of a stream."""

    inactive_threshold: Int64 = 0
    max_ack_pending: Int64 = 0


class StreamConfig(WireModel):
    """How a stream is. Durations are nanoseconds."""

    name: str = ""
    description: str = ""
    subjects: Strings = ()
    retention: Literal["limits", "interest", "workqueue"] = "limits"
    max_consumers: Int64 = -1
    max_msgs: Int64 = -1
    max_bytes: Int64 = -1
    max_age: Int64 = 0
    max_msgs_per_subject: Int64 = -1
    max_msg_size: Int32 = -1
    discard: Literal["old", "new"] = "old"
    discard_new_per_subject: bool = False
    storage: Literal["file", "memory"] = "file"
    num_replicas: Int64 = 1
    no_ack: bool = False
    duplicate_window: Int64 = 0
    placement: Placement | None = None
    mirror: StreamSource | None = None
    sources: tuple[StreamSource, ...] = Field(default=(), strict=False)
    compression: Literal["none", "s2"] = "none"
    first_seq: Uint64 = 0
    subject_transform: SubjectTransform | None = None
    republish: Republish | None = None
    allow_direct: bool = False
    mirror_direct: bool = False
    sealed: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup_hdrs: bool = False
    consumer_limits: ConsumerLimits = ConsumerLimits()
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: Int64 = 0
    allow_msg_counter: bool = False
    allow_atomic: bool = False
    allow_batched: bool = False
    allow_msg_schedules: bool = False
    persist_mode: Literal["default", "async"] = "default"
    metadata: dict[str, str] = Field(default_factory=dict[str, str])

    @field_validator("discard", "retention", "storage", mode="before")
    @classmethod
    def _fold_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def in_memory(self) -> bool:
        return self.storage == "memory"

    def defaulted(self) -> Self:
        """Give the configuration with what the server fills in: limits without effect are -1, subjects, window."""
        changes: dict[str, Any] = {}
        for name in _UNLIMITED:
            if getattr(self, name) <= 0:
                changes[name] = -1
        if self.num_replicas == 0:
            changes["num_replicas"] = 1
        if self.placement == Placement():
            changes["placement"] = None
        is_copy = self.mirror is not None or bool(self.sources)
        if not is_copy:
            if not self.subjects:
                changes["subjects"] = (self.name,)
            if self.duplicate_window == 0:
                aged = 0 < self.max_age < DUPLICATE_WINDOW_NS
                changes["duplicate_window"] = self.max_age if aged else DUPLICATE_WINDOW_NS
        return self.replaced(**changes)

    def fields(self) -> dict[str, Any]:
        """Give the wire form: what clients rely on always, the rest where it says something."""
        shown: dict[str, Any] = self.model_dump(mode="json")
        if self.persist_mode == "default":
            del shown["persist_mode"]
        for name, value in list(shown.items()):
            bare = without_empty(value)
            if name in _ALWAYS or bare not in NOTHING:
                shown[name] = bare
            else:
                del shown[name]
        return shown
