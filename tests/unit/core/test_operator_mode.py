"""Operator mode in virtual time: who is let in by tokens, and what happens when those change or end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claims_lab import (
    ACCOUNT,
    NOW_S,
    OPERATOR,
    OTHER,
    SYSTEM,
    USER,
    account_token,
    key,
    old_token,
    operator_options,
    signed,
    user_token,
)
from core_lab import BrokerLab, info_of
from headrace.core.auth.jwt.token import encode_token
from headrace.core.auth.keys import KeyKind, SigningKey
from headrace.core.base.clock import NS_PER_S
from headrace.core.broker import Broker
from headrace.core.options import OperatorOptions, ResolverKind, ResolverOptions, ServerOptions
from headrace.core.transport.memory import MemoryClient

REFUSED = b"-ERR 'Authorization Violation'\r\n"
SIGNING = key(KeyKind.ACCOUNT, "signing")
SCOPED = key(KeyKind.ACCOUNT, "scoped")


def lab_with(*accounts: tuple[SigningKey, str], **options: Any) -> BrokerLab:
    return lab_of(operator_options(*accounts, **options))


def lab_of(operator: OperatorOptions) -> BrokerLab:
    return BrokerLab(ServerOptions(operator=operator, system_account=SYSTEM.public))


def enter(
    lab: BrokerLab, token: str, user: SigningKey | None = USER, **connect: Any
) -> tuple[MemoryClient, bytes]:
    """Log in with a token, signing the nonce with `user`; give the client and what it was answered."""
    client = lab.client()
    nonce = info_of(client.received())["nonce"]
    said = {"verbose": False, "pedantic": False, "jwt": token, **connect}
    if user is not None:
        said["sig"] = signed(nonce, user)
    return client, lab.say(client, b"CONNECT %b\r\nPING\r\n" % json.dumps(said).encode())


def answer_to(account: str, token: str, user: SigningKey | None = USER) -> bytes:
    return enter(lab_with((ACCOUNT, account)), token, user)[1]


def test_a_user_whom_its_account_and_the_operator_vouch_for_is_let_in() -> None:
    assert answer_to(account_token(), user_token()) == b"PONG\r\n"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "no token",
        account_token(),
        user_token()[:-4] + "AAAA",
        user_token(signer=OTHER),
        user_token(signer=SIGNING, issuer_account=ACCOUNT.public),
        user_token(expires=NOW_S - 1),
        user_token(signer=OPERATOR),
        user_token(allowed_connection_types=["WEBSOCKET"]),
        user_token(allowed_connection_types=["SMOKE_SIGNALS"]),
        user_token(src=["10.0.0.0/8"]),
        user_token(src=["127.0.0.1"]),
        user_token(pub={"allow": ["a..b"]}),
        user_token(times=[{"start": "00:00:00", "end": "00:00:01"}], times_location="UTC"),
        user_token(times=[{"start": "25:00:00", "end": "26:00:00"}]),
        user_token(times=[{"start": "01:00:00", "end": "02:00:00"}], times_location="Nowhere/Land"),
        user_token(proxy_required=True),
    ],
)
def test_a_token_with_something_wrong_lets_nobody_in(token: str) -> None:
    assert answer_to(account_token(), token) == REFUSED


def test_who_does_not_hold_the_users_key_is_refused() -> None:
    assert answer_to(account_token(), user_token(), key(KeyKind.USER, "thief")) == REFUSED
    assert answer_to(account_token(), user_token(), None) == REFUSED


def test_a_bearer_token_needs_no_key_unless_the_account_forbids_it() -> None:
    bearer = user_token(bearer_token=True)
    assert answer_to(account_token(), bearer, None) == b"PONG\r\n"
    assert answer_to(account_token(limits={"disallow_bearer": True}), bearer, None) == REFUSED


def test_an_account_that_no_trusted_operator_signed_does_not_count() -> None:
    assert answer_to(account_token(signer=key(KeyKind.OPERATOR, "stranger")), user_token()) == REFUSED
    assert answer_to(account_token(signer=ACCOUNT), user_token()) == REFUSED


def test_an_account_token_that_has_expired_or_belongs_to_another_does_not_count() -> None:
    assert answer_to(account_token(expires=NOW_S - 1), user_token()) == REFUSED
    assert answer_to(account_token(OTHER), user_token()) == REFUSED


def test_a_signing_key_signs_for_its_account() -> None:
    account = account_token(signing_keys=[SIGNING.public])
    assert answer_to(account, user_token(signer=SIGNING, issuer_account=ACCOUNT.public)) == b"PONG\r\n"
    assert answer_to(account, user_token(signer=SIGNING)) == REFUSED


def scoped_account(**template: Any) -> str:
    scope = {"kind": "user_scope", "key": SCOPED.public, "role": "r", "template": template}
    return account_token(signing_keys=[scope])


def test_a_scoped_signing_key_gives_users_its_limits() -> None:
    account = scoped_account(pub={"allow": ["of.{{name()}}", "in.{{tag(team)}}", "{{tag(none)}}"]}, payload=5)
    token = user_token(
        signer=SCOPED, issuer_account=ACCOUNT.public, limits={}, name="bob", tags=["team:red", "team:blue"]
    )
    lab = lab_with((ACCOUNT, account))
    client, answer = enter(lab, token)
    assert answer == b"PONG\r\n"
    for subject in (b"of.bob", b"in.red", b"in.blue"):
        assert lab.say(client, b"PUB %b 0\r\n\r\n" % subject) == b""
    assert b"Permissions Violation" in lab.say(client, b"PUB of.eve 0\r\n\r\n")
    assert lab.say(client, b"PUB of.bob 6\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"


def test_a_user_of_a_scoped_key_may_claim_nothing_itself() -> None:
    assert answer_to(scoped_account(), user_token(signer=SCOPED, issuer_account=ACCOUNT.public)) == REFUSED


def test_a_denied_subject_that_cannot_be_made_keeps_the_user_out() -> None:
    token = user_token(signer=SCOPED, issuer_account=ACCOUNT.public, limits={})
    assert answer_to(scoped_account(pub={"deny": ["x.{{tag(none)}}"]}), token) == REFUSED
    assert answer_to(scoped_account(pub={"allow": ["x.{{nonsense()}}"]}), token) == REFUSED


def test_users_without_permissions_have_those_of_their_account() -> None:
    lab = lab_with((ACCOUNT, account_token(default_permissions={"pub": {"deny": ["secret"]}})))
    client, _ = enter(lab, user_token())
    assert b"Permissions Violation" in lab.say(client, b"PUB secret 0\r\n\r\n")
    client, _ = enter(lab, user_token(pub={"deny": ["other"]}))
    assert lab.say(client, b"PUB secret 0\r\n\r\n") == b""


def test_tokens_of_the_first_version_are_taken() -> None:
    account = old_token({"sub": ACCOUNT.public, "type": "account", "nats": {"limits": {}}}, OPERATOR)
    user = old_token({"sub": USER.public, "type": "user", "nats": {}}, ACCOUNT)
    assert answer_to(account, user) == b"PONG\r\n"
    assert answer_to(account_token(), user) == b"PONG\r\n"


def test_a_sentinel_stands_in_for_a_token_that_is_missing() -> None:
    lab = lab_with((ACCOUNT, account_token()), default_sentinel=user_token(bearer_token=True))
    assert enter(lab, "", None)[1] == b"PONG\r\n"


def test_accounts_may_be_pinned() -> None:
    lab = lab_with((ACCOUNT, account_token()), pinned_accounts=(OTHER.public,))
    assert enter(lab, user_token())[1] == REFUSED


# time


def test_a_user_has_to_go_when_its_token_expires() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client, _ = enter(lab, user_token(expires=NOW_S + 10))
    lab.scheduler.advance(9 * NS_PER_S)
    assert not client.is_closed
    lab.scheduler.advance(2 * NS_PER_S)
    assert client.received().endswith(b"-ERR 'User Authentication Expired'\r\n")
    assert client.is_closed
    assert lab.broker.closed_records()[-1].reason == "Authentication Expired"


def test_users_have_to_go_when_their_accounts_token_expires() -> None:
    lab = lab_with((ACCOUNT, account_token(expires=NOW_S + 10)))
    client, _ = enter(lab, user_token())
    lab.scheduler.advance(11 * NS_PER_S)
    assert client.received().endswith(b"-ERR 'Account Authentication Expired'\r\n")
    assert enter(lab, user_token())[1] == REFUSED


def test_a_user_may_stay_until_its_time_of_day_is_over() -> None:
    # Virtual time begins at 22:13:20 UTC.
    span = {"start": "22:00:00", "end": "22:14:00"}
    lab = lab_with((ACCOUNT, account_token()))
    client, answer = enter(lab, user_token(times=[span], times_location="UTC"))
    assert answer == b"PONG\r\n"
    lab.scheduler.advance(41 * NS_PER_S)
    assert client.received().endswith(b"-ERR 'User Authentication Expired'\r\n")
    over_midnight = {"start": "22:00:00", "end": "06:00:00"}
    assert enter(lab, user_token(times=[over_midnight], times_location="UTC"))[1] == b"PONG\r\n"


# changes while the server runs


def updated(lab: BrokerLab, token: str) -> None:
    accounts = lab.broker.gate.operator_accounts
    assert accounts is not None
    assert accounts.update(ACCOUNT.public, token) == ""
    lab.scheduler.settle()


def test_a_revoked_user_has_to_go_and_is_not_let_in_again() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client, _ = enter(lab, user_token())
    updated(lab, account_token(revocations={"*": NOW_S - 1}))
    assert not client.is_closed
    updated(lab, account_token(revocations={USER.public: NOW_S}))
    assert client.received() == b"-ERR 'User Authentication Revoked'\r\n"
    assert lab.broker.closed_records()[-1].reason == "Credentials Revoked"
    assert enter(lab, user_token())[1] == REFUSED
    assert enter(lab, user_token(now_s=NOW_S + 1))[1] == b"PONG\r\n"


def test_the_youngest_go_when_an_account_may_have_fewer_connections() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    first, second = (enter(lab, user_token())[0] for _ in range(2))
    updated(lab, account_token(limits={"conn": 1}))
    assert not first.is_closed
    assert second.received() == b"-ERR 'maximum account active connections exceeded'\r\n"


def test_who_came_by_a_signing_key_goes_with_it() -> None:
    lab = lab_with((ACCOUNT, account_token(signing_keys=[SIGNING.public])))
    client, _ = enter(lab, user_token(signer=SIGNING, issuer_account=ACCOUNT.public))
    updated(lab, account_token())
    assert client.is_closed


def test_a_changed_default_permission_counts_for_who_is_connected() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client, _ = enter(lab, user_token())
    assert lab.say(client, b"PUB secret 0\r\n\r\n") == b""
    updated(lab, account_token(default_permissions={"pub": {"deny": ["secret"]}}))
    assert b"Permissions Violation" in lab.say(client, b"PUB secret 0\r\n\r\n")


def test_subscriptions_end_that_are_not_permitted_any_more() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client, _ = enter(lab, user_token())
    lab.say(client, b"SUB secret 1\r\nSUB open 2\r\nSUB * 3\r\nSUB secret q 4\r\n")
    updated(lab, account_token(default_permissions={"sub": {"deny": ["secret"]}}))
    assert client.received() == (
        b'-ERR \'Permissions Violation for Subscription to "secret" (sid "1")\'\r\n'
        b'-ERR \'Permissions Violation for Subscription to "secret" using queue "q" (sid "4")\'\r\n'
    )
    sender, _ = enter(lab, user_token())
    lab.say(sender, b"PUB secret 0\r\n\r\nPUB open 0\r\n\r\n")
    assert sorted(client.received().split(b"\r\n")) == [b"", b"", b"", b"MSG open 2 0", b"MSG open 3 0"]


def test_an_update_that_is_wrong_changes_nothing() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client, _ = enter(lab, user_token())
    accounts = lab.broker.gate.operator_accounts
    assert accounts is not None
    for token in ("no token", account_token(signer=ACCOUNT), account_token(OTHER)):
        assert accounts.update(ACCOUNT.public, token)
    assert accounts.update(OTHER.public, account_token(OTHER)) == ""  # nobody asked for it yet
    lab.scheduler.settle()
    assert not client.is_closed


# what accounts share


def heard(lab: BrokerLab, importer: str) -> bytes:
    updated_importer = lab.broker.gate.operator_accounts
    assert updated_importer is not None
    listener, _ = enter(lab, importer)
    lab.say(listener, b"SUB in.> 1\r\n")
    sender, _ = enter(lab, user_token())
    lab.say(sender, b"PUB news.a 2\r\nhi\r\n")
    return listener.received()


IMPORT = {"name": "i", "subject": "news.>", "account": ACCOUNT.public, "type": "stream", "to": "in"}


def test_an_account_hears_what_another_exports() -> None:
    exporter = account_token(exports=[{"name": "n", "subject": "news.>", "type": "stream"}])
    lab = lab_with((OTHER, account_token(OTHER, imports=[IMPORT])), (ACCOUNT, exporter))
    assert b"MSG in.news.a 1 2\r\nhi\r\n" in heard(lab, user_token(signer=OTHER))


def activation(*, expires: int = 0, subject: str = "news.>", now_s: int = NOW_S) -> str:
    body = {"type": "activation", "version": 2, "subject": subject, "kind": "stream"}
    top: dict[str, Any] = {"sub": OTHER.public, "nats": body}
    return encode_token(top | ({"exp": expires} if expires else {}), ACCOUNT, now_s=now_s)


@pytest.mark.parametrize(
    ("token", "revocations", "hears"),
    [
        ("", {}, False),
        (activation(), {}, True),
        (activation(subject="other.>"), {}, False),
        (activation(expires=NOW_S - 1), {}, False),
        (activation(), {OTHER.public: NOW_S}, False),
        (activation(), {OTHER.public: NOW_S - 1}, True),
        ("garbage", {}, False),
    ],
)
def test_a_private_export_wants_an_activation(token: str, revocations: dict[str, int], hears: bool) -> None:
    export = {
        "name": "n",
        "subject": "news.>",
        "type": "stream",
        "token_req": True,
        "revocations": revocations,
    }
    importer = account_token(OTHER, imports=[{**IMPORT, "token": token}])
    lab = lab_with((OTHER, importer), (ACCOUNT, account_token(exports=[export])))
    assert (b"MSG" in heard(lab, user_token(signer=OTHER))) is hears


def test_an_activation_ends_when_it_expires() -> None:
    export = {"name": "n", "subject": "news.>", "type": "stream", "token_req": True}
    importer = account_token(OTHER, imports=[{**IMPORT, "token": activation(expires=NOW_S + 10)}])
    lab = lab_with((OTHER, importer), (ACCOUNT, account_token(exports=[export])))
    assert b"MSG" in heard(lab, user_token(signer=OTHER))
    lab.scheduler.advance(12 * NS_PER_S)
    assert b"MSG" not in heard(lab, user_token(signer=OTHER))


# where tokens come from


class Web:
    """A web server that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[bytes | None], None]]] = []

    def fetch(self, url: str, timeout_ns: int, then: Callable[[bytes | None], None]) -> None:
        assert timeout_ns > 0
        self.asked.append((url, then))


def test_a_client_waits_for_a_url_resolver_and_what_it_sends_meanwhile_is_not_lost() -> None:
    web = Web()
    resolver = ResolverOptions(ResolverKind.URL, url="http://accounts/v1")
    operator = replace(operator_options(), resolver=resolver, preload=())
    lab = BrokerLab()
    lab.broker = Broker(
        ServerOptions(operator=operator, system_account=SYSTEM.public),
        scheduler=lab.scheduler,
        chance=lab.broker.chance,
        fetch_url=web.fetch,
    )
    client, answer = enter(lab, user_token())
    assert answer == b""
    assert lab.say(client, b"SUB a 1\r\nPUB a 2\r\nhi\r\n") == b""
    other, _ = enter(lab, user_token())
    url, then = web.asked[-1]
    assert url == f"http://accounts/v1/{ACCOUNT.public}"
    assert len(web.asked) == 2, "the system account and this one, once each"
    then(account_token().encode())
    lab.scheduler.settle()
    assert client.received() == b"PONG\r\nMSG a 1 2\r\nhi\r\n"
    assert other.received() == b"PONG\r\n"
    late, _ = enter(lab, user_token(signer=OTHER))
    web.asked[-1][1](None)
    lab.scheduler.settle()
    assert late.received() == REFUSED


def system_user(lab: BrokerLab) -> MemoryClient:
    client, answer = enter(lab, user_token(signer=SYSTEM))
    assert answer == b"PONG\r\n"
    lab.say(client, b"SUB reply 1\r\n")
    return client


def ask(lab: BrokerLab, client: MemoryClient, subject: str, payload: str = "") -> bytes:
    """Send a request and give the first answer's payload."""
    said = f"PUB {subject} reply {len(payload)}\r\n{payload}\r\n".encode()
    return lab.say(client, said).partition(b"\r\n")[2].removesuffix(b"\r\n")


def directory_lab(folder: Path, **options: Any) -> BrokerLab:
    resolver = ResolverOptions(ResolverKind.FULL, directory=str(folder), **options)
    return lab_of(replace(operator_options(), resolver=resolver))


def test_a_directory_keeps_tokens_that_are_sent_to_it(tmp_path: Path) -> None:
    lab = directory_lab(tmp_path)
    client = system_user(lab)
    assert enter(lab, user_token())[1] == REFUSED
    answer = json.loads(ask(lab, client, "$SYS.REQ.CLAIMS.UPDATE", account_token()))
    assert answer["data"] == {"account": ACCOUNT.public, "code": 200, "message": "jwt updated"}
    assert enter(lab, user_token())[1] == b"PONG\r\n"
    again = directory_lab(tmp_path)
    assert enter(again, user_token())[1] == b"PONG\r\n"
    client = system_user(again)
    assert ask(again, client, f"$SYS.REQ.ACCOUNT.{ACCOUNT.public}.CLAIMS.LOOKUP") == account_token().encode()
    listed = json.loads(ask(again, client, "$SYS.REQ.CLAIMS.LIST"))
    assert set(listed["data"]) == {ACCOUNT.public, SYSTEM.public}
    assert b"|" in ask(again, client, "$SYS.REQ.CLAIMS.PACK")


@pytest.mark.parametrize(
    ("account", "token", "problem"),
    [
        (ACCOUNT, "no token", "expected 3 chunks"),
        (ACCOUNT, account_token(OTHER), "subject does not match jwt content"),
        (ACCOUNT, account_token(imports=[{"subject": "a", "type": "stream"}]), "not specified"),
    ],
)
def test_an_update_that_cannot_be_is_refused(
    tmp_path: Path, account: SigningKey, token: str, problem: str
) -> None:
    lab = directory_lab(tmp_path)
    answer = json.loads(ask(lab, system_user(lab), f"$SYS.REQ.ACCOUNT.{account.public}.CLAIMS.UPDATE", token))
    assert answer["error"]["code"] == 500
    assert problem in answer["error"]["description"]


def test_a_full_directory_takes_no_more(tmp_path: Path) -> None:
    lab = directory_lab(tmp_path, limit=1)
    answer = json.loads(ask(lab, system_user(lab), "$SYS.REQ.CLAIMS.UPDATE", account_token()))
    assert answer["error"]["description"] == "jwt update resulted in error - jwt store is full"


def delete_request(*names: str, signer: SigningKey = OPERATOR) -> str:
    return encode_token({"sub": signer.public, "nats": {"accounts": list(names)}}, signer, now_s=NOW_S)


def test_an_operator_may_delete_accounts_where_that_is_allowed(tmp_path: Path) -> None:
    lab = directory_lab(tmp_path, allow_delete=True)
    client = system_user(lab)
    ask(lab, client, "$SYS.REQ.CLAIMS.UPDATE", account_token())
    user, _ = enter(lab, user_token())
    for request, problem in (
        (delete_request(ACCOUNT.public, signer=key(KeyKind.OPERATOR, "x")), "not trusted"),
        (delete_request(SYSTEM.public), "not allowed to delete system account"),
        (delete_request("x"), "malformed request"),
    ):
        answer = json.loads(ask(lab, client, "$SYS.REQ.CLAIMS.DELETE", request))
        assert problem in answer["error"]["description"]
    answer = json.loads(ask(lab, client, "$SYS.REQ.CLAIMS.DELETE", delete_request(ACCOUNT.public)))
    assert answer["data"]["message"] == "deleted 1 accounts"
    assert user.is_closed
    assert enter(lab, user_token())[1] == REFUSED
    assert (tmp_path / f"{ACCOUNT.public}.jwt.deleted").exists()


def test_nothing_is_deleted_where_that_is_not_allowed(tmp_path: Path) -> None:
    lab = directory_lab(tmp_path)
    answer = json.loads(ask(lab, system_user(lab), "$SYS.REQ.CLAIMS.DELETE", delete_request(ACCOUNT.public)))
    assert "delete must be enabled" in answer["error"]["description"]


def test_a_memory_resolvers_accounts_can_be_updated_while_it_runs() -> None:
    lab = lab_with((ACCOUNT, account_token()))
    client = system_user(lab)
    fewer = account_token(limits={"conn": 0})
    answer = json.loads(ask(lab, client, f"$SYS.REQ.ACCOUNT.{ACCOUNT.public}.CLAIMS.UPDATE", fewer))
    assert answer["data"]["message"] == "jwt updated"
    assert b"maximum account active connections exceeded" in enter(lab, user_token())[1]
