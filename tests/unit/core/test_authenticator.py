"""Login: who is let in, and as whom."""

import base64
from collections.abc import Callable

import bcrypt
import pytest

from headrace.core.accounts import Accounts
from headrace.core.auth.authenticator import HIDDEN, Authenticator
from headrace.core.auth.keys import KeyKind, SigningKey
from headrace.core.auth.login import Identity, Login, make_nonce
from headrace.core.auth.passwords import is_hashed, is_right, stand_in
from headrace.core.connect import ConnectOptions
from headrace.core.link import Link, LinkKind
from headrace.core.options import AccountOptions, Permissions, ServerOptions, UserOptions

NOBODY = Login(ConnectOptions())
PLAIN = Link()
KEY = SigningKey(KeyKind.USER, bytes(32))
NONCE = make_nonce(bytes)


def login(options: ServerOptions, **fields: str) -> Identity | None:
    return Authenticator(options).authenticate(login_of(**fields))


def login_of(link: Link = PLAIN, **fields: str) -> Login:
    return Login(ConnectOptions(**fields), NONCE, link=link)  # type: ignore[arg-type]  # only text fields


def signature(nonce: str = NONCE, encode: Callable[[bytes], bytes] = base64.urlsafe_b64encode) -> str:
    return encode(KEY.sign(nonce.encode())).rstrip(b"=").decode()


def test_without_configured_users_everybody_enters_the_global_account() -> None:
    authenticator = Authenticator(ServerOptions())
    assert not authenticator.is_required
    assert authenticator.authenticate(login_of(user="x", password="y")) == Identity("$G")


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
    assert Authenticator(options).without_credentials(PLAIN) is None


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
    assert authenticator.without_credentials(PLAIN) == Identity("$G")
    assert login(options, user="sys", password="pw") == Identity("$SYS", "sys")
    assert login(options, user="sys", password="no") is None
    beside = ServerOptions(users=options.users, accounts=(AccountOptions("$SYS"), AccountOptions("A")))
    assert Authenticator(beside).without_credentials(PLAIN) is None


def test_a_user_with_a_key_enters_by_signing_the_nonce() -> None:
    options = ServerOptions(
        users=(UserOptions(KEY.public, account="A", is_nkey=True), UserOptions("a", "pw"))
    )
    entered = Identity("A", KEY.public)
    assert Authenticator(options).needs_nonce
    assert login(options, nkey=KEY.public, sig=signature()) == entered
    assert login(options, nkey=KEY.public, sig=signature(encode=base64.b64encode)) == entered
    assert login(options, nkey=KEY.public, sig=signature("another nonce")) is None
    assert login(options, nkey=KEY.public) is None
    assert login(options, nkey=KEY.public, sig="no signature") is None
    assert login(options, nkey=KEY.public, user="a", password="pw") is None
    assert login(options, nkey=SigningKey(KeyKind.USER, b"x" * 32).public, sig=signature()) is None
    assert login(options, user="a", password="pw") == Identity("$G", "a")
    assert login(options, user=KEY.public) is None


def test_where_nobody_has_a_key_nothing_is_there_to_be_signed() -> None:
    assert not Authenticator(ServerOptions(token="t")).needs_nonce


def test_a_key_may_be_the_no_auth_user_and_then_needs_no_signature() -> None:
    options = ServerOptions(users=(UserOptions(KEY.public, is_nkey=True),), no_auth_user=KEY.public)
    assert Authenticator(options).authenticate(NOBODY) == Identity("$G", KEY.public)
    assert login(options, nkey=KEY.public) == Identity("$G", KEY.public)


def test_a_user_may_be_kept_to_kinds_of_connections() -> None:
    options = ServerOptions(
        users=(UserOptions("a", "pw", connection_types=frozenset({"WEBSOCKET"})),), no_auth_user="a"
    )
    authenticator = Authenticator(options)
    browser = Link(kind=LinkKind.WEBSOCKET)
    assert authenticator.authenticate(login_of(user="a", password="pw")) is None
    assert authenticator.authenticate(login_of(browser, user="a", password="pw")) == Identity("$G", "a")
    assert authenticator.without_credentials(PLAIN) is None
    assert authenticator.without_credentials(browser) == Identity("$G", "a")


def test_an_unknown_user_is_compared_with_a_hash_of_the_highest_cost() -> None:
    hashes = [bcrypt.hashpw(b"x", bcrypt.gensalt(cost)).decode() for cost in (4, 5)]
    assert is_hashed(stand_in(["clear", *hashes]))
    assert stand_in(hashes).startswith("$2a$05$")
    assert not is_right(stand_in(hashes), "x")
    assert not is_hashed(stand_in(["clear"]))


def test_a_password_that_is_no_text_is_a_wrong_one() -> None:
    assert not is_right("secret", "\ud800")


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
