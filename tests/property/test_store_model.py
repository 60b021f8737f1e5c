"""Any log does what a dictionary does: changes and reads in any order, with clean stops and kills between them."""

import contextlib
import copy
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.interface import Effect, Entry, Register, RegisterChange, StreamLog
from headrace.storage.memory_store import MemoryStore
from headrace.tools.selftest.model import (
    MATCHES,
    SUBJECTS,
    LogModel,
    Match,
    batch_of,
    check_reads,
    check_state,
)
from headrace.tools.selftest.world import World

subjects = st.sampled_from(SUBJECTS)
payloads = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"x" * 700]))
headers = st.sampled_from([b"", b"", b"NATS/1.0\r\nA: b\r\n\r\n"])
message_ids = st.sampled_from([b"", b"", b"id-1", b"id-2", b"i" * 480])
places = st.integers(min_value=0, max_value=40)
names = st.sampled_from(["one", "two"])
rows = st.dictionaries(places, st.tuples(places, places), max_size=4)
matches = st.sampled_from(MATCHES)


class LogMachine(RuleBasedStateMachine):
    """The rules; a subclass says which log."""

    log: StreamLog
    model: LogModel

    def __init__(self) -> None:
        super().__init__()
        self.time_ns = VirtualScheduler().now_ns()

    def tick(self) -> int:
        self.time_ns += 10
        return self.time_ns

    def entry(
        self, subject: bytes, header: bytes, payload: bytes, message_id: bytes, effect: Effect
    ) -> Entry:
        return Entry(subject, header, payload, self.tick(), message_id, 0, effect)

    @rule(
        fields=st.lists(st.tuples(subjects, headers, payloads, message_ids), min_size=1, max_size=4),
        back=places,
        kind=st.sampled_from(["", "", "", "first", "evicted", "subject", "all"]),
    )
    def append(self, fields: list[tuple[bytes, bytes, bytes, bytes]], back: int, kind: str) -> None:
        target = max(1, self.model.last - back)
        effect = {
            "": Effect(),
            "first": Effect(first_sequence=target),
            "evicted": Effect(evicted=(target,)),
            "subject": Effect(subject_before=True),
            "all": Effect(all_before=True),
        }[kind]
        entries = [self.entry(*each, Effect()) for each in fields[:-1]]
        entries.append(self.entry(*fields[-1], effect))
        first = self.model.last + 1
        for each in entries:
            self.model.append(each)
        assert self.log.append(entries) == first

    @rule(fields=st.lists(st.tuples(subjects, headers, payloads), min_size=1, max_size=30))
    def append_batch(self, fields: list[tuple[bytes, bytes, bytes]]) -> None:
        time_ns = self.tick()
        batch = batch_of([Entry(*each, time_ns) for each in fields])
        first = self.model.last + 1
        self.model.append_batch(batch, time_ns)
        assert self.log.append_batch(batch, time_ns) == first

    @rule(subject=subjects, fields=st.lists(st.tuples(headers, payloads), min_size=2, max_size=30))
    def append_batch_on_one_subject(self, subject: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        self.append_batch([(subject, *each) for each in fields])

    @rule(ahead=st.integers(min_value=-3, max_value=5000))
    def skip(self, ahead: int) -> None:
        last, time_ns = max(0, self.model.last + ahead), self.tick()
        self.log.skip(last, time_ns)
        self.model.skip(last, time_ns)

    @rule(place=places, size=places, beyond=st.booleans(), secure=st.booleans())
    def remove(self, place: int, size: int, beyond: bool, secure: bool) -> None:
        first = max(1, self.model.last - place)
        last = first + size if beyond else min(first + size, max(self.model.last, first))
        assert self.log.remove([(first, last)], secure=secure) == self.model.remove([(first, last)])

    @rule(places=st.lists(places, min_size=1, max_size=5, unique=True))
    def remove_singles(self, places: list[int]) -> None:
        ranges = sorted((max(1, self.model.last - each),) * 2 for each in places)
        ranges = sorted(set(ranges))
        if self.model.last:
            assert self.log.remove(ranges) == self.model.remove(ranges)

    @rule(size=places)
    def purge(self, size: int) -> None:
        last = max(1, self.model.last - size)
        assert self.log.remove([(1, last)]) == self.model.remove([(1, last)])

    @rule(match=matches, back=places, is_below=st.booleans(), keep=st.sampled_from([0, 0, 1, 3]))
    def remove_subjects(self, match: Match, back: int, is_below: bool, keep: int) -> None:
        below = max(1, self.model.last - back) if is_below else 0
        assert self.log.remove_subjects(match, below=below, keep=keep) == self.model.remove_subjects(
            match, below, keep
        )

    @rule(name=names, rows=rows, is_new=st.booleans())
    def save_consumer(self, name: str, rows: dict[int, tuple[int, int]], is_new: bool) -> None:
        register = Register({"delivered": self.model.last}, self._named(rows)) if is_new else None
        self.log.save_consumer(name, {"durable_name": name}, self.tick(), register)
        if is_new or name not in self.model.registers:
            self.model.registers[name] = copy.deepcopy(register) or Register({}, {})

    @rule(name=names)
    def delete_consumer(self, name: str) -> None:
        self.log.delete_consumer(name)
        self.model.registers.pop(name, None)

    @precondition(lambda self: self.model.registers)
    @rule(data=st.data(), number=places, first=places, size=places, puts=rows, sync=st.booleans())
    def change_register(
        self,
        data: st.DataObject,
        number: int,
        first: int,
        size: int,
        puts: dict[int, tuple[int, int]],
        sync: bool,
    ) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.registers)))
        change = RegisterChange({"floor": number}, [(first, first + size)], self._named(puts))
        self.log.change_register(name, change, sync=sync)
        self.model.change_register(name, change)

    def _named(self, rows: dict[int, tuple[int, int]]) -> dict[int, tuple[int, ...]]:
        """Give rows of sequences that were used: naming one uses it up."""
        return {sequence: row for sequence, row in rows.items() if 0 < sequence <= self.model.last}

    @rule(at=places)
    def read(self, at: int) -> None:
        check_reads(self.log, self.model, at)
        check_reads(self.log, self.model, max(0, self.model.last - at))

    @invariant()
    def agree(self) -> None:
        check_state(self.log, self.model)


class MemoryLogMachine(LogMachine):
    @initialize(first=st.sampled_from([0, 1, 100]))
    def start(self, first: int) -> None:
        self.log = MemoryStore(Chance(1)).create({}, memory=True, created_ns=1, first_sequence=first)
        self.model = LogModel(is_memory=True, last=max(0, first - 1))


class FileLogMachine(LogMachine):
    @initialize(first=st.sampled_from([0, 1, 100]), seed=st.integers(0, 1000), on_disk=st.booleans())
    def start(self, first: int, seed: int, on_disk: bool) -> None:
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(TemporaryDirectory()) if on_disk else None
            self.world = World(seed, index_path=path)
            self.cleanup = stack.pop_all()
        self.log = self.world.create(first_sequence=first)
        self.model = LogModel(is_memory=False, last=max(0, first - 1))
        self.world.commit()

    @rule()
    def commit(self) -> None:
        self.world.commit()
        assert self.log.durable_sequence == self.model.last

    @rule(is_clean=st.booleans())
    def restart(self, is_clean: bool) -> None:
        self.world.commit()
        self.world.wait()
        logs = self.world.reopen() if is_clean else self.world.kill()
        self.log = self._only(logs)

    def _only(self, logs: Sequence[StreamLog]) -> StreamLog:
        assert len(logs) == 1
        assert logs[0].head.lost == ()
        return logs[0]

    def teardown(self) -> None:
        if hasattr(self, "cleanup"):
            self.world.leave()
            self.cleanup.close()


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    # Shrinking a history takes minutes; the one that failed is printed.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.timeout(120)
class TestMemoryLogDoesWhatADictionaryDoes(MemoryLogMachine.TestCase):
    settings = SETTINGS


@pytest.mark.timeout(120)
class TestFileLogDoesWhatADictionaryDoes(FileLogMachine.TestCase):
    settings = SETTINGS
