"""A random program for one log of a store: one seed gives one program, and the model of what it does."""

import copy
import random
from functools import partial
from typing import ClassVar

from headrace.storage.interface import Effect, Entry, Register, RegisterChange, StorageError, StreamLog
from headrace.tools.selftest.cases import expect_same
from headrace.tools.selftest.model import (
    MATCHES,
    SUBJECTS,
    LogModel,
    Moment,
    Past,
    adopt,
    batch_of,
    check_reads,
    check_state,
)
from headrace.tools.selftest.world import World

NAMES = ("one", "two")
ID_WINDOW_NS = 1 << 62
"""Message ids are wanted for ever: so none may be forgotten."""


class Program:
    """Changes a log at random and holds the model against it."""

    sizes: ClassVar[tuple[int, ...]] = (1, 1, 5, 60, 400)
    """How often a payload repeats its number."""

    def __init__(self, world: World, seed: int, log: StreamLog | None = None) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.time_ns = world.scheduler.now_ns()
        self.log = log if log is not None else world.create()
        self.log.keep_message_ids(ID_WINDOW_NS)
        self.model = LogModel(is_memory=False)
        self.past = Past(registers=[{}])
        self.errors: list[StorageError] = []
        """What came instead of confirmations."""
        self.refusals: list[StorageError] = []
        self._counter = 0

    def run(self, steps: int) -> None:
        """Do so many random things; commit now and then."""
        for _ in range(steps):
            self.step()
            if self.random.random() < 0.3:
                self.commit()

    def run_until_cut(self) -> None:
        """Go on until the power goes."""
        while True:
            self.run(10)

    def run_with_errors(self, steps: int) -> None:
        """Do so many random things, of which some are refused; the model has those that were not."""
        for _ in range(steps):
            try:
                self.step()
            except StorageError as error:
                self.refusals.append(error)
            if self.random.random() < 0.3:
                self.commit()

    def commit(self) -> None:
        """End a turn; what was told so far is confirmed when the sync returns."""
        self.world.store.after_sync(partial(self.on_synced, self.past.moment()))
        self.world.store.commit()
        self.world.scheduler.settle()

    def check(self) -> None:
        """Hold the model against all that the log shows."""
        check_state(self.log, self.model)
        check_reads(self.log, self.model, self.random.randint(0, self.model.last + 1))

    def come_back(self, log: StreamLog) -> None:
        """Go on after a crash with what is left, which is checked first."""
        self.world.wait_for_index()
        self.past.check(log)
        self.model = adopt(log, self.model.ids)
        self.past = Past(
            appended=dict(self.model.messages),
            confirmed=set(self.model.messages),
            registers=[copy.deepcopy(self.model.registers)],
            confirmed_last=self.model.last,
            ids={message_id: sequence for message_id, (sequence, _) in self.model.ids.items()},
        )
        self.log = log
        log.keep_message_ids(ID_WINDOW_NS)
        self.check()

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.55:
            self._append()
        elif chance < 0.65:
            self._append_batch()
        elif chance < 0.67:
            last = self.model.last + self.random.randint(1, 300)
            self.log.skip(last, self.tick())
            self.model.skip(last, self.time_ns)
        elif chance < 0.80:
            self._remove()
        elif chance < 0.82:
            match = self.random.choice(MATCHES)
            below = self.random.choice([0, self.random.randint(1, self.model.last + 1)])
            keep = self.random.choice([0, 0, 2])
            found = self.log.remove_subjects(match, below=below, keep=keep)
            expect_same("removed by subject", found, self.model.remove_subjects(match, below, keep))
        else:
            sync = self._change_consumers()
            self.past.note_registers(self.model, sync=sync)
            return
        self.past.note(self.model)

    def on_synced(self, moment: Moment, error: StorageError | None) -> None:
        """Take note of what came of a commit."""
        if error is not None:
            self.errors.append(error)
        elif not self.log.fenced:
            # What a fenced log was told before is never durable; the store's other logs go on.
            self.past.confirm(moment)

    def tick(self) -> int:
        """Give the next moment."""
        self.time_ns += 10
        return self.time_ns

    def _entry(self, effect: Effect) -> Entry:
        self._counter += 1
        payload = b"%d." % self._counter * self.random.choice(self.sizes)
        return Entry(
            self.random.choice(SUBJECTS),
            self.random.choice([b"", b"", b"NATS/1.0\r\nA: b\r\n\r\n"]),
            payload,
            self.tick(),
            b"id-%d" % self._counter if self.random.random() < 0.2 else b"",
            0,
            effect,
        )

    def _append(self) -> None:
        target = max(1, self.model.last - self.random.randint(0, 60))
        effects = [
            Effect(first_sequence=target),
            Effect(evicted=(target,)),
            Effect(subject_before=True),
            Effect(all_before=True),
        ]
        has_effect = self.random.random() < 0.4
        effect = self.random.choices(effects, weights=[3, 5, 5, 1])[0] if has_effect else Effect()
        entries = [self._entry(Effect()) for _ in range(self.random.randint(0, 3))]
        entries.append(self._entry(effect))
        self.log.append(entries)
        for each in entries:
            self.model.append(each)

    def append_plainly(self) -> None:
        """Append one message that removes nothing."""
        entry = self._entry(Effect())
        self.log.append([entry])
        self.model.append(entry)
        self.past.note(self.model)

    def _append_batch(self) -> None:
        batch = batch_of([self._entry(Effect()) for _ in range(self.random.randint(1, 40))])
        time_ns = self.tick()
        self.log.append_batch(batch, time_ns)
        self.model.append_batch(batch, time_ns)

    def _remove(self) -> None:
        place = self.random.randint(1, max(1, self.model.last))
        size = self.random.choice([0, 0, 0, 3, 30])
        ranges = [(place, place + size)]
        chance = self.random.random()
        if chance < 0.3:
            ranges = [(1, place)]
        elif chance < 0.35:
            ranges = [(1, self.model.last + 5)]
        ranges = [
            (first, last) for first, last in ranges if first <= self.model.first or last <= self.model.last
        ]
        removed = self.log.remove(ranges, secure=self.random.random() < 0.1)
        expect_same("removed", removed, self.model.remove(ranges))

    def _change_consumers(self) -> bool:
        """Change a consumer; tell whether that asked for a sync."""
        name = self.random.choice(NAMES)
        chance = self.random.random()
        if name not in self.model.registers or chance < 0.1:
            register = Register(
                {"delivered": self.tick()}, {self.model.last: (1, 2)} if self.model.last else {}
            )
            self.log.save_consumer(name, {"durable_name": name}, self.time_ns, register)
            self.model.registers[name] = copy.deepcopy(register)
        elif chance < 0.15:
            self.log.delete_consumer(name)
            del self.model.registers[name]
        else:
            # A sequence that a consumer names counts as used, so none above the last is named.
            first = self.random.randint(1, 60)
            puts = {
                self.random.randint(1, self.model.last): (self.tick(), 1)
                for _ in range(min(3, self.model.last))
            }
            change = RegisterChange({"floor": self.time_ns}, [(first, first + 9)], puts)
            sync = self.random.random() < 0.7
            self.log.change_register(name, change, sync=sync)
            self.model.change_register(name, change)
            return sync
        return True
