"""The bus made of lists behaves as the engine's bus where JetStream relies on it."""

from headrace.core.base.message import Batch, Message, MessageBatch, View
from headrace.core.bus import Outcome
from unit.jetstream.bus_of_lists import BusOfLists

VIEWS = [View(1, 0, b"s", b"", b"one"), View(2, 0, b"s", b"", b"two")]


class Keeper:
    """A sink that keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def on_messages(self, batch: Batch) -> None:
        self.batches.append([message.payload for message in batch])


def test_sinks_get_what_matches_gathered_and_not_before_the_turn() -> None:
    bus, keeper = BusOfLists(), Keeper()
    registration = bus.capture("A", b"s.*", keeper)
    assert bus.send("A", b"s.1", b"one") == 1
    assert bus.send("A", b"s.2", b"two") == 1
    assert bus.send("B", b"s.1") == 0
    assert bus.send("A", b"t") == 0
    assert keeper.batches == []
    bus.turn()
    assert keeper.batches == [[b"one", b"two"]]
    registration.close()
    registration.close()
    assert bus.send("A", b"s.1") == 0


def test_what_is_published_reaches_sinks_and_subscribers() -> None:
    bus, keeper = BusOfLists(), Keeper()
    bus.capture("A", b"s", keeper)
    subscriber = bus.subscribe("A", b">")
    bus.publish("A", b"s", b"x", reply=b"r")
    bus.turn()
    assert keeper.batches == [[b"x"]]
    assert [(view.payload, reply) for view, reply in subscriber.received] == [(b"x", b"r")]


def test_a_delivery_stops_where_there_is_no_room_or_nobody() -> None:
    bus = BusOfLists()
    assert bus.deliver("A", b"d", VIEWS, [b"", b""]).outcome is Outcome.NO_INTEREST
    subscriber = bus.subscribe("A", b"d", room=1)
    delivered = bus.deliver("A", b"d", VIEWS, [b"", b""])
    assert (delivered.count, delivered.outcome) == (1, Outcome.NO_ROOM)
    told: list[bool] = []
    bus.on_room(lambda: told.append(True))
    bus.make_room(subscriber, None)
    assert told == [True]
    assert bus.deliver("A", b"d", VIEWS, [b"", b""]).count == 2


def test_one_member_of_a_queue_group_gets_a_delivery() -> None:
    bus = BusOfLists()
    members = [bus.subscribe("A", b"d", queue=b"q") for _ in range(2)]
    bus.deliver("A", b"d", VIEWS[:1], [b""], queue=b"q")
    assert sum(len(member.received) for member in members) == 1


def test_watchers_hear_of_interest_that_comes_and_goes() -> None:
    bus = BusOfLists()
    heard: list[bool] = []
    bus.watch_interest("A", b"d.x", heard.append)
    subscriber = bus.subscribe("A", b"d.*")
    bus.unsubscribe(subscriber)
    assert heard == [True, False]


def test_answers_number_every_message_and_reach_those_with_a_reply() -> None:
    bus = BusOfLists()
    batch = MessageBatch(Message(b"s", reply, b"", b"", 1) for reply in (b"r1", b"", b"r3"))
    bus.answer("A", batch, b"<", 7, b">")
    assert [(sent.subject, sent.payload) for sent in bus.published] == [(b"r1", b"<7>"), (b"r3", b"<9>")]
