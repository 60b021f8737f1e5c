"""Routes of the compiled engine: who gets what is published on a subject, as the loops need it.

A **fast route** is a plain `Route` in C: for each target the line `HMSG <subject> <sid> ` (without its H for MSG), the
subscriber's wire, and a count. There are two kinds. An exact one belongs to one subject and is good as long as its
`Route.is_live`. One by parent serves all subjects that differ in their last token alone, where that token decides
nothing (inboxes), or in their last few (acks of one consumer): it is good while the route table's generation stands,
for subjects without a literal subscription; its lines have no subject.

A subject that comes for the second time gets an exact route, one that comes once is served by its parent's. What Python
may have changed is looked at once in an epoch (`compiled_output.pyx`).

Ownership: a route owns its targets, and keeps the objects that they borrow alive in `keep`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from headrace.core.engine.compiled_line cimport hash_name
from headrace.core.engine.compiled_output cimport Wire

from headrace.core.base.chance import fresh_seed
from headrace.core.engine.plain_connection import NEVER
from headrace.core.routing.entries import SinkBox, SinkEntry


cdef enum:
    CACHE_SIZE_MIN = 64         # slots of a route cache, a power of two
    CACHE_SIZE_MAX = 16 * 1024
    TAIL_MAX = 30               # tokens behind a parent
    TARGETS_MAX = 4096          # of one fast route; wider fan-outs are copied by the plain engine


cdef uint64_t _seed = fresh_seed()


cdef inline Py_ssize_t _slot(bytes name, Py_ssize_t count) noexcept:
    """Give the slot of a name among `count`, a power of two."""
    return <Py_ssize_t>(hash_name(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), _seed) & <uint64_t>(count - 1))


cdef size_t _parent_size(const char *name, size_t size, uint32_t tail) noexcept:
    """Tell how long a subject is without its last `tail` tokens and the dot before; 0 where it has no such parent."""
    cdef size_t end = size
    while size > 0:
        size -= 1
        if name[size] == c'.':
            if size + 1 == end:
                return 0
            tail -= 1
            if tail == 0:
                return size
            end = size
    return 0


cdef class Gatherer:
    """What a sink was sent in this call; `batch` is None until there is something."""

    def __cinit__(self, sink):
        self.sink = sink


cdef class FastRoute:
    """Who gets what is published on one subject, or on all with one parent."""

    def __cinit__(self):
        self.targets = NULL
        self.groups = NULL

    def __dealloc__(self):
        free(self.targets)
        free(self.groups)


cdef class RouteCache:
    """Fast routes by hash, one a slot: a newer one drives out the older. `scope` is None for the server itself."""

    def __cinit__(self, scope, table):
        self.scope = scope
        self.table = table
        self.literals = table.literals
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


cdef class Routes:
    """All fast routes of an engine."""

    def __cinit__(self, output):
        self.output = output
        self.caches = {}
        self.gatherers = {}
        self.counted = []

    cdef Gatherer gatherer(self, sink):
        """Give what gathers for a sink."""
        held = self.gatherers.get(id(sink))
        if held is None:
            held = self.gatherers[id(sink)] = Gatherer(sink)
        return <Gatherer>held

    cdef RouteCache cache(self, scope, table):
        """Give the cache of a scope, or (scope None) of the server itself in a table."""
        key = table if scope is None else scope
        cache = self.caches.get(key)
        if cache is None:
            cache = self.caches[key] = RouteCache(scope, table)
        return <RouteCache>cache

    cdef FastRoute find(self, RouteCache cache, const char *subject, size_t size):
        """Give a live route for a subject, made where that is worth it, or None."""
        cdef uint64_t hashed = hash_name(subject, size, _seed)
        cdef FastRoute route = cache.find(cache.exact, subject, size, hashed)
        cdef bytes name
        if route is not None:
            if route.epoch != self.output.epoch:
                self.look_at(route)
            if route.is_live:
                return route
        if cache.scope is not None and cache.scope.mapper is not None:
            return self._mapped(cache, subject[:size], route is not None or cache.was_seen(hashed))
        if route is not None or cache.was_seen(hashed):
            name = subject[:size]
            if cache.scope is not None and not cache.scope.may_publish(name):
                return None
            route = self.exact(cache, name, cache.table.lasting_route(name))
            if route is not None:
                cache.exact = cache.keep(cache.exact, route)
            return route
        # By parent, where the verdict is the same for all below it: it then rests on the first token alone.
        if cache.scope is not None and cache.scope.permissions is not None:
            return None
        route = self._by_parent(cache, subject, size)
        name = subject[:size]
        if route is None:
            if cache.scope is not None and not cache.scope.may_publish(name):
                return None
            route = self._parent_route(cache, name)
            if route is None:
                return None
            cache.parents = cache.keep(cache.parents, route)
            if route.tail > 1:
                cache.tails |= <uint32_t>1 << route.tail
        if name in cache.literals:
            return None
        return route

    cdef FastRoute _by_parent(self, RouteCache cache, const char *subject, size_t size):
        """Give the live route kept for one of a subject's parents, or None."""
        cdef FastRoute route
        cdef uint32_t tails = cache.tails | 2
        cdef uint32_t tail = 0
        cdef size_t parent_size
        while tails >> tail != 0:
            tail += 1
            if not (tails >> tail) & 1:
                continue
            parent_size = _parent_size(subject, size, tail)
            if parent_size == 0:
                continue
            route = cache.find(cache.parents, subject, parent_size, hash_name(subject, parent_size, _seed))
            if route is None or route.tail != tail:
                continue
            if route.epoch != self.output.epoch:
                self.look_at(route)
            if route.is_live:
                return route
        return None

    cdef FastRoute _mapped(self, RouteCache cache, bytes name, bint is_known):
        """Give the route of the subject that a mapping always leads to; None where chance or a sink is in it.

        Its lines have the mapped subject already; sinks would be shown the other one.
        """
        cdef FastRoute route
        if not is_known:
            return None
        mapped = cache.scope.mapper.fixed(name)
        if not mapped or not cache.scope.may_publish(mapped):
            return None
        plain = cache.table.lasting_route(mapped)
        if plain.boxes and mapped != name:
            return None
        route = self.exact(cache, name, plain)
        if route is not None:
            cache.exact = cache.keep(cache.exact, route)
        return route

    cdef FastRoute exact(self, RouteCache cache, bytes subject, plain):
        """Make a fast route of a subject's plain route; None where it has a part that is not for the fast path."""
        if plain.shown_boxes or plain.has_service:
            return None
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
        route.gatherers = [self.gatherer(box.sink) for box in plain.boxes]
        self._set_targets(
            route,
            [target.subscription for target in targets],
            [b"H" + target.prefix for target in targets],
            group_sizes,
        )
        return route

    cdef FastRoute _parent_route(self, RouteCache cache, bytes subject):
        """Make a route for every subject with this one's parent; None where the last token matters."""
        cdef uint32_t tail = 1
        cdef size_t parent_size = _parent_size(subject, PyBytes_GET_SIZE(subject), tail)
        if parent_size == 0:
            return None
        entries = cache.table.entries_below(subject)
        if entries is None or len(entries) > TARGETS_MAX:
            return None
        free_tokens = cache.table.free_tokens(subject)
        if free_tokens <= TAIL_MAX:
            tail = free_tokens
            parent_size = _parent_size(subject, PyBytes_GET_SIZE(subject), tail)
        if parent_size == 0:
            return None
        cdef FastRoute route = FastRoute()
        route.name = subject[:parent_size]
        route.tail = tail
        route.route = None
        route.table = cache.table
        route.generation = cache.table.generation
        route.is_answered = False
        subscriptions = []
        groups = {}
        boxes = []
        for entry in entries:
            if isinstance(entry, SinkEntry):
                if entry.queue or entry.is_service:
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
        route.gatherers = [self.gatherer(box.sink) for box in boxes]
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
        self.look_at(route)
        return 0

    cdef int look_at(self, FastRoute route) except -1:
        """Find out what has become of a route and of those in it."""
        cdef Py_ssize_t index
        cdef Wire wire
        route.epoch = self.output.epoch
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
            if wire.epoch != self.output.epoch:
                self.output.look_at(wire)
            if not wire.is_usable or (<object>route.targets[index].subscription).limit != NEVER:
                return 0
            route.takes_headers = route.takes_headers and wire.headers
            route.hears_replies = route.hears_replies or wire.hears_replies
            route.has_room = route.has_room and wire.has_room
        route.is_usable = True
        return 0

    cdef int settle(self) except -1:
        """Add what was counted to the subscriptions."""
        cdef FastRoute route
        cdef Py_ssize_t index
        while self.counted:
            route = self.counted.pop()
            route.is_counted = False
            for index in range(route.count):
                (<object>route.targets[index].subscription).delivered += route.targets[index].delivered
                route.targets[index].delivered = 0
        return 0
