"""The door of the JetStream API: from a message on `$JS.API.>` to an endpoint, and back with an answer.

One `AccountApi` per account is the sink of that account's requests. It finds the endpoint, sees that the
envelope's rules are kept (API level, body), calls the handler, and sends the answer from `after_sync`: what an
answer says was true of the appended state, and is durable when somebody hears it. So nothing waits while a
stream is written to without end, and every answer still stands for what is on disk.

Nothing that a client sends makes anything raise out of here. `ApiError` is a refusal; anything else is a
mistake of ours, which is logged, and answered with 10051.

Source: the JetStream API reference, section 1.
"""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from headrace.core.base.clock import NS_PER_MS, NS_PER_S
from headrace.core.base.message import Batch, Message
from headrace.core.bus import Caller
from headrace.core.subject import matches, tokens
from headrace.jetstream import error_table
from headrace.jetstream.accounts import AccountState
from headrace.jetstream.api.request import RESPONSE_PREFIX, ApiRequest, Body, Endpoint
from headrace.jetstream.context import Context
from headrace.jetstream.errors import ApiError
from headrace.jetstream.levels import is_served
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.models.wire import encode_json
from headrace.storage.interface import DiskFull, IndexRebuilding, StorageError

LOOKUP_WAIT_NS: Final = 4 * NS_PER_S
"""How long a request waits for an index that is rebuilt. Most clients give up after five seconds."""

WAITING_MAX: Final = 10_000
"""Answers of one account that may wait for a sync; requests beyond are dropped, and an advisory says how many."""

TURN_NS: Final = 2 * NS_PER_MS
"""How long one account's requests may keep a turn of the loop; the one that is begun is finished."""

AUDIT_SUBJECT: Final = b"$JS.EVENT.ADVISORY.API"
OVERFLOW_SUBJECT: Final = b"$JS.EVENT.ADVISORY.API.LIMIT_REACHED"

_NOT_ANSWERED_HERE: Final = (b"CONSUMER.MSG.NEXT.", b"DIRECT.GET.")


class Router:
    """Finds the endpoint of a request by its subject's first tokens."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_start: dict[bytes, list[tuple[bytes, Endpoint]]] = {}
        for endpoint in endpoints:
            pattern = endpoint.subject.encode()
            self._by_start.setdefault(_start(pattern), []).append((pattern, endpoint))

    def find(self, suffix: bytes) -> Endpoint | None:
        """Give the endpoint for what stands behind `$JS.API.`, None where there is none."""
        for pattern, endpoint in self._by_start.get(_start(suffix), ()):
            if matches(pattern, suffix):
                return endpoint
        return None


def _start(suffix: bytes) -> bytes:
    first, _, rest = suffix.partition(b".")
    return first + b"." + rest.partition(b".")[0]


class AccountApi:
    """The API of one account; `account` None: JetStream is not enabled for it, and every request hears so."""

    def __init__(self, context: Context, router: Router, name: str, account: AccountState | None) -> None:
        self._context = context
        self._router = router
        self._name = name
        self._account = account
        self._waiting = 0
        self._dropped = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._is_busy = False
        self._prefixes = context.api_prefixes

    def open(self) -> None:
        """Listen. The prefixes that streams and consumers serve themselves do not count as answered here."""
        for prefix in self._prefixes:
            self._context.bus.capture(self._name, prefix + b">", self, answers=_answers_under(prefix))

    def enable(self, account: AccountState) -> None:
        """Serve from now on, where JetStream was not enabled."""
        self._account = account

    def close(self) -> None:
        """Drop the requests that no turn had time for: nothing is changed any more."""
        self._queue.clear()

    def on_messages(self, batch: Batch) -> None:
        """Take each request; those for which there is no time in this turn are done in the next ones, in order."""
        for message in batch:
            self._take(message)
        if not self._is_busy:
            self._work()

    def _take(self, message: Message) -> None:
        prefix = next(prefix for prefix in self._prefixes if message.subject.startswith(prefix))
        endpoint = self._router.find(message.subject[len(prefix) :])
        if endpoint is None:
            return
        if self._waiting + len(self._queue) >= WAITING_MAX:
            self._drop()
            return
        caller = self._context.bus.caller(message.connection_id) if message.connection_id else None
        deadline_ns = self._context.scheduler.monotonic_ns() + LOOKUP_WAIT_NS
        self._queue.append(partial(self._do, endpoint, message, prefix, caller, deadline_ns))

    def _work(self) -> None:
        scheduler, queue = self._context.scheduler, self._queue
        end_ns = scheduler.monotonic_ns() + TURN_NS
        try:
            while queue:
                queue.popleft()()
                if scheduler.monotonic_ns() > end_ns:
                    break
        finally:  # whatever one request has run into, those behind it are done
            self._is_busy = bool(queue)
            if queue:
                scheduler.call_soon(self._work_on)

    def _work_on(self) -> None:
        self._work()
        self._context.bus.request_turn()

    def _do(
        self, endpoint: Endpoint, message: Message, prefix: bytes, caller: Caller | None, deadline_ns: int
    ) -> None:
        try:
            fields, error = self._outcome(endpoint, message, prefix, caller)
        except IndexRebuilding as rebuilding:
            if self._context.scheduler.monotonic_ns() < deadline_ns:
                self._park(
                    rebuilding, partial(self._do, endpoint, message, prefix, caller, deadline_ns), deadline_ns
                )
                return
            fields, error = None, ApiError(error_table.STREAM_GENERAL, err=rebuilding)
        if fields is None and error is None:
            return
        self._waiting += 1

        def send(failure: StorageError | None) -> None:
            self._waiting -= 1
            if failure is not None:
                self._answer(endpoint, message, caller, {}, _unknown_outcome())
            else:
                self._answer(endpoint, message, caller, fields or {}, error)

        self._context.store.after_sync(send)

    def _park(self, rebuilding: IndexRebuilding, again: Callable[[], None], deadline_ns: int) -> None:
        """Do a request again when the log's index is ready, or, to refuse it, when that takes too long."""
        self._waiting += 1
        is_waiting = True

        def go_on() -> None:
            nonlocal is_waiting
            if is_waiting:
                is_waiting = False
                timer.cancel()
                self._waiting -= 1
                again()
                self._context.store.commit()

        timer = self._context.scheduler.call_at(deadline_ns, go_on)
        rebuilding.when_ready(go_on)

    def _outcome(
        self, endpoint: Endpoint, message: Message, prefix: bytes, caller: Caller | None
    ) -> tuple[dict[str, Any] | None, ApiError | None]:
        """Do what is asked; give the answer's fields, or why not, or neither for silence. Raises IndexRebuilding."""
        try:
            if not is_served(message.headers):
                raise ApiError(error_table.REQUIRED_API_LEVEL)
            if self._account is None:
                raise ApiError(error_table.NOT_ENABLED_FOR_ACCOUNT)
            request = ApiRequest(
                account=self._account,
                subject=message.subject,
                tokens=tuple(
                    token.decode("utf-8", "replace") for token in tokens(message.subject[len(prefix) :])
                ),
                body=message.payload,
                headers=message.headers,
                reply=message.reply,
                caller=caller,
                is_strict=self._context.options.strict,
            )
            _check_body(endpoint, request)
            return endpoint.handler(request), None
        except ApiError as error:
            return None, error
        except IndexRebuilding:
            raise
        except DiskFull:
            return None, ApiError(error_table.INSUFFICIENT_RESOURCES)
        except StorageError as error:
            return None, ApiError(error_table.STREAM_GENERAL, err=error)
        except Exception:  # noqa: BLE001  (the root of a request: one request's bug must not end the server)
            self._report(message.subject, traceback.format_exc())
            return None, ApiError(error_table.STREAM_GENERAL, err="internal error")

    def _report(self, subject: bytes, trace: str) -> None:
        self._context.log.error(
            f"JetStream request on '{subject.decode('utf-8', 'replace')}' failed: {trace}"
        )

    def _answer(
        self,
        endpoint: Endpoint,
        message: Message,
        caller: Caller | None,
        fields: Mapping[str, Any],
        error: ApiError | None,
    ) -> None:
        body: dict[str, Any] = {"type": RESPONSE_PREFIX + endpoint.type}
        if error is not None:
            body["error"] = error.body()
            body.update(endpoint.error_fields)
        else:
            body.update(fields)
        answer = encode_json(body)
        if message.reply:
            self._context.bus.publish(self._name, message.reply, answer)
        if self._account is not None and (error is not None or not endpoint.is_quiet):
            self._account.api_total += 1
            self._account.api_errors += error is not None
            self._audit(message, caller, answer)
        self._context.bus.request_turn()

    def _audit(self, message: Message, caller: Caller | None, answer: bytes) -> None:
        if not self._context.bus.has_interest(self._name, AUDIT_SUBJECT):
            return
        advisory: dict[str, Any] = {
            "type": "io.nats.jetstream.advisory.v1.api_audit",
            "server": self._context.server_name,
            "client": self._client(caller),
            "subject": message.subject.decode("utf-8", "replace"),
        }
        if message.payload:
            advisory["request"] = message.payload.decode("utf-8", "replace")
        advisory["response"] = answer.decode("utf-8", "replace")
        self._context.advise(self._name, AUDIT_SUBJECT, advisory)

    def _client(self, caller: Caller | None) -> dict[str, Any]:
        if caller is None:
            return {"acc": self._name}
        known = {
            "start": encode_time(caller.start_ns),
            "host": caller.host,
            "id": caller.connection_id,
            "acc": caller.account,
            "user": caller.user,
            "name": caller.name,
            "lang": caller.language,
            "ver": caller.version,
            "rtt": caller.rtt_ns,
            "server": self._context.server_name,
            "kind": "Client",
            "client_type": "nats",
        }
        return {key: value for key, value in known.items() if value}

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped > 1:
            return

        def tell(_: StorageError | None) -> None:
            dropped, self._dropped = self._dropped, 0
            self._context.log.warning(f"JetStream API of account '{self._name}': {dropped} requests dropped")
            body = {
                "type": "io.nats.jetstream.advisory.v1.api_limit_reached",
                "server": self._context.server_name,
                "dropped": dropped,
            }
            self._context.advise(self._context.system_account, OVERFLOW_SUBJECT, body)

        self._context.store.after_sync(tell)


def _answers_under(prefix: bytes) -> Callable[[bytes], bool]:
    excluded = tuple(prefix + start for start in _NOT_ANSWERED_HERE)
    return lambda subject: not subject.startswith(excluded)


def _unknown_outcome() -> ApiError:
    return ApiError(
        error_table.STREAM_GENERAL, err="write or sync failed, the outcome of the request is unknown"
    )


def _check_body(endpoint: Endpoint, request: ApiRequest) -> None:
    if endpoint.body is Body.EMPTY and not request.has_empty_body:
        raise ApiError(error_table.NOT_EMPTY_REQUEST)
    if endpoint.body is Body.NEEDED and request.has_empty_body:
        raise ApiError(error_table.BAD_REQUEST)


def page(count: int, offset: int, limit: int) -> tuple[dict[str, int], slice]:
    """Give the paging fields of an answer, and which of `count` items are on the page."""
    start = min(max(0, offset), count)
    return {"total": count, "offset": start, "limit": limit}, slice(start, start + limit)
