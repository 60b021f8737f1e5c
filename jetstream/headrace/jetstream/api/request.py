"""An API request on its way to a handler, and what an endpoint is.

An endpoint is a row of a table: where it is asked, what its answer is called, what may stand in its body, and the
function that does it. A handler takes an `ApiRequest` and gives the answer's fields (the dispatcher adds `type`), or
None to stay silent; `ApiError` raised is the refusal. Handlers see and change the *appended* state; the dispatcher
sends their answers when all of that is durable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from headrace.core.bus import Caller
from headrace.jetstream import error_table
from headrace.jetstream.accounts import AccountState
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.wire import InvalidJson, Model, decode, parse_json

RESPONSE_PREFIX: Final = "io.nats.jetstream.api.v1."


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request. `tokens` are those behind `$JS.API.`: `("STREAM", "INFO", "ORDERS")`.

    `caller` is None for a request of the server's own, or when its connection has gone.
    """

    account: AccountState
    subject: bytes
    tokens: tuple[str, ...]
    body: bytes
    headers: bytes
    reply: bytes
    caller: Caller | None
    is_strict: bool = True

    def decode(self, model: type[Model]) -> Model:
        """Make a model of the body; none, or `null`, leaves every field at its default. Raises ApiError 10025."""
        try:
            value = parse_json(self.body) if self.body else None
            return model() if value is None else decode(model, value, lenient=not self.is_strict)
        except InvalidJson as error:
            raise ApiError(error_table.INVALID_JSON, err=error) from None

    def decode_optional(self, model: type[Model]) -> Model:
        """Make a model of the body; one that does not begin like JSON counts as empty. Raises ApiError 10025."""
        if self.body.lstrip()[:1] not in (b"{", b"["):
            return model()
        return self.decode(model)

    @property
    def has_empty_body(self) -> bool:
        """Whether the body is of no bytes, or a JSON object without keys."""
        if not self.body:
            return True
        try:
            return parse_json(self.body) == {}
        except InvalidJson:
            return False


class Body(Enum):
    """What the dispatcher asks of an endpoint's body before the handler is called."""

    FREE = "free"  # the handler's affair
    EMPTY = "empty"  # no bytes or `{}`, else 10038
    NEEDED = "needed"  # not empty and not `{}`, else 10003


Handler = Callable[[ApiRequest], "dict[str, Any] | None"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the API. `subject` is what follows `$JS.API.`, with `*` and a last `>` as wildcards.

    `type` is without its prefix. `error_fields` stand in a refusal too. The success of a quiet one is neither
    counted nor audited.
    """

    subject: str
    type: str
    handler: Handler
    body: Body = Body.FREE
    error_fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_quiet: bool = False
