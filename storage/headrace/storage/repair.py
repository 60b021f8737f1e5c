"""Repairing a store: making anew what is derived, and nothing else.

The lookup index and the sidecars follow from segments and state logs; so they can be thrown away, and are. Neither log
nor state is touched: what is lost there stays lost, and `salvage` is for it. The server must be stopped: the store's
lock is held meanwhile.
"""

from typing import NamedTuple

from headrace.core.base.chance import Chance, fresh_seed
from headrace.core.base.clock import SystemClock
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.check import is_stream_name
from headrace.storage.examined import examine
from headrace.storage.files import Files, RealFiles, remove_tree
from headrace.storage.framing import fresh_salt
from headrace.storage.interface import StoreLocked, StoreUnusable
from headrace.storage.journal_replay import OverlaidFiles
from headrace.storage.segment import SEGMENTS_FOLDER, Segment
from headrace.storage.sidecar import encode_sidecar, find_offsets, load_sidecar, sidecar_path, write_sidecar
from headrace.storage.state_log import StateUnreadable
from headrace.storage.store import INDEX_FOLDER, STREAMS_FOLDER, check_format
from headrace.storage.untold_index import UntoldIndex


class Repair(NamedTuple):
    """What was done to a file, or why nothing could be."""

    file: str
    what: str


def repair_store(
    path: str, *, with_index: bool = True, with_sidecars: bool = True, files: Files | None = None
) -> list[Repair]:
    """Make derived files anew. Raises StoreLocked while a server runs, and StoreUnusable."""
    files = files if files is not None else RealFiles()
    status = files.status(path)
    if status is None or not status.is_folder:
        raise StoreUnusable(f"{path} is no folder")
    check_format(files, path)
    try:
        lock = files.lock(f"{path}/lock")
    except BlockingIOError as error:
        raise StoreLocked(f"the store {path} is in use by a server; stop it first") from error
    try:
        repairs: list[Repair] = []
        if with_sidecars:
            overlaid = OverlaidFiles(files, path)
            for name in files.list_folder(f"{path}/{STREAMS_FOLDER}"):
                if is_stream_name(name):
                    repairs += _repair_sidecars(files, overlaid, f"{path}/{STREAMS_FOLDER}/{name}")
        if with_index and files.status(f"{path}/{INDEX_FOLDER}") is not None:
            remove_tree(files, f"{path}/{INDEX_FOLDER}")
            repairs.append(Repair(INDEX_FOLDER, "removed; the next start of the server makes it anew"))
        return repairs
    finally:
        files.close(lock)


def _repair_sidecars(files: Files, overlaid: OverlaidFiles, folder: str) -> list[Repair]:
    blocks = Blocks(overlaid, size_max=DEFAULT_BOUNDS.cache_size)
    repairs: list[Repair] = []
    try:
        examined = examine(overlaid, blocks, folder, UntoldIndex())
        segments = examined.contents.segments.all
        # The last one is written to again, or was when the server died.
        sealed = segments if examined.is_clean else segments[:-1]
        stream_id = int(folder.rpartition("/")[2], 16)
        repairs += [
            Repair(sidecar_path(segment.path), "made anew")
            for segment in sealed
            if _repair_sidecar(overlaid, files, blocks, segment, stream_id)
        ]
        there = {sidecar_path(segment.path) for segment in segments}
        for name in files.list_folder(f"{folder}/{SEGMENTS_FOLDER}"):
            each = f"{folder}/{SEGMENTS_FOLDER}/{name}"
            if name.endswith(".side.new") or (name.endswith(".side") and each not in there):
                files.unlink(each)
                repairs.append(Repair(each, "removed; its segment is not there"))
    except (StateUnreadable, FileNotFoundError) as error:
        repairs.append(Repair(folder, f"left as it is: {error}"))
    finally:
        blocks.close()
    return repairs


def _repair_sidecar(
    overlaid: OverlaidFiles, files: Files, blocks: Blocks, segment: Segment, stream_id: int
) -> bool:
    """Write a segment's sidecar where it is missing or wrong; tell whether it was."""
    handle = blocks.handle(segment)
    offsets = find_offsets(
        lambda size, offset: overlaid.pread(handle, size, offset),
        segment.salt,
        first=segment.first,
        last=segment.last,
        end=segment.used,
        records=segment.records,
    )
    held = load_sidecar(files, segment)
    if held is not None and (held.units, held.run_sequences, held.run_places) == (
        offsets.units,
        offsets.run_sequences,
        offsets.run_places,
    ):
        return False
    if 0 in offsets.units or len(offsets) != segment.records:
        # What is damaged cannot be located any more: an intact sidecar would still know, a new one would not.
        return False
    salt = fresh_salt(Chance(fresh_seed()))
    data = encode_sidecar(segment, offsets, stream_id=stream_id, salt=salt, time_ns=SystemClock().now_ns())
    write_sidecar(files, sidecar_path(segment.path), data)
    return True
