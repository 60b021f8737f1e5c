"""Output of the compiled engine: a buffer for each connection, and the way from there to the plain engine's side.

A `Wire` is what is kept in C of a connection. The loops write into its buffer, where `make_room` has been asked before;
a buffer that has become a block is handed over at once, the others by `settle`, before any Python code runs that might
write to the same connection. So what is in a wire is always newer than what the plain side holds.

What Python may have changed about a connection is looked at once in an *epoch*; whoever lets Python code run begins a
new one.

Ownership: a wire owns its buffer and its rest. They are freed where they are handed over or with the wire, never when
the connection closes, as that may happen within a copy's call chain.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from headrace.core.engine.plain_connection import PlainConnection


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
    TRIM_SIZE = 8 * 1024 * 1024 # freed memory that the process keeps
    MAP_SIZE = 1024 * 1024      # allocations from here on are given back at once


cdef class Wire:
    """What is kept in C of a connection."""

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


cdef class Output:
    """All wires' way out."""

    def __cinit__(self, delivery, skips_slow):
        self.delivery = delivery
        self.skips_slow = skips_slow
        self.dirty = []
        self.epoch = 1
        self.pooled = 0
        headrace_keep_freed_pages(TRIM_SIZE, MAP_SIZE)

    def __dealloc__(self):
        while self.pooled > 0:
            self.pooled -= 1
            free(self.pool[self.pooled])

    cdef int look_at(self, Wire wire) except -1:
        """Find out what has become of a connection."""
        connection = wire.connection
        wire.epoch = self.epoch
        wire.has_room = connection.relief_size >= 0
        wire.is_usable = not connection.is_overflowing and (wire.has_room or not self.skips_slow)
        wire.echo = connection.echo
        wire.headers = connection.headers
        wire.no_responders = connection.no_responders
        wire.hears_replies = connection.delivered_replies is not None
        return 0

    cdef int make_room(self, Wire wire, size_t size, Wire publisher) except -1:
        """Make sure that `size` more bytes have room in a wire's buffer."""
        cdef size_t capacity
        cdef void *grown
        if wire.size > 0 and wire.size + size > BLOCK_SIZE:
            self._hand_over(wire, publisher)
            self.delivery.hand_over(wire.connection)
            self.epoch += 1
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

    cdef int settle(self, Wire publisher) except -1:
        """Hand over all output."""
        cdef Wire wire
        while self.dirty:
            wire = self.dirty.pop()
            wire.is_dirty = False
            if wire.size > 0:
                self._hand_over(wire, publisher)
        return 0
