"""What every API request goes through: envelope, body rules, API levels, silence, audit, bounds."""

import json

import pytest

from headrace.core.bus import Caller
from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.api import dispatcher
from headrace.storage.interface import DiskFull, StorageError
from unit.jetstream.world import ACCOUNT, World, block

DEEP = b'{"a":' * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1,2",
        b"nonsense",
        b'{"name": "S" "subjects": []}',
        b'{"name": "\xff\xfe"}',
        b'{"name": "S", "max_msgs": 1e400}',
        b'{"name": "S", "max_msgs": 1.5}',
        b'{"name": "S", "max_msgs": true}',
        b'{"name": "S", "max_msgs": "5"}',
        b'{"name": "S", "max_msgs": NaN}',
        b'{"name": "S", "max_msgs": ' + b"9" * 100_000 + b"}",
        b'{"name": "S", "max_msgs": 9223372036854775808}',
        b'{"name": "S", "max_msg_size": 2147483648}',
        b'{"name": "S", "first_seq": -1}',
        b'{"name": "S", "subjects": "s"}',
        b'{"name": "S", "subjects": [1]}',
        b'{"name": "S", "placement": []}',
        b'{"name": 7}',
        b'"S"',
        b"7",
        b"[]",
        DEEP,
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_configuration_is_invalid_json(world: World, body: bytes) -> None:
    code, text = world.refusal("STREAM.CREATE.S", body)
    assert code == 10025
    assert text.startswith("invalid JSON: ")
    assert not [line for line in world.log.lines if "failed" in line]


def test_an_unknown_field_is_named(world: World) -> None:
    body = {"name": "S", "bogus": 1}
    assert world.refusal("STREAM.CREATE.S", body) == (10025, 'invalid JSON: json: unknown field "bogus"')


def test_an_unknown_field_is_ignored_where_the_server_is_not_strict() -> None:
    world = World(options=JetStreamOptions(strict=False))
    assert "error" not in world.ask("STREAM.CREATE.S", {"name": "S", "bogus": 1, "placement": {"x": 1}})


def test_a_word_that_is_no_choice_is_shown(world: World) -> None:
    body = {"name": "S", "retention": "foo"}
    assert world.refusal("STREAM.CREATE.S", body) == (10025, 'invalid JSON: can not unmarshal "\\"foo\\""')


def test_null_means_the_default(world: World) -> None:
    body = {"name": "S", "subjects": None, "placement": None, "max_msgs": None, "metadata": None}
    assert world.ask("STREAM.CREATE.S", body)["config"]["subjects"] == ["S"]


@pytest.mark.parametrize("body", [b"", b"null"])
def test_no_body_at_all_names_no_stream(world: World, body: bytes) -> None:
    expected = (10056, "stream name in subject does not match request")
    assert world.refusal("STREAM.CREATE.S", body) == expected


def test_half_a_surrogate_pair_does_no_harm(world: World) -> None:
    answer = world.ask("STREAM.CREATE.S", b'{"name": "S", "description": "\\ud800 x"}')
    assert answer["config"]["description"] == "\ufffd x"
    assert world.ask("STREAM.INFO.S")["config"]["description"] == "\ufffd x"


def test_a_subject_of_any_bytes_is_answered(world: World) -> None:
    reply = b"_INBOX.any"
    world.bus.send(ACCOUNT, b"$JS.API.STREAM.INFO.\xff\xfe", reply=reply)
    world.bus.turn()
    assert json.loads(world.bus.answers(reply)[0].payload)["error"]["err_code"] == 10059


def test_optional_bodies_that_are_no_json_count_as_empty(world: World) -> None:
    world.create()
    assert "error" not in world.ask("STREAM.INFO.S", b"x")
    assert "error" not in world.ask("STREAM.NAMES", b"x")
    assert world.refusal("STREAM.INFO.S", b" {x")[0] == 10025


def test_a_body_where_none_may_be_is_refused(world: World) -> None:
    world.create()
    expected = (10038, "expected an empty request payload")
    assert world.refusal("STREAM.DELETE.S", {"x": 1}) == expected
    assert world.refusal("STREAM.DELETE.S", b"x") == expected
    assert world.ask("STREAM.DELETE.S", b"{}")["success"] is True


def test_a_missing_body_where_one_must_be_is_refused(world: World) -> None:
    world.create()
    for request in ("STREAM.MSG.GET.S", "STREAM.MSG.DELETE.S"):
        for body in (b"", b"{}"):
            assert world.refusal(request, body) == (10003, "bad request")


@pytest.mark.parametrize("level", ["6", "x", "-1", "9" * 5000])
def test_an_api_level_that_is_not_ours_is_refused(world: World, level: str) -> None:
    headers = block(Nats_Required_Api_Level=level)
    expected = (10185, "JetStream minimum api level required")
    assert world.refusal("STREAM.NAMES", headers=headers) == expected


def test_an_api_level_that_is_ours_is_served(world: World) -> None:
    assert "error" not in world.ask("STREAM.NAMES", headers=block(Nats_Required_Api_Level="5"))


@pytest.mark.parametrize(
    "suffix",
    ["NOPE", "STREAM", "STREAM.INFO", "STREAM.INFO.A.B", "STREAM.TEMPLATE.NAMES", "META.LEADER.STEPDOWN"],
)
def test_an_unknown_request_is_not_answered_at_all(world: World, suffix: str) -> None:
    assert world.bus.answers(world.post(suffix)) == []
    assert world.bus.is_answered(ACCOUNT, f"$JS.API.{suffix}".encode())


def test_what_streams_and_consumers_answer_themselves_has_no_other_responder(world: World) -> None:
    assert not world.bus.is_answered(ACCOUNT, b"$JS.API.DIRECT.GET.S")
    assert not world.bus.is_answered(ACCOUNT, b"$JS.API.CONSUMER.MSG.NEXT.S.C")
    world.create(allow_direct=True)
    assert world.bus.is_answered(ACCOUNT, b"$JS.API.DIRECT.GET.S")


@pytest.mark.parametrize(
    "suffix",
    [
        "STREAM.LEADER.STEPDOWN.S",
        "STREAM.PEER.REMOVE.S",
        "STREAM.CANCEL_MOVE.S",
        "CONSUMER.LEADER.STEPDOWN.S.C",
    ],
)
def test_what_needs_a_cluster_says_so(world: World, suffix: str) -> None:
    assert world.refusal(suffix, b'{"peer":"x"}') == (10010, "JetStream clustering support required")


def test_an_account_without_jetstream_hears_so() -> None:
    world = World(accounts={"A": None, ACCOUNT: AccountJetStreamOptions()})
    assert world.refusal("INFO", account="A") == (10039, "JetStream not enabled for account")


def test_accounts_see_only_their_own_streams() -> None:
    world = World(accounts={"A": AccountJetStreamOptions(), ACCOUNT: AccountJetStreamOptions()})
    world.create()
    assert world.ask("STREAM.NAMES", account="A")["streams"] is None


def test_a_domain_has_its_own_prefix_beside_the_plain_one() -> None:
    world = World(options=JetStreamOptions(domain="hub"))
    world.create(allow_direct=True)
    world.bus.send(ACCOUNT, b"$JS.hub.API.STREAM.INFO.S", reply=b"r")
    world.bus.turn()
    assert json.loads(world.bus.answers(b"r")[0].payload)["domain"] == "hub"
    assert world.bus.is_answered(ACCOUNT, b"$JS.hub.API.DIRECT.GET.S")
    assert not world.bus.is_answered(ACCOUNT, b"$JS.leaf.API.INFO")


def test_a_domain_maps_the_buckets_of_its_clients() -> None:
    world = World(options=JetStreamOptions(domain="hub"))
    world.create("KV_B", subjects=["$KV.B.>"])
    world.bus.send(ACCOUNT, b"$JS.hub.API.$KV.B.key", b"value", reply=b"r", headers=block(K="v"))
    world.bus.turn()
    assert json.loads(world.bus.answers(b"r")[0].payload)["seq"] == 1
    assert world.messages("KV_B") == [(1, "$KV.B.key", b"value")]


def test_calls_and_errors_are_counted(world: World) -> None:
    world.create()
    world.publish("s.1")
    world.refusal("STREAM.INFO.X")
    world.ask("STREAM.MSG.GET.S", {"seq": 1})
    world.refusal("STREAM.MSG.GET.S", {"seq": 9})
    assert world.ask("INFO")["api"] == {"level": 5, "total": 3, "errors": 2}
    assert world.ask("INFO")["api"]["total"] == 4


def test_account_info_shows_use_and_limits(world: World) -> None:
    world.create(storage="memory")
    world.publish("s.1", b"x")
    info = world.ask("INFO")
    assert (info["memory"], info["storage"], info["streams"], info["consumers"]) == (20, 0, 1, 0)
    assert info["limits"] == {
        "max_memory": -1,
        "max_storage": -1,
        "max_streams": -1,
        "max_consumers": -1,
        "max_ack_pending": -1,
        "memory_max_stream_bytes": -1,
        "storage_max_stream_bytes": -1,
        "max_bytes_required": False,
    }


def test_calls_are_audited_where_somebody_listens(world: World) -> None:
    world.ask("STREAM.NAMES")
    listener = world.bus.subscribe(ACCOUNT, b"$JS.EVENT.ADVISORY.API")
    world.bus.callers[1] = Caller(1, ACCOUNT, "u", "app", "127.0.0.1", 4, "python3", "2", 10**18, 5)
    world.ask("STREAM.NAMES", {"offset": 0})
    ((view, _),) = listener.received
    audit = json.loads(view.payload)
    assert audit["type"] == "io.nats.jetstream.advisory.v1.api_audit"
    assert audit["subject"] == "$JS.API.STREAM.NAMES"
    assert audit["request"] == '{"offset": 0}'
    assert json.loads(audit["response"])["streams"] is None
    assert audit["client"]["user"] == "u"


def test_a_refusal_is_a_full_disk_where_the_disk_is_full(world: World) -> None:
    world.store.refuse(DiskFull("no space"))
    assert world.refusal("STREAM.CREATE.S", {"name": "S"}) == (10023, "insufficient resources")


def test_a_store_that_can_not_create_says_so(world: World) -> None:
    world.store.refuse(StorageError("broken"))
    refused = world.refusal("STREAM.CREATE.S", {"name": "S"})
    assert refused == (10049, "error creating store for stream")


def test_when_a_sync_fails_the_requester_hears_that_the_outcome_is_unknown() -> None:
    world = World(held=True)
    reply = world.post("STREAM.CREATE.S", {"name": "S"})
    world.release(StorageError("fsync failed"))
    error = json.loads(world.bus.answers(reply)[0].payload)["error"]
    assert "outcome of the request is unknown" in error["description"]


def test_a_mistake_of_ours_is_logged_and_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.create()
    monkeypatch.setattr(world.stream("S"), "log", None)
    assert world.refusal("STREAM.INFO.S") == (10051, "internal error")
    assert any("STREAM.INFO.S" in line for line in world.log.lines)


def test_too_many_requests_in_waiting_are_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "WAITING_MAX", 2)
    world = World(held=True)
    listener = world.bus.subscribe("$SYS", dispatcher.OVERFLOW_SUBJECT)
    world.post("STREAM.CREATE.S", {"name": "S"})
    kept = world.post("STREAM.NAMES")
    dropped = [world.post("STREAM.NAMES") for _ in range(3)]
    world.release()
    assert len(world.bus.answers(kept)) == 1
    assert all(world.bus.answers(reply) == [] for reply in dropped)
    ((view, _),) = listener.received
    assert json.loads(view.payload)["dropped"] == 3
    assert len(world.bus.answers(world.post("STREAM.NAMES"))) == 1


def test_requests_for_which_a_turn_has_no_time_are_done_in_order_in_the_next_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TURN_NS", -1)
    first = world.post("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
    others = [world.post(f"STREAM.{verb}.S", {"name": "S"}) for verb in ("INFO", "DELETE", "INFO")]
    assert [len(world.bus.answers(reply)) for reply in (first, *others)] == [1, 1, 1, 1]

    world.bus.send(ACCOUNT, b"$JS.API.STREAM.CREATE.T", b'{"name":"T"}', reply=b"t.1")
    for each in range(2, 5):
        world.bus.send(ACCOUNT, b"$JS.API.STREAM.INFO.T", b"", reply=b"t.%d" % each)
    world.bus.turn()
    replies = [b"t.%d" % each for each in range(1, 5)]
    assert [len(world.bus.answers(reply)) for reply in replies] == [1, 0, 0, 0]
    before = world.bus.turn_requests
    world.scheduler.settle()
    assert [len(world.bus.answers(reply)) for reply in replies[1:]] == [1, 1, 1]
    assert world.bus.turn_requests >= before + 3


def test_a_request_that_ends_in_a_mistake_of_ours_does_not_keep_those_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TURN_NS", -1)
    for each in range(1, 4):
        world.bus.send(ACCOUNT, b"$JS.API.STREAM.NAMES", b"", reply=b"n.%d" % each)
    world.bus.turn()
    with monkeypatch.context() as broken:
        broken.setattr(dispatcher.AccountApi, "_answer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.scheduler.settle()
    world.scheduler.settle()
    assert [len(world.bus.answers(b"n.%d" % each)) for each in range(1, 4)] == [1, 0, 1]
    assert len(world.bus.answers(world.post("STREAM.NAMES"))) == 1


def test_requests_that_no_turn_had_time_for_change_nothing_after_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TURN_NS", -1)
    world.bus.send(ACCOUNT, b"$JS.API.STREAM.NAMES", b"", reply=b"n.1")
    world.bus.send(ACCOUNT, b"$JS.API.STREAM.CREATE.T", b'{"name":"T"}', reply=b"n.2")
    world.bus.turn()
    world.jetstream.close()
    world.scheduler.settle()
    assert [len(world.bus.answers(reply)) for reply in (b"n.1", b"n.2")] == [1, 0]
    assert world.store.logs() == []
