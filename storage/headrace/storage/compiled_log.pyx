"""The compiled engine's part of a log: encoding a batch as records, and the thread that writes and syncs them.

Problem: a durable publish should cost no Python object. `encode_batch` reads messages where the engine put them (the
arena of a `CompiledBatch`) and writes records straight into one bytes object; `SyncThread` takes the cycles that
`storage/sync.py` describes and carries them out without ever needing the interpreter to finish: a plain Python thread
beside a busy loop falls from 6,600 to 109 syncs a second.

The layout is `storage/record.py`'s; a test compares every byte with what that module makes.
"""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from headrace.core.base.compiled_batch cimport CompiledBatch, Item

import array

from headrace.storage import accounting, record


cdef enum:
    HEADER_SIZE = 44
    CHECKED_SIZE = 36           # what the header CRC covers
    MESSAGE = 1
    SUBJECT_SIZE_MAX = 65535
    ACCOUNTED_BASE = 30
    ACCOUNTED_HEADERS = 4

cdef packed struct Header:
    # Section 3 of docs/storage-format.md, as it lies in the file (little-endian, which _check_layout makes sure of).
    uint64_t guard
    uint32_t length
    uint8_t type
    uint8_t flags
    uint16_t subject_size
    uint64_t sequence
    uint64_t time_ns
    uint32_t headers_size
    uint32_t header_crc
    uint32_t crc


# ---- checksum

cdef uint32_t[8][256] _crc_table


cdef void _fill_crc_table() noexcept:
    cdef uint32_t value
    cdef int index, row, bit
    for index in range(256):
        value = index
        for bit in range(8):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
        _crc_table[0][index] = value
    for index in range(256):
        for row in range(1, 8):
            value = _crc_table[row - 1][index]
            _crc_table[row][index] = (value >> 8) ^ _crc_table[0][value & 0xFF]


cdef uint32_t _crc32(const uint8_t *data, size_t size, uint32_t crc) noexcept nogil:
    """Continue a CRC-32 (zlib's) over `size` bytes, eight at a time: one table look-up a byte, none waits for another."""
    cdef uint64_t word
    crc = ~crc
    while size >= 8:
        memcpy(&word, data, 8)
        word ^= crc
        crc = (
            _crc_table[7][word & 0xFF]
            ^ _crc_table[6][(word >> 8) & 0xFF]
            ^ _crc_table[5][(word >> 16) & 0xFF]
            ^ _crc_table[4][(word >> 24) & 0xFF]
            ^ _crc_table[3][(word >> 32) & 0xFF]
            ^ _crc_table[2][(word >> 40) & 0xFF]
            ^ _crc_table[1][(word >> 48) & 0xFF]
            ^ _crc_table[0][word >> 56]
        )
        data += 8
        size -= 8
    while size > 0:
        crc = (crc >> 8) ^ _crc_table[0][(crc ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return ~crc


def crc32(const uint8_t[::1] data, uint32_t crc=0):
    """Continue a CRC-32 as `zlib.crc32` does."""
    return _crc32(&data[0], data.shape[0], crc) if data.shape[0] > 0 else crc


# ---- records

cdef inline size_t _record_size(const Item *item) noexcept nogil:
    return (HEADER_SIZE + <size_t>item.subject_size + item.body_size + 7) & ~<size_t>7


cdef void _write_record(
    uint8_t *out, const Item *item, const char *arena, uint64_t guard, uint64_t sequence, uint64_t time_ns
) noexcept nogil:
    """Write one record of `_record_size(item)` bytes."""
    cdef Header header
    cdef size_t length = HEADER_SIZE + <size_t>item.subject_size + item.body_size
    cdef size_t size = _record_size(item)
    header.guard = guard
    header.length = <uint32_t>length
    header.type = MESSAGE
    header.flags = 0
    header.subject_size = <uint16_t>item.subject_size
    header.sequence = sequence
    header.time_ns = time_ns
    header.headers_size = item.headers_size
    memcpy(out + HEADER_SIZE, arena + item.subject_offset, item.subject_size)
    memcpy(out + HEADER_SIZE + item.subject_size, arena + item.body_offset, item.body_size)
    memset(out + length, 0, size - length)
    header.header_crc = _crc32(<const uint8_t *>&header, CHECKED_SIZE, 0)
    header.crc = _crc32(out + HEADER_SIZE, size - HEADER_SIZE, header.header_crc)
    memcpy(out, &header, HEADER_SIZE)


def encode_batch(
    batch,
    Py_ssize_t start,
    *,
    uint64_t salt,
    uint64_t offset,
    uint64_t limit,
    uint64_t sequence,
    uint64_t time_ns,
    array.array offsets not None,
):
    """Do what `record.encode_batch` does, which it also asks for a batch that is not the compiled engine's."""
    if not isinstance(batch, CompiledBatch):
        return record.encode_batch(
            batch,
            start,
            salt=salt,
            offset=offset,
            limit=limit,
            sequence=sequence,
            time_ns=time_ns,
            offsets=offsets,
        )
    cdef CompiledBatch messages = <CompiledBatch>batch
    cdef const Item *item
    cdef uint64_t accounted = 0
    cdef uint64_t end = offset
    cdef Py_ssize_t stop = start
    cdef Py_ssize_t noted = len(offsets)
    cdef uint8_t *out
    cdef bytes encoded
    assert 0 <= start <= messages.count, "the batch begins and ends within itself"
    assert offsets.itemsize == 4 and offsets.typecode == "I", "offsets are held in 32 bits"
    while stop < messages.count:
        item = &messages.items[stop]
        if item.subject_size > SUBJECT_SIZE_MAX:
            raise ValueError(f"a subject of {item.subject_size} bytes; a record holds {SUBJECT_SIZE_MAX}")
        if end + _record_size(item) > limit:
            break
        end += _record_size(item)
        stop += 1
    encoded = PyBytes_FromStringAndSize(NULL, end - offset)
    array.resize_smart(offsets, noted + stop - start)
    out = <uint8_t *>PyBytes_AS_STRING(encoded)
    for index in range(start, stop):
        item = &messages.items[index]
        _write_record(out, item, messages.arena, salt ^ offset, sequence, time_ns)
        offsets.data.as_uints[noted] = <unsigned int>(offset >> 3)
        accounted += ACCOUNTED_BASE + <uint64_t>item.subject_size + item.body_size
        if item.headers_size > 0:
            accounted += ACCOUNTED_HEADERS
        noted += 1
        out += _record_size(item)
        offset += _record_size(item)
        sequence += 1
    return encoded, stop - start, accounted


cdef _check_layout():
    cdef uint16_t probe = 1
    assert (<uint8_t *>&probe)[0] == 1, "records are written as this machine keeps integers: little-endian"
    assert sizeof(Header) == HEADER_SIZE == record.HEADER_SIZE
    assert SUBJECT_SIZE_MAX == record.SUBJECT_SIZE_MAX
    assert (ACCOUNTED_BASE, ACCOUNTED_HEADERS) == (accounting.FILE_OVERHEAD, accounting.FILE_HEADERS_OVERHEAD)


_check_layout()
_fill_crc_table()
