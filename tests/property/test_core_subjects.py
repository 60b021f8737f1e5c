"""Subject algebra, the trie and the route table against definitions that try everything."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from core_lab import EngineLab
from headrace.core import subject as subjects
from headrace.core.routing.trie import Trie

TOKENS = (b"a", b"b", b"*", b">")
PATTERNS = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(b".".join)
VALID = PATTERNS.filter(subjects.is_valid)
LITERALS = [
    b".".join(parts) for size in range(1, 6) for parts in itertools.product((b"a", b"b", b"c"), repeat=size)
]
LITERAL = st.sampled_from(LITERALS)


def matches_by_definition(pattern: bytes, literal: bytes) -> bool:
    """Match token by token, recursively."""

    def walk(wanted: list[bytes], given: list[bytes]) -> bool:
        if not wanted:
            return not given
        if wanted == [b">"]:
            return bool(given)
        return bool(given) and wanted[0] in (b"*", given[0]) and walk(wanted[1:], given[1:])

    return walk(pattern.split(b"."), literal.split(b"."))


@given(VALID, LITERAL)
def test_matching_is_what_its_definition_says(pattern: bytes, literal: bytes) -> None:
    assert subjects.matches(pattern, literal) == matches_by_definition(pattern, literal)


@given(VALID, VALID)
def test_patterns_overlap_exactly_when_some_subject_matches_both(first: bytes, second: bytes) -> None:
    both = any(matches_by_definition(first, one) and matches_by_definition(second, one) for one in LITERALS)
    assert subjects.overlaps(first, second) == both


@given(VALID, VALID)
def test_a_pattern_is_a_subset_exactly_when_nothing_of_it_lies_outside(inner: bytes, outer: bytes) -> None:
    outside = any(
        matches_by_definition(inner, one) and not matches_by_definition(outer, one) for one in LITERALS
    )
    assert subjects.is_subset(inner, outer) == (not outside)


@given(st.lists(st.tuples(VALID, st.booleans()), max_size=30), LITERAL, st.sampled_from([b"a", b"c", b"zz"]))
def test_a_trie_finds_what_a_search_of_all_patterns_finds(
    changes: list[tuple[bytes, bool]], literal: bytes, last: bytes
) -> None:
    trie: Trie[int] = Trie()
    held: dict[int, bytes] = {}
    for number, (pattern, is_added) in enumerate(changes):
        if is_added or not held:
            trie.insert(pattern, number)
            held[number] = pattern
        else:
            oldest = next(iter(held))
            assert trie.remove(held[oldest], oldest)
            assert not trie.remove(held.pop(oldest), oldest)
    found, free = trie.match(literal)
    assert sorted(found) == [
        number for number, pattern in held.items() if matches_by_definition(pattern, literal)
    ]
    assert len(trie) == len(held)
    assert sorted(trie) == sorted(held)
    if free:
        parts = literal.split(b".")
        sibling = b".".join(parts[: len(parts) - free] + [last] * free)
        assert sorted(trie.match(sibling)[0]) == sorted(found)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("sub"), VALID, st.sampled_from([b"", b"q"])),
        st.tuples(st.just("unsub"), st.integers(0, 9).map(lambda n: b"%d" % n), st.just(b"")),
        st.tuples(st.just("pub"), LITERAL, st.just(b"")),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(OPERATIONS)
def test_routes_that_are_remembered_never_outlive_their_subscriptions(
    operations: list[tuple[str, bytes, bytes]],
) -> None:
    lab = EngineLab()
    client = lab.open(verbose=False)
    held: dict[bytes, tuple[bytes, bytes]] = {}
    number = 0
    for verb, text, queue in operations:
        if verb == "sub":
            sid = b"%d" % number
            number += 1
            held[sid] = (text, queue)
            lab.send(client, b"SUB %b %b %b\r\n" % (text, queue, sid))
        elif verb == "unsub":
            held.pop(text, None)
            lab.send(client, b"UNSUB %b\r\n" % text)
        else:
            lab.got(client)
            lab.send(client, b"PUB %b 0\r\n\r\n" % text)
            sids = {line.split(b" ")[2] for line in lab.got(client).split(b"\r\n") if line}
            matching = {sid for sid, (pattern, _) in held.items() if matches_by_definition(pattern, text)}
            plain = {sid for sid in matching if not held[sid][1]}
            grouped = matching - plain
            assert sids >= plain
            assert len(sids - plain) == min(1, len(grouped))
            assert sids - plain <= grouped
