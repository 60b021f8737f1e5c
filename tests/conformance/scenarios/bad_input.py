"""Requests that make no sense: numbers out of range, names that cannot be, JSON that is none.

What is noted is the error, or what became of the value where it was accepted. All the while another client's PING must
be answered at once, and a stream that is not meant must stay as it is.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from headrace.tools.oracle import Lab, RawClient, scenario

NUMBERS: Final = (-1, 0, 2**31, 2**63, 1.5, "7")
PONG_WITHIN_S: Final = 2.0
STREAM_FIELDS: Final = (
    "max_consumers",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "max_msg_size",
    "num_replicas",
    "duplicate_window",
    "first_seq",
    "subject_delete_marker_ttl",
)
CONSUMER_FIELDS: Final = (
    "ack_wait",
    "max_deliver",
    "max_waiting",
    "max_ack_pending",
    "max_batch",
    "max_expires",
    "max_bytes",
    "inactive_threshold",
    "num_replicas",
    "opt_start_seq",
    "priority_timeout",
)
NAMES: Final = (
    "a.b",
    "*",
    ">",
    "a*",
    "a>",
    "a/b",
    "a\\b",
    "a b",
    " ",
    "",
    "a\tb",
    "a\r\nb",
    "a\x00b",
    "\x7f",
    "n" * 300,
)


@contextlib.asynccontextmanager
async def undisturbed(lab: Lab) -> AsyncIterator[RawClient]:
    """Give a client to send bad things; others must not notice, and the stream `GOOD` must not change."""
    await lab.stream("GOOD", "good")
    await lab.store("good", "1")
    before = await lab.ask("STREAM.INFO.GOOD")
    other = await lab.raw()
    slowest_s = 0.0

    async def ping() -> None:
        nonlocal slowest_s
        while True:
            started_s = time.monotonic()
            await other.until_pong()
            slowest_s = max(slowest_s, time.monotonic() - started_s)
            await asyncio.sleep(0.02)

    pinging = asyncio.create_task(ping())
    yield await lab.raw()
    pinging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pinging
    assert slowest_s < PONG_WITHIN_S, f"another client waited {slowest_s:.1f} s for its PONG"
    after = await lab.ask("STREAM.INFO.GOOD")
    assert (after["config"], after["state"]) == (before["config"], before["state"]), (
        "another stream has changed"
    )
    names = await lab.ask("STREAM.NAMES")
    lab.note("streams", names["streams"])


async def outcome(client: RawClient, subject: str, body: bytes | str | dict[str, Any]) -> Any:
    """Give the error that a request gets, or its answer; `silence` where there is none."""
    payload = json.dumps(body) if isinstance(body, dict) else body
    try:
        frame = await client.request(subject, payload, timeout_s=0.7)
    except TimeoutError:
        return "silence"
    if frame[0] == "MSG" and frame[4].startswith("{"):
        answer = json.loads(frame[4])
        error = answer.get("error")
        return [error["err_code"], error["description"]] if error else answer
    return frame


@scenario()
async def numbers_of_streams_out_of_range(lab: Lab) -> None:
    async with undisturbed(lab) as client:
        for field in STREAM_FIELDS:
            for number in NUMBERS:
                config = {"name": "X", "subjects": ["x"], "max_age": 0, field: number}
                answer = await outcome(client, "$JS.API.STREAM.CREATE.X", config)
                if isinstance(answer, dict):
                    answer = ["accepted", answer["config"].get(field)]
                    await lab.do("STREAM.DELETE.X")
                lab.note(f"{field}: {number!r}", answer)


@scenario()
async def numbers_of_consumers_out_of_range(lab: Lab) -> None:
    async with undisturbed(lab) as client:
        await lab.stream("X", "x")
        for field in CONSUMER_FIELDS:
            for number in NUMBERS:
                config = {"name": "C", "durable_name": "C", "ack_policy": "explicit", field: number}
                body = {"stream_name": "X", "config": config}
                answer = await outcome(client, "$JS.API.CONSUMER.CREATE.X.C", body)
                if isinstance(answer, dict):
                    answer = ["accepted", answer["config"].get(field)]
                    await lab.do("CONSUMER.DELETE.X.C")
                lab.note(f"{field}: {number!r}", answer)


@scenario()
async def numbers_of_requests_out_of_range(lab: Lab) -> None:
    async with undisturbed(lab) as client:
        await lab.stream("X", "x", allow_direct=True)
        await lab.store("x", "1")
        await lab.consumer("X", "C")
        for subject, others, field in (
            ("STREAM.NAMES", {}, "offset"),
            ("STREAM.LIST", {}, "offset"),
            ("STREAM.INFO.X", {"subjects_filter": ">"}, "offset"),
            ("CONSUMER.NAMES.X", {}, "offset"),
            ("CONSUMER.LIST.X", {}, "offset"),
            ("STREAM.MSG.GET.X", {}, "seq"),
            ("STREAM.MSG.GET.X", {"seq": 1}, "batch"),
            ("STREAM.MSG.GET.X", {"seq": 1}, "max_bytes"),
            ("STREAM.MSG.DELETE.X", {"no_erase": True}, "seq"),
            ("STREAM.PURGE.X", {"filter": "none"}, "keep"),
            ("STREAM.PURGE.X", {"filter": "none"}, "seq"),
            ("DIRECT.GET.X", {}, "seq"),
        ):
            for number in NUMBERS:
                answer = await outcome(client, f"$JS.API.{subject}", {**others, field: number})
                if isinstance(answer, dict):
                    answer = ["accepted", answer.get(field), answer.get("total"), answer.get("purged")]
                lab.note(f"{subject} {field}: {number!r}", answer)


@scenario()
async def numbers_of_pulls_out_of_range(lab: Lab) -> None:
    async with undisturbed(lab) as client:
        await lab.stream("X", "x")
        await lab.consumer("X", "C", max_deliver=-1)
        for field in ("batch", "expires", "max_bytes", "idle_heartbeat", "priority", "min_pending"):
            for number in NUMBERS:
                request = {"batch": 1, "no_wait": True, "expires": 0, field: number}
                if field == "expires" and number == 2**31:
                    continue  # two seconds are fine
                answer = await outcome(client, "$JS.API.CONSUMER.MSG.NEXT.X.C", request)
                lab.note(f"{field}: {number!r}", answer[4] if answer[0] == "HMSG" else answer)


@scenario()
async def names_that_cannot_be(lab: Lab) -> None:
    async with undisturbed(lab) as client:
        await lab.stream("X", "x")
        for name in NAMES:
            stream = {"name": name, "subjects": ["y"]}
            lab.note(f"stream {name[:20]!r}", await outcome(client, "$JS.API.STREAM.CREATE.Y", stream))
            for key in ("durable_name", "name"):
                body = {"stream_name": "X", "config": {key: name, "ack_policy": "explicit"}}
                if name or key == "durable_name":
                    answer = await outcome(client, "$JS.API.CONSUMER.CREATE.X", body)
                    shown = ["accepted", key] if isinstance(answer, dict) else answer
                    lab.note(f"consumer's {key} {name[:20]!r}", shown)
            filtered = {"stream_name": "X", "config": {"filter_subject": name, "ack_policy": "explicit"}}
            answer = await outcome(client, "$JS.API.CONSUMER.CREATE.X", filtered)
            shown = "accepted" if isinstance(answer, dict) else answer
            lab.note(f"filter {name[:20]!r}", shown)
        for token in ("a/b", "a\\b", "\x7f", "n" * 300):
            body = {"name": token, "subjects": ["y"]}
            lab.note(
                f"subject and stream {token[:20]!r}",
                await outcome(client, f"$JS.API.STREAM.CREATE.{token}", body),
            )
            for request in ("INFO", "PURGE", "DELETE", "MSG.GET"):
                answer = await outcome(client, f"$JS.API.STREAM.{request}.{token}", "")
                lab.note(f"STREAM.{request} {token[:20]!r}", answer)


@scenario(config="max_payload: 16MB")
async def bodies_that_are_no_request(lab: Lab) -> None:
    deep = b"[" * 100_000
    bodies = (
        ("deep lists", deep),
        ("deep lists, closed", deep + b"]" * 100_000),
        ("deep maps", b'{"metadata":' * 100_000),
        ("a deep unknown field", b'{"name":"X","nobody":' + deep + b"]" * 100_000 + b"}"),
        ("10 MB of a description", b'{"name":"X","description":"' + b"d" * 10_000_000 + b'"}'),
        ("truncated", b'{"name":"X","subjects":["x"'),
        ("a truncated text", b'{"name":"X'),
        ("half a surrogate", b'{"name":"\\ud800"}'),
        ("a list", b"[]"),
        ("a text", b'"X"'),
        ("a number", b"1"),
        ("true", b"true"),
        ("a name that is a number", b'{"name":1}'),
        ("subjects that are a text", b'{"name":"X","subjects":"x"}'),
        ("a flag that is a text", b'{"name":"X","subjects":["x"],"allow_direct":"yes"}'),
        ("a flag that is a number", b'{"name":"X","subjects":["x"],"allow_direct":1}'),
        ("metadata that are a list", b'{"name":"X","subjects":["x"],"metadata":[]}'),
        ("an unknown retention", b'{"name":"X","subjects":["x"],"retention":"for ever"}'),
    )
    async with undisturbed(lab) as client:
        for what, body in bodies:
            answer = await outcome(client, "$JS.API.STREAM.CREATE.X", body)
            lab.note(what, [answer[0], answer[1][:40]] if isinstance(answer, list) else answer)
        twice = b'{"name":"Y","name":"X","subjects":["y"],"subjects":["x"],"max_msgs":1,"max_msgs":2}'
        answer = await outcome(client, "$JS.API.STREAM.CREATE.X", twice)
        lab.note("the same keys twice", answer["config"] if isinstance(answer, dict) else answer)
