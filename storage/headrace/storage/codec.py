"""Which batch encoder and which sync thread run: the compiled engine's where it was chosen, else the plain ones.

Both encoders make the same bytes, and both threads keep the same contract (`sync.py`).
"""

from collections.abc import Callable

from headrace.core.base.engine_choice import ENGINE
from headrace.storage import record
from headrace.storage.files import Files, RealFiles
from headrace.storage.sync import SyncWorker, ThreadWorker, Wake

_Native: Callable[[Wake], SyncWorker] | None = None
if ENGINE == "compiled":
    from headrace.storage.compiled_log import SyncThread, encode_batch

    _Native = SyncThread
else:
    encode_batch = record.encode_batch

__all__ = ["encode_batch", "sync_thread"]


def sync_thread(files: Files, wake: Wake) -> SyncWorker:
    """Give a sync worker with a thread of its own. The compiled one knows no files but the system's."""
    return ThreadWorker(files, wake) if _Native is None or not isinstance(files, RealFiles) else _Native(wake)
