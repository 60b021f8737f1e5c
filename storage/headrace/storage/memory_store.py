"""A store whose logs are all in memory. Nothing outlives the process, so every change is durable at once.

**Held** (tests): the store plays one on a slow disk. Logs keep `durable_sequence` where it was and `after_sync` keeps
its callbacks until `release()`, which is the sync's return, for better or worse. `refuse()` plays a full disk.
"""

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core.base.chance import Chance
from headrace.storage.interface import StorageError, StreamLog
from headrace.storage.memory_log import Hold, MemoryLog


class MemoryStore:
    """Memory logs by the name of a store. `create` makes memory logs whatever it is asked for."""

    def __init__(self, chance: Chance, *, held: bool = False) -> None:
        self._chance = chance
        self._hold = Hold(is_held=held)
        self._logs: dict[int, MemoryLog] = {}
        self._waiting: list[Callable[[StorageError | None], None]] = []

    def logs(self) -> Sequence[StreamLog]:
        return list(self._logs.values())

    def create(
        self,
        config: dict[str, Any],
        *,
        memory: bool,  # noqa: ARG002  (all are)
        created_ns: int,
        first_sequence: int = 0,
    ) -> MemoryLog:
        self._begin_change()
        log = MemoryLog(
            stream_id=self._chance.bits64(),
            config=config,
            created_ns=created_ns,
            first_sequence=first_sequence,
            hold=self._hold,
        )
        self._logs[log.stream_id] = log
        return log

    def delete(self, log: StreamLog) -> None:
        self._begin_change()
        del self._logs[log.stream_id]

    @property
    def is_settled(self) -> bool:
        return not (self._hold.is_held and self._hold.pending)

    def after_sync(
        self,
        callback: Callable[[StorageError | None], None],
        log: StreamLog | None = None,  # noqa: ARG002  (a sync that fails here fails for all)
    ) -> None:
        if self.is_settled and not self._waiting:
            callback(None)
        else:
            self._waiting.append(callback)

    def commit(self) -> None:
        pass

    def close(self) -> None:
        self.release()

    def release(self, error: StorageError | None = None) -> None:
        """Let the sync return that held everything up; with an error, it failed and every log is fenced."""
        self._hold.pending = False
        for log in self._logs.values():
            if error is None:
                log.settle()
            else:
                log.fence(str(error))
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback(error)

    def refuse(self, error: StorageError | None) -> None:
        """Refuse every change with `error` from now on; None: no longer."""
        self._hold.refusal = error

    def _begin_change(self) -> None:
        if self._hold.refusal is not None:
            raise self._hold.refusal
        self._hold.pending = True
