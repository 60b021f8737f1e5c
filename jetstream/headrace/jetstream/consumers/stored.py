"""How a consumer's state gets to storage: as deltas, soon, and at once where somebody waits for it.

A delta says what changed since the last one. It goes out within `STORE_INTERVAL_NS`, without asking for a sync; what a
client wants confirmed asks for one. If storage refuses a delta, the next thing that goes out is the whole state.

A consumer with `mem_storage` has no place on disk: here it costs nothing, and confirmations come at once.
"""

from typing import Final

from headrace.core.base.clock import NS_PER_MS
from headrace.jetstream.consumers.state import ConsumerState
from headrace.jetstream.context import Context
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.storage.interface import ConsumerRecord, RegisterChange, StorageError, StreamLog

STORE_INTERVAL_NS: Final = 80 * NS_PER_MS
"""How long a change of the state may wait for others before it goes out."""

LISTED_TO: Final = "listed_to"
"""The number of the register that says where the list of a `last_per_subject` consumer was made."""

_NOTHING: Final = RegisterChange({}, [], {})


class StoredState:
    """One consumer's record in its stream's log."""

    def __init__(
        self,
        context: Context,
        log: StreamLog,
        name: str,
        created_ns: int,
        state: ConsumerState,
        *,
        listed_to: int,
        is_stored: bool,
    ) -> None:
        self.due_ns = 0  # when `store` has to be called; 0: there is nothing to store
        self.listed_to = listed_to
        self._context = context
        self._log = log
        self._name = name
        self._created_ns = created_ns
        self._state = state
        self._is_stored = is_stored
        self._was_refused = False
        self._has_unsynced = False

    def save(self, config: ConsumerConfig) -> None:
        """Store the consumer as it is: configuration and whole register. Raises StorageError."""
        if not self._is_stored:
            return
        register = self._state.register()
        if self.listed_to:
            register.numbers[LISTED_TO] = self.listed_to
        self._log.save_consumer(self._name, config.model_dump(), self._created_ns, register)
        self._was_refused = False
        self.due_ns = 0

    def record(self, config: ConsumerConfig, now_ns: int) -> ConsumerRecord:
        """Give what is stored of the consumer, up to now."""
        self.store(config, now_ns, sync=False)
        register = self._state.register()
        if self.listed_to:
            register.numbers[LISTED_TO] = self.listed_to
        return ConsumerRecord(self._name, config.model_dump(), self._created_ns, register)

    def save_config(self, config: ConsumerConfig) -> None:
        """Store another configuration. Raises StorageError."""
        if self._is_stored:
            self._log.save_consumer(self._name, config.model_dump(), self._created_ns, None)

    def changed(self, now_ns: int) -> None:
        """The state is another one."""
        if not self.due_ns:
            self.due_ns = now_ns + STORE_INTERVAL_NS

    def store(self, config: ConsumerConfig, now_ns: int, *, sync: bool) -> bool:
        """Hand what changed to storage; tell whether it took it.

        With `sync`, the next group commit covers that and everything handed over before.
        """
        self.due_ns = 0
        if not self._is_stored:
            self._state.forget_changes()
            return True
        try:
            if self._was_refused:
                self.save(config)
            else:
                self._store_change(sync=sync)
        except StorageError as error:
            self._was_refused = True
            self._context.log.warning(f"Consumer '{self._name}': state not stored: {error}")
            if not self._log.fenced:
                self.changed(now_ns)
            return False
        return True

    def _store_change(self, *, sync: bool) -> None:
        change = self._state.change()
        if sync and change is None and self._has_unsynced:
            change = _NOTHING  # what went out before is to be synced
        if change is not None:
            self._log.change_register(self._name, change, sync=sync)
            self._has_unsynced = not sync
