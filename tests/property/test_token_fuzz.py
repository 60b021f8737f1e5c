"""Tokens made by anybody: whatever they say, they are read or refused, and nothing else happens."""

import base64
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from claims_lab import ACCOUNT, NOW_S, OPERATOR, USER, account_token, operator_token, user_token
from headrace.core.auth.jwt.account_claims import account_problem, decode_account
from headrace.core.auth.jwt.account_options import Activations, account_options
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.operator_claims import decode_operator
from headrace.core.auth.jwt.templates import Names, fill_in
from headrace.core.auth.jwt.token import decode_token, encode_token, undecorated
from headrace.core.auth.jwt.user_claims import decode_user, may_come_at, may_come_from, problem_of

NAMES = st.sampled_from(
    [
        "type",
        "version",
        "limits",
        "pub",
        "sub",
        "allow",
        "deny",
        "resp",
        "max",
        "ttl",
        "src",
        "times",
        "start",
        "end",
        "times_location",
        "subs",
        "payload",
        "exports",
        "imports",
        "subject",
        "account",
        "token",
        "to",
        "local_subject",
        "signing_keys",
        "kind",
        "key",
        "template",
        "revocations",
        "mappings",
        "weight",
        "authorization",
        "auth_users",
        "allowed_accounts",
        "tags",
        "conn",
        "bearer_token",
        "allowed_connection_types",
        "trace",
        "dest",
    ]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=8),
        st.sampled_from(
            ["stream", "service", "user_scope", ACCOUNT.public, USER.public, "a.*", ">", "{{tag(x)}}"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=6)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@example("..")
@example("eyJ.eyJ.eyJ")
@example(user_token()[:-1] + "é")
def test_a_text_is_no_token(text: str) -> None:
    try:
        decode_token(undecorated(text))
    except BadToken:
        return
    raise AssertionError("nobody signed this")


@given(st.sampled_from([user_token(), account_token(), operator_token()]), st.data())
def test_a_changed_token_is_refused(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("Aa0_-."))
    changed = token[:place] + letter + token[place + 1 :]
    parts = [base64.urlsafe_b64decode(each + "===") for each in token.split(".")]
    try:
        read = decode_token(changed)
    except BadToken:
        return
    # The last letter of a part has bits that stand for nothing.
    assert [base64.urlsafe_b64decode(each + "===") for each in changed.split(".")] == parts
    assert read.subject


@settings(max_examples=300)
@given(BODIES, st.integers(-(2**70), 2**70) | st.integers(0, 2**33))
@example({"times": [{"start": "00:00:00", "end": "23:59:59"}], "times_location": "../../etc/passwd"}, 0)
@example({"src": ["::1/129"]}, 0)
def test_a_users_claims_are_read_or_refused(body: dict[str, Any], expires: int) -> None:
    claims = {"sub": USER.public, "exp": expires, "nats": {**body, "type": "user", "version": 2}}
    try:
        user = decode_user(encode_token(claims, ACCOUNT, now_s=NOW_S))
        if problem_of(user, NOW_S):
            return
        may_come_from(user.limits, "127.0.0.1")
        may_come_at(user.limits, NOW_S * 10**9)
        fill_in(user.limits, Names("n", "U", ("x:1", "x:2"), "a", "A", ()))
    except BadToken:
        return


@settings(max_examples=300)
@given(BODIES)
@example({"limits": {"tiered_limits": {"": {}, "R1": {}}}})
@example({"signing_keys": [{"kind": "user_scope", "template": {"pub": None}}]})
def test_an_accounts_claims_are_read_or_refused(body: dict[str, Any]) -> None:
    claims = {"sub": ACCOUNT.public, "nats": {**body, "type": "account", "version": 2}}
    try:
        account = decode_account(encode_token(claims, OPERATOR, now_s=NOW_S))
    except BadToken:
        return
    if not account_problem(account):
        account_options(account, Activations(account, {account.name: account}, NOW_S))


@given(BODIES)
def test_an_operators_claims_are_read_or_refused(body: dict[str, Any]) -> None:
    claims = {"sub": OPERATOR.public, "nats": {**body, "type": "operator", "version": 2}}
    try:
        decode_operator(encode_token(claims, OPERATOR, now_s=NOW_S))
    except BadToken:
        return


def test_a_deeply_nested_token_is_refused() -> None:
    body = base64.urlsafe_b64encode(b'{"a":' * 100_000).rstrip(b"=").decode()
    header = base64.urlsafe_b64encode(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode()).decode()
    try:
        decode_token(f"{header.rstrip('=')}.{body}.AAAA")
    except BadToken:
        return
    raise AssertionError("it has no end")
