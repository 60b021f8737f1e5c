# The C side of a batch, for the compiled engine (which fills it) and the compiled log (which encodes it).

from libc.stdint cimport uint32_t, uint64_t


cdef struct Item:
    # Where one message lies in its batch's arena. Offsets, never pointers: the arena moves as it grows.
    size_t subject_offset
    size_t reply_offset
    size_t body_offset      # the headers, then the payload
    uint32_t subject_size
    uint32_t reply_size
    uint32_t headers_size
    uint32_t body_size      # of headers and payload together
    uint64_t connection_id


cdef class CompiledBatch:
    cdef char *arena
    cdef size_t arena_size
    cdef size_t arena_capacity
    cdef Item *items
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef readonly bint bare
    cdef readonly size_t size

    cdef int add(
        self,
        const char *subject,
        size_t subject_size,
        const char *reply,
        size_t reply_size,
        const char *body,
        size_t headers_size,
        size_t body_size,
        uint64_t connection_id,
    ) except -1
    cdef int extend(self, messages) except -1
    cdef object message(self, Py_ssize_t index)
