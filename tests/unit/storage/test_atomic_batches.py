"""Atomic batches on disk: after a crash there is all of one, or nothing."""

from typing import Any

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.check import check_store
from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.storage.findings import Severity
from headrace.storage.interface import Effect, Entry, StreamLog
from headrace.storage.reader import StoreReader, StreamReader
from headrace.storage.record import (
    Atomic,
    encode_message,
    message_size,
    parse_extras,
    parse_header,
    parse_message,
)
from headrace.storage.salvage import salvage_streams
from headrace.storage.survey import PART
from unit.storage.conftest import Disk

COUNT = 5


def test_a_record_says_its_place_in_its_batch() -> None:
    entry = Entry(b"s", b"NATS/1.0\r\nNats-Msg-Id: i\r\n\r\n", b"x", 1, b"i", 3)
    data = encode_message(entry, guard=9, sequence=12, atomic=Atomic(11, 3, 1))
    header = parse_header(data, 0, 9)
    assert parse_extras(header, data[44:]).atomic == Atomic(11, 3, 1)
    assert parse_extras(header, data[44:]).message_id == b"i"
    assert parse_message(header, data[44:]).payload == b"x"
    assert message_size(entry, is_atomic=True) == len(data)
    assert Atomic(11, 3, 1).last == 13


class Lab:
    """A stream that took five messages, and then an atomic batch of five while the power went."""

    def __init__(self, seed: int, *, is_journaled: bool) -> None:
        self.disk = Disk()
        self.disk.files = FaultyFiles(seed)
        self.disk.open()
        self.log = self.disk.log()
        self.other = self.disk.log("OTHER") if is_journaled else None
        self.log.append([self.disk.entry(b"before", message_id=b"old") for _ in range(COUNT)])
        assert self.disk.commit() is None

    def publish(self, size: int = 300) -> bool:
        """Append the batch, which takes the place of all messages before; tell whether that was confirmed."""
        chance = Chance(7)
        entries = [
            self.disk.entry(b"in", chance.base62(size), message_id=b"id-%d" % place, headers=b"id-%d" % place)
            for place in range(COUNT)
        ]
        entries[0] = entries[0]._replace(effect=Effect(all_before=True))
        try:
            self.log.append(entries, is_atomic=True)
            if self.other is not None:
                self.other.append([self.disk.entry(b"o")])
            return self.disk.commit() is None
        except PowerLost:
            return False

    def come_back(self) -> StreamLog:
        self.disk.scheduler = VirtualScheduler(self.disk.scheduler.now_ns())
        (self.log,) = (each for each in self.disk.open().logs() if each.config["name"] == "S")
        return self.log

    def check(self) -> list[bytes]:
        """Start twice on the disk as it is; the batch is whole or not there, and its ids are known or not."""
        log = self.come_back()
        found = seen(log)
        assert found in WHOLE
        ids = [log.find_message_id(b"id-%d" % place, 0) is not None for place in range(COUNT)]
        assert ids == [found == WHOLE[0]] * COUNT
        log.append([self.disk.entry(b"after")])
        assert self.disk.commit() is None
        self.disk.files = self.disk.files.power_cut()
        assert seen(self.come_back()) == [*found, b"after"]
        self.disk.store.close()
        findings = check_store("/store", files=self.disk.files).findings
        assert [each for each in findings if each.severity is Severity.MISMATCH] == []
        return found


def seen(log: StreamLog) -> list[bytes]:
    return [view.subject for view in log.scan(1, 1 << 40, None, messages_max=99, size_max=1 << 30).views]


WHOLE = ([b"in"] * COUNT, [b"before"] * COUNT)


@pytest.mark.parametrize(("is_journaled", "size", "changes"), [(False, 300, 3), (True, 900, 30)])
def test_a_power_cut_leaves_all_of_a_batch_or_nothing(is_journaled: bool, size: int, changes: int) -> None:
    for seed in range(4 if is_journaled else 30):
        for nth in range(1, changes + 1):
            lab = Lab(seed, is_journaled=is_journaled)
            lab.disk.files.cut_at(nth)
            is_confirmed = lab.publish(size)
            lab.disk.files = lab.disk.files.power_cut()
            found = lab.check()
            assert found == WHOLE[0] or not is_confirmed


@pytest.mark.parametrize("seed", range(60))
def test_a_hole_in_what_is_not_settled_leaves_all_of_a_batch_or_nothing(seed: int) -> None:
    lab = Lab(seed, is_journaled=False)
    assert lab.publish(300 if seed % 2 else 900)
    lab.disk.files = holed(lab.disk.files, Chance(seed))
    found = lab.check()
    parts = [place for place in read(lab.disk.files).damage if place.what == PART]
    assert not parts or found == WHOLE[1]


def read(files: FaultyFiles) -> StreamReader:
    return next(each for each in StoreReader("/store", files=files).streams() if each.config["name"] == "S")


def torn(lab: Lab) -> FaultyFiles:
    """Give the disk on which one record in the middle of an unsettled batch is gone."""
    assert lab.publish()
    return torn_in_place(lab.disk.files)


def test_a_part_of_a_batch_is_shown_by_no_reader_and_got_out_by_no_salvage() -> None:
    files = torn(Lab(1, is_journaled=False))
    assert [each.view.subject for each in read(files).messages(with_unsettled=True)] == WHOLE[1]
    (stream,) = salvage_streams("/store", files=files)
    assert [each.view.subject for each in stream.messages()] == WHOLE[1]


def test_salvage_from_segments_alone_gives_no_part_of_a_batch() -> None:
    image = torn(Lab(1, is_journaled=False)).image()
    files = FaultyFiles.restored({path: each for path, each in image.items() if "/state-" not in path})
    (stream,) = salvage_streams("/store", files=files)
    assert [each.view.subject for each in stream.messages()] == WHOLE[1]
    assert {each.first for each in stream.unread if each.what == PART} == {6, 7, 9, 10}


def test_damage_to_a_batch_that_was_durable_costs_one_message() -> None:
    lab = Lab(1, is_journaled=False)
    assert lab.publish()
    lab.log.append([lab.disk.entry(b"after")])
    assert lab.disk.commit() is None
    lab.disk.files = torn_in_place(lab.disk.files)
    assert seen(lab.come_back()) == [b"in"] * (COUNT - 1) + [b"after"]


def torn_in_place(files: FaultyFiles) -> FaultyFiles:
    image = files.image()
    for path, content in image.items():
        place = content.find(b"id-2")
        if "/seg/" in path and place >= 0:
            image[path] = content[: place + 100] + bytes(200) + content[place + 300 :]
    return FaultyFiles.restored(image)


def holed(files: FaultyFiles, chance: Chance) -> FaultyFiles:
    """Give the disk on which a piece of what was last written is gone."""
    image = files.image()
    (path,) = (path for path, content in image.items() if "/seg/" in path and b"id-4" in content)
    content = image[path]
    begin, end = content.find(b"id-0"), content.find(b"id-4") + 300
    first = begin + chance.below(end - begin)
    size = chance.below(end - first) + 1
    image[path] = content[:first] + bytes(size) + content[first + size :]
    return FaultyFiles.restored(image)


def test_a_batch_rebuilt_from_segments_is_the_same(disk: Any) -> None:
    log = disk.log()
    log.append(
        [disk.entry(b"a.%d" % each, message_id=b"i%d" % each, headers=b"i%d" % each) for each in range(3)],
        is_atomic=True,
    )
    disk.commit()
    (log,) = disk.kill()
    assert [state.subject for state in log.subjects(None)] == [b"a.0", b"a.1", b"a.2"]
    assert log.find_message_id(b"i2", 0) == 3
