"""Who may log in, and what they may do."""

import nats.errors

from headrace.tools.oracle import Lab, scenario

TOKEN = 'authorization { token: "secret", timeout: 0.3 }'
USERS = """
authorization {
  timeout: 0.3
  users: [
    {user: anna, password: apple}
    {user: hash, password: "$2a$04$86.j5BnTBg7/yNq4sG/Yfei7jtEjEjd6qxCH9NtPcTYVcEIzJ4GW6"}
    {user: ben, password: pear, permissions: {
      publish: {allow: ["pub.>", "both"], deny: "pub.secret"}
      subscribe: {allow: ["sub.>", "q work", "both", "_INBOX.>"], deny: "sub.secret"}
    }}
    {user: svc, password: pw, permissions: {
      subscribe: "requests"
      publish: {deny: ">"}
      allow_responses: {max: 1, expires: "1m"}
    }}
  ]
}
"""
ACCOUNTS = """
accounts {
  RED { users: [{user: red, password: r}], jetstream: enabled }
  BLUE { users: [{user: blue, password: b}] }
}
no_auth_user: blue
"""


@scenario(config=TOKEN)
async def a_token_opens_and_a_wrong_one_does_not(lab: Lab) -> None:
    silent = await lab.raw_silent()
    lab.note("greeting", await silent.frame())
    lab.note("no CONNECT in time", await silent.until_closed())
    for arguments in (
        '{"auth_token":"secret","verbose":false}',
        '{"auth_token":"wrong"}',
        "{}",
        '{"user":"secret"}',
    ):
        client = await lab.raw_greeted()
        client.send(f"CONNECT {arguments}\r\n".encode())
        lab.note(f"CONNECT {arguments}", await client.until_pong())


@scenario(config=TOKEN)
async def operations_before_connect_are_violations(lab: Lab) -> None:
    for operation in (b"PING\r\n", b"SUB a 1\r\n", b"PUB a 0\r\n\r\n"):
        client = await lab.raw_greeted()
        client.send(operation)
        lab.note(operation.decode(), await client.until_closed())


@scenario(config=USERS)
async def users_log_in_with_their_passwords(lab: Lab) -> None:
    for user, password in (
        ("anna", "apple"),
        ("anna", "pear"),
        ("nobody", "apple"),
        ("hash", "grape"),
        ("hash", "x"),
        ("ben", "pear"),
        ("", ""),
    ):
        client = await lab.raw_greeted()
        client.send(f'CONNECT {{"user":"{user}","pass":"{password}","verbose":true}}\r\n'.encode())
        lab.note(f"{user}:{password}", await client.until_pong())


@scenario(config=USERS)
async def permissions_to_publish_hold(lab: Lab) -> None:
    anna = await lab.raw(user="anna", **{"pass": "apple"})
    anna.send(b"SUB > 1\r\n")
    await anna.until_pong()
    ben = await lab.raw(user="ben", **{"pass": "pear"})
    for subject in ("pub.a", "pub.secret", "both", "other", "pub"):
        ben.publish(subject, "x")
        lab.note(f"PUB {subject}", await ben.until_pong())
    ben.publish("pub.a", "with reply", reply="anywhere")
    lab.note("a reply is free", await ben.until_pong())
    lab.note("delivered", [f for f in await anna.until_pong() if f[0] == "MSG" and not f[1].startswith("$")])


@scenario(config=USERS)
async def permissions_to_subscribe_hold(lab: Lab) -> None:
    ben = await lab.raw(user="ben", **{"pass": "pear"})
    wishes = (
        "sub.a 1",
        "sub.secret 2",
        "sub.* 3",
        "sub.> 4",
        "> 5",
        "other 6",
        "q 7",
        "q work 8",
        "q play 9",
        "both g 10",
    )
    for wish in wishes:
        ben.send(f"SUB {wish}\r\n".encode())
        lab.note(f"SUB {wish}", await ben.until_pong())
    anna = await lab.raw(user="anna", **{"pass": "apple"})
    for subject in ("sub.secret", "sub.open"):
        anna.publish(subject, subject)
    await anna.until_pong()
    lab.note("the denied subject is filtered", sorted(await ben.until_pong()))


@scenario(config=USERS)
async def a_service_may_answer_what_it_was_asked_once(lab: Lab) -> None:
    anna = await lab.raw(user="anna", **{"pass": "apple"})
    service = await lab.raw(user="svc", **{"pass": "pw"})
    service.send(b"SUB requests 1\r\n")
    await service.until_pong()
    anna.send(b"SUB inbox.1 1\r\n")
    anna.publish("requests", "?", reply="inbox.1")
    await anna.until_pong()
    lab.note("request", await service.frames(1))
    service.publish("inbox.1", "first")
    service.publish("inbox.1", "second")
    service.publish("inbox.2", "other")
    lab.note("service", await service.until_pong())
    lab.note("client", await anna.until_pong())


@scenario(config=ACCOUNTS)
async def accounts_cannot_see_each_other(lab: Lab) -> None:
    red = await lab.raw(user="red", **{"pass": "r"})
    blue = await lab.raw(user="blue", **{"pass": "b"})
    guest = await lab.raw()
    for client in (red, blue, guest):
        client.send(b"SUB a.> 1\r\n")
        await client.until_pong()
    red.publish("a.b", "from red")
    lab.note("red", await red.until_pong())
    blue.publish("a.b", "from blue")
    lab.note("blue", await blue.until_pong())
    lab.note("guest is blue", await guest.until_pong())
    lab.note("red afterwards", await red.until_pong())


@scenario(config=ACCOUNTS)
async def jetstream_answers_only_accounts_that_have_it(lab: Lab) -> None:
    red = await lab.connect(user="red", password="r")
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, client=red)
    await lab.api("STREAM.NAMES", client=red)
    blue = await lab.connect(user="blue", password="b")
    await lab.refused("blue asks", lab.ask("STREAM.NAMES", client=blue))
    await lab.do("STREAM.DELETE.S", client=red)


@scenario(config=USERS)
async def nats_py_is_let_in_with_the_right_password_only(lab: Lab) -> None:
    client = await lab.connect(user="anna", password="apple")
    lab.note("right password", client.is_connected)
    try:
        await lab.connect(user="anna", password="wrong")
    except (
        nats.errors.Error,
        OSError,
    ):  # which one is a race between the error's text and the connection's end
        lab.note("wrong password", "refused")
