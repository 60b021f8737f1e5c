"""What publishers of one account and one permission set share: verdicts, and plans by control line.

Most publishers repeat themselves. A *plan* is all that follows from one control line, byte for byte: sizes, the route,
where in the line the outgoing part begins. So a repeated line costs one lookup instead of a parse. Lines with a
reply are not planned (replies are unique); a line is planned when it comes for the second time.
"""

from typing import Final

from headrace.core.engine.interface import Rules, Verdict
from headrace.core.routing.mapping import Mapper
from headrace.core.routing.table import Route, RouteTable

PLANS_MAX: Final = 16_384
VERDICTS_MAX: Final = 16_384

RESERVED_SUBJECT: Final = b"_GR_."
RESERVED_SYSTEM_SUBJECT: Final = b"$NRG."
RESERVED_REPLIES: Final = (b"_R_.", b"$JS.ACK.", b"_GR_.")


class Plan:
    """What a control line without a reply leads to.

    `tail_size` is the length of its end that goes into the MSG line as it is; `glue` is what stands between the
    payloads of two equal messages in a row; `step` the distance between them.
    """

    __slots__ = ("glue", "header_size", "line", "route", "step", "subject", "tail_size", "total_size")

    def __init__(
        self, line: bytes, subject: bytes, header_size: int, total_size: int, tail_size: int, route: Route
    ) -> None:
        self.line = line
        self.subject = subject
        self.header_size = header_size
        self.total_size = total_size
        self.tail_size = tail_size
        self.route = route
        self.glue = b"\r\n" + line
        self.step = len(line) + total_size + 2


class PublishScope:
    """Shared by all connections with the same account, permissions and willingness to send headers.

    `mapper`: the account's mappings; where it has some, nothing is planned, as a line may lead elsewhere each time.
    `traces_parents`: messages with a `traceparent` are to be reported.
    """

    def __init__(
        self,
        table: RouteTable,
        permissions: object | None,
        rules: Rules,
        *,
        is_system: bool,
        mapper: Mapper | None = None,
        traces_parents: bool = False,
    ) -> None:
        self.mapper = mapper
        self.traces_parents = traces_parents
        self.table = table
        self.permissions = permissions
        self._rules = rules
        self._is_system = is_system
        self._verdicts: dict[bytes, bool] = {}
        self.plans: dict[bytes, Plan] = {}
        self.routes: dict[
            bytes, Route
        ] = {}  # of subjects that are permitted and were published to with a reply
        self._seen: set[bytes] = set()

    def may_publish(self, subject: bytes) -> bool:
        """Tell whether `subject` is permitted; asked of the rules once."""
        if self.permissions is None:
            return not subject.startswith(RESERVED_SUBJECT) and (
                self._is_system or not subject.startswith(RESERVED_SYSTEM_SUBJECT)
            )
        verdict = self._verdicts.get(subject)
        if verdict is None:
            verdict = (
                not subject.startswith(RESERVED_SUBJECT)
                and (self._is_system or not subject.startswith(RESERVED_SYSTEM_SUBJECT))
                and self._rules.may_publish(self.permissions, subject) is Verdict.ALLOWED
            )
            if len(self._verdicts) >= VERDICTS_MAX:
                self._verdicts.clear()
            self._verdicts[subject] = verdict
        return verdict

    def is_worth_planning(self, line: bytes) -> bool:
        """Tell whether this control line was seen lately, and note it."""
        if line in self._seen:
            return True
        if len(self._seen) >= PLANS_MAX:
            self._seen.clear()
        self._seen.add(line)
        return False

    def remember(self, plan: Plan) -> None:
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        self.plans[plan.line] = plan

    def remember_route(self, subject: bytes) -> None:
        """Keep the route of a subject that may be published to, unless it leads to a service of another account."""
        if len(self.routes) >= PLANS_MAX:
            self.routes.clear()
        route = self.table.lasting_route(subject)
        if not route.has_service:
            self.routes[subject] = route

    def set_mapper(self, mapper: Mapper | None) -> None:
        self.mapper = mapper
        self.forget()

    def forget(self) -> None:
        """Drop every verdict, and the plans and routes that rest on them."""
        self._verdicts.clear()
        self.routes.clear()
        self.plans.clear()
