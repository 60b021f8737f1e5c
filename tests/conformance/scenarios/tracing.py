"""Where a traced message goes: the events that the server sends to `Nats-Trace-Dest`, or to the account's own place."""

import asyncio
import json
from typing import Any

from headrace.tools.oracle import Lab, RawClient, scenario

TRACED = """
accounts {
  A {
    users: [
      {user: a, password: p}
      {user: few, password: p, permissions: {publish: ["ok", "t", "svc"], subscribe: {allow: ">", deny: "t.secret"}}}
    ]
    exports: [{stream: "st.*"}, {stream: "seen.*"}]
    mappings: {"in.*": "out.$1"}
    imports: [
      {service: {account: S, subject: "shown"}, to: "svc"}
      {service: {account: S, subject: "hidden"}, to: "dark"}
    ]
    msg_trace: {dest: "account.t", sampling: 100}
  }
  B {
    users: [{user: b, password: p}]
    imports: [
      {stream: {account: A, subject: "st.*"}, prefix: "from"}
      {stream: {account: A, subject: "seen.*"}, prefix: "from", allow_trace: true}
    ]
  }
  S { users: [{user: s, password: p}], exports: [{service: "shown", allow_trace: true}, {service: "hidden"}] }
}
"""
SERVER_KEYS = ("name", "host", "id", "ver", "jetstream", "flags", "seq", "time")
SETTLING_S = 0.06
"""How long the reference may take to send an event: it has a queue of its own for them."""

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def block(**fields: str) -> bytes:
    """Make a block of headers; underscores in names stand for hyphens."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def publish(client: RawClient, subject: str, headers: bytes, payload: bytes = b"hi", reply: str = "") -> None:
    """Publish with headers."""
    told = f"HPUB {subject} {reply + ' ' if reply else ''}{len(headers)} {len(headers) + len(payload)}\r\n"
    client.send(told.encode() + headers + payload + b"\r\n")


async def told(client: RawClient) -> list[Any]:
    """Give what a client was sent, in a fixed order, the events as objects without what differs from run to run."""
    await asyncio.sleep(SETTLING_S)
    return sorted((_shown(frame) for frame in await client.until_pong()), key=repr)


def _shown(frame: Any) -> Any:
    if frame[0] not in ("MSG", "HMSG") or not frame[-1].startswith('{"server"'):
        return [_masked(part) for part in frame]
    event = json.loads(frame[-1])
    server = event["server"]
    event["server"] = sorted(key for key in server if key in SERVER_KEYS)
    for each in event["events"]:
        each["cid"] = each.get("cid", 0) and "<cid>"
    event["request"]["header"] = {
        name: [_masked(value) for value in values] for name, values in event["request"]["header"].items()
    }
    return [*frame[:-1], event]


def _masked(part: Any) -> Any:
    if not isinstance(part, str) or "_R_." not in part:
        return part
    before, _, after = part.partition("_R_.")
    return (
        before
        + "<service reply>"
        + after.lstrip("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    )


@scenario()
async def a_trace_tells_who_took_a_message(lab: Lab) -> None:
    eye, taker, sender = await lab.raw(), await lab.raw(name="taker"), await lab.raw(name="sender")
    eye.send(b"SUB t 1\r\n")
    taker.send(b"SUB x.* 1\r\nSUB x.y q 2\r\n")
    lab.note("subscribed", [await eye.until_pong(), await taker.until_pong()])
    publish(sender, "x.y", block(Nats_Trace_Dest="t", Other="1"))
    lab.note("delivered", [await sender.until_pong(), await taker.until_pong(), await told(eye)])
    for value in ("true", "1", "ON", "no"):
        publish(sender, "x.y", block(Nats_Trace_Dest="t", Nats_Trace_Only=value))
        saw = [await sender.until_pong(), await taker.until_pong(), await told(eye)]
        lab.note(f"trace only: {value}", saw)
    publish(sender, "nobody", block(Nats_Trace_Dest="t"))
    lab.note("nobody is there", [await sender.until_pong(), await told(eye)])
    sender.send(b"SUB inbox 1\r\n")
    publish(sender, "nobody", block(Nats_Trace_Dest="t"), reply="inbox")
    lab.note("nobody answers", [await sender.until_pong(), await told(eye)])


@scenario()
async def what_is_no_wish_for_a_trace_is_carried(lab: Lab) -> None:
    eye, sender = await lab.raw(), await lab.raw()
    eye.send(b"SUB t 1\r\nSUB x 2\r\n")
    lab.note("subscribed", await eye.until_pong())
    for headers in (
        block(Nats_Trace_Only="true"),
        block(nats_trace_dest="t"),
        block(Nats_Trace_Dest="trace disabled"),
        block(Nats_Trace_Dest="t.*"),
        block(Nats_Trace_Dest=""),
        block(Nats_Trace_Dest="t..x", Nats_Trace_Only="true"),
        block(traceparent=SAMPLED),
        b"NATS/1.0\r\nNats-Trace-Dest:t\r\nA: 1\r\nA: 2\r\nb:\r\n\r\n",
    ):
        publish(sender, "x", headers)
        lab.note(repr(headers), [await sender.until_pong(), await told(eye)])


@scenario()
async def who_takes_nothing_is_told_with_the_reason(lab: Lab) -> None:
    eye, sender = await lab.raw(), await lab.raw(echo=False)
    eye.send(b"SUB t 1\r\n")
    sender.send(b"SUB x 1\r\n")
    lab.note("subscribed", [await eye.until_pong(), await sender.until_pong()])
    publish(sender, "x", block(Nats_Trace_Dest="t"))
    lab.note("no echo", [await sender.until_pong(), await told(eye)])


@scenario(config=TRACED)
async def permissions_hold_for_the_message_and_for_its_trace(lab: Lab) -> None:
    eye, few = await lab.raw(user="a", **{"pass": "p"}), await lab.raw(user="few", **{"pass": "p"})
    eye.send(b"SUB t 1\r\nSUB ok 2\r\nSUB bad 3\r\n")
    few.send(b"SUB t.* 1\r\n")
    lab.note("subscribed", [await eye.until_pong(), await few.until_pong()])
    for subject, place in (("ok", "t"), ("ok", "elsewhere"), ("bad", "t"), ("bad", "elsewhere")):
        publish(few, subject, block(Nats_Trace_Dest=place))
        lab.note(f"{subject} to {place}", [await few.until_pong(), await told(eye)])
    publish(few, "ok", block(Nats_Trace_Dest="t"), reply="_R_.x")
    lab.note("a reserved reply", [await few.until_pong(), await told(eye)])
    publish(eye, "t.secret", block(Nats_Trace_Dest="t"))
    lab.note("denied to who listens", [await told(eye), await few.until_pong()])


@scenario(config=TRACED)
async def mappings_and_other_accounts_are_in_a_trace(lab: Lab) -> None:
    a, b = await lab.raw(user="a", **{"pass": "p"}), await lab.raw(user="b", **{"pass": "p"})
    a.send(b"SUB t 1\r\nSUB out.* 2\r\n")
    b.send(b"SUB from.st.* 1\r\nSUB from.seen.* 2\r\nSUB from.st.q q 3\r\n")
    lab.note("subscribed", [await a.until_pong(), await b.until_pong()])
    for subject in ("in.x", "st.x", "seen.x"):
        for only in ("no", "true"):
            publish(a, subject, block(Nats_Trace_Dest="t", Nats_Trace_Only=only))
            lab.note(f"{subject}, only: {only}", [await told(a), await told(b)])


@scenario(config=TRACED)
async def a_service_is_in_a_trace(lab: Lab) -> None:
    a, s = await lab.raw(user="a", **{"pass": "p"}), await lab.raw(user="s", **{"pass": "p"})
    a.send(b"SUB t 1\r\n")
    lab.note("subscribed", await a.until_pong())
    publish(a, "svc", block(Nats_Trace_Dest="t"))
    lab.note("nobody serves", await told(a))
    s.send(b"SUB shown 1\r\nSUB hidden 2\r\n")
    lab.note("served", await s.until_pong())
    for subject in ("svc", "dark"):
        for only in ("no", "true"):
            publish(a, subject, block(Nats_Trace_Dest="t", Nats_Trace_Only=only), reply="inbox.x")
            saw = await told(a)
            asked = [[part for part in frame if "_R_" not in part][:3] for frame in await s.until_pong()]
            lab.note(f"{subject}, only: {only}", [saw, asked])


@scenario(config=TRACED)
async def an_account_has_a_place_for_traces_of_its_own(lab: Lab) -> None:
    a = await lab.raw(user="a", **{"pass": "p"})
    a.send(b"SUB account.t 1\r\nSUB x 2\r\nSUB t 3\r\n")
    lab.note("subscribed", await a.until_pong())
    for headers in (
        block(traceparent=SAMPLED),
        block(TraceParent=SAMPLED, Nats_Trace_Only="true"),
        block(traceparent=SAMPLED[:-2] + "00"),
        block(traceparent="junk"),
        block(traceparent=SAMPLED, Nats_Trace_Dest="t"),
    ):
        publish(a, "x", headers)
        lab.note(repr(headers), await told(a))


@scenario()
async def a_stream_is_in_a_trace(lab: Lab) -> None:
    eye, sender = await lab.raw(), await lab.raw()
    await lab.stream("ORDERS", "orders.>", max_msg_size=200)
    eye.send(b"SUB t 1\r\n")
    lab.note("subscribed", await eye.until_pong())
    for subject, fields in (
        ("orders.x", {}),
        ("orders.x", {"Nats_Trace_Only": "true"}),
        ("orders.x", {"Nats_Expected_Stream": "OTHER"}),
        ("orders.x", {"Nats_Expected_Stream": "OTHER", "Nats_Trace_Only": "true"}),
        ("orders.x", {"Nats_Expected_Last_Sequence": "17"}),
        ("orders.x", {"Nats_Expected_Last_Sequence": "17", "Nats_Trace_Only": "true"}),
    ):
        publish(sender, subject, block(Nats_Trace_Dest="t", **fields), reply="acks")
        await sender.until_pong()
        lab.note(f"{subject} {fields}", await told(eye))
    publish(sender, "orders.big", block(Nats_Trace_Dest="t"), b"x" * 300)
    await sender.until_pong()
    lab.note("too big", await told(eye))
    await lab.state("ORDERS")
    lab.note("stored", await lab.ask("STREAM.MSG.GET.ORDERS", {"seq": 1}))
