"""A JetStream request was refused, and why.

`ApiError` is raised wherever a rule is broken, and becomes the `error` object of an answer in one place: the
dispatcher for API requests, the publish path for publishes. The kinds are in `error_table`, which is generated.
"""

from typing import NamedTuple

from headrace.core.base.errors import HeadraceError


class ErrorKind(NamedTuple):
    """One row of the protocol's error table. `description` may hold `{placeholders}`."""

    code: int
    err_code: int
    description: str


class ApiError(HeadraceError):
    """A JetStream request was refused; nothing was changed.

    `ApiError(error_table.CONSUMER_CREATE, err="...")` fills the description's placeholders.
    """

    def __init__(self, kind: ErrorKind, **values: object) -> None:
        self.kind = kind
        self.code = kind.code
        self.err_code = kind.err_code
        self.description = kind.description.format_map(values) if values else kind.description
        super().__init__(f"{self.description} ({self.err_code})")

    def body(self) -> dict[str, int | str]:
        """Give the `error` object of an answer."""
        return {"code": self.code, "err_code": self.err_code, "description": self.description}
