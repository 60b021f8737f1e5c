"""What accounts exchange, kept in step with their options: stream imports, service imports and mappings of a server.

`apply` may be called whenever an account came, went or changed; what is as it was is not touched. Every account imports
some services of the system account without being told to: who am I, and what is connected to my account.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.engine.interface import Engine, Registration
from headrace.core.exports import Mapping, ResponseType, ServiceExport
from headrace.core.imports.rules import ImportRefused, Imports, ServiceRoute, StreamRoute, resolve
from headrace.core.imports.services import Services
from headrace.core.options import AccountOptions
from headrace.core.routing.follower import Follower
from headrace.core.routing.mapping import Mapper

USER_INFO: Final = "$SYS.REQ.USER.INFO"
_ACCOUNT_POSITION: Final = 4

_SYSTEM_EXPORTS: Final = (
    ServiceExport("$SYS.REQ.ACCOUNT.*.CONNZ", token_position=_ACCOUNT_POSITION, response=ResponseType.STREAM),
    ServiceExport("$SYS.REQ.ACCOUNT.*.STATZ", token_position=_ACCOUNT_POSITION, response=ResponseType.STREAM),
    ServiceExport("$SYS.DEBUG.SUBSCRIBERS"),
    ServiceExport("$SYS.REQ.USER.*.INFO"),
)
"""What the system account exports to all, as far as it does not export the same itself."""


def resolve_all(accounts: Iterable[AccountOptions], system_account: str) -> Imports:
    """Look at every import, with what the system account exports without being told to."""
    return resolve(
        _with_system_exports(account) if account.name == system_account else account for account in accounts
    )


def _with_system_exports(account: AccountOptions) -> AccountOptions:
    own = {export.subject for export in account.service_exports}
    added = [export for export in _SYSTEM_EXPORTS if export.subject not in own]
    return replace(account, service_exports=(*account.service_exports, *added))


class Exchange:
    """Puts what accounts exchange into an engine."""

    def __init__(self, engine: Engine, services: Services, chance: Chance, system_account: str) -> None:
        self._engine = engine
        self._services = services
        self._chance = chance
        self._system_account = system_account
        self._streams: dict[StreamRoute, Registration] = {}
        self._mappings: dict[str, tuple[Mapping, ...]] = {}
        self._importers: set[str] = set()
        self._services_of: dict[str, tuple[ServiceRoute, ...]] = {}

    def apply(self, accounts: Iterable[AccountOptions]) -> tuple[ImportRefused, ...]:
        """Have what these accounts want from now on; give the imports that are refused."""
        known = list(accounts)
        imports = resolve_all(known, self._system_account)
        self._follow(imports.streams)
        services: dict[str, list[ServiceRoute]] = {account.name: [] for account in known}
        for route in imports.services:
            services[route.importer].append(route)
        for account in known:
            local = {route.local for route in services[account.name]}
            services[account.name] += [
                route for route in self._system_services(account.name) if route.local not in local
            ]
            self._map(account)
        for gone in self._importers - services.keys():
            self._services.set_routes(gone, ())
            self._map(AccountOptions(gone))
        for importer, routes in services.items():
            self._services.set_routes(importer, tuple(routes))
        self._importers = set(services)
        self._services_of = {importer: tuple(routes) for importer, routes in services.items()}
        return imports.refused

    def imports_of(self, account: str) -> tuple[tuple[StreamRoute, ...], tuple[ServiceRoute, ...]]:
        """Give the streams and services that an account imports."""
        streams = tuple(route for route in self._streams if route.importer == account)
        return streams, self._services_of.get(account, ())

    def _system_services(self, name: str) -> list[ServiceRoute]:
        def route(local: str, there: str, export: ServiceExport, *, share: bool = False) -> ServiceRoute:
            return ServiceRoute(
                name, self._system_account, local.encode(), there.encode(), None, export, share
            )

        connections, statistics, _, user = _SYSTEM_EXPORTS
        info = route(USER_INFO, f"$SYS.REQ.USER.{name}.INFO", user, share=True)
        if name == self._system_account:
            return [info]
        own_connections = f"$SYS.REQ.ACCOUNT.{name}.CONNZ"
        return [
            info,
            route("$SYS.REQ.ACCOUNT.PING.CONNZ", own_connections, connections),
            route("$SYS.REQ.SERVER.PING.CONNZ", own_connections, connections),
            route("$SYS.REQ.ACCOUNT.PING.STATZ", f"$SYS.REQ.ACCOUNT.{name}.STATZ", statistics),
        ]

    def _follow(self, wanted: Iterable[StreamRoute]) -> None:
        routes = dict.fromkeys(wanted)
        for route in [held for held in self._streams if held not in routes]:
            self._streams.pop(route).close()
        for route in routes:
            if route not in self._streams:
                follower = Follower(
                    route.importer, route.source, route.local, route.renames, allow_trace=route.allow_trace
                )
                self._streams[route] = self._engine.follow(route.exporter, follower)

    def _map(self, account: AccountOptions) -> None:
        if self._mappings.get(account.name, ()) == account.mappings:
            return
        self._mappings[account.name] = account.mappings
        mapper = Mapper(account.mappings, self._chance) if account.mappings else None
        self._engine.set_mapper(account.name, mapper)
        self._services.set_mapper(account.name, mapper)
