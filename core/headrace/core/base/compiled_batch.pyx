"""The compiled engine's batch: the bytes of many messages in one arena, and a table of where each lies.

Problem: a captured message must outlive the chunk that it came in, and must not cost a Python object on its way to
the log. So `add` copies it behind its predecessors, and everything later (encoding it as a record, answering its
reply subject) reads it there by offset. `Message` tuples are made for those who look at one, at each look.

Ownership: the batch owns `arena` and `items` and frees both. Nobody keeps a pointer into either across a call of
`add`. Once the engine has handed a batch out, nobody calls `add` any more; the bytes then never move or change.

A message that has its predecessor's subject shares its bytes: publishers mostly stay on one.
"""

from libc.stdint cimport UINT32_MAX, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from headrace.core.base.message import Message

cdef enum:
    ARENA_SIZE_MIN = 4096
    ITEM_COUNT_MIN = 16


cdef class CompiledBatch:
    """A `Batch` (see `core/base/message.py`) in C memory."""

    def __cinit__(self):
        self.arena = NULL
        self.items = NULL
        self.arena_size = self.arena_capacity = 0
        self.count = self.capacity = 0
        self.bare = True
        self.size = 0

    def __init__(self, messages=()):
        self.extend(messages)

    def __dealloc__(self):
        free(self.arena)
        free(self.items)

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
    ) except -1:
        """Copy a message to the end. Raises MemoryError, and has then changed nothing."""
        cdef Item *item
        cdef Item *former
        cdef size_t needed
        cdef size_t capacity
        cdef void *grown
        if subject_size > UINT32_MAX or reply_size > UINT32_MAX or body_size > UINT32_MAX:
            raise MemoryError("a message of 4 GiB or more")
        assert headers_size <= body_size, "headers are a part of the body"
        if self.count == self.capacity:
            capacity = ITEM_COUNT_MIN if self.capacity == 0 else 2 * self.capacity
            grown = realloc(self.items, capacity * sizeof(Item))
            if grown == NULL:
                raise MemoryError
            self.items = <Item *>grown
            self.capacity = capacity
        needed = self.arena_size + subject_size + reply_size + body_size
        if needed > self.arena_capacity:
            capacity = ARENA_SIZE_MIN if self.arena_capacity == 0 else 2 * self.arena_capacity
            if capacity < needed:
                capacity = needed
            grown = realloc(self.arena, capacity)
            if grown == NULL:
                raise MemoryError
            self.arena = <char *>grown
            self.arena_capacity = capacity

        item = &self.items[self.count]
        item.subject_size = <unsigned int>subject_size
        item.reply_size = <unsigned int>reply_size
        item.headers_size = <unsigned int>headers_size
        item.body_size = <unsigned int>body_size
        item.connection_id = connection_id
        former = item - 1 if self.count > 0 else NULL
        if (
            former != NULL
            and former.subject_size == subject_size
            and memcmp(self.arena + former.subject_offset, subject, subject_size) == 0
        ):
            item.subject_offset = former.subject_offset
        else:
            item.subject_offset = self.arena_size
            memcpy(self.arena + self.arena_size, subject, subject_size)
            self.arena_size += subject_size
        item.reply_offset = self.arena_size
        if reply_size > 0:
            memcpy(self.arena + self.arena_size, reply, reply_size)
            self.arena_size += reply_size
        item.body_offset = self.arena_size
        if body_size > 0:
            memcpy(self.arena + self.arena_size, body, body_size)
            self.arena_size += body_size
        self.count += 1
        self.size += subject_size + body_size
        if headers_size > 0:
            self.bare = False
        return 0

    cdef int extend(self, messages) except -1:
        """Copy `Message`s to the end."""
        cdef bytes subject, reply, headers, body
        for message in messages:
            subject, reply, headers = message.subject, message.reply, message.headers
            body = headers + message.payload
            self.add(subject, len(subject), reply, len(reply), body, len(headers), len(body), message.connection_id)
        return 0

    cdef object message(self, Py_ssize_t index):
        """Make the message at `index`, which is in range."""
        cdef Item *item = &self.items[index]
        cdef char *body = self.arena + item.body_offset
        return Message(
            self.arena[item.subject_offset : item.subject_offset + item.subject_size],
            self.arena[item.reply_offset : item.reply_offset + item.reply_size],
            body[: item.headers_size],
            body[item.headers_size : item.body_size],
            item.connection_id,
        )

    def subjects(self):
        """Give each message's subject, in order. Neighbours that share their bytes share the object."""
        cdef list found = []
        cdef bytes subject = None
        cdef Item *former = NULL
        cdef Item *item
        cdef Py_ssize_t index
        for index in range(self.count):
            item = &self.items[index]
            if (
                former == NULL
                or item.subject_offset != former.subject_offset
                or item.subject_size != former.subject_size
            ):
                subject = self.arena[item.subject_offset : item.subject_offset + item.subject_size]
            found.append(subject)
            former = item
        return found

    def __len__(self):
        return self.count

    def __iter__(self):
        cdef Py_ssize_t index
        for index in range(self.count):
            yield self.message(index)

    def __getitem__(self, index):
        cdef Py_ssize_t position
        if isinstance(index, slice):
            return [self.message(position) for position in range(*index.indices(self.count))]
        position = index
        if position < 0:
            position += self.count
        if not 0 <= position < self.count:
            raise IndexError(f"message {index} of a batch of {self.count}")
        return self.message(position)

    def __repr__(self):
        return f"CompiledBatch({list(self)!r})"
