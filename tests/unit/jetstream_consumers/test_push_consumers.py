"""Push consumers: interest, queue groups, heartbeats, flow control, and what slows them down."""

from headrace.core.base.clock import NS_PER_MS
from unit.jetstream_consumers.consumer_world import MS, ConsumerWorld, S


def push(world: ConsumerWorld, count: int = 0, **config: object) -> None:
    world.create()
    world.fill(count)
    config.setdefault("deliver_subject", "out")
    world.consumer(**config)


def test_a_push_consumer_waits_for_somebody_to_listen(world: ConsumerWorld) -> None:
    push(world, 2)
    assert world.counters()["delivered"] == (0, 0)
    assert "push_bound" not in world.info()
    out = world.inbox("out")
    world.bus.turn()
    assert out.numbers() == [(1, 1, 1, 1), (1, 2, 2, 0)]
    assert world.info()["push_bound"] is True


def test_messages_are_pushed_as_they_come(world: ConsumerWorld) -> None:
    push(world)
    out = world.inbox("out")
    world.fill(2)
    assert out.all() == ["m1", "m2"]


def test_nothing_counts_as_delivered_while_nobody_listens(world: ConsumerWorld) -> None:
    push(world)
    out = world.inbox("out")
    world.fill(1)
    out.close()
    world.fill(2, first=2)
    assert world.counters()["delivered"] == (1, 1)
    assert world.counters()["pending"] == 2
    again = world.inbox("out")
    world.bus.turn()
    assert again.numbers() == [(1, 2, 2, 1), (1, 3, 3, 0)]


def test_a_group_gets_each_message_once_and_other_listeners_count_for_nothing(world: ConsumerWorld) -> None:
    push(world, 2, deliver_group="workers")
    stranger = world.bus.subscribe("$G", b"out", queue=b"others")
    world.bus.turn()
    assert world.counters()["delivered"] == (0, 0)
    first = world.bus.subscribe("$G", b"out", queue=b"workers")
    second = world.bus.subscribe("$G", b"out", queue=b"workers")
    world.bus.turn()
    assert len(first.received) + len(second.received) == 2
    assert len(stranger.received) == 2


def test_a_push_consumer_redelivers_what_is_not_acked(world: ConsumerWorld) -> None:
    push(world, 2, ack_wait=1 * S)
    out = world.inbox("out")
    world.bus.turn()
    world.ack(1)
    world.advance(1100 * MS)
    assert out.all() == ["m1", "m2", "m2"]


def test_idle_heartbeats_come_while_nothing_else_does(world: ConsumerWorld) -> None:
    push(world, 1, idle_heartbeat=1 * S)
    out = world.inbox("out")
    world.bus.turn()
    world.advance(900 * MS)
    world.fill(1, first=2)
    world.advance(900 * MS)
    assert out.all() == ["m1", "m2"]
    world.advance(1 * S)
    beat = "100 Idle Heartbeat; Nats-Last-Consumer: 2; Nats-Last-Stream: 2"
    assert out.all() == [beat]
    world.advance(1 * S)
    assert out.all() == [beat]


def test_heartbeats_go_on_in_a_pause_and_stop_without_listeners(world: ConsumerWorld) -> None:
    push(world, 1, idle_heartbeat=1 * S)
    world.ask("CONSUMER.PAUSE.S.C", {"pause_until": "2030-01-01T00:00:00Z"})
    out = world.inbox("out")
    world.bus.turn()
    world.advance(1100 * MS)
    assert out.all() == ["100 Idle Heartbeat; Nats-Last-Consumer: 0; Nats-Last-Stream: 0"]
    out.close()
    world.advance(3 * S)
    assert out.all() == []


def test_flow_control_asks_at_half_a_window_and_stalls_beyond_a_whole_one(world: ConsumerWorld) -> None:
    push(world, flow_control=True, idle_heartbeat=1 * S)
    for _ in range(40):
        world.publish("s.a", b"x" * 100_000)
    out = world.inbox("out")
    world.bus.turn()
    received = out.subscriber.received
    kinds = ["message" if view.sequence else "request" for view, _ in received]
    assert kinds.count("message") == 21
    assert kinds.index("request") == 11
    request = next(view for view, _ in received if not view.sequence)
    assert request.headers == b"NATS/1.0 100 FlowControl Request\r\n\r\n"
    reply = next(reply for view, reply in received if not view.sequence)
    assert reply.startswith(b"$JS.FC.S.C.")
    world.advance(1100 * MS)
    beat = out.subscriber.received[-1][0].headers
    assert b"Nats-Consumer-Stalled: " + reply + b"\r\n" in beat
    world.answer("$JS.FC.S.C.zzzz")
    assert sum(view.sequence > 0 for view, _ in received) == 21
    world.answer(reply.decode())
    world.bus.turn()
    assert sum(view.sequence > 0 for view, _ in received) == 40


def test_a_rate_limit_spaces_messages(world: ConsumerWorld) -> None:
    push(world, 0, rate_limit_bps=8 * 1024 * 1024)
    for _ in range(4):
        world.publish("s.a", b"x" * 1024 * 1000)
    out = world.inbox("out")
    world.bus.turn()
    assert len(out.numbers()) == 1
    world.advance(1 * S)
    assert len(out.numbers()) == 1
    world.advance(2 * S)
    assert len(out.numbers()) == 2


def test_original_replay_keeps_the_time_between_messages(world: ConsumerWorld) -> None:
    world.create()
    for gap in (0, 500, 1000):
        world.advance(gap * MS)
        world.fill(1)
    world.consumer(deliver_subject="out", replay_policy="original")
    out = world.inbox("out")
    world.bus.turn()
    began = world.scheduler.monotonic_ns()
    times: list[int] = []
    for _ in range(400):
        times += [round((world.scheduler.monotonic_ns() - began) / NS_PER_MS / 100)] * len(out.numbers())
        world.advance(5 * MS)
    assert times == [0, 5, 15]
    world.fill(2)
    assert len(out.numbers()) == 2


def test_pulling_from_a_push_consumer_is_refused(world: ConsumerWorld) -> None:
    push(world)
    inbox = world.inbox("in")
    world.pull(inbox)
    assert inbox.all() == ["409 Consumer is push based"]


def test_a_listener_without_room_gets_the_rest_later_and_in_order(world: ConsumerWorld) -> None:
    push(world, 5)
    out = world.inbox("out", room=2)
    world.bus.turn()
    world.bus.turn()
    assert out.all() == ["m1", "m2"]
    world.bus.make_room(out.subscriber, None)
    world.bus.turn()
    assert out.all() == ["m3", "m4", "m5"]


def test_a_new_deliver_subject_gets_everything_pending_again(world: ConsumerWorld) -> None:
    push(world, 2)
    out = world.inbox("out")
    world.bus.turn()
    assert world.refusal(
        "CONSUMER.CREATE.S.C",
        {"stream_name": "S", "config": {"ack_policy": "explicit", "deliver_subject": "elsewhere"}},
    ) == (10013, "consumer name already in use")
    out.close()
    elsewhere = world.inbox("elsewhere")
    assert "push_bound" not in world.consumer(deliver_subject="elsewhere")
    world.advance(1 * MS)
    assert elsewhere.numbers() == [(2, 1, 3, 0), (2, 2, 4, 0)]


def test_the_ordered_consumer_of_clients_gets_gapless_sequences(world: ConsumerWorld) -> None:
    world.create()
    world.fill(3)
    info = world.consumer(
        "oc",
        durable_name=None,
        deliver_subject="out",
        ack_policy="none",
        max_deliver=1,
        flow_control=True,
        idle_heartbeat=5 * S,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=300 * S,
        ack_wait=22 * 3600 * S,
    )
    assert info["num_pending"] == 3
    out = world.inbox("out")
    world.bus.turn()
    assert out.numbers() == [(1, 1, 1, 2), (1, 2, 2, 1), (1, 3, 3, 0)]
