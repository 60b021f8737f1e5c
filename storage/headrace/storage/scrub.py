"""Reading sealed segments again in the background, so that damage is found while there is still a copy elsewhere.

One step reads one piece of one file off the loop and checks every record in it; the loop is told what did not check,
and lets the log meet it as a reader would (`FileLog.note_damage`): what cannot be read is listed as lost, once. The
steps are spaced by the rate. A step waits while a sync is in flight, but not for ever: under lasting load the scrub
goes on at a fraction of its rate.

A *pass* goes over every sealed segment of every stream, with its removals (`.del`), beginning at a
random one, so that a server that is restarted often does not read the same ones each time. Passes begin no closer than
`PASS_NS` to each other. The segment that is written to is left out: its damage is met when it is read or recovered.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_MS, NS_PER_S, Scheduler, Timer
from headrace.storage.files import Files
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    End,
    HeaderUnreadable,
    NewerFormat,
    Read,
    Unreadable,
    parse_file_header,
    walk,
)
from headrace.storage.record import HEADER_SIZE, RecordInvalid, check_body, parse_header
from headrace.storage.segment import Segment
from headrace.storage.sync import Errands

STEP_SIZE: Final = 64 * 1024
"""Read at a time: about a millisecond of a thread, which the loop does not notice."""

INTERVAL_MIN_NS: Final = NS_PER_MS
PASS_NS: Final = 3600 * NS_PER_S
POSTPONED_MAX: Final = 15
"""How many steps in a row are left out because a sync is in flight."""

BESIDE: Final = (".del", ".del2")
"""What is read with a segment. Not its sidecar, which is not synced, is checked when it is used, and costs nothing."""


class Piece(NamedTuple):
    """What a step has read: where the next one goes on (the segment's end after the last), and what is bad."""

    following: int
    unreadable: list[Unreadable]


class ScrubbedLog(Protocol):
    """What the scrub asks of a log. Loop thread only."""

    @property
    def stream_id(self) -> int: ...

    def sealed_segments(self) -> Sequence[Segment]:
        """Give the segments that nothing is written to any more."""
        ...

    def note_damage(self, segment: Segment, suffix: str, found: Sequence[Unreadable]) -> int:
        """Meet what does not check in a segment's file, or the one beside it; give how many findings are new."""
        ...


@dataclass(slots=True)
class ScrubState:
    """What was done so far, for who watches. Times are nanoseconds since 1970; 0: not yet."""

    rate: int
    passes: int = 0
    segments: int = 0
    size: int = 0
    findings: int = 0
    finding_ns: int = 0
    pass_ended_ns: int = 0


@dataclass(slots=True)
class _Cursor:
    """What is left of a pass, and the place in the file that is being read."""

    left: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    offset: int = 0
    beside: int = 0


class Scrub:
    """The scrub of one store. `logs` gives the open ones; `is_busy` tells whether a sync is in flight."""

    def __init__(
        self,
        *,
        files: Files,
        scheduler: Scheduler,
        errands: Errands,
        chance: Chance,
        rate: int,
        logs: Callable[[], Iterable[ScrubbedLog]],
        is_busy: Callable[[], bool],
    ) -> None:
        self._files = files
        self._scheduler = scheduler
        self._errands = errands
        self._chance = chance
        self._logs = logs
        self._is_busy = is_busy
        self._interval_ns = max(INTERVAL_MIN_NS, STEP_SIZE * NS_PER_S // max(1, rate))
        self._cursor = _Cursor()
        self._is_in_pass = False
        self._postponed = 0
        self._pass_began_ns = -PASS_NS
        self._timer: Timer | None = None
        self._piece: Piece | None = None
        self._is_closed = False
        self.state = ScrubState(rate)
        if rate > 0:
            self._wait(self._interval_ns)

    def close(self) -> None:
        """Begin no step any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, duration_ns: int) -> None:
        if not self._is_closed:
            self._timer = self._scheduler.call_at(self._scheduler.monotonic_ns() + duration_ns, self._on_time)

    def _on_time(self) -> None:
        if self._is_busy() and self._postponed < POSTPONED_MAX:
            self._postponed += 1
            self._wait(self._interval_ns)
            return
        self._postponed = 0
        if not self._is_in_pass:
            self._begin_pass()
        self._step()

    def _begin_pass(self) -> None:
        now_ns = self._scheduler.monotonic_ns()
        self._pass_began_ns = now_ns
        self._is_in_pass = True
        left = [(log.stream_id, each.salt) for log in self._logs() for each in log.sealed_segments()]
        start = self._chance.below(len(left)) if left else 0
        # Taken from the end.
        self._cursor = _Cursor((left[start:] + left[:start])[::-1])

    def _step(self) -> None:
        while self._cursor.left:
            stream_id, salt = self._cursor.left[-1]
            found = self._find(stream_id, salt)
            if found is not None:
                self._read(*found)
                return
            self._next_segment()
        self._is_in_pass = False
        self.state.passes += 1
        self.state.pass_ended_ns = self._scheduler.now_ns()
        since_ns = self._scheduler.monotonic_ns() - self._pass_began_ns
        self._wait(max(self._interval_ns, PASS_NS - since_ns))

    def _find(self, stream_id: int, salt: int) -> tuple[ScrubbedLog, Segment] | None:
        for log in self._logs():
            if log.stream_id == stream_id:
                for segment in log.sealed_segments():
                    if segment.salt == salt:
                        return log, segment
        return None

    def _next_segment(self) -> None:
        self._cursor.left.pop()
        self._cursor.offset = self._cursor.beside = 0

    def _read(self, log: ScrubbedLog, segment: Segment) -> None:
        """Have the next piece of a segment read, or of a file beside it once the segment is done."""
        files, cursor = self._files, self._cursor
        offset, end, salt = cursor.offset, segment.used, segment.salt
        suffix = "" if offset < end else BESIDE[cursor.beside]
        path = f"{segment.path}{suffix}"

        def read() -> None:
            try:
                if suffix:
                    self._piece = verify_beside(files, path)
                else:
                    self._piece = verify_piece(files, path, salt, offset, end, STEP_SIZE)
            except FileNotFoundError:
                # A file beside is not always there; a segment that has gone is met when it is read.
                self._piece = Piece(end, [])

        def then(error: OSError | None) -> None:
            piece, self._piece = self._piece, None
            if self._is_closed:
                return
            if error is not None or piece is None:
                what = f"it cannot be read: {error.strerror if error is not None else ''}"
                is_local = error is not None and error.errno == errno.EIO
                following = min(end, offset + STEP_SIZE & ~7)
                piece = Piece(following, [Unreadable(offset, following - offset, what)] if is_local else [])
            self._note(log, segment, suffix, piece)
            self._wait(self._interval_ns)

        self._errands.run(read, then)

    def _note(self, log: ScrubbedLog, segment: Segment, suffix: str, piece: Piece) -> None:
        state, cursor = self.state, self._cursor
        if piece.unreadable and self._find(log.stream_id, segment.salt) is not None:
            count = log.note_damage(segment, suffix, piece.unreadable)
            state.findings += count
            if count:
                state.finding_ns = self._scheduler.now_ns()
        if not suffix:
            state.size += piece.following - cursor.offset
            cursor.offset = piece.following
            return
        cursor.beside += 1
        if cursor.beside == len(BESIDE):
            state.segments += 1
            self._next_segment()


def verify_piece(files: Files, path: str, salt: int, start: int, end: int, size: int) -> Piece:
    """Check the records of a segment that begin from `start` on within `size` bytes; from 0 on, its header too."""
    handle = files.open(path)

    def read(count: int, offset: int) -> bytes:
        return files.pread(handle, max(0, min(count, end - offset)), offset)

    try:
        unreadable: list[Unreadable] = []
        position = start
        if not start:
            unreadable += _verify_header(read(FILE_HEADER_SIZE, 0), path)
            position = FILE_HEADER_SIZE
        stop = min(end, position + size)
        data, base = read(size, position), position
        while position < stop:
            if position - base + HEADER_SIZE > len(data):
                data, base = read(size, position), position
            index = position - base
            try:
                header = parse_header(data, index, salt ^ position)
                body = data[index + HEADER_SIZE : index + header.end]
                if index + header.end > len(data):
                    body = read(header.end - HEADER_SIZE, position + HEADER_SIZE)
                check_body(header, body)
            except RecordInvalid:
                bad = _damage_at(read, salt, position, end)
                unreadable.append(bad)
                position = bad.offset + bad.size
            else:
                position += header.end
        return Piece(min(position, end), unreadable)
    finally:
        files.close(handle)


def verify_beside(files: Files, path: str) -> Piece:
    """Check a whole file of records by what its own header says: removals. Raises FileNotFoundError."""
    handle = files.open(path)
    try:
        data = files.pread(handle, files.size(handle), 0)
    finally:
        files.close(handle)
    unreadable = _verify_header(data[:FILE_HEADER_SIZE], path)
    try:
        salt = parse_file_header(data[:FILE_HEADER_SIZE], path).salt
    except (HeaderUnreadable, NewerFormat):
        return Piece(len(data), unreadable)
    count = 0
    for found in walk(lambda size, offset: data[offset : offset + size], salt):
        if isinstance(found, Damage):
            unreadable.append(Unreadable(found.offset, found.size, found.what))
        count += 1
    if count == 1:
        unreadable.append(Unreadable(FILE_HEADER_SIZE, 0, "it holds no record"))
    return Piece(len(data), unreadable)


def _verify_header(data: bytes, path: str) -> list[Unreadable]:
    try:
        parse_file_header(data, path)
    except (HeaderUnreadable, NewerFormat):
        return [Unreadable(0, FILE_HEADER_SIZE, "the file's header cannot be read")]
    if data[: FILE_HEADER_SIZE // 2] != data[FILE_HEADER_SIZE // 2 :]:
        return [Unreadable(0, FILE_HEADER_SIZE, "one copy of the file's header is damaged")]
    return []


def _damage_at(read: Read, salt: int, position: int, end: int) -> Unreadable:
    """Say how far the damage at a place reaches."""
    for found in walk(read, salt, position):
        if isinstance(found, Damage):
            return Unreadable(found.offset, max(8, min(found.size, end - found.offset)), found.what)
        if isinstance(found, End):
            return Unreadable(position, end - position, "there is nothing where records were")
        break
    # It reads well the second time, or walks differently: nothing to report but the place itself.
    return Unreadable(position, 8, "it reads differently each time")
