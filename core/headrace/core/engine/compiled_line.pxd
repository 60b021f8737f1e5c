# Lines as bytes: reading a publish where it lies, and what is written of outgoing ones. C alone, nothing is kept.

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy


cdef enum Reading:
    COMPLETE
    PARTIAL
    ODD                         # for the plain reader


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


cdef inline bint read_size(const char *text, size_t size, size_t *result) noexcept nogil:
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


cdef inline Reading read_line(const char *start, const char *end, Line *line) noexcept nogil:
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
    if not read_size(words[count - 1], sizes[count - 1], &line.total_size):
        return ODD
    if is_headed:
        if not read_size(words[count - 2], sizes[count - 2], &line.header_size):
            return ODD
        if line.header_size == 0 or line.header_size > line.total_size:
            return ODD
    line.subject = words[0]
    line.subject_size = sizes[0]
    line.body = line.reply = words[1]
    line.reply_size = sizes[1] if count == 3 + is_headed else 0
    line.line_size = position + 2 - start
    return COMPLETE


cdef inline bint is_reserved_reply(const char *reply, size_t size) noexcept nogil:
    """Tell whether a reply may be one that clients must not use (plain_scope.RESERVED_REPLIES)."""
    return reply[0] == c'$' or (size > 1 and reply[0] == c'_' and (reply[1] == c'R' or reply[1] == c'G'))


cdef inline bint has_trace_mark(const char *headers, size_t size, bint parents) noexcept nogil:
    """Tell whether headers may name a place for a trace, or, where asked for, the parent of one (plain_traced.has_mark)."""
    cdef const char *end = headers + size
    cdef const char *line = headers
    cdef const char *parent = b"traceparent"
    cdef size_t index
    while True:
        line = <const char *>memchr(line, c'\n', end - line)
        if line == NULL:
            return False
        line += 1
        if end - line < 12:
            return False
        if end - line >= 16 and memcmp(line, b"Nats-Trace-Dest:", 16) == 0:
            return True
        if parents and line[11] == c':':
            index = 0
            while index < 11 and (line[index] | 32) == parent[index]:
                index += 1
            if index == 11:
                return True


cdef inline uint64_t hash_name(const char *data, size_t size, uint64_t seed) noexcept nogil:
    """Hash a subject. A collision costs a look-up in Python and nothing else; the seed keeps it from being arranged."""
    cdef uint64_t value = seed ^ size
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


cdef inline char *append(char *out, const char *data, size_t size) noexcept nogil:
    """Copy, where the caller has made sure of the room; give the place behind."""
    memcpy(out, data, size)
    return out + size


cdef inline size_t write_number(char *out, uint64_t number) noexcept nogil:
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
