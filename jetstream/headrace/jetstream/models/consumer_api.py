"""What is asked of the consumer endpoints."""

from typing import Literal

from pydantic import Field, field_validator

from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.jetstream.models.times import parse_time
from headrace.jetstream.models.wire import Int64, Uint64, WireModel


class CreateRequest(WireModel):
    """The body of every form of CONSUMER.CREATE."""

    stream_name: str = ""
    config: ConsumerConfig = Field(default_factory=ConsumerConfig)
    action: Literal["", "create", "update"] = ""
    pedantic: bool = False


class PauseRequest(WireModel):
    """The body of CONSUMER.PAUSE; no time, or one that has passed, resumes."""

    pause_until: str = ""

    @field_validator("pause_until")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if value:
            parse_time(value)
        return value

    @property
    def pause_until_ns(self) -> int:
        """Nanoseconds since 1970; 0: none."""
        return parse_time(self.pause_until) if self.pause_until else 0


class PageRequest(WireModel):
    """The body of CONSUMER.NAMES and CONSUMER.LIST."""

    offset: Int64 = 0


class UnpinRequest(WireModel):
    """The body of CONSUMER.UNPIN."""

    group: str = ""


class ResetRequest(WireModel):
    """The body of CONSUMER.RESET; 0 goes back to the ack floor."""

    seq: Uint64 = 0
