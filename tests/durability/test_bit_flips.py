"""Every bit of one record of each type: the store opens, only the record hit is lost and it is listed, all others are
delivered, and none is changed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from durability.golden_store import GOLDEN, KINDS, described, opened
from headrace.core.base.clock import NS_PER_S
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.framing import FILE_HEADER_SIZE, Found, parse_file_header, walk
from headrace.storage.record import RecordType

with open(os.path.join(GOLDEN, "expected.json"), encoding="utf-8") as _file:
    EXPECTED: dict[str, Any] = json.load(_file)


class Target(NamedTuple):
    """Bytes of a golden store; `sequence` of the message that they hold, 0 for none."""

    kind: str
    name: str
    path: str
    offset: int
    size: int
    stream: str
    sequence: int


def golden_files(kind: str) -> dict[str, bytes]:
    root = Path(GOLDEN) / kind
    return {
        f"/{each.relative_to(root)}": each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file()
    }


FILES = {kind: golden_files(kind) for kind in KINDS}


def on_disk(kind: str) -> FaultyFiles:
    """Put a golden store on a disk in memory."""
    files = FaultyFiles(1)
    made: set[str] = {""}
    for path in ("/store/format", "/store/streams/x", *(f"/store{each}" for each in FILES[kind])):
        folder = os.path.dirname(path)
        missing: list[str] = []
        while folder.rstrip("/") not in made:
            missing.append(folder)
            made.add(folder)
            folder = os.path.dirname(folder)
        for each in reversed(missing):
            files.make_folder(each)
    for path, content in FILES[kind].items():
        handle = files.create(f"/store{path}")
        files.pwrite(handle, content, 0)
        files.sync(handle)
        files.close(handle)
    return files


def live_sequences() -> dict[str, set[int]]:
    return {name: {message[0] for message in each["messages"]} for name, each in EXPECTED.items()}


def targets() -> Iterator[Target]:
    """Give the last record of each type, and of each combination of flags, in each store; and file headers."""
    live = live_sequences()
    for kind in KINDS:
        chosen: dict[str, Target] = {}
        for path, content in FILES[kind].items():
            if not content.startswith(b"HEADRACE"):
                continue
            header = parse_file_header(content[:FILE_HEADER_SIZE], path)
            stream = f"{header.stream_id:016x}"
            chosen[f"header-of-{header.kind.name.lower()}"] = Target(
                kind, "", path, 0, FILE_HEADER_SIZE, stream, 0
            )
            for found in walk(
                lambda size, offset, content=content: content[offset : offset + size], header.salt
            ):  # type: ignore[misc]
                if not isinstance(found, Found):
                    continue
                record = found.header
                name = RecordType(record.type).name.lower()
                sequence = 0
                if record.type == RecordType.MESSAGE:
                    name += f"-{record.flags:02x}"
                    sequence = (
                        record.sequence if any(record.sequence in each for each in live.values()) else 0
                    )
                chosen[name] = Target(kind, "", path, found.offset, record.end, stream, sequence)
        for name, target in chosen.items():
            yield target._replace(name=f"{kind}-{name}")


TARGETS = list(targets())


SHORT = 96
"""Records up to this size are flipped bit by bit each time; of longer ones every fifth bit, and all in the campaign."""


@pytest.mark.parametrize("target", TARGETS, ids=[each.name for each in TARGETS])
def test_a_flipped_bit_costs_at_most_the_record_that_it_hits(target: Target) -> None:
    flip_bits(target, step=1 if target.size <= SHORT else 5)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", TARGETS, ids=[each.name for each in TARGETS])
def test_each_flipped_bit_costs_at_most_the_record_that_it_hits(target: Target) -> None:
    flip_bits(target, step=1)


def flip_bits(target: Target, *, step: int) -> None:
    """Flip every `step`-th bit of the target, one at a time, and hold what is found against what was there."""
    content = FILES[target.kind][target.path]
    for bit in range(0, target.size * 8, step):
        files = on_disk(target.kind)
        place = target.offset + bit // 8
        handle = files.open(f"/store{target.path}", writable=True)
        files.pwrite(handle, bytes([content[place] ^ 1 << bit % 8]), place)
        files.close(handle)
        store, scheduler = opened("/store", files)
        assert not store.unreadable
        found = {log.config["name"]: json.loads(json.dumps(described(log))) for log in store.logs()}
        hit = hold_against_expected(found, target, bit)
        if bit % 8:
            continue
        check_store("/store", files=files)
        # What was found is still found after the next start, and the stream goes on behind everything.
        store.commit()
        scheduler.advance(NS_PER_S)
        store.close()
        again, _ = opened("/store", files)
        assert {
            log.config["name"]: json.loads(json.dumps(described(log))) for log in again.logs()
        }.keys() == found.keys()
        assert (
            hold_against_expected(
                {log.config["name"]: json.loads(json.dumps(described(log))) for log in again.logs()},
                target,
                bit,
            )
            == hit
        )
        again.close()


def hold_against_expected(found: dict[str, Any], target: Target, bit: int) -> bool:
    """Make sure that nothing but the target is missing; tell whether it is."""
    assert found.keys() == EXPECTED.keys()
    is_hit = False
    for name, expected in EXPECTED.items():
        log = found[name]
        messages = {message[0]: message for message in log["messages"]}
        for message in expected["messages"]:
            sequence = message[0]
            if sequence == target.sequence and sequence not in messages:
                is_hit = True
                lost = log["head"][8]
                assert any(first <= sequence <= last for first, last in lost), (
                    f"bit {bit}: {sequence} is not listed"
                )
                continue
            assert messages.pop(sequence, None) == message, f"bit {bit}: {sequence} is missing or changed"
        # A removal may be lost with the record that it stood in; nothing else comes back, and nothing is invented.
        assert log["head"][4] >= expected["head"][4], f"bit {bit}: the last sequence went back"
    return is_hit
