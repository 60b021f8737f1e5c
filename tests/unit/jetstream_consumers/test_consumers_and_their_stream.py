"""What happens to consumers when their stream changes, stops, and comes back."""

from headrace.core.base.message import View
from headrace.storage.interface import DiskFull, Entry
from unit.jetstream_consumers.consumer_world import MS, ConsumerWorld, Inbox, S

TERMINATED = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"


def pulled(world: ConsumerWorld, batch: int, count: int = 5, **config: object) -> Inbox:
    world.create(**dict(config.pop("stream", {})))  # type: ignore[call-overload]
    world.fill(count)
    world.consumer(**config)
    inbox = world.inbox("in")
    world.pull(inbox, batch=batch)
    inbox.all()
    return inbox


def test_a_deleted_pending_message_is_terminated(world: ConsumerWorld) -> None:
    pulled(world, 2, ack_wait=1 * S)
    world.listen(TERMINATED)
    world.ask("STREAM.MSG.DELETE.S", {"seq": 1})
    (advisory,) = world.advisories(TERMINATED)
    assert advisory["reason"] == "Unacknowledged message was deleted"
    assert (advisory["stream_seq"], advisory["consumer_seq"], advisory["deliveries"]) == (1, 1, 1)
    assert world.counters() == {
        "delivered": (2, 2),
        "floor": (1, 1),
        "ack_pending": 1,
        "redelivered": 0,
        "pending": 3,
    }


def test_a_deleted_message_ahead_is_not_pending_any_more(world: ConsumerWorld) -> None:
    pulled(world, 2)
    world.ask("STREAM.MSG.DELETE.S", {"seq": 4})
    assert world.counters()["pending"] == 2
    world.ask("STREAM.MSG.DELETE.S", {"seq": 1})
    assert world.counters()["pending"] == 2


def test_a_filter_does_not_count_others_that_are_deleted(world: ConsumerWorld) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a", "s.b"):
        world.publish(subject)
    world.consumer(filter_subject="s.a")
    assert world.counters()["pending"] == 2
    world.ask("STREAM.MSG.DELETE.S", {"seq": 2})
    assert world.counters()["pending"] == 2
    world.ask("STREAM.MSG.DELETE.S", {"seq": 3})
    assert world.counters()["pending"] == 1


def test_a_purge_of_everything_settles_everything_silently(world: ConsumerWorld) -> None:
    pulled(world, 2)
    told = world.listen(TERMINATED)
    world.ask("STREAM.PURGE.S")
    assert world.counters() == {
        "delivered": (2, 5),
        "floor": (2, 5),
        "ack_pending": 0,
        "redelivered": 0,
        "pending": 0,
    }
    assert told.all() == []
    inbox = world.inbox("in.2")
    world.pull(inbox)
    world.fill(1, first=6)
    assert inbox.numbers() == [(1, 6, 3, 0)]


def test_a_purge_of_one_subject_settles_only_what_went(world: ConsumerWorld) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a", "s.b", "s.a"):
        world.publish(subject)
    world.consumer()
    world.pull(world.inbox("in"), batch=4)
    world.ask("STREAM.PURGE.S", {"filter": "s.a"})
    counters = world.counters()
    assert (counters["ack_pending"], counters["pending"], counters["delivered"]) == (2, 0, (4, 4))


def test_messages_evicted_by_limits_leave_counts_exact(world: ConsumerWorld) -> None:
    world.create(max_msgs=3)
    world.fill(3)
    world.consumer()
    world.pull(world.inbox("in"), batch=1)
    world.fill(4, first=4)
    counters = world.counters()
    assert (counters["pending"], counters["ack_pending"]) == (3, 0)
    inbox = world.inbox("in.2")
    world.pull(inbox, batch=9, no_wait=True)
    assert inbox.numbers() == [(1, 5, 2, 2), (1, 6, 3, 1), (1, 7, 4, 0)]


def test_a_message_missing_at_its_redelivery_is_terminated(world: ConsumerWorld) -> None:
    inbox = pulled(world, 9, ack_wait=1 * S)
    world.listen(TERMINATED)
    world.stream("S").log.remove([(2, 2)])
    world.advance(1100 * MS)
    assert inbox.all() == ["m1", "m3", "m4", "m5"]
    assert world.advisories(TERMINATED)[0]["reason"] == "Message deleted by stream limits"


def test_changed_filters_count_anew(world: ConsumerWorld) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a", "s.b", "s.b"):
        world.publish(subject)
    world.consumer(filter_subject="s.a")
    assert world.consumer(filter_subject="s.b")["num_pending"] == 3
    inbox = world.inbox("in")
    world.pull(inbox, batch=9, no_wait=True)
    assert [stream for _, stream, _, _ in inbox.numbers()] == [2, 4, 5]


def test_after_a_restart_pending_messages_come_first_with_counts_going_on(world: ConsumerWorld) -> None:
    pulled(world, 4, 6, ack_wait=10 * S)
    world.ack(2)
    world.advance(1 * S)
    world.restart()
    assert world.counters() == {
        "delivered": (4, 4),
        "floor": (0, 0),
        "ack_pending": 3,
        "redelivered": 0,
        "pending": 2,
    }
    assert "last_active" not in world.info()["delivered"]
    world.advance(9 * S)
    inbox = world.inbox("in")
    world.pull(inbox, batch=9)
    assert inbox.numbers() == [(2, 1, 5, 2), (2, 3, 6, 2), (2, 4, 7, 2), (1, 5, 8, 1), (1, 6, 9, 0)]


def test_a_restart_before_the_ack_wait_is_over_gives_new_messages_meanwhile(world: ConsumerWorld) -> None:
    pulled(world, 1, 2, ack_wait=10 * S)
    world.advance(5 * S)
    world.restart()
    inbox = world.inbox("in")
    world.pull(inbox, batch=9)
    assert inbox.numbers() == [(1, 2, 2, 0)]
    world.advance(4900 * MS)
    assert inbox.numbers() == []
    world.advance(200 * MS)
    assert inbox.numbers() == [(2, 1, 3, 0)]


def test_a_pause_survives_a_restart(world: ConsumerWorld) -> None:
    pulled(world, 1)
    world.ask("CONSUMER.PAUSE.S.C", {"pause_until": "2023-11-14T22:13:25Z"})
    world.restart()
    inbox = world.inbox("in")
    world.pull(inbox)
    assert (inbox.all(), world.info()["paused"]) == ([], True)
    world.advance(5100 * MS)
    assert inbox.all() == ["m2"]


def test_a_consumer_in_memory_is_gone_after_a_restart(world: ConsumerWorld) -> None:
    pulled(world, 1, mem_storage=True)
    world.restart()
    assert world.refusal("CONSUMER.INFO.S.C")[0] == 10014


def test_a_consumer_whose_stream_lost_its_tail_skips_no_new_message(world: ConsumerWorld) -> None:
    pulled(world, 4)
    log = world.stream("S").log
    world.ack(1)
    world.advance(100 * MS)
    world.jetstream.close()
    (record,) = log.consumers().values()
    shorter = world.store.create(log.config, memory=True, created_ns=log.created_ns)
    for sequence in (1, 2):
        view = log.get(sequence)
        assert view is not None
        shorter.append([_entry(view)])
    shorter.save_consumer(record.name, record.config, record.created_ns, record.register)
    world.store.delete(log)
    world.start()
    assert world.counters() == {
        "delivered": (4, 2),
        "floor": (1, 1),
        "ack_pending": 1,
        "redelivered": 0,
        "pending": 0,
    }
    inbox = world.inbox("in")
    world.pull(inbox)
    world.fill(1, first=3)
    assert inbox.numbers() == [(1, 3, 5, 0)]


def _entry(view: View) -> Entry:
    return Entry(view.subject, view.headers, view.payload, view.time_ns)


def test_a_work_queue_removes_after_a_restart_what_was_acked(world: ConsumerWorld) -> None:
    world.create(retention="workqueue")
    world.fill(4)
    world.consumer(filter_subject="s.a")
    world.pull(world.inbox("in"), batch=3)
    stream = world.stream("S")
    stream.settle = lambda *_: None  # type: ignore[method-assign]  # the crash comes before the removal
    world.ack(1, 3)
    world.restart()
    assert [sequence for sequence, _, _ in world.messages()] == [2, 4]


def test_the_state_goes_out_whole_when_storage_takes_it_again(world: ConsumerWorld) -> None:
    pulled(world, 3)
    world.store.refuse(DiskFull("no room"))
    world.answer("$JS.ACK.S.C.1.1.1.0.0", b"", reply=b"ask")
    assert world.bus.answers(b"ask") == []
    world.store.refuse(None)
    world.answer("$JS.ACK.S.C.1.2.2.0.0", b"", reply=b"ask")
    assert len(world.bus.answers(b"ask")) == 1
    world.restart()
    assert (world.counters()["floor"], world.counters()["ack_pending"]) == ((2, 2), 1)


def test_the_clients_of_a_push_consumer_find_it_again_after_a_restart(world: ConsumerWorld) -> None:
    world.create()
    world.consumer(deliver_subject="out")
    world.restart()
    out = world.inbox("out")
    world.fill(1)
    assert out.all() == ["m1"]


def test_an_ephemeral_consumer_ends_when_nobody_pulls(world: ConsumerWorld) -> None:
    world.create()
    info = world.consumer("E", durable_name=None)
    assert info["config"]["inactive_threshold"] == 5 * S
    world.listen("$JS.EVENT.ADVISORY.CONSUMER.DELETED.S.E")
    world.advance(5 * S)
    assert world.info("E")
    world.advance(1100 * MS)
    assert world.refusal("CONSUMER.INFO.S.E")[0] == 10014
    assert len(world.advisories("$JS.EVENT.ADVISORY.CONSUMER.DELETED.S.E")) == 1


def test_waiting_requests_keep_an_ephemeral_consumer_alive(world: ConsumerWorld) -> None:
    world.create()
    world.consumer("E", durable_name=None)
    inbox = world.inbox("in")
    world.pull(inbox, "E", batch=1)
    world.advance(30 * S)
    assert world.info("E")
    inbox.close()
    world.advance(13 * S)
    assert world.refusal("CONSUMER.INFO.S.E")[0] == 10014


def test_pending_acks_keep_a_pull_consumer_for_their_wait_and_the_threshold(world: ConsumerWorld) -> None:
    world.create()
    world.fill(1)
    world.consumer("E", durable_name=None, ack_wait=20 * S)
    inbox = world.inbox("in")
    world.pull(inbox, "E", batch=1)
    world.advance(24 * S)
    assert world.info("E")
    world.advance(7 * S)
    assert world.refusal("CONSUMER.INFO.S.E")[0] == 10014


def test_a_push_consumer_ends_when_its_listener_has_gone(world: ConsumerWorld) -> None:
    world.create()
    out = world.inbox("out")
    world.consumer("E", durable_name=None, deliver_subject="out", inactive_threshold=2 * S)
    world.advance(10 * S)
    assert world.info("E")
    out.close()
    world.advance(1900 * MS)
    assert world.info("E")
    world.advance(200 * MS)
    assert world.refusal("CONSUMER.INFO.S.E")[0] == 10014


def test_a_durable_consumer_stays(world: ConsumerWorld) -> None:
    world.create()
    world.consumer()
    world.advance(3600 * S)
    assert world.info()


def test_a_durable_consumer_with_a_threshold_ends_too(world: ConsumerWorld) -> None:
    world.create()
    world.consumer(inactive_threshold=10 * S)
    world.advance(12 * S)
    assert world.refusal("CONSUMER.INFO.S.C")[0] == 10014


def test_a_rare_subject_is_searched_for_in_bounded_steps(world: ConsumerWorld) -> None:
    world.create()
    log = world.stream("S").log
    log.append([Entry(b"s.often", b"", b"", 1)] * 50_000)
    log.append([Entry(b"s.rare", b"", b"found", 1)])
    world.consumer(filter_subjects=["s.rare", "s.*.none"])
    inbox = world.inbox("in")
    world.pull(inbox, batch=1)
    for _ in range(5):
        world.bus.turn()
    assert inbox.numbers() == [(1, 50_001, 1, 0)]


def test_a_stored_consumer_of_a_higher_level_stays_as_it_is(world: ConsumerWorld) -> None:
    world.create()
    world.consumer("A")
    world.consumer("B")
    log = world.stream("S").log
    (config,) = (record.config for name, record in log.consumers().items() if name == "A")
    log.save_consumer("A", config | {"metadata": {"_nats.req.level": "9"}}, 1, None)
    log.save_consumer("B", config | {"ack_policy": "by telepathy"}, 1, None)
    world.restart()
    assert world.refusal("CONSUMER.INFO.S.A")[0] == 10014
    assert sorted(log.consumers()) == ["A", "B"]
    assert any("'S > A' is offline: unsupported - required API level: 9" in line for line in world.log.lines)
    assert any("'S > B' cannot be read" in line for line in world.log.lines)


def test_a_consumer_that_cannot_be_stored_is_not_made(world: ConsumerWorld) -> None:
    world.create()
    world.store.refuse(DiskFull("no room"))
    error = world.refusal("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C"}})
    assert error == (10104, "error creating store for consumer: no room")
    world.store.refuse(None)
    assert world.refusal("CONSUMER.INFO.S.C")[0] == 10014
    assert not world.bus.is_answered("$G", b"$JS.API.CONSUMER.MSG.NEXT.S.C")


def test_an_update_that_cannot_be_stored_changes_nothing(world: ConsumerWorld) -> None:
    world.create()
    world.consumer()
    world.store.refuse(DiskFull("no room"))
    config = {"durable_name": "C", "ack_policy": "explicit", "max_deliver": 9}
    assert world.refusal("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})[0] == 10104
    assert world.refusal("CONSUMER.PAUSE.S.C", {"pause_until": "2030-01-01T00:00:00Z"})[0] == 10104
    world.store.refuse(None)
    assert world.info()["config"]["max_deliver"] == -1
    assert "paused" not in world.info()
