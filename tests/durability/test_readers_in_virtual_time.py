"""The offline reader and the checker beside a store that folds, rewrites, dies and loses its power, from one seed.

No look may fail, call a settled message lost, show one that is not the one that was appended, or find the store's own
numbers to disagree; before the next start cleans up as well as in service.
"""

import random

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.core.base.message import View
from headrace.storage.bounds import Bounds
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.findings import Severity
from headrace.storage.interface import Effect, Entry, StreamLog
from headrace.storage.reader import StoreReader
from headrace.storage.store import FileStore, StoreOptions, open_store

BOUNDS = Bounds(
    segment_size_first=4096,
    segment_size_max=8192,
    checkpoint_count=30,
    generation_size_min=2000,
    rewrite_gain_min=256,
)
STEPS = 120


class Beside:
    """Two logs on a faulty disk, and who looks at them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.files = FaultyFiles(seed)
        self.scheduler = VirtualScheduler()
        self.store = self.open()
        self.known: dict[tuple[int, int], View | None] = {}
        for name in ("S", "T"):
            self.store.create({"name": name}, memory=False, created_ns=7)

    def open(self) -> FileStore:
        return open_store(
            "/store",
            scheduler=self.scheduler,
            chance=Chance(self.chance.getrandbits(60)),
            files=self.files,
            options=StoreOptions(is_index_in_memory=True, bounds=BOUNDS),
        )

    def change(self, log: StreamLog) -> None:
        chance, head = self.chance, log.head
        if chance.random() < 0.8:
            for _ in range(chance.randrange(1, 12)):
                effect = Effect()
                if chance.random() < 0.2 and head.messages:
                    effect = Effect(evicted=(chance.randrange(head.first_sequence, head.last_sequence + 1),))
                payload = b"p%06d" % chance.randrange(10**6) * chance.randrange(1, 20)
                subject = b"s.%d" % chance.randrange(9)
                sequence = log.append([Entry(subject, b"", payload, self.scheduler.now_ns(), effect=effect)])
                self.known[log.stream_id, sequence] = log.get(sequence)
        if chance.random() < 0.3 and head.messages:
            first = chance.randrange(head.first_sequence, head.last_sequence + 1)
            log.remove([(first, first + chance.randrange(15))])
        if chance.random() < 0.05:
            log.skip(log.head.last_sequence + chance.randrange(1, 9), self.scheduler.now_ns())

    def die(self) -> None:
        self.scheduler = VirtualScheduler(self.scheduler.now_ns())
        self.files = self.files.killed() if self.chance.random() < 0.5 else self.files.power_cut()

    def begin_again(self) -> None:
        self.store = self.open()
        ends = {log.stream_id: log.head.last_sequence for log in self.store.logs()}
        # What the crash took was never acknowledged; its sequence may hold another message now.
        self.known = {key: view for key, view in self.known.items() if key[1] <= ends.get(key[0], 0)}

    def read(self) -> None:
        for stream in StoreReader("/store", files=self.files).streams():
            before = 0
            for message in stream.messages(with_unsettled=self.chance.random() < 0.5):
                sequence = message.view.sequence
                assert sequence > before
                before = sequence
                assert self.known.get((stream.stream_id, sequence), message.view) == message.view
            stream.head()
            assert [each for each in stream.lost if each.certain] == []
            stream.close()

    def check(self) -> None:
        found = check_store("/store", files=self.files).findings
        wrong = [each for each in found if each.severity is not Severity.NOTE and each.certain]
        assert [each for each in wrong if each.name != "state-single"] == []


def play(seed: int) -> None:
    beside = Beside(seed)
    for _ in range(STEPS):
        for log in beside.store.logs():
            beside.change(log)
        beside.store.commit()
        draw = beside.chance.random()
        if draw < 0.6:
            beside.scheduler.settle()
        elif draw < 0.9:
            beside.scheduler.advance(NS_PER_S)
        dies = draw > 0.95
        if dies:
            beside.die()
        if beside.chance.random() < 0.4:
            beside.read()
        if beside.chance.random() < 0.4:
            beside.check()
        if dies:
            beside.begin_again()


@pytest.mark.parametrize("seed", range(12))
def test_no_look_fails_beside_a_store_that_rewrites_and_dies(seed: int) -> None:
    play(seed)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_look_of_many_fails_beside_a_store_that_rewrites_and_dies() -> None:
    for seed in range(500):
        play(seed)
