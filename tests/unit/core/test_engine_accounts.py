"""What crosses accounts in an engine's routes, and what mappings do to publishes; on both engines."""

import pytest
from tests.core_lab import Collector, EngineLab, engine_factories

from headrace.core.base.chance import Chance
from headrace.core.base.message import View
from headrace.core.engine.interface import Delivered, Outcome
from headrace.core.exports import Mapping, MappingDestination
from headrace.core.options import Permissions, SubjectRules
from headrace.core.routing.follower import Follower
from headrace.core.routing.mapping import Mapper, MappingInvalid, check
from headrace.core.subject_transform import SubjectTransform, TransformInvalid


@pytest.fixture(params=engine_factories())
def lab(request: pytest.FixtureRequest) -> EngineLab:
    return EngineLab(engine_factories()[request.param])


def imported(source: bytes, local: bytes) -> Follower:
    """Let account B import `source`, without wildcards renamed to a literal, else with its `$1`."""
    renames = SubjectTransform(source, local, strict=True) if b"$" in local or b">" in local else None
    pattern = renames.reversed().source if renames else local
    return Follower("B", source, pattern, None if source == local else renames)


def mapped(lab: EngineLab, *mappings: Mapping) -> None:
    lab.engine.set_mapper("$G", Mapper(mappings, Chance(3)))


def to(source: str, *destinations: tuple[str, int]) -> Mapping:
    return Mapping(source, tuple(MappingDestination(subject, weight) for subject, weight in destinations))


# stream imports


@pytest.mark.parametrize(
    ("source", "local", "published", "shown"),
    [
        (b"s.>", b"s.>", b"s.a.b", b"s.a.b"),
        (b"s.>", b"from.A.s.>", b"s.a.b", b"from.A.s.a.b"),
        (b"s.*.*", b"t.$2.$1", b"s.a.b", b"t.b.a"),
        (b"s.one", b"mine", b"s.one", b"mine"),
    ],
)
@pytest.mark.parametrize("repeated", [1, 4])
def test_a_stream_import_is_delivered_under_its_local_subject(
    lab: EngineLab, source: bytes, local: bytes, published: bytes, shown: bytes, repeated: int
) -> None:
    lab.engine.follow("A", imported(source, local))
    publisher, listener, narrow = lab.open(account="A"), lab.open(account="B"), lab.open(account="B")
    lab.send(listener, b"SUB > 7\r\n")
    lab.send(narrow, b"SUB %b 8\r\nSUB other 9\r\n" % shown)
    lab.send(publisher, b"PUB %b 2\r\nhi\r\n" % published * repeated)
    assert lab.got(listener) == b"MSG %b 7 2\r\nhi\r\n" % shown * repeated
    assert lab.got(narrow) == b"MSG %b 8 2\r\nhi\r\n" % shown * repeated


def test_subscriptions_to_an_import_come_and_go_between_equal_publishes(lab: EngineLab) -> None:
    lab.engine.follow("A", imported(b"s.*", b"t.$1"))
    publisher, listener = lab.open(account="A"), lab.open(account="B")
    line = b"PUB s.x 0\r\n\r\n"
    lab.send(publisher, line * 3)
    lab.send(listener, b"SUB t.x 1\r\n")
    lab.send(publisher, line * 3)
    assert lab.got(listener).count(b"MSG") == 3
    lab.send(listener, b"UNSUB 1\r\nSUB t.* 2\r\n")
    lab.send(publisher, line * 3)
    assert lab.got(listener) == b"MSG t.x 2 0\r\n\r\n" * 3


def test_an_import_that_ended_delivers_no_more(lab: EngineLab) -> None:
    registration = lab.engine.follow("A", imported(b"s.>", b"s.>"))
    publisher, listener = lab.open(account="A"), lab.open(account="B")
    lab.send(listener, b"SUB s.x 1\r\n")
    lab.send(publisher, b"PUB s.x 0\r\n\r\n" * 3)
    registration.close()
    registration.close()
    lab.send(publisher, b"PUB s.x 0\r\n\r\n" * 3)
    assert lab.got(listener).count(b"MSG") == 3


def test_a_queue_group_of_two_accounts_gets_each_message_once(lab: EngineLab) -> None:
    lab.engine.follow("A", imported(b"s.>", b"s.>"))
    publisher, own, other = lab.open(account="A"), lab.open(account="A"), lab.open(account="B")
    lab.send(own, b"SUB s.x q 1\r\n")
    lab.send(other, b"SUB s.x q 1\r\n")
    lab.send(publisher, b"PUB s.x 0\r\n\r\n" * 40)
    counts = lab.got(own).count(b"MSG"), lab.got(other).count(b"MSG")
    assert sum(counts) == 40
    assert min(counts) > 0


def test_an_import_is_not_exported_further(lab: EngineLab) -> None:
    lab.engine.follow("A", imported(b"s.>", b"s.>"))
    lab.engine.follow("B", Follower("C", b"s.>", b"s.>", None))
    publisher, third = lab.open(account="A"), lab.open(account="C")
    lab.send(third, b"SUB s.> 1\r\n")
    lab.send(publisher, b"PUB s.x 0\r\n\r\n")
    assert lab.got(third) == b""


def test_a_sink_behind_an_import_sees_the_local_subject(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.follow("A", imported(b"s.*", b"t.$1"))
    lab.engine.add_sink("B", b"t.>", sink)
    publisher = lab.open(account="A")
    lab.send(publisher, b"SUB inbox 1\r\n" + b"PUB s.x 1\r\na\r\n" * 3 + b"PUB s.x inbox 1\r\nb\r\n")
    assert [message.subject for message in sink.messages] == [b"t.x"] * 4
    assert lab.got(publisher) == b""


def test_stored_messages_reach_those_who_import_the_subject_they_are_sent_to(lab: EngineLab) -> None:
    lab.engine.follow("A", imported(b"deliver.>", b"from.A.deliver.>"))
    assert not lab.engine.has_interest("A", b"deliver.x")
    seen: list[bool] = []
    lab.engine.watch_interest("A", b"deliver.x", seen.append)
    listener = lab.open(account="B")
    lab.send(listener, b"SUB from.A.deliver.x 4\r\n")
    lab.engine.tell_watchers()
    assert seen == [True]
    view = View(1, 0, b"orders.new", b"", b"hi")
    assert lab.engine.deliver("A", b"deliver.x", [view], [b"ack"]) == Delivered(1, Outcome.DELIVERED)
    assert lab.got(listener) == b"MSG orders.new 4 ack 2\r\nhi\r\n"


def test_a_service_is_no_part_of_a_stream_import(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.follow("A", imported(b"s.>", b"s.>"))
    lab.engine.add_sink("B", b"s.>", sink, is_service=True)
    lab.send(lab.open(account="A"), b"PUB s.x 0\r\n\r\n")
    assert sink.messages == []


# forwarding


def test_what_is_forwarded_is_not_exported_and_tells_whether_somebody_took_it(lab: EngineLab) -> None:
    lab.engine.follow("A", imported(b"s.>", b"s.>"))
    lab.engine.add_sink("A", b"s.>", Collector(), is_service=True)
    importer, client, own = lab.open(account="B"), lab.open(account="B"), lab.open(account="A")
    lab.send(importer, b"SUB s.> 1\r\n")
    assert not lab.engine.forward(client.id, "A", b"s.x", b"", b"", b"1").took
    lab.send(own, b"SUB s.> 1\r\n")
    assert lab.engine.forward(client.id, "A", b"s.x", b"_R_.1", b"", b"1").took
    assert lab.got(own) == b"MSG s.x 1 _R_.1 1\r\n1\r\n"
    assert lab.got(importer) == b""


def test_only_who_listens_and_wants_it_is_told_that_nobody_responds(lab: EngineLab) -> None:
    client, other = lab.open(), lab.open(no_responders=False)
    for connection in (client, other):
        lab.send(connection, b"SUB inbox 1\r\n")
    for connection_id in (0, client.id, other.id, 99):
        lab.engine.tell_no_responders(connection_id, b"inbox", b"svc")
    assert lab.got(client) == b"HMSG inbox 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n"
    assert lab.got(other) == b""


# mappings


@pytest.mark.parametrize("repeated", [1, 5])
def test_a_mapped_message_goes_to_its_new_subject_alone(lab: EngineLab, repeated: int) -> None:
    mapped(lab, to("a.*", ("b.$1", 100)))
    client, sink = lab.open(), Collector()
    lab.engine.add_sink("$G", b"b.y", sink)
    lab.send(client, b"SUB > 1\r\n")
    lab.send(
        client, b"PUB a.x r 2\r\nhi\r\nPUB a.y 0\r\n\r\nHPUB a.z 12 13\r\nNATS/1.0\r\n\r\n!\r\n" * repeated
    )
    expected = b"MSG b.x 1 r 2\r\nhi\r\nMSG b.y 1 0\r\n\r\nHMSG b.z 1 12 13\r\nNATS/1.0\r\n\r\n!\r\n"
    assert lab.got(client) == expected * repeated
    assert [message.subject for message in sink.messages] == [b"b.y"] * repeated


def test_a_mapping_is_not_mapped_again_and_a_literal_one_comes_first(lab: EngineLab) -> None:
    mapped(lab, to("a.*", ("wild.$1", 100)), to("a.b", ("a.c", 100)))
    client = lab.open()
    lab.send(client, b"SUB > 1\r\nPUB a.b 0\r\n\r\n")
    assert lab.got(client) == b"MSG a.c 1 0\r\n\r\n"


def test_weights_share_messages_out_and_leave_the_rest(lab: EngineLab) -> None:
    mapped(lab, to("a", ("b", 30), ("c", 20)))
    client = lab.open()
    lab.send(client, b"SUB > 1\r\n" + b"PUB a 0\r\n\r\n" * 1000)
    got = lab.got(client)
    counts = {name: got.count(b"MSG " + name) for name in (b"a", b"b", b"c")}
    assert sum(counts.values()) == 1000
    assert 420 < counts[b"a"] < 580
    assert 230 < counts[b"b"] < 370
    assert 130 < counts[b"c"] < 270


def test_a_listed_source_makes_the_rest_a_loss(lab: EngineLab) -> None:
    mapped(lab, to("a", ("a", 50)))
    client = lab.open()
    lab.send(client, b"SUB > 1\r\n" + b"PUB a 0\r\n\r\n" * 200)
    assert 60 < lab.got(client).count(b"MSG a 1 0") < 140


def test_a_request_that_a_mapping_loses_has_no_responders_for_no_subject(lab: EngineLab) -> None:
    mapped(lab, to("a", ("a", 0)))
    client = lab.open()
    lab.send(client, b"SUB r 1\r\nSUB a 2\r\nPUB a r 0\r\n\r\n")
    assert lab.got(client) == b"HMSG r 1 32 32\r\nNATS/1.0 503\r\nNats-Subject: \r\n\r\n\r\n"


def test_permissions_see_the_mapped_subject(lab: EngineLab) -> None:
    mapped(lab, to("foo", ("bar", 100)), to("old", ("foo", 100)))
    client = lab.open(permissions=Permissions(publish=SubjectRules(("foo",))))
    (refused,) = lab.send(client, b"PUB foo 0\r\n\r\n")
    assert getattr(refused, "subject", None) == b"bar"
    lab.send(client, b"SUB foo 1\r\n" + b"PUB old 0\r\n\r\n" * 3)
    assert lab.got(client) == b"MSG foo 1 0\r\n\r\n" * 3


def test_a_mapping_that_is_taken_back_maps_no_more(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB > 1\r\n" + b"PUB a 0\r\n\r\n" * 3)
    mapped(lab, to("a", ("b", 100)))
    lab.send(client, b"PUB a 0\r\n\r\n" * 3)
    lab.engine.set_mapper("$G", None)
    lab.send(client, b"PUB a 0\r\n\r\n" * 3)
    lines = b"MSG a 1 0\r\n\r\n" * 3, b"MSG b 1 0\r\n\r\n" * 3
    assert lab.got(client) == lines[0] + lines[1] + lines[0]


def test_destinations_of_the_own_cluster_win() -> None:
    mapping = Mapping("a", (MappingDestination("b"), MappingDestination("c", cluster="east")))
    assert Mapper([mapping], Chance(1), "east").mapped(b"a") == b"c"
    assert Mapper([mapping], Chance(1), "west").mapped(b"a") == b"b"
    assert Mapper([mapping], Chance(1)).fixed(b"a") == b"b"


def test_a_mapping_by_chance_is_not_fixed() -> None:
    mapper = Mapper([to("a", ("b", 50)), to("r.*", ("r.{{random(3)}}", 100))], Chance(1))
    assert mapper.fixed(b"a") is None
    assert mapper.fixed(b"r.x") is None
    assert mapper.fixed(b"other") == b"other"


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (to("a..b", ("b", 100)), "invalid subject"),
        (to("a", ("b", 50), ("b", 50)), 'duplicate entry for "b"'),
        (to("a", ("b", 101)), "individual weights need to be <= 100"),
        (to("a", ("b", 60), ("c", 50)), "total weight needs to be <= 100"),
        (to("a.*", ("b.$2", 100)), "invalid mapping destination: wildcard index out of range in $2: [2]"),
    ],
)
def test_what_is_no_mapping_is_refused(mapping: Mapping, text: str) -> None:
    with pytest.raises((MappingInvalid, TransformInvalid)) as refused:
        check(mapping)
    assert str(refused.value) == text
