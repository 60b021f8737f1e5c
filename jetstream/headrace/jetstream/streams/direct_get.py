"""Direct get: stored messages, sent as they are to whoever asks.

A stream with `allow_direct` listens on `$JS.API.DIRECT.GET.<stream>` (the request is JSON) and on the same with
a subject behind it (the last message of that subject). These are no API calls: they are not counted, and where
nobody listens the requester gets the no-responders status.

An answer shows what was appended when the request came, and is sent when that is durable; so a publisher who
had its ack reads its own write, and nobody reads what may be lost.

Source: the JetStream API reference, section 2.7.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Batch, Message, View
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.levels import is_served
from headrace.jetstream.models.stream_api import DirectGetRequest
from headrace.jetstream.models.times import encode_time, parse_time
from headrace.jetstream.models.wire import InvalidJson, decode, parse_json
from headrace.jetstream.streams.lookup import (
    last_message,
    message_at,
    readable_sequence,
    subject_matcher,
    view_size,
    walk,
)
from headrace.storage.interface import IndexRebuilding, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

SUBJECTS_MAX: Final = 1024
"""The most subjects that one `multi_last` may find."""

BATCH_SIZE_MAX: Final = 64 * 1024 * 1024
BATCH_MESSAGES_MAX: Final = 10_000
"""The most messages of one batch: ours, so that one request cannot occupy the server."""


WAITING_SIZE_MAX: Final = 2 * BATCH_SIZE_MAX
"""Bytes of answers that may wait for a sync."""

PARKED_MAX: Final = 4096
PARKED_WAIT_NS: Final = 10 * NS_PER_S
"""How many requests wait while the log's index is rebuilt, and until when somebody may still want the answer."""

_Line = tuple[int, bytes]

_EMPTY_REQUEST: Final[_Line] = (408, b"Empty Request")
_BAD_REQUEST: Final[_Line] = (408, b"Bad Request")
_MALFORMED_REQUEST: Final[_Line] = (408, b"Malformed Request")
_NOT_FOUND: Final[_Line] = (404, b"Message Not Found")
_NO_RESULTS: Final[_Line] = (404, b"No Results")
_TOO_MANY_RESULTS: Final[_Line] = (413, b"Too Many Results")
_TOO_MANY_REQUESTS: Final[_Line] = (429, b"Too Many Requests")
_LEVEL_REQUIRED: Final[_Line] = (412, b"Required Api Level")

_Reply = tuple[bytes, bytes]


class _Status(Exception):
    def __init__(self, line: _Line) -> None:
        self.line = line


class DirectGet:
    """Answers the direct gets of one stream; the sink of its captures."""

    def __init__(self, stream: "Stream", asked_name: str = "") -> None:
        """`asked_name`: the one in requests' subjects, where it is another one's (a mirror's origin's)."""
        self._stream = stream
        self._asked_name = (asked_name or stream.name).encode()
        self._log = stream.log
        self._name = stream.name.encode()
        self._waiting_size = 0
        self._parked: list[tuple[int, Message]] = []

    def on_messages(self, batch: Batch) -> None:
        """Answer each request, now or when what it saw is durable."""
        for message in batch:
            if message.reply:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        try:
            replies = self._replies(message)
        except IndexRebuilding as rebuilding:
            if len(self._parked) < PARKED_MAX:
                self._park(message, rebuilding)
                return
            replies = [(headers.encode((), *_TOO_MANY_REQUESTS), b"")]
        except _Status as status:
            replies = [(headers.encode((), *status.line), b"")]
        except StorageError:
            replies = [(headers.encode((), 500, b"Read Failed"), b"")]
        stream = self._stream
        size = sum(len(block) + len(payload) for block, payload in replies)
        if self._waiting_size + size > WAITING_SIZE_MAX and not stream.is_durable:
            replies, size = [(headers.encode((), *_TOO_MANY_REQUESTS), b"")], 0
        self._waiting_size += size

        def send(error: StorageError | None) -> None:
            self._waiting_size -= size
            if error is not None:
                return  # what was seen may not be there; the requester asks again
            for block, payload in replies:
                stream.context.bus.publish(stream.account.name, message.reply, payload, headers=block)
            stream.context.bus.request_turn()

        stream.when_durable(send)

    def _park(self, message: Message, rebuilding: IndexRebuilding) -> None:
        """Answer when the log's index is ready; a request is forgotten when its sender has given up."""
        scheduler = self._stream.context.scheduler
        if not self._parked:
            rebuilding.when_ready(self._on_index_ready)
        self._parked.append((scheduler.monotonic_ns() + PARKED_WAIT_NS, message))

    def _on_index_ready(self) -> None:
        parked, self._parked = self._parked, []
        now_ns = self._stream.context.scheduler.monotonic_ns()
        for deadline_ns, message in parked:
            if now_ns < deadline_ns:
                self._answer(message)

    def _replies(self, message: Message) -> list[_Reply]:
        if message.headers and not is_served(message.headers):
            raise _Status(_LEVEL_REQUIRED)
        subject = self._subject_asked(message.subject)
        if subject is None and not message.payload:
            raise _Status(_EMPTY_REQUEST)
        request = self._parse(message.payload)
        if subject is not None:
            return self._last_of_subject(subject, request)
        _check_combination(request)
        if request.multi_last:
            return self._last_of_many(request)
        if request.batch:
            return self._batch(request)
        return [self._plain_reply(self._one(request), request)]

    def _subject_asked(self, subject: bytes) -> bytes | None:
        """Give what stands behind the stream's name, None for the form with a body."""
        mark = b".DIRECT.GET." + self._asked_name
        rest = subject[subject.index(mark) + len(mark) :]
        return rest[1:] if rest else None

    def _parse(self, body: bytes) -> DirectGetRequest:
        if not body:
            return DirectGetRequest()
        try:
            return decode(DirectGetRequest, parse_json(body), lenient=True)
        except InvalidJson:
            raise _Status(_MALFORMED_REQUEST) from None

    # one message

    def _last_of_subject(self, subject: bytes, request: DirectGetRequest) -> list[_Reply]:
        asks_otherwise = (
            request.last_by_subj
            or request.next_by_subj
            or request.multi_last
            or request.seq
            or request.batch
            or request.start_time
            or request.up_to_seq
            or request.up_to_time
        )
        if not subject or asks_otherwise:
            raise _Status(_BAD_REQUEST)
        return [self._plain_reply(last_message(self._log, subject), request)]

    def _one(self, request: DirectGetRequest) -> View | None:
        if request.last_by_subj:
            return last_message(self._log, request.last_by_subj.encode())
        start = self._start(request)
        if request.next_by_subj or request.start_time:
            views = walk(self._log, start, request.next_by_subj, messages_max=1, size_max=1)
            return views[0] if views else None
        return message_at(self._log, start)

    def _plain_reply(self, view: View | None, request: DirectGetRequest) -> _Reply:
        if view is None:
            raise _Status(_NOT_FOUND)
        return (b"" if request.no_hdr else self._headers(view)), view.payload

    def _headers(self, view: View, extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """Give the stored headers and, behind them, what the message is."""
        added = headers.encode(
            (
                (b"Nats-Stream", self._name),
                (b"Nats-Subject", view.subject),
                (b"Nats-Sequence", b"%d" % view.sequence),
                (b"Nats-Time-Stamp", encode_time(view.time_ns).encode()),
                *extra,
            )
        )
        if not view.headers:
            return added
        return view.headers.removesuffix(b"\r\n") + added.removeprefix(b"NATS/1.0\r\n")

    # several messages

    def _start(self, request: DirectGetRequest) -> int:
        if request.start_time:
            return self._log.sequence_at(_time(request.start_time))
        return request.seq

    def _batch(self, request: DirectGetRequest) -> list[_Reply]:
        size_max = request.max_bytes if request.max_bytes > 0 else BATCH_SIZE_MAX
        start = self._start(request)
        count = min(request.batch, BATCH_MESSAGES_MAX)
        views = walk(self._log, start, request.next_by_subj, messages_max=count, size_max=size_max)
        if not views:
            raise _Status(_NOT_FOUND)
        pending = self._log.count_matching(subject_matcher(request.next_by_subj), views[0].sequence)
        return self._numbered(views, pending, request.no_hdr, ())

    def _last_of_many(self, request: DirectGetRequest) -> list[_Reply]:
        ceiling = request.up_to_seq or readable_sequence(self._log)
        if request.up_to_time:
            ceiling = self._log.sequence_at(_time(request.up_to_time)) - 1
            if ceiling < max(1, self._log.head.first_sequence):
                raise _Status(_NO_RESULTS)
        sequences = self._last_sequences(request.multi_last, ceiling)
        sequences = [sequence for sequence in sequences if sequence >= request.seq]
        if not sequences:
            raise _Status(_NO_RESULTS)
        size_left = request.max_bytes if request.max_bytes > 0 else BATCH_SIZE_MAX
        views: list[View] = []
        for sequence in sequences[: request.batch or None]:
            view = self._log.get(sequence)
            if view is None:
                continue
            views.append(view)
            size_left -= view_size(view)
            if size_left <= 0:
                break
        up_to = (b"Nats-UpTo-Sequence", b"%d" % ceiling)
        return self._numbered(views, len(sequences), False, (up_to,))

    def _last_sequences(self, patterns: Iterable[str], ceiling: int) -> list[int]:
        """Give the newest sequence at or below `ceiling` of each subject, ascending."""
        match = SubjectFilter(pattern.encode() for pattern in patterns)
        states = self._log.subjects(match, count_max=SUBJECTS_MAX + 1)
        if len(states) > SUBJECTS_MAX:
            raise _Status(_TOO_MANY_RESULTS)
        found: list[int] = []
        for state in states:
            if state.last_sequence <= ceiling:
                found.append(state.last_sequence)
            elif state.first_sequence <= ceiling:
                view = self._log.last_matching(SubjectFilter((state.subject,)), at_most=ceiling)
                if view is not None:
                    found.append(view.sequence)
        return sorted(found)

    def _numbered(
        self, views: list[View], pending: int, no_headers: bool, end: tuple[tuple[bytes, bytes], ...]
    ) -> list[_Reply]:
        """Give the messages of a batch with their place in it, and the end mark."""
        replies: list[_Reply] = []
        last = 0
        for view in views:
            pending = max(0, pending - 1)
            place = ((b"Nats-Num-Pending", b"%d" % pending), (b"Nats-Last-Sequence", b"%d" % last))
            replies.append((b"" if no_headers else self._headers(view, place), view.payload))
            last = view.sequence
        fields = ((b"Nats-Num-Pending", b"%d" % pending), (b"Nats-Last-Sequence", b"%d" % last), *end)
        replies.append((headers.encode(fields, 204, b"EOB"), b""))
        return replies


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise _Status(_MALFORMED_REQUEST) from None


_Rule = Callable[[DirectGetRequest], object]

_EXCLUSIVE: Final[tuple[_Rule, ...]] = (
    lambda r: r.seq and r.last_by_subj,
    lambda r: r.seq and r.start_time,
    lambda r: r.start_time and r.last_by_subj,
    lambda r: r.last_by_subj and r.next_by_subj,
    lambda r: r.last_by_subj and r.batch,
    lambda r: r.last_by_subj and r.multi_last,
    lambda r: r.next_by_subj and r.multi_last,
    lambda r: r.up_to_seq and r.up_to_time,
)


def _check_combination(request: DirectGetRequest) -> None:
    if any(rule(request) for rule in _EXCLUSIVE):
        raise _Status(_BAD_REQUEST)
    asks = request.seq or request.last_by_subj or request.next_by_subj or request.multi_last
    if not asks and not request.start_time:
        raise _Status(_EMPTY_REQUEST)
