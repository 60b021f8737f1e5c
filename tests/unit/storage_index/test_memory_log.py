"""A memory stream's log: what the model test does not ask, and what a memory store plays for other tests."""

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.message import Message, MessageBatch
from headrace.storage.interface import DiskFull, Effect, Entry, LogFenced, RegisterChange, StorageError
from headrace.storage.memory_log import MemoryLog
from headrace.storage.memory_store import MemoryStore


def made(**options: int) -> MemoryLog:
    return MemoryLog(stream_id=1, config={"name": "S"}, created_ns=5, **options)


def entry(
    subject: bytes = b"a", time_ns: int = 1, message_id: bytes = b"", effect: Effect | None = None
) -> Entry:
    return Entry(subject, b"", b"x", time_ns, message_id, 0, effect or Effect())


def test_a_log_that_never_held_anything_has_first_and_last_zero() -> None:
    head = made().head
    assert (head.first_sequence, head.last_sequence, head.messages) == (0, 0, 0)


def test_a_log_can_begin_at_a_higher_sequence() -> None:
    log = made(first_sequence=100)
    assert (log.head.first_sequence, log.head.last_sequence) == (100, 99)
    assert log.append([entry()]) == 100


def test_a_message_counts_its_bytes_and_sixteen() -> None:
    log = made()
    log.append([Entry(b"subject", b"NATS/1.0\r\n\r\n", b"payload", 1)])
    assert log.head.size == log.size_of(1) == 16 + 7 + 12 + 7


def test_a_change_is_durable_at_once() -> None:
    log = made()
    log.append([entry(), entry()])
    assert log.durable_sequence == 2


def test_a_purge_ahead_moves_first_and_last_beyond_the_end() -> None:
    log = made()
    log.append([entry()] * 3)
    assert log.remove([(1, 10)]) == 3
    assert (log.head.first_sequence, log.head.last_sequence, log.head.messages) == (11, 10, 0)
    assert log.append([entry()]) == 11


def test_a_message_id_is_found_from_its_time_on_though_its_message_went() -> None:
    log = made()
    log.append([entry(time_ns=10, message_id=b"id")])
    log.append([entry(time_ns=20, message_id=b"id")])
    log.remove([(1, 2)])
    assert log.find_message_id(b"id", 10) == 2
    assert log.find_message_id(b"id", 20) == 2
    assert log.find_message_id(b"id", 21) is None
    assert log.find_message_id(b"other", 0) is None


def test_outdated_message_ids_are_forgotten_a_few_at_a_time() -> None:
    log = made()
    log.append([entry(time_ns=each, message_id=b"%d" % each) for each in range(1000)])
    assert log.find_message_id(b"999", 900) == 999 + 1
    assert len(log._message_ids) == 1000 - 256
    for _ in range(4):
        log.find_message_id(b"none", 900)
    assert len(log._message_ids) == 100


def test_a_message_id_used_again_outlives_its_first_use() -> None:
    log = made()
    log.append([entry(time_ns=1, message_id=b"id"), entry(time_ns=50, message_id=b"id")])
    assert log.find_message_id(b"none", 40) is None
    assert log.find_message_id(b"id", 40) == 2


def test_a_batch_is_appended_as_it_is() -> None:
    log = made()
    batch = MessageBatch([Message(b"a", b"reply", b"h", b"p", 1), Message(b"b", b"", b"", b"q", 1)])
    assert log.append_batch(batch, 7) == 1
    view = log.get(1)
    assert view is not None
    assert (view.subject, view.headers, view.payload, view.time_ns) == (b"a", b"h", b"p", 7)
    assert log.head.subject_count == 2


def test_a_scan_ends_at_its_bounds_and_says_where_to_go_on() -> None:
    log = made()
    log.append([entry(b"a"), entry(b"b")] * 10)
    assert log.scan(1, 20, None, messages_max=3, size_max=1000).next_sequence == 4
    assert len(log.scan(1, 20, None, messages_max=100, size_max=5).views) == 3
    assert log.scan(1, 20, None, messages_max=100, size_max=0).next_sequence == 2
    stepped = log.scan(1, 20, None, messages_max=100, size_max=1000, steps_max=5)
    assert (len(stepped.views), stepped.next_sequence) == (5, 6)
    assert log.scan(1, 30, None, messages_max=100, size_max=1000).next_sequence == 31
    assert log.scan(21, 30, None, messages_max=100, size_max=1000) == ([], 31)


def test_holes_of_any_size_are_jumped_over() -> None:
    log = made()
    log.append([entry()])
    log.skip(10**12, 3)
    assert log.append([entry(time_ns=4)]) == 10**12 + 1
    assert log.next_sequence(2) == 10**12 + 1
    assert list(log.deleted()) == [(2, 10**12)]
    assert log.count_matching(None, 2) == 1
    assert log.sequence_at(4) == 10**12 + 1
    log.remove([(1, 1)])
    assert log.head.first_sequence == 10**12 + 1


def test_evicting_from_the_front_costs_the_same_for_any_length() -> None:
    log = made()
    log.append([entry(b"s%d" % (each % 7)) for each in range(20_000)])
    for each in range(19_000):
        assert log.remove([(each + 1, each + 1)]) == 1
    assert log.head.messages == 1000
    assert log.head.first_sequence == 19_001
    state = log.subject(b"s0")
    assert state is not None
    assert state.first_sequence == 19_006
    sequences = log._subjects.get(b"s0")
    assert sequences is not None
    assert len(sequences._list) < 2 * sequences.count + 10


def test_a_consumer_is_changed_and_forgotten() -> None:
    log = made()
    log.save_consumer("c", {"a": 1}, 5, None)
    log.change_register("c", RegisterChange({"floor": 3}, [], {4: (1, 2), 9: (3, 4)}), sync=True)
    log.change_register("c", RegisterChange({}, [(1, 5), (100, 1 << 60)], {}), sync=False)
    log.save_consumer("c", {"a": 2}, 5, None)
    record = log.consumers()["c"]
    assert (record.config, record.register) == ({"a": 2}, ({"floor": 3}, {9: (3, 4)}))
    log.delete_consumer("c")
    assert log.consumers() == {}


def test_a_store_answers_at_once() -> None:
    store = MemoryStore(Chance(1))
    store.create({}, memory=False, created_ns=1).append([entry()])
    answers: list[StorageError | None] = []
    store.after_sync(answers.append)
    assert answers == [None]
    assert store.is_settled


def test_a_held_store_answers_when_it_is_released_in_the_order_of_asking() -> None:
    store = MemoryStore(Chance(1), held=True)
    log = store.create({}, memory=True, created_ns=1)
    answers: list[int] = []
    store.after_sync(lambda _: answers.append(1))
    log.append([entry()])
    store.after_sync(lambda _: answers.append(2))
    assert (answers, log.durable_sequence, log.head.last_sequence) == ([], 0, 1)
    assert not store.is_settled
    store.release()
    assert (answers, log.durable_sequence) == ([1, 2], 1)
    store.after_sync(lambda _: answers.append(3))
    assert answers == [1, 2, 3]


def test_a_held_store_can_fail_its_sync_and_fences_its_logs() -> None:
    store = MemoryStore(Chance(1), held=True)
    log = store.create({}, memory=True, created_ns=1)
    log.append([entry()])
    answers: list[StorageError | None] = []
    store.after_sync(answers.append)
    failure = StorageError("the disk is gone")
    store.release(failure)
    assert answers == [failure]
    assert (log.fenced, log.durable_sequence) == ("the disk is gone", 0)
    with pytest.raises(LogFenced, match="the disk is gone"):
        log.append([entry()])
    assert log.get(1) is not None


def test_a_full_store_refuses_every_change_and_leaves_everything_as_it_was() -> None:
    store = MemoryStore(Chance(1))
    log = store.create({}, memory=True, created_ns=1)
    log.append([entry()])
    head = log.head
    store.refuse(DiskFull("full"))
    with pytest.raises(DiskFull):
        log.append([entry()])
    with pytest.raises(DiskFull):
        log.remove([(1, 1)])
    with pytest.raises(DiskFull):
        store.create({}, memory=True, created_ns=1)
    assert log.head == head
    store.refuse(None)
    assert log.append([entry()]) == 2


def test_a_deleted_log_is_no_longer_listed() -> None:
    store = MemoryStore(Chance(1))
    log = store.create({}, memory=True, created_ns=1)
    other = store.create({}, memory=True, created_ns=1)
    assert log.stream_id != other.stream_id
    store.delete(log)
    assert list(store.logs()) == [other]
