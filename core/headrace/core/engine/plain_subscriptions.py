"""Who subscribes to what: SUB, UNSUB, what ends a subscription, and who watches for interest."""

from collections.abc import Callable

from headrace.core.engine.interface import EngineSetup, SubscriptionInfo, Verdict
from headrace.core.engine.plain_connection import NEVER, PlainConnection
from headrace.core.engine.plain_delivery import Delivery
from headrace.core.engine.plain_scope import PublishScope
from headrace.core.errors import (
    InvalidSubject,
    MaximumSubscriptionsExceeded,
    ProtocolError,
    SubscriptionViolation,
    TooManyTokens,
)
from headrace.core.routing.entries import Entry, Subscription
from headrace.core.routing.follower import Follower
from headrace.core.routing.interest import Watchers
from headrace.core.routing.mapping import Mapper
from headrace.core.routing.table import RouteTable
from headrace.core.subject import is_valid, overlaps

_RESERVED_QUEUE = b"_sys_"


class Subscriptions:
    """Route tables by account, and the only one who changes them."""

    def __init__(self, setup: EngineSetup, delivery: Delivery) -> None:
        self._rules = setup.rules
        self._max_tokens = setup.max_sub_tokens
        self._system_account = setup.system_account
        self._delivery = delivery
        self._tables: dict[str, RouteTable] = {}
        self._scopes: dict[tuple[str, object | None, bool, bool], PublishScope] = {}
        self._mappers: dict[str, Mapper] = {}
        self._tracing: set[str] = set()  # accounts that have messages traced by their `traceparent`
        self._order = 0
        self.watchers = Watchers(self.has_interest)
        self.count = 0

    def table(self, account: str) -> RouteTable:
        """Give an account's routes, which begin empty."""
        table = self._tables.get(account)
        if table is None:
            table = self._tables[account] = RouteTable(self._may_receive, account)
        return table

    def bind(self, connection: PlainConnection) -> PublishScope:
        """Find the scope that a connection publishes in, and keep it with the connection."""
        key = (connection.account, connection.permissions, connection.headers, connection.pedantic)
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = PublishScope(
                self.table(connection.account),
                connection.permissions,
                self._rules,
                is_system=connection.account == self._system_account,
                mapper=self._mappers.get(connection.account),
                traces_parents=connection.account in self._tracing,
            )
        connection.scope = scope
        return scope

    # clients

    def subscribe(
        self, connection: PlainConnection, subject: bytes, queue: bytes, sid: bytes
    ) -> ProtocolError | None:
        """Make a subscription, or tell why not. A sid in use is left as it is."""
        verdict = Verdict.ALLOWED
        if queue == _RESERVED_QUEUE:
            return SubscriptionViolation(subject, queue)
        if connection.permissions is not None:
            verdict = self._rules.may_subscribe(connection.permissions, subject, queue)
            if verdict is Verdict.REFUSED:
                return SubscriptionViolation(subject, queue)
        if 0 < self._max_tokens <= subject.count(b"."):
            return TooManyTokens(subject)
        table = self.table(connection.account)
        if (
            0 < connection.max_subscriptions <= len(connection.subscriptions)
            or 0 < connection.max_account_subscriptions <= table.subscription_count
        ):
            return MaximumSubscriptionsExceeded()
        if sid in connection.subscriptions:
            return None
        if not is_valid(subject):
            return InvalidSubject()
        subscription = Subscription(
            connection,
            subject,
            queue,
            sid,
            order=self.next_order(),
            is_filtered=verdict is Verdict.FILTERED,
        )
        connection.subscriptions[sid] = subscription
        self.count += 1
        self.add(connection.account, subscription)
        return None

    def unsubscribe(self, connection: PlainConnection, sid: bytes, limit: int) -> None:
        """End a subscription now, or after `limit` deliveries since its beginning. Unknown ones are ignored."""
        subscription = connection.subscriptions.get(sid)
        if subscription is None:
            return
        if limit <= 0 or subscription.delivered >= limit:
            self._remove(subscription)
        else:
            subscription.limit = limit

    def drop(self, connection: PlainConnection) -> None:
        """End all subscriptions of a connection."""
        for subscription in list(connection.subscriptions.values()):
            self._remove(subscription)

    def revise(self, connection: PlainConnection) -> list[SubscriptionInfo]:
        """Look at a connection's subscriptions again, as its permissions changed; end and give the refused ones."""
        self.bind(connection)
        refused: list[SubscriptionInfo] = []
        for subscription in list(connection.subscriptions.values()):
            verdict = Verdict.ALLOWED
            if connection.permissions is not None:
                verdict = self._rules.may_subscribe(
                    connection.permissions, subscription.subject, subscription.queue
                )
            subscription.is_filtered = verdict is Verdict.FILTERED
            if verdict is Verdict.REFUSED:
                refused.append(describe(subscription))
                self._remove(subscription)
        # Routes that are known were made by what was permitted before; followers have those of this account in theirs.
        for table in self._tables.values():
            table.forget_routes()
        return refused

    def expire(self) -> None:
        """End the subscriptions that have had their last message."""
        expired = self._delivery.expired
        for subscription in expired:
            self._remove(subscription)
        expired.clear()

    def _remove(self, subscription: Subscription) -> None:
        connection = subscription.connection
        if connection.subscriptions.get(subscription.sid) is not subscription:
            return
        del connection.subscriptions[subscription.sid]
        subscription.limit = min(
            subscription.limit, subscription.delivered
        )  # a route in use gives it no more
        self.count -= 1
        self.remove(connection.account, subscription)

    # entries of any kind

    def next_order(self) -> int:
        self._order += 1
        return self._order

    def add(self, account: str, entry: Entry) -> None:
        table = self.table(account)
        table.add(entry)
        self._changed(table, entry.subject)

    def remove(self, account: str, entry: Entry) -> None:
        table = self.table(account)
        table.remove(entry)
        self._changed(table, entry.subject)

    def _changed(self, table: RouteTable, subject: bytes) -> None:
        self.watchers.changed(table.account, subject)
        for other, follower in table.followed:
            if overlaps(subject, follower.local):
                self.watchers.changed(other.account, follower.source)

    # between accounts

    def follow(self, exporter: str, follower: Follower) -> None:
        """Put an account's import of a stream into the exporter's routes."""
        self.table(follower.account).follow(self.table(exporter), follower)
        self.watchers.changed(exporter, follower.source)

    def unfollow(self, exporter: str, follower: Follower) -> None:
        self.table(follower.account).unfollow(self.table(exporter), follower)
        self.watchers.changed(exporter, follower.source)

    def set_mapper(self, account: str, mapper: Mapper | None) -> None:
        """Map what clients of an account publish from now on."""
        if mapper is None:
            self._mappers.pop(account, None)
        else:
            self._mappers[account] = mapper
        for key, scope in self._scopes.items():
            if key[0] == account:
                scope.set_mapper(mapper)
        if account in self._tables:
            self._tables[account].forget_routes()

    def trace_parents(self, account: str, *, wanted: bool) -> None:
        """Have messages with a `traceparent` of this account's clients reported, or not."""
        if wanted:
            self._tracing.add(account)
        else:
            self._tracing.discard(account)
        for key, scope in self._scopes.items():
            if key[0] == account:
                scope.traces_parents = wanted

    # questions

    def has_interest(self, account: str, subject: bytes, queue: bytes) -> bool:
        """Tell whether a client subscribes; with `queue`, as a member of that group."""
        route = self.table(account).route(subject)
        if route.targets and not queue:
            return True
        return any(
            queue in (b"", name) and any(not hasattr(member, "sink") for member in members)
            for name, members in route.groups
        )

    def forget_verdicts(self, permissions: object) -> None:
        for key, scope in self._scopes.items():
            if key[1] == permissions:
                scope.forget()
        for table in self._tables.values():
            table.forget_routes()

    def _may_receive(self, subscription: Subscription, subject: bytes) -> bool:
        permissions = subscription.connection.permissions
        return permissions is None or self._rules.may_receive(permissions, subject)


def describe(subscription: Subscription) -> SubscriptionInfo:
    """Show a subscription to monitoring."""
    return SubscriptionInfo(
        connection_id=subscription.connection.id,
        account=subscription.connection.account,
        subject=subscription.subject,
        queue=subscription.queue,
        sid=subscription.sid,
        delivered=subscription.delivered,
        delivered_max=0 if subscription.limit == NEVER else subscription.limit,
    )


InterestCallback = Callable[[bool], None]
