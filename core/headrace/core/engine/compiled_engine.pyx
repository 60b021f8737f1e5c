"""The compiled engine: the plain engine with its hottest loops in C.

Problem: most of what a server reads are publishes whose route is known already. For those, Python's objects cost more
than the work. So `_read` takes PUB and HPUB in the form that clients send, finds the route in a small table, and copies
prefix and body into each subscriber's buffer, with no object per message; `answer` and `deliver` do the same for pub
acks and stored messages. **Everything else is the plain engine's**: any other operation, any other form, a connection
that is verbose or pedantic, a subject whose route or verdict is not known yet, subscriptions with a limit, a sink in a
queue group, a message that nobody took and that wants to know. Such an operation is handed to the plain reader byte
for byte, and the loop goes on behind it. The plain reader may be given its input in any pieces, so this is never wrong,
only slower.

What holds between calls: nothing is kept in C but the beginning of one publish that has not arrived wholly (`Wire.rest`)
and routes. Output, counts and gathered messages are handed to the plain engine's own structures (`_settle`) before
its code runs and before a call returns, so neither can overtake the other and both see the same numbers.

A **fast route** is a plain `Route` in C: for each target the line `HMSG <subject> <sid> ` (without its H for MSG), the
subscriber's wire, and a count. There are two kinds. An exact one belongs to one subject and is good as long as its
`Route.is_live`. One by parent serves all subjects that differ in their last token alone, where that token decides
nothing (inboxes): it is good while the route table's generation stands, for subjects without a literal subscription.
What Python may have changed is looked at once in an *epoch*; a new one begins whenever Python code has run.

Ownership: a chunk is pinned for the call and nothing points into it afterwards. A wire owns its buffer and its rest; a
route owns its targets and keeps the objects that they borrow alive in `keep`. Buffers are freed where they are handed
over or with their owner, never when a connection closes, as that may happen within a copy's call chain.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy

from headrace.core.base.compiled_batch cimport CompiledBatch, Item

from headrace.core.base.chance import fresh_seed
from headrace.core.engine.interface import Delivered, Gathered, Outcome, Phase
from headrace.core.engine.plain import PlainEngine
from headrace.core.engine.plain_connection import NEVER, PlainConnection
from headrace.core.routing.entries import SinkBox, SinkEntry


cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    #endif

    /* Chunks and blocks of some 100 KiB come and go many times in a millisecond. Left alone, the C library gives their
       pages back to the system each time, and takes them again fault by fault. */
    static void headrace_keep_freed_pages(int trim_size, int map_size) {
    #if defined(__GLIBC__)
        mallopt(M_TRIM_THRESHOLD, trim_size);
        mallopt(M_MMAP_THRESHOLD, map_size);
    #else
        (void)trim_size;
        (void)map_size;
    #endif
    }
    """
    void headrace_keep_freed_pages(int trim_size, int map_size)


cdef enum:
    BLOCK_SIZE = 128 * 1024     # output is handed over when so much has gathered: it then still lies in the cache
    BUFFER_SIZE_MIN = 2 * 1024
    POOL_SIZE = 8               # blocks kept for reuse
    CACHE_SIZE_MIN = 64         # slots of a route cache, a power of two
    CACHE_SIZE_MAX = 16 * 1024
    TARGETS_MAX = 4096          # of one fast route; wider fan-outs are copied by the plain engine
    TRIM_SIZE = 8 * 1024 * 1024 # freed memory that the process keeps
    MAP_SIZE = 1024 * 1024      # allocations from here on are given back at once

cdef enum Reading:
    COMPLETE
    PARTIAL
    ODD                         # for the plain reader

cdef enum Stop:
    AT_END
    AT_PARTIAL
    AT_ODD


# ---- a publish as it lies in the input

cdef struct Line:
    # Pointers into the chunk; good for the call alone.
    const char *subject
    const char *reply
    const char *body            # what an outgoing line ends with, then the payload: `[reply ][headers ]size CRLF ...`
    size_t subject_size
    size_t reply_size
    size_t line_size
    size_t header_size
    size_t total_size


cdef inline bint _read_size(const char *text, size_t size, size_t *result) noexcept nogil:
    """Read one to nine digits."""
    cdef size_t index
    cdef size_t value = 0
    if size == 0 or size > 9:
        return False
    for index in range(size):
        if not c'0' <= text[index] <= c'9':
            return False
        value = value * 10 + <size_t>(text[index] - c'0')
    result[0] = value
    return True


cdef Reading _read_line(const char *start, const char *end, Line *line) noexcept nogil:
    """Read a control line `PUB subject [reply] size` or `HPUB subject [reply] size size`, single blanks, upper case."""
    cdef const char *names = b"HPUB "
    cdef const char *position = start
    cdef const char *words[4]
    cdef size_t sizes[4]
    cdef int count = 0
    cdef bint is_headed = start[0] == c'H'
    if not is_headed:
        names += 1
    while names[0] != 0:
        if position == end:
            return PARTIAL
        if position[0] != names[0]:
            return ODD
        position += 1
        names += 1
    while True:
        if count == 4:
            return ODD
        words[count] = position
        while position < end and <unsigned char>position[0] > 32:
            position += 1
        if position == end:
            return PARTIAL
        sizes[count] = position - words[count]
        if sizes[count] == 0:
            return ODD
        count += 1
        if position[0] == c' ':
            position += 1
            continue
        if position[0] != c'\r':
            return ODD
        if position + 1 == end:
            return PARTIAL
        if position[1] != c'\n':
            return ODD
        break
    if count < 2 + is_headed or count > 3 + is_headed:
        return ODD
    line.header_size = 0
    if not _read_size(words[count - 1], sizes[count - 1], &line.total_size):
        return ODD
    if is_headed:
        if not _read_size(words[count - 2], sizes[count - 2], &line.header_size):
            return ODD
        if line.header_size == 0 or line.header_size > line.total_size:
            return ODD
    line.subject = words[0]
    line.subject_size = sizes[0]
    line.body = line.reply = words[1]
    line.reply_size = sizes[1] if count == 3 + is_headed else 0
    line.line_size = position + 2 - start
    return COMPLETE


cdef inline bint _is_reserved_reply(const char *reply, size_t size) noexcept nogil:
    """Tell whether a reply may be one that clients must not use (plain_scope.RESERVED_REPLIES)."""
    return reply[0] == c'$' or (size > 1 and reply[0] == c'_' and (reply[1] == c'R' or reply[1] == c'G'))


cdef uint64_t _seed = fresh_seed()


cdef inline uint64_t _hash(const char *data, size_t size) noexcept nogil:
    """Hash a subject. A collision costs a look-up in Python and nothing else; the seed keeps it from being arranged."""
    cdef uint64_t value = _seed ^ size
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, data, 8)
        value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
        data += 8
        size -= 8
    word = 0
    memcpy(&word, data, size)
    value = (value ^ word) * <uint64_t>0xBF58476D1CE4E5B9
    return value ^ (value >> 32)


cdef inline Py_ssize_t _slot(bytes name, Py_ssize_t count) noexcept:
    """Give the slot of a name among `count`, a power of two."""
    return <Py_ssize_t>(_hash(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) & <uint64_t>(count - 1))


# ---- connections and routes

cdef class Wire:
    """What is kept in C of a connection."""

    cdef object __weakref__
    cdef object connection
    cdef char *buffer           # output that was not handed over yet
    cdef size_t size
    cdef size_t capacity
    cdef uint64_t out_messages
    cdef uint64_t out_bytes
    cdef bint is_dirty          # in the engine's list of those with output
    cdef char *rest             # the beginning of one publish
    cdef size_t rest_size
    cdef size_t rest_capacity
    cdef bytes waiting          # input behind a barrier
    cdef size_t max_payload
    cdef size_t max_control_line
    # What the connection said in `epoch`:
    cdef uint64_t epoch
    cdef bint is_usable
    cdef bint echo
    cdef bint headers
    cdef bint hears_replies
    cdef bint no_responders
    cdef bint has_room

    def __cinit__(self, connection):
        self.connection = connection
        self.buffer = self.rest = NULL
        self.waiting = b""

    def __dealloc__(self):
        free(self.buffer)
        free(self.rest)


class CompiledConnection(PlainConnection):
    """A connection with its wire."""

    __slots__ = ("wire",)

    def __init__(self, transport, connection_id):
        super().__init__(transport, connection_id)
        self.wire = Wire(self)


cdef class Gatherer:
    """What a sink was sent in this call; `batch` is None until there is something."""

    cdef object sink
    cdef CompiledBatch batch

    def __cinit__(self, sink):
        self.sink = sink


cdef struct Target:
    PyObject *wire              # borrowed, as is the subscription; see FastRoute.keep
    PyObject *subscription
    size_t prefix_offset        # in FastRoute.prefixes
    size_t prefix_size
    uint64_t delivered          # not added to the subscription yet


cdef struct Group:
    # A queue group: members are targets too, behind those of plain subscriptions.
    Py_ssize_t first
    Py_ssize_t count


cdef class FastRoute:
    """Who gets what is published on one subject, or on all with one parent."""

    cdef bytes name             # the subject, or the parent
    cdef object route           # the plain Route; None by parent
    cdef object table
    cdef uint64_t generation    # of the table; by parent
    cdef list keep
    cdef list gatherers
    cdef Target *targets
    cdef Py_ssize_t count           # of targets
    cdef Py_ssize_t plain_count     # of those that get every message
    cdef Group *groups
    cdef Py_ssize_t group_count
    cdef bytes prefixes
    cdef bint is_answered
    cdef bint is_counted        # in the engine's list of those with counts
    # What was found in `epoch`:
    cdef uint64_t epoch
    cdef bint is_live
    cdef bint is_usable
    cdef bint takes_headers
    cdef bint hears_replies
    cdef bint has_room

    def __cinit__(self):
        self.targets = NULL
        self.groups = NULL

    def __dealloc__(self):
        free(self.targets)
        free(self.groups)


cdef class RouteCache:
    """Fast routes by hash, one a slot: a newer one drives out the older. `scope` is None for the server itself."""

    cdef object scope
    cdef object table
    cdef list exact
    cdef list parents
    cdef uint32_t *seen         # fingerprints of subjects that came once, as many as slots

    def __cinit__(self, scope, table):
        self.scope = scope
        self.table = table
        self.exact = [None] * CACHE_SIZE_MIN
        self.parents = [None] * CACHE_SIZE_MIN
        self.seen = <uint32_t *>calloc(CACHE_SIZE_MAX, sizeof(uint32_t))
        if self.seen == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.seen)

    cdef FastRoute find(self, list slots, const char *name, size_t size, uint64_t hashed):
        """Give the route kept under a name, or None."""
        cdef object held = <object>PyList_GET_ITEM(slots, <Py_ssize_t>(hashed & <uint64_t>(len(slots) - 1)))
        cdef FastRoute route
        if held is None:
            return None
        route = <FastRoute>held
        if <size_t>PyBytes_GET_SIZE(route.name) != size or memcmp(PyBytes_AS_STRING(route.name), name, size) != 0:
            return None
        return route

    cdef list keep(self, list slots, FastRoute route):
        """Keep a route; give the slots, which may be new ones: twice as many where another would be driven out."""
        cdef object held = slots[_slot(route.name, len(slots))]
        cdef list wider
        if held is not None and (<FastRoute>held).name != route.name and len(slots) < CACHE_SIZE_MAX:
            wider = [None] * (2 * len(slots))
            for held in slots:
                if held is not None:
                    wider[_slot((<FastRoute>held).name, len(wider))] = held
            slots = wider
        slots[_slot(route.name, len(slots))] = route
        return slots

    cdef bint was_seen(self, uint64_t hashed) noexcept:
        """Tell whether a subject came lately, and note it."""
        cdef uint32_t mark = <uint32_t>(hashed >> 32) | 1
        cdef uint32_t *place = &self.seen[hashed & (CACHE_SIZE_MAX - 1)]
        if place[0] == mark:
            return True
        place[0] = mark
        return False


# ---- the engine

cdef class FastPath:
    """The loop in C, beside a plain engine's parts."""

    cdef object reader
    cdef object delivery
    cdef object subscriptions
    cdef object chance
    cdef uint64_t[4] words      # the generator's, while `has_words`
    cdef bint has_words
    cdef dict caches            # of RouteCache, by scope or (for the server itself) table
    cdef dict gatherers         # by the id of their sink, which they keep alive
    cdef list touched           # gatherers with a batch
    cdef list dirty             # wires with output
    cdef list counted           # routes with counts
    cdef uint64_t epoch
    cdef bint skips_slow
    cdef char *pool[POOL_SIZE]
    cdef int pooled

    def __cinit__(self, reader, delivery, subscriptions, chance, skips_slow):
        self.chance = chance
        self.has_words = False
        self.reader = reader
        self.delivery = delivery
        self.subscriptions = subscriptions
        self.skips_slow = skips_slow
        self.caches = {}
        self.gatherers = {}
        self.touched = []
        self.dirty = []
        self.counted = []
        self.epoch = 1
        self.pooled = 0

    def __dealloc__(self):
        while self.pooled > 0:
            self.pooled -= 1
            free(self.pool[self.pooled])

    # input

    def receive(self, connection, chunk):
        """Parse what arrived behind what was left; give the events."""
        cdef Wire wire = connection.wire
        if wire.waiting:
            chunk = wire.waiting + bytes(chunk)
            wire.waiting = b""
        return self._process(wire, chunk)

    def resume(self, connection):
        """Go on after a barrier."""
        cdef Wire wire = connection.wire
        cdef list events = []
        if connection.position < len(connection.data):
            if self._merge(self.reader.resume(connection), events):
                return events
        chunk, wire.waiting = wire.waiting, b""
        if chunk:
            events += self._process(wire, chunk)
        else:
            self._report(events)
        return events

    cdef list _process(self, Wire wire, chunk):
        cdef Py_buffer view
        cdef list events = []
        cdef const char *position
        cdef const char *end
        PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE)
        try:
            if view.len > 0:
                position = <const char *>view.buf
                end = position + view.len
                position = self._read_all(wire, position, end, events)
                if position < end and not wire.connection.is_broken:
                    wire.waiting = position[: end - position] + wire.waiting
        finally:
            PyBuffer_Release(&view)
            self._settle(wire)
        self._report(events)
        return events

    cdef const char *_read_all(self, Wire wire, const char *position, const char *end, list events) except NULL:
        """Read operations until the end, or a barrier; give where it stopped."""
        cdef object connection = wire.connection
        cdef bint is_fast = connection.phase is Phase.OPEN and not connection.verbose and not connection.pedantic
        cdef RouteCache cache = None
        cdef size_t size
        cdef char *rest
        cdef Stop stop
        self._begin_epoch()
        wire.max_control_line = connection.max_control_line
        wire.max_payload = connection.max_payload if connection.max_payload >= 0 else <size_t>1 << 40
        if is_fast:
            scope = connection.scope
            if scope is None:
                scope = self.subscriptions.bind(connection)
            cache = self._cache(scope, scope.table)
        if wire.rest_size > 0:
            position = self._complete_rest(wire, position, end)
            if wire.rest == NULL or (position == end and self._lacks(wire)):
                return position
            # Detached from the wire for the time that it is read, whatever is called meanwhile.
            rest, size = wire.rest, wire.rest_size
            wire.rest = NULL
            wire.rest_size = wire.rest_capacity = 0
            try:
                stop = AT_ODD
                if is_fast and not self._has_plain_input(connection):
                    self._read(wire, cache, rest, rest + size, &stop)
                if stop != AT_END and self._hand_to_plain(wire, rest, size, events):
                    return position
            finally:
                free(rest)
        while position < end:
            size = end - position
            if not is_fast:
                pass
            elif self._has_plain_input(connection):
                size = self._plain_share(connection, position, size)
            else:
                position = self._read(wire, cache, position, end, &stop)
                if stop == AT_END:
                    break
                size = end - position
                if stop == AT_PARTIAL:
                    self._keep_rest(wire, position, size)
                    return end
                size = self._odd_share(position, size)
            if self._hand_to_plain(wire, position, size, events):
                return position + size
            position += size
        return end

    cdef bint _has_plain_input(self, connection):
        """Tell whether the plain reader is in the middle of an operation."""
        return connection.needed != 0 or connection.position < len(connection.data)

    cdef size_t _plain_share(self, connection, const char *position, size_t size) except? 0:
        """Tell how much of the input the plain reader needs, as far as it can be told, to end its operation."""
        cdef size_t needed
        if connection.needed != 0:
            needed = connection.needed - connection.pieces_size
            return needed if 0 < needed < size else size
        return self._odd_share(position, size)

    cdef size_t _odd_share(self, const char *position, size_t size) noexcept:
        """Tell how long the operation is that the plain reader will get: a whole publish, or up to the line's end."""
        cdef Line line
        cdef const void *newline
        if _read_line(position, position + size, &line) == COMPLETE and line.line_size + line.total_size + 2 <= size:
            return line.line_size + line.total_size + 2
        newline = memchr(position, c'\n', size)
        return size if newline == NULL else <const char *>newline + 1 - position

    cdef bint _hand_to_plain(self, Wire wire, const char *data, size_t size, list events) except -1:
        """Let the plain reader have these bytes; tell whether to stop here."""
        self._settle(wire)
        connection = wire.connection
        is_stop = self._merge(self.reader.receive(connection, data[:size]), events)
        self._begin_epoch()
        return is_stop or connection.is_broken

    # the beginning of a publish that has not arrived wholly

    cdef int _keep_rest(self, Wire wire, const char *data, size_t size) except -1:
        """Copy input behind the rest."""
        cdef void *grown
        cdef size_t wanted = wire.rest_size + size
        if wanted > wire.rest_capacity:
            grown = realloc(wire.rest, wanted)
            if grown == NULL:
                raise MemoryError
            wire.rest = <char *>grown
            wire.rest_capacity = wanted
        memcpy(wire.rest + wire.rest_size, data, size)
        wire.rest_size = wanted
        return 0

    cdef const char *_complete_rest(self, Wire wire, const char *position, const char *end) except NULL:
        """Move as much of the input into the rest as its publish needs; give where the input goes on.

        Afterwards the rest is one whole publish, or something odd, or all of the input is in it.
        """
        cdef Line line
        cdef const void *newline
        cdef size_t size
        cdef size_t wanted
        cdef void *grown
        if _read_line(wire.rest, wire.rest + wire.rest_size, &line) == PARTIAL and position < end:
            newline = memchr(position, c'\n', end - position)
            size = (end if newline == NULL else <const char *>newline + 1) - position
            self._keep_rest(wire, position, size)
            position += size
        if (
            _read_line(wire.rest, wire.rest + wire.rest_size, &line) == COMPLETE
            and line.total_size <= wire.max_payload
        ):
            wanted = line.line_size + line.total_size + 2
            # Room for all of it at once: a long payload that comes in many pieces is copied once.
            if wanted > wire.rest_capacity:
                grown = realloc(wire.rest, wanted)
                if grown == NULL:
                    raise MemoryError
                wire.rest = <char *>grown
                wire.rest_capacity = wanted
            size = wanted - wire.rest_size if wanted > wire.rest_size else 0
            if size > <size_t>(end - position):
                size = end - position
            self._keep_rest(wire, position, size)
            position += size
        return position

    cdef bint _lacks(self, Wire wire) noexcept:
        """Tell whether the rest may still become a publish for the fast path."""
        cdef Line line
        cdef Reading reading = _read_line(wire.rest, wire.rest + wire.rest_size, &line)
        if reading == PARTIAL:
            return wire.rest_size <= wire.max_control_line
        return (
            reading == COMPLETE
            and line.total_size <= wire.max_payload
            and wire.rest_size < line.line_size + line.total_size + 2
        )

    # the loop

    cdef const char *_read(
        self, Wire wire, RouteCache cache, const char *position, const char *end, Stop *stop
    ) except NULL:
        """Deliver publishes until something else comes; give where it stands."""
        cdef object connection = wire.connection
        cdef bint takes_headers = connection.headers
        cdef uint64_t publisher_id = connection.id
        cdef uint64_t messages = 0
        cdef uint64_t size = 0
        cdef size_t step = 0        # from one message of a run to the next; 0: there is no line to compare with
        cdef const char *former = NULL
        cdef FastRoute route = None
        cdef Line line
        cdef Reading reading
        stop[0] = AT_END
        if wire.epoch != self.epoch:
            self._look_at_wire(wire)
        try:
            while position < end:
                if (
                    step != 0
                    and <size_t>(end - position) >= step
                    and memcmp(position, former, line.line_size) == 0
                ):
                    # The same line again: only the place is another.
                    line.subject += position - former
                    line.reply += position - former
                    line.body += position - former
                else:
                    step = 0
                    reading = _read_line(position, end, &line)
                    if reading == PARTIAL:
                        stop[0] = AT_PARTIAL if <size_t>(end - position) <= wire.max_control_line else AT_ODD
                        break
                    if (
                        reading == ODD
                        or line.line_size > wire.max_control_line
                        or line.total_size > wire.max_payload
                        or (line.header_size > 0 and not takes_headers)
                        or (line.reply_size > 0 and _is_reserved_reply(line.reply, line.reply_size))
                    ):
                        stop[0] = AT_ODD
                        break
                    if <size_t>(end - position) < line.line_size + line.total_size + 2:
                        stop[0] = AT_PARTIAL
                        break
                    route = self._find(cache, line.subject, line.subject_size)
                    if route is None:
                        stop[0] = AT_ODD
                        break
                    step = line.line_size + line.total_size + 2
                former = position
                position += step
                if memcmp(position - 2, b"\r\n", 2) != 0 or not self._put(
                    wire, publisher_id, route, &line, line.body, position - line.body
                ):
                    position = former
                    stop[0] = AT_ODD
                    break
                messages += 1
                size += line.total_size
        finally:
            if messages > 0:
                connection.in_messages += messages
                connection.in_bytes += size
        return position

    cdef bint _put(
        self, Wire publisher, uint64_t publisher_id, FastRoute route, const Line *line, const char *body, size_t body_size
    ) except -1:
        """Deliver one message to all in its route; False, and nothing is done, where that needs the plain engine.

        `body` is what follows the prefix: the end of the outgoing line, headers, payload, CRLF. `publisher` is None
        for the server itself.
        """
        cdef Py_ssize_t index
        cdef Py_ssize_t member
        cdef Gatherer gatherer
        cdef Wire silent = publisher if publisher is not None and not publisher.echo else None
        if route.epoch != self.epoch:
            self._look_at_route(route)
        if not route.is_usable or (line.header_size > 0 and not route.takes_headers):
            return False
        if line.reply_size > 0 and publisher is not None:
            if route.hears_replies:
                return False
            if publisher.no_responders and not route.is_answered and not self._is_taken(route, silent):
                return False
        if route.count > 0 and not route.is_counted:
            route.is_counted = True
            self.counted.append(route)
        for index in range(route.plain_count):
            if route.targets[index].wire != <PyObject *>silent:
                self._copy(route, &route.targets[index], line, body, body_size, publisher)
        for index in range(route.group_count):
            member = self._choose(route, &route.groups[index], silent)
            if member >= 0:
                self._copy(route, &route.targets[member], line, body, body_size, publisher)
        for gatherer in route.gatherers:
            if gatherer.batch is None:
                gatherer.batch = CompiledBatch()
                self.touched.append(gatherer)
            gatherer.batch.add(
                line.subject,
                line.subject_size,
                line.reply,
                line.reply_size,
                body + (body_size - line.total_size - 2),
                line.header_size,
                line.total_size,
                publisher_id,
            )
        return True

    cdef int _copy(
        self, FastRoute route, Target *target, const Line *line, const char *body, size_t body_size, Wire publisher
    ) except -1:
        """Append a message to a target's output."""
        cdef Wire wire = <Wire>target.wire
        cdef const char *prefix = PyBytes_AS_STRING(route.prefixes) + target.prefix_offset
        cdef size_t prefix_size = target.prefix_size
        # A route by parent has no subject in its prefixes: `HMSG `, the subject and a blank come first.
        cdef size_t size = body_size + prefix_size + (line.subject_size + 6 if route.route is None else 0)
        if wire.size + size > wire.capacity:
            self._make_room(wire, size, publisher)
        if route.route is None:
            if line.header_size > 0:
                wire.buffer[wire.size] = c'H'
                wire.size += 1
            memcpy(wire.buffer + wire.size, b"MSG ", 4)
            memcpy(wire.buffer + wire.size + 4, line.subject, line.subject_size)
            wire.size += line.subject_size + 4
            wire.buffer[wire.size] = c' '
            wire.size += 1
        elif line.header_size == 0:
            prefix += 1
            prefix_size -= 1
        memcpy(wire.buffer + wire.size, prefix, prefix_size)
        memcpy(wire.buffer + wire.size + prefix_size, body, body_size)
        wire.size += prefix_size + body_size
        wire.out_messages += 1
        wire.out_bytes += line.total_size
        target.delivered += 1
        if not wire.is_dirty:
            wire.is_dirty = True
            self.dirty.append(wire)
        return 0

    cdef bint _is_taken(self, FastRoute route, Wire silent) noexcept:
        """Tell whether anybody but `silent` is there."""
        cdef Py_ssize_t index
        for index in range(route.count):
            if route.targets[index].wire != <PyObject *>silent:
                return True
        return False

    # queue groups

    cdef Py_ssize_t _choose(self, FastRoute route, const Group *group, Wire silent) except -2:
        """Draw a member, or take the next that is not `silent`; -1 where there is none."""
        cdef Py_ssize_t start = self._below(group.count) if group.count > 1 else 0
        cdef Py_ssize_t index
        cdef Py_ssize_t member
        for index in range(group.count):
            member = group.first + (start + index) % group.count
            if route.targets[member].wire != <PyObject *>silent:
                return member
        return -1

    cdef Py_ssize_t _below(self, Py_ssize_t bound) except -1:
        """Draw as `Chance.below` does, from the same words."""
        cdef uint64_t result
        cdef uint64_t shifted
        if not self.has_words:
            self.words = self.chance.state
            self.has_words = True
        result = self.words[1] * 5
        result = ((result << 7) | (result >> 57)) * 9
        shifted = self.words[1] << 17
        self.words[2] ^= self.words[0]
        self.words[3] ^= self.words[1]
        self.words[1] ^= self.words[2]
        self.words[0] ^= self.words[3]
        self.words[2] ^= shifted
        self.words[3] = (self.words[3] << 45) | (self.words[3] >> 19)
        return <Py_ssize_t>(((result >> 32) * <uint64_t>bound) >> 32)

    # routes

    cdef RouteCache _cache(self, scope, table):
        """Give the cache of a scope, or (scope None) of the server itself in a table."""
        key = table if scope is None else scope
        cache = self.caches.get(key)
        if cache is None:
            cache = self.caches[key] = RouteCache(scope, table)
        return <RouteCache>cache

    cdef FastRoute _find(self, RouteCache cache, const char *subject, size_t size):
        """Give a live route for a subject, made where that is worth it, or None."""
        cdef uint64_t hashed = _hash(subject, size)
        cdef FastRoute route = cache.find(cache.exact, subject, size, hashed)
        cdef size_t parent_size = size
        cdef bytes name
        if route is not None:
            if route.epoch != self.epoch:
                self._look_at_route(route)
            if route.is_live:
                return route
        name = subject[:size]
        if route is not None or cache.was_seen(hashed):
            if cache.scope is not None and not cache.scope.may_publish(name):
                return None
            route = self._exact_route(cache, name, cache.table.lasting_route(name))
            if route is not None:
                cache.exact = cache.keep(cache.exact, route)
            return route
        # By parent, where the verdict is the same for all below it: it then rests on the first token alone.
        if cache.scope is not None and cache.scope.permissions is not None:
            return None
        while parent_size > 0 and subject[parent_size - 1] != c'.':
            parent_size -= 1
        if parent_size < 2 or parent_size == size:
            return None
        parent_size -= 1
        route = cache.find(cache.parents, subject, parent_size, _hash(subject, parent_size))
        if route is not None:
            if route.epoch != self.epoch:
                self._look_at_route(route)
            if not route.is_live:
                route = None
        if route is None:
            if cache.scope is not None and not cache.scope.may_publish(name):
                return None
            route = self._parent_route(cache, name, parent_size)
            if route is None:
                return None
            cache.parents = cache.keep(cache.parents, route)
        if cache.table.has_literal(name):
            return None
        return route

    cdef FastRoute _exact_route(self, RouteCache cache, bytes subject, plain):
        """Make a fast route of a subject's plain route; None where it has a part that is not for the fast path."""
        targets = list(plain.targets)
        group_sizes = []
        for _, members in plain.groups:
            if any(isinstance(member, SinkBox) for member in members):
                return None
            targets += members
            group_sizes.append(len(members))
        if len(targets) > TARGETS_MAX:
            return None
        cdef FastRoute route = FastRoute()
        route.name = subject
        route.route = plain
        route.table = cache.table
        route.is_answered = plain.is_answered
        route.gatherers = [self._gatherer(box.sink) for box in plain.boxes]
        self._set_targets(
            route,
            [target.subscription for target in targets],
            [b"H" + target.prefix for target in targets],
            group_sizes,
        )
        return route

    cdef FastRoute _parent_route(self, RouteCache cache, bytes subject, size_t parent_size):
        """Make a route for every subject with this one's parent; None where the last token matters."""
        entries = cache.table.entries_below(subject)
        if entries is None or len(entries) > TARGETS_MAX:
            return None
        cdef FastRoute route = FastRoute()
        route.name = subject[:parent_size]
        route.route = None
        route.table = cache.table
        route.generation = cache.table.generation
        route.is_answered = False
        subscriptions = []
        groups = {}
        boxes = []
        for entry in entries:
            if isinstance(entry, SinkEntry):
                if entry.queue:
                    return None
                route.is_answered = route.is_answered or entry.answers is None
                if entry.box not in boxes:
                    boxes.append(entry.box)
            elif entry.is_filtered:
                return None
            elif entry.queue:
                groups.setdefault(entry.queue, []).append(entry)
            else:
                subscriptions.append(entry)
        group_sizes = []
        for queue in sorted(groups):
            subscriptions += groups[queue]
            group_sizes.append(len(groups[queue]))
        route.gatherers = [self._gatherer(box.sink) for box in boxes]
        prefixes = [subscription.sid + b" " for subscription in subscriptions]
        self._set_targets(route, subscriptions, prefixes, group_sizes)
        return route

    cdef int _set_targets(self, FastRoute route, list subscriptions, list prefixes, list group_sizes) except -1:
        """Fill in the targets: plain subscriptions, then the members of each group."""
        cdef size_t offset = 0
        cdef Py_ssize_t index
        cdef Py_ssize_t first
        cdef Target *target
        route.targets = <Target *>calloc(len(subscriptions) + 1, sizeof(Target))
        route.groups = <Group *>calloc(len(group_sizes) + 1, sizeof(Group))
        if route.targets == NULL or route.groups == NULL:
            raise MemoryError
        wires = [subscription.connection.wire for subscription in subscriptions]
        route.keep = [wires, subscriptions]
        route.prefixes = b"".join(prefixes)
        for index in range(len(subscriptions)):
            target = &route.targets[index]
            target.wire = PyList_GET_ITEM(wires, index)
            target.subscription = PyList_GET_ITEM(subscriptions, index)
            target.prefix_offset = offset
            target.prefix_size = len(prefixes[index])
            offset += target.prefix_size
        route.count = len(subscriptions)
        route.plain_count = first = route.count - sum(group_sizes)
        route.group_count = len(group_sizes)
        for index in range(route.group_count):
            route.groups[index].first = first
            route.groups[index].count = group_sizes[index]
            first += route.groups[index].count
        self._look_at_route(route)
        return 0

    cdef int _look_at_route(self, FastRoute route) except -1:
        """Find out what has become of a route and of those in it."""
        cdef Py_ssize_t index
        cdef Wire wire
        route.epoch = self.epoch
        route.is_usable = False
        if route.route is None:
            route.is_live = route.table.generation == route.generation
        else:
            route.is_live = route.route.is_live
        if not route.is_live:
            return 0
        route.takes_headers = True
        route.hears_replies = False
        route.has_room = True
        for index in range(route.count):
            wire = <Wire>route.targets[index].wire
            if wire.epoch != self.epoch:
                self._look_at_wire(wire)
            if not wire.is_usable or (<object>route.targets[index].subscription).limit != NEVER:
                return 0
            route.takes_headers = route.takes_headers and wire.headers
            route.hears_replies = route.hears_replies or wire.hears_replies
            route.has_room = route.has_room and wire.has_room
        route.is_usable = True
        return 0

    cdef int _look_at_wire(self, Wire wire) except -1:
        connection = wire.connection
        wire.epoch = self.epoch
        wire.has_room = connection.relief_size >= 0
        wire.is_usable = not connection.is_overflowing and (wire.has_room or not self.skips_slow)
        wire.echo = connection.echo
        wire.headers = connection.headers
        wire.no_responders = connection.no_responders
        wire.hears_replies = connection.delivered_replies is not None
        return 0

    cdef void _begin_epoch(self) noexcept:
        self.epoch += 1

    # output

    cdef int _make_room(self, Wire wire, size_t size, Wire publisher) except -1:
        """Make sure that `size` more bytes have room in a wire's buffer."""
        cdef size_t capacity
        cdef void *grown
        if wire.size > 0 and wire.size + size > BLOCK_SIZE:
            self._hand_over(wire, publisher)
            self.delivery.hand_over(wire.connection)
            self._begin_epoch()
        if wire.size + size <= wire.capacity:
            return 0
        capacity = wire.capacity * 4 if wire.capacity > 0 else BUFFER_SIZE_MIN
        while capacity < wire.size + size and capacity < BLOCK_SIZE:
            capacity *= 4
        if capacity > BLOCK_SIZE:
            capacity = BLOCK_SIZE
        if capacity < wire.size + size:
            capacity = wire.size + size
        if capacity == BLOCK_SIZE and self.pooled > 0:
            self.pooled -= 1
            grown = self.pool[self.pooled]
            if wire.size > 0:
                memcpy(grown, wire.buffer, wire.size)
            free(wire.buffer)
        else:
            grown = realloc(wire.buffer, capacity)
            if grown == NULL:
                raise MemoryError
        wire.buffer = <char *>grown
        wire.capacity = capacity
        return 0

    cdef int _hand_over(self, Wire wire, Wire publisher) except -1:
        """Give a wire's output and counts to the plain engine's side of its connection."""
        cdef bytes data = wire.buffer[: wire.size]
        connection = wire.connection
        if wire.capacity == BLOCK_SIZE and self.pooled < POOL_SIZE:
            self.pool[self.pooled] = wire.buffer
            self.pooled += 1
        else:
            free(wire.buffer)
        wire.buffer = NULL
        wire.size = wire.capacity = 0
        connection.out_messages += wire.out_messages
        connection.out_bytes += wire.out_bytes
        wire.out_messages = wire.out_bytes = 0
        self.delivery.write(connection, data, None if publisher is None else publisher.connection)
        return 0

    cdef int _settle(self, Wire publisher) except -1:
        """Hand over all output and all counts: afterwards only gathered messages are held here."""
        cdef Wire wire
        cdef FastRoute route
        cdef Py_ssize_t index
        while self.dirty:
            wire = self.dirty.pop()
            wire.is_dirty = False
            if wire.size > 0:
                self._hand_over(wire, publisher)
        while self.counted:
            route = self.counted.pop()
            route.is_counted = False
            for index in range(route.count):
                (<object>route.targets[index].subscription).delivered += route.targets[index].delivered
                route.targets[index].delivered = 0
        if self.has_words:
            self.chance.state = self.words
            self.has_words = False
        if self.delivery.expired:
            self.subscriptions.expire()
        return 0

    # events

    cdef bint _merge(self, found, list events) except -1:
        """Add the plain reader's events; what it gathered goes behind what was gathered here. Tell of a barrier."""
        cdef Gatherer gatherer
        cdef bytes body
        cdef bint is_barrier = False
        for event in found:
            if type(event) is not Gathered:
                self._report(events)
                events.append(event)
                is_barrier = event.is_barrier
                continue
            gatherer = self._gatherer(event.sink)
            if gatherer.batch is None:
                gatherer.batch = CompiledBatch()
                self.touched.append(gatherer)
            gatherer.batch.extend(event.batch)
        return is_barrier

    cdef int _report(self, list events) except -1:
        """Add what sinks were sent to the events."""
        cdef Gatherer gatherer
        for gatherer in self.touched:
            events.append(Gathered(gatherer.sink, gatherer.batch))
            gatherer.batch = None
        self.touched.clear()
        return 0

    cdef Gatherer _gatherer(self, sink):
        gatherer = self.gatherers.get(id(sink))
        if gatherer is None:
            gatherer = self.gatherers[id(sink)] = Gatherer(sink)
        return <Gatherer>gatherer

    def forget_sink(self, sink):
        """A sink has left the routes; what it was sent before is still reported."""
        self.gatherers.pop(id(sink), None)

    # stored messages

    def deliver(self, table, bytes route_by, views, replies):
        """Send views to the subscribers of `route_by`, as `Engine.deliver` does; give how many, from the first on.

        Stops before the first that needs the plain engine: queue groups, nobody there, no room, and the like.
        """
        cdef RouteCache cache = self._cache(None, table)
        cdef FastRoute route
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t index
        cdef bytes subject, headers, payload, reply
        self._begin_epoch()
        route = self._find(cache, PyBytes_AS_STRING(route_by), PyBytes_GET_SIZE(route_by))
        if route is None:
            route = self._exact_route(cache, route_by, table.route(route_by))  # for this call
        if route is None or route.count == 0 or route.group_count > 0:
            return 0
        route.is_counted = True
        self.counted.append(route)
        try:
            for view, reply in zip(views, replies, strict=True):
                if route.epoch != self.epoch:
                    self._look_at_route(route)
                _, _, subject, headers, payload = view
                if (
                    not (route.is_usable and route.has_room)
                    or (headers and not route.takes_headers)
                    or (reply and route.hears_replies)
                ):
                    break
                for index in range(route.count):
                    self._copy_view(route, &route.targets[index], subject, reply, headers, payload)
                count += 1
        finally:
            self._settle(None)
        return count

    cdef int _copy_view(
        self, FastRoute route, Target *target, bytes subject, bytes reply, bytes headers, bytes payload
    ) except -1:
        """Append a stored message, under its own subject, to a target's output."""
        cdef Wire wire = <Wire>target.wire
        cdef char sizes[48]
        cdef size_t sizes_size = 0
        cdef size_t header_size = PyBytes_GET_SIZE(headers)
        cdef size_t total_size = header_size + PyBytes_GET_SIZE(payload)
        # An exact route's prefix is `HMSG <name> <sid> `, one by parent has `<sid> ` alone.
        cdef size_t skipped = 0 if route.route is None else PyBytes_GET_SIZE(route.name) + 6
        cdef const char *sid = PyBytes_AS_STRING(route.prefixes) + target.prefix_offset + skipped
        cdef size_t sid_size = target.prefix_size - skipped
        cdef size_t size
        cdef char *out
        if header_size > 0:
            sizes_size = _write_number(sizes, header_size)
            sizes[sizes_size] = c' '
            sizes_size += 1
        sizes_size += _write_number(sizes + sizes_size, total_size)
        # `HMSG `, a blank after the subject and one after the reply, two line ends: 11 at most.
        size = 11 + PyBytes_GET_SIZE(subject) + sid_size + PyBytes_GET_SIZE(reply) + sizes_size + total_size
        if wire.size + size > wire.capacity:
            self._make_room(wire, size, None)
        out = wire.buffer + wire.size
        if header_size > 0:
            out = _append(out, b"H", 1)
        out = _append(out, b"MSG ", 4)
        out = _append(out, PyBytes_AS_STRING(subject), PyBytes_GET_SIZE(subject))
        out = _append(out, b" ", 1)
        out = _append(out, sid, sid_size)
        if reply:
            out = _append(out, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
            out = _append(out, b" ", 1)
        out = _append(out, sizes, sizes_size)
        out = _append(out, b"\r\n", 2)
        out = _append(out, PyBytes_AS_STRING(headers), header_size)
        out = _append(out, PyBytes_AS_STRING(payload), total_size - header_size)
        out = _append(out, b"\r\n", 2)
        wire.size = out - wire.buffer
        wire.out_messages += 1
        wire.out_bytes += total_size
        target.delivered += 1
        if not wire.is_dirty:
            wire.is_dirty = True
            self.dirty.append(wire)
        return 0

    # answers

    def answer(self, table, CompiledBatch batch, bytes prefix, uint64_t first_sequence, bytes suffix, publish, list events):
        """Send `prefix`, a number, `suffix` to the reply subject of each message; see `Engine.answer`.

        `publish(subject, payload)` is asked where a reply subject is not for the fast path.
        """
        cdef RouteCache cache = self._cache(None, table)
        cdef size_t fixed_size = PyBytes_GET_SIZE(prefix) + PyBytes_GET_SIZE(suffix)
        cdef bytearray scratch = bytearray(fixed_size + 64)
        cdef char *start = scratch
        cdef Py_ssize_t index
        cdef const Item *item
        cdef FastRoute route
        cdef Line line
        cdef size_t body_size
        self._begin_epoch()
        line.header_size = line.reply_size = 0
        line.reply = NULL
        for index in range(batch.count):
            item = &batch.items[index]
            if item.reply_size == 0:
                continue
            line.subject = batch.arena + item.reply_offset
            line.subject_size = item.reply_size
            body_size = _render_answer(start, prefix, suffix, first_sequence + <uint64_t>index, &line.total_size)
            route = self._find(cache, line.subject, line.subject_size)
            if route is None or not self._put(None, 0, route, &line, start, body_size):
                self._settle(None)
                payload = start[body_size - line.total_size - 2 : body_size - 2]
                self._merge(publish(line.subject[: line.subject_size], payload), events)
                self._begin_epoch()
        self._settle(None)
        self._report(events)


cdef inline char *_append(char *out, const char *data, size_t size) noexcept nogil:
    """Copy, where the caller has made sure of the room; give the place behind."""
    memcpy(out, data, size)
    return out + size


cdef size_t _write_number(char *out, uint64_t number) noexcept nogil:
    """Write a number in decimal, at most 20 digits; give how many."""
    cdef char digits[20]
    cdef int count = 0
    cdef int index
    while True:
        digits[count] = <char>(c'0' + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    for index in range(count):
        out[index] = digits[count - 1 - index]
    return count


cdef size_t _render_answer(char *out, bytes prefix, bytes suffix, uint64_t sequence, size_t *payload_size) noexcept:
    """Write `size CRLF prefix sequence suffix CRLF`; `out` has room for both texts and 64 bytes more."""
    cdef char digits[20]
    cdef size_t digits_size = _write_number(digits, sequence)
    cdef size_t prefix_size = PyBytes_GET_SIZE(prefix)
    cdef size_t suffix_size = PyBytes_GET_SIZE(suffix)
    cdef size_t size = prefix_size + digits_size + suffix_size
    cdef char *position = out + _write_number(out, size)
    memcpy(position, b"\r\n", 2)
    position += 2
    memcpy(position, PyBytes_AS_STRING(prefix), prefix_size)
    memcpy(position + prefix_size, digits, digits_size)
    memcpy(position + prefix_size + digits_size, PyBytes_AS_STRING(suffix), suffix_size)
    position += size
    memcpy(position, b"\r\n", 2)
    payload_size[0] = size
    return position + 2 - out


class CompiledEngine(PlainEngine):
    """See `engine.interface.Engine`."""

    name = "compiled"

    def __init__(self, setup):
        super().__init__(setup)
        headrace_keep_freed_pages(TRIM_SIZE, MAP_SIZE)
        self._fast = FastPath(
            self._reader, self._delivery, self._subscriptions, setup.chance, setup.no_fast_producer_stall
        )

    def open(self, transport, connection_id):
        connection = CompiledConnection(transport, connection_id)
        connection.last_activity_ns = self._clock.monotonic_ns()
        self._connections[connection_id] = connection
        return connection

    def receive(self, connection, chunk):
        if connection.is_broken or connection.phase is Phase.CLOSED:
            return ()
        connection.last_activity_ns = self._clock.monotonic_ns()
        return self._fast.receive(connection, chunk)

    def resume(self, connection):
        if connection.is_broken or connection.phase is Phase.CLOSED:
            return ()
        return self._fast.resume(connection)

    def remove_sink(self, account, entry):
        super().remove_sink(account, entry)
        if not entry.box.references:
            self._fast.forget_sink(entry.box.sink)

    def deliver(self, account, route_by, views, replies, *, queue=b""):
        count = self._fast.deliver(self._subscriptions.table(account), route_by, views, replies)
        if count == len(views):
            return Delivered(count, Outcome.DELIVERED)
        rest = super().deliver(account, route_by, views[count:], replies[count:], queue=queue)
        return Delivered(count + rest.count, rest.outcome)

    def answer(self, account, batch, prefix, first_sequence, suffix):
        if not isinstance(batch, CompiledBatch):
            return super().answer(account, batch, prefix, first_sequence, suffix)

        def publish(subject, payload):
            return PlainEngine.publish(self, account, subject, b"", b"", payload)

        events = []
        table = self._subscriptions.table(account)
        self._fast.answer(table, batch, prefix, first_sequence, suffix, publish, events)
        return events
