"""INFO: what a client is told."""

import json
from dataclasses import replace
from typing import Any

from headrace.core.info import ConnectionFacts, ServerFacts, encode_info

SERVER = ServerFacts(
    server_id="N1",
    server_name="one",
    host="0.0.0.0",
    port=4222,
    max_payload=1048576,
    headers=True,
    auth_required=False,
    has_no_auth_user=False,
    engine="plain",
)
CLIENT = ConnectionFacts(client_id=7, client_ip="127.0.0.1", max_payload=1048576, is_first=True)


def info(server: ServerFacts = SERVER, client: ConnectionFacts = CLIENT) -> dict[str, Any]:
    line = encode_info(server, client)
    assert line.startswith(b"INFO {")
    assert line.endswith(b"} \r\n")
    value: dict[str, Any] = json.loads(line[5:])
    return value


def test_it_claims_the_reference_release_and_names_itself_beside_it() -> None:
    told = info()
    assert (told["version"], told["proto"], told["api_lvl"]) == ("2.15.1", 1, 5)
    assert told["headrace"]
    assert told["headrace_engine"] == "plain"


def test_what_is_false_or_empty_is_left_out() -> None:
    assert not {"auth_required", "jetstream", "ldm", "connect_info", "connect_urls", "domain"} & set(info())


def test_authorization_is_not_asked_for_at_first_where_one_may_enter_without() -> None:
    server = replace(SERVER, auth_required=True, has_no_auth_user=True)
    assert "auth_required" not in info(server)
    assert info(server, replace(CLIENT, is_first=False))["auth_required"] is True
    assert info(replace(SERVER, auth_required=True))["auth_required"] is True


def test_the_account_is_named_once_the_client_has_connected() -> None:
    told = info(client=replace(CLIENT, account="$SYS", is_system_account=True))
    assert (told["connect_info"], told["remote_account"], told["acc_is_sys"]) == (True, "$SYS", True)


def test_jetstream_lame_duck_and_urls_are_told_when_there_are_any() -> None:
    told = info(replace(SERVER, jetstream=True, domain="d", lame_duck=True, connect_urls=["a:1"]))
    assert (told["jetstream"], told["domain"], told["ldm"], told["connect_urls"]) == (
        True,
        "d",
        True,
        ["a:1"],
    )
