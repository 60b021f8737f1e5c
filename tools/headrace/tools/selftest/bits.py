"""Every bit: one bit of one record of a store is turned, and the store is opened.

`everything` numbers each bit of each used byte of the golden store, in each of its three states. The short form takes
the smallest record of each type, every bit of it, and so many drawn bits besides.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from headrace.core.base.chance import Chance
from headrace.tools.selftest.cases import Tally, run_cases
from headrace.tools.selftest.golden import Golden, Piece, make_goldens
from headrace.tools.selftest.judge import judge

GOLDEN_SEED: Final = 1
TWICE_EVERY: Final = 8
"""After so many bits the store is also opened a second time."""

WHOLE_EVERY: Final = 64
"""After so many bits the store has all its streams, else only the one that was hit: which is three times as fast."""

BITS: Final = 8
SPARSE_STEP: Final = 5
"""Prime to a byte's bits, so that all of them come up."""


@functools.cache
def goldens(seed: int = GOLDEN_SEED) -> tuple[Golden, ...]:
    """Give the golden stores of a seed, made once in each process."""
    return tuple(make_goldens(seed))


@functools.cache
def used_places(seed: int = GOLDEN_SEED) -> tuple[tuple[Golden, str, int], ...]:
    """Give each file that has records: its golden store, its path, and how many bits are used."""
    return tuple(
        (golden, path, max(piece.end for piece in pieces) * BITS)
        for golden in goldens(seed)
        for path, pieces in sorted(golden.by_path.items())
    )


@functools.cache
def alone(name: str, stream: int) -> Golden:
    """Give a golden store with one of its streams alone."""
    return next(golden for golden in goldens() if golden.name == name).alone(stream)


def bit_count() -> int:
    """Give how many bits there are."""
    return sum(count for _, _, count in used_places())


def flip(number: int) -> Counter[str]:
    """Turn bit `number` of all, and judge."""
    bit = number
    for golden, path, count in used_places():
        if bit < count:
            return _flip(golden, path, bit)
        bit -= count
    raise AssertionError(f"there are {bit_count()} bits")


def run_bits(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Turn `count` drawn bits, 0: all of them, one at a time."""
    total = bit_count()
    numbers: Iterable[int] = range(total)
    if count == 1:
        numbers = [seed]
    elif count:
        chance = Chance(seed)
        numbers = (chance.below(total) for _ in range(count))
    return run_cases(flip, numbers, seconds=seconds, jobs=jobs)


def run_types(*, seconds: float = 0, jobs: int = 1) -> Tally:
    """Turn every bit of the smallest record of each type."""
    return run_cases(flip, bits_of_types(), seconds=seconds, jobs=jobs)


def bits_of_types() -> Iterator[int]:
    """Give the numbers of the bits of the smallest record of each type.

    Of file headers, and of messages that differ in their flags alone, every `SPARSE_STEP`th.
    """
    smallest: dict[str, tuple[int, int]] = {}
    base = 0
    for golden, path, count in used_places():
        for piece in golden.by_path[path]:
            known = smallest.get(piece.type)
            if known is None or piece.end - piece.start < known[1] - known[0]:
                smallest[piece.type] = (base // BITS + piece.start, base // BITS + piece.end)
        base += count
    for name, (start, end) in smallest.items():
        is_variant = name.startswith(("header", "message")) and name != "message 00"
        yield from range(start * BITS, end * BITS, SPARSE_STEP if is_variant else 1)


def record_bits() -> Iterator[int]:
    """Give bits in the payloads of messages, one for each."""
    base = 0
    for golden, path, count in used_places():
        for piece in golden.by_path[path]:
            if piece.type == "message 00" and piece.costs & golden.truth[piece.stream].live.keys():
                yield base + (piece.start + 50) * BITS
        base += count


def _flip(golden: Golden, path: str, bit: int) -> Counter[str]:
    place = bit // BITS
    content = bytearray(golden.image[path])
    content[place] ^= 1 << bit % BITS
    hit = golden.hit(path, place, place + 1)
    if bit % WHOLE_EVERY and hit[0].stream in golden.truth:
        golden = alone(golden.name, hit[0].stream)
    lost = judge(golden, {**golden.image, path: bytes(content)}, hit, twice=bit % TWICE_EVERY == 0)
    return _counted(hit, lost)


def _counted(hit: list[Piece], lost: int) -> Counter[str]:
    counts = Counter({f"in {piece.type.split()[0]} records": 1 for piece in hit})
    counts["messages lost and listed"] += lost
    return counts
