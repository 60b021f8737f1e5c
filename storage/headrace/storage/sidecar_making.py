"""Making the sidecar of a sealed segment, off the loop: a chore, or for `repair` all at once.

The subjects are read from the segment's file, as the lookup index reads them when it is rebuilt; the sizes follow from
the headers of what checked then. Places of records that do not check, or say no subject, are listed under the empty
one.
"""

import contextlib
import struct
from array import array
from collections.abc import Callable, Generator, Iterator
from typing import Final
from zlib import crc32

from headrace.storage.accounting import FILE_HEADERS_OVERHEAD, FILE_OVERHEAD
from headrace.storage.files import Files
from headrace.storage.framing import FILE_HEADER_SIZE
from headrace.storage.index_layer import as_delta
from headrace.storage.part_notes import Part, notes_of
from headrace.storage.postings import UNKNOWN, Postings, collect
from headrace.storage.record import HEADER_SIZE, RecordInvalid, parse_record
from headrace.storage.segment import Offsets, Segment
from headrace.storage.sidecar import (
    encode_sidecar,
    find_offsets,
    load_postings,
    load_sidecar,
    sidecar_path,
    write_sidecar,
)

STEP_SIZE: Final = 1024 * 1024

_SIZES: Final = struct.Struct("<8xIxB18xII")  # length, flags, size of the headers, header CRC
_CHECKED_SIZE: Final = 36


def make_sidecar(files: Files, segment: Segment, *, stream_id: int, salt: int, time_ns: int) -> Iterator[int]:
    """Write a segment's sidecar, whole, unless it is there; a chore. The segment is written to no more."""
    yield 0  # what was asked for before it comes first: a sidecar that says only where the messages lie
    if load_postings(files, segment) is not None:
        return
    offsets = load_sidecar(files, segment)
    handle = files.open(segment.path)
    try:
        if offsets is None:
            offsets = find_offsets(
                lambda size, offset: files.pread(handle, size, offset),
                segment.salt,
                first=segment.first,
                last=segment.last,
                end=segment.used,
                records=segment.records,
            )
            yield segment.used
            if 0 in offsets.units or len(offsets) != segment.records:
                return  # an intact sidecar would know where what is damaged lies, a new one would not
        postings = yield from collect_postings(files, handle, segment, offsets)
    finally:
        files.close(handle)
    data = encode_sidecar(
        segment, offsets, stream_id=stream_id, salt=salt, time_ns=time_ns, postings=postings
    )
    path = sidecar_path(segment.path)
    write_sidecar(files, path, data)
    if files.status(segment.path) is None:
        # The segment went meanwhile, and had no such file then that could go with it.
        with contextlib.suppress(FileNotFoundError):
            files.unlink(path)
    yield len(data)


def collect_postings(
    files: Files, handle: int, segment: Segment, offsets: Offsets
) -> Generator[int, None, Postings]:
    """Read a segment's subjects and sizes; gives in between how many bytes were read."""
    places: dict[bytes, int | list[int]] = {}
    known = bytearray(len(offsets))
    is_dense = segment.is_dense
    for layer in notes_of(files, _whole(segment, offsets), []):
        yield STEP_SIZE
        if layer is None:
            continue
        for subject, delta in layer.deltas.items():
            if subject == UNKNOWN:
                continue
            sequences = as_delta(delta).added
            found = [each - segment.first if is_dense else offsets.place(each) for each in sequences]
            for place in found:
                known[place] = 1
            held = places.get(subject)
            if held is None:
                places[subject] = found if len(found) > 1 else found[0]
            elif isinstance(held, int):
                places[subject] = [held, *found]
            else:
                held += found
    unknown = [place for place, is_known in enumerate(known) if not is_known]
    if unknown:
        places[UNKNOWN] = unknown
    sizes = array("I", bytes(4 * len(offsets)))
    yield from _read_sizes(
        lambda size, offset: files.pread(handle, size, offset), segment, offsets, known, sizes
    )
    return collect(places, sizes)


def _read_sizes(
    read: Callable[[int, int], bytes],
    segment: Segment,
    offsets: Offsets,
    known: bytearray,
    sizes: "array[int]",
) -> Iterator[int]:
    """Note what the messages that checked count for."""
    window, base = b"", 0
    unpack = _SIZES.unpack_from
    for place, unit in enumerate(offsets.units):
        if not known[place]:
            continue
        offset = unit << 3
        start = offset - base
        if not window or start + HEADER_SIZE > len(window):
            window, base, start = read(min(STEP_SIZE, segment.used - offset), offset), offset, 0
            yield len(window)
        length, flags, headers_size, header_crc = unpack(window, start)
        if crc32(window[start : start + _CHECKED_SIZE]) != header_crc:
            continue  # damaged since a moment ago
        size = length - HEADER_SIZE + FILE_OVERHEAD + (FILE_HEADERS_OVERHEAD if headers_size else 0)
        if flags:
            raw = read(length + 7 & ~7, offset)
            try:
                size -= parse_record(raw, segment.salt ^ offset)[1].size
            except RecordInvalid:
                continue
        sizes[place] = size


def _whole(segment: Segment, offsets: Offsets) -> Part:
    """Give all of a segment, with what is removed."""
    return Part(
        path=segment.path,
        salt=segment.salt,
        start=FILE_HEADER_SIZE,
        end=segment.used,
        first=segment.first,
        last=segment.last,
        live_from=0,
        segment_first=segment.first,
        gone=b"",
        run_sequences=offsets.run_sequences.tobytes(),
        run_places=offsets.run_places.tobytes(),
    )
