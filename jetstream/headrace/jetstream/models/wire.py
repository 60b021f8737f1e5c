"""From the bytes of a request to a model, with every error that a body may hold turned into the documented one.

Two steps. `parse_json` makes plain values; nothing that a peer sends makes it raise anything but `InvalidJson`:
bad UTF-8, deep nesting, numbers of a million digits, halves of surrogate pairs. `decode` makes a model of them;
it names the first thing that does not fit in the words of the reference server.

Models derive from `WireModel`: frozen, typed strictly (a float or a string is no integer), unknown names
refused. As on the reference server, `null` leaves a known name at its default.
"""

import json
from typing import Annotated, Any, Final, NoReturn, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, ValidationInfo, model_validator

from headrace.core.base.errors import HeadraceError

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Uint64 = Annotated[int, Field(ge=0, le=2**64 - 1)]
Strings = Annotated[tuple[str, ...], Strict(False)]

_DIGITS_MAX: Final = 400
"""No number of the API has as many digits; longer ones cost quadratic time."""


NOTHING: Final[tuple[object, ...]] = (None, "", 0, [], {})
"""What is left out of an answer where the reference leaves it out: a false, zero or empty value."""

_LENIENT: Final = "lenient"


class InvalidJson(HeadraceError):
    """A body is not what was asked for; the message is what the error answer says."""


class WireModel(BaseModel):
    """A request, or a part of one, as it stands in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: object, info: ValidationInfo) -> object:
        if not isinstance(values, dict):
            return values
        named = cast("dict[str, Any]", values)
        known = cls.model_fields
        if info.context == _LENIENT:
            return {key: value for key, value in named.items() if value is not None and key in known}
        return {key: value for key, value in named.items() if value is not None or key not in known}

    def replaced(self, **values: object) -> Self:
        """Give a copy with other values; they are trusted, not checked."""
        return self.model_copy(update=values)


Model = TypeVar("Model", bound=WireModel)


def _parse_integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise InvalidJson(f"number of {len(text)} digits")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidJson(f"invalid character '{text[0]}' looking for beginning of value")


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {_without_surrogates(key): _without_surrogates(item) for key, item in named.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def parse_json(body: bytes) -> object:
    """Give the value of a JSON text. Raises InvalidJson."""
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_int=_parse_integer, parse_constant=_refuse_constant)
        # An escaped half of a surrogate pair is legal JSON and cannot be encoded again.
        return _without_surrogates(value) if "\\u" in text else value
    except UnicodeDecodeError as error:
        raise InvalidJson(f"invalid UTF-8 at offset {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at offset {error.pos}") from None
    except RecursionError:
        raise InvalidJson("exceeded max depth") from None


def decode(model: type[Model], value: object, *, lenient: bool = False) -> Model:
    """Make a model of parsed JSON; `lenient` ignores unknown names. Raises InvalidJson."""
    if not isinstance(value, dict):
        raise InvalidJson(f"json: cannot unmarshal {_kind(value)} into Go value of type object")
    try:
        return model.model_validate(value, context=_LENIENT if lenient else None)
    except ValidationError as error:
        raise InvalidJson(_complaint(error)) from None


def encode_json(value: object) -> bytes:
    """Give the JSON text of plain values, compact."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def without_empty(value: object) -> object:
    """Give a JSON value whose objects, at any depth, lack the names that say nothing."""
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        bare = {key: without_empty(item) for key, item in named.items()}
        return {key: item for key, item in bare.items() if item not in NOTHING}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    found = first["input"]
    match first["type"]:
        case "extra_forbidden":
            return f'json: unknown field "{first["loc"][-1]}"'
        case "literal_error":
            return f"can not unmarshal {json.dumps(json.dumps(found))}"
        case "value_error":
            return first["msg"].removeprefix("Value error, ")
        case _:
            return f"json: cannot unmarshal {_kind(found)} into field {path}: {first['msg']}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    return "object" if isinstance(value, dict) else "array"
