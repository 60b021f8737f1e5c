"""Pull consumers: what a client that asks for messages gets, and when it is told that there are none."""

import json

from unit.jetstream_consumers.consumer_world import MS, ConsumerWorld, S


def ready(world: ConsumerWorld, count: int = 0, **config: object) -> None:
    world.create()
    world.fill(count)
    world.consumer(**config)


def test_a_pull_gets_the_next_messages_with_counting_ack_subjects(world: ConsumerWorld) -> None:
    ready(world, 5)
    inbox = world.inbox("in")
    world.pull(inbox, batch=3)
    assert inbox.numbers() == [(1, 1, 1, 4), (1, 2, 2, 3), (1, 3, 3, 2)]


def test_an_ack_subject_names_stream_consumer_and_the_time_of_the_message(world: ConsumerWorld) -> None:
    ready(world, 1)
    inbox = world.inbox("in")
    world.pull(inbox)
    assert inbox.acks() == ["$JS.ACK.S.C.1.1.1.1700000000000000000.0"]


def test_a_consumer_may_be_called_percent(world: ConsumerWorld) -> None:
    world.create()
    world.fill(1)
    world.consumer("100%d")
    inbox = world.inbox("in")
    world.pull(inbox, "100%d")
    assert inbox.acks()[0].startswith("$JS.ACK.S.100%d.1.1.1.")


def test_a_waiting_pull_gets_messages_as_they_are_published(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=2)
    assert inbox.all() == []
    world.fill(3)
    assert inbox.all() == ["m1", "m2"]


def test_two_waiting_pulls_take_turns(world: ConsumerWorld) -> None:
    ready(world)
    first, second = world.inbox("in.1"), world.inbox("in.2")
    world.pull(first, batch=2)
    world.pull(second, batch=3)
    world.fill(5)
    assert (first.all(), second.all()) == (["m1", "m3"], ["m2", "m4", "m5"])


def test_nothing_is_given_before_it_is_durable() -> None:
    world = ConsumerWorld(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    world.release()
    world.post("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"ack_policy": "explicit"}})
    world.release()
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    world.send("s.a", b"m1")
    assert inbox.all() == []
    world.release()
    assert inbox.all() == ["m1"]


def test_an_answer_that_waits_for_the_disk_counts_what_waits_with_it() -> None:
    world = ConsumerWorld(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    world.release()
    config = {"durable_name": "C", "ack_policy": "explicit", "filter_subject": "s.a"}
    world.post("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})
    world.release()
    for subject in ("s.a", "s.b", "s.a"):
        world.send(subject, b"")
    told = world.post("CONSUMER.INFO.S.C")
    assert world.bus.answers(told) == []
    world.release()
    (answer,) = world.bus.answers(told)
    assert json.loads(answer.payload)["num_pending"] == 2
    world.send("s.a", b"")
    again = world.post("CONSUMER.INFO.S.C")
    world.release()
    (answer,) = world.bus.answers(again)
    assert json.loads(answer.payload)["num_pending"] == 3
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    assert len(inbox.all()) == 3


def test_who_does_not_want_to_wait_gets_what_is_there_and_the_end(world: ConsumerWorld) -> None:
    ready(world, 2)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5, no_wait=True)
    assert inbox.all() == ["m1", "m2", "404 No Messages"]
    world.pull(inbox, batch=5, no_wait=True)
    assert inbox.all() == ["404 No Messages"]


def test_a_filled_batch_has_no_end_of_its_own(world: ConsumerWorld) -> None:
    ready(world, 2)
    inbox = world.inbox("in")
    world.pull(inbox, batch=2, no_wait=True)
    assert inbox.all() == ["m1", "m2"]


def test_no_wait_with_a_time_waits_for_the_first_message(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5, no_wait=True, expires=5 * S)
    assert inbox.all() == []
    world.fill(1)
    assert inbox.all() == ["m1", "404 No Messages"]
    world.pull(inbox, batch=5, no_wait=True, expires=5 * S)
    world.advance(5 * S)
    assert inbox.all() == ["408 Request Timeout; Nats-Pending-Messages: 5; Nats-Pending-Bytes: 0"]


def test_a_stalled_one_shot_waits_for_the_ack(world: ConsumerWorld) -> None:
    ready(world, 2, max_ack_pending=1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=2, no_wait=True)
    assert inbox.all() == ["m1"]
    world.ack(1)
    assert inbox.all() == ["m2"]


def test_a_pull_expires_with_what_was_left_of_it(world: ConsumerWorld) -> None:
    ready(world, 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=3, expires=2 * S, max_bytes=1000)
    assert inbox.all() == ["m1"]
    world.advance(2 * S)
    left = 1000 - len("s.a$JS.ACK.S.C.1.1.1.1700000000000000000.0m1")
    assert inbox.all() == [f"408 Request Timeout; Nats-Pending-Messages: 2; Nats-Pending-Bytes: {left}"]


def test_bytes_count_subject_reply_headers_and_payload(world: ConsumerWorld) -> None:
    ready(world)
    world.publish("s.a", b"m1", K="v")
    size = len("s.a$JS.ACK.S.C.1.1.1.1700000000000000000.0NATS/1.0\r\nK: v\r\n\r\nm1")
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, max_bytes=size - 1)
    assert inbox.all() == [
        f"409 Message Size Exceeds MaxBytes; Nats-Pending-Messages: 1; Nats-Pending-Bytes: {size - 1}"
    ]
    world.pull(inbox, batch=1, max_bytes=size)
    assert inbox.all() == ["m1"]


def test_a_full_batch_with_bytes_left_is_completed(world: ConsumerWorld) -> None:
    ready(world, 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=1, max_bytes=1000)
    assert [line.split(";")[0] for line in inbox.all()] == ["m1", "409 Batch Completed"]


def test_heartbeats_tell_the_last_delivery(world: ConsumerWorld) -> None:
    ready(world, 1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=3, expires=10 * S, idle_heartbeat=2 * S)
    world.advance(4 * S)
    beat = "100 Idle Heartbeat; Nats-Last-Consumer: 1; Nats-Last-Stream: 1"
    assert inbox.all() == ["m1", beat, beat]


def test_a_body_that_cannot_be_read_is_a_bad_request(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull_raw(inbox, b'{"expires":10,"idle_heartbeat":9}')
    world.pull_raw(inbox, b'{"batch":')
    first, second = inbox.all()
    assert first == "400 Bad Request - heartbeat value too large"
    assert second == "400 Bad Request - unexpected end of JSON input"


def test_a_higher_api_level_than_ours_is_refused(world: ConsumerWorld) -> None:
    ready(world, 1)
    inbox = world.inbox("in")
    headers = b"NATS/1.0\r\nNats-Required-Api-Level: 6\r\n\r\n"
    world.bus.send("$G", b"$JS.API.CONSUMER.MSG.NEXT.S.C", b"", reply=b"in", headers=headers)
    world.bus.turn()
    assert inbox.all() == ["412 Required Api Level"]


def test_requests_beyond_what_the_consumer_allows_are_refused(world: ConsumerWorld) -> None:
    ready(world, max_batch=10, max_expires=60 * S, max_bytes=100, max_waiting=1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=11)
    world.pull(inbox, expires=61 * S)
    world.pull(inbox, max_bytes=101)
    world.pull(inbox, batch=1)
    world.pull(inbox, batch=1)
    assert inbox.all() == [
        "409 Exceeded MaxRequestBatch of 10",
        "409 Exceeded MaxRequestExpires of 1m0s",
        "409 Exceeded MaxRequestMaxBytes of 100",
        "409 Exceeded MaxWaiting",
    ]


def test_a_request_without_listeners_is_forgotten_and_its_message_goes_to_the_next(
    world: ConsumerWorld,
) -> None:
    ready(world)
    gone, there = world.inbox("in.1"), world.inbox("in.2")
    world.pull(gone, batch=1)
    world.pull(there, batch=1)
    gone.close()
    world.fill(1)
    assert there.numbers() == [(1, 1, 1, 0)]
    assert world.info()["num_waiting"] == 0


def test_a_request_without_a_reply_subject_is_ignored(world: ConsumerWorld) -> None:
    ready(world, 1)
    world.bus.send("$G", b"$JS.API.CONSUMER.MSG.NEXT.S.C", b"")
    world.bus.turn()
    assert world.counters()["delivered"] == (0, 0)


def test_waiting_requests_are_counted_without_those_that_are_over(world: ConsumerWorld) -> None:
    ready(world)
    first, second, third = (world.inbox(f"in.{n}") for n in range(3))
    for inbox, time in ((first, 0), (second, 0), (third, 1 * S)):
        world.pull(inbox, batch=1, expires=time)
    assert world.info()["num_waiting"] == 3
    second.close()
    world.advance(1 * S)
    assert world.info()["num_waiting"] == 1


def test_a_client_without_room_is_served_when_it_has_room_again(world: ConsumerWorld) -> None:
    ready(world, 5)
    inbox = world.inbox("in", room=2)
    world.pull(inbox, batch=5)
    assert inbox.all() == ["m1", "m2"]
    world.bus.make_room(inbox.subscriber, None)
    world.bus.turn()
    assert inbox.numbers() == [(1, 3, 3, 2), (1, 4, 4, 1), (1, 5, 5, 0)]


def test_a_client_without_room_does_not_stop_another(world: ConsumerWorld) -> None:
    ready(world)
    slow, quick = world.inbox("in.1", room=0), world.inbox("in.2")
    world.pull(slow, batch=5)
    world.pull(quick, batch=5)
    world.fill(3)
    assert (slow.all(), quick.all()) == ([], ["m1", "m2", "m3"])


def test_a_filter_gives_only_its_subjects_and_counts_only_them(world: ConsumerWorld) -> None:
    world.create()
    for number in range(1, 7):
        world.publish("s.a" if number % 2 else "s.b", b"m%d" % number)
    world.consumer(filter_subject="s.a")
    inbox = world.inbox("in")
    world.pull(inbox, batch=2)
    assert inbox.numbers() == [(1, 1, 1, 2), (1, 3, 2, 1)]
    world.publish("s.b")
    world.publish("s.a")
    assert world.counters()["pending"] == 2


def test_several_filters_are_one_of_them(world: ConsumerWorld) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.c.1", "s.b", "s.c.2"):
        world.publish(subject, subject.encode())
    world.consumer(filter_subjects=["s.a", "s.c.*"])
    inbox = world.inbox("in")
    world.pull(inbox, batch=9)
    assert inbox.all() == ["s.a", "s.c.1", "s.c.2"]


def test_headers_only_leaves_the_payload_out_and_tells_its_size(world: ConsumerWorld) -> None:
    world.create()
    world.publish("s.a", b"12345", K="v")
    world.publish("s.a", b"123")
    world.consumer(headers_only=True)
    inbox = world.inbox("in")
    world.pull(inbox, batch=2)
    views = [view for view, _ in inbox.subscriber.received]
    assert [view.payload for view in views] == [b"", b""]
    assert [view.headers for view in views] == [
        b"NATS/1.0\r\nK: v\r\nNats-Msg-Size: 5\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Size: 3\r\n\r\n",
    ]


def test_max_ack_pending_stops_new_messages_until_an_ack(world: ConsumerWorld) -> None:
    ready(world, 5, max_ack_pending=2)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    assert inbox.all() == ["m1", "m2"]
    world.ack(1)
    assert inbox.all() == ["m3"]


def test_next_acks_and_asks_for_more_at_the_acks_reply(world: ConsumerWorld) -> None:
    ready(world, 4)
    inbox = world.inbox("in")
    world.pull(inbox)
    world.answer(inbox.acks()[0], b"+NXT", reply=b"in")
    assert inbox.numbers() == [(1, 2, 2, 2)]
    world.answer("$JS.ACK.S.C.1.2.2.0.0", b'+NXT {"batch":2,"no_wait":true}', reply=b"in")
    assert inbox.numbers() == [(1, 3, 3, 1), (1, 4, 4, 0)]
    assert world.counters()["floor"] == (2, 2)


def test_a_paused_consumer_takes_requests_and_gives_nothing_until_it_resumes(world: ConsumerWorld) -> None:
    ready(world, 2)
    until = "2023-11-14T22:13:30Z"
    answer = world.ask("CONSUMER.PAUSE.S.C", {"pause_until": until})
    assert (answer["paused"], answer["pause_until"], answer["pause_remaining"]) == (True, until, 10 * S)
    inbox = world.inbox("in")
    told = world.listen("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C")
    world.pull(inbox, batch=2)
    world.pull(world.inbox("in.2"), batch=1, expires=2 * S)
    world.advance(9 * S)
    assert inbox.all() == []
    assert (world.info()["paused"], world.info()["config"]["pause_until"]) == (True, until)
    assert world.info()["config"]["metadata"]["_nats.req.level"] == "1"
    world.advance(1100 * MS)
    assert inbox.all() == ["m1", "m2"]
    assert "paused" not in world.info()
    assert len(told.subscriber.received) == 1


def test_a_pause_can_be_ended_early(world: ConsumerWorld) -> None:
    ready(world, 1)
    world.ask("CONSUMER.PAUSE.S.C", {"pause_until": "2024-11-14T22:13:30Z"})
    inbox = world.inbox("in")
    world.pull(inbox)
    answer = world.ask("CONSUMER.PAUSE.S.C")
    assert answer["paused"] is False
    assert answer["pause_until"] == "0001-01-01T00:00:00Z"
    assert inbox.all() == ["m1"]
    assert "pause_until" not in world.info()["config"]


def test_a_deleted_consumer_ends_its_waiting_requests(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    assert world.ask("CONSUMER.DELETE.S.C")["success"] is True
    assert inbox.all() == ["409 Consumer Deleted"]
    assert not world.bus.is_answered("$G", b"$JS.API.CONSUMER.MSG.NEXT.S.C")


def test_a_deleted_stream_ends_its_consumers_requests(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    world.ask("STREAM.DELETE.S")
    assert inbox.all() == ["409 Consumer Deleted"]


def test_a_stopping_server_tells_waiting_requests(world: ConsumerWorld) -> None:
    ready(world)
    inbox = world.inbox("in")
    world.pull(inbox, batch=5)
    world.jetstream.close()
    assert inbox.all() == ["409 Server Shutdown; Nats-Pending-Messages: 5; Nats-Pending-Bytes: 0"]


def test_thousands_of_messages_come_in_bounded_steps(world: ConsumerWorld) -> None:
    ready(world, 3000, max_ack_pending=-1)
    inbox = world.inbox("in")
    world.pull(inbox, batch=3000)
    for _ in range(10):
        world.bus.turn()
    assert inbox.all() == [f"m{number}" for number in range(1, 3001)]
