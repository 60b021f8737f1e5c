"""What can be got out of damaged golden stores: everything but what was hit, and that is listed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from durability.golden_store import GOLDEN, KINDS, copied, described, opened
from headrace.storage.check import check_store
from headrace.storage.findings import KINDS as FINDING_KINDS
from headrace.storage.interface import StoreLocked, StoreUnusable
from headrace.storage.repair import repair_store
from headrace.storage.salvage import SalvagedStream, salvage_streams
from headrace.storage.salvage_store import SalvageStore
from headrace.tools import cli

with open(os.path.join(GOLDEN, "expected.json"), encoding="utf-8") as _file:
    EXPECTED: dict[str, Any] = json.load(_file)


def salvaged(path: str) -> dict[str, SalvagedStream]:
    return {each.config.get("name", "?"): each for each in salvage_streams(path)}


def messages(stream: SalvagedStream) -> dict[int, list[Any]]:
    return {
        saved.view.sequence: [
            each.decode("latin-1") if isinstance(each, bytes) else each for each in saved.view
        ]
        for saved in stream.messages()
    }


def stored(name: str) -> dict[int, list[Any]]:
    return {message[0]: message for message in EXPECTED[name]["messages"]}


def files_of(path: str, test: Callable[[str], bool]) -> list[Path]:
    return [each for each in sorted(Path(path).rglob("*")) if each.is_file() and test(each.name)]


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_whole_store_is_salvaged(kind: str, tmp_path: Path) -> None:
    found = salvaged(copied(f"{GOLDEN}/{kind}", str(tmp_path / "s")))
    assert found.keys() == EXPECTED.keys()
    for name, stream in found.items():
        assert messages(stream) == stored(name)
        assert stream.config == EXPECTED[name]["config"]
        assert sorted(stream.consumers) == sorted(EXPECTED[name]["consumers"])
    assert {each.first for each in found["GOLDEN"].unread if each.first} == {64}


@pytest.mark.parametrize("kind", KINDS)
def test_with_only_segments_left_every_message_is_salvaged(kind: str, tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/{kind}", str(tmp_path / "s"))
    folders = {stream.config["name"]: stream.folder for stream in salvage_streams(path)}
    for each in files_of(path, lambda name: not name.startswith("0")):
        each.unlink()
    for name, folder in folders.items():
        (stream,) = (each for each in salvage_streams(path) if each.folder == folder)
        assert not stream.is_state_known
        found = messages(stream)
        assert stored(name).items() <= found.items()
        # What later messages say that they removed stays removed.
        assert all(sequence >= EXPECTED[name]["head"][2] or not stored(name) for sequence in found)


def test_a_lost_name_and_lost_headers_do_not_hide_a_segment(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    for number, each in enumerate(files_of(path, lambda name: len(name) == 37)):
        content = bytearray(each.read_bytes())
        content[:128] = bytes(128)
        each.unlink()
        (each.parent / f"found-{number}").write_bytes(content)
    for each in files_of(path, lambda name: name.startswith("state-")):
        content = bytearray(each.read_bytes())
        content[:128] = b"\xff" * 128
        each.write_bytes(content)
    found = salvaged(path)
    assert found.keys() == EXPECTED.keys()
    for name, stream in found.items():
        assert stored(name).items() <= messages(stream).items()


def test_a_missing_format_file_and_one_folder_alone_are_enough(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    (tmp_path / "s" / "format").unlink()
    assert salvaged(path).keys() == EXPECTED.keys()
    folder = salvaged(path)["GOLDEN"].folder
    alone = tmp_path / os.path.basename(folder)
    shutil.move(folder, alone)
    (stream,) = salvage_streams(str(alone))
    assert messages(stream) == stored("GOLDEN")
    # Under another name its state log is not taken for its own; what that says was removed stays removed all the same.
    shutil.move(alone, tmp_path / "renamed")
    (stream,) = salvage_streams(str(tmp_path / "renamed"))
    assert not stream.is_state_known
    assert stream.config == EXPECTED["GOLDEN"]["config"]
    assert stored("GOLDEN").items() <= messages(stream).items()
    with pytest.raises(StoreUnusable):
        list(salvage_streams(str(tmp_path)))


@pytest.mark.parametrize("filling", [bytes(512), b"\xff" * 512])
def test_only_what_was_hit_is_missing_and_it_is_listed(filling: bytes, tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    folder = Path(salvaged(path)["GOLDEN"].folder)
    hit = min((folder / "seg").iterdir())
    content = bytearray(hit.read_bytes())
    content[1024:1536] = filling
    hit.write_bytes(content)
    stream = salvaged(path)["GOLDEN"]
    found = messages(stream)
    expected = stored("GOLDEN")
    missing = expected.keys() - found.keys()
    assert missing
    assert found.items() <= expected.items()
    for sequence in missing:
        assert any(each.first <= sequence <= each.last for each in stream.unread)


def test_a_new_store_holds_what_was_salvaged_and_serves_it(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/killed", str(tmp_path / "s"))
    target = SalvageStore(str(tmp_path / "new"))
    for stream in salvage_streams(path):
        assert target.take(stream, stream.config) == len(EXPECTED[stream.config["name"]]["messages"])
    target.close()
    assert check_store(str(tmp_path / "new")).is_sound
    store, _ = opened(str(tmp_path / "new"))
    found = {log.config["name"]: json.loads(json.dumps(described(log))) for log in store.logs()}
    for name, expected in EXPECTED.items():
        for key in ("config", "created_ns", "messages", "consumers"):
            assert found[name][key] == expected[key]
    store.close()
    with pytest.raises(StoreUnusable):
        SalvageStore(str(tmp_path / "new"))


def test_the_command_writes_lines_and_a_list_of_what_is_not_there(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    # JetStream's own configurations have an account; the golden ones are of storage alone.
    done = CliRunner().invoke(cli.app, ["store", "salvage", path, str(tmp_path / "out"), "--lines"])
    assert done.exit_code == 1, done.output
    report = json.loads((tmp_path / "out" / "salvage.json").read_text())
    counts = sorted(each["messages"] for each in report["streams"])
    assert counts == sorted(len(each["messages"]) for each in EXPECTED.values())
    texts = [(tmp_path / "out" / each["file"]).read_text() for each in report["streams"]]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert {line["sequence"] for line in lines} >= stored("GOLDEN").keys()
    again = CliRunner().invoke(cli.app, ["store", "salvage", path, str(tmp_path / "out")])
    assert again.exit_code == 1
    assert "not empty" in str(again.exception)


def test_repair_makes_derived_files_anew_and_touches_nothing_else(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    sidecars = files_of(path, lambda name: name.endswith(".side"))
    others = {each: each.read_bytes() for each in files_of(path, lambda name: not name.endswith(".side"))}
    content = bytearray(sidecars[0].read_bytes())
    content[200] ^= 1
    sidecars[0].write_bytes(content)
    sidecars[1].unlink()
    names = {each.name for each in check_store(path).findings}
    assert "sidecar-damaged" in names
    os.makedirs(f"{path}/index")
    (Path(path) / "index" / "data.mdb").write_bytes(b"old")
    repairs = repair_store(path)
    assert {os.path.basename(each.file) for each in repairs} >= {"index", sidecars[0].name, sidecars[1].name}
    assert not os.path.exists(f"{path}/index")
    assert "sidecar-damaged" not in {each.name for each in check_store(path).findings}
    assert {each: each.read_bytes() for each in others} == others
    assert repair_store(path) == []


def test_repair_refuses_while_a_server_runs(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    store, _ = opened(path)
    with pytest.raises(StoreLocked):
        repair_store(path)
    store.close()


def test_a_check_that_cannot_look_ends_with_its_own_status(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))

    def status() -> int:
        return CliRunner().invoke(cli.app, ["store", "check", path, "--json"]).exit_code

    assert status() == 1
    (tmp_path / "s" / "format").write_text("headrace store 2\n")
    assert status() == 2
    shutil.rmtree(path)
    assert status() == 2


def test_a_check_says_what_each_finding_is_and_what_to_do(tmp_path: Path) -> None:
    path = copied(f"{GOLDEN}/clean", str(tmp_path / "s"))
    done = CliRunner().invoke(cli.app, ["store", "check", path, "--json"])
    (lost, damaged) = sorted(json.loads(done.output)["findings"], key=lambda each: each["name"])
    assert (lost["name"], lost["first"], lost["certain"]) == ("lost", 64, True)
    assert (damaged["name"], damaged["offset"] > 0, damaged["file"][:1]) == ("record-damaged", True, "0")
    assert "salvage" in lost["advice"]


def test_the_document_lists_every_kind_of_finding() -> None:
    text = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text()
    for name, kind in FINDING_KINDS.items():
        assert f"| `{name}` | {kind.severity.value} | {kind.holds} | {kind.advice} |" in text
