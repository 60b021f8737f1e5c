"""A damaged record met by whatever a server does costs that one message: no stream ends, nothing repeats for ever.

The server was stopped cleanly and starts again on a store in which a bit went bad meanwhile, so nothing is read before
the act under test reads it.
"""

import json
from typing import Any

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.interface import Effect, Entry
from headrace.storage.store import FileStore, StoreOptions, open_store
from headrace.testing import Refused, VirtualClient, VirtualDisk, VirtualServer

COUNT = 20
HIT = 7
OTHERS = [number for number in range(1, COUNT + 1) if number != HIT]


def files_below(files: FaultyFiles, path: str) -> list[str]:
    found: list[str] = []
    for name in files.list_folder(path):
        inside = f"{path}/{name}"
        status = files.status(inside)
        found += files_below(files, inside) if status is not None and status.is_folder else [inside]
    return found


def damage(files: FaultyFiles, text: bytes) -> None:
    """Flip a bit in the one place of the segments that holds `text`; a journal that was retired may hold it too."""
    hits = 0
    for path in files_below(files, "/store/streams"):
        handle = files.open(path, writable=True)
        content = files.pread(handle, files.size(handle), 0)
        if text in content:
            place = content.index(text)
            files.pwrite(handle, bytes([content[place] ^ 1]), place)
            hits += 1
        files.close(handle)
    assert hits == 1


def started(config: dict[str, Any] | None = None, consumer: dict[str, Any] | None = None) -> VirtualServer:
    """Give a server with 20 messages in stream S, the seventh of which is damaged."""
    disk = VirtualDisk(5)
    server = VirtualServer(seed=5, disk=disk)
    client = server.connect()
    client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_direct": True, **(config or {})})
    if consumer is not None:
        client.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C", **consumer}})
    for number in range(1, COUNT + 1):
        client.store(f"s.{number % 3}", b"message-%02d" % number)
    server.close()
    damage(disk.files, b"message-%02d" % HIT)
    server.restart()
    return server


def state_of(client: VirtualClient) -> dict[str, Any]:
    state: dict[str, Any] = client.api("STREAM.INFO.S")["state"]
    return state


def assert_serving(client: VirtualClient) -> None:
    """Only the one message is gone, it is listed, and the stream takes and gives messages."""
    if "lost" not in state_of(client):
        # Found by subject, the index was asked, which never heard of it: nobody has met it yet.
        client.request("$JS.API.STREAM.MSG.GET.S", b'{"seq":%d}' % HIT)
    state = state_of(client)
    assert state["lost"] == {"msgs": [HIT], "bytes": 0}
    assert client.store("s.9", b"later") == COUNT + 1
    assert client.api("STREAM.MSG.GET.S", {"seq": COUNT + 1})["message"]["subject"] == "s.9"


def pulled(client: VirtualClient, server: VirtualServer, batch: int = 100) -> list[int]:
    inbox = client.subscribe("pulled")
    request = json.dumps({"batch": batch, "no_wait": True}).encode()
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", request, reply="pulled")
    server.advance(0.1)
    frames = [frame for frame in inbox.take() if not frame.status]
    client.unsubscribe(inbox)
    for frame in frames:
        client.publish(frame.reply, b"+ACK")
    return [int(frame.reply.split(".")[5]) for frame in frames]


def test_a_pull_consumer_passes_a_damaged_record() -> None:
    with started(consumer={"ack_policy": "explicit"}) as server:
        client = server.connect()
        assert pulled(client, server) == OTHERS
        info = client.api("CONSUMER.INFO.S.C")
        assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
        assert pulled(client, server) == []
        assert_serving(client)


def test_a_push_consumer_passes_a_damaged_record() -> None:
    with started() as server:
        client = server.connect()
        inbox = client.subscribe("pushed")
        config = {"deliver_subject": "pushed", "ack_policy": "none"}
        client.api("CONSUMER.CREATE.S", {"stream_name": "S", "config": config})
        server.advance(1)
        assert [frame.payload for frame in inbox.take()] == [b"message-%02d" % each for each in OTHERS]
        assert_serving(client)


def test_a_filtered_consumer_passes_a_damaged_record() -> None:
    with started(consumer={"ack_policy": "explicit", "filter_subject": "s.1"}) as server:
        client = server.connect()
        assert pulled(client, server) == [each for each in OTHERS if each % 3 == 1]
        assert client.api("CONSUMER.INFO.S.C")["num_pending"] == 0
        assert_serving(client)


def test_a_message_that_was_delivered_and_is_damaged_since_does_not_come_again_for_ever() -> None:
    disk = VirtualDisk(6)
    server = VirtualServer(seed=6, disk=disk)
    client = server.connect()
    client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"]})
    config = {"durable_name": "C", "ack_policy": "explicit", "ack_wait": NS_PER_S}
    client.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})
    for number in range(1, COUNT + 1):
        client.store("s.1", b"message-%02d" % number)
    inbox = client.subscribe("pulled")
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":100,"no_wait":true}', reply="pulled")
    assert len(inbox.take()) >= COUNT
    server.advance(0.2)
    server.close()
    damage(disk.files, b"message-%02d" % HIT)
    server.restart()
    client = server.connect()
    server.advance(3)
    assert sorted(pulled(client, server)) == OTHERS
    server.advance(3)
    assert pulled(client, server) == []
    info = client.api("CONSUMER.INFO.S.C")
    assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
    assert_serving(client)
    server.close()


def test_getting_a_damaged_message_says_that_there_is_none() -> None:
    with started() as server:
        client = server.connect()
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                client.api("STREAM.MSG.GET.S", {"seq": HIT})
            assert caught.value.err_code == 10037
        found = client.api("STREAM.MSG.GET.S", {"next_by_subj": "s.1", "seq": HIT})["message"]
        assert found["seq"] == HIT + 3
        assert_serving(client)


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ({"seq": HIT}, None),
        ({"next_by_subj": "s.1", "seq": HIT}, HIT + 3),
        ({"batch": 3, "seq": HIT - 1}, HIT - 1),
    ],
)
def test_a_direct_get_passes_a_damaged_record(request_text: dict[str, Any], expected: int | None) -> None:
    with started() as server:
        client = server.connect()
        for attempt in range(2):
            answer = client.request("$JS.API.DIRECT.GET.S", json.dumps(request_text).encode())
            if expected is None:
                # Whoever meets it first may hear that the read failed; from then on it is not there.
                assert answer.status.startswith(("404", "500") if attempt == 0 else "404")
            else:
                assert answer.header("Nats-Sequence") == str(expected)
        assert_serving(client)


def test_the_last_message_of_a_subject_is_the_one_before_where_the_newest_is_damaged() -> None:
    disk = VirtualDisk(8)
    server = VirtualServer(seed=8, disk=disk)
    client = server.connect()
    client.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_direct": True})
    for number in range(1, 4):
        client.store("s.1", b"message-%02d" % number)
    server.close()
    damage(disk.files, b"message-03")
    server.restart()
    client = server.connect()
    client.request("$JS.API.DIRECT.GET.S.s.1")
    assert client.request("$JS.API.DIRECT.GET.S.s.1").payload == b"message-02"
    assert client.store("s.1", b"later") == 4
    server.close()


@pytest.mark.parametrize("purge", [{}, {"filter": "s.1"}, {"seq": HIT + 2}, {"keep": 5}])
def test_a_purge_passes_a_damaged_record(purge: dict[str, Any]) -> None:
    with started() as server:
        client = server.connect()
        purged = client.api("STREAM.PURGE.S", purge)["purged"]
        state = state_of(client)
        assert state["messages"] + purged in {COUNT, COUNT - 1}
        assert client.api("STREAM.PURGE.S", purge)["purged"] in {0, 1}
        # A store whose whole contents went may have no need to look at what went.
        assert state_of(client).get("lost", {"msgs": [HIT]})["msgs"] == [HIT]
        assert client.store("s.9", b"later") == COUNT + 1


def test_deleting_a_damaged_message_ends() -> None:
    with started() as server:
        client = server.connect()
        with pytest.raises(Refused):
            client.api("STREAM.MSG.DELETE.S", {"seq": HIT})
        assert client.api("STREAM.MSG.DELETE.S", {"seq": HIT + 1})["success"]
        assert_serving(client)


@pytest.mark.parametrize(
    "limits", [{"max_msgs": 3}, {"max_bytes": 200}, {"max_age": 10 * NS_PER_S, "duplicate_window": NS_PER_S}]
)
def test_limits_pass_a_damaged_record(limits: dict[str, Any]) -> None:
    with started() as server:
        client = server.connect()
        config = client.api("STREAM.INFO.S")["config"]
        client.api("STREAM.UPDATE.S", config | limits)
        server.advance(60)
        for number in range(5):
            assert client.store("s.9", b"later") == COUNT + 1 + number
        assert state_of(client)["messages"] <= 5
        assert state_of(client)["last_seq"] == COUNT + 5


def test_a_workqueue_drops_a_damaged_message_and_goes_on() -> None:
    with started({"retention": "workqueue"}, {"ack_policy": "explicit"}) as server:
        client = server.connect()
        assert pulled(client, server) == OTHERS
        server.advance(1)
        assert state_of(client)["messages"] == 0
        assert_serving(client)


SMALL = Bounds(
    segment_size_first=4096,
    segment_size_max=8192,
    checkpoint_count=30,
    generation_size_min=2000,
    rewrite_gain_min=512,
)


def at(files: FaultyFiles) -> tuple[FileStore, VirtualScheduler]:
    scheduler = VirtualScheduler()
    options = StoreOptions(is_index_in_memory=True, bounds=SMALL)
    return open_store(
        "/store", scheduler=scheduler, chance=Chance(9), files=files, options=options
    ), scheduler


def test_a_rewrite_that_meets_a_damaged_record_leaves_it_to_be_named_and_is_not_tried_for_ever() -> None:
    files = FaultyFiles(9)
    store, scheduler = at(files)

    def commit() -> None:
        store.commit()
        scheduler.advance(NS_PER_S)

    log = store.create({"name": "S"}, memory=False, created_ns=7)
    for number in range(1, 121):
        log.append([Entry(b"s", b"", b"message-%03d" % number + b"." * 60, scheduler.now_ns())])
    commit()
    store.close()
    store, scheduler = at(files)
    damage(files, b"message-010")
    (log,) = store.logs()
    # All but every tenth go: what is left is worth a copy, and number 10 is in it.
    log.remove([(first, first + 8) for first in range(1, 100, 10)])
    for _ in range(30):
        log.append([Entry(b"s", b"", b"later", scheduler.now_ns(), effect=Effect())])
        commit()
    writes = files.changes
    scheduler.advance(3600 * NS_PER_S)
    assert files.changes - writes < 20
    view = log.get(20)
    assert view is not None
    assert view.payload.startswith(b"message-020")
    with pytest.raises(Exception, match="does not check"):
        log.get(10)
    assert log.get(10) is None
    assert log.head.lost == ((10, 10),)
    assert log.fenced == ""
    store.close()
