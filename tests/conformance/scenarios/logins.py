"""Each way to log in, tried by nobody, by the right client, by a wrong one and by another account's."""

import base64
from typing import Any

from claims_lab import ACCOUNT, OTHER, SYSTEM, USER, account_token, key, operator_token, signed, user_token
from headrace.core.auth.keys import KeyKind, SigningKey
from headrace.tools.oracle import Lab, scenario

STRANGER = key(KeyKind.USER, "stranger")
SIGNING = key(KeyKind.ACCOUNT, "signing")
SCOPED = key(KeyKind.ACCOUNT, "scoped")
HASH = "$2a$04$86.j5BnTBg7/yNq4sG/Yfei7jtEjEjd6qxCH9NtPcTYVcEIzJ4GW6"  # of "grape"

KEYS = f"""
authorization {{ users: [
  {{nkey: {USER.public}, permissions: {{publish: open}}}}
  {{user: anna, password: apple}}
] }}
"""
KEYS_IN_ACCOUNTS = f"""
accounts {{
  RED {{ users: [{{nkey: {USER.public}}}] }}
  BLUE {{ users: [{{user: blue, password: "{HASH}"}}] }}
}}
no_auth_user: {USER.public}
"""
KINDS = """
authorization { users: [
  {user: web, password: w, allowed_connection_types: [WEBSOCKET]}
  {user: both, password: b, connection_types: ["standard", "WEBSOCKET"]}
  {user: leaf, password: l, clients: LEAFNODE}
] }
no_auth_user: web
"""
SYSTEM_ONLY = 'accounts { $SYS { users: [{user: admin, password: "s"}] } }'
SYSTEM_BESIDE = 'accounts { $SYS { users: [{user: admin, password: "s"}] }, OTHER {} }'
TEMPLATE = {"pub": {"allow": ["of.{{name()}}.>", "in.{{tag(team)}}"]}, "subs": -1, "data": -1, "payload": -1}
OPERATORS = f"""
operator: {operator_token()}
resolver: MEMORY
resolver_preload {{
  {SYSTEM.public}: {account_token(SYSTEM)}
  {ACCOUNT.public}: {
    account_token(
        signing_keys=[
            SIGNING.public,
            {"kind": "user_scope", "key": SCOPED.public, "role": "r", "template": TEMPLATE},
        ],
        revocations={STRANGER.public: 1_700_000_000},
        default_permissions={"pub": {"deny": ["secret"]}},
        exports=[{"name": "n", "subject": "news.>", "type": "stream"}],
    )
}
  {OTHER.public}: {
    account_token(
        OTHER,
        limits={"disallow_bearer": True, "conn": 1},
        imports=[{"name": "i", "subject": "news.>", "account": ACCOUNT.public, "type": "stream", "to": "in"}],
    )
}
}}
"""


async def attempt(
    lab: Lab, step: str, after: bytes = b"", *, signer: SigningKey | None = None, **said: Any
) -> None:
    """Log in, send `after`, and note what was answered."""
    client = await lab.raw_silent()
    info = (await client.frame())[1]
    if signer is not None:
        said["sig"] = signed(info.get("nonce", ""), signer)
    client.send(b"CONNECT " + encoded({"verbose": False, "pedantic": False, **said}) + b"\r\n" + after)
    lab.note(step, await client.until_pong())


def encoded(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


async def greeting(lab: Lab) -> None:
    """Note what INFO says of logins before one."""
    client = await lab.raw_silent()
    info = (await client.frame())[1]
    nonce = info.get("nonce")
    lab.note("INFO auth_required", info.get("auth_required", False))
    lab.note("INFO nonce", nonce is not None and len(base64.urlsafe_b64decode(nonce + "=")))


@scenario(config=KEYS)
async def a_key_opens_to_who_holds_it(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "the key", b"PUB open 0\r\n\r\nPUB other 0\r\n\r\n", nkey=USER.public, signer=USER)
    await attempt(lab, "the key, signed by another", nkey=USER.public, signer=STRANGER)
    await attempt(lab, "the key, not signed", nkey=USER.public)
    await attempt(lab, "the key, signed with rubbish", nkey=USER.public, sig="!!!")
    await attempt(lab, "another key", nkey=STRANGER.public, signer=STRANGER)
    await attempt(lab, "a password", user="anna", **{"pass": "apple"})
    await attempt(lab, "a password beside a key", user="anna", nkey=USER.public, **{"pass": "apple"})
    await attempt(lab, "a key as a name", user=USER.public)


@scenario(config=KEYS_IN_ACCOUNTS)
async def a_key_may_be_who_nobody_becomes(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "the key, not signed", nkey=USER.public)
    await attempt(lab, "another key", nkey=STRANGER.public, signer=STRANGER)
    await attempt(lab, "the other account's user", user="blue", **{"pass": "grape"})
    await attempt(lab, "a wrong password", user="blue", **{"pass": "apple"})
    await attempt(lab, "a password without a name", **{"pass": "grape"})
    await attempt(lab, "a token", auth_token="grape")


@scenario(config=KINDS)
async def users_may_be_kept_to_kinds_of_connections(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "web", user="web", **{"pass": "w"})
    await attempt(lab, "both", user="both", **{"pass": "b"})
    await attempt(lab, "leaf", user="leaf", **{"pass": "l"})
    client = await lab.raw_greeted()
    client.send(b"PING\r\n")
    lab.note("without CONNECT", await client.until_closed())


@scenario(config=SYSTEM_ONLY)
async def the_system_accounts_users_alone_keep_nobody_out(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "admin", user="admin", **{"pass": "s"})
    await attempt(lab, "admin, wrong", user="admin", **{"pass": "x"})
    await attempt(lab, "a token", auth_token="x")


@scenario(config=SYSTEM_BESIDE)
async def with_another_account_they_do(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "admin", user="admin", **{"pass": "s"})


@scenario(config=OPERATORS)
async def tokens_open_where_operators_are_trusted(lab: Lab) -> None:
    await greeting(lab)
    await attempt(lab, "nobody")
    await attempt(lab, "a user", b"PUB secret 0\r\n\r\n", jwt=user_token(), signer=USER)
    await attempt(lab, "signed by another", jwt=user_token(), signer=STRANGER)
    await attempt(lab, "not signed", jwt=user_token())
    await attempt(lab, "a bearer", jwt=user_token(bearer_token=True))
    await attempt(lab, "a bearer elsewhere", jwt=user_token(signer=OTHER, bearer_token=True))
    await attempt(lab, "expired", jwt=user_token(expires=1_700_000_000), signer=USER)
    await attempt(lab, "revoked", jwt=user_token(STRANGER), signer=STRANGER)
    for signer in (SIGNING, SYSTEM, OTHER):
        token = user_token(signer=signer, issuer_account=ACCOUNT.public)
        await attempt(lab, f"signed by {signer.public[:4]} for the account", jwt=token, signer=USER)
    await attempt(lab, "an account's token", jwt=account_token(), signer=USER)
    await attempt(lab, "changed", jwt=user_token()[:-6] + "AAAAAA", signer=USER)
    for claims in (
        {"src": ["127.0.0.0/8"]},
        {"src": ["10.0.0.0/8"]},
        {"allowed_connection_types": ["WEBSOCKET"]},
        {"allowed_connection_types": ["STANDARD", "CARRIER_PIGEON"]},
        {"times": [{"start": "00:00:00", "end": "23:59:59"}], "times_location": "Nowhere"},
        {"sub": {"allow": ["a..b"]}},
        {"proxy_required": True},
    ):
        await attempt(lab, str(claims), jwt=user_token(**claims), signer=USER)


@scenario(config=OPERATORS)
async def scoped_keys_give_users_their_limits(lab: Lab) -> None:
    token = user_token(
        signer=SCOPED, issuer_account=ACCOUNT.public, limits={}, tags=["team:red", "team:blue"]
    )
    publishes = b"".join(
        f"PUB {each} 0\r\n\r\n".encode() for each in ("of.bob.a", "of.eve.a", "in.blue", "in.green")
    )
    await attempt(lab, "scoped", publishes, jwt=token, signer=USER)
    own = user_token(signer=SCOPED, issuer_account=ACCOUNT.public)
    await attempt(lab, "with limits of its own", jwt=own, signer=USER)


@scenario(config=OPERATORS)
async def limits_of_tokens_hold(lab: Lab) -> None:
    limits = {"subs": 1, "data": -1, "payload": 5}
    said = b"SUB a 1\r\nSUB b 2\r\nPUB x 6\r\nabcdef\r\n"
    await attempt(lab, "limited", said, jwt=user_token(limits=limits), signer=USER)
    await attempt(lab, "the first", b"SUB in.> 1\r\n", jwt=user_token(signer=OTHER), signer=USER)
