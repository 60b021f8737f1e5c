"""What is read of a journal, and put where it belongs."""

import contextlib
import errno

import pytest

from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.storage.framing import FileHeader, FileKind, encode_file_header
from headrace.storage.journal_entry import (
    BEGINNING_SIZE,
    DATA_START,
    STOP,
    EntryTarget,
    encode_beginning,
    encode_entry,
    entry_size,
)
from headrace.storage.journal_replay import (
    JournalEntry,
    OverlaidFiles,
    Overlay,
    journal_entries,
    replay_journal,
)
from headrace.storage.record import encode_skip
from headrace.storage.segment import segment_name

SALT = 0x1111_2222_3333_4444
TARGET_SALT = 0x5555_6666_7777_8888
STREAM_ID = 0xABC
SIZE = 64 * 1024
FOLDER = f"/store/streams/{STREAM_ID:016x}"
SEGMENT = f"{FOLDER}/seg/{segment_name(1, TARGET_SALT)}"


def records(offset: int, first: int, count: int, *, salt: int = TARGET_SALT) -> bytes:
    data = b""
    for sequence in range(first, first + count):
        data += encode_skip(guard=salt ^ offset + len(data), first=sequence, last=sequence, time_ns=1)
    return data


class Lab:
    """A store's folder with one segment, and journals written by hand."""

    def __init__(self) -> None:
        self.files = FaultyFiles(1)
        for folder in ("/store", "/store/streams", FOLDER, f"{FOLDER}/seg"):
            self.files.make_folder(folder)
            self.files.sync_folder(folder.rpartition("/")[0] or "/")
        header = FileHeader(FileKind.SEGMENT, TARGET_SALT, STREAM_ID, 0, 1, SIZE)
        self.put(SEGMENT, encode_file_header(header).ljust(SIZE, b"\0"))
        self.files.sync_folder(f"{FOLDER}/seg")
        self.place = BEGINNING_SIZE - len(STOP)

    def put(self, path: str, data: bytes) -> None:
        handle = self.files.create(path)
        self.files.pwrite(handle, data, 0)
        self.files.sync(handle)
        self.files.close(handle)
        self.files.sync_folder(path.rpartition("/")[0])

    def begin(self, *, name: str = "journal-0", salt: int = SALT) -> None:
        data = encode_beginning(salt=salt, turn=1, created_ns=1, capacity=SIZE)
        self.put(f"/store/{name}", data.ljust(SIZE, b"\0"))

    def change(self, path: str, offset: int, data: bytes) -> None:
        handle = self.files.open(path, writable=True)
        self.files.pwrite(handle, data, offset)
        self.files.sync(handle)
        self.files.close(handle)

    def read(self, path: str, offset: int, size: int) -> bytes:
        handle = self.files.open(path)
        try:
            return self.files.pread(handle, size, offset)
        finally:
            self.files.close(handle)

    def add(
        self,
        data: bytes,
        offset: int,
        *,
        first: int,
        last: int,
        stream_id: int = STREAM_ID,
        salt: int = TARGET_SALT,
    ) -> int:
        """Append an entry to journal-0 and give its place."""
        place = self.place
        target = EntryTarget(stream_id, salt, offset, last, len(data))
        entry = encode_entry(target, data, guard=SALT ^ place, first=first, time_ns=1)
        assert len(entry) == entry_size(len(data))
        self.change("/store/journal-0", place, entry + STOP)
        self.place += len(entry)
        return place

    def entries(self) -> list[JournalEntry]:
        return list(journal_entries(self.files, "/store"))


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.begin()
    return lab


def test_a_store_without_journals_has_no_entries() -> None:
    assert Lab().entries() == []


def test_an_empty_journal_has_no_entries_whatever_an_earlier_use_left_behind_its_stop(lab: Lab) -> None:
    lab.change("/store/journal-0", BEGINNING_SIZE, b"left over" * 500)
    assert lab.entries() == []


def test_entries_come_in_order_with_their_place_in_the_target(lab: Lab) -> None:
    one, two = records(128, 1, 3), records(400, 7, 2)
    first = lab.add(one, 128, first=1, last=3)
    second = lab.add(two, 400, first=7, last=8)
    assert lab.entries() == [
        JournalEntry("journal-0", first, STREAM_ID, TARGET_SALT, 128, one, 1, 3, True, len(one)),
        JournalEntry("journal-0", second, STREAM_ID, TARGET_SALT, 400, two, 7, 8, True, len(two)),
    ]


def test_what_an_earlier_use_of_the_file_left_is_no_entry(lab: Lab) -> None:
    data = records(128, 1, 1)
    lab.add(data, 128, first=1, last=1)
    stale = encode_entry(
        EntryTarget(STREAM_ID, TARGET_SALT, 5000, 90, len(data)),
        data,
        guard=(SALT + (1 << 40)) ^ lab.place + 48,
        first=90,
        time_ns=1,
    )
    lab.change("/store/journal-0", lab.place + 48, stale)
    assert [entry.offset for entry in lab.entries()] == [128]


def test_replay_writes_entries_to_their_targets_and_syncs_them(lab: Lab) -> None:
    data = records(128, 1, 3)
    lab.add(data, 128, first=1, last=3)
    replayed = replay_journal(lab.files, "/store", "/store/streams")
    assert (replayed.count, replayed.unreadable, replayed.failed) == (1, [], {})
    lab.files = lab.files.power_cut()
    assert lab.read(SEGMENT, 128, len(data)) == data


def test_replay_skips_entries_of_other_salts_and_of_streams_that_are_gone(lab: Lab) -> None:
    lab.add(records(128, 1, 1, salt=9 << 40), 128, first=1, last=1, salt=9 << 40)
    lab.add(records(128, 1, 1), 128, first=1, last=1, stream_id=0xDEAD)
    before = lab.read(SEGMENT, 0, SIZE)
    replayed = replay_journal(lab.files, "/store", "/store/streams")
    assert (replayed.count, replayed.unreadable) == (0, [])
    assert lab.read(SEGMENT, 0, SIZE) == before
    assert lab.files.list_folder("/store/streams") == [f"{STREAM_ID:016x}"]


def test_replay_makes_no_file(lab: Lab) -> None:
    lab.add(records(128, 1, 1), 128, first=1, last=1)
    lab.files.unlink(SEGMENT)
    replay_journal(lab.files, "/store", "/store/streams")
    assert lab.files.list_folder(f"{FOLDER}/seg") == []


def test_replay_knows_state_logs_by_their_headers_salt(lab: Lab) -> None:
    salt = 0x7777_0000_0000_0001
    header = FileHeader(FileKind.STATE, salt, STREAM_ID, 4, 1, SIZE)
    lab.put(f"{FOLDER}/state-00000004", encode_file_header(header).ljust(SIZE, b"\0"))
    data = records(256, 5, 1, salt=salt)
    lab.add(data, 256, first=5, last=5, salt=salt)
    replay_journal(lab.files, "/store", "/store/streams")
    assert lab.read(f"{FOLDER}/state-00000004", 256, len(data)) == data


def test_every_flipped_bit_of_an_entry_loses_at_most_the_record_hit_and_names_it(lab: Lab) -> None:
    one, two = records(128, 1, 3), records(400, 7, 2)
    place = lab.add(one, 128, first=1, last=3)
    lab.add(two, 400, first=7, last=8)
    size = len(one) // 3
    for byte in range(place, place + entry_size(len(one))):
        for bit in (0, 3, 7):
            old = lab.read("/store/journal-0", byte, 1)
            lab.change("/store/journal-0", byte, bytes([old[0] ^ 1 << bit]))
            entries = lab.entries()
            lab.change("/store/journal-0", byte, old)
            got = {
                entry.offset + at: entry.data[at]
                for entry in entries
                if entry.valid
                for at in range(entry.size)
            }
            assert all(one[at - 128] == value for at, value in got.items() if at < 400), byte
            assert b"".join(entry.data for entry in entries if entry.offset >= 400) == two, byte
            missing = {at for at in range(128, 128 + len(one)) if at not in got}
            index = (byte - place - DATA_START) // size
            if 0 <= index < 3:
                assert missing == set(range(128 + index * size, 128 + (index + 1) * size)), byte
                (named,) = (entry for entry in entries if not entry.valid)
                assert named.first <= index + 1 <= named.last
                assert (named.stream_id, named.salt, named.offset) == (STREAM_ID, TARGET_SALT, min(missing))
            elif missing:
                # Header and target cannot both be told from one bit: whose it was may be unknown, never that it was.
                assert [entry.stream_id for entry in entries if not entry.valid] == [0], byte


def test_the_last_entry_is_named_too_when_its_header_is_damaged(lab: Lab) -> None:
    data = records(128, 1, 3)
    place = lab.add(data, 128, first=1, last=3)
    lab.change("/store/journal-0", place, bytes(8))
    assert b"".join(entry.data for entry in lab.entries()) == data


def test_a_page_of_zeros_over_entries_is_damage_when_more_follow(lab: Lab) -> None:
    place = lab.add(records(128, 1, 1), 128, first=1, last=1)
    follows = lab.place
    last = records(1000, 9, 1)
    lab.add(last, 1000, first=9, last=9)
    lab.change("/store/journal-0", place, bytes(follows - place))
    damage, entry = lab.entries()
    assert (damage.valid, damage.place, damage.stream_id) == (False, place, 0)
    assert entry.data == last


def test_entries_are_found_when_both_copies_of_the_journals_header_are_damaged(lab: Lab) -> None:
    lab.add(records(128, 1, 1), 128, first=1, last=1)
    lab.change("/store/journal-0", 0, b"x" * 128)
    assert [entry.offset for entry in lab.entries()] == [128]


def test_a_replay_that_is_cut_at_any_change_is_completed_by_the_next() -> None:
    for nth in range(1, 20):
        lab = Lab()
        lab.begin()
        data = [records(128 + 512 * index, 1 + 4 * index, 3) for index in range(3)]
        for index, each in enumerate(data):
            lab.add(each, 128 + 512 * index, first=1 + 4 * index, last=3 + 4 * index)
        lab.files.cut_at(nth)
        with contextlib.suppress(PowerLost):
            replay_journal(lab.files, "/store", "/store/streams")
        lab.files = lab.files.power_cut()
        replay_journal(lab.files, "/store", "/store/streams")
        lab.files = lab.files.power_cut()
        for index, each in enumerate(data):
            assert lab.read(SEGMENT, 128 + 512 * index, len(each)) == each


def test_a_stream_whose_files_cannot_be_written_is_named_and_the_others_are_replayed(lab: Lab) -> None:
    lab.add(records(128, 1, 1), 128, first=1, last=1)
    lab.files.fail("pwrite", number=errno.EIO)
    replayed = replay_journal(lab.files, "/store", "/store/streams")
    assert list(replayed.failed) == [STREAM_ID]
    lab.files.heal()
    lab.files.fail("sync", number=errno.EIO)
    replayed = replay_journal(lab.files, "/store", "/store/streams")
    assert list(replayed.failed) == [STREAM_ID]


def test_overlaid_files_read_as_after_the_replay(lab: Lab) -> None:
    data = records(SIZE - 64, 1, 3)
    lab.add(data, SIZE - 64, first=1, last=3)
    files = OverlaidFiles(lab.files, "/store")
    handle = files.open(SEGMENT)
    end = SIZE - 64 + len(data)
    assert files.size(handle) == end
    assert files.pread(handle, 1000, SIZE - 100) == bytes(36) + data
    assert files.pread(handle, 20, SIZE - 60) == data[4:24]
    assert files.pread(handle, 50, 1000) == bytes(50)
    files.close(handle)
    with pytest.raises(AssertionError):
        files.unlink(SEGMENT)


def test_an_overlay_tells_what_it_cannot_read(lab: Lab) -> None:
    place = lab.add(records(128, 1, 1), 128, first=1, last=1)
    lab.change("/store/journal-0", place + DATA_START + 20, b"\xff" * 8)
    overlay = Overlay(lab.entries())
    assert not overlay
    assert [entry.first for entry in overlay.unreadable] == [1]
