"""A mirror holds what its origin holds, under the same sequences; sources gather, and each message says from where."""

import pytest

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.core.base.message import Batch
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.mirrors.origins import index_name, parse_source_header, short_hash
from headrace.jetstream.models.stream_config import StreamSource
from unit.jetstream.world import ACCOUNT, World


def _mirror(world: World, name: str = "M", origin: str = "S", **more: object) -> None:
    source: dict[str, object] = {"name": origin}
    rest: dict[str, object] = {}
    for key, value in more.items():
        (source if key in StreamSource.model_fields else rest)[key] = value
    answer = world.ask(f"STREAM.CREATE.{name}", {"name": name, "mirror": source, **rest})
    assert "error" not in answer, answer


def _gather(world: World, *sources: object, name: str = "G", **more: object) -> None:
    answer = world.ask(f"STREAM.CREATE.{name}", {"name": name, "sources": sources, **more})
    assert "error" not in answer, answer


def _run(world: World, turns: int = 5) -> None:
    for _ in range(turns):
        world.bus.turn()


def _headers(world: World, name: str, sequence: int) -> bytes:
    view = world.stream(name).log.get(sequence)
    assert view is not None
    return view.headers


def test_a_mirror_has_the_sequences_times_and_gaps_of_its_origin(world: World) -> None:
    world.create()
    for number in range(5):
        world.publish(f"s.{number}", b"%d" % number)
    world.ask("STREAM.MSG.DELETE.S", {"seq": 3})
    _mirror(world)
    world.scheduler.advance(NS_PER_S)
    world.publish("s.new", b"new")
    _run(world)
    assert world.messages("M") == world.messages("S")
    one, other = (world.stream(name).log.get(6) for name in ("S", "M"))
    assert one == other
    assert world.state("M")["num_deleted"] == 1


def test_a_mirror_waits_for_an_origin_that_is_not_there_and_says_so(world: World) -> None:
    _mirror(world)
    info = world.ask("STREAM.INFO.M")["mirror"]
    assert info["error"] == {"code": 404, "err_code": 10059, "description": "stream not found"}
    assert info["active"] == -1
    world.create()
    world.publish("s.1", b"x")
    _run(world)
    assert world.messages("M") == [(1, "s.1", b"x")]
    info = world.ask("STREAM.INFO.M")["mirror"]
    assert (info["name"], info["lag"]) == ("S", 0)
    assert "error" not in info


def test_a_mirror_takes_what_its_filter_means_and_leaves_gaps(world: World) -> None:
    world.create()
    for subject in ("s.a", "s.b", "s.a", "s.b"):
        world.publish(subject)
    _mirror(world, filter_subject="s.b")
    _run(world)
    assert [message[0] for message in world.messages("M")] == [2, 4]


def test_a_mirror_begins_where_it_is_told(world: World) -> None:
    world.create()
    for number in range(4):
        world.publish(f"s.{number}")
    _mirror(world, opt_start_seq=3)
    _run(world)
    assert world.state("M")["first_seq"] == 3
    assert world.state("M")["messages"] == 2


def test_a_mirror_changes_subjects(world: World) -> None:
    world.create()
    world.publish("s.1")
    world.publish("s.other.1")
    _mirror(world, subject_transforms=[{"src": "s.*", "dest": "t.{{wildcard(1)}}"}])
    _run(world)
    assert world.messages("M") == [(1, "t.1", b"")]


def test_a_mirror_that_was_promoted_takes_messages_of_its_own(world: World) -> None:
    world.create()
    world.publish("s.1")
    _mirror(world)
    _run(world)
    answer = world.ask("STREAM.UPDATE.M", {"name": "M", "subjects": ["m.>"]})
    assert "error" not in answer, answer
    world.publish("s.2")
    _run(world)
    assert world.publish("m.1")["seq"] == 2
    assert [message[1] for message in world.messages("M")] == ["s.1", "m.1"]


def test_a_mirror_cannot_be_given_another_origin(world: World) -> None:
    world.create()
    _mirror(world)
    assert world.refusal("STREAM.UPDATE.M", {"name": "M", "mirror": {"name": "T"}})[0] == 10055


def test_a_purged_mirror_does_not_take_again_what_it_had(world: World) -> None:
    world.create()
    world.publish("s.1")
    _mirror(world)
    _run(world)
    world.ask("STREAM.PURGE.M")
    world.start()
    world.publish("s.2")
    _run(world)
    assert world.messages("M") == [(2, "s.2", b"")]


def test_mirrors_follow_mirrors(world: World) -> None:
    world.create()
    _mirror(world)
    _mirror(world, name="N", origin="M")
    world.publish("s.1", b"x")
    _run(world)
    assert world.messages("N") == [(1, "s.1", b"x")]


def test_a_sourced_message_says_where_it_comes_from(world: World) -> None:
    world.create()
    world.publish("s.1", b"x", Some="field", Nats_Expected_Stream="S")
    _gather(world, {"name": "S"})
    _run(world)
    fields = headers.parse(_headers(world, "G", 1))
    assert fields is not None
    value = fields.get(b"Nats-Stream-Source") or b""
    assert value.startswith(b"S 1 > > s.1 ")
    assert [name for name, _ in fields.fields] == [b"Some", b"Nats-Stream-Source"]
    found = parse_source_header(value)
    assert found is not None
    assert (found.index_name, found.sequence, len(found.identity)) == ("S > >", 1, 8)


def test_sources_are_filtered_and_renamed_and_told_in_info(world: World) -> None:
    world.create("S")
    world.create("T")
    world.publish("s.1")
    world.publish("s.2")
    world.publish("t.1")
    _gather(
        world,
        {"name": "S", "filter_subject": "s.2"},
        {"name": "T", "subject_transforms": [{"src": "t.>", "dest": "g.>"}]},
    )
    _run(world)
    assert sorted(message[1] for message in world.messages("G")) == ["g.1", "s.2"]
    first, second = world.ask("STREAM.INFO.G")["sources"]
    assert (first["name"], first["lag"], first["seq"], first["filter_subject"]) == ("S", 0, 2, "s.2")
    assert second["subject_transforms"] == [{"src": "t.>", "dest": "g.>"}]


@pytest.mark.parametrize("purged", [False, True])
def test_sources_go_on_after_a_restart_where_they_were(world: World, *, purged: bool) -> None:
    world.create()
    world.publish("s.1")
    _gather(world, {"name": "S"}, storage="file")
    _run(world)
    if purged:
        world.ask("STREAM.PURGE.G")
    world.start()
    world.publish("s.2")
    _run(world)
    subjects = [message[1] for message in world.messages("G")]
    assert subjects == (["s.2"] if purged else ["s.1", "s.2"])


def test_an_origin_made_anew_is_copied_from_its_beginning(world: World) -> None:
    world.create()
    world.publish("s.1")
    _gather(world, {"name": "S"})
    _run(world)
    world.ask("STREAM.DELETE.S")
    world.scheduler.advance(NS_PER_S)
    assert world.ask("STREAM.INFO.G")["sources"][0]["error"]["err_code"] == 10059
    world.create()
    world.publish("s.again")
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.1", "s.again"]


def test_a_source_taken_away_and_given_back_goes_on(world: World) -> None:
    world.create()
    world.publish("s.1")
    _gather(world, {"name": "S"}, subjects=["g.>"])
    _run(world)
    world.ask("STREAM.UPDATE.G", {"name": "G", "subjects": ["g.>"]})
    world.publish("s.2")
    world.ask("STREAM.UPDATE.G", {"name": "G", "subjects": ["g.>"], "sources": [{"name": "S"}]})
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.1", "s.2"]


def test_a_full_target_waits_and_leaves_nothing_out(world: World) -> None:
    world.create()
    for number in range(4):
        world.publish(f"s.{number}")
    _gather(world, {"name": "S"}, max_msgs=2, discard="new")
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.0", "s.1"]
    world.ask("STREAM.PURGE.G", {"keep": 1})
    world.scheduler.advance(2 * NS_PER_S)
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.1", "s.2"]


def test_limits_of_the_target_hold(world: World) -> None:
    world.create()
    _gather(world, {"name": "S"}, max_msgs=3)
    for number in range(10):
        world.publish(f"s.{number}")
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.7", "s.8", "s.9"]


def test_duplicates_are_left_out_where_the_target_looks_for_them(world: World) -> None:
    world.create("S", duplicate_window=NS_PER_S)
    world.create("T", duplicate_window=NS_PER_S)
    _gather(world, {"name": "S"}, {"name": "T"}, duplicate_window=NS_PER_S)
    world.publish("s.1", Nats_Msg_Id="a")
    _run(world)
    world.publish("t.1", Nats_Msg_Id="a")
    world.publish("t.2", Nats_Msg_Id="b")
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.1", "t.2"]


def test_a_workqueue_gives_up_only_what_is_durable_in_the_target() -> None:
    world = World(held=True)
    world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "retention": "workqueue"})
    world.release()
    world.post("STREAM.CREATE.G", {"name": "G", "sources": [{"name": "S"}]})
    world.release()
    world.send("s.1")
    world.release()
    _run(world)
    log = world.stream("G").log
    assert (log.head.last_sequence, log.durable_sequence) == (1, 0)
    assert world.stream("S").log.head.messages == 1
    world.release()
    _run(world)
    assert world.stream("S").log.head.messages == 0


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"mirror": {"name": "S"}, "subjects": ["x"]}, 10034),
        ({"mirror": {"name": "S"}, "sources": [{"name": "S"}]}, 10031),
        ({"mirror": {"name": "S"}, "first_seq": 5}, 10143),
        ({"mirror": {"name": "a.b"}}, 10142),
        ({"mirror": {"name": "X"}}, 10052),
        (
            {
                "mirror": {
                    "name": "S",
                    "filter_subject": "a",
                    "subject_transforms": [{"src": "b", "dest": "c"}],
                }
            },
            10150,
        ),
        ({"mirror": {"name": "S", "subject_transforms": [{"src": "a..b", "dest": "c"}]}}, 10151),
        ({"mirror": {"name": "S", "subject_transforms": [{"src": "a", "dest": "c.{{wildcard(1)}}"}]}}, 10154),
        (
            {
                "mirror": {
                    "name": "S",
                    "subject_transforms": [{"src": "a.>", "dest": "b.>"}, {"src": "a.b", "dest": "c"}],
                }
            },
            10152,
        ),
        ({"mirror": {"name": "S"}, "max_msg_size": 10}, 10030),
        ({"sources": [{"name": "S"}], "max_msg_size": 10}, 10046),
        ({"sources": [{"name": "a b"}]}, 10141),
        ({"sources": [{"name": "S"}, {"name": "S"}]}, 10140),
        ({"sources": [{"name": "S", "filter_subject": "a", "subject_transforms": [{"src": "b"}]}]}, 10144),
        ({"sources": [{"name": "S", "subject_transforms": [{"src": "a..b", "dest": "c"}]}]}, 10145),
        (
            {"sources": [{"name": "S", "subject_transforms": [{"src": "a", "dest": "{{wildcard(1)}}"}]}]},
            10146,
        ),
        (
            {
                "sources": [
                    {
                        "name": "S",
                        "subject_transforms": [{"src": "a.>", "dest": "b.>"}, {"src": "a.b", "dest": "c"}],
                    }
                ]
            },
            10147,
        ),
        ({"sources": [{"name": "X"}]}, 10052),
        ({"sources": [{"name": "S", "external": {"api": "$JS.API", "deliver": ""}}]}, 10021),
        ({"sources": [{"name": "S", "external": {"api": "A.B", "deliver": "a.>"}}]}, 10024),
        ({"mirror": {"name": "S", "external": {"api": "A.*", "deliver": ""}}}, 10052),
    ],
)
def test_what_cannot_be_copied_is_refused(world: World, config: dict[str, object], code: int) -> None:
    world.create(max_msg_size=100)
    assert world.refusal("STREAM.CREATE.X", {"name": "X", **config})[0] == code


def test_streams_that_would_copy_each_other_are_refused(world: World) -> None:
    _gather(world, {"name": "H"}, name="G")
    refusal = world.refusal("STREAM.CREATE.H", {"name": "H", "sources": [{"name": "G"}]})
    assert refusal == (10052, "detected cycle")


def test_names_are_shortened_as_the_reference_does() -> None:
    assert len(short_hash("$JS.hub.API")) == 8
    source = StreamSource.model_validate({"name": "F", "filter_subject": "f.>"})
    assert index_name(source) == "F f.> >"


def test_a_consumer_cannot_be_called_like_the_positions(world: World) -> None:
    world.create()
    config = {"stream_name": "S", "config": {"durable_name": ".sources", "ack_policy": "none"}}
    assert "error" in world.ask("CONSUMER.CREATE.S", config)


def test_an_interest_stream_keeps_messages_until_they_are_copied(world: World) -> None:
    world.create("S", retention="interest")
    _gather(world, {"name": "S", "filter_subject": "s.a"})
    world.publish("s.a", b"wanted")
    world.publish("s.b", b"nobody's")
    _run(world)
    assert [message[1] for message in world.messages("G")] == ["s.a"]
    assert world.state("S")["messages"] == 0


class _Back:
    """Where the exporter's answer to one request goes: back to who asked."""

    def __init__(self, world: World, reply: bytes) -> None:
        self._bus = world.bus
        self._reply = reply

    def on_messages(self, batch: Batch) -> None:
        for message in batch:
            self._bus.publish(ACCOUNT, self._reply, message.payload)


class _Import:
    """A service import: what one account asks under a prefix, another one's API answers."""

    def __init__(self, world: World, prefix: bytes, exporter: str) -> None:
        self._world = world
        self._prefix = prefix
        self._exporter = exporter
        world.bus.capture(ACCOUNT, prefix + b".>", self)

    def on_messages(self, batch: Batch) -> None:
        bus = self._world.bus
        for message in batch:
            subject = b"$JS.API" + message.subject.removeprefix(self._prefix)
            reply = b"_R_." + message.reply
            bus.capture(self._exporter, reply, _Back(self._world, message.reply))
            bus.publish(self._exporter, subject, message.payload, reply=reply)


def _two_accounts() -> World:
    world = World(accounts={ACCOUNT: AccountJetStreamOptions(), "B": AccountJetStreamOptions()})
    _Import(world, b"FROM.B", "B")
    return world


def _in_b(world: World) -> None:
    answer = world.ask("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}, account="B")
    assert "error" not in answer, answer


_FROM_B = {"api": "FROM.B", "deliver": "deliver.b"}


def _wait(world: World, seconds: int = 12) -> None:
    for _ in range(seconds * 5):
        world.scheduler.advance(NS_PER_S // 5)
        world.bus.turn()


def test_a_stream_of_another_account_is_copied_through_an_import() -> None:
    world = _two_accounts()
    _in_b(world)
    world.bus.send("B", b"s.1", b"old")
    _mirror(world, external=_FROM_B)
    _gather(world, {"name": "S", "external": _FROM_B})
    _wait(world, 1)
    world.bus.send("B", b"s.2", b"new")
    _run(world)
    assert world.messages("M") == world.messages("G") == [(1, "s.1", b"old"), (2, "s.2", b"new")]
    assert world.ask("STREAM.INFO.M")["mirror"]["external"] == _FROM_B
    assert (headers.get(_headers(world, "G", 2), b"Nats-Stream-Source") or b"").startswith(b"S:")


def test_a_stream_of_another_account_may_come_later_and_go_between() -> None:
    world = _two_accounts()
    _mirror(world, external=_FROM_B)
    _wait(world, 1)
    assert world.ask("STREAM.INFO.M")["mirror"]["error"]["err_code"] == 10059
    _in_b(world)
    world.bus.send("B", b"s.1")
    _wait(world)
    assert world.messages("M") == [(1, "s.1", b"")]
    world.ask("STREAM.DELETE.S", account="B")
    _wait(world, 1)
    assert world.ask("STREAM.INFO.M")["mirror"]["error"]["err_code"] == 10059


def test_nobody_is_reached_without_an_import_and_nothing_stays_behind() -> None:
    world = _two_accounts()
    _in_b(world)
    _mirror(world, external={"api": "FROM.C", "deliver": ""})
    world.bus.send("B", b"s.1")
    _wait(world)
    assert world.messages("M") == []
    world.ask("STREAM.DELETE.M")
    assert world.jetstream.context.expected_followers == {}


def test_a_servers_own_domain_is_no_other_place() -> None:
    world = World(options=JetStreamOptions(domain="hub"))
    world.create()
    world.publish("s.1", b"x")
    _mirror(world, external={"api": "$JS.hub.API", "deliver": ""})
    _run(world)
    assert world.messages("M") == [(1, "s.1", b"x")]


def test_a_sourced_counter_adds_the_difference_to_what_was_seen(world: World) -> None:
    world.create(allow_msg_counter=True)
    for value in ("5", "-2"):
        world.publish("s.1", Nats_Incr=value)
    _gather(world, {"name": "S"}, subjects=["g.>"], allow_msg_counter=True)
    _run(world)
    world.publish("s.1", Nats_Incr=str(10**30))
    _run(world)
    assert [payload for _, _, payload in world.messages("G")] == [
        b'{"val":"%d"}' % total for total in (5, 3, 10**30 + 3)
    ]
    block = _headers(world, "G", 2)
    assert headers.get(block, b"Nats-Incr") == b"-2"
    assert headers.get(block, b"Nats-Counter-Sources") == b'{"S":{"s.1":"3"}}'


def test_increments_of_ones_own_and_sourced_ones_make_one_total(world: World) -> None:
    world.create(allow_msg_counter=True)
    transforms = [{"src": "s.>", "dest": "g.>"}]
    _gather(world, {"name": "S", "subject_transforms": transforms}, subjects=["g.>"], allow_msg_counter=True)
    world.publish("s.1", Nats_Incr="5")
    _run(world)
    assert world.publish("g.1", Nats_Incr="100")["val"] == "105"
    world.jetstream.close()
    world.start()
    world.publish("s.1", Nats_Incr="1")
    _run(world)
    assert world.messages("G")[-1][2] == b'{"val":"106"}'


def test_what_is_no_counter_is_left_out_of_one(world: World) -> None:
    world.create()
    world.publish("s.1", b"x")
    world.publish("s.1", b"x", Color="red")
    _gather(world, {"name": "S"}, allow_msg_counter=True)
    _run(world)
    assert world.messages("G") == []


def test_a_mirror_answers_for_its_origin_while_that_does_not(world: World) -> None:
    world.create(allow_direct=True)
    world.publish("s.1", b"x")
    _mirror(world)
    _run(world)
    assert world.ask("STREAM.INFO.M")["config"]["mirror_direct"] is True
    (answer,) = world.direct("S", {"seq": 1})
    assert headers.get(answer.headers, b"Nats-Stream") == b"S"
    world.ask("STREAM.DELETE.S")
    (answer,) = world.direct("S", {"last_by_subj": "s.1"})
    assert headers.get(answer.headers, b"Nats-Stream") == b"M"
    assert answer.payload == b"x"
    (answer,) = world.direct("S.s.1")
    assert answer.payload == b"x"
    world.create(allow_direct=True)
    _run(world)
    assert world.status("S", {"seq": 1}) == b"404 Message Not Found"
