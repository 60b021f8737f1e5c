"""Permissions against a matcher that is too slow and too simple to be wrong.

The matcher decides by listing: a pattern stands for the set of all subjects of up to four tokens over three letters
that it matches, and "within" and "overlaps" are relations of those sets.
"""

import itertools
import random
from functools import cache

import pytest

from headrace.core.auth.permissions import PermissionRules
from headrace.core.engine.interface import Verdict
from headrace.core.options import Permissions, SubjectRules

LETTERS = "abc"
SUBJECTS = [".".join(each) for size in range(1, 5) for each in itertools.product(LETTERS, repeat=size)]
# One token more than the longest subject stands for all longer ones, and `z` for every other letter.
UNIVERSE = [".".join(each) for size in range(1, 6) for each in itertools.product(LETTERS + "z", repeat=size)]
PATTERNS = [
    *(".".join(each) for size in range(1, 4) for each in itertools.product("ab*", repeat=size)),
    ">",
    *(".".join((*each, ">")) for size in range(1, 3) for each in itertools.product("ab*", repeat=size)),
]
QUEUES = ("", "a", "b", "a.b", "*", "a.*", ">")


def is_match(pattern: list[str], subject: list[str]) -> bool:
    if pattern == [">"]:
        return bool(subject)
    if not pattern or not subject:
        return pattern == subject
    return pattern[0] in {"*", subject[0]} and is_match(pattern[1:], subject[1:])


@cache
def subjects_of(pattern: str) -> frozenset[str]:
    return frozenset(each for each in UNIVERSE if is_match(pattern.split("."), each.split(".")))


def may_publish(rules: SubjectRules, subject: str) -> bool:
    allowed = rules.allow is None or any(subject in subjects_of(each) for each in rules.allow)
    return allowed and not any(subject in subjects_of(each) for each in rules.deny)


def may_subscribe(rules: SubjectRules, subject: str, queue: str) -> bool:
    wanted = subjects_of(subject)

    def holds(entry: str, *, as_denied: bool) -> bool:
        pattern, _, group = entry.partition(" ")
        if not wanted <= subjects_of(pattern):
            return False
        return not group if not queue else (not group and as_denied) or is_group(group)

    def is_group(group: str) -> bool:
        return bool(group) and is_match(group.split("."), queue.split("."))

    if any(holds(entry, as_denied=True) for entry in rules.deny):
        return False
    if rules.allow is None:
        return True
    within = [entry for entry in rules.allow if wanted <= subjects_of(entry.partition(" ")[0])]
    if queue and any(" " in entry for entry in within):
        return any(is_group(entry.partition(" ")[2]) for entry in within)
    return any(" " not in entry for entry in within)


def rules_from(chance: random.Random, *, with_queues: bool) -> SubjectRules:
    def entries() -> tuple[str, ...]:
        def entry() -> str:
            queue = chance.choice(QUEUES) if with_queues and chance.random() < 0.4 else ""
            return f"{chance.choice(PATTERNS)} {queue}".strip()

        return tuple(entry() for _ in range(chance.randint(0, 3)))

    return SubjectRules(entries() or None if chance.random() < 0.8 else None, entries())


@pytest.mark.parametrize("seed", range(25))
def test_publish_permissions_are_those_of_the_slow_matcher(seed: int) -> None:
    rules = rules_from(random.Random(seed), with_queues=False)
    permissions, ours = Permissions(publish=rules), PermissionRules()
    for subject in SUBJECTS:
        verdict = ours.may_publish(permissions, subject.encode())
        assert (verdict is Verdict.ALLOWED) is may_publish(rules, subject), (rules, subject)


@pytest.mark.parametrize("seed", range(25))
def test_subscribe_permissions_are_those_of_the_slow_matcher(seed: int) -> None:
    rules = rules_from(random.Random(seed), with_queues=True)
    permissions, ours = Permissions(subscribe=rules), PermissionRules()
    for subject in [*PATTERNS, *SUBJECTS[:39]]:
        for queue in ("", "a", "b", "c", "a.b", "a.c"):
            verdict = ours.may_subscribe(permissions, subject.encode(), queue.encode())
            expected = may_subscribe(rules, subject, queue)
            assert (verdict is not Verdict.REFUSED) is expected, (rules, subject, queue)


@pytest.mark.parametrize("seed", range(25))
def test_what_is_denied_within_a_wider_subscription_is_not_delivered(seed: int) -> None:
    rules = rules_from(random.Random(seed), with_queues=False)
    permissions, ours = Permissions(subscribe=rules), PermissionRules()
    denied = frozenset[str]().union(*(subjects_of(each) for each in rules.deny))
    for pattern in PATTERNS:
        verdict = ours.may_subscribe(permissions, pattern.encode(), b"")
        for subject in subjects_of(pattern) & set(SUBJECTS):
            is_delivered = verdict is Verdict.ALLOWED or (
                verdict is Verdict.FILTERED and ours.may_receive(permissions, subject.encode())
            )
            if verdict is not Verdict.REFUSED:
                assert is_delivered is (subject not in denied), (rules, pattern, subject)
