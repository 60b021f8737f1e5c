"""Login: who is let in, and as whom."""

import bcrypt
import pytest

from headrace.core.accounts import Accounts
from headrace.core.auth.authenticator import HIDDEN, Authenticator, Identity
from headrace.core.auth.passwords import is_hashed, is_right
from headrace.core.connect import ConnectOptions
from headrace.core.options import AccountOptions, Permissions, ServerOptions, UserOptions

NOBODY = ConnectOptions()


def login(options: ServerOptions, **fields: str) -> Identity | None:
    return Authenticator(options).authenticate(ConnectOptions(**fields))  # type: ignore[arg-type]  # only text fields


def test_without_configured_users_everybody_enters_the_global_account() -> None:
    authenticator = Authenticator(ServerOptions())
    assert not authenticator.is_required
    assert authenticator.authenticate(ConnectOptions(user="x", password="y")) == Identity("$G")


def test_a_user_enters_its_account_with_its_password() -> None:
    permissions = Permissions()
    options = ServerOptions(users=(UserOptions("a", "pw", "A", permissions),))
    assert login(options, user="a", password="pw") == Identity("A", "a", permissions)
    assert login(options, user="a", password="no") is None
    assert login(options, user="b", password="pw") is None
    assert Authenticator(options).authenticate(NOBODY) is None


def test_a_token_opens_for_all_and_is_not_shown() -> None:
    options = ServerOptions(token="t")
    assert login(options, auth_token="t") == Identity("$G", HIDDEN)
    assert login(options, auth_token="x") is None
    assert login(options, password="t") is None
    assert Authenticator(options).without_credentials() is None


def test_who_brings_no_credentials_becomes_the_no_auth_user() -> None:
    options = ServerOptions(users=(UserOptions("a", "pw"), UserOptions("b", "pw", "B")), no_auth_user="b")
    authenticator = Authenticator(options)
    assert authenticator.has_no_auth_user
    assert authenticator.authenticate(NOBODY) == Identity("B", "b")
    assert login(options, user="b", password="no") is None
    assert login(options, password="x") is None


def test_users_of_the_system_account_alone_leave_the_door_open_for_others() -> None:
    options = ServerOptions(users=(UserOptions("sys", "pw", "$SYS"),))
    authenticator = Authenticator(options)
    assert authenticator.is_required
    assert authenticator.without_credentials() == Identity("$G")
    assert login(options, user="sys", password="pw") == Identity("$SYS", "sys")
    assert login(options, user="sys", password="no") is None


@pytest.mark.parametrize("password", ["secret", "x" * 100])
def test_a_hashed_password_is_compared_by_its_hash(password: str) -> None:
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert is_hashed(hashed)
    assert is_right(hashed, password)
    assert not is_right(hashed, "other")


def test_a_broken_hash_lets_nobody_in() -> None:
    assert not is_right("$2a$04$short", "x")


def test_accounts_are_those_configured_named_by_users_and_the_two_of_every_server() -> None:
    options = ServerOptions(accounts=(AccountOptions("A"),), users=(UserOptions("b", "pw", "B"),))
    accounts = Accounts(options)
    assert {account.name for account in accounts} == {"$G", "$SYS", "A", "B"}
    assert accounts["$SYS"].is_system
    assert "C" not in accounts
    assert len(accounts) == 4


def test_an_account_is_full_at_its_limit_and_lowers_the_payload() -> None:
    accounts = Accounts(ServerOptions(accounts=(AccountOptions("A", max_connections=1, max_payload=10),)))
    account = accounts["A"]
    assert not account.is_full
    account.connection_count = 1
    assert account.is_full
    assert account.max_payload(100) == 10
    assert account.max_payload(5) == 5
    assert accounts["$G"].max_payload(100) == 100


def test_a_new_configuration_changes_limits_and_keeps_accounts_in_use() -> None:
    accounts = Accounts(ServerOptions(accounts=(AccountOptions("A"), AccountOptions("B"))))
    accounts["A"].connection_count = 1
    accounts.reconfigure(
        ServerOptions(accounts=(AccountOptions("C"), AccountOptions("$G", max_connections=3)))
    )
    assert "A" in accounts
    assert "B" not in accounts
    assert "C" in accounts
    assert accounts["$G"].options.max_connections == 3
