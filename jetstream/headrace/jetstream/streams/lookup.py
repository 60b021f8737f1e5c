"""Single messages found by subject or from a place on: what MSG.GET and direct get share.

Reads show what was appended, because their answers wait until it is durable. In a fenced log the end may never
become durable, and is not shown.
"""

from typing import Final

from headrace.core.base.message import View
from headrace.core.subject import is_valid
from headrace.jetstream.filters import SubjectFilter
from headrace.storage.interface import StreamLog

STEPS_MAX: Final = 1_000_000
"""How many messages one request may look at before it is given up."""

_STEPS: Final = 20_000
_WHOLE_STREAM: Final = ("", ">")


def subject_matcher(subject: str) -> SubjectFilter | None:
    """Give the matcher of a filter; None where it means every subject."""
    return None if subject in _WHOLE_STREAM else SubjectFilter((subject.encode(),))


def last_message(log: StreamLog, subject: bytes) -> View | None:
    """Give the newest message of a subject or pattern. Raises CorruptRecord."""
    readable = readable_sequence(log)
    if readable == 0:
        return None
    state = log.subject(subject)
    if state is not None and state.last_sequence <= readable:
        return log.get(state.last_sequence)
    return log.last_matching(SubjectFilter((subject,)), at_most=readable) if is_valid(subject) else None


def message_at(log: StreamLog, sequence: int) -> View | None:
    """Give the message of that sequence. Raises CorruptRecord."""
    return log.get(sequence) if sequence <= readable_sequence(log) else None


def readable_sequence(log: StreamLog) -> int:
    """Give the last sequence that may be read."""
    return log.durable_sequence if log.fenced else log.head.last_sequence


def walk(log: StreamLog, start: int, subject: str, *, messages_max: int, size_max: int) -> list[View]:
    """Give the first messages of a subject or pattern from `start` on; the one that reaches `size_max` is the last."""
    match = subject_matcher(subject)
    last = readable_sequence(log)
    position = max(1, start)
    looked_at = 0
    found: list[View] = []
    while position <= last and looked_at < STEPS_MAX and len(found) < messages_max and size_max > 0:
        views, position = log.scan(
            position, last, match, messages_max=messages_max - len(found), size_max=size_max, steps_max=_STEPS
        )
        found.extend(views)
        size_max -= sum(view_size(view) for view in views)
        looked_at += _STEPS
    return found


def view_size(view: View) -> int:
    """Give the bytes of a message's subject, headers and payload."""
    return len(view.subject) + len(view.headers) + len(view.payload)
