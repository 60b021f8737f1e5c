"""Putting salvaged messages into a new store, which a server can be started on.

Sequences, times, headers, message ids, configuration and consumers are kept. What could not be read is skipped, so
that no sequence is used for another message. The new store has no index; the server makes one at its start.
"""

from typing import Any, Final

from headrace.core.base.chance import Chance, fresh_seed
from headrace.core.base.clock import SystemClock, VirtualScheduler
from headrace.storage.files import Files, RealFiles
from headrace.storage.interface import Entry, StorageError, StoreUnusable, StreamLog
from headrace.storage.salvage import SalvagedStream
from headrace.storage.store import STREAMS_FOLDER, StoreOptions, open_store

CYCLE_SIZE: Final = 4 * 1024 * 1024
"""Bytes that are written and synced together."""


class SalvageStore:
    """A new store in a folder that holds none yet. Raises StoreUnusable."""

    def __init__(self, path: str, *, files: Files | None = None) -> None:
        files = files if files is not None else RealFiles()
        streams = f"{path}/{STREAMS_FOLDER}"
        if files.status(streams) is not None and files.list_folder(streams):
            raise StoreUnusable(f"{path} holds a store already: give a folder that does not")
        self._scheduler = VirtualScheduler(SystemClock().now_ns())
        self._store = open_store(
            path,
            scheduler=self._scheduler,
            chance=Chance(fresh_seed()),
            files=files,
            options=StoreOptions(is_index_in_memory=True),
        )

    def take(self, stream: SalvagedStream, config: dict[str, Any]) -> int:
        """Write a stream, with this configuration; give the count of its messages. Raises StorageError."""
        log: StreamLog | None = None
        count = size = last = 0
        waiting: list[Entry] = []
        created_ns = stream.created_ns or self._scheduler.now_ns()
        for view, extras in stream.messages():
            if log is None:
                log = self._store.create(
                    config, memory=False, created_ns=created_ns, first_sequence=view.sequence
                )
                last = view.sequence - 1
            if view.sequence != last + 1:
                _append(log, waiting)
                log.skip(view.sequence - 1, view.time_ns)
            last = view.sequence
            waiting.append(Entry(view.subject, view.headers, view.payload, view.time_ns, extras.message_id))
            count += 1
            size += len(view.subject) + len(view.headers) + len(view.payload)
            if size >= CYCLE_SIZE:
                _append(log, waiting)
                self._commit()
                size = 0
        if log is None:
            log = self._store.create(config, memory=False, created_ns=created_ns)
        _append(log, waiting)
        for consumer in stream.consumers.values():
            log.save_consumer(consumer.name, consumer.config, consumer.created_ns, consumer.register)
        self._commit()
        return count

    def close(self) -> None:
        """Stop cleanly."""
        self._store.close()

    def _commit(self) -> None:
        failed: list[StorageError] = []

        def on_synced(error: StorageError | None) -> None:
            if error is not None:
                failed.append(error)

        self._store.after_sync(on_synced)
        self._store.commit()
        self._scheduler.settle()
        if failed:
            raise failed[0]


def _append(log: StreamLog, waiting: list[Entry]) -> None:
    if waiting:
        log.append(waiting)
        waiting.clear()
