"""How a server's parts are chosen, without sockets."""

import os
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.options import AccountJetStreamOptions, AccountOptions, JetStreamOptions, ServerOptions
from headrace.core.transport.memory import connect
from headrace.storage.memory_store import MemoryStore
from headrace.tools.compose import StartError, compose, jetstream_accounts, prepare_store_dir
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
    assert prepare_store_dir(str(tmp_path)) == path
    os.makedirs(os.path.join(path, "streams"))
    assert store_path(path) == path
    assert store_path(str(tmp_path)) == path


def test_a_store_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(
        StartError, match=r"storage directory is not a directory: .*give another with --store_dir"
    ):
        prepare_store_dir(str(tmp_path / "f"))
    (tmp_path / "headrace").write_text("")
    with pytest.raises(StartError, match="storage directory is not a directory"):
        prepare_store_dir(str(tmp_path))


def test_a_store_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StartError, match=r"could not create storage directory .*not a directory"):
        prepare_store_dir(str(tmp_path / "f" / "below"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_directory_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "headrace"
    path.mkdir()
    path.chmod(0o500)
    with pytest.raises(StartError, match="storage directory is not writable"):
        prepare_store_dir(str(tmp_path))


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
