"""What crosses between accounts, how subjects are mapped, and what the system account is told."""

import asyncio
import json
import re
from typing import Any

from headrace.tools.oracle import Lab, scenario

SHARING = """
accounts {
  A {
    users: [{user: a, password: p}]
    exports: [
      {stream: "st.>"}, {stream: "private.*", accounts: [B]}, {stream: "tok.*.x", account_token_position: 2}
      {service: "one"}, {service: "many.*", response: stream}, {service: "pair.*.*"}
      {service: "measured", latency: {subject: "latency", sampling: 100}}
    ]
    mappings: {"in.*": "out.$1"}
  }
  B {
    users: [{user: b, password: p}]
    imports: [
      {stream: {account: A, subject: "st.>"}, prefix: "from.A"}
      {stream: {account: A, subject: "private.*"}, to: "mine.$1.end"}
      {stream: {account: A, subject: "tok.B.x"}}
      {service: {account: A, subject: "one"}, to: "first"}
      {service: {account: A, subject: "many.*"}}
      {service: {account: A, subject: "pair.*.*"}, to: "swapped.$2.$1"}
      {service: {account: A, subject: "measured"}, share: true}
    ]
    exports: [{service: "first"}]
  }
  C { users: [{user: c, password: p}], imports: [{service: {account: B, subject: "first"}, to: "far"}] }
  SYS { users: [{user: sys, password: p}] }
}
system_account: SYS
"""
MAPPINGS = """
mappings: {
  "a.*": "b.$1", "a.x": "literal"
  "orders.*.*": "o.{{wildcard(2)}}.{{wildcard(1)}}.{{partition(7,1)}}", "split.*": "s.{{split(1,-)}}"
  "cut.*": "c.{{splitfromleft(1,2)}}.{{sliceFromRight(1,2)}}", "tail.>": "t.>"
  "lost": [{destination: "lost", weight: 0}]
}
authorization: { users: [
  {user: all, password: p}, {user: few, password: p, permissions: {publish: ["a.x", "b.*"]}}
] }
"""


def seen(frames: list[Any]) -> list[Any]:
    """Give frames without what the round trip and random names change."""
    return [
        [
            re.sub(r'"(rtt|id)":\d+', r'"\1":0', re.sub(r"_R_(\.\w+)+", "<service reply>", part))
            for part in frame
        ]
        for frame in frames
    ]


def reply_of(frame: Any) -> str:
    """Find the service's reply subject in a request."""
    found = re.search(r"_R_(\.\w+)+", json.dumps(frame))
    assert found is not None, f"{frame} is no request of another account"
    return found[0]


@scenario(config=SHARING)
async def streams_of_other_accounts_arrive_under_local_subjects(lab: Lab) -> None:
    a = await lab.raw(user="a", **{"pass": "p"})
    b = await lab.raw(user="b", **{"pass": "p"})
    wide = await lab.raw(user="b", **{"pass": "p"})
    b.send(b"SUB from.A.st.x 2\r\nSUB mine.*.end 3\r\nSUB st.> 4\r\n")
    wide.send(b"SUB > 1\r\n")
    lab.note("subscribed", [await b.until_pong(), await wide.until_pong()])
    for subject in ("st.x", "st.y.z", "private.p", "tok.B.x", "tok.C.x", "other"):
        a.publish(subject, "hi")
        lab.note(subject, [await a.until_pong(), await b.until_pong(), await wide.until_pong()])


@scenario(config=SHARING)
async def a_service_is_asked_in_another_account(lab: Lab) -> None:
    a = await lab.raw(user="a", **{"pass": "p"})
    b = await lab.raw(user="b", **{"pass": "p"})
    b.send(b"SUB inbox 1\r\n")
    lab.note("nobody serves", [await b.until_pong(), await _asked(b, "first")])
    a.send(b"SUB one 1\r\nSUB many.* 2\r\nSUB pair.*.* 3\r\n")
    lab.note("subscribed", await a.until_pong())
    b.publish("first", "hi", reply="inbox")
    await b.until_pong()
    request = await a.frame()
    lab.note("request", seen([request]))
    for number in (1, 2):
        a.publish(reply_of(request), f"answer {number}")
        await a.until_pong()
        lab.note(f"answer {number}", await b.until_pong())
    b.publish("many.x", "hi", reply="inbox")
    await b.until_pong()
    request = await a.frame()
    for text in ("1", "2", "", "3"):
        a.publish(reply_of(request), text)
        await a.until_pong()
        lab.note(f"stream {text}", await b.until_pong())
    b.publish("swapped.x.y", "no reply")
    await b.until_pong()
    lab.note("renamed", seen([await a.frame()]))


async def _asked(client: Any, subject: str) -> Any:
    client.publish(subject, "hi", reply="inbox")
    return await client.until_pong()


@scenario(config=SHARING)
async def a_service_is_reached_over_two_accounts(lab: Lab) -> None:
    a = await lab.raw(user="a", **{"pass": "p"})
    c = await lab.raw(user="c", **{"pass": "p"})
    c.send(b"SUB inbox 1\r\n")
    lab.note("nobody serves", [await c.until_pong(), await _asked(c, "far")])
    a.send(b"SUB one 1\r\n")
    await a.until_pong()
    c.publish("far", "hi", reply="inbox")
    await c.until_pong()
    request = await a.frame()
    lab.note("request", seen([request]))
    a.publish(reply_of(request), "answer")
    await a.until_pong()
    lab.note("answer", await c.until_pong())


@scenario(config=SHARING)
async def the_latency_of_a_service_is_measured(lab: Lab) -> None:
    a = await lab.raw(user="a", name="server", **{"pass": "p"})
    b = await lab.raw(user="b", name="asker", **{"pass": "p"})
    listener = await lab.raw(user="a", **{"pass": "p"})
    listener.send(b"SUB latency 9\r\n")
    await listener.until_pong()
    a.send(b"SUB measured 1\r\n")
    b.send(b"SUB inbox 1\r\n")
    await a.until_pong()
    await b.until_pong()
    b.publish("measured", "hi", reply="inbox")
    await b.until_pong()
    request = await a.frame()
    a.publish(reply_of(request), "answer")
    await a.until_pong()
    lab.note("answer", await b.until_pong())
    lab.note("measured", _measured(await listener.frame()))
    b.publish("measured", "no reply")
    await b.until_pong()
    lab.note("no reply", _measured(await listener.frame()))


def _measured(frame: Any) -> dict[str, Any]:
    body = json.loads(frame[-1])
    for one in (body, body.get("requestor", {}), body.get("responder", {})):
        for key in ("rtt", "service", "system", "total", "id", "server", "timestamp", "start"):
            if key in one:
                one[key] = f"<{key}>"
    return dict(body)


@scenario(config=SHARING)
async def requests_are_mapped_where_they_arrive(lab: Lab) -> None:
    a = await lab.raw(user="a", **{"pass": "p"})
    a.send(b"SUB > 1\r\n")
    await a.until_pong()
    a.publish("in.x", "hi")
    lab.note("own publish", await a.until_pong())


@scenario(config=MAPPINGS)
async def publishes_are_mapped(lab: Lab) -> None:
    client = await lab.raw(user="all", **{"pass": "p"})
    client.send(b"SUB > 1\r\n")
    await client.until_pong()
    for subject in ("a.y", "orders.one.two", "split.x-y--z", "cut.abcde", "tail.a.b", "other"):
        client.publish(subject, "hi")
        lab.note(subject, await client.until_pong())
    client.publish("lost", "hi", reply="inbox")
    lab.note("lost", await client.until_pong())
    few = await lab.raw(user="few", **{"pass": "p"})
    for subject in ("a.y", "b.y", "orders.b.y", "tail.x"):
        few.publish(subject, "hi")
        lab.note(f"few: {subject}", await few.until_pong())


@scenario(config=SHARING)
async def the_system_account_answers(lab: Lab) -> None:
    system = await lab.connect(user="sys", password="p")
    user = await lab.connect(user="b", password="p")
    identity = json.loads((await system.request("$SYS.REQ.SERVER.PING.IDZ", timeout=2)).data)
    lab.note("identity", sorted(identity))
    for subject, body in (
        ("$SYS.REQ.SERVER.PING.ACCOUNTZ", '{"account":"nope"}'),
        ("$SYS.REQ.SERVER.PING.CONNZ", '{"sort":"bogus"}'),
        ("$SYS.REQ.SERVER.PING.CONNZ", "{bad"),
        ("$SYS.REQ.SERVER.PING.CONNZ", "[]"),
        ("$SYS.REQ.SERVER.PING.ROUTEZ", ""),
        ("$SYS.REQ.SERVER.PING.LEAFZ", ""),
        ("$SYS.REQ.SERVER.PING.GATEWAYZ", ""),
        ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"stream":"x"}'),
        ("$SYS.REQ.ACCOUNT.nope.INFO", ""),
        (f"$SYS.REQ.SERVER.{identity['id']}.KICK", '{"cid":99999}'),
        (f"$SYS.REQ.SERVER.{identity['id']}.LDM", '{"cid":99999}'),
    ):
        answer = json.loads((await system.request(subject, body.encode(), timeout=2)).data)
        answer.pop("server")
        lab.note(f"{subject.rsplit('.', 1)[1]} {body}", answer)
    statistics = json.loads((await system.request("$SYS.REQ.ACCOUNT.B.STATZ", timeout=2)).data)
    lab.note("statistics", sorted(statistics["data"]["account_statz"][0]))
    info = json.loads((await user.request("$SYS.REQ.USER.INFO", timeout=2)).data)
    lab.note("who am I", info["data"])
    shown = json.loads((await user.request("$SYS.REQ.ACCOUNT.PING.CONNZ", timeout=2)).data)
    lab.note("my connections", shown["data"]["num_connections"])
    await lab.refused("not for everybody", user.request("$SYS.REQ.SERVER.PING.VARZ", timeout=2))


@scenario(config=SHARING)
async def the_system_account_hears_who_comes_and_goes(lab: Lab) -> None:
    system = await lab.connect(user="sys", password="p")
    queue: asyncio.Queue[Any] = asyncio.Queue()
    await system.subscribe("$SYS.ACCOUNT.C.>", cb=queue.put)
    await system.flush()
    client = await lab.raw(user="c", name="x", **{"pass": "p"})
    for _ in range(2):
        _note_event(lab, await asyncio.wait_for(queue.get(), 5))
    client.publish("foo", "abc")
    await client.until_pong()
    await client.close()
    for _ in range(2):
        _note_event(lab, await asyncio.wait_for(queue.get(), 5))


def _note_event(lab: Lab, message: Any) -> None:
    body = json.loads(message.data)
    body["server"] = "<server>"
    if "client" in body:
        body["client"].pop("rtt", None)
        body["client"]["id"] = "<id>"
    for key in ("num_subscriptions", "sent", "received") if "conns" in body else ():
        body.pop(key)
    body["id"] = "<id>"
    lab.note(message.subject, body)
