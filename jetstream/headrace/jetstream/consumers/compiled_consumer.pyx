"""The compiled engine's part of a consumer: its table of pending messages, and the subjects for their acks.

Problem: every message of a pull costs one row made, one ack subject written, one ack subject read and one row taken
out; with Python's objects these four cost more than all the rest. So rows lie in one array of structs, in ascending
order of stream sequence, and acks are read where the engine put them (the arena of a `CompiledBatch`).

`CompiledPending` keeps the contract of `PendingTable` (`pending.py`); what is not plainly an ack is left to the Python
code. `_rows[_first:_stop]` holds the rows; one that was taken out (no deliveries) stays in its place until it is the
first or the array is full. Sequences mostly follow one another without a gap, so a row is looked for where it then lies
before it is searched for.

Changes are noted as ranges in the order they come in, sorted and joined when somebody asks, or when there are many.

Ownership: the table owns both arrays. No pointer into them lives across a call that may grow them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy

from headrace.core.base.compiled_batch cimport CompiledBatch, Item

from headrace.jetstream.consumers.pending import settle_plain


cdef enum:
    CAPACITY_MIN = 64           # rows, and ranges
    CAPACITY_KEPT = 16 * 1024   # rows that an empty table keeps room for
    DIGITS_MAX = 18             # a number of more digits is left to Python

cdef struct PendingRow:
    uint64_t sequence
    uint64_t consumer_sequence
    int64_t time_ns
    uint64_t deliveries         # 0: taken out

cdef struct Range:
    uint64_t first
    uint64_t last


cdef int _compare_ranges(const void *left, const void *right) noexcept nogil:
    cdef uint64_t a = (<const Range *>left).first
    cdef uint64_t b = (<const Range *>right).first
    return (a > b) - (a < b)


cdef inline const char *_read_number(const char *text, const char *end, uint64_t *number) noexcept:
    """Read digits and the dot behind them; give what follows, or NULL."""
    cdef const char *start = text
    cdef uint64_t value = 0
    while text < end and c'0' <= text[0] <= c'9':
        value = value * 10 + <uint64_t>(text[0] - c'0')
        text += 1
        if text - start > DIGITS_MAX:
            return NULL
    if text == start or text == end or text[0] != c'.':
        return NULL
    number[0] = value
    return text + 1


cdef bint _read_ack(const char *text, size_t size, uint64_t *sequence) noexcept:
    """Read five tokens, the first three numbers: deliveries, stream sequence, consumer sequence. Tell if it is so."""
    cdef const char *end = text + size
    cdef uint64_t ignored
    cdef int dots = 0
    text = _read_number(text, end, &ignored)
    if text == NULL:
        return False
    text = _read_number(text, end, sequence)
    if text == NULL:
        return False
    text = _read_number(text, end, &ignored)
    if text == NULL:
        return False
    while text < end:
        dots += text[0] == c'.'
        text += 1
    return dots == 1


cdef bint _is_plain(const char *payload, size_t size) noexcept:
    """Tell whether this is one of `PLAIN_ACKS`."""
    if size == 0:
        return True
    if size == 4:
        return memcmp(payload, b"+ACK", 4) == 0
    return size == 3 and memcmp(payload, b"+OK", 3) == 0


cdef class CompiledPending:
    """See `PendingTable` in `pending.py`."""

    cdef PendingRow *_rows
    cdef Py_ssize_t _first      # the lowest row; `_stop` where there is none
    cdef Py_ssize_t _stop
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _count      # of rows not taken out
    cdef readonly Py_ssize_t repeated
    cdef Range *_changes
    cdef Py_ssize_t _change_count
    cdef Py_ssize_t _change_capacity

    def __cinit__(self):
        self._rows = NULL
        self._changes = NULL

    def __dealloc__(self):
        free(self._rows)
        free(self._changes)

    # what can be asked

    def __len__(self):
        return self._count

    def __iter__(self):
        return iter([sequence for sequence, _ in self.items()])

    def __contains__(self, sequence):
        return self._find(sequence) >= 0

    def __getitem__(self, sequence):
        row = self.get(sequence)
        if row is None:
            raise KeyError(sequence)
        return row

    def get(self, uint64_t sequence):
        cdef Py_ssize_t place = self._find(sequence)
        return None if place < 0 else self._row(place)

    def items(self):
        cdef Py_ssize_t place
        return [
            (self._rows[place].sequence, self._row(place))
            for place in range(self._first, self._stop)
            if self._rows[place].deliveries > 0
        ]

    def values(self):
        return [row for _, row in self.items()]

    def lowest(self):
        if self._count == 0:
            return None
        return self._rows[self._first].sequence, self._rows[self._first].consumer_sequence

    cdef tuple _row(self, Py_ssize_t place):
        cdef PendingRow *row = &self._rows[place]
        return row.consumer_sequence, row.time_ns, row.deliveries

    cdef Py_ssize_t _find(self, uint64_t sequence) noexcept:
        """Give a row's place; -1 where there is none."""
        cdef Py_ssize_t low = self._first
        cdef Py_ssize_t high = self._stop
        cdef Py_ssize_t middle
        if self._count == 0 or sequence < self._rows[low].sequence:
            return -1
        if sequence - self._rows[low].sequence < <uint64_t>(high - low):
            high = low + <Py_ssize_t>(sequence - self._rows[low].sequence)
            if self._rows[high].sequence == sequence:
                return high if self._rows[high].deliveries > 0 else -1
        while low < high:
            middle = (low + high) >> 1
            if self._rows[middle].sequence < sequence:
                low = middle + 1
            else:
                high = middle
        if low < self._stop and self._rows[low].sequence == sequence and self._rows[low].deliveries > 0:
            return low
        return -1

    # what changes rows

    def extend(self, sequences, uint64_t first_consumer, int64_t time_ns):
        cdef uint64_t sequence
        cdef uint64_t stop
        if isinstance(sequences, range) and sequences.step == 1:
            sequence, stop = sequences.start, sequences.stop
            if sequence < stop:
                self._note(sequence, stop - 1)
            while sequence < stop:
                self._append(sequence, first_consumer, time_ns, 1)
                first_consumer += 1
                sequence += 1
            return
        for sequence in sequences:
            self._append(sequence, first_consumer, time_ns, 1)
            self._note(sequence, sequence)
            first_consumer += 1

    def put(self, uint64_t sequence, row):
        cdef uint64_t consumer_sequence
        cdef int64_t time_ns
        cdef uint64_t deliveries
        cdef Py_ssize_t place = self._find(sequence)
        consumer_sequence, time_ns, deliveries = row
        if deliveries == 0:
            raise ValueError("a pending message was delivered")
        if place < 0:
            self._append(sequence, consumer_sequence, time_ns, deliveries)
        else:
            self.repeated -= self._rows[place].deliveries > 1
            self._rows[place].consumer_sequence = consumer_sequence
            self._rows[place].time_ns = time_ns
            self._rows[place].deliveries = deliveries
        self.repeated += deliveries > 1
        self._note(sequence, sequence)

    def pop(self, uint64_t sequence):
        cdef Py_ssize_t place = self._find(sequence)
        if place < 0:
            return None
        row = self._row(place)
        self._note(sequence, sequence)
        self._take_out(place)
        return row

    def clear(self):
        self._first = self._stop = self._count = self.repeated = 0
        if self._capacity > CAPACITY_KEPT:
            free(self._rows)
            self._rows = NULL
            self._capacity = 0

    cdef int _append(
        self, uint64_t sequence, uint64_t consumer_sequence, int64_t time_ns, uint64_t deliveries
    ) except -1:
        """Add a row behind all others."""
        cdef PendingRow *row
        while self._stop > self._first and self._rows[self._stop - 1].deliveries == 0:
            self._stop -= 1
        if self._stop > self._first and self._rows[self._stop - 1].sequence >= sequence:
            raise AssertionError("rows are added behind all others")
        if self._stop == self._capacity:
            self._make_room()
        row = &self._rows[self._stop]
        row.sequence = sequence
        row.consumer_sequence = consumer_sequence
        row.time_ns = time_ns
        row.deliveries = deliveries
        self._stop += 1
        self._count += 1
        return 0

    cdef int _make_room(self) except -1:
        """Move the rows to the array's front where that frees half of it, else double the array."""
        cdef Py_ssize_t place
        cdef Py_ssize_t kept = 0
        cdef Py_ssize_t capacity
        cdef void *grown
        if self._capacity > 0 and self._count <= self._capacity // 2:
            for place in range(self._first, self._stop):
                if self._rows[place].deliveries > 0:
                    self._rows[kept] = self._rows[place]
                    kept += 1
            self._first = 0
            self._stop = kept
            return 0
        capacity = 2 * self._capacity if self._capacity > 0 else CAPACITY_MIN
        grown = realloc(self._rows, capacity * sizeof(PendingRow))
        if grown == NULL:
            raise MemoryError
        self._rows = <PendingRow *>grown
        self._capacity = capacity
        return 0

    cdef void _take_out(self, Py_ssize_t place) noexcept:
        self.repeated -= self._rows[place].deliveries > 1
        self._rows[place].deliveries = 0
        self._count -= 1
        if self._count == 0:
            self._first = self._stop = 0
            return
        while self._rows[self._first].deliveries == 0:
            self._first += 1

    # acks

    def settle_plain(self, batch, Py_ssize_t start, size_t prefix_size, uint64_t delivered, list settled):
        cdef CompiledBatch messages
        cdef const Item *item
        cdef Py_ssize_t index
        cdef Py_ssize_t place
        cdef uint64_t sequence
        cdef bint is_any = False
        if not isinstance(batch, CompiledBatch):
            return settle_plain(self, batch, start, prefix_size, delivered, settled)
        messages = <CompiledBatch>batch
        if start < 0:
            raise IndexError(start)
        for index in range(start, messages.count):
            item = &messages.items[index]
            if (
                item.reply_size > 0
                or not _is_plain(
                    messages.arena + item.body_offset + item.headers_size, item.body_size - item.headers_size
                )
                or item.subject_size < prefix_size
                or not _read_ack(
                    messages.arena + item.subject_offset + prefix_size, item.subject_size - prefix_size, &sequence
                )
            ):
                return index, is_any
            if sequence > delivered:
                continue
            is_any = True
            place = self._find(sequence)
            if place >= 0:
                self._note(sequence, sequence)
                self._take_out(place)
                if settled is not None:
                    settled.append(sequence)
        return messages.count, is_any

    # changes

    @property
    def has_changes(self):
        return self._change_count > 0

    def note(self, uint64_t sequence):
        self._note(sequence, sequence)

    def forget_changes(self):
        self._change_count = 0

    cdef int _note(self, uint64_t first, uint64_t last) except -1:
        cdef Range *former
        cdef Py_ssize_t capacity
        cdef void *grown
        if self._change_count > 0:
            former = &self._changes[self._change_count - 1]
            if former.first <= first and first <= former.last + 1:
                if last > former.last:
                    former.last = last
                return 0
        if self._change_count == self._change_capacity:
            self._join_changes()
            if self._change_count >= self._change_capacity // 2:
                capacity = 2 * self._change_capacity if self._change_capacity > 0 else CAPACITY_MIN
                grown = realloc(self._changes, capacity * sizeof(Range))
                if grown == NULL:
                    raise MemoryError
                self._changes = <Range *>grown
                self._change_capacity = capacity
        self._changes[self._change_count].first = first
        self._changes[self._change_count].last = last
        self._change_count += 1
        return 0

    cdef void _join_changes(self) noexcept:
        """Sort the ranges and join those that touch."""
        cdef Py_ssize_t place
        cdef Py_ssize_t kept = 0
        if self._change_count < 2:
            return
        qsort(self._changes, self._change_count, sizeof(Range), _compare_ranges)
        for place in range(1, self._change_count):
            if self._changes[place].first <= self._changes[kept].last + 1:
                if self._changes[place].last > self._changes[kept].last:
                    self._changes[kept].last = self._changes[place].last
            else:
                kept += 1
                self._changes[kept] = self._changes[place]
        self._change_count = kept + 1

    def take_changes(self):
        cdef dict puts = {}
        cdef list drops = []
        cdef Py_ssize_t index
        cdef Py_ssize_t place
        cdef uint64_t sequence
        cdef uint64_t first     # of the drops that were not listed yet; 0: there are none
        self._join_changes()
        for index in range(self._change_count):
            first = 0
            sequence = self._changes[index].first
            while sequence <= self._changes[index].last:
                place = self._find(sequence)
                if place >= 0:
                    if first > 0:
                        drops.append((first, sequence - 1))
                        first = 0
                    puts[sequence] = self._row(place)
                elif first == 0:
                    first = sequence
                sequence += 1
            if first > 0:
                drops.append((first, sequence - 1))
        self._change_count = 0
        return puts, drops


# ---- ack subjects

cdef inline char *_write_number(char *out, uint64_t number) noexcept:
    """Write digits; give what follows them."""
    cdef char digits[20]
    cdef int count = 0
    while True:
        digits[19 - count] = <char>(c'0' + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    memcpy(out, digits + 20 - count, count)
    return out + count


def compiled_replies(bytes prefix, views, uint64_t consumer_sequence, int64_t num_pending):
    """Do what `pending.plain_replies` does."""
    cdef list replies = []
    cdef size_t prefix_size = PyBytes_GET_SIZE(prefix)
    # Four numbers of up to 20 digits, one with a sign, and `1.` with the other dots.
    cdef bytearray scratch = bytearray(prefix_size + 96)
    cdef char *start = scratch
    cdef char *out
    cdef uint64_t sequence
    cdef uint64_t time_ns
    memcpy(start, PyBytes_AS_STRING(prefix), prefix_size)
    memcpy(start + prefix_size, b"1.", 2)
    for view in views:
        if not isinstance(view, tuple) or PyTuple_GET_SIZE(view) < 2:
            raise TypeError(f"a view, not {view!r}")
        sequence = <object>PyTuple_GET_ITEM(view, 0)
        time_ns = <object>PyTuple_GET_ITEM(view, 1)
        consumer_sequence += 1
        num_pending -= 1
        out = _write_number(start + prefix_size + 2, sequence)
        out[0] = c'.'
        out = _write_number(out + 1, consumer_sequence)
        out[0] = c'.'
        out = _write_number(out + 1, time_ns)
        out[0] = c'.'
        out += 1
        if num_pending < 0:
            out[0] = c'-'
            out = _write_number(out + 1, <uint64_t>-num_pending)
        else:
            out = _write_number(out, <uint64_t>num_pending)
        replies.append(PyBytes_FromStringAndSize(start, out - start))
    return replies
