"""What a part of a segment has to tell the lookup index, read from the segment's file.

A `Part` says which records are meant and which of their messages are there, as the log knew it when the part was
made; so the reader needs nothing but the file. Records are read in order and checked; what does not check is passed
over and named. The compiled engine reads runs of plain records in one go (`collect_notes`), and leaves
everything else to the code here.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from headrace.storage.codec import collect_notes
from headrace.storage.files import Files
from headrace.storage.framing import End, Found, Unreadable, walk
from headrace.storage.index_layer import Delta, Layer
from headrace.storage.record import NO_EXTRAS, RecordInvalid, RecordType, parse_extras, parse_message

NOTES_MAX: Final = 65_536
"""So many notes make a layer."""

WINDOW_SIZE: Final = 1024 * 1024


class Part(NamedTuple):
    """Records of a segment between two offsets, and of these the messages `first` to `last`.

    There is what lies at or above `live_from` and has no bit in `gone`. A message's bit is its place: its distance to
    `segment_first` where no sequence was skipped, else what the runs say (see `segment.Offsets`).
    """

    path: str
    salt: int
    start: int
    end: int
    first: int
    last: int
    live_from: int
    segment_first: int
    gone: bytes
    run_sequences: bytes
    run_places: bytes


def notes_of(files: Files, part: Part, unreadable: list[Unreadable]) -> Iterator[Layer | None]:
    """Read a part; give layers of notes, and None in between where a good deal was read.

    What was passed over is added to `unreadable`.
    """
    handle = files.open(part.path)

    def read(size: int, offset: int) -> bytes:
        return files.pread(handle, max(0, min(size, part.end - offset)), offset)

    try:
        layer = Layer()
        reader = _PartReader(part, unreadable)
        position = part.start
        while position < part.end:
            position = reader.read(read, position, layer)
            if layer.notes >= NOTES_MAX:
                yield layer
                layer = Layer()
            else:
                yield None
        if layer.notes:
            yield layer
    finally:
        files.close(handle)


class _PartReader:
    def __init__(self, part: Part, unreadable: list[Unreadable]) -> None:
        self._part = part
        self._unreadable = unreadable
        self._run_sequences = array("Q", part.run_sequences)
        self._run_places = array("I", part.run_places)

    def read(self, read: Callable[[int, int], bytes], position: int, layer: Layer) -> int:
        """Note the records of a window from `position` on; give where to go on."""
        part = self._part
        stop = min(part.end, position + WINDOW_SIZE)
        if collect_notes is not None:
            window = read(WINDOW_SIZE, position)
            reached, count = collect_notes(
                window,
                position,
                salt=part.salt,
                first=part.first,
                last=part.last,
                live_from=part.live_from,
                segment_first=part.segment_first,
                gone=part.gone,
                run_sequences=self._run_sequences,
                run_places=self._run_places,
                deltas=layer.deltas,
                ids=layer.ids,
                make_delta=Delta,
            )
            layer.notes += count
            if reached > position:
                return reached
            stop = position + 1  # one record, or what is between it and the next
        for found in walk(read, part.salt, position):
            if isinstance(found, End):
                if position < part.end:
                    self._pass_over(position, part.end - position, "there is nothing where records were")
                return part.end
            if isinstance(found, Found):
                self._note(found, layer)
                position = found.end
            else:
                self._pass_over(found.offset, found.size, found.what)
                position = found.offset + found.size
            if position >= stop or layer.notes >= NOTES_MAX:
                break
        return position

    def _note(self, found: Found, layer: Layer) -> None:
        header, part = found.header, self._part
        sequence = header.sequence
        if header.type != RecordType.MESSAGE or not part.first <= sequence <= part.last:
            return
        try:
            extras = parse_extras(header, found.body) if header.flags else NO_EXTRAS
            subject = parse_message(header, found.body).subject
        except RecordInvalid as error:
            self._pass_over(found.offset, header.end, str(error))
            return
        if self._is_there(sequence):
            layer.add(sequence, subject)
        if extras.message_id:
            layer.add_id(extras.message_id, sequence, header.time_ns)

    def _pass_over(self, offset: int, size: int, what: str) -> None:
        self._unreadable.append(Unreadable(offset, min(size, self._part.end - offset), what))

    def _is_there(self, sequence: int) -> bool:
        part = self._part
        if sequence < part.live_from:
            return False
        if not part.gone:
            return True
        place = sequence - part.segment_first
        if self._run_sequences:
            run = bisect_right(self._run_sequences, sequence) - 1
            place = self._run_places[run] + sequence - self._run_sequences[run]
        byte = place >> 3
        return byte >= len(part.gone) or not part.gone[byte] >> (place & 7) & 1
