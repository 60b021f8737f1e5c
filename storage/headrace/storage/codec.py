"""Which batch encoder, block decoder and sync thread run: the compiled engine's where it was chosen, else the plain ones.

Both encoders make the same bytes, and both threads keep the same contract (`sync.py`). A decoder may stop at any
record, which is then read singly; the plain one stops at once.
"""

from array import array
from collections.abc import Callable

from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.message import View
from headrace.storage import record
from headrace.storage.files import Files, RealFiles
from headrace.storage.sync import SyncWorker, ThreadWorker, Wake

_Native: Callable[[Wake], SyncWorker] | None = None
if ENGINE == "compiled":
    from headrace.storage.compiled_log import SyncThread, decode_run, encode_batch

    _Native = SyncThread
else:
    encode_batch = record.encode_batch

    def decode_run(
        block: bytes,
        base: int,
        *,
        salt: int,
        units: "array[int]",
        place: int,
        sequence: int,
        count_max: int,
        size_max: int,
    ) -> list[View]:
        """Leave every record to whoever reads them singly."""
        return []


DECODES_RUNS = ENGINE == "compiled"

__all__ = ["DECODES_RUNS", "decode_run", "encode_batch", "sync_thread"]


def sync_thread(files: Files, wake: Wake) -> SyncWorker:
    """Give a sync worker with a thread of its own. The compiled one knows no files but the system's."""
    return ThreadWorker(files, wake) if _Native is None or not isinstance(files, RealFiles) else _Native(wake)
