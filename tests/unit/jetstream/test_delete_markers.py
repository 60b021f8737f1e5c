"""Where a subject's last message goes by time, a marker says so, for a while."""

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from unit.jetstream.world import World


def marked(world: World, **config: object) -> None:
    world.create(subject_delete_marker_ttl=60 * NS_PER_S, **config)


def last_headers(world: World, subject: bytes = b"s.1") -> dict[bytes, bytes]:
    log = world.stream("S").log
    state = log.subject(subject)
    assert state is not None
    view = log.get(state.last_sequence)
    assert view is not None
    parsed = headers.parse(view.headers)
    assert parsed is not None
    return dict(parsed.fields)


def test_markers_imply_ttls_and_rollups(world: World) -> None:
    marked(world)
    config = world.ask("STREAM.INFO.S")["config"]
    assert config["allow_msg_ttl"]
    assert config["allow_rollup_hdrs"]


def test_a_marker_takes_the_place_of_a_subjects_last_aged_message(world: World) -> None:
    marked(world, max_age=10 * NS_PER_S)
    world.publish("s.1", b"x")
    world.publish("s.1", b"y")
    world.scheduler.advance(10 * NS_PER_S)
    assert world.messages() == [(3, "s.1", b"")]
    assert list(last_headers(world).items()) == [
        (b"Nats-Marker-Reason", b"MaxAge"),
        (b"Nats-TTL", b"1m0s"),
        (b"Nats-Rollup", b"sub"),
    ]


def test_a_marker_takes_the_place_of_a_message_whose_ttl_is_over(world: World) -> None:
    marked(world, max_msgs_per_subject=1)
    world.publish("s.1", b"x", Nats_TTL="5")
    world.scheduler.advance(5 * NS_PER_S)
    assert world.messages() == [(2, "s.1", b"")]


def test_a_marker_goes_by_its_ttl_and_leaves_none(world: World) -> None:
    marked(world, max_msgs_per_subject=1)
    world.publish("s.1", b"x", Nats_TTL="5")
    world.scheduler.advance(5 * NS_PER_S)
    world.scheduler.advance(60 * NS_PER_S)
    assert world.messages() == []
    assert world.state()["last_seq"] == 2


def test_the_marker_of_a_purged_key_leaves_none(world: World) -> None:
    marked(world, max_msgs_per_subject=1)
    world.publish("s.1", KV_Operation="PURGE", Nats_TTL="5")
    world.scheduler.advance(5 * NS_PER_S)
    assert world.messages() == []
    assert world.state()["last_seq"] == 1


def test_older_messages_of_a_subject_leave_no_marker(world: World) -> None:
    marked(world, max_age=100 * NS_PER_S)
    world.publish("s.1", b"x")
    world.scheduler.advance(50 * NS_PER_S)
    world.publish("s.1", b"y")
    world.scheduler.advance(50 * NS_PER_S)
    assert world.messages() == [(2, "s.1", b"y")]


def test_purges_and_deletes_leave_no_marker(world: World) -> None:
    marked(world)
    world.publish("s.1")
    world.publish("s.2")
    world.ask("STREAM.MSG.DELETE.S", {"seq": 1})
    world.ask("STREAM.PURGE.S")
    assert world.state()["last_seq"] == 2


def test_a_ttl_shorter_than_the_markers_is_lengthened(world: World) -> None:
    marked(world)
    world.publish("s.1", Nats_TTL="5")
    assert last_headers(world)[b"Nats-TTL"] == b"60"
    world.scheduler.advance(59 * NS_PER_S)
    assert world.state()["last_seq"] == 1


def test_a_consumer_is_shown_the_marker(world: World) -> None:
    marked(world, max_msgs_per_subject=1)
    listener = world.bus.subscribe("$G", b"out")
    world.ask(
        "CONSUMER.CREATE.S.C",
        {"stream_name": "S", "config": {"name": "C", "deliver_subject": "out", "ack_policy": "none"}},
    )
    world.publish("s.1", b"x", Nats_TTL="5")
    world.scheduler.advance(5 * NS_PER_S)
    world.bus.turn()
    assert [view.sequence for view, _ in listener.received] == [1, 2]


def test_messages_that_aged_while_the_server_was_down_leave_markers(world: World) -> None:
    marked(world, max_age=10 * NS_PER_S)
    world.publish("s.1", b"x")
    world.jetstream.close()
    world.scheduler.advance(20 * NS_PER_S)
    world.start()
    world.bus.turn()
    assert world.messages() == [(2, "s.1", b"")]
