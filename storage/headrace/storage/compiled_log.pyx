"""The compiled engine's part of a log: batches to records, records to views, and the thread that writes and syncs.

Problem: a durable publish should cost no Python object, and a stored message no more than the view that is handed out.
`encode_batch` reads messages where the engine put them (the arena of a `CompiledBatch`) and writes records straight
into one bytes object; `decode_run` makes views of the records in a block, and leaves whatever is not plainly right to
the Python code, which knows what is wrong; `SyncThread` takes the cycles that `storage/sync.py` describes and carries
them out without ever needing the interpreter to finish: a plain Python thread beside a busy loop falls from 6,600 to
109 syncs a second.

The layout is `storage/record.py`'s; a test compares every byte with what that module makes.

Between the threads: `_phase` says whose the cycle is, and changes under the mutex alone. The loop's thread fills it
while IDLE and hands it over (HANDED); the sync thread then reads it and notes failures, without the mutex, until it has
made it DONE; `take` makes it IDLE again. The buffers that are written stay pinned from `start` to `take`.
"""

from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from headrace.core.base.compiled_batch cimport CompiledBatch, Item

import array
import threading

from headrace.core.base.message import View
from headrace.storage import accounting, record

_new_view = tuple.__new__


cdef enum:
    HEADER_SIZE = 44
    CHECKED_SIZE = 36           # what the header CRC covers
    MESSAGE = 1
    SUBJECT_SIZE_MAX = 65535
    FLAG_PREVIOUS = 0x01
    FLAG_MESSAGE_ID = 0x02
    FLAG_FIRST = 0x04
    FLAG_EVICTED = 0x08
    FLAG_ATOMIC = 0x40
    ATOMIC_SIZE = 16
    FLAGS_KNOWN = 0x7F          # 0x10 and 0x20 take no bytes
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


def decode_run(
    bytes block,
    uint64_t base,
    *,
    uint64_t salt,
    array.array units not None,
    Py_ssize_t place,
    uint64_t sequence,
    Py_ssize_t count_max,
    uint64_t size_max,
):
    """Decode and check messages that lie one after the other in a block of a segment that begins at offset `base`.

    `units` are the segment's record offsets divided by 8; the message at `place` has `sequence`, and each following one
    the next. Gives views of those that are good, up to `count_max` and until their bytes reach `size_max`. Stops
    before whatever is not a whole, valid message with nothing before its subject: the caller looks at that itself.
    """
    cdef list views = []
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(block)
    cdef uint64_t block_size = PyBytes_GET_SIZE(block)
    cdef const uint8_t *body
    cdef Header header
    cdef uint64_t offset, position, record_size
    cdef uint64_t size = 0
    cdef Py_ssize_t stop = len(units)
    cdef bytes subject = b""
    assert units.itemsize == 4 and units.typecode == "I", "offsets are held in 32 bits"
    assert place >= 0, "places begin at 0"
    if count_max < stop - place:
        stop = place + count_max
    while place < stop and size < size_max:
        offset = <uint64_t>units.data.as_uints[place] << 3
        position = offset - base
        if offset < base or position > block_size or block_size - position < HEADER_SIZE:
            break
        memcpy(&header, start + position, HEADER_SIZE)
        record_size = (<uint64_t>header.length + 7) & ~<uint64_t>7
        body = start + position + HEADER_SIZE
        if (
            header.guard != salt ^ offset
            or header.header_crc != _crc32(start + position, CHECKED_SIZE, 0)
            or header.length < HEADER_SIZE
            or record_size > block_size - position
            or header.type != MESSAGE
            or header.flags != 0
            or header.sequence != sequence
            or <uint64_t>header.subject_size + header.headers_size > header.length - HEADER_SIZE
            or header.crc != _crc32(body, record_size - HEADER_SIZE, header.header_crc)
        ):
            break
        if <size_t>PyBytes_GET_SIZE(subject) != header.subject_size or memcmp(
            PyBytes_AS_STRING(subject), body, header.subject_size
        ) != 0:
            subject = body[: header.subject_size]
        body += header.subject_size
        size += header.length - HEADER_SIZE
        views.append(
            _new_view(
                View,
                (
                    sequence,
                    header.time_ns,
                    subject,
                    body[: header.headers_size],
                    body[header.headers_size : header.length - HEADER_SIZE - header.subject_size],
                ),
            )
        )
        place += 1
        sequence += 1
    return views


def views_size(list views):
    """Give the bytes of all subjects, headers and payloads."""
    cdef Py_ssize_t size = 0
    cdef bytes subject, headers, payload
    for view in views:
        _, _, subject, headers, payload = view
        size += PyBytes_GET_SIZE(subject) + PyBytes_GET_SIZE(headers) + PyBytes_GET_SIZE(payload)
    return size


cdef inline bint _is_there(
    uint64_t sequence,
    uint64_t live_from,
    uint64_t segment_first,
    const uint8_t *gone,
    uint64_t gone_size,
    const unsigned long long *run_sequences,
    const unsigned int *run_places,
    Py_ssize_t run_count,
    Py_ssize_t *run,
) noexcept nogil:
    """Tell whether a message is live; `run` is where its run was looked for last, and only goes up."""
    cdef uint64_t place = sequence - segment_first
    if sequence < live_from:
        return False
    if gone_size == 0:
        return True
    if run_count > 0:
        while run[0] + 1 < run_count and run_sequences[run[0] + 1] <= sequence:
            run[0] += 1
        place = run_places[run[0]] + sequence - run_sequences[run[0]]
    return (place >> 3) >= gone_size or not (gone[place >> 3] >> (place & 7)) & 1


def collect_notes(
    bytes window,
    uint64_t base,
    *,
    uint64_t salt,
    uint64_t first,
    uint64_t last,
    uint64_t live_from,
    uint64_t segment_first,
    bytes gone,
    array.array run_sequences not None,
    array.array run_places not None,
    dict deltas,
    dict ids,
    make_delta,
):
    """Note the messages `first` to `last` of a window of a segment that begins at offset `base`, as `Layer.add` does.

    Gives the offset behind the last record that was looked at, and how many notes were made. Stops before whatever is
    not a whole valid record, or says more before its subject than these flags: the caller looks at that itself.
    """
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(window)
    cdef const uint8_t *gone_bits = <const uint8_t *>PyBytes_AS_STRING(gone)
    cdef uint64_t window_size = PyBytes_GET_SIZE(window)
    cdef uint64_t position = 0
    cdef uint64_t record_size, skipped
    cdef const uint8_t *body
    cdef const uint8_t *end
    cdef Header header
    cdef uint32_t id_offset, id_size, part_size
    cdef Py_ssize_t run = 0
    cdef Py_ssize_t notes = 0
    cdef bytes subject
    cdef object held
    cdef object sequence
    assert run_sequences.itemsize == 8 and run_places.itemsize == 4, "runs are held in 64 and 32 bits"
    while window_size - position >= HEADER_SIZE:
        memcpy(&header, start + position, HEADER_SIZE)
        record_size = (<uint64_t>header.length + 7) & ~<uint64_t>7
        body = start + position + HEADER_SIZE
        if (
            header.guard != salt ^ (base + position)
            or header.header_crc != _crc32(start + position, CHECKED_SIZE, 0)
            or header.length < HEADER_SIZE
            or record_size > window_size - position
            or header.crc != _crc32(body, record_size - HEADER_SIZE, header.header_crc)
        ):
            break
        if header.type != MESSAGE or header.sequence < first or header.sequence > last:
            position += record_size
            continue
        if header.flags & ~FLAGS_KNOWN:
            break
        end = body + header.length - HEADER_SIZE
        id_size = id_offset = 0
        skipped = 0
        if header.flags & FLAG_PREVIOUS:
            skipped += 8
        if header.flags & FLAG_MESSAGE_ID:
            if skipped + 8 > <uint64_t>(end - body):
                break
            memcpy(&id_offset, body + skipped, 4)
            memcpy(&id_size, body + skipped + 4, 4)
            skipped += 8
        if header.flags & FLAG_FIRST:
            skipped += 8
        if header.flags & FLAG_EVICTED:
            if skipped + 4 > <uint64_t>(end - body):
                break
            memcpy(&part_size, body + skipped, 4)
            skipped += 4 + <uint64_t>part_size
        if header.flags & FLAG_ATOMIC:
            skipped += ATOMIC_SIZE
        if (
            skipped + header.subject_size + header.headers_size > <uint64_t>(end - body)
            or <uint64_t>id_offset + id_size > header.headers_size
        ):
            break
        body += skipped
        sequence = header.sequence
        if _is_there(
            header.sequence,
            live_from,
            segment_first,
            gone_bits,
            PyBytes_GET_SIZE(gone),
            run_sequences.data.as_ulonglongs,
            run_places.data.as_uints,
            len(run_sequences),
            &run,
        ):
            subject = body[: header.subject_size]
            held = deltas.get(subject)
            if held is None:
                deltas[subject] = sequence
            elif type(held) is int:
                deltas[subject] = make_delta([held, sequence], set())
            else:
                (<list>held.added).append(sequence)
            notes += 1
        if id_size > 0:
            body += header.subject_size + id_offset
            ids[body[:id_size]] = (sequence, header.time_ns)
            notes += 1
        position += record_size
    return base + position, notes


# ---- the sync thread

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>

    /* macOS: fsync leaves the bytes in the drive's cache; only F_FULLFSYNC reaches the medium. */
    static int headrace_sync(int handle) {
    #if defined(__APPLE__)
        return fcntl(handle, F_FULLFSYNC);
    #else
        return fdatasync(handle);
    #endif
    }

    static int64_t headrace_monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }

    /* Signals are the loop's thread's: none may interrupt a sync, which nobody would try again. */
    static void headrace_block_signals(void) {
        sigset_t every;
        sigfillset(&every);
        pthread_sigmask(SIG_BLOCK, &every, NULL);
    }
    """
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, void *attributes)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_signal(pthread_cond_t *condition)
    Py_ssize_t c_pwrite "pwrite"(int handle, const void *data, size_t size, int64_t offset)
    Py_ssize_t c_write "write"(int handle, const void *data, size_t size)
    int headrace_sync(int handle)
    void headrace_block_signals()
    int64_t headrace_monotonic_ns()


cdef enum Phase:
    IDLE
    HANDED
    DONE

cdef struct WriteStep:
    int handle
    int64_t offset
    Py_buffer data

cdef struct Step:
    int handle
    int error


cdef class SyncThread:
    """A `SyncWorker` (`storage/sync.py`) over file descriptors, in a thread that does not need the interpreter.

    Whoever makes one closes it: its thread holds a reference to it.
    """

    cdef pthread_mutex_t _mutex
    cdef pthread_cond_t _condition
    cdef Phase _phase
    cdef bint _is_stopping
    cdef int _wake_handle
    cdef WriteStep *_writes   # the journal's comes first, where there is one
    cdef Py_ssize_t _write_count
    cdef bint _has_journal
    cdef Step *_syncs
    cdef Py_ssize_t _sync_count
    cdef Step *_failures      # room for one of each write and sync
    cdef Py_ssize_t _failure_count
    cdef object _thread
    cdef readonly int64_t duration_ns

    def __cinit__(self):
        self.duration_ns = 0
        self._writes = NULL
        self._syncs = self._failures = NULL
        self._write_count = self._sync_count = self._failure_count = 0
        self._has_journal = False
        self._phase = IDLE
        self._is_stopping = False
        pthread_mutex_init(&self._mutex, NULL)
        pthread_cond_init(&self._condition, NULL)

    def __init__(self, wake):
        self._wake_handle = wake.write_handle
        self._thread = threading.Thread(target=self._run, name="headrace-sync", daemon=True)
        self._thread.start()

    def __dealloc__(self):
        self._release()
        pthread_cond_destroy(&self._condition)
        pthread_mutex_destroy(&self._mutex)

    def start(self, writes, syncs, journal=None):
        """Begin a cycle; the one before was taken. The wake is signalled when it is done."""
        cdef Py_ssize_t write_room = len(writes) + 1
        cdef Py_ssize_t sync_room = len(syncs)
        assert self._phase == IDLE, "the cycle before was taken"
        self._writes = <WriteStep *>calloc(write_room + 1, sizeof(WriteStep))
        self._syncs = <Step *>calloc(sync_room + 1, sizeof(Step))
        self._failures = <Step *>calloc(write_room + sync_room + 1, sizeof(Step))
        try:
            if self._writes == NULL or self._syncs == NULL or self._failures == NULL:
                raise MemoryError
            self._has_journal = journal is not None
            if journal is not None:
                self._add_write(journal)
            for write in writes:
                self._add_write(write)
            for handle in syncs:
                self._syncs[self._sync_count].handle = handle
                self._sync_count += 1
        except BaseException:
            self._release()
            raise
        pthread_mutex_lock(&self._mutex)
        self._phase = HANDED
        pthread_cond_signal(&self._condition)
        pthread_mutex_unlock(&self._mutex)

    def take(self):
        """Give what failed in the cycle that is done, once; None while it runs or where there is none."""
        cdef Py_ssize_t index
        cdef bint is_done
        pthread_mutex_lock(&self._mutex)
        is_done = self._phase == DONE
        pthread_mutex_unlock(&self._mutex)
        if not is_done:
            return None
        failed = {self._failures[index].handle: self._failures[index].error for index in range(self._failure_count)}
        self._release()
        pthread_mutex_lock(&self._mutex)
        self._phase = IDLE
        pthread_mutex_unlock(&self._mutex)
        return failed

    def close(self):
        """Let the running cycle end, then stop. Waits."""
        pthread_mutex_lock(&self._mutex)
        self._is_stopping = True
        pthread_cond_signal(&self._condition)
        pthread_mutex_unlock(&self._mutex)
        self._thread.join()

    cdef int _add_write(self, tuple write) except -1:
        cdef WriteStep *step = &self._writes[self._write_count]
        handle, offset, data = write
        step.handle = handle
        step.offset = offset
        PyObject_GetBuffer(data, &step.data, PyBUF_SIMPLE)
        self._write_count += 1
        return 0

    cdef void _release(self) noexcept:
        """Unpin the cycle's buffers and forget it."""
        cdef Py_ssize_t index
        for index in range(self._write_count):
            PyBuffer_Release(&self._writes[index].data)
        free(self._writes)
        free(self._syncs)
        free(self._failures)
        self._writes = NULL
        self._syncs = self._failures = NULL
        self._write_count = self._sync_count = self._failure_count = 0

    def _run(self):
        with nogil:
            headrace_block_signals()
            self._serve()

    cdef void _serve(self) noexcept nogil:
        cdef uint64_t one = 1
        cdef int64_t started_ns
        while True:
            pthread_mutex_lock(&self._mutex)
            while self._phase != HANDED and not self._is_stopping:
                pthread_cond_wait(&self._condition, &self._mutex)
            if self._phase != HANDED:
                pthread_mutex_unlock(&self._mutex)
                return
            pthread_mutex_unlock(&self._mutex)
            started_ns = headrace_monotonic_ns()
            self._carry_out()
            self.duration_ns = 0
            if self._has_journal or self._sync_count > 0:
                self.duration_ns = headrace_monotonic_ns() - started_ns
            pthread_mutex_lock(&self._mutex)
            self._phase = DONE
            pthread_mutex_unlock(&self._mutex)
            c_write(self._wake_handle, &one, sizeof(one))  # full: it is readable already

    cdef void _carry_out(self) noexcept nogil:
        cdef Py_ssize_t index
        cdef WriteStep *step
        cdef int error
        if self._has_journal and not self._has_journaled():
            return
        for index in range(1 if self._has_journal else 0, self._write_count):
            step = &self._writes[index]
            if not self._has_failed(step.handle):
                error = _write_all(step.handle, <const char *>step.data.buf, step.data.len, step.offset)
                if error != 0:
                    self._note_failure(step.handle, error)
        for index in range(self._sync_count):
            if not self._has_failed(self._syncs[index].handle) and headrace_sync(self._syncs[index].handle) != 0:
                self._note_failure(self._syncs[index].handle, errno)

    cdef bint _has_journaled(self) noexcept nogil:
        """Write the journal and sync it; tell whether that was done."""
        cdef WriteStep *step = &self._writes[0]
        cdef int error = _write_all(step.handle, <const char *>step.data.buf, step.data.len, step.offset)
        if error == 0 and headrace_sync(step.handle) != 0:
            error = errno
        if error != 0:
            self._note_failure(step.handle, error)
        return error == 0

    cdef bint _has_failed(self, int handle) noexcept nogil:
        cdef Py_ssize_t index
        for index in range(self._failure_count):
            if self._failures[index].handle == handle:
                return True
        return False

    cdef void _note_failure(self, int handle, int error) noexcept nogil:
        self._failures[self._failure_count].handle = handle
        self._failures[self._failure_count].error = error
        self._failure_count += 1


cdef int _write_all(int handle, const char *data, Py_ssize_t size, int64_t offset) noexcept nogil:
    """Write everything; give 0 or an errno."""
    cdef Py_ssize_t written
    while size > 0:
        written = c_pwrite(handle, data, size, offset)
        if written < 0:
            if errno == EINTR:
                continue
            return errno
        if written == 0:
            return EIO
        data += written
        offset += written
        size -= written
    return 0


cdef _check_layout():
    cdef uint16_t probe = 1
    assert (<uint8_t *>&probe)[0] == 1, "records are written as this machine keeps integers: little-endian"
    assert sizeof(Header) == HEADER_SIZE == record.HEADER_SIZE
    assert SUBJECT_SIZE_MAX == record.SUBJECT_SIZE_MAX
    assert (ACCOUNTED_BASE, ACCOUNTED_HEADERS) == (accounting.FILE_OVERHEAD, accounting.FILE_HEADERS_OVERHEAD)


_check_layout()
_fill_crc_table()
