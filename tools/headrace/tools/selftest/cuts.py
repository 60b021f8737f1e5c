"""Every length: one file of a store is cut there, and the store is opened.

What lay behind the cut may be gone, and is listed: by sequence where something else knows how far the stream went,
else as an end that is not known.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Final

from headrace.core.base.chance import Chance
from headrace.tools.selftest.bits import alone, goldens
from headrace.tools.selftest.cases import Tally, run_cases
from headrace.tools.selftest.golden import Golden
from headrace.tools.selftest.judge import judge

UNUSED_STEP: Final = 64
"""Behind the last record lie zeros: there, every so many lengths are tried."""

TWICE_EVERY: Final = 8


@cache
def places() -> tuple[tuple[Golden, str, tuple[int, ...]], ...]:
    """Give each file that has records, and the lengths at which it is cut."""
    found: list[tuple[Golden, str, tuple[int, ...]]] = []
    for golden in goldens():
        for path, pieces in sorted(golden.by_path.items()):
            used, size = max(piece.end for piece in pieces), len(golden.image[path])
            found.append((golden, path, (*range(used), *range(used, size, UNUSED_STEP))))
    return tuple(found)


def cut_count() -> int:
    """Give how many cuts there are."""
    return sum(len(lengths) for _, _, lengths in places())


def cut(number: int) -> Counter[str]:
    """Make cut `number` of all, and judge."""
    return _cut(*cut_place(number))


def cut_place(number: int) -> tuple[Golden, str, int]:
    """Give where cut `number` of all is made: store, file, length that is left."""
    index = number
    for golden, path, lengths in places():
        if index < len(lengths):
            return golden, path, lengths[index]
        index -= len(lengths)
    raise AssertionError(f"there are {cut_count()} cuts")


def run_cuts(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Make `count` drawn cuts, 0: all, each alone."""
    total = cut_count()
    numbers: Iterable[int] = range(total)
    if count == 1:
        numbers = [seed]
    elif count:
        chance = Chance(seed)
        numbers = (chance.below(total) for _ in range(count))
    return run_cases(cut, numbers, seconds=seconds, jobs=jobs)


def _cut(golden: Golden, path: str, length: int) -> Counter[str]:
    stream = golden.by_path[path][0].stream
    if stream in golden.truth:
        golden = alone(golden.name, stream)
    hit = golden.hit(path, length, len(golden.image[path]))
    image = {**golden.image, path: golden.image[path][:length]}
    lost = judge(golden, image, hit, twice=length % TWICE_EVERY == 0, ends=path)
    return Counter({f"of a {golden.by_path[path][0].kind.name.lower()}": 1, "messages lost and listed": lost})
