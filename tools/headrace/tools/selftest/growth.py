"""Campaigns about what a server holds: memory under a flood, with many subjects, and how fast a big store starts.

Each returns rows of (what, figure, pass) and raises nothing for a failure: the table says it.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace.tools.launch import Program, RunningServer, Settings
from headrace.tools.selftest.load import Publisher

PAYLOAD: Final = b"x" * 128
MEMORY_SUBJECTS_MAX: Final = 300 * 1024 * 1024
FLAT_GROWTH_MAX: Final = 64 * 1024 * 1024
RESTART_MAX_S: Final = 1.0
SAMPLE_MESSAGES: Final = 50_000
WINDOW: Final = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a campaign's result."""

    what: str
    figure: str
    passed: bool


def _unique(prefix: bytes) -> Iterator[bytes]:
    return (prefix + b"%d" % number for number in itertools.count())


def _cycled(prefix: bytes, count: int) -> Iterator[bytes]:
    return itertools.cycle([prefix + b"%d" % number for number in range(count)])


def flood(program: Program, seconds: float) -> list[Row]:
    """Publish without reply at full speed: memory must stay flat, and every message be stored."""
    with RunningServer(program, Settings(jetstream=True)) as server:
        server.start()
        publisher = Publisher(server.host, server.port)
        publisher.request("STREAM.CREATE.FLOOD", {"name": "FLOOD", "subjects": ["flood.*"]})
        subjects = _cycled(b"flood.", 100)
        samples: list[int] = []
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            publisher.publish(subjects, PAYLOAD, SAMPLE_MESSAGES)
            samples.append(server.memory_size())
        publisher.flush()
        stored: int = publisher.request("STREAM.INFO.FLOOD")["state"]["messages"]
        settled = samples[len(samples) // 4 :]
        growth = max(settled) - settled[0]
        publisher.close()
        return [
            Row("published without reply", f"{publisher.sent:,}", passed=True),
            Row("per second", f"{publisher.sent / seconds:,.0f}", passed=True),
            Row("stored", f"{stored:,}", passed=stored == publisher.sent),
            Row("memory at most", _mib(max(samples)), passed=True),
            Row("growth after the first quarter", _mib(growth), passed=growth <= FLAT_GROWTH_MAX),
        ]


def subjects(program: Program, count: int) -> list[Row]:
    """Store a message on each of `count` subjects: memory stays bounded and the counts are exact."""
    with RunningServer(program, Settings(jetstream=True)) as server:
        server.start()
        publisher = Publisher(server.host, server.port)
        publisher.request("STREAM.CREATE.MANY", {"name": "MANY", "subjects": ["many.>"]})
        began = time.monotonic()
        peak = 0
        names = _unique(b"many.customer.")
        for start in range(0, count, SAMPLE_MESSAGES):
            publisher.publish_acked(names, PAYLOAD, min(SAMPLE_MESSAGES, count - start), WINDOW)
            peak = max(peak, server.memory_size())
        rate = count / (time.monotonic() - began)
        state = publisher.request("STREAM.INFO.MANY")["state"]
        last = publisher.request("STREAM.MSG.GET.MANY", {"last_by_subj": f"many.customer.{count // 2}"})[
            "message"
        ]
        publisher.close()
        return [
            Row("subjects", f"{state.get('num_subjects', 0):,}", passed=state.get("num_subjects") == count),
            Row("messages", f"{state['messages']:,}", passed=state["messages"] == count),
            Row("acknowledged", f"{publisher.acked:,}", passed=publisher.acked == count),
            Row("per second", f"{rate:,.0f}", passed=True),
            Row("last of one subject", f"sequence {last['seq']:,}", passed=last["seq"] == count // 2 + 1),
            Row("memory at most", _mib(peak), passed=peak <= MEMORY_SUBJECTS_MAX),
        ]


def restart(program: Program, messages: int, subject_count: int) -> list[Row]:
    """Fill a store, kill -9 the server, and time the first exact answers after its start."""
    with RunningServer(program, Settings(jetstream=True)) as server:
        server.start()
        publisher = Publisher(server.host, server.port)
        publisher.request("STREAM.CREATE.BIG", {"name": "BIG", "subjects": ["big.*"]})
        publisher.publish_acked(_cycled(b"big.", subject_count), PAYLOAD, messages, WINDOW)
        publisher.close()
        server.kill()
        began = time.monotonic()
        server.start()
        listening_s = time.monotonic() - began
        asker = Publisher(server.host, server.port)
        state = asker.request("STREAM.INFO.BIG")["state"]
        info_s = time.monotonic() - began
        middle = messages // 2
        got = asker.request("STREAM.MSG.GET.BIG", {"seq": middle})["message"]
        get_s = time.monotonic() - began
        wanted_subject = f"big.{subject_count // 2}"
        last = asker.request("STREAM.MSG.GET.BIG", {"last_by_subj": wanted_subject})["message"]
        last_s = time.monotonic() - began
        asker.close()
        expected_last = _last_of(subject_count // 2, messages, subject_count)
        return [
            Row(
                "messages acknowledged, then kill -9",
                f"{publisher.acked:,}",
                passed=publisher.acked == messages,
            ),
            Row("listening", f"{listening_s:.3f} s", passed=True),
            Row(
                "exact stream info",
                f"{info_s:.3f} s, {state['messages']:,} on {state.get('num_subjects', 0):,} subjects",
                passed=info_s <= RESTART_MAX_S
                and state["messages"] == messages
                and state["last_seq"] == messages
                and state.get("num_subjects") == min(subject_count, messages),
            ),
            Row(
                "get by sequence",
                f"{get_s:.3f} s, {got['subject']}",
                passed=get_s <= RESTART_MAX_S and got["subject"] == f"big.{(middle - 1) % subject_count}",
            ),
            Row(
                "last by subject",
                f"{last_s:.3f} s, sequence {last['seq']:,}",
                passed=last_s <= RESTART_MAX_S and last["seq"] == expected_last,
            ),
        ]


def _last_of(index: int, messages: int, subject_count: int) -> int:
    """Give the last sequence on subject number `index` when subjects take turns from sequence 1 on."""
    rounds = (messages - 1 - index) // subject_count
    return rounds * subject_count + index + 1


def _mib(size: int) -> str:
    return f"{size / (1024 * 1024):.0f} MiB"
