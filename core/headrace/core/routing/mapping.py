"""Mappings of an account: what its clients publish on one subject goes to another one instead.

The first mapping that matches decides, once; what it leads to is not mapped again. Where a mapping has several
destinations, a number below 100 is drawn for each message. Weights that do not make 100 leave the rest where it
was, or, where the source is listed as a destination itself, drop it: such a message goes to the empty subject, which
nobody has.

Source: the NATS server 2.15's documentation of subject mapping, probed.
"""

from collections.abc import Iterable, Sequence

from headrace.core.base.chance import Chance
from headrace.core.base.errors import HeadraceError
from headrace.core.exports import Mapping, MappingDestination
from headrace.core.subject import has_wildcard, is_valid, matches
from headrace.core.subject_transform import SubjectTransform, check_mapping, tokenize_wildcards

WEIGHT_ALL = 100


class MappingInvalid(HeadraceError):
    """A mapping that cannot be; the text is the reference server's."""


class _Mapping:
    """One source; `steps` are destinations, each with the number below which it is taken."""

    __slots__ = ("source", "steps")

    def __init__(self, mapping: Mapping, cluster: str) -> None:
        self.source = mapping.source.encode()
        own = [place for place in mapping.destinations if place.cluster and place.cluster == cluster]
        chosen = own or [place for place in mapping.destinations if not place.cluster]
        steps = [
            (SubjectTransform(self.source, place.subject.encode()), place.weight)
            for place in sorted(
                _with_rest(mapping, chosen, self.source), key=lambda destination: destination.weight
            )
        ]
        self.steps: list[tuple[SubjectTransform, int]] = []
        total = 0
        for transform, weight in steps:
            total += weight
            self.steps.append((transform, total))

    def draw(self, chance: Chance) -> SubjectTransform | None:
        """Choose a destination; None: the message is lost."""
        first, limit = self.steps[0]
        if len(self.steps) == 1 and limit == WEIGHT_ALL:
            return first
        drawn = chance.below(WEIGHT_ALL)
        return next((transform for transform, limit in self.steps if drawn < limit), None)


class Mapper:
    """All mappings of an account, literal sources first."""

    __slots__ = ("_chance", "_mappings")

    def __init__(self, mappings: Iterable[Mapping], chance: Chance, cluster: str = "") -> None:
        made = [_Mapping(mapping, cluster) for mapping in mappings]
        made.sort(key=lambda mapping: has_wildcard(mapping.source))
        self._mappings = made
        self._chance = chance

    def mapped(self, subject: bytes) -> bytes:
        """Give the subject that a message published on `subject` goes to; empty: to none."""
        found = self._find(subject)
        if found is None:
            return subject
        transform = found.draw(self._chance)
        return b"" if transform is None else transform.apply(subject, self._chance)

    def fixed(self, subject: bytes) -> bytes | None:
        """Give the same where no chance is in it; else None."""
        found = self._find(subject)
        if found is None:
            return subject
        transform, limit = found.steps[0]
        if len(found.steps) > 1 or limit != WEIGHT_ALL or not transform.is_deterministic:
            return None
        return transform.apply(subject, self._chance)

    def _find(self, subject: bytes) -> _Mapping | None:
        for mapping in self._mappings:
            if matches(mapping.source, subject):
                return mapping
        return None


def check(mapping: Mapping) -> None:
    """Raise MappingInvalid or TransformInvalid where this is no mapping."""
    if not is_valid(mapping.source.encode()):
        raise MappingInvalid("invalid subject")
    totals: dict[str, int] = {}
    seen: set[str] = set()
    for destination in mapping.destinations:
        if destination.subject in seen:
            raise MappingInvalid(f'duplicate entry for "{destination.subject}"')
        seen.add(destination.subject)
        if destination.weight > WEIGHT_ALL:
            raise MappingInvalid("individual weights need to be <= 100")
        total = totals[destination.cluster] = totals.get(destination.cluster, 0) + destination.weight
        if total > WEIGHT_ALL:
            raise MappingInvalid("total weight needs to be <= 100")
        check_mapping(mapping.source.encode(), destination.subject.encode())


def _with_rest(
    mapping: Mapping, chosen: Sequence[MappingDestination], source: bytes
) -> list[MappingDestination]:
    """Add the source itself for what the weights leave, unless it is listed: then the rest is to be lost."""
    total = sum(destination.weight for destination in chosen)
    if total == WEIGHT_ALL or any(place.subject == mapping.source for place in mapping.destinations):
        return list(chosen)
    same = tokenize_wildcards(source).decode()
    return [*chosen, MappingDestination(same, WEIGHT_ALL - total if chosen else WEIGHT_ALL)]
