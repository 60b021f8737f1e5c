"""Traced messages at a stream: what it did with one, or, where only that is asked, what it would do.

A trace says what the reference server's own errors say, which are not the descriptions that publishers are told.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from headrace.core.base.message import Message, StreamNote
from headrace.jetstream import error_table
from headrace.jetstream.streams.intake import Answer, Intake
from headrace.jetstream.streams.publish_headers import parse_wishes
from headrace.storage.interface import StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream

DUPLICATE = "msgid is duplicate"
UNKNOWN_OUTCOME = "write or sync failed, the outcome is unknown"


def judged(stream: "Stream", message: Message) -> StreamNote:
    """Tell what the stream would do with a message; nothing is changed."""
    return note_of(stream, message, Intake(stream, only_judges=True).take(message))


def tell_when_synced(
    stream: "Stream", message: Message, answer: Answer, tell: Callable[[StreamNote], None]
) -> None:
    """Tell what became of a message, once that is on disk."""
    note = note_of(stream, message, answer)
    if stream.is_durable:
        tell(note)
    else:
        stream.context.store.after_sync(partial(_on_synced, note, tell))


def _on_synced(note: StreamNote, tell: Callable[[StreamNote], None], error: StorageError | None) -> None:
    tell(note if error is None else StreamNote(b"", UNKNOWN_OUTCOME))


def note_of(stream: "Stream", message: Message, answer: Answer) -> StreamNote:
    """Put a stream's answer into a trace's words."""
    if answer.is_duplicate:
        return StreamNote(b"", DUPLICATE)
    refusal = answer.refusal
    if refusal is None:
        interest = stream.interest
        return StreamNote(
            message.subject, "", has_no_interest=interest.is_on and not interest.is_wanted(message.subject)
        )
    if refusal.err_code == error_table.STREAM_MESSAGE_EXCEEDS_MAXIMUM.err_code:
        return StreamNote(b"", "maximum payload exceeded")
    if refusal.err_code == error_table.STREAM_WRONG_LAST_SEQUENCE.err_code:
        wishes = parse_wishes(message.headers)
        by_subject = wishes.expected_last_subject_sequence
        wanted = (by_subject or wishes.expected_last_sequence or b"").decode("utf-8", "replace")
        kind = "last sequence by subject" if by_subject is not None else "last sequence"
        found = refusal.description.rpartition(" ")[2]
        return StreamNote(b"", f"{kind} mismatch: {wanted} vs {found}")
    return StreamNote(b"", refusal.description)
