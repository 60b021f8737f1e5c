"""A consumer's configuration, with the wire's names, units and defaults.

The model holds what JSON can say. What a configuration may not say, and what is filled in for what it does not say,
is decided in `consumers/rules.py`.
"""

from typing import Any, Final, Literal

from pydantic import Field, field_validator

from headrace.jetstream.models.times import encode_time, parse_time
from headrace.jetstream.models.wire import Int64, Strings, Uint64, WireModel, without_empty

_NOTHING: Final[tuple[object, ...]] = (None, "", 0, [], {})
_ALWAYS: Final = frozenset({"deliver_policy", "ack_policy", "replay_policy", "num_replicas", "metadata"})


class ConsumerConfig(WireModel):
    """How a consumer is. Durations are nanoseconds."""

    durable_name: str = ""
    name: str = ""
    description: str = ""
    deliver_policy: Literal[
        "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", "undefined"
    ] = "all"
    opt_start_seq: Uint64 = 0
    opt_start_time: str = ""
    ack_policy: Literal["none", "all", "explicit", "flow_control"] = "none"
    ack_wait: Int64 = 0
    max_deliver: Int64 = 0
    backoff: tuple[Int64, ...] = Field(default=(), strict=False)
    filter_subject: str = ""
    filter_subjects: Strings = ()
    replay_policy: Literal["instant", "original"] = "instant"
    rate_limit_bps: Uint64 = 0
    sample_freq: str = ""
    max_waiting: Int64 = 0
    max_ack_pending: Int64 = 0
    flow_control: bool = False
    headers_only: bool = False
    max_batch: Int64 = 0
    max_expires: Int64 = 0
    max_bytes: Int64 = 0
    deliver_subject: str = ""
    deliver_group: str = ""
    idle_heartbeat: Int64 = 0
    inactive_threshold: Int64 = 0
    num_replicas: Int64 = 0
    mem_storage: bool = False
    direct: bool = False
    sourcing: bool = False
    metadata: dict[str, str] = Field(default_factory=dict[str, str])
    pause_until: str = ""
    priority_groups: Strings = ()
    priority_policy: Literal["", "none", "overflow", "pinned_client", "prioritized"] = ""
    priority_timeout: Int64 = 0

    @field_validator("opt_start_time", "pause_until")
    @classmethod
    def _one_form(cls, value: str) -> str:
        """Times in UTC are kept in one form; the zero time says nothing."""
        time_ns = parse_time(value) if value else 0
        if not time_ns:
            return ""
        return encode_time(time_ns) if value[-1] in "Zz" else value

    @property
    def is_push(self) -> bool:
        return bool(self.deliver_subject)

    @property
    def is_durable(self) -> bool:
        return bool(self.durable_name)

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter subjects, however they were given; none means every subject."""
        return (self.filter_subject,) if self.filter_subject else self.filter_subjects

    @property
    def opt_start_time_ns(self) -> int:
        """Nanoseconds since 1970, 0 where none is given."""
        return parse_time(self.opt_start_time) if self.opt_start_time else 0

    @property
    def pause_until_ns(self) -> int:
        """Nanoseconds since 1970, 0 where none is given."""
        return parse_time(self.pause_until) if self.pause_until else 0

    def fields(self) -> dict[str, Any]:
        """Give the wire form: what clients rely on always, the rest where it says something."""
        shown: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json").items():
            bare = without_empty(value)
            if name in _ALWAYS or bare not in _NOTHING:
                shown[name] = bare
        return shown
