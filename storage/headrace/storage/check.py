"""Checking a store: every invariant of the format, over every byte that is used. Behind `headrace store check`.

The checker believes nothing that it can count itself. It reads a stream the way recovery does, with the journal laid
over its files, then reads every record of every segment again and compares (`check_stream.py`). What it may find, with
stable names, stands in `findings.py`.

It needs no lock. Beside a running server it sees a moment of each stream: an unreadable end of a file is then a write
in progress and no finding, a file that goes makes it look again, and what looks wrong counts when a second look
finds the same.
"""

from typing import Final

from headrace.storage.check_stream import StreamCheck
from headrace.storage.files import Files, RealFiles
from headrace.storage.findings import Finding, Report, StreamTotals
from headrace.storage.framing import FILE_HEADER_SIZE, HeaderUnreadable, parse_file_header
from headrace.storage.interface import StoreUnusable
from headrace.storage.journal_entry import JOURNAL_NAMES
from headrace.storage.journal_replay import JournalEntry, OverlaidFiles
from headrace.storage.room import PIECES, RESERVE_PREFIX
from headrace.storage.segment import SEGMENTS_FOLDER, parse_segment_name
from headrace.storage.state_log import StateUnreadable, parse_state_name
from headrace.storage.store import FORMAT_TEXT, INDEX_FOLDER, STREAMS_FOLDER, check_format

LOOKS_MAX: Final = 5
"""How often a stream is looked at again whose files or findings change meanwhile."""

KNOWN_IN_STORE: Final = frozenset(
    (
        *("format", "lock", STREAMS_FOLDER, INDEX_FOLDER, f"{INDEX_FOLDER}.lock", *JOURNAL_NAMES),
        *(f"{RESERVE_PREFIX}{number}" for number in range(PIECES)),
    )
)


def check_store(path: str, *, files: Files | None = None) -> Report:
    """Check every stream of the store in folder `path`. Raises StoreUnusable where it is none, or a later version's."""
    if files is None:
        files = RealFiles()
    status = files.status(path)
    if status is None or not status.is_folder:
        raise StoreUnusable(f"{path} is no folder")
    findings = _check_format(files, path)
    totals: list[StreamTotals] = []
    overlaid = OverlaidFiles(files, path)
    findings += _check_journal(overlaid, path)
    findings += [
        Finding("leftover" if name.endswith(".new") else "unknown-name", "", name, 0, "is not a store's")
        for name in files.list_folder(path)
        if name not in KNOWN_IN_STORE
    ]
    streams = f"{path}/{STREAMS_FOLDER}"
    for name in files.list_folder(streams):
        if is_stream_name(name):
            counted, found = _check_stream(overlaid, f"{streams}/{name}", name)
            findings += found
            if counted is not None:
                totals.append(counted)
        elif name.endswith((".new", ".dead")):
            findings.append(Finding("leftover", name, "", 0, "was being made or deleted"))
        else:
            findings.append(Finding("unknown-name", name, "", 0, "is not a name of Headrace's; left alone"))
    return Report(totals, findings)


def is_stream_name(name: str) -> bool:
    """Tell whether a folder is a stream's."""
    return len(name) == 16 and not name.strip("0123456789abcdef")


def _check_format(files: Files, path: str) -> list[Finding]:
    """Find out whether the store can be read; one that lacks its format but has streams is damaged."""
    if files.status(f"{path}/{STREAMS_FOLDER}") is None:
        check_format(files, path)
        raise StoreUnusable(f"{path} holds no streams: there is no folder {STREAMS_FOLDER}")
    try:
        check_format(files, path)
    except StoreUnusable as error:
        if files.status(f"{path}/format") is not None and _is_newer(files, path):
            raise
        return [Finding("format-damaged", "", "format", 0, str(error))]
    return []


def _is_newer(files: Files, path: str) -> bool:
    handle = files.open(f"{path}/format")
    try:
        text = files.pread(handle, 64, 0).decode("ascii", "replace").strip()
    finally:
        files.close(handle)
    return text.startswith(FORMAT_TEXT) and text.removeprefix(FORMAT_TEXT).isdecimal()


def _check_journal(files: OverlaidFiles, path: str) -> list[Finding]:
    findings: list[Finding] = []
    for entry in files.overlay.unreadable:
        if entry.stream_id and not _has_target(files, path, entry):
            continue
        stream = f"{entry.stream_id:016x}" if entry.stream_id else ""
        text = f"{entry.what or 'does not check'}; {entry.size} bytes for offset {entry.offset} of a file"
        findings.append(
            Finding(
                "journal-damaged",
                stream,
                entry.journal,
                entry.place,
                text,
                entry.first,
                entry.last,
                certain=False,
            )
        )
    return findings


def _has_target(files: OverlaidFiles, path: str, entry: JournalEntry) -> bool:
    """Tell whether the file that an entry is for is still there."""
    folder = f"{path}/{STREAMS_FOLDER}/{entry.stream_id:016x}"
    if files.status(folder) is None:
        return False
    salts = {
        parsed[1]
        for name in files.list_folder(f"{folder}/{SEGMENTS_FOLDER}")
        if (parsed := parse_segment_name(name))
    }
    for name in files.list_folder(folder):
        if parse_state_name(name) is not None:
            handle = files.open(f"{folder}/{name}")
            try:
                salts.add(parse_file_header(files.pread(handle, FILE_HEADER_SIZE, 0), name).salt)
            except HeaderUnreadable:
                return True
            finally:
                files.close(handle)
    return entry.salt in salts


def _check_stream(files: Files, folder: str, name: str) -> tuple[StreamTotals | None, list[Finding]]:
    before: list[Finding] | None = None
    for look in range(LOOKS_MAX):
        checker = StreamCheck(files, folder, name)
        totals: StreamTotals | None = None
        try:
            totals = checker.run()
        except FileNotFoundError:
            if files.status(folder) is None:
                return None, []  # Deleted meanwhile.
            if look < LOOKS_MAX - 1:
                continue
            checker.findings.append(
                Finding("stream-unreadable", name, "", 0, "its files are replaced while they are read")
            )
        except StateUnreadable as error:
            checker.findings.append(Finding("stream-unreadable", name, "", 0, str(error)))
        finally:
            checker.close()
        if Report([], checker.findings).is_sound or checker.findings == before or look == LOOKS_MAX - 1:
            return totals, checker.findings
        before = checker.findings
    raise AssertionError("the last look returns")
