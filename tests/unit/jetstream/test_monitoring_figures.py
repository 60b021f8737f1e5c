"""Totals, details and problems, as /jsz and /healthz show them."""

import pytest

from headrace.core.options import AccountJetStreamOptions, JetStreamOptions
from headrace.jetstream.monitoring import jsz, problems
from headrace.storage.interface import StorageError
from unit.jetstream.world import ACCOUNT, World


@pytest.fixture
def busy() -> World:
    """Give two streams with a message each and a consumer, in one of two accounts."""
    accounts: dict[str, AccountJetStreamOptions | None] = {
        ACCOUNT: AccountJetStreamOptions(),
        "A": AccountJetStreamOptions(),
    }
    world = World(accounts=accounts, options=JetStreamOptions(domain="hub"))
    world.create("X", storage="memory", max_bytes=100)
    world.create("Y")
    world.publish("x.1", b"one")
    world.publish("y.1", b"two")
    body = {"stream_name": "X", "config": {"durable_name": "C", "ack_policy": "explicit"}}
    assert "error" not in world.ask("CONSUMER.CREATE.X.C", body)
    return world


def test_totals_count_all_accounts(busy: World) -> None:
    body = jsz(busy.jetstream)
    assert (body["streams"], body["consumers"], body["messages"], body["accounts"]) == (2, 1, 2, 1)
    assert body["memory"] == 22
    assert body["reserved_memory"] == 100
    assert body["config"]["domain"] == "hub"
    assert body["api"]["level"] == 5
    assert body["total"] == 2
    assert "account_details" not in body


def test_details_go_as_deep_as_asked(busy: World) -> None:
    (_, account) = sorted(
        jsz(busy.jetstream, with_consumers=True, with_config=True)["account_details"],
        key=lambda each: len(each["stream_detail"]),
    )
    x, y = account["stream_detail"]
    assert (x["name"], y["name"]) == ("X", "Y")
    assert x["state"]["messages"] == 1
    assert x["config"]["max_bytes"] == 100
    assert [consumer["name"] for consumer in x["consumer_detail"]] == ["C"]


def test_one_account_may_be_asked_for_and_accounts_are_paged(busy: World) -> None:
    assert [each["name"] for each in jsz(busy.jetstream, account="A")["account_details"]] == ["A"]
    assert len(jsz(busy.jetstream, with_accounts=True, limit=1)["account_details"]) == 1
    assert jsz(busy.jetstream, with_accounts=True, offset=2)["account_details"] == []
    assert "account_details" not in jsz(busy.jetstream, account="nope")


def test_all_is_well_where_nothing_is_wrong(busy: World) -> None:
    assert problems(busy.jetstream) == []
    assert problems(busy.jetstream, account=ACCOUNT, stream="X", consumer="C") == []


def test_what_is_named_and_not_there_is_not_found(busy: World) -> None:
    cases = [
        ({"account": "Z"}, 'JetStream account "Z" not found'),
        ({"account": "A"}, 'JetStream account "A" not found'),
        ({"account": ACCOUNT, "stream": "Z"}, 'JetStream stream "Z" not found on account "$G"'),
        (
            {"account": ACCOUNT, "stream": "X", "consumer": "Z"},
            'JetStream consumer "Z" not found for stream "X" on account "$G"',
        ),
    ]
    for names, text in cases:
        (problem,) = problems(busy.jetstream, **names)
        assert (problem.text, problem.status) == (text, 404)


def test_a_fenced_stream_is_a_problem_of_its_own(busy: World) -> None:
    busy.store.release(StorageError("fsync: input/output error"))
    found = problems(busy.jetstream)
    assert {problem.names["stream"] for problem in found} == {"X", "Y"}
    assert "fsync: input/output error" in found[0].text
    assert len(problems(busy.jetstream, account=ACCOUNT, stream="X")) == 1
    assert problems(busy.jetstream, is_server_only=True) == []


def test_an_offline_stream_is_a_problem(busy: World) -> None:
    log = next(log for log in busy.store.logs() if log.config["config"]["name"] == "Y")
    log.save_config(log.config | {"config": {"name": "Y", "unknown": 1}})
    busy.start()
    (problem,) = problems(busy.jetstream)
    assert "offline" in problem.text
    assert problems(busy.jetstream, account=ACCOUNT, stream="Y") == [problem]
    assert problems(busy.jetstream, account=ACCOUNT, stream="X") == []
