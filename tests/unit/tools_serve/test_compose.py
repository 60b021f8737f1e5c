"""How a server's parts are chosen, without sockets."""

from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.options import AccountJetStreamOptions, AccountOptions, JetStreamOptions, ServerOptions
from headrace.core.transport.memory import connect
from headrace.storage.memory_store import MemoryStore
from headrace.tools.compose import StartError, compose, jetstream_accounts
from headrace.tools.store_path import store_path


def test_without_configured_accounts_the_global_one_has_jetstream() -> None:
    assert jetstream_accounts(ServerOptions()) == {"$G": AccountJetStreamOptions(), "$SYS": None}
    only_system = ServerOptions(accounts=(AccountOptions("$SYS"),))
    assert jetstream_accounts(only_system) == {"$G": AccountJetStreamOptions(), "$SYS": None}


def test_with_configured_accounts_those_have_jetstream_that_ask_for_it() -> None:
    own = AccountJetStreamOptions(max_streams=1)
    options = ServerOptions(accounts=(AccountOptions("A", own), AccountOptions("B")), system_account="S")
    assert jetstream_accounts(options) == {"$G": None, "A": own, "B": None, "S": None}


def test_the_store_lies_below_the_store_directory_and_is_found_from_either(tmp_path: Path) -> None:
    path = store_path(str(tmp_path))
    assert path == str(tmp_path / "headrace")
    (tmp_path / "headrace" / "streams").mkdir(parents=True)
    assert store_path(path) == path
    assert store_path(str(tmp_path)) == path


@pytest.mark.parametrize("below", ["", "further"])
def test_a_store_directory_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "f").write_text("")
    options = ServerOptions(jetstream=JetStreamOptions(store_dir=str(tmp_path / "f" / below)))
    with pytest.raises(
        StartError,
        match=r"(not a directory|could not create storage directory).*give another with --store_dir",
    ):
        compose(options, scheduler=VirtualScheduler())


def test_a_stream_that_was_stored_is_there_again(tmp_path: Path) -> None:
    options = ServerOptions(jetstream=JetStreamOptions(store_dir=str(tmp_path)))
    for verb in (b"CREATE", b"INFO"):
        scheduler = VirtualScheduler()
        composition = compose(options, scheduler=scheduler, chance=Chance(1))
        client = connect(composition.broker, scheduler)
        body = b'{"name":"S","subjects":["s"]}' if verb == b"CREATE" else b""
        request = b"PUB $JS.API.STREAM.%b.S _I %d\r\n%b\r\n" % (verb, len(body), body)
        client.send(b"CONNECT {}\r\nSUB _I 1\r\n" + request)
        scheduler.advance(1_000_000_000)
        assert b'"name":"S"' in client.received()
        composition.close()


def test_a_store_that_is_in_use_is_refused(tmp_path: Path) -> None:
    options = ServerOptions(jetstream=JetStreamOptions(store_dir=str(tmp_path)))
    composition = compose(options, scheduler=VirtualScheduler())
    with pytest.raises(StartError, match="in use by process"):
        compose(options, scheduler=VirtualScheduler())
    composition.close()
    compose(options, scheduler=VirtualScheduler()).close()


def test_a_composition_serves_jetstream_in_virtual_time_and_closes_in_order() -> None:
    scheduler = VirtualScheduler()
    chance = Chance(1)
    composition = compose(
        ServerOptions(jetstream=JetStreamOptions(domain="d")),
        scheduler=scheduler,
        chance=chance,
        store=MemoryStore(chance),
    )
    client = connect(composition.broker, scheduler)
    client.send(b'CONNECT {"headers":true}\r\nSUB _I 1\r\nPUB $JS.API.INFO _I 0\r\n\r\n')
    scheduler.settle()
    received = client.received()
    assert b'"jetstream":true,"domain":"d"' in received
    assert b"io.nats.jetstream.api.v1.account_info_response" in received
    assert composition.jetstream_view is not None
    composition.close()
    scheduler.settle()
    assert client.is_closed


def test_a_composition_without_jetstream_has_none() -> None:
    composition = compose(ServerOptions(), scheduler=VirtualScheduler(), chance=Chance(1))
    assert (composition.store, composition.jetstream, composition.jetstream_view) == (None, None, None)
    composition.close()
