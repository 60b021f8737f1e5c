# The routes of the compiled engine, for its loops.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from headrace.core.base.compiled_batch cimport CompiledBatch
from headrace.core.engine.compiled_output cimport Output


cdef class Gatherer:
    cdef object sink
    cdef CompiledBatch batch


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
    cdef bytes name             # the subject, or the parent
    cdef uint32_t tail          # by parent: how many tokens follow it
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


cdef class RouteCache:
    cdef object scope
    cdef object table
    cdef list exact
    cdef list parents
    cdef dict literals          # of the table: subjects that an entry names
    cdef uint32_t tails         # a bit for each `tail` above 1 among the parents
    cdef uint32_t *seen         # fingerprints of subjects that came once, as many as slots

    cdef FastRoute find(self, list slots, const char *name, size_t size, uint64_t hashed)
    cdef list keep(self, list slots, FastRoute route)
    cdef bint was_seen(self, uint64_t hashed) noexcept


cdef class Routes:
    cdef Output output
    cdef dict caches            # of RouteCache, by scope or (for the server itself) table
    cdef dict gatherers         # by the id of their sink, which they keep alive
    cdef list counted           # routes with counts

    cdef RouteCache cache(self, scope, table)
    cdef Gatherer gatherer(self, sink)
    cdef FastRoute find(self, RouteCache cache, const char *subject, size_t size)
    cdef FastRoute _mapped(self, RouteCache cache, bytes name, bint is_known)
    cdef FastRoute exact(self, RouteCache cache, bytes subject, plain)
    cdef int look_at(self, FastRoute route) except -1
    cdef int settle(self) except -1
    cdef FastRoute _by_parent(self, RouteCache cache, const char *subject, size_t size)
    cdef FastRoute _parent_route(self, RouteCache cache, bytes subject)
    cdef int _set_targets(self, FastRoute route, list subscriptions, list prefixes, list group_sizes) except -1
