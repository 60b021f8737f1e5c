"""Many streams of one store, changed at random in the same turns: what the journal and the group commit are for.

Each stream has its `Program` and model. Streams are made and deleted on the way: after a crash one that was confirmed
is there, one whose deletion was confirmed is not, and whatever is there agrees with its model.
"""

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from headrace.core.base.clock import NS_PER_MS
from headrace.storage.interface import StorageError, StreamLog
from headrace.tools.selftest.cases import expect
from headrace.tools.selftest.model import Moment
from headrace.tools.selftest.program import Program
from headrace.tools.selftest.world import ANSWER_MAX_NS, ANSWER_STEP_NS, World

STREAMS_MAX: Final = 6
CREATE_SHARE: Final = 0.03
DELETE_SHARE: Final = 0.015
PAUSE_SHARE: Final = 0.02
COMMIT_SHARE: Final = 0.35
CHECK_SHARE: Final = 0.01
PAUSE_MAX_MS: Final = 400


class Fleet:
    """The streams of one store. Unless `lives_change`, none is made or deleted on the way."""

    def __init__(
        self,
        world: World,
        seed: int,
        *,
        streams: int = 3,
        program: type[Program] = Program,
        lives_change: bool = True,
    ) -> None:
        self.world = world
        self._program = program
        self._lives_change = lives_change
        self.random = random.Random(seed)
        self.programs: dict[int, Program] = {}
        self.refusals: list[StorageError] = []
        self.errors: list[StorageError] = []
        """What came instead of confirmations."""
        self.checks = True
        self._answers_missing = 0
        self._confirmed: set[int] = set()
        self._doubtful: set[int] = set()
        self._leaving: dict[int, Program] = {}
        self._gone: set[int] = set()
        for _ in range(streams):
            self._create()
        self.commit()

    def run(self, steps: int) -> None:
        """Do so many random things; commit now and then."""
        for _ in range(steps):
            self._step()
            if self.random.random() < COMMIT_SHARE:
                self.commit()

    def run_with_errors(self, steps: int) -> None:
        """Do so many random things, of which some are refused; the models have those that were not."""
        for _ in range(steps):
            try:
                self._step()
            except StorageError as error:
                self.refusals.append(error)
            if self.random.random() < COMMIT_SHARE:
                self.commit()

    def run_until_cut(self) -> None:
        """Go on until the power goes."""
        while True:
            self.run(10)

    def commit(self) -> None:
        """End a turn; what was told so far is confirmed when the sync returns."""
        moments = [(program, program.past.moment()) for program in self.programs.values()]
        told = partial(self._on_synced, moments, set(self.programs), set(self._leaving))
        self._answers_missing += 1
        self.world.store.after_sync(told)
        self.world.store.commit()
        self.world.scheduler.settle()
        waited_ns = 0
        while self._answers_missing and waited_ns < ANSWER_MAX_NS:
            self.world.scheduler.advance(ANSWER_STEP_NS)
            waited_ns += ANSWER_STEP_NS
        expect(not self._answers_missing, "no answer within 1 s")

    def check(self) -> None:
        """Hold every stream against its model."""
        for program in self.programs.values():
            program.check()

    def come_back(self, logs: Sequence[StreamLog]) -> None:
        """Go on after a crash with what is left, which is checked first."""
        self.world.wait_for_index()
        found = {log.stream_id: log for log in logs}
        known = {**self.programs, **self._leaving}
        expect(not found.keys() - known.keys() - self._gone, "a stream is there that was never made")
        expect(not found.keys() & self._gone, "a stream is there whose deletion was confirmed")
        missing = self._confirmed - self._leaving.keys() - found.keys()
        expect(not missing, f"{len(missing)} streams are gone; cannot be read: {self.world.store.unreadable}")
        expect(not self.world.store.unreadable, f"cannot be read: {self.world.store.unreadable}")
        self._answers_missing = 0
        self._gone |= known.keys() - found.keys()
        self._leaving = {}
        self._doubtful = set()
        self.programs = {stream_id: known[stream_id] for stream_id in found}
        self._confirmed = set(found)
        for stream_id, program in self.programs.items():
            program.come_back(found[stream_id])

    def _step(self) -> None:
        chance = self.random.random()
        if not self._lives_change:
            chance = max(chance, CREATE_SHARE + DELETE_SHARE)
        if chance < CREATE_SHARE or not self.programs:
            if len(self.programs) < STREAMS_MAX:
                self._create()
        elif chance < CREATE_SHARE + DELETE_SHARE:
            self._delete(self._any())
        elif chance < CREATE_SHARE + DELETE_SHARE + PAUSE_SHARE:
            self.world.scheduler.advance(self.random.randint(1, PAUSE_MAX_MS) * NS_PER_MS)
        elif chance > 1 - CHECK_SHARE:
            if self.checks:
                self._any().check()
        else:
            self._any().step()

    def _any(self) -> Program:
        return self.random.choice(list(self.programs.values()))

    def _create(self) -> None:
        program = self._program(self.world, self.random.getrandbits(32))
        self.programs[program.log.stream_id] = program

    def _delete(self, program: Program) -> None:
        stream_id = program.log.stream_id
        self.world.store.delete(program.log)
        del self.programs[stream_id]
        self._leaving[stream_id] = program

    def _on_synced(
        self,
        moments: list[tuple[Program, Moment]],
        there: set[int],
        leaving: set[int],
        error: StorageError | None,
    ) -> None:
        self._answers_missing -= 1
        if error is not None:
            # Whoever asked for these has heard that nobody knows; no later answer speaks of them.
            self.errors.append(error)
            self._doubtful |= (there - self._confirmed) | leaving
            return
        used = {
            program.log.stream_id
            for program, moment in moments
            if not program.log.fenced and moment.appended - program.past.confirmed
        }
        known = (there - self._doubtful) | used
        self._confirmed |= known & (self.programs.keys() | self._leaving.keys())
        for stream_id in (leaving - self._doubtful) & self._leaving.keys():
            del self._leaving[stream_id]
            self._confirmed.discard(stream_id)
            self._gone.add(stream_id)
        for program, moment in moments:
            if not program.log.fenced:
                program.past.confirm(moment)
