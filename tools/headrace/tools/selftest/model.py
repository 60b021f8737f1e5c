"""A log as a dictionary: what every `StreamLog` has to agree with, and how to ask it everything.

The model says what a log shows while it runs. What it may show after a crash, `Past` says: every message that was
acknowledged and that nothing removed; none that was never appended, none whose removal was acknowledged; and
registers as they were when they were last confirmed, or later.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.core.base.message import Message, MessageBatch, View
from headrace.storage.accounting import file_size, memory_size
from headrace.storage.interface import Entry, Register, RegisterChange, StreamLog, SubjectState
from headrace.tools.selftest.cases import expect, expect_same

SUBJECTS = (b"a", b"b", b"b.c", b"c.1", b"c.2", b"c.3", b"long." + b"x" * 450, b"long." + b"x" * 450 + b"y")


class Match:
    """A matcher: literal subjects, or all that begin with something."""

    def __init__(self, start: bytes, literals: frozenset[bytes] | None = None) -> None:
        self.start = start
        self.literals = literals

    def matches(self, subject: bytes) -> bool:
        return subject in self.literals if self.literals is not None else subject.startswith(self.start)


MATCHES = (
    Match(b"c."),
    Match(b"nothing"),
    Match(b"long."),
    Match(b"", frozenset({b"a"})),
    Match(b"", frozenset({b"b", b"b.c", b"z"})),
)


@dataclass
class LogModel:
    """The appended state of a log."""

    is_memory: bool
    messages: dict[int, View] = field(default_factory=dict[int, View])
    appended: dict[int, View] = field(default_factory=dict[int, View])
    """All that ever was a message, those too that went in the same change."""

    ids: dict[bytes, tuple[int, int]] = field(default_factory=dict[bytes, tuple[int, int]])
    registers: dict[str, Register] = field(default_factory=dict[str, Register])
    last: int = 0
    last_time_ns: int = 0

    @property
    def first(self) -> int:
        return min(self.messages, default=self.last + 1)

    # changes

    def append(self, entry: Entry) -> None:
        self.last += 1
        self.last_time_ns = entry.time_ns
        view = View(self.last, entry.time_ns, entry.subject, entry.headers, entry.payload)
        self.messages[self.last] = self.appended[self.last] = view
        if entry.message_id:
            self.ids[entry.message_id] = (self.last, entry.time_ns)
        effect = entry.effect
        for sequence, earlier in list(self.messages.items()):
            if sequence < self.last and (
                effect.all_before
                or sequence < effect.first_sequence
                or sequence in effect.evicted
                or (effect.subject_before and earlier.subject == entry.subject)
            ):
                del self.messages[sequence]

    def append_batch(self, messages: Iterable[Message], time_ns: int) -> None:
        for each in messages:
            self.append(Entry(each.subject, each.headers, each.payload, time_ns))

    def skip(self, last: int, time_ns: int) -> None:
        if last > self.last:
            self.last = last
            self.last_time_ns = time_ns

    def remove(self, ranges: Sequence[tuple[int, int]]) -> int:
        before = len(self.messages)
        for first, last in ranges:
            is_ahead = first <= self.first and last > self.last
            for sequence in [each for each in self.messages if first <= each <= last]:
                del self.messages[sequence]
            if is_ahead:
                self.last = last
        return before - len(self.messages)

    def remove_subjects(self, match: Match, below: int, keep: int) -> int:
        doomed = [
            sequence
            for sequence, view in sorted(self.messages.items())
            if match.matches(view.subject) and (below == 0 or sequence < below)
        ]
        doomed = doomed[: max(0, len(doomed) - keep)]
        for sequence in doomed:
            del self.messages[sequence]
        return len(doomed)

    def change_register(self, name: str, change: RegisterChange) -> None:
        register = self.registers[name]
        register.numbers.update(change.numbers)
        for first, last in change.drops:
            for sequence in [each for each in register.rows if first <= each <= last]:
                del register.rows[sequence]
        register.rows.update(change.puts)

    # looking

    def size_of(self, view: View) -> int:
        formula = memory_size if self.is_memory else file_size
        return formula(
            subject_size=len(view.subject), headers_size=len(view.headers), payload_size=len(view.payload)
        )

    def states(self) -> dict[bytes, SubjectState]:
        by_subject: dict[bytes, list[int]] = {}
        for sequence in sorted(self.messages):
            by_subject.setdefault(self.messages[sequence].subject, []).append(sequence)
        return {
            subject: SubjectState(subject, len(found), found[0], found[-1])
            for subject, found in sorted(by_subject.items())
        }

    def gaps(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        expected = self.first
        for sequence in [*sorted(self.messages), self.last + 1]:
            if sequence > expected:
                found.append((expected, sequence - 1))
            expected = sequence + 1
        return found


def check_state(log: StreamLog, model: LogModel) -> None:
    """Compare the head, all messages and all registers."""
    head, first = log.head, model.first
    count = len(model.messages)
    expected = (
        count,
        sum(map(model.size_of, model.messages.values())),
        first if model.last else 0,
        model.messages[first].time_ns if count else 0,
        model.last,
        model.last_time_ns,
        len(model.states()),
        model.last - first + 1 - count,
    )
    found_head = (
        head.messages,
        head.size,
        head.first_sequence,
        head.first_time_ns,
        head.last_sequence,
        head.last_time_ns,
        head.subject_count,
        head.deleted_count,
    )
    expect_same("head", found_head, expected)
    found = log.scan(1, model.last, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30)
    expect_same("messages", found.views, [model.messages[each] for each in sorted(model.messages)])
    expect_same("end of a scan", found.next_sequence, model.last + 1)
    registers = {name: record.register for name, record in log.consumers().items()}
    expect_same("registers", plain(registers), plain(model.registers))


def check_reads(log: StreamLog, model: LogModel, at: int) -> None:
    """Compare every other read, those with a place at sequence `at`."""
    states = model.states()
    expect_same(f"get({at})", log.get(at), model.messages.get(at))
    size = model.size_of(model.messages[at]) if at in model.messages else 0
    expect_same(f"size_of({at})", log.size_of(at), size)
    following = min((each for each in model.messages if each >= at), default=model.last + 1)
    expect_same(f"next_sequence({at})", log.next_sequence(at), following)
    expect_same("deleted", list(log.deleted()), model.gaps())
    time_ns = model.messages[at].time_ns if at in model.messages else at
    for wanted_ns in (time_ns, time_ns + 1):
        expected = [each for each, view in sorted(model.messages.items()) if view.time_ns >= wanted_ns]
        expect_same("sequence_at", log.sequence_at(wanted_ns), expected[0] if expected else model.last + 1)
    for subject in (*SUBJECTS, b"z"):
        expect_same(f"subject({subject[:20]!r})", log.subject(subject), states.get(subject))
    expect_same("subjects", log.subjects(None), list(states.values()))
    behind = [state for subject, state in states.items() if subject > b"b"]
    expect_same("subjects behind b", log.subjects(None, after=b"b", count_max=2), behind[:2])
    for message_id, (sequence, _) in model.ids.items():
        # Never by a later time: what lies before it may be forgotten then.
        expect_same(f"id {message_id!r}", log.find_message_id(message_id, 1), sequence)
    expect_same("an id that never was", log.find_message_id(b"never", 0), None)
    for match in MATCHES:
        matching = [view for _, view in sorted(model.messages.items()) if match.matches(view.subject)]
        expected_states = [state for subject, state in states.items() if match.matches(subject)]
        expect_same("matching subjects", log.subjects(match), expected_states)
        count = sum(view.sequence >= at for view in matching)
        expect_same(f"count_matching({at})", log.count_matching(match, at), count)
        expect_same("last_matching", log.last_matching(match), matching[-1] if matching else None)
        before = [view for view in matching if view.sequence <= at]
        if at:
            last = log.last_matching(match, at_most=at)
            expect_same(f"last_matching at most {at}", last, before[-1] if before else None)
        found: list[View] = []
        start = at
        while start <= model.last:
            scan = log.scan(start, model.last, match, messages_max=2, size_max=200, steps_max=5)
            expect(
                len(scan.views) <= 2 and scan.next_sequence > start, f"a scan from {start} keeps its bounds"
            )
            found += scan.views
            start = scan.next_sequence
        expect_same(f"scan from {at}", found, [view for view in matching if view.sequence >= at])
    count = sum(sequence >= at for sequence in model.messages)
    expect_same(f"count_matching(all, {at})", log.count_matching(None, at), count)


def batch_of(entries: Sequence[Entry]) -> MessageBatch:
    return MessageBatch(Message(each.subject, b"", each.headers, each.payload, 1) for each in entries)


@dataclass
class Past:
    """What a log was told since it was opened, as far as a crash matters."""

    appended: dict[int, View] = field(default_factory=dict[int, View])
    confirmed: set[int] = field(default_factory=set[int])
    removed: set[int] = field(default_factory=set[int])
    confirmed_removed: set[int] = field(default_factory=set[int])
    registers: list[dict[str, Register]] = field(default_factory=list[dict[str, Register]])
    synced_register: int = 0
    confirmed_register: int = 0
    confirmed_last: int = 0
    last: int = 0
    ids: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def note(self, model: LogModel) -> None:
        """Take in one change of messages."""
        self.appended.update(model.appended)
        self.last = max(self.last, model.last)
        self.removed.update(each for each in self.appended if each not in model.messages)
        self.ids.update((message_id, sequence) for message_id, (sequence, _) in model.ids.items())

    def note_registers(self, model: LogModel, *, sync: bool) -> None:
        """Take in one change of registers; one that asks for no sync is confirmed by none."""
        self.registers.append(copy.deepcopy(model.registers))
        if sync:
            self.synced_register = len(self.registers) - 1

    def moment(self) -> "Moment":
        return Moment(
            set(self.appended), set(self.removed), self.synced_register, max(self.last, *self.appended, 0)
        )

    def confirm(self, moment: "Moment") -> None:
        """All that was told up to then was acknowledged."""
        self.confirmed |= moment.appended
        self.confirmed_removed |= moment.removed
        self.confirmed_register = max(self.confirmed_register, moment.register)
        self.confirmed_last = max(self.confirmed_last, moment.last)

    def check(self, log: StreamLog) -> None:
        """Compare with what is left after a crash."""
        last = log.head.last_sequence
        found = {
            view.sequence: view
            for view in log.scan(
                1, last, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30
            ).views
        }
        lost = sorted(each for each in self.confirmed - self.removed if each not in found)
        expect(not lost, f"acknowledged and lost: {lost}; listed: {log.head.lost}")
        invented = {each for each, view in found.items() if self.appended.get(each) != view}
        expect(not invented, f"invented or changed: {sorted(invented)}")
        returned = sorted(found.keys() & self.confirmed_removed)
        expect(not returned, f"removed for certain and back again: {returned}")
        expect(
            last >= self.confirmed_last, f"the last sequence went back from {self.confirmed_last} to {last}"
        )
        for message_id, sequence in self.ids.items():
            if sequence <= self.confirmed_last:
                expect_same(f"id {message_id!r}", log.find_message_id(message_id, 1), sequence)
        registers = {name: record.register for name, record in log.consumers().items()}
        allowed = [plain(each) for each in self.registers[self.confirmed_register :]]
        expect(plain(registers) in allowed, f"consumers {plain(registers)} are none of {allowed}")


@dataclass(frozen=True)
class Moment:
    """What had been told when something was asked to be confirmed."""

    appended: set[int]
    removed: set[int]
    register: int
    last: int


def adopt(log: StreamLog, ids: Mapping[bytes, tuple[int, int]]) -> LogModel:
    """Give the model of what a log shows now; of `ids` those that it still finds."""
    head = log.head
    scan = log.scan(1, head.last_sequence, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30)
    model = LogModel(is_memory=False, last=head.last_sequence, last_time_ns=head.last_time_ns)
    model.messages = {view.sequence: view for view in scan.views}
    model.ids = {each: used for each, used in ids.items() if log.find_message_id(each, 1) == used[0]}
    model.registers = {
        name: Register(dict(record.register.numbers), dict(record.register.rows))
        for name, record in log.consumers().items()
    }
    return model


def plain(registers: Mapping[str, Register]) -> dict[str, tuple[dict[str, int], dict[int, tuple[int, ...]]]]:
    """Give registers as values that can be compared."""
    return {
        name: (dict(each.numbers), {sequence: tuple(row) for sequence, row in each.rows.items()})
        for name, each in registers.items()
    }
