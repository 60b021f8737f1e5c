"""Making a stream's log: a folder with two generations of its state log and no segment.

What needs a sync is left to an errand of the next commit cycle, off the loop (`stream_folder.py`). Where that
fails, the log is fenced like any other whose write failed: the API answers with the error, and the stream can be
deleted.
"""

from functools import partial
from typing import Any

from headrace.storage.contents import Contents
from headrace.storage.file_log import FileLog
from headrace.storage.framing import FileHeader, FileKind, fresh_salt
from headrace.storage.index_interface import Position
from headrace.storage.shared import Shared
from headrace.storage.state_log import Generation, state_name, write_generation
from headrace.storage.stream_folder import StreamFolder


def create(
    shared: Shared, path: str, stream_id: int, *, config: dict[str, Any], created_ns: int, first: int
) -> FileLog:
    """Make an empty log, durable with the next commit cycle; its messages begin at `first`. Raises OSError.

    After an error nothing is left of it.
    """
    folder = StreamFolder.made(shared.files, path)
    stream = {"created_ns": created_ns, "id": f"{stream_id:016x}", "first": first}
    snapshot = [[["stream", stream], ["config", config]]]

    def write(number: int) -> Generation:
        salt = fresh_salt(shared.chance)
        header = FileHeader(FileKind.STATE, salt, stream_id, number, created_ns, 0)
        return write_generation(shared.files, folder.now, header, snapshot, change=0, is_draft=True)

    try:
        # Twice: where the snapshot of the newest generation is damaged, the one before is read.
        shared.files.close(write(1).handle)
        generation = write(2)
    except OSError:
        folder.abandon()
        raise
    generation = generation._replace(path=f"{path}/{state_name(2)}")
    segments = shared.segments()
    index = shared.indexes.open_log(stream_id, Position(first - 1, 0))
    log = shared.log(
        folder,
        stream_id,
        config=config,
        created_ns=created_ns,
        first=first,
        consumers={},
        contents=Contents(segments, index, first=first),
        writer=shared.writer(folder, stream_id, segments, batch=0),
        state=shared.state_log(generation, snapshot_size=generation.used, change=0),
        damage=[],
    )
    shared.commit.run_before(partial(folder.complete, (state_name(1), state_name(2))), log)
    shared.commit.note(log, sync=True)
    return log
