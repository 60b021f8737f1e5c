"""The compiled engine: the plain engine with its hottest loops in C.

Problem: most of what a server reads are publishes whose route is known already. For those, Python's objects cost more
than the work. So `_read` takes PUB and HPUB in the form that clients send, finds the route in a small table, and copies
prefix and body into each subscriber's buffer, with no object per message; `answer` and `deliver` do the same for pub
acks and stored messages. **Everything else is the plain engine's**: any other operation, any other form, a connection
that is verbose or pedantic, a subject whose route or verdict is not known yet, subscriptions with a limit, a sink in a
queue group, a message that nobody took and that wants to know. Such an operation is handed to the plain reader byte
for byte, and the loop goes on behind it. The plain reader may be given its input in any pieces, so this is never wrong,
only slower.

What holds between calls: nothing is kept in C but routes and the beginning of one publish that has not arrived wholly
(`Wire.rest`). Output, counts and gathered messages are handed to the plain engine's own structures (`_settle`) before
its code runs and before a call returns, so neither can overtake the other and both see the same numbers.

Its parts: `compiled_line.pxd` reads lines, `compiled_routes` knows who gets what, `compiled_output` holds what they are
sent. What Python may have changed is looked at once in an *epoch*; a new one begins whenever Python code has run.

Ownership: a chunk is pinned for the call and nothing points into it afterwards.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from headrace.core.base.compiled_batch cimport CompiledBatch, Item
from headrace.core.engine.compiled_line cimport (
    COMPLETE,
    ODD,
    PARTIAL,
    Line,
    Reading,
    append,
    has_trace_mark,
    is_reserved_reply,
    read_line,
    write_number,
)
from headrace.core.engine.compiled_output cimport Output, Wire
from headrace.core.engine.compiled_routes cimport FastRoute, Gatherer, Group, RouteCache, Routes, Target

from headrace.core.engine.compiled_output import CompiledConnection
from headrace.core.engine.interface import Delivered, Gathered, Outcome, Phase
from headrace.core.engine.plain import PlainEngine


cdef enum Stop:
    AT_END
    AT_PARTIAL
    AT_ODD


cdef class FastPath:
    """The loop in C, beside a plain engine's parts."""

    cdef object reader
    cdef object delivery
    cdef object subscriptions
    cdef object chance
    cdef uint64_t[4] words      # the generator's, while `has_words`
    cdef bint has_words
    cdef Output output
    cdef Routes routes
    cdef list touched           # gatherers with a batch
    cdef bint traces_parents    # the connection's that is being read

    def __cinit__(self, reader, delivery, subscriptions, chance, skips_slow):
        self.reader = reader
        self.delivery = delivery
        self.subscriptions = subscriptions
        self.chance = chance
        self.has_words = False
        self.output = Output(delivery, skips_slow)
        self.routes = Routes(self.output)
        self.touched = []

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
        self.output.epoch += 1
        wire.max_control_line = connection.max_control_line
        wire.max_payload = connection.max_payload if connection.max_payload >= 0 else <size_t>1 << 40
        if is_fast:
            scope = connection.scope
            if scope is None:
                scope = self.subscriptions.bind(connection)
            cache = self.routes.cache(scope, scope.table)
            self.traces_parents = scope.traces_parents
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
        if read_line(position, position + size, &line) == COMPLETE and line.line_size + line.total_size + 2 <= size:
            return line.line_size + line.total_size + 2
        newline = memchr(position, c'\n', size)
        return size if newline == NULL else <const char *>newline + 1 - position

    cdef bint _hand_to_plain(self, Wire wire, const char *data, size_t size, list events) except -1:
        """Let the plain reader have these bytes; tell whether to stop here."""
        self._settle(wire)
        connection = wire.connection
        is_stop = self._merge(self.reader.receive(connection, data[:size]), events)
        self.output.epoch += 1
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
        if read_line(wire.rest, wire.rest + wire.rest_size, &line) == PARTIAL and position < end:
            newline = memchr(position, c'\n', end - position)
            size = (end if newline == NULL else <const char *>newline + 1) - position
            self._keep_rest(wire, position, size)
            position += size
        if (
            read_line(wire.rest, wire.rest + wire.rest_size, &line) == COMPLETE
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
        cdef Reading reading = read_line(wire.rest, wire.rest + wire.rest_size, &line)
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
        if wire.epoch != self.output.epoch:
            self.output.look_at(wire)
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
                    reading = read_line(position, end, &line)
                    if reading == PARTIAL:
                        stop[0] = AT_PARTIAL if <size_t>(end - position) <= wire.max_control_line else AT_ODD
                        break
                    if (
                        reading == ODD
                        or line.line_size > wire.max_control_line
                        or line.total_size > wire.max_payload
                        or (line.header_size > 0 and not takes_headers)
                        or (line.reply_size > 0 and is_reserved_reply(line.reply, line.reply_size))
                    ):
                        stop[0] = AT_ODD
                        break
                    if <size_t>(end - position) < line.line_size + line.total_size + 2:
                        stop[0] = AT_PARTIAL
                        break
                    route = self.routes.find(cache, line.subject, line.subject_size)
                    if route is None:
                        stop[0] = AT_ODD
                        break
                    step = line.line_size + line.total_size + 2
                former = position
                position += step
                if (
                    memcmp(position - 2, b"\r\n", 2) != 0
                    or (
                        line.header_size > 0
                        and has_trace_mark(former + line.line_size, line.header_size, self.traces_parents)
                    )
                    or not self._put(wire, publisher_id, route, &line, line.body, position - line.body)
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
        self,
        Wire publisher,
        uint64_t publisher_id,
        FastRoute route,
        const Line *line,
        const char *body,
        size_t body_size,
    ) except -1:
        """Deliver one message to all in its route; False, and nothing is done, where that needs the plain engine.

        `body` is what follows the prefix: the end of the outgoing line, headers, payload, CRLF. `publisher` is None
        for the server itself.
        """
        cdef Py_ssize_t index
        cdef Py_ssize_t member
        cdef Gatherer gatherer
        cdef Wire silent = publisher if publisher is not None and not publisher.echo else None
        if route.epoch != self.output.epoch:
            self.routes.look_at(route)
        if not route.is_usable or (line.header_size > 0 and not route.takes_headers):
            return False
        if line.reply_size > 0 and publisher is not None:
            if route.hears_replies:
                return False
            if publisher.no_responders and not route.is_answered and not self._is_taken(route, silent):
                return False
        if route.count > 0 and not route.is_counted:
            route.is_counted = True
            self.routes.counted.append(route)
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
            self.output.make_room(wire, size, publisher)
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
            self.output.dirty.append(wire)
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

    cdef int _settle(self, Wire publisher) except -1:
        """Hand over all output and all counts: afterwards only gathered messages are held here."""
        self.output.settle(publisher)
        self.routes.settle()
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
        cdef bint is_barrier = False
        for event in found:
            if type(event) is not Gathered:
                self._report(events)
                events.append(event)
                is_barrier = event.is_barrier
                continue
            gatherer = self.routes.gatherer(event.sink)
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

    def forget_sink(self, sink):
        """A sink has left the routes; what it was sent before is still reported."""
        self.routes.gatherers.pop(id(sink), None)

    # stored messages

    def deliver(self, table, bytes route_by, views, replies):
        """Send views to the subscribers of `route_by`, as `Engine.deliver` does; give how many, from the first on.

        Stops before the first that needs the plain engine: queue groups, nobody there, no room, and the like.
        """
        cdef RouteCache cache = self.routes.cache(None, table)
        cdef FastRoute route
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t index
        cdef bytes subject, headers, payload, reply
        self.output.epoch += 1
        route = self.routes.find(cache, PyBytes_AS_STRING(route_by), PyBytes_GET_SIZE(route_by))
        if route is None:
            route = self.routes.exact(cache, route_by, table.route(route_by))  # for this call
        if route is None or route.count == 0 or route.group_count > 0:
            return 0
        if route.route is not None and route.route.followed:  # lines with the subjects of other accounts
            return 0
        route.is_counted = True
        self.routes.counted.append(route)
        try:
            for view, reply in zip(views, replies, strict=True):
                if route.epoch != self.output.epoch:
                    self.routes.look_at(route)
                if not isinstance(view, tuple) or PyTuple_GET_SIZE(view) != 5:
                    raise TypeError(f"a view, not {view!r}")
                subject = <bytes?><object>PyTuple_GET_ITEM(view, 2)
                headers = <bytes?><object>PyTuple_GET_ITEM(view, 3)
                payload = <bytes?><object>PyTuple_GET_ITEM(view, 4)
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
            sizes_size = write_number(sizes, header_size)
            sizes[sizes_size] = c' '
            sizes_size += 1
        sizes_size += write_number(sizes + sizes_size, total_size)
        # `HMSG `, a blank after the subject and one after the reply, two line ends: 11 at most.
        size = 11 + PyBytes_GET_SIZE(subject) + sid_size + PyBytes_GET_SIZE(reply) + sizes_size + total_size
        if wire.size + size > wire.capacity:
            self.output.make_room(wire, size, None)
        out = wire.buffer + wire.size
        if header_size > 0:
            out = append(out, b"H", 1)
        out = append(out, b"MSG ", 4)
        out = append(out, PyBytes_AS_STRING(subject), PyBytes_GET_SIZE(subject))
        out = append(out, b" ", 1)
        out = append(out, sid, sid_size)
        if reply:
            out = append(out, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
            out = append(out, b" ", 1)
        out = append(out, sizes, sizes_size)
        out = append(out, b"\r\n", 2)
        out = append(out, PyBytes_AS_STRING(headers), header_size)
        out = append(out, PyBytes_AS_STRING(payload), total_size - header_size)
        out = append(out, b"\r\n", 2)
        wire.size = out - wire.buffer
        wire.out_messages += 1
        wire.out_bytes += total_size
        target.delivered += 1
        if not wire.is_dirty:
            wire.is_dirty = True
            self.output.dirty.append(wire)
        return 0

    # answers

    def answer(
        self, table, CompiledBatch batch, bytes prefix, uint64_t first_sequence, bytes suffix, publish, list events
    ):
        """Send `prefix`, a number, `suffix` to the reply subject of each message; see `Engine.answer`.

        `publish(subject, payload)` is asked where a reply subject is not for the fast path.
        """
        cdef RouteCache cache = self.routes.cache(None, table)
        cdef size_t fixed_size = PyBytes_GET_SIZE(prefix) + PyBytes_GET_SIZE(suffix)
        cdef bytearray scratch = bytearray(fixed_size + 64)
        cdef char *start = scratch
        cdef Py_ssize_t index
        cdef const Item *item
        cdef FastRoute route
        cdef Line line
        cdef size_t body_size
        self.output.epoch += 1
        line.header_size = line.reply_size = 0
        line.reply = NULL
        for index in range(batch.count):
            item = &batch.items[index]
            if item.reply_size == 0:
                continue
            line.subject = batch.arena + item.reply_offset
            line.subject_size = item.reply_size
            body_size = _render_answer(start, prefix, suffix, first_sequence + <uint64_t>index, &line.total_size)
            route = self.routes.find(cache, line.subject, line.subject_size)
            if route is None or not self._put(None, 0, route, &line, start, body_size):
                self._settle(None)
                payload = start[body_size - line.total_size - 2 : body_size - 2]
                self._merge(publish(line.subject[: line.subject_size], payload), events)
                self.output.epoch += 1
        self._settle(None)
        self._report(events)


cdef size_t _render_answer(char *out, bytes prefix, bytes suffix, uint64_t sequence, size_t *payload_size) noexcept:
    """Write `size CRLF prefix sequence suffix CRLF`; `out` has room for both texts and 64 bytes more."""
    cdef char digits[20]
    cdef size_t digits_size = write_number(digits, sequence)
    cdef size_t prefix_size = PyBytes_GET_SIZE(prefix)
    cdef size_t suffix_size = PyBytes_GET_SIZE(suffix)
    cdef size_t size = prefix_size + digits_size + suffix_size
    cdef char *position = out + write_number(out, size)
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
