"""What the configuration file's blocks are made of: the base of their models, and kinds of values.

Each block takes its keys in any case and under each of the reference's names; what is no key of it is refused.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from headrace.core.base.clock import NS_PER_S
from headrace.core.config.values import (
    Address,
    checked_port,
    parse_address,
    parse_duration,
    parse_storage_size,
)


class Block(BaseModel):
    """A map of the configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    aliases: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _use_canonical_keys(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        written = cast("dict[str, object]", value)
        return {cls.aliases.get(key.lower(), key.lower()): item for key, item in written.items()}


# kinds of values


def _duration_ns(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(info.context, list):
            info.context.append(info.field_name)
        return int(value * NS_PER_S)
    return value


def _quoted_duration_ns(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('expected a duration in quotes, such as "2m"')  # noqa: TRY004  (pydantic collects ValueError)
    return parse_duration(value)


def _seconds_ns(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    return int(value * NS_PER_S) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _address(value: object) -> object:
    if isinstance(value, str):
        return parse_address(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Address("", checked_port(value))
    raise ValueError('expected a port or "host:port"')


def _port(value: object) -> object:
    return checked_port(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _storage_size(value: object) -> object:
    return parse_storage_size(value) if isinstance(value, str) else value


def as_list(value: object) -> object:
    """Take a text for a list of one."""
    return [value] if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration_ns)]
"""Text with a unit; a bare number is taken for seconds, with a warning."""

QuotedDuration = Annotated[int, BeforeValidator(_quoted_duration_ns)]
Seconds = Annotated[int, BeforeValidator(_seconds_ns)]
"""A bare number is seconds, and no warning is due."""

Listen = Annotated[Address, BeforeValidator(_address)]
Port = Annotated[int, BeforeValidator(_port)]
StorageSize = Annotated[int, BeforeValidator(_storage_size)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Tags = Annotated[list[str], BeforeValidator(as_list)]
