"""Interest retention: a message stays until every consumer that wants it has settled it.

No counts are kept. Whether a message is needed is asked of the consumers when one of them settles it: those whose ack
state has not passed it and whose filters mean its subject. That is exact, and costs nothing for messages at rest.

What changes who wants what (a consumer that goes or takes another filter, the retention itself, a start after a
crash) begins a sweep: the stream is read through once, the first piece at once and then a piece each turn.

A message that nobody wants is not stored. Its sequence is used up, and its deduplication id is remembered here, until
the window has passed or the server stops.

Source: the streams reference, section 5.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from headrace.core.base.message import View
from headrace.storage.interface import CorruptRecord, StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.attached import Interested
    from headrace.jetstream.streams.stream import Stream

READ_MAX: Final = 4096
READ_SIZE_MAX: Final = 4 * 1024 * 1024
IDS_MAX: Final = 100_000
"""Ids of messages that were not stored; the oldest make room."""


class Interest:
    """Who needs a stream's messages."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._log = stream.log
        self._unstored_ids: dict[bytes, tuple[int, int]] = {}
        self._swept_to = 0
        self._sweep_end = 0

    @property
    def is_on(self) -> bool:
        return self._stream.config.retention == "interest"

    def is_wanted(self, subject: bytes) -> bool:
        """Tell whether a consumer wants messages of this subject."""
        return any(each.wants(subject) for each in self._stream.interested())

    # ids of messages that were not stored

    def remember_id(self, message_id: bytes, sequence: int, time_ns: int) -> None:
        """A message that nobody wants used up this sequence."""
        self._unstored_ids.pop(message_id, None)
        self._unstored_ids[message_id] = (sequence, time_ns)
        if len(self._unstored_ids) > IDS_MAX:
            del self._unstored_ids[next(iter(self._unstored_ids))]

    def find_id(self, message_id: bytes, since_ns: int) -> int | None:
        """Give the sequence that an unstored message with this id used up, at or after `since_ns`."""
        found = self._unstored_ids.get(message_id)
        return found[0] if found is not None and found[1] >= since_ns else None

    # removals

    def settle(self, settling: "Interested", ranges: Sequence[tuple[int, int]]) -> bool:
        """One consumer needs these messages no more: remove those that nobody else needs; tell whether any went."""
        others = [each for each in self._stream.interested() if each is not settling]
        gone = list(self._unneeded(others, ranges)) if others else ranges
        return bool(gone) and self._log.remove(gone) > 0

    def _unneeded(
        self, others: "Sequence[Interested]", ranges: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        for first, last in ranges:
            sequence = self._log.next_sequence(first)
            while sequence <= last:
                if not self._is_needed(others, sequence):
                    yield sequence, sequence
                sequence = self._log.next_sequence(sequence + 1)

    def _is_needed(self, consumers: "Sequence[Interested]", sequence: int) -> bool:
        waiting = [each for each in consumers if not each.is_settled(sequence)]
        if not waiting:
            return False
        try:
            view = self._log.get(sequence)
        except CorruptRecord:
            view = None
        return view is not None and any(each.wants(view.subject) for each in waiting)

    # sweeps

    def sweep_later(self) -> None:
        """Read the stream through, from the next turn's end on."""
        head = self._log.head
        if self.is_on and head.messages:
            self._swept_to, self._sweep_end = head.first_sequence, head.last_sequence
            self._stream.context.ready(self)

    def sweep(self) -> None:
        """Somebody may need less: remove what nobody needs."""
        self.sweep_later()
        self.pump(READ_MAX)

    def close(self) -> None:
        """Sweep no more."""
        self._swept_to = self._sweep_end + 1

    def pump(self, budget: int) -> bool:  # noqa: ARG002  (a piece is small)
        """Sweep the next piece; tell whether there is more."""
        if not self.is_on or self._swept_to > self._sweep_end or not self._sweep_end:
            return False
        stream = self._stream
        try:
            if stream.interested():
                self._sweep_piece()
            else:
                self._log.remove([(self._swept_to, self._sweep_end)])
                self._swept_to = self._sweep_end + 1
        except StorageError as error:
            self.close()
            stream.context.log.warning(f"Stream '{stream.name}': what nobody needs stays: {error}")
        stream.on_changed()
        return self._swept_to <= self._sweep_end

    def _sweep_piece(self) -> None:
        consumers = self._stream.interested()
        piece = self._log.scan(
            self._swept_to,
            self._sweep_end,
            None,
            messages_max=READ_MAX,
            size_max=READ_SIZE_MAX,
            steps_max=READ_MAX,
        )
        gone = [(view.sequence, view.sequence) for view in piece.views if not _is_needed_by(consumers, view)]
        if gone:
            self._log.remove(gone)
        self._swept_to = piece.next_sequence


def _is_needed_by(consumers: "Sequence[Interested]", view: View) -> bool:
    return any(not each.is_settled(view.sequence) and each.wants(view.subject) for each in consumers)
