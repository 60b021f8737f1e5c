"""One account's routes: every entry by its pattern, and the answers that were worked out lately.

A `Route` is the answer for one literal subject. It is valid while `is_live`; whoever keeps one looks at that before
each use. Four memories make answers cheap:

- `_routes`: routes of subjects that were seen at least twice. A literal SUB or UNSUB drops only its own subject's; a
  wildcard one drops all.
- `_parents`: the wildcard entries for "anything below this prefix", where the last token decides nothing. Replies to
  inboxes (`_INBOX.x.1`, `_INBOX.x.2`, ...) never come twice: their route is made from this, used once and forgotten,
  so that they don't push out those that stay.
- `_prefixes`: the same for sinks on patterns that end in several `*`, as those of acks do: the wildcard entries
  of every subject with this beginning and so many tokens more.
- `_seen`: subjects seen once, so that the second time is known.

All are bounded, and emptied when full: what is in use comes back at once.

Other accounts that import a stream of this one are *followers*: where a route is made, their entries for the subject as
they know it are put into it beside this account's own. So a message crosses accounts without a step in between, and an
account without followers pays nothing. A follower is not followed further, and what came through a service
import is not exported again (`own_route`), as in the reference.
"""

from collections.abc import Callable, Container, Sequence
from typing import Final

from headrace.core.routing.entries import Entry, SinkBox, SinkEntry, Subscription, Target
from headrace.core.routing.follower import Follower
from headrace.core.routing.trie import Trie
from headrace.core.subject import ANY_TOKEN, has_empty_token, has_wildcard, overlaps, tokens

ROUTES_MAX: Final = 16_384
TARGETS_MAX: Final = 200_000
"""Targets in all remembered routes: what bounds memory where thousands subscribe to everything."""
PARENTS_MAX: Final = 16_384
SEEN_MAX: Final = 16_384
PREFIXES_MAX: Final = 16_384
TAILS_MAX: Final = 4
"""Lengths of `*.*...` at the end of sinks' patterns that are remembered as such: each costs a look."""

MayReceive = Callable[[Subscription, bytes], bool]
Member = Target | SinkBox


class Route:
    """Who gets what is published on one literal subject.

    `targets` are plain subscriptions by age; `groups` one list of members for each queue name, by name; `boxes`
    the sinks outside of any queue. `is_answered`: a sink takes responsibility, so there is no "no responders".
    `is_even`: each connection occurs at most once and there are no groups, so whole runs may be delivered
    target by target without anybody seeing another order. `only_box`: a sink that answers, where nobody else is there.
    `followed`: other accounts are in it; `shown_boxes` are their sinks, with the subject as they know it.
    `has_service`: one of the sinks is a service of another account.
    """

    __slots__ = (
        "boxes",
        "followed",
        "groups",
        "has_service",
        "is_answered",
        "is_even",
        "is_live",
        "only_box",
        "shown_boxes",
        "subject",
        "targets",
    )

    def __init__(
        self,
        subject: bytes,
        entries: Sequence[Entry],
        may_receive: MayReceive,
        followed: Sequence[tuple[bytes, Sequence[Entry]]] = (),
        *,
        is_own: bool = False,
    ) -> None:
        self.subject = subject
        self.is_live = True
        self.is_answered = False
        self.targets: tuple[Target, ...] = ()
        self.groups: tuple[tuple[bytes, tuple[Member, ...]], ...] = ()
        self.boxes: tuple[SinkBox, ...] = ()
        self.shown_boxes: tuple[tuple[SinkBox, bytes], ...] = ()
        self.followed = bool(followed)
        self.has_service = False
        self.is_even = True
        self.only_box: SinkBox | None = None
        if followed or is_own:
            self._sort_in(entries, may_receive, followed, is_own=is_own)
            return
        if len(entries) == 1 and isinstance(entries[0], Subscription):
            only = entries[0]  # replies to inboxes: a route for each message, so the short way counts
            if not only.queue:
                if not only.is_filtered or may_receive(only, subject):
                    self.targets = (Target(only, subject),)
                return
        if len(entries) == 1 and isinstance(entries[0], SinkEntry) and not entries[0].queue:  # acks
            only_sink = entries[0]
            self.boxes = (only_sink.box,)
            self.has_service = only_sink.is_service
            if only_sink.answers is None or only_sink.answers(subject):
                self.is_answered = True
                self.only_box = None if only_sink.is_service else only_sink.box
            return
        if entries:
            self._sort_in(entries, may_receive, (), is_own=False)

    def _sort_in(
        self,
        entries: Sequence[Entry],
        may_receive: MayReceive,
        followed: Sequence[tuple[bytes, Sequence[Entry]]],
        *,
        is_own: bool,
    ) -> None:
        subject = self.subject
        targets: list[Target] = []
        groups: dict[bytes, list[Member]] = {}
        boxes: list[SinkBox] = []
        for entry in entries:
            if isinstance(entry, SinkEntry):
                self.has_service = self.has_service or entry.is_service
                if not (is_own and entry.is_service) and (entry.answers is None or entry.answers(subject)):
                    self.is_answered = self.is_answered or not entry.queue
                if entry.queue:
                    groups.setdefault(entry.queue, []).append(entry.box)
                elif entry.box not in boxes:  # two registrations of one sink bring each message once
                    boxes.append(entry.box)
            elif not entry.is_filtered or may_receive(entry, subject):
                if entry.queue:
                    groups.setdefault(entry.queue, []).append(Target(entry, subject))
                else:
                    targets.append(Target(entry, subject))
        if followed:
            self._follow(followed, may_receive, targets, groups)
        self.targets = tuple(targets)
        self.groups = tuple((name, tuple(groups[name])) for name in sorted(groups))
        self.boxes = tuple(boxes)
        is_alone = len(boxes) == 1 and not (targets or groups or self.shown_boxes or self.has_service)
        if self.is_answered and is_alone:
            self.only_box = boxes[0]
        self.is_even = not groups and (
            len(targets) < 2 or len({target.connection.id for target in targets}) == len(targets)
        )

    def _follow(
        self,
        followed: Sequence[tuple[bytes, Sequence[Entry]]],
        may_receive: MayReceive,
        targets: list[Target],
        groups: dict[bytes, list[Member]],
    ) -> None:
        """Put in what other accounts have, under the subject as they know it."""
        shown_boxes: list[tuple[SinkBox, bytes]] = []
        for shown, entries in followed:
            for entry in entries:
                if isinstance(entry, SinkEntry):
                    if entry.is_service or entry.queue:
                        continue
                    if entry.answers is None or entry.answers(shown):
                        self.is_answered = True
                    if (entry.box, shown) not in shown_boxes:
                        shown_boxes.append((entry.box, shown))
                elif not entry.is_filtered or may_receive(entry, shown):
                    if entry.queue:
                        groups.setdefault(entry.queue, []).append(Target(entry, shown))
                    else:
                        targets.append(Target(entry, shown))
        self.shown_boxes = tuple(shown_boxes)
        targets.sort(key=_target_age)


class RouteTable:
    """All entries of one account."""

    def __init__(self, may_receive: MayReceive, account: str = "") -> None:
        self.account = account
        self.followers: list[Follower] = []  # accounts that import streams of this one
        self.followed: list[tuple[RouteTable, Follower]] = []  # what this one imports, and from where
        self._services = 0  # sinks that stand for services of other accounts
        self._may_receive = may_receive
        self._literals: dict[bytes, dict[Entry, None]] = {}
        self._wildcards: Trie[Entry] = Trie()
        self._routes: dict[bytes, Route] = {}
        self._target_count = 0
        self._parents: dict[bytes, tuple[Entry, ...]] = {}
        self._prefixes: dict[tuple[int, bytes], tuple[Entry, ...]] = {}
        self._tails: set[int] = set()
        self._seen: set[bytes] = set()
        self.subscription_count = 0
        self.generation = 0  # counts the changes that dropped every route

    def add(self, entry: Entry) -> None:
        if isinstance(entry, Subscription):
            self.subscription_count += 1
        else:
            self._services += entry.is_service
        if has_wildcard(entry.subject):
            self._wildcards.insert(entry.subject, entry)
            self._forget_wildcards()
            if isinstance(entry, SinkEntry) and len(self._tails) < TAILS_MAX:
                tail = _tail_length(entry.subject)
                if tail > 1:
                    self._tails.add(tail)
        else:
            self._literals.setdefault(entry.subject, {})[entry] = None
            self._forget_literal(entry.subject)
        if self.followed:
            self._tell_followed(entry.subject)

    def remove(self, entry: Entry) -> None:
        """Take out an entry that was added."""
        if has_wildcard(entry.subject):
            found = self._wildcards.remove(entry.subject, entry)
            assert found, "an entry is removed once, by who added it"
            self._forget_wildcards()
        else:
            held = self._literals[entry.subject]
            del held[entry]
            if not held:
                del self._literals[entry.subject]
            self._forget_literal(entry.subject)
        if isinstance(entry, Subscription):
            self.subscription_count -= 1
        else:
            self._services -= entry.is_service
        if self.followed:
            self._tell_followed(entry.subject)

    def follow(self, other: "RouteTable", follower: Follower) -> None:
        """Import a stream of another account; `follower` stands for this table there."""
        follower.entries_of = self.entries_of
        self.followed.append((other, follower))
        other.followers.append(follower)
        other.forget_everything()

    def unfollow(self, other: "RouteTable", follower: Follower) -> None:
        """End an import."""
        self.followed.remove((other, follower))
        other.followers.remove(follower)
        other.forget_everything()

    def route(self, subject: bytes) -> Route:
        """Give the route of a literal subject; remember it if it is asked for again."""
        route = self._routes.get(subject)
        if route is not None:
            return route
        route = self._made(subject)
        if subject in self._seen:
            self._remember(route)
        else:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen.add(subject)
        return route

    def lasting_route(self, subject: bytes) -> Route:
        """Give the route of a literal subject, remembered: its `is_live` is kept up to date."""
        route = self._routes.get(subject)
        if route is None:
            route = self._made(subject)
            self._remember(route)
        return route

    def own_route(self, subject: bytes) -> Route:
        """Give the route of what came through a service import: no followers, and services do not count as answers."""
        if not self.followers and not self._services:
            return self.route(subject)
        return Route(subject, self._entries(subject), self._may_receive, is_own=True)

    @property
    def literals(self) -> Container[bytes]:
        """The subjects that an entry names exactly; always the same object."""
        return self._literals

    def entries_below(self, subject: bytes) -> tuple[Entry, ...] | None:
        """Give the wildcard entries of every subject with this one's parent, by age; None where the last token matters.

        They stand while `generation` does.
        """
        if has_empty_token(subject):
            return None
        parent = subject.rpartition(b".")[0]
        if self.followers and parent:
            siblings = parent + b".*"
            if any(overlaps(follower.source, siblings) for follower in self.followers):
                return None
        below = self._parents.get(parent) or self._known_by_prefix(subject)
        if below is None:
            self._wildcard_entries(subject, parent)
            below = self._parents.get(parent)
        return self._known_by_prefix(subject) if below is None else below

    def free_tokens(self, subject: bytes) -> int:
        """Count the last tokens that decide nothing about what `entries_below` has just given for `subject`."""
        if not self.followers:
            for tail in self._tails:
                prefix, *rest = subject.rsplit(b".", tail)
                if len(rest) == tail and (tail, prefix) in self._prefixes:
                    return tail
        return 1

    def forget_routes(self) -> None:
        """Drop every route that was worked out: a rule behind them has changed."""
        self.generation += 1
        for route in self._routes.values():
            route.is_live = False
        self._routes.clear()
        self._target_count = 0

    def forget_everything(self) -> None:
        """Drop routes, and what they are made from."""
        self._forget_wildcards()

    def entries_of(self, subject: bytes) -> Sequence[Entry]:
        """Give all entries for a literal subject, by age."""
        return self._entries(subject)

    def _made(self, subject: bytes) -> Route:
        if not self.followers:
            return Route(subject, self._entries(subject), self._may_receive)
        followed: list[tuple[bytes, Sequence[Entry]]] = []
        for follower in self.followers:
            shown = follower.shown(subject)
            if shown is not None:
                entries = follower.entries_of(shown)
                if entries:
                    followed.append((shown, entries))
        return Route(subject, self._entries(subject), self._may_receive, followed)

    def _tell_followed(self, subject: bytes) -> None:
        """Drop the routes of others that this change concerns."""
        is_wild = has_wildcard(subject)
        for other, follower in self.followed:
            if is_wild:
                if overlaps(subject, follower.local):
                    other.forget_everything()
            else:
                original = follower.original(subject)
                if original is not None:
                    other.forget(original)

    def forget(self, subject: bytes) -> None:
        """Drop the route of one literal subject."""
        self._forget_literal(subject)

    def _entries(self, subject: bytes) -> Sequence[Entry]:
        if has_empty_token(subject):
            return ()
        parent = subject.rpartition(b".")[0]
        wild = self._parents.get(parent) if parent else None
        if wild is None:
            wild = self._wildcard_entries(subject, parent)
        literal = self._literals.get(subject)
        if not literal:
            return wild
        if not wild:
            return list(literal)
        return sorted([*literal, *wild], key=_age)

    def _known_by_prefix(self, subject: bytes) -> tuple[Entry, ...] | None:
        for tail in self._tails:
            prefix, *rest = subject.rsplit(b".", tail)
            if len(rest) == tail:
                wild = self._prefixes.get((tail, prefix))
                if wild is not None:
                    return wild
        return None

    def _wildcard_entries(self, subject: bytes, parent: bytes) -> tuple[Entry, ...]:
        """Give the wildcard entries by age, and remember them for the subjects that have the same ones."""
        known = self._known_by_prefix(subject)
        if known is not None:
            return known
        found, free = self._wildcards.match(subject)
        found.sort(key=_age)
        wild = tuple(found)
        for tail in self._tails:
            if tail <= free and subject.count(b".") >= tail:
                if len(self._prefixes) >= PREFIXES_MAX:
                    self._prefixes.clear()
                self._prefixes[tail, subject.rsplit(b".", tail)[0]] = wild
                return wild
        if parent and free:
            if len(self._parents) >= PARENTS_MAX:
                self._parents.clear()
            self._parents[parent] = wild
        return wild

    def _remember(self, route: Route) -> None:
        count = len(route.targets) + sum(len(members) for _, members in route.groups)
        if len(self._routes) >= ROUTES_MAX or self._target_count + count > TARGETS_MAX:
            self.forget_routes()
        self._routes[route.subject] = route
        self._target_count += count

    def _forget_literal(self, subject: bytes) -> None:
        route = self._routes.pop(subject, None)
        if route is not None:
            route.is_live = False
            self._target_count -= len(route.targets) + sum(len(members) for _, members in route.groups)

    def _forget_wildcards(self) -> None:
        self._parents.clear()
        self._prefixes.clear()
        self.forget_routes()


def _tail_length(pattern: bytes) -> int:
    """Count the `*` at the end of a pattern."""
    parts = tokens(pattern)
    count = 0
    while count < len(parts) and parts[-1 - count] == ANY_TOKEN:
        count += 1
    return count


def _age(entry: Entry) -> int:
    return entry.order


def _target_age(target: Target) -> int:
    return target.subscription.order
