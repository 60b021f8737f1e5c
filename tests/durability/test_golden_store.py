"""Stores that an earlier version wrote are read as they were meant."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from durability.golden_store import GOLDEN, KINDS, copied, described, opened
from headrace.storage.check import check_store
from headrace.storage.findings import Severity
from headrace.storage.framing import FILE_HEADER_SIZE, Found, parse_file_header, walk
from headrace.storage.interface import StoreUnusable
from headrace.storage.reader import StoreReader
from headrace.storage.record import FLAG_ATOMIC, RecordType

with open(os.path.join(GOLDEN, "expected.json"), encoding="utf-8") as _file:
    EXPECTED: dict[str, Any] = json.load(_file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_store_opens_and_holds_what_it_held(kind: str, tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/{kind}", str(tmp_path / "store"))
    for _ in range(2):
        store, scheduler = opened(path)
        found = {log.config["name"]: json.loads(json.dumps(described(log))) for log in store.logs()}
        assert found == EXPECTED
        store.commit()
        scheduler.settle()
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_store_is_read_offline_the_same_and_not_touched(kind: str) -> None:
    before = contents(f"{GOLDEN}/{kind}")
    for stream in StoreReader(f"{GOLDEN}/{kind}").streams():
        expected = EXPECTED[stream.config["name"]]
        head = stream.head()
        assert [head.messages, head.size, head.first_sequence, head.first_time_ns] == expected["head"][:4]
        assert [head.last_sequence, head.last_time_ns, head.subject_count] == expected["head"][4:7]
        found = [
            [part.decode() if isinstance(part, bytes) else part for part in each.view]
            for each in stream.messages()
        ]
        assert found == expected["messages"]
        assert set(stream.consumers) == set(expected["consumers"])
        assert [[lost.first, lost.last] for lost in stream.lost] == expected["head"][8]
        stream.close()
    assert contents(f"{GOLDEN}/{kind}") == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_checker_finds_in_a_golden_store_only_what_is_listed(kind: str) -> None:
    report = check_store(f"{GOLDEN}/{kind}")
    assert {(each.name, each.severity, each.first) for each in report.findings} == {
        ("lost", Severity.LOSS, 64),
        ("record-damaged", Severity.LOSS, 64),
    }
    assert not report.is_sound


NEWER_TYPES = {
    RecordType.ERASED,
    RecordType.REMOVALS,
    RecordType.ENTRY,
    RecordType.SUBJECTS,
    RecordType.POSTINGS,
    RecordType.SIZES,
}
"""Records that came after the stores were written; their own tests write them."""


def test_the_golden_stores_have_every_type_of_record_and_every_flag() -> None:
    types: set[int] = set()
    flags = 0
    for content in contents(GOLDEN).values():
        if not content.startswith(b"HEADRACE"):
            continue
        salt = parse_file_header(content[:FILE_HEADER_SIZE], "").salt
        for found in walk(lambda size, offset, content=content: content[offset : offset + size], salt):  # type: ignore[misc]
            if isinstance(found, Found):
                types.add(found.header.type)
                flags |= found.header.flags
    assert types == set(RecordType) - NEWER_TYPES
    assert flags == 0xFF & ~FLAG_ATOMIC


def test_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "store"))
    (tmp_path / "store" / "format").write_text("headrace store 2\n")
    with pytest.raises(
        StoreUnusable, match=r"^the store .* has format 2; .* reads up to 1: use the version"
    ) as refused:
        opened(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(StoreUnusable, match="has format 2"):
        StoreReader(path)


def contents(path: str) -> dict[str, bytes]:
    """Give every file under a folder."""
    return {str(each): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()}
