"""Pages: 4 KiB of one file of a store are zeroed, garbage, or another page's, of this file or of another or of earlier.

And copies: messages whose payload holds whole segments of their own store, with damage in front of them. A record is
bound to its place in its file, so none of what they hold may ever be taken for one.
"""

from collections import Counter
from functools import cache
from typing import Final

from headrace.core.base.chance import Chance
from headrace.storage.interface import Entry
from headrace.tools.selftest.bits import goldens
from headrace.tools.selftest.cases import Tally, expect, run_cases
from headrace.tools.selftest.golden import Golden, as_golden, make_goldens, truth_of_views
from headrace.tools.selftest.judge import judge
from headrace.tools.selftest.world import GOLDEN_BOUNDS, World

PAGE: Final = 4096
KINDS: Final = ("zeroed", "garbage", "swapped", "another file's", "an earlier store's")
COPIES_MAX: Final = 4
DAMAGE_MAX: Final = 200


def damage_page(seed: int) -> Counter[str]:
    """Damage one page, and judge."""
    chance = Chance(seed)
    golden = goldens()[chance.below(len(goldens()))]
    paths = sorted(golden.by_path)
    path = paths[chance.below(len(paths))]
    content = bytearray(golden.image[path])
    used = max(piece.end for piece in golden.by_path[path])
    pages = -(-used // PAGE)
    place = chance.below(pages) * PAGE
    kind = KINDS[chance.below(len(KINDS))]
    hit = golden.hit(path, place, place + PAGE)
    stop = min(place + PAGE, len(content))
    if kind == "zeroed":
        content[place:stop] = bytes(stop - place)
    elif kind == "garbage":
        content[place:stop] = bytes(chance.below(256) for _ in range(stop - place))
    elif kind == "swapped":
        other = chance.below(pages) * PAGE
        hit += golden.hit(path, other, other + PAGE)
        first, second = bytes(content[place:stop]), bytes(content[other : other + PAGE])
        content[other : other + len(first)] = first
        content[place : place + len(second)] = second
    else:
        source = golden if kind == "another file's" else earlier()
        names = [each for each, held in sorted(source.image.items()) if len(held) >= PAGE and each != path]
        held = source.image[names[chance.below(len(names))]]
        start = chance.below(len(held) // PAGE) * PAGE
        content[place:stop] = held[start : start + stop - place].ljust(stop - place, b"\0")
    lost = judge(golden, {**golden.image, path: bytes(content)}, hit, twice=seed % 4 == 0)
    return Counter({f"pages {kind}": 1, "messages lost and listed": lost})


def run_pages(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Damage `count` pages, each alone."""
    return run_cases(damage_page, range(seed, seed + count), seconds=seconds, jobs=jobs)


def bury_copies(seed: int) -> Counter[str]:
    """Store copies of segments in messages, damage what is in front of one, and judge."""
    chance = Chance(seed)
    world = World(seed, bounds=GOLDEN_BOUNDS)
    log = world.create()
    for number in range(10 + chance.below(10)):
        log.append([Entry(b"plain", b"", b"message %d" % number * (1 + chance.below(9)), number + 1)])
        expect(world.commit() is None, "it is stored")
    copies = 1 + chance.below(COPIES_MAX)
    for number in range(copies):
        segments = [held for path, held in sorted(world.files.image().items()) if "/seg/" in path and held]
        whole = segments[chance.below(len(segments))]
        start = chance.below(2) * chance.below(len(whole))
        # So that copies lie at their own alignment, and beside it.
        log.append([Entry(b"copy", b"", bytes(chance.below(9)) + whole[start:], 100 + number)])
        log.append([Entry(b"plain", b"", b"behind copy %d" % number, 100 + number)])
        expect(world.commit() is None, "it is stored")
    views = log.scan(1, log.head.last_sequence, None, messages_max=1 << 30, size_max=1 << 40).views
    golden = as_golden("copies", world.files.image(), {log.stream_id: truth_of_views(log, views)})
    buried = [view.sequence for view in views if view.subject == b"copy"]
    victim = buried[chance.below(len(buried))]
    piece = next(each for each in golden.pieces if victim in each.costs)
    # The copy's own record, from somewhat before it: headers go first, so lengths lead nowhere.
    start = max(0, piece.start - chance.below(DAMAGE_MAX))
    stop = piece.start + 1 + chance.below(DAMAGE_MAX)
    content = bytearray(golden.image[piece.path])
    content[start:stop] = bytes(chance.below(256) for _ in range(stop - start))
    hit = golden.hit(piece.path, start, stop)
    lost = judge(golden, {**golden.image, piece.path: bytes(content)}, hit, twice=True)
    return Counter({"copies": copies, "messages lost and listed": lost})


def run_copies(*, seed: int, count: int, seconds: float, jobs: int) -> Tally:
    """Damage `count` stores that hold copies of themselves."""
    return run_cases(bury_copies, range(seed, seed + count), seconds=seconds, jobs=jobs)


@cache
def earlier() -> Golden:
    """Give a store whose pages are stale ones: not the one that is damaged."""
    return make_goldens(2)[0]
