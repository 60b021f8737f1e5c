"""Following a stream of another account, reached through what the accounts share.

The request goes the way a client's would: `<api prefix>.CONSUMER.CREATE.<stream>.<name>`, through the account's
imports, to the API of whichever account answers there. That is the permission. The name is made up for this one
request and known to nobody else; where the API finds a follower waiting under it, it hands it the stream, and from
then on the origin's log is read as one of the same account is. So nothing needs to be imported for
deliveries, and no consumer stands on the origin.

While nobody answers, or the answer is a refusal, the request is made again.
"""

import json
from typing import TYPE_CHECKING, Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S, Timer
from headrace.core.base.message import Batch
from headrace.core.bus import Registration
from headrace.jetstream import error_table
from headrace.jetstream.error_table import STREAM_NOT_FOUND
from headrace.jetstream.errors import ApiError, ErrorKind
from headrace.jetstream.mirrors.follower import Follower
from headrace.jetstream.mirrors.positions import Positions
from headrace.jetstream.models.stream_config import StreamSource
from headrace.jetstream.models.wire import InvalidJson, parse_json

if TYPE_CHECKING:
    from headrace.jetstream.context import Context
    from headrace.jetstream.streams.stream import Stream

FIRST_NS: Final = 100 * NS_PER_MS
AGAIN_NS: Final = NS_PER_S
AGAIN_MAX_NS: Final = 10 * NS_PER_S

INBOX_PREFIX: Final = b"$JS.M."


def is_remote(context: "Context", source: StreamSource) -> bool:
    """Tell whether a source is reached through imports; a server's own domain is no other place."""
    return source.external is not None and source.external.api.encode() + b"." not in context.api_prefixes


class RemoteFollower(Follower):
    """A follower that asks for its origin."""

    def __init__(self, target: "Stream", source: StreamSource, positions: Positions | None) -> None:
        super().__init__(target, source, positions)
        assert source.external is not None, "what is remote says where"
        self._api = source.external.api.encode()
        self._name = ""
        self._wait_ns = AGAIN_NS
        self._timer: Timer | None = None
        self._inbox: Registration | None = None

    def open(self) -> None:
        """Ask, a little later: the server may just be starting."""
        self._ask_in(FIRST_NS)

    def close(self) -> None:
        """Ask and follow no more."""
        self._end_request()
        super().close()

    def on_origin(self, origin: "Stream") -> None:
        """The request has arrived."""
        if origin is self._target:
            raise ApiError(error_table.STREAM_INVALID_CONFIG, err="detected cycle")
        self._end_request()
        self._wait_ns = AGAIN_NS
        super().on_origin(origin)

    def on_origin_gone(self) -> None:
        """The origin was deleted: ask for the next one of that name."""
        super().on_origin_gone()
        self._ask_in(AGAIN_NS)

    def _ask_in(self, wait_ns: int) -> None:
        if not self.is_closed:
            scheduler = self._target.context.scheduler
            self._timer = scheduler.call_at(scheduler.monotonic_ns() + wait_ns, self._ask)

    def _ask(self) -> None:
        self._end_request()
        context, account = self._target.context, self._target.account.name
        self._name = context.chance.nuid()
        context.expected_followers[self._name] = self
        inbox = INBOX_PREFIX + self._name.encode()
        self._inbox = context.bus.capture(account, inbox, self)
        config = {"name": self._name, "deliver_subject": inbox.decode(), "ack_policy": "none"}
        body = {"stream_name": self.source.name, "config": config | {"direct": True, "sourcing": True}}
        subject = f"CONSUMER.CREATE.{self.source.name}.{self._name}".encode()
        context.bus.publish(account, self._api + b"." + subject, json.dumps(body).encode(), reply=inbox)
        self._ask_in(self._wait_ns)
        self._wait_ns = min(2 * self._wait_ns, AGAIN_MAX_NS)

    def on_messages(self, batch: Batch) -> None:
        """The answer to a request is a refusal: what is granted is not answered."""
        try:
            answer = parse_json(batch[0].payload)
        except InvalidJson:
            return
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict) and isinstance(error.get("description"), str):
            kind = ErrorKind(int(error.get("code", 0)), int(error.get("err_code", 0)), "{err}")
            known = kind.err_code == STREAM_NOT_FOUND.err_code
            self.error = ApiError(error_table.STREAM_NOT_FOUND if known else kind, err=error["description"])

    def _end_request(self) -> None:
        self._target.context.expected_followers.pop(self._name, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None
