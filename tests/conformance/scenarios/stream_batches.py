"""Atomic batches and fast-ingest batches."""

import asyncio
from typing import Any, Final

from headrace.tools.oracle import Lab, RawClient, scenario

Headers = dict[str, str]

QUIET_S: Final = 0.15
ABANDONING: Final = ("10176", "10185", "10199")
"""Refusals that an advisory may follow."""


class Publisher:
    """Publishes by a raw client, and notes what is answered on each message's own reply subject."""

    def __init__(self, lab: Lab, client: RawClient) -> None:
        self._lab = lab
        self._client = client

    @classmethod
    async def of(cls, lab: Lab) -> "Publisher":
        client = await lab.raw()
        client.send(b"SUB r.> 1\r\nSUB mark 3\r\nSUB $JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.> 2\r\n")
        await client.until_pong()
        return cls(lab, client)

    async def one(
        self, batch: str, number: int | str, payload: str = "", /, *, subject: str = "s.a", **more: str
    ) -> None:
        """Publish one message of an atomic batch."""
        fields = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        fields |= {key.replace("_", "-"): value for key, value in more.items()}
        await self.message(subject, payload, fields, f"r.{batch}.{number}")

    async def message(self, subject: str, payload: str, fields: Headers, reply: str) -> None:
        shown = {key: value for key, value in fields.items() if value}
        text = "\r\n".join(f"{key}: {value}" for key, value in shown.items())
        self._client.publish(subject, payload, reply=reply, headers=text)
        self._lab.note(f"{subject} {payload} {shown}", await self._answers(subject))

    async def fast(self, step: str, payload: str = "", /, *, subject: str = "s.a", **more: str) -> None:
        """Publish one message of a fast-ingest batch."""
        fields = {key.replace("_", "-"): value for key, value in more.items()}
        await self.message(subject, payload, fields, f"r.{step}.$FI")

    async def _answers(self, subject: str) -> list[Any]:
        """Give what is said before a message for another stream is refused; then advisories, where one may be due."""
        self._client.publish(subject, reply="mark", headers="Nats-Expected-Stream: -")
        found: list[Any] = []
        while not found or found[-1][1] != "mark":
            found.append(await self._client.frame())
        if any(code in frame[-1] for code in ABANDONING for frame in found):
            found += await self._client.quiet(QUIET_S)
        frames = [frame for frame in found if frame[1] != "mark"]
        return sorted(frames, key=lambda frame: frame[1].startswith("$JS"))

    async def after(self, seconds: float) -> None:
        """Note what comes by itself."""
        await asyncio.sleep(seconds)
        found: list[Any] = await self._client.quiet(QUIET_S)
        self._lab.note("after a while", sorted(found, key=lambda frame: frame[-1].rpartition('"batch"')[2]))


async def _show(lab: Lab, count: int) -> None:
    await lab.state("S")
    for sequence in range(1, count + 1):
        await lab.api("STREAM.MSG.GET.S", {"seq": sequence})


@scenario()
async def a_batch_is_stored_when_it_is_committed(lab: Lab) -> None:
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_atomic": True})
    publisher = await Publisher.of(lab)
    await publisher.one("one", 1, "a", Nats_Msg_Id="x")
    await publisher.one("one", 2, "b", subject="s.b")
    await lab.state("S")
    await publisher.one("one", 3, "c", Nats_Batch_Commit="1")
    await publisher.one("single", 1, "d", Nats_Batch_Commit="1")
    await publisher.one("two", 1, "e", Nats_Required_Api_Level="2")
    await publisher.one("two", 2, "f", Color="red")
    await publisher.one("two", 3, "end", Nats_Batch_Commit="eob")
    await _show(lab, 6)
    await publisher.one("two", 4, "late")


@scenario()
async def batches_that_break_a_rule_are_refused(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_atomic=True)
    publisher = await Publisher.of(lab)
    await publisher.one("b" * 64, 1, "a", Nats_Batch_Commit="1")
    await publisher.one("b" * 65, 1, "a")
    await publisher.message("s.a", "", {"Nats-Batch-Id": "x"}, "r.x")
    for number in ("0", "2", "x", "-1", "99999999999999999999999", "1001", "1002"):
        await publisher.one("x", number, "a")
        await publisher.one("x", number, "a", Nats_Batch_Commit="eob")
    await publisher.one("gap", 1)
    await publisher.one("gap", 3)
    await publisher.one("gap", 2)
    await publisher.one("again", 1)
    await publisher.one("again", 1)
    await publisher.one("end", 1, Nats_Batch_Commit="eob")
    for value in ("0", "2", "true", "EOB"):
        await publisher.one("value", 1)
        await publisher.one("value", 2, Nats_Batch_Commit=value)
        await publisher.one("value", 2, Nats_Batch_Commit="1")
    await publisher.one("level", 1)
    await publisher.one("level", 2, Nats_Required_Api_Level="99")
    await publisher.one("level", 2, Nats_Batch_Commit="1")
    await publisher.one("last", 1, Nats_Expected_Last_Msg_Id="q")
    await publisher.one("last", 2, Nats_Batch_Commit="1")
    await lab.state("S")
    await lab.stream("OFF", "off")
    await publisher.one("off", 1, subject="off")
    await publisher.one("off", 1, subject="off", Nats_Batch_Commit="1")
    await lab.do(
        "STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "allow_atomic": True, "max_msg_size": 100}
    )
    await publisher.one("big", 1, "x" * 200)


@scenario()
async def expectations_in_batches_are_of_the_stream_before(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_atomic=True)
    publisher = await Publisher.of(lab)
    await lab.publish("s.a", "before")
    last, of_subject = "Nats_Expected_Last_Sequence", "Nats_Expected_Last_Subject_Sequence"
    trials: list[list[tuple[str, Headers]]] = [
        [("s.a", {last: "1"}), ("s.a", {})],
        [("s.a", {last: "1"}), ("s.a", {})],
        [("s.a", {}), ("s.a", {last: "4"})],
        [("s.a", {}), ("s.a", {last: "9"})],
        [("s.a", {of_subject: "3"}), ("s.b", {of_subject: "0"})],
        [("s.a", {of_subject: "3"}), ("s.b", {})],
        [("s.a", {}), ("s.a", {of_subject: "4"})],
        [("s.c", {of_subject: "0"}), ("s.c", {of_subject: "0"})],
        [("s.d", {of_subject: "0", of_subject + "_Subject": "s.e"}), ("s.e", {})],
        [
            ("s.d", {of_subject: "0", of_subject + "_Subject": "s.f"}),
            ("s.g", {of_subject: "0", of_subject + "_Subject": "s.f"}),
        ],
        [("s.d", {of_subject + "_Subject": "s.f"}), ("s.g", {})],
        [("s.d", {"Nats_Expected_Stream": "S"}), ("s.g", {"Nats_Expected_Stream": "T"})],
        [("s.d", {"Nats_Stream_Source": "x"}), ("s.g", {})],
    ]
    for number, trial in enumerate(trials):
        for place, (subject, headers) in enumerate(trial, 1):
            ends = {"Nats_Batch_Commit": "1"} if place == len(trial) else {}
            await publisher.one(f"b{number}", place, subject=subject, **headers, **ends)
    await lab.state("S", subjects_filter=">")


@scenario()
async def duplicates_rollups_and_lives_in_batches(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_atomic=True, allow_rollup_hdrs=True, allow_msg_ttl=True)
    publisher = await Publisher.of(lab)
    await lab.publish("s.a", "before", Nats_Msg_Id="known")
    trials: list[list[tuple[str, Headers]]] = [
        [("s.a", {"Nats_Msg_Id": "one"}), ("s.b", {"Nats_Msg_Id": "one"})],
        [("s.a", {"Nats_Msg_Id": "one"}), ("s.b", {"Nats_Msg_Id": "known"})],
        [("s.a", {"Nats_Msg_Id": "one"}), ("s.b", {"Nats_Msg_Id": "two"})],
        [("s.a", {"Nats_Msg_Id": "two"}), ("s.b", {})],
        [("s.a", {"Nats_Rollup": "sub"}), ("s.b", {"Nats_Rollup": "sub"})],
        [("s.a", {}), ("s.a", {"Nats_Rollup": "sub"})],
        [("s.a", {}), ("s.b", {"Nats_Rollup": "all"})],
        [("s.c", {"Nats_Rollup": "all"}), ("s.c", {}), ("s.d", {"Nats_Rollup": "sub"})],
        [("s.c", {}), ("s.c", {"Nats_Rollup": "none"})],
        [("s.c", {"Nats_TTL": "1h"}), ("s.d", {"Nats_TTL": "never"})],
        [("s.c", {"Nats_TTL": "x"}), ("s.d", {})],
    ]
    for number, trial in enumerate(trials):
        for place, (subject, headers) in enumerate(trial, 1):
            ends = {"Nats_Batch_Commit": "1"} if place == len(trial) else {}
            await publisher.one(f"b{number}", place, subject=subject, **headers, **ends)
        await lab.state("S", subjects_filter=">")
    await lab.do(
        "STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "allow_atomic": True, "allow_msg_ttl": True}
    )
    await publisher.one("off", 1, Nats_Rollup="sub")
    await publisher.one("off", 2, Nats_Batch_Commit="1")
    await lab.stream("T", "t", allow_atomic=True)
    await publisher.one("ttl", 1, subject="t", Nats_TTL="1h")
    await publisher.one("ttl", 2, subject="t", Nats_Batch_Commit="1")


@scenario()
async def limits_hold_for_a_batch_as_one(lab: Lab) -> None:
    limits: dict[str, dict[str, Any]] = {
        "S": {"max_msgs": 3},
        "N": {"max_msgs": 3, "discard": "new"},
        "B": {"max_bytes": 150, "discard": "new"},
        "P": {"max_msgs_per_subject": 2},
        "Q": {"max_msgs_per_subject": 2, "discard": "new", "discard_new_per_subject": True},
        "M": {"max_msgs_per_subject": 1, "storage": "memory"},
    }
    for name, config in limits.items():
        low = name.lower()
        await lab.stream(name, f"{low}.*", allow_atomic=True, **config)
        publisher = await Publisher.of(lab)
        await lab.publish(f"{low}.a", "before")
        await lab.publish(f"{low}.b", "before")
        await publisher.one(f"{low}1", 1, "x", subject=f"{low}.a")
        await publisher.one(f"{low}1", 2, "x", subject=f"{low}.b", Nats_Batch_Commit="1")
        await lab.state(name, subjects_filter=">")
        for number in range(1, 5):
            end = {"Nats_Batch_Commit": "1"} if number == 4 else {}
            await publisher.one(f"{low}2", number, "y" * 9, subject=f"{low}.a", **end)
        await lab.state(name, subjects_filter=">", deleted_details=True)


@scenario()
async def counters_and_schedules_take_batches(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_atomic=True, allow_msg_counter=True)
    publisher = await Publisher.of(lab)
    await lab.publish("s.a", Nats_Incr="5")
    await publisher.one("c", 1, Nats_Incr="1")
    await publisher.one("c", 2, Nats_Incr="-3")
    await publisher.one("c", 3, subject="s.b", Nats_Incr="7", Nats_Batch_Commit="1")
    await publisher.one("d", 1, Nats_Incr="1")
    await publisher.one("d", 2, Nats_Batch_Commit="1")
    await publisher.one("e", 1, "x", Nats_Incr="1")
    await publisher.one("e", 2, Nats_Incr="1", Nats_Batch_Commit="1")
    await publisher.one("f", 1, Nats_Incr="1")
    await publisher.one("f", 2, Nats_Batch_Commit="eob")
    await _show(lab, 5)
    await lab.stream("T", "t.*", allow_atomic=True, allow_msg_schedules=True)
    schedule = {"Nats_Schedule": "@at 2100-01-01T00:00:00Z", "Nats_Schedule_Target": "t.out"}
    await publisher.one("g", 1, "x", subject="t.a", **schedule)
    await publisher.one("g", 2, "y", subject="t.b", **schedule, Nats_Batch_Commit="1")
    await lab.api("STREAM.MSG.GET.T", {"seq": 1})
    await publisher.one("h", 1, "x", subject="t.c", **schedule)
    await publisher.one("h", 2, "y", subject="t.c", **schedule, Nats_Batch_Commit="1")
    await publisher.one("i", 1, "x", subject="t.x", Nats_Scheduler="t.a", Nats_Schedule_Next="purge")
    await publisher.one("i", 2, "y", subject="t.y", Nats_Batch_Commit="1")
    await lab.state("T", subjects_filter=">")


@scenario(
    config="""
    jetstream { limits { batch { max_inflight_per_stream: 2, max_inflight_total: 3, max_msgs: 3, timeout: "1s" } } }
    """
)
async def open_batches_are_limited(lab: Lab) -> None:
    for name in ("S", "T"):
        await lab.stream(name, f"{name.lower()}.*", allow_atomic=True, allow_batched=True)
    publisher = await Publisher.of(lab)
    for name in ("a", "b", "c"):
        await publisher.one(name, 1)
    for name in ("d", "e"):
        await publisher.one(name, 1, subject="t.a")
    await publisher.after(1.5)
    await publisher.one("a", 2)
    for number in range(1, 6):
        await publisher.one("large", number)
    for number in range(1, 4):
        await publisher.one("fits", number)
    await publisher.one("fits", 4, Nats_Batch_Commit="eob")
    await publisher.one("off", 1)
    await lab.do("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"]})
    await publisher.one("off", 2)
    await publisher.after(1.5)
    for name in ("a", "b", "c"):
        await publisher.fast(f"{name}.10.ok.1.0", subject="t.a")
    await publisher.after(1.5)
    await publisher.fast("a.10.ok.2.1", subject="t.a")


@scenario()
async def what_a_batch_may_not_be_beside(lab: Lab) -> None:
    batch = {"allow_atomic": True, "allow_batched": True}
    for config in (
        {"mirror": {"name": "O"}, "allow_atomic": True},
        {"mirror": {"name": "O"}, "allow_batched": True},
        {"subjects": ["s"], "allow_atomic": True, "persist_mode": "async"},
        {"subjects": ["s"], "allow_batched": True, "persist_mode": "async"},
        {"subjects": ["s"], **batch, "retention": "interest"},
    ):
        await lab.api("STREAM.CREATE.S", {"name": "S", **config})
        await lab.api("STREAM.DELETE.S")
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], **batch})
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"]})
    await lab.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "allow_atomic": True})
    publisher = await Publisher.of(lab)
    await publisher.one("a", 1, subject="s")
    await lab.do("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "sealed": True, "allow_atomic": True})
    await publisher.one("a", 2, subject="s")


@scenario()
async def consumers_and_copies_see_whole_batches(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_atomic=True, allow_batched=True)
    await lab.stream("I", "i.*", allow_atomic=True, retention="interest")
    await lab.consumer("I", "C", filter_subject="i.a")
    publisher = await Publisher.of(lab)
    for number, subject in enumerate(("i.a", "i.b", "i.a"), 1):
        end = {"Nats_Batch_Commit": "1"} if number == 3 else {}
        await publisher.one("i", number, subject=subject, **end)
    await lab.state("I", subjects_filter=">")
    await lab.consumer_state("I", "C")


@scenario()
async def fast_batches_are_acknowledged_as_they_go(lab: Lab) -> None:
    await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_batched": True})
    publisher = await Publisher.of(lab)
    await publisher.fast("one.2.fail.1.0", "a")
    for number in range(2, 6):
        await publisher.fast(f"one.2.fail.{number}.1", "b")
    await publisher.fast("one.2.fail.5.4")
    await publisher.fast("one.2.fail.6.2", "c")
    await publisher.fast("one.2.fail.7.1", "late")
    await publisher.fast("single.0.ok.1.2", "d")
    await publisher.fast("end.10.ok.1.0", "e")
    await publisher.fast("end.10.ok.2.1", "f")
    await publisher.fast("end.10.ok.3.3", "not stored")
    await publisher.fast("two.7.ok.1.0", Nats_Required_Api_Level="4")
    await publisher.fast("three.7.ok.1.0")
    for number in range(2, 12):
        await publisher.fast(f"three.7.ok.{number}.1")
    await publisher.fast("two.7.ok.2.3")
    await publisher.fast("three.7.ok.12.3")
    await _show(lab, 3)


@scenario()
async def gaps_in_fast_batches(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_batched=True)
    publisher = await Publisher.of(lab)
    for mode in ("ok", "fail"):
        for name, numbers in {
            "forward": (1, 2, 5, 6),
            "backward": (1, 2, 2, 3),
        }.items():
            batch = f"{name}-{mode}"
            for number in numbers:
                await publisher.fast(f"{batch}.3.{mode}.{number}.{int(number > 1)}")
            await publisher.fast(f"{batch}.3.{mode}.7.2")
        batch = f"ping-{mode}"
        await publisher.fast(f"{batch}.3.{mode}.1.0")
        await publisher.fast(f"{batch}.3.{mode}.1.4")
        await publisher.fast(f"{batch}.3.{mode}.5.4")
        await publisher.fast(f"{batch}.3.{mode}.6.2")
    await lab.state("S")


@scenario()
async def refusals_in_fast_batches(lab: Lab) -> None:
    await lab.stream("S", "s.*", allow_batched=True, max_msg_size=200)
    publisher = await Publisher.of(lab)
    await lab.publish("s.a", Nats_Msg_Id="known")
    for mode in ("ok", "fail"):
        await publisher.fast(f"first-{mode}.3.{mode}.1.0", Nats_Expected_Last_Sequence="99")
        await publisher.fast(f"first-{mode}.3.{mode}.2.1")
        await publisher.fast(f"first-{mode}.3.{mode}.3.2")
        await publisher.fast(f"later-{mode}.3.{mode}.1.0")
        await publisher.fast(f"later-{mode}.3.{mode}.2.1", Nats_Expected_Last_Sequence="99")
        await publisher.fast(f"later-{mode}.3.{mode}.3.1")
        await publisher.fast(f"later-{mode}.3.{mode}.4.2")
        await publisher.fast(f"commit-{mode}.3.{mode}.1.0")
        await publisher.fast(f"commit-{mode}.3.{mode}.2.2", Nats_Expected_Last_Sequence="99")
        await publisher.fast(f"twice-{mode}.3.{mode}.1.0", Nats_Msg_Id="known")
        await publisher.fast(f"twice-{mode}.3.{mode}.2.1", Nats_Msg_Id="known")
        await publisher.fast(f"twice-{mode}.3.{mode}.3.2")
        await publisher.fast(f"both-{mode}.2.{mode}.1.0", Nats_Msg_Id=f"new-{mode}")
        await publisher.fast(f"both-{mode}.2.{mode}.2.1", Nats_Msg_Id=f"new-{mode}")
        await publisher.fast(
            f"both-{mode}.2.{mode}.3.1", Nats_Msg_Id="known", Nats_Expected_Last_Sequence="99"
        )
        await publisher.fast(f"both-{mode}.2.{mode}.4.2", Nats_Msg_Id="known")
        await publisher.fast(f"big-{mode}.2.{mode}.1.0", "x" * 300)
        await publisher.fast(f"level-{mode}.2.{mode}.1.0", Nats_Required_Api_Level="99")
    for step in (
        "x.3.ok.2.1",
        "x.3.ok.2.0",
        "x.3.ok.1.1",
        "x.3.ok.1.3",
        "x.3.ok.1.5",
        "x.3.ok.0.0",
        "x.3.what.1.0",
        "x.3.ok.a.0",
        "3.ok.1.0",
        "x.3.ok.18446744073709551615.1",
        f"{'x' * 65}.3.ok.1.0",
        f"{'x' * 64}.3.ok.1.2",
        "flow1.-3.ok.1.0",
        "flow2.what.ok.1.0",
        "flow3.99999.ok.1.0",
    ):
        await publisher.fast(step)
    await lab.state("S")
    await lab.stream("OFF", "off")
    await publisher.fast("x.3.ok.1.0", subject="off")
