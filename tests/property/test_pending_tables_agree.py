"""The plain and the compiled table of pending messages: the same answers to the same calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.base.message import Batch, Message, MessageBatch, View
from headrace.jetstream.consumers.acks import PLAIN_ACKS, parse_ack_subject
from headrace.jetstream.consumers.pending import PendingTable, PlainPending, plain_replies

compiled = pytest.importorskip("headrace.jetstream.consumers.compiled_consumer", reason="not built")
compiled_batch = pytest.importorskip("headrace.core.base.compiled_batch", reason="not built")

PREFIX = b"$JS.ACK.S.C."
NUMBERS = st.integers(0, 40)
U62 = st.integers(0, (1 << 62) - 1)
TAILS = st.one_of(
    st.builds(b"1.%d.%d.3.4".__mod__, st.tuples(NUMBERS, NUMBERS)),
    st.sampled_from(
        [
            b"1.2.3.4",
            b"1.2.3.4.5.6",
            b"1.x.3.4.5",
            b"1..3.4.5",
            b"1.2.3..",
            b"",
            b"1.+2.3.4.5",
            b"1.9" + b"9" * 25,
        ]
    ),
)
ACKS = st.builds(
    Message,
    subject=TAILS.map(PREFIX.__add__),
    reply=st.sampled_from([b"", b"", b"", b"r"]),
    headers=st.sampled_from([b"", b"", b"NATS/1.0\r\n\r\n"]),
    payload=st.sampled_from([b"", b"+ACK", b"+OK", b"-NAK", b"+NXT", b"+ACKS"]),
    connection_id=st.just(1),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.lists(st.integers(1, 3), min_size=1, max_size=90), st.booleans()),
        st.tuples(st.just("pop"), NUMBERS),
        st.tuples(st.just("put"), NUMBERS, st.integers(1, 3)),
        st.tuples(st.just("settle"), st.lists(ACKS, min_size=1, max_size=30), st.integers(0, 60)),
        st.tuples(st.just("note"), NUMBERS),
        st.tuples(st.sampled_from(["clear", "changes", "forget", "drain"])),
    ),
    max_size=40,
)


def _settle(table: PendingTable, batch: Batch, delivered: int) -> object:
    """Do what an intake does; where a run stops is the table's affair, what comes of it is not."""
    settled: list[int] = []
    others: list[Message] = []
    is_any = False
    start = 0
    while start < len(batch):
        start, found = table.settle_plain(batch, start, len(PREFIX), delivered, settled)
        is_any |= found
        if start == len(batch):
            break
        message = batch[start]
        start += 1
        about = parse_ack_subject(message.subject, len(PREFIX))
        if message.reply or message.payload not in PLAIN_ACKS:
            others.append(message)
        elif about is not None and about.stream_sequence <= delivered:
            is_any = True
            if table.pop(about.stream_sequence) is not None:
                settled.append(about.stream_sequence)
    return settled, others, is_any


def _play(table: PendingTable, steps: list[tuple[object, ...]], batch_of: object) -> list[object]:
    seen: list[object] = []
    for step in steps:
        match step:
            case ("extend", list() as gaps, is_dense):
                last = max(table, default=0)
                sequences = [last + sum(gaps[: n + 1]) for n in range(len(gaps))]
                table.extend(range(last + 1, last + 1 + len(gaps)) if is_dense else sequences, last + 1, 5)
            case ("pop", int() as sequence):
                seen.append(table.pop(sequence))
            case ("put", int() as sequence, int() as deliveries):
                if sequence in table or sequence > max(table, default=0):
                    table.put(sequence, (sequence, -7, deliveries))
            case ("settle", list() as acks, int() as delivered):
                seen.append(_settle(table, batch_of(acks), delivered))  # type: ignore[operator]
            case ("note", int() as sequence):
                table.note(sequence)
            case ("clear",):
                table.clear()
            case ("changes",):
                seen.append(table.take_changes())
            case ("forget",):
                table.forget_changes()
            case _:
                for sequence in list(table)[:-1]:
                    table.pop(sequence)
        seen += [len(table), list(table), list(table.items()), list(table.values()), table.lowest()]
        seen += [table.repeated, table.has_changes, table.get(7), 9 in table]
    seen.append(table.take_changes())
    return seen


@given(steps=STEPS)
def test_both_tables_give_the_same_answers(steps: list[tuple[object, ...]]) -> None:
    plain = _play(PlainPending(), steps, MessageBatch)
    assert _play(compiled.CompiledPending(), steps, compiled_batch.CompiledBatch) == plain
    assert _play(compiled.CompiledPending(), steps, MessageBatch) == plain


@given(views=st.lists(st.tuples(U62, U62)), number=U62, pending=st.integers(-3, 1 << 62))
def test_both_write_the_same_ack_subjects(views: list[tuple[int, int]], number: int, pending: int) -> None:
    stored = [View(sequence, time_ns, b"s", b"", b"") for sequence, time_ns in views]
    assert compiled.compiled_replies(PREFIX, stored, number, pending) == plain_replies(
        PREFIX, stored, number, pending
    )


def test_a_table_that_is_always_half_acked_stays_small() -> None:
    """Rows that went leave their places to later ones, even where the lowest row stays."""
    table = compiled.CompiledPending()
    table.extend([1], 1, 5)
    for sequence in range(2, 300_000):
        table.extend([sequence], sequence, 5)
        table.pop(sequence)
    assert (len(table), list(table), table.lowest()) == (1, [1], (1, 1))
    assert table.take_changes() == ({1: (1, 5, 1)}, [(2, 299_999)])
