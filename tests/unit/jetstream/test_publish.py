"""What is published on a stream's subjects is stored, acknowledged, deduplicated, refused."""

import json

import pytest

from headrace.core.base.clock import NS_PER_S
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.streams import publish
from headrace.storage.interface import DiskFull, StorageError
from unit.jetstream.world import ACCOUNT, World


def test_a_message_is_stored_and_acknowledged_with_its_sequence(world: World) -> None:
    world.create()
    assert world.publish("s.1", b"one") == {"stream": "S", "seq": 1}
    assert world.publish("s.2", b"two", Some="header") == {"stream": "S", "seq": 2}
    assert world.messages() == [(1, "s.1", b"one"), (2, "s.2", b"two")]


def test_the_ack_names_the_domain() -> None:
    world = World(options=JetStreamOptions(domain="hub"))
    world.create()
    assert world.publish("s.1") == {"stream": "S", "domain": "hub", "seq": 1}


def test_a_batch_is_acknowledged_one_by_one(world: World) -> None:
    world.create()
    replies = [world.queue(f"s.{number}") for number in range(3)]
    world.bus.turn()
    acks = [json.loads(world.bus.answers(reply)[0].payload)["seq"] for reply in replies]
    assert acks == [1, 2, 3]


def test_headers_are_kept_as_they_came_without_a_status(world: World) -> None:
    world.create()
    world.bus.send(ACCOUNT, b"s.1", headers=b"NATS/1.0 200 Fine\r\nA: b\r\nA: c\r\n\r\n")
    world.bus.turn()
    view = world.stream("S").log.get(1)
    assert view is not None
    assert view.headers == b"NATS/1.0\r\nA: b\r\nA: c\r\n\r\n"


@pytest.mark.parametrize("fields", [{}, {"Nats_Msg_Id": "1"}])
def test_no_ack_is_sent_before_the_message_is_durable(fields: dict[str, str]) -> None:
    world = _held_stream()
    reply = world.send("s.1", b"x", **fields)
    assert world.bus.answers(reply) == []
    world.release()
    assert json.loads(world.bus.answers(reply)[0].payload) == {"stream": "S", "seq": 1}


def _held_stream(options: JetStreamOptions | None = None, **config: object) -> World:
    world = World(options=options, held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], **config})
    world.release()
    world.bus.published.clear()
    return world


def test_a_refusal_that_names_a_sequence_waits_for_it_to_be_durable() -> None:
    world = _held_stream()
    world.send("s.1")
    reply = world.send("s.1", Nats_Expected_Last_Sequence="0")
    assert world.bus.answers(reply) == []
    world.release()
    assert json.loads(world.bus.answers(reply)[0].payload)["error"]["description"] == "wrong last sequence: 1"


def test_a_duplicate_ack_waits_for_the_original_to_be_durable() -> None:
    world = _held_stream()
    world.send("s.1", Nats_Msg_Id="a")
    reply = world.send("s.1", Nats_Msg_Id="a")
    assert world.bus.answers(reply) == []
    world.release()
    assert world.bus.answers(reply)[0].payload == b'{"stream":"S","seq":1,"duplicate": true}'


@pytest.mark.parametrize("fields", [{}, {"Nats_Msg_Id": "1"}])
def test_when_a_sync_fails_the_publisher_hears_that_the_outcome_is_unknown(fields: dict[str, str]) -> None:
    world = _held_stream()
    reply = world.send("s.1", **fields)
    world.release(StorageError("fsync: input/output error"))
    assert json.loads(world.bus.answers(reply)[0].payload)["error"] == {
        "code": 503,
        "err_code": 10077,
        "description": publish.UNKNOWN_OUTCOME,
    }
    later = world.send("s.1", **fields)
    world.store.release()
    assert json.loads(world.bus.answers(later)[0].payload)["error"]["err_code"] == 10077


@pytest.mark.parametrize("fields", [{}, {"Nats_Msg_Id": "1"}])
def test_a_full_disk_is_said_and_passes(world: World, fields: dict[str, str]) -> None:
    world.create()
    world.store.refuse(DiskFull("no space"))
    assert world.publish_error("s.1", **fields) == (10023, "insufficient resources")
    assert world.state()["messages"] == 0
    world.store.refuse(None)
    assert world.publish("s.1", **fields)["seq"] == 1


# expectations


def test_the_expected_stream_must_be_the_one(world: World) -> None:
    world.create()
    assert world.publish("s.1", Nats_Expected_Stream="S")["seq"] == 1
    assert world.publish_error("s.1", Nats_Expected_Stream="T") == (10060, "expected stream does not match")


def test_the_expected_last_sequence_must_be_the_one(world: World) -> None:
    world.create()
    world.publish("s.1", Nats_Expected_Last_Sequence="0")
    world.publish("s.1", Nats_Expected_Last_Sequence="1")
    for wrong in ("1", "x", "-1", "9" * 30):
        assert world.publish_error("s.1", Nats_Expected_Last_Sequence=wrong) == (
            10071,
            "wrong last sequence: 2",
        )


def test_the_expected_last_sequence_counts_what_the_same_batch_stored(world: World) -> None:
    world.create()
    replies = [world.queue("s.1", Nats_Expected_Last_Sequence=str(number)) for number in range(3)]
    world.bus.turn()
    assert [json.loads(world.bus.answers(reply)[0].payload)["seq"] for reply in replies] == [1, 2, 3]


def test_the_expected_last_sequence_of_the_subject_must_be_the_one(world: World) -> None:
    world.create()
    key = "Nats_Expected_Last_Subject_Sequence"
    assert world.publish("s.1", **{key: "0"})["seq"] == 1
    world.publish("s.2")
    assert world.publish_error("s.1", **{key: "0"}) == (10071, "wrong last sequence: 1")
    assert world.publish_error("s.3", **{key: "2"}) == (10071, "wrong last sequence: 0")
    assert world.publish("s.1", **{key: "1"})["seq"] == 3


def test_of_two_racing_updates_in_one_batch_one_wins(world: World) -> None:
    world.create()
    replies = [world.queue("s.1", Nats_Expected_Last_Subject_Sequence="0") for _ in range(2)]
    world.bus.turn()
    first, second = (json.loads(world.bus.answers(reply)[0].payload) for reply in replies)
    assert first == {"stream": "S", "seq": 1}
    assert second["error"]["description"] == "wrong last sequence: 1"


def test_another_subject_may_be_expected_and_may_be_a_pattern(world: World) -> None:
    world.create()
    world.publish("s.a.1")
    override = {"Nats_Expected_Last_Subject_Sequence_Subject": "s.a.*"}
    assert world.publish_error("s.b", Nats_Expected_Last_Subject_Sequence="0", **override)[1].endswith(": 1")
    assert world.publish("s.b", Nats_Expected_Last_Subject_Sequence="1", **override)["seq"] == 2
    assert world.publish_error("s.b", **override) == (
        10193,
        "missing sequence for expected last sequence per subject",
    )


def test_the_expected_last_message_id_must_be_the_one(world: World) -> None:
    world.create()
    world.publish("s.1", Nats_Msg_Id="a")
    assert world.publish_error("s.1", Nats_Expected_Last_Msg_Id="b") == (10070, "wrong last msg ID: a")
    assert world.publish("s.1", Nats_Expected_Last_Msg_Id="a", Nats_Msg_Id="c")["seq"] == 2
    world.start()
    assert world.publish_error("s.1", Nats_Expected_Last_Msg_Id="b") == (10070, "wrong last msg ID: c")


# duplicates


def test_a_duplicate_is_acknowledged_with_the_original_sequence_and_not_stored(world: World) -> None:
    world.create()
    world.publish("s.1", Nats_Msg_Id="a")
    world.publish("s.1")
    assert world.publish("s.2", b"other", Nats_Msg_Id="a") == {"stream": "S", "seq": 1, "duplicate": True}
    assert world.state()["messages"] == 2


def test_a_duplicate_within_one_batch_is_seen(world: World) -> None:
    world.create()
    replies = [world.queue("s.1", Nats_Msg_Id="a") for _ in range(2)]
    world.bus.turn()
    assert [json.loads(world.bus.answers(reply)[0].payload).get("duplicate") for reply in replies] == [
        None,
        True,
    ]


def test_duplicates_are_seen_after_a_restart_and_until_the_window_ends(world: World) -> None:
    world.create(duplicate_window=10 * NS_PER_S)
    world.publish("s.1", Nats_Msg_Id="a")
    world.start()
    world.scheduler.advance(10 * NS_PER_S)
    assert world.publish("s.1", Nats_Msg_Id="a").get("duplicate") is True
    world.scheduler.advance(1)
    assert world.publish("s.1", Nats_Msg_Id="a") == {"stream": "S", "seq": 2}


def test_ids_are_known_after_a_restart_though_the_newest_message_was_deleted(world: World) -> None:
    world.create(duplicate_window=10 * NS_PER_S)
    world.publish("s.1", Nats_Msg_Id="a")
    world.publish("s.1", Nats_Msg_Id="b")
    assert world.ask("STREAM.MSG.DELETE.S", {"seq": 2, "no_erase": True})["success"]
    world.start()
    world.scheduler.advance(10 * NS_PER_S)
    for number, message_id in enumerate(("a", "b"), 1):
        answer = world.publish("s.1", Nats_Msg_Id=message_id)
        assert (answer["seq"], answer.get("duplicate")) == (number, True)
    world.scheduler.advance(1)
    assert world.publish("s.1", Nats_Msg_Id="b") == {"stream": "S", "seq": 3}


def test_a_wrong_expectation_wins_over_a_duplicate(world: World) -> None:
    world.create()
    world.publish("s.1", Nats_Msg_Id="a")
    assert world.publish_error("s.1", Nats_Msg_Id="a", Nats_Expected_Last_Sequence="7")[0] == 10071


def test_a_purged_original_is_still_a_duplicate(world: World) -> None:
    world.create()
    world.publish("s.1", Nats_Msg_Id="a")
    world.ask("STREAM.PURGE.S")
    assert world.publish("s.1", Nats_Msg_Id="a") == {"stream": "S", "seq": 1, "duplicate": True}


# rollup


def test_a_rollup_of_the_subject_removes_its_earlier_messages(world: World) -> None:
    world.create(allow_rollup_hdrs=True)
    for subject in ("s.a", "s.b", "s.a"):
        world.publish(subject)
    assert world.publish("s.a", b"new", Nats_Rollup="SUB")["seq"] == 4
    assert [sequence for sequence, _, _ in world.messages()] == [2, 4]


def test_a_rollup_on_a_pattern_removes_what_the_pattern_matches(world: World) -> None:
    world.create(allow_rollup_hdrs=True)
    for subject in ("s.a", "s.a.b", "s.b", "s.*"):
        world.publish(subject)
    world.send("s.c")
    world.publish("s.*", Nats_Rollup="sub")
    assert [(sequence, subject) for sequence, subject, _ in world.messages()] == [(2, "s.a.b"), (6, "s.*")]


def test_a_rollup_on_a_pattern_removes_what_came_in_the_same_batch(world: World) -> None:
    world.create(allow_rollup_hdrs=True)
    world.queue("s.a")
    world.queue("s.b.c")
    world.queue("s.*", Nats_Rollup="sub")
    world.bus.turn()
    assert [sequence for sequence, _, _ in world.messages()] == [2, 3]


def test_a_rollup_of_all_removes_every_earlier_message(world: World) -> None:
    world.create(allow_rollup_hdrs=True)
    for _ in range(3):
        world.publish("s.a")
    world.publish("s.b", Nats_Rollup="all")
    assert [sequence for sequence, _, _ in world.messages()] == [4]


def test_rollups_are_refused_where_they_are_not_allowed_or_make_no_sense(world: World) -> None:
    world.create()
    assert world.publish_error("s.a", Nats_Rollup="sub") == (10111, "rollup not permitted")
    world.create("R", allow_rollup_hdrs=True)
    assert world.publish_error("r.a", Nats_Rollup="x") == (10111, 'rollup value invalid: "x"')


# limits


def test_the_oldest_messages_make_room_for_new_ones(world: World) -> None:
    world.create(max_msgs=3)
    for number in range(5):
        world.publish(f"s.{number}")
    state = world.state()
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (3, 3, 5)


def test_a_batch_larger_than_the_stream_leaves_its_end(world: World) -> None:
    world.create(max_msgs=3)
    world.publish("s.0")
    for number in range(8):
        world.queue(f"s.{number}")
    world.bus.turn()
    assert [sequence for sequence, _, _ in world.messages()] == [7, 8, 9]


def test_bytes_are_counted_as_the_reference_counts_them_and_bound(world: World) -> None:
    world.create(storage="memory", max_bytes=3 * 21)
    for _ in range(4):
        world.publish("s.1", b"ab")
    state = world.state()
    assert (state["messages"], state["bytes"], state["first_seq"]) == (3, 63, 2)


def test_a_message_larger_than_the_stream_leaves_it_empty(world: World) -> None:
    world.create(storage="memory", max_bytes=50)
    world.publish("s.1")
    assert world.publish("s.2", b"x" * 100)["seq"] == 2
    state = world.state()
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 3, 2)


def test_only_the_newest_messages_of_a_subject_stay(world: World) -> None:
    world.create(max_msgs_per_subject=2)
    for subject in ("s.a", "s.b", "s.a", "s.a", "s.b"):
        world.publish(subject)
    assert [sequence for sequence, _, _ in world.messages()] == [2, 3, 4, 5]


def test_one_batch_on_one_subject_keeps_to_the_limit_of_the_subject(world: World) -> None:
    world.create(max_msgs_per_subject=1)
    for number in range(5):
        world.queue("s.a", b"%d" % number)
    world.bus.turn()
    assert world.messages() == [(5, "s.a", b"4")]


def test_limits_of_stream_and_subject_hold_together(world: World) -> None:
    world.create(max_msgs=3, max_msgs_per_subject=1)
    for subject in ("s.a", "s.b", "s.a", "s.c", "s.d", "s.b"):
        world.queue(subject)
    world.bus.turn()
    assert [subject for _, subject, _ in world.messages()] == ["s.c", "s.d", "s.b"]


def test_a_full_stream_that_discards_new_messages_says_so(world: World) -> None:
    world.create(max_msgs=2, discard="new")
    for number in range(2):
        world.publish(f"s.{number}")
    assert world.publish_error("s.3") == (10077, "maximum messages exceeded")
    world.create("B", storage="memory", max_bytes=40, discard="new")
    world.publish("b.1")
    world.publish("b.1")
    assert world.publish_error("b.1") == (10077, "maximum bytes exceeded")


def test_one_batch_can_not_overfill_a_stream_that_discards_new_messages(world: World) -> None:
    world.create(max_msgs=2, discard="new")
    for number in range(5):
        world.queue(f"s.{number}")
    world.bus.turn()
    assert world.state()["messages"] == 2


def test_a_full_subject_replaces_its_oldest_message_even_when_new_ones_are_discarded(world: World) -> None:
    world.create(max_msgs=2, max_msgs_per_subject=1, discard="new")
    world.publish("s.a")
    world.publish("s.b")
    assert world.publish("s.a")["seq"] == 3
    assert world.publish_error("s.c") == (10077, "maximum messages exceeded")


def test_a_full_subject_refuses_new_messages_where_that_is_asked_for(world: World) -> None:
    world.create(max_msgs_per_subject=1, discard="new", discard_new_per_subject=True, allow_rollup_hdrs=True)
    world.publish("s.a")
    assert world.publish_error("s.a") == (10077, "maximum messages per subject exceeded")
    assert world.publish("s.a", Nats_Rollup="sub")["seq"] == 2


def test_a_message_above_the_size_limit_is_refused(world: World) -> None:
    world.create(max_msg_size=10)
    assert world.publish("s.a", b"x" * 10)["seq"] == 1
    assert world.publish_error("s.a", b"x" * 11) == (10054, "message size exceeds maximum allowed")
    assert world.publish_error("s.a", b"", Some_Key="x")[0] == 10054


def test_headers_above_64_kib_are_refused(world: World) -> None:
    world.create()
    assert world.publish_error("s.a", Key="x" * 65536) == (
        10097,
        "header size exceeds maximum allowed of 64k",
    )


def test_old_messages_expire_together_and_in_time(world: World) -> None:
    world.create(max_age=10 * NS_PER_S)
    world.publish("s.1")
    world.scheduler.advance(4 * NS_PER_S)
    world.publish("s.2")
    world.scheduler.advance(6 * NS_PER_S - 1)
    assert world.state()["messages"] == 2
    world.scheduler.advance(1)
    assert world.state()["first_seq"] == 2
    world.scheduler.advance(4 * NS_PER_S)
    state = world.state()
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 3, 2)
    world.publish("s.3")
    world.scheduler.advance(10 * NS_PER_S)
    assert world.state()["messages"] == 0


def test_what_expired_while_the_server_was_away_is_gone_before_anybody_asks(world: World) -> None:
    world.create(max_age=10 * NS_PER_S)
    world.publish("s.1")
    world.scheduler.advance(9 * NS_PER_S)
    world.jetstream.close()
    world.scheduler.advance(2 * NS_PER_S)
    world.start()
    assert world.state()["messages"] == 0


def test_a_clock_that_goes_back_does_not_disorder_the_timestamps(world: World) -> None:
    world.create()
    world.publish("s.1")
    world.scheduler._start_ns -= 5 * NS_PER_S
    world.publish("s.2")
    log = world.stream("S").log
    first, second = log.get(1), log.get(2)
    assert first is not None
    assert second is not None
    assert second.time_ns >= first.time_ns


def test_an_account_above_its_limit_stores_nothing_more() -> None:
    world = World(limits=AccountJetStreamOptions(max_memory=100))
    world.create(storage="memory")
    world.publish("s.1", b"x" * 200)
    assert world.publish_error("s.1") == (10002, "resource limits exceeded for account")
    world.ask("STREAM.PURGE.S")
    assert world.publish("s.1")["seq"] == 2


def test_a_server_above_its_limit_stores_nothing_more() -> None:
    world = World(options=JetStreamOptions(max_memory=100))
    world.create(storage="memory")
    world.publish("s.1", b"x" * 200)
    assert world.publish_error("s.1") == (10023, "insufficient resources")


# features that are not there


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Nats_TTL": "5s"}, 10166),
        ({"Nats_TTL": "5"}, 10166),
        ({"Nats_TTL": "never"}, 10166),
        ({"Nats_TTL": "soon"}, 10165),
        ({"Nats_TTL": "1" * 5000}, 10165),
        ({"Nats_Incr": "+1"}, 10168),
        ({"Nats_Batch_Id": "b"}, 10174),
        ({"Nats_Schedule": "@every 1s"}, 10188),
        ({"Nats_Scheduler": "x"}, 10212),
        ({"Nats_Schedule_Next": "purge"}, 10212),
        ({"Nats_Stream_Source": "x"}, 10227),
    ],
)
def test_headers_of_features_that_are_off_are_refused(
    world: World, fields: dict[str, str], code: int
) -> None:
    world.create()
    assert world.publish_error("s.1", **fields)[0] == code
    assert world.state()["messages"] == 0


def test_a_turn_with_more_messages_than_the_stream_may_have_leaves_its_end(world: World) -> None:
    world.create(max_msgs=3)
    for number in range(6):
        world.queue("s.1", b"%d" % number, Color="red")
    world.bus.turn()
    assert [payload for _, _, payload in world.messages()] == [b"3", b"4", b"5"]


# bounds


def test_publishers_are_held_while_too_much_is_in_flight() -> None:
    world = _held_stream(JetStreamOptions(max_buffered_messages=16))
    for number in range(6):
        world.queue(f"s.{number}", connection_id=7)
    world.bus.turn()
    assert world.bus.held == {7: 1}
    world.release()
    assert world.bus.held == {}


@pytest.mark.parametrize(
    "options", [JetStreamOptions(max_buffered_messages=8), JetStreamOptions(max_buffered_size=800)]
)
def test_publishes_are_refused_when_holding_was_not_enough(options: JetStreamOptions) -> None:
    world = _held_stream(options)
    for connection_id in range(1, 11):
        world.send("s.1", bytes(100), connection_id=connection_id)
    reply = world.send("s.1", connection_id=99)
    (answer,) = world.bus.answers(reply)
    assert answer.headers == b"NATS/1.0 429 Too Many Requests\r\n\r\n"
    assert json.loads(answer.payload)["error"]["err_code"] == 10167


def test_a_stream_that_goes_releases_whom_it_held() -> None:
    world = _held_stream(JetStreamOptions(max_buffered_messages=4))
    world.send("s.1")
    world.send("s.1")
    assert world.bus.held
    world.post("STREAM.DELETE.S")
    assert world.bus.held == {}


def test_a_fenced_stream_shows_what_is_durable_and_nothing_above() -> None:
    world = _held_stream(allow_direct=True)
    world.send("s.1", b"kept")
    world.release()
    world.send("s.1", b"in doubt")
    world.release(StorageError("fsync: input/output error"))
    world.bus.published.clear()
    assert world.status("S", {"seq": 2}) == b"404 Message Not Found"
    assert world.direct("S", {"last_by_subj": "s.1"})[0].payload == b"kept"


def test_a_stream_whose_sequences_are_used_up_says_so(world: World) -> None:
    world.create(first_seq=2**64 - 5)
    assert world.publish_error("s.1") == (10077, "sequences are used up")


def test_a_mistake_of_ours_is_logged_and_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.create()
    monkeypatch.setattr(world.stream("S"), "time_ns", None)
    assert world.publish_error("s.1") == (10077, publish.INTERNAL_ERROR)
    assert any("publish failed" in line for line in world.log.lines)
