# The output side of the compiled engine, for its other modules.

from libc.stdint cimport uint64_t


cdef class Wire:
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


cdef enum:
    POOL_SIZE = 8               # blocks kept for reuse


cdef class Output:
    cdef object delivery
    cdef list dirty             # wires with output
    cdef uint64_t epoch
    cdef bint skips_slow
    cdef char *pool[POOL_SIZE]
    cdef int pooled

    cdef int look_at(self, Wire wire) except -1
    cdef int make_room(self, Wire wire, size_t size, Wire publisher) except -1
    cdef int settle(self, Wire publisher) except -1
    cdef int _hand_over(self, Wire wire, Wire publisher) except -1
