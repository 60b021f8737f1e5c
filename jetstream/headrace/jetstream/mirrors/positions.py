"""How far a stream has copied each of its sources, kept with the stream.

A sourced message says where it came from, but messages go: by limits, by acks, by a purge. So the positions are a
register of their own in the stream's log, written after the messages they speak of are durable, and always before
anything is removed on a client's word. After a crash the register may be behind; the messages stored since tell the
rest (`upto` says where they begin). It is never ahead of what is stored.

Positions of sources that were configured once stay, so that a source that comes back goes on where it was.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from headrace.core import headers
from headrace.jetstream.mirrors.origins import SOURCE_HEADER, parse_source_header
from headrace.storage.interface import Register, RegisterChange

if TYPE_CHECKING:
    from headrace.storage.interface import StreamLog

RECORD_NAME: Final = ".sources"
"""The register's name among the consumers' registers. No consumer may have a dot in its name."""

_UPTO: Final = "upto"
_SEQUENCE: Final = "sequence "
_IDENTITY: Final = "identity "
SCAN_MESSAGES: Final = 4096
SCAN_SIZE: Final = 8 * 1024 * 1024


class Position(NamedTuple):
    """The last sequence taken of an origin, and which origin that was."""

    sequence: int = 0
    identity: str = ""


class Positions:
    """The positions of one stream's sources, by index name."""

    def __init__(self, log: "StreamLog", *, in_memory: bool) -> None:
        self._log = log
        self._in_memory = in_memory
        self._positions: dict[str, Position] = {}
        self._is_made = False
        self._recover()

    def get(self, index_name: str) -> Position:
        return self._positions.get(index_name, Position())

    def set(self, index_name: str, position: Position) -> None:
        """Messages up to there are stored; `save` makes that last."""
        self._positions[index_name] = position

    def save(self, index_names: list[str], *, sync: bool = False) -> None:
        """Write positions down. Raises StorageError."""
        if self._in_memory or not index_names:
            return
        if not self._is_made:
            self._log.save_consumer(RECORD_NAME, {"name": RECORD_NAME}, 0, None)
            self._is_made = True
        numbers = {_UPTO: self._log.durable_sequence}
        for name in index_names:
            position = self.get(name)
            numbers[_SEQUENCE + name] = position.sequence
            numbers[_IDENTITY + name] = int.from_bytes(position.identity.encode())
        self._log.change_register(RECORD_NAME, RegisterChange(numbers, (), {}), sync=sync)

    def save_all(self) -> None:
        """Write all of them down and ask for a sync. Raises StorageError."""
        self.save(list(self._positions), sync=True)

    def _recover(self) -> None:
        record = self._log.consumers().get(RECORD_NAME)
        self._is_made = record is not None
        register = record.register if record is not None else Register({}, {})
        for key, number in register.numbers.items():
            if key.startswith(_SEQUENCE):
                name = key.removeprefix(_SEQUENCE)
                identity = register.numbers.get(_IDENTITY + name, 0)
                text = identity.to_bytes((identity.bit_length() + 7) // 8).decode()
                self._positions[name] = Position(number, text)
        self._read_messages(register.numbers.get(_UPTO, 0) + 1)

    def _read_messages(self, start: int) -> None:
        head = self._log.head
        start = max(start, head.first_sequence)
        while start <= head.last_sequence:
            scan = self._log.scan(
                start, head.last_sequence, None, messages_max=SCAN_MESSAGES, size_max=SCAN_SIZE
            )
            for view in scan.views:
                value = headers.get(view.headers, SOURCE_HEADER) if view.headers else None
                found = parse_source_header(value) if value else None
                if found is not None:
                    self._positions[found.index_name] = Position(found.sequence, found.identity)
            start = scan.next_sequence
