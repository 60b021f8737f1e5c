"""A store of some 200 records to damage: every type of record, small, in memory, with a model of what it holds.

It is made by a fleet of streams from one seed, and taken three times: as a kill leaves it, with the journal in use; as
the harshest power cut leaves it, with nothing that was not synced; and after a clean stop.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from headrace.core.base.message import View
from headrace.storage.framing import (
    FILE_HEADER_SIZE,
    Damage,
    FileHeader,
    FileKind,
    Found,
    parse_file_header,
    walk,
)
from headrace.storage.interface import Register, RegisterChange, StreamLog
from headrace.storage.record import (
    MARKS,
    RecordType,
    parse_extras,
    parse_mark,
    parse_operations,
    unpack_ranges,
)
from headrace.tools.selftest.cases import expect
from headrace.tools.selftest.fleet import Fleet
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import GOLDEN_BOUNDS, World

RECORDS: Final = 200
HEADER_COPY_SIZE: Final = 64
STEPS_AT_ONCE: Final = 10
STREAMS: Final = 3
CONSUMER_OPERATIONS: Final = frozenset(("consumer", "register", "forget"))


class GoldenProgram(Program):
    """Like any program, with small messages: so every bit of a store can be tried."""

    sizes = (1, 1, 1, 4, 12)


@dataclass(frozen=True, slots=True)
class Truth:
    """What one stream holds."""

    config: dict[str, Any]
    last: int
    live: dict[int, View]
    appended: dict[int, View]
    registers: dict[str, Register]
    ids: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A record, or a file's header, at its place, and what may go with it.

    `costs`: sequences of `stream` whose messages lie in it. `returns`: those whose removal it says. `is_loose`: it
    holds a consumer's progress or a configuration of which there is no second copy. `settles`: the sequence up to which
    it says that all is durable.
    """

    path: str
    start: int
    end: int
    kind: FileKind
    type: str
    stream: int
    costs: frozenset[int] = frozenset()
    returns: frozenset[int] = frozenset()
    is_loose: bool = False
    settles: int = 0


@dataclass(frozen=True, slots=True)
class Golden:
    """A store's files, what they mean, and what the store must be found to hold."""

    name: str
    image: dict[str, bytes]
    truth: dict[int, Truth]
    pieces: list[Piece]
    by_path: dict[str, list[Piece]] = field(default_factory=dict[str, list[Piece]])

    def alone(self, stream: int) -> "Golden":
        """Give the store with this stream as its only one."""
        others = tuple(f"/streams/{each:016x}/" for each in self.truth if each != stream)
        image = {path: content for path, content in self.image.items() if not any(o in path for o in others)}
        truth = {stream: self.truth[stream]}
        return Golden(f"{self.name}, {stream:016x}", image, truth, self.pieces, self.by_path)

    def hit(self, path: str, start: int, end: int) -> list[Piece]:
        """Give the pieces that lie, with any byte, in a part of a file.

        With both copies of a state log's header goes what the journal holds for it: it is found by its salt.
        """
        found = [piece for piece in self.by_path.get(path, ()) if piece.start < end and start < piece.end]
        if found and found[0].type == "header of state" and end - max(start, 0) > HEADER_COPY_SIZE:
            held = self.truth.get(found[0].stream)
            everything = frozenset(held.appended) if held is not None else frozenset[int]()
            found[0] = replace(found[0], returns=everything, is_loose=True)
        return found


def make_goldens(seed: int) -> list[Golden]:
    """Make the store, and take it three times."""
    world = World(seed, bounds=GOLDEN_BOUNDS)
    fleet = Fleet(world, seed, streams=STREAMS, program=GoldenProgram, lives_change=False)
    while sum(len(program.past.appended) for program in fleet.programs.values()) < RECORDS:
        fleet.run(STEPS_AT_ONCE)
        fleet.commit()
        world.wait()
    _touch_all(fleet)
    truth = {stream_id: _truth_of(program) for stream_id, program in fleet.programs.items()}
    images = {"killed": world.files.image(), "power cut": world.files.image(durable=True)}
    world.store.close()
    images["clean"] = world.files.image()
    return [as_golden(name, image, truth) for name, image in images.items()]


def _touch_all(fleet: Fleet) -> None:
    """Let one cycle carry something of every stream, into its segment and its state log."""
    fleet.commit()
    fleet.world.wait()
    for program in fleet.programs.values():
        program.append_plainly()
        program.log.save_consumer("last", {}, 1, Register({"n": 1}, {}))
        program.model.registers["last"] = Register({"n": 1}, {})
        program.log.change_register("last", RegisterChange({"n": 2}, [], {}), sync=True)
        program.model.registers["last"] = Register({"n": 2}, {})
    expect(fleet.world.commit() is None, "the last cycle succeeds")


def _truth_of(program: Program) -> Truth:
    model = program.model
    return Truth(
        config=program.log.config,
        last=model.last,
        live=dict(model.messages),
        appended=dict(model.appended),
        registers=dict(model.registers),
        ids={each: sequence for each, (sequence, _) in model.ids.items()},
    )


def truth_of_views(log: StreamLog, views: Iterable[View]) -> Truth:
    """Give the truth of a stream that has no consumers, from which nothing was removed."""
    held = {view.sequence: view for view in views}
    return Truth(log.config, log.head.last_sequence, held, held, {}, {})


def as_golden(name: str, image: dict[str, bytes], truth: dict[int, Truth]) -> Golden:
    """Find the pieces of a store's files."""
    pieces = [
        piece
        for path, content in image.items()
        if content.startswith(b"HEADRACE")
        for piece in _pieces_of(path, content, truth)
    ]
    golden = Golden(name, image, truth, pieces)
    for piece in pieces:
        golden.by_path.setdefault(piece.path, []).append(piece)
    return golden


def _pieces_of(path: str, content: bytes, truth: Mapping[int, Truth]) -> Iterator[Piece]:
    header = parse_file_header(content[:FILE_HEADER_SIZE], path)
    kind_name = header.kind.name.lower()
    yield Piece(path, 0, FILE_HEADER_SIZE, header.kind, f"header of {kind_name}", header.stream_id)

    def read(size: int, offset: int) -> bytes:
        return content[offset : offset + size]

    is_snapshot = header.kind is FileKind.STATE
    pieces: list[Piece] = []
    settled_to = 0
    for found in walk(read, header.salt):
        expect(not isinstance(found, Damage) or header.kind is FileKind.JOURNAL, f"{path} is whole: {found}")
        if isinstance(found, Found):
            pieces.append(_piece_of(path, header, found, truth, is_snapshot=is_snapshot))
            if found.header.type == RecordType.COMPLETE:
                is_snapshot = False
            if found.header.type == RecordType.OPERATIONS:
                settled_to = max(settled_to, found.header.headers_size)
    yield from _with_tail(pieces, settled_to) if header.kind is FileKind.STATE else pieces


def _with_tail(pieces: list[Piece], settled_to: int) -> Iterator[Piece]:
    """Let each change that nothing calls durable cost those behind it: they are left out, see section 5."""
    for index, piece in enumerate(pieces):
        if piece.type == "operations" and piece.start >= settled_to:
            behind = frozenset(each for later in pieces[index:] for each in later.returns)
            yield replace(piece, returns=behind, is_loose=any(later.is_loose for later in pieces[index:]))
        else:
            yield piece


def _piece_of(
    path: str, file: FileHeader, found: Found, truth: Mapping[int, Truth], *, is_snapshot: bool
) -> Piece:
    record = found.header
    name = RecordType(record.type).name.lower()
    piece = Piece(path, found.offset, found.offset + record.end, file.kind, name, file.stream_id)
    if record.type == RecordType.MESSAGE:
        extras = parse_extras(record, found.body)
        returns = {each for first, last in extras.evicted for each in range(first, last + 1)}
        returns.update(range(1, record.sequence if extras.all_before else extras.first_sequence))
        return replace(
            piece,
            type=f"{name} {record.flags:02x}",
            costs=frozenset({record.sequence}),
            returns=frozenset(returns),
        )
    if record.type in MARKS:
        return replace(piece, settles=parse_mark(record, found.body).durable_to)
    if record.type == RecordType.OPERATIONS:
        if is_snapshot:
            return replace(piece, type="operations of a snapshot")
        operations = parse_operations(record, found.body)
        return replace(
            piece,
            type="operations",
            returns=_returns_of(operations),
            is_loose=any(each[0] in CONSUMER_OPERATIONS or each[0] == "config" for each in operations),
        )
    if record.type == RecordType.ENTRY:
        stream_id = int.from_bytes(found.body[:8], "little")
        held = truth.get(stream_id)
        everything = frozenset(held.appended) if held is not None else frozenset[int]()
        return replace(piece, stream=stream_id, costs=everything, returns=everything, is_loose=True)
    return piece


def _returns_of(operations: list[list[Any]]) -> frozenset[int]:
    found: set[int] = set()
    for operation in operations:
        if operation[0] == "remove":
            for first, last in unpack_ranges(operation[2]):
                found.update(range(first, last + 1))
    return frozenset(found)
