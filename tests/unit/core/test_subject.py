"""Subjects: which are valid, which match, which overlap."""

import pytest

from headrace.core import subject as subjects


@pytest.mark.parametrize(
    "text", [b"a", b"a.b", b"*", b">", b"a.*", b"a.>", b"*.*.>", b"foo*bar", b"foo>", b"$SYS.x"]
)
def test_a_pattern_of_whole_tokens_is_valid(text: bytes) -> None:
    assert subjects.is_valid(text)


@pytest.mark.parametrize(
    "text", [b"", b".", b"a.", b".a", b"a..b", b">.a", b"a.>.b", b">.>", b"a b", b"a\tb", b"a\fb"]
)
def test_a_pattern_with_an_empty_token_a_blank_or_a_tail_inside_is_invalid(text: bytes) -> None:
    assert not subjects.is_valid(text)


def test_a_star_inside_a_token_is_an_ordinary_character() -> None:
    assert not subjects.has_wildcard(b"foo*bar.>x")
    assert subjects.is_valid_literal(b"foo*bar")
    assert subjects.matches(b"foo*bar", b"foo*bar")
    assert not subjects.matches(b"foo*bar", b"fooxbar")


def test_a_lone_star_or_tail_is_a_wildcard() -> None:
    assert subjects.has_wildcard(b"*")
    assert subjects.has_wildcard(b"a.>")
    assert not subjects.is_valid_literal(b"a.*")


@pytest.mark.parametrize(
    ("pattern", "literal", "expected"),
    [
        (b"a.b", b"a.b", True),
        (b"a.b", b"a.c", False),
        (b"a.*", b"a.b", True),
        (b"a.*", b"a", False),
        (b"a.*", b"a.b.c", False),
        (b"a.>", b"a.b.c", True),
        (b"a.>", b"a", False),
        (b">", b"a", True),
        (b"*.b", b"a.b", True),
        (b"*", b"a.b", False),
        (b">", b"a..b", False),
        (b"*.>", b"a", False),
    ],
)
def test_a_star_matches_one_token_and_a_tail_one_or_more(
    pattern: bytes, literal: bytes, expected: bool
) -> None:
    assert subjects.matches(pattern, literal) is expected


def test_a_published_star_equals_only_a_star_of_the_pattern() -> None:
    assert subjects.matches(b"foo.*", b"foo.*")
    assert not subjects.matches(b"foo.bar", b"foo.*")


def test_a_subject_with_an_empty_token_does_not_even_match_itself() -> None:
    assert not subjects.matches(b"a..b", b"a..b")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (b"a.*", b"*.b", True),
        (b"a.>", b"a.b.c", True),
        (b"a.>", b"a", False),
        (b"a.b", b"a.c", False),
        (b"*.a", b"*.b", False),
        (b"a.*", b"a.*.c", False),
        (b">", b"x", True),
    ],
)
def test_patterns_overlap_when_some_subject_matches_both(first: bytes, second: bytes, expected: bool) -> None:
    assert subjects.overlaps(first, second) is expected
    assert subjects.overlaps(second, first) is expected


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (b"a.b", b"a.*", True),
        (b"a.*", b"a.b", False),
        (b"a.*", b"a.>", True),
        (b"a.>", b"a.*", False),
        (b"a.>", b"a.>", True),
        (b"*.*", b"a.>", False),
        (b"a", b"a.>", False),
        (b"a.b.c", b"a.b", False),
        (b"a..b", b"a.>", False),
        (b"a.b", b"a.b.c", False),
    ],
)
def test_a_pattern_lies_within_another_that_matches_all_of_it(
    inner: bytes, outer: bytes, expected: bool
) -> None:
    assert subjects.is_subset(inner, outer) is expected


def test_tokens_and_join_undo_each_other() -> None:
    assert subjects.tokens(b"a.b.") == [b"a", b"b", b""]
    assert subjects.join(subjects.tokens(b"a.b.")) == b"a.b."
