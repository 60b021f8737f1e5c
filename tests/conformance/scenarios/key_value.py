"""Key-value buckets, as nats-py keeps them."""

from typing import Any

import nats.js.errors
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from headrace.tools.oracle import Lab, scenario
from headrace.tools.oracle.normalise import Json


async def bucket(lab: Lab, **config: Json) -> KeyValue:
    client = await lab.connect()
    return await client.jetstream().create_key_value(KeyValueConfig(bucket="B", **config))


@scenario()
async def values_are_put_and_got(lab: Lab) -> None:
    kv = await bucket(lab)
    lab.note(
        "put", [await kv.put("color", b"red"), await kv.put("size.big", b""), await kv.put("color", b"blue")]
    )
    for key in ("color", "size.big"):
        entry = await kv.get(key)
        lab.note(f"get {key}", [entry.key, entry.value, entry.revision, entry.operation])
    await lab.refused("get missing", kv.get("missing"))
    await lab.api("STREAM.INFO.KV_B")


@scenario()
async def create_and_update_expect_a_revision(lab: Lab) -> None:
    kv = await bucket(lab)
    lab.note("create", await kv.create("k", b"1"))
    await lab.refused("create again", kv.create("k", b"2"))
    lab.note("update", await kv.update("k", b"3", last=1))
    await lab.refused("update with an old revision", kv.update("k", b"4", last=1))
    await kv.delete("k")
    lab.note("create after delete", await kv.create("k", b"5"))


@scenario()
async def deletes_and_purges_leave_markers(lab: Lab) -> None:
    kv = await bucket(lab, history=5)
    for value in (b"1", b"2", b"3"):
        await kv.put("a", value)
        await kv.put("b", value)
    await kv.delete("a")
    await lab.refused("get a deleted key", kv.get("a"))
    await kv.purge("b")
    for key in ("a", "b"):
        entries = await kv.history(key)
        lab.note(f"history of {key}", [[e.key, e.value, e.revision, e.operation, e.delta] for e in entries])
    await kv.put("c", b"1")
    lab.note("keys", sorted(await kv.keys()))
    await lab.state("KV_B", deleted_details=True)


@scenario()
async def history_keeps_the_last_values(lab: Lab) -> None:
    kv = await bucket(lab, history=2)
    for number in range(5):
        await kv.put("k", str(number).encode())
    lab.note("history", [[e.value, e.revision] for e in await kv.history("k")])
    lab.note("old revision", [(await kv.get("k", revision=4)).value])
    await lab.refused("a revision that is gone", kv.get("k", revision=1))
    status = await kv.status()
    lab.note("status", [status.bucket, status.values, status.history, status.ttl])


@scenario()
async def watchers_see_values_and_changes(lab: Lab) -> None:
    kv = await bucket(lab)
    await kv.put("a.1", b"one")
    await kv.put("b.1", b"other")
    await kv.put("a.2", b"two")
    watcher = await kv.watch("a.*")
    seen: list[Any] = []
    for _ in range(3):
        entry = await watcher.updates(timeout=5)
        seen.append(entry and [entry.key, entry.value, entry.revision, entry.operation])
    lab.note("what was there", seen)
    await kv.put("a.1", b"changed")
    await kv.delete("a.2")
    for _ in range(2):
        entry = await watcher.updates(timeout=5)
        lab.note("change", [entry.key, entry.value, entry.revision, entry.operation])
    await watcher.stop()


@scenario()
async def buckets_are_configured_as_asked(lab: Lab) -> None:
    await bucket(lab, description="d", max_value_size=10, history=3, ttl=60, max_bytes=10_000, direct=True)
    await lab.api("STREAM.INFO.KV_B")
    await lab.publish("$KV.B.k", "x" * 11)
    client = await lab.connect()
    await lab.refused("a missing bucket", client.jetstream().key_value("NONE"))
    kv = await client.jetstream().key_value("B")
    await kv.put("k", b"v")
    lab.note("by direct get", (await kv.get("k")).value)
    try:
        await kv.get("none")
    except nats.js.errors.KeyNotFoundError:
        lab.note("missing by direct get", "not found")


@scenario()
async def two_buckets_are_apart(lab: Lab) -> None:
    client = await lab.connect()
    jetstream = client.jetstream()
    one = await jetstream.create_key_value(bucket="ONE")
    two = await jetstream.create_key_value(bucket="TWO")
    await one.put("k", b"1")
    await two.put("k", b"2")
    lab.note("values", [(await one.get("k")).value, (await two.get("k")).value])
    await jetstream.delete_key_value("ONE")
    await lab.refused("a deleted bucket", jetstream.key_value("ONE"))
    lab.note("the other", (await two.get("k")).value)
