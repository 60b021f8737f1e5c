"""What may be found in a damaged store: all that was there, but for the records that were hit, and those are named.

A case gives the golden store, its damaged files, and where they were hit. The store must open, with every stream. A
message that is shown is the one that was stored there. One that is missing lay in a record that was hit, and is listed
as lost. One that is back although it was removed, was removed by a record that was hit. Consumers, configuration and
message ids are as they were unless the record that was hit held them. What was found is found again at the next
start, and every stream goes on.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.file_log import FileLog
from headrace.storage.framing import FileKind
from headrace.storage.interface import Entry, StorageError, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store
from headrace.tools.selftest.cases import expect, expect_same
from headrace.tools.selftest.golden import Golden, Piece
from headrace.tools.selftest.model import plain
from headrace.tools.selftest.world import GOLDEN_BOUNDS, STORE_PATH

OPTIONS: Final = StoreOptions(is_index_in_memory=True, bounds=GOLDEN_BOUNDS)
NOTHING_LOST: Final = frozenset((FileKind.SIDECAR, FileKind.REMOVALS))
"""Files of which every byte can be made again."""


def judge(
    golden: Golden, image: Mapping[str, bytes], hit: Iterable[Piece], *, twice: bool, ends: str = ""
) -> int:
    """Open a damaged store and hold it against the truth; give how many messages were lost.

    With `twice`, it is also checked, closed and opened again, and every stream goes on. `ends`: a segment that was cut;
    where messages went with its end, that is listed.
    """
    pieces = [piece for piece in hit if piece.kind not in NOTHING_LOST]
    files = FaultyFiles.restored(image)
    store, scheduler = opened(files)
    lost = _judge_all(golden, store, pieces, ends=ends)
    if not twice:
        return lost
    appended = _go_on(store, scheduler)
    check_store(STORE_PATH, files=files)
    store.close()
    again, _ = opened(files)
    expect_same("lost after the next start", _judge_all(golden, again, pieces, appended), lost)
    again.close()
    return lost


def opened(files: FaultyFiles) -> tuple[FileStore, VirtualScheduler]:
    """Open the store on such a disk."""
    scheduler = VirtualScheduler()
    return open_store(
        STORE_PATH, scheduler=scheduler, chance=Chance(1), files=files, options=OPTIONS
    ), scheduler


def _go_on(store: FileStore, scheduler: VirtualScheduler) -> dict[int, int]:
    """Append to every stream; give the sequences."""
    sequences: dict[int, int] = {}
    answers: list[StorageError | None] = []
    for log in store.logs():
        sequences[log.stream_id] = log.append([Entry(b"after", b"", b"it goes on", 1)])
    store.after_sync(answers.append)
    store.commit()
    scheduler.settle()
    expect_same("answer", answers, [None])
    return sequences


def _judge_all(
    golden: Golden,
    store: FileStore,
    pieces: list[Piece],
    appended: Mapping[int, int] | None = None,
    ends: str = "",
) -> int:
    expect(not store.unreadable, f"streams cannot be read: {store.unreadable}")
    logs = {log.stream_id: log for log in store.logs()}
    expect_same("streams", sorted(logs), sorted(golden.truth))
    return sum(
        _judge_stream(golden, log, pieces, (appended or {}).get(stream_id, 0), ends)
        for stream_id, log in logs.items()
    )


def _judge_stream(golden: Golden, log: StreamLog, pieces: list[Piece], appended: int, ends: str) -> int:
    truth = golden.truth[log.stream_id]
    hit = [piece for piece in pieces if piece.stream == log.stream_id]
    costs = {sequence for piece in hit for sequence in piece.costs}
    returns = {sequence for piece in hit for sequence in piece.returns}
    is_loose = any(piece.is_loose for piece in hit)
    last = log.head.last_sequence
    views = log.scan(1, last, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30).views
    # Reading comes first: what does not check is listed by then.
    head = log.head
    found = {view.sequence: view for view in views}
    if appended:
        view = found.pop(appended, None)
        expect(view is not None and view.payload == b"it goes on", "what was appended afterwards is there")
        expect(appended > truth.last or truth.last - appended < len(costs), "a sequence was used again")
    wrong = [sequence for sequence, view in found.items() if truth.appended.get(sequence) != view]
    expect(not wrong, f"messages that were never stored like that: {wrong}")
    back = found.keys() - truth.live.keys() - returns
    expect(not back, f"removed and back again: {sorted(back)}")
    missing = truth.live.keys() - found.keys()
    expect(missing <= costs, f"lost, but not hit: {sorted(missing - costs)}; listed: {head.lost}")
    unnamed = [each for each in missing if not any(first <= each <= end for first, end in head.lost)]
    settled_to = max((piece.settles for piece in golden.pieces if _speaks(piece, log, pieces)), default=0)
    # What nothing calls durable, with zeros behind it, looks like what was never written.
    expect(not unnamed or min(unnamed) > settled_to, f"lost and not listed: {unnamed}, {head.lost}")
    if unnamed and "/seg/" in ends and isinstance(log, FileLog):
        name = os.path.basename(ends)
        is_named = any(place.file == name for place in log.damage)
        expect(is_named, f"{unnamed} lost behind the end of {name}, not listed")
    falsely = [
        each
        for first, end in head.lost
        for each in range(first, min(end, truth.last) + 1)
        if each in found and each in truth.live
    ]
    expect(not falsely, f"listed as lost, and there: {falsely}")
    if not is_loose:
        registers = {name: record.register for name, record in log.consumers().items()}
        expect_same("consumers", plain(registers), plain(truth.registers))
        expect_same("configuration", log.config, truth.config)
    for message_id, sequence in truth.ids.items():
        if sequence not in costs and not is_loose:
            expect_same(f"id {message_id!r}", log.find_message_id(message_id, 1), sequence)
    return len(missing)


def _speaks(piece: Piece, log: StreamLog, hit: list[Piece]) -> bool:
    return piece.settles > 0 and piece.stream == log.stream_id and piece not in hit
