"""Which encoder, decoder and sync thread run: the compiled engine's where it was chosen, else the plain ones.

Both encoders make the same bytes, and both threads keep the same contract (`sync.py`). Only the compiled engine has a
decoder of runs; without one, each record is read singly.
"""

from array import array
from collections.abc import Callable
from typing import Final, Protocol

from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.message import View
from headrace.storage import record
from headrace.storage.files import Files, RealFiles
from headrace.storage.index_layer import Delta
from headrace.storage.sync import SyncWorker, ThreadWorker, Wake


class DecodeRun(Protocol):
    """Makes views of messages in a block; see `compiled_log.decode_run`."""

    def __call__(
        self,
        block: bytes,
        base: int,
        *,
        salt: int,
        units: "array[int]",
        place: int,
        sequence: int,
        count_max: int,
        size_max: int,
    ) -> list[View]: ...


class CollectNotes(Protocol):
    """Notes the messages of a window of a segment for the lookup index; see `compiled_log.collect_notes`."""

    def __call__(
        self,
        window: bytes,
        base: int,
        *,
        salt: int,
        first: int,
        last: int,
        live_from: int,
        segment_first: int,
        gone: bytes,
        run_sequences: "array[int]",
        run_places: "array[int]",
        deltas: dict[bytes, int | Delta],
        ids: dict[bytes, tuple[int, int]],
        make_delta: type[Delta],
    ) -> tuple[int, int]: ...


_Native: Callable[[Wake], SyncWorker] | None = None
_decode_run: DecodeRun | None = None
_collect_notes: CollectNotes | None = None
if ENGINE == "compiled":
    from headrace.storage.compiled_log import SyncThread, encode_batch, views_size
    from headrace.storage.compiled_log import collect_notes as _compiled_collect_notes
    from headrace.storage.compiled_log import decode_run as _compiled_decode_run

    _Native = SyncThread
    _decode_run = _compiled_decode_run
    _collect_notes = _compiled_collect_notes
else:
    encode_batch = record.encode_batch
    views_size = record.views_size

decode_run: Final = _decode_run
collect_notes: Final = _collect_notes

__all__ = [
    "CollectNotes",
    "DecodeRun",
    "collect_notes",
    "decode_run",
    "encode_batch",
    "sync_thread",
    "views_size",
]


def sync_thread(files: Files, wake: Wake) -> SyncWorker:
    """Give a sync worker with a thread of its own. The compiled one knows no files but the system's."""
    return ThreadWorker(files, wake) if _Native is None or not isinstance(files, RealFiles) else _Native(wake)
