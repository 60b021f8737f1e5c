"""Subject transforms, against what is documented of the reference server."""

import pytest

from headrace.core.base.chance import Chance
from headrace.core.subject_transform import (
    SubjectTransform,
    TransformInvalid,
    check_mapping,
    fnv1a,
    tokenize_wildcards,
    untokenize_wildcards,
)

PREFIX = "invalid mapping destination: "


@pytest.mark.parametrize(
    ("source", "destination", "subject", "expected"),
    [
        ("", "prefix.>", "foo", "prefix.foo"),
        ("foo", "", "foo", "foo"),
        ("foo", "bar", "foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1", "foo.A.bar.B.baz", "req.B.A"),
        ("foo.*.bar.*.baz", "req.{{wildcard(2)}}.{{wildcard(1)}}", "foo.A.bar.B.baz", "req.B.A"),
        ("baz.>", "my.pre.>", "baz.1.2.3", "my.pre.1.2.3"),
        (">", ">", "a.b", "a.b"),
        ("a.*.>", "$1.x.>", "a.b.c.d", "b.x.c.d"),
        ("*", "foo.bar.$1", "foo", "foo.bar.foo"),
        ("*.*", "$1.$1", "a.b", "a.a"),
        ("*", "$sys.$1", "a", "$sys.a"),
        ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
        ("*", "{{splitfromleft(1,0)}}", "12345", "12345"),
        ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
        ("*", "{{SplitFromRight(1,5)}}", "12345", "12345"),
        ("*", "{{SliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
        ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
        ("*", "{{SliceFromRight(1,5)}}", "1234567890", "12345.67890"),
        ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,-)}}", "abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,)}}", "añ", "a.ñ"),
        ("*.*", "{{split(2,-)}}.{{splitfromleft(1,2)}}", "foo.-abc-def--ghij-", "abc.def.ghij.fo.o"),
        ("*", "{{right(1,1)}}", "1234", "4"),
        ("*", "{{Right(1,6)}}", "1234", "1234"),
        ("*", "{{left(1,3)}}", "1234", "123"),
        ("*", "{{Left(1,6)}}", "1234", "1234"),
        ("*", "bar.{{partition(0)}}", "baz", "bar.0"),
        ("*", "bar.{{partition(10, 0)}}", "foo", "bar.3"),
        ("*.*", "bar.{{partition(10)}}", "foo.bar", "bar.6"),
        ("*", "bar.{{ Partition (10) }}", "qux", "bar.9"),
        ("foo.bar", "baz.{{partition(10)}}", "foo.bar", "baz.6"),
        ("p.*", "p.{{partition(3,1)}}.{{wildcard(1)}}", "p.abc", "p.2.abc"),
        ("*", "bar.{{random(0)}}", "qux", "bar.0"),
    ],
)
def test_a_subject_becomes_what_its_transform_says(
    source: str, destination: str, subject: str, expected: str
) -> None:
    transform = SubjectTransform(source.encode(), destination.encode())
    assert transform.match(subject.encode(), Chance(1)) == expected.encode()


@pytest.mark.parametrize(
    ("source", "destination", "text"),
    [
        ("foo..", "bar", "invalid subject"),
        ("foo.>.x", "bar", "invalid subject"),
        ("foo.*", "bar.*", "invalid subject"),
        ("foo.*", "bar.$1.>", "invalid subject"),
        ("foo.>", "bar.baz", "invalid subject"),
        ("foo", "bar..x", "invalid subject"),
        ("foo.*", "bar.$2", PREFIX + "wildcard index out of range in $2: [2]"),
        ("foo.>", "bar.$1.>", PREFIX + "wildcard index out of range in $1: [1]"),
        (
            "foo.*",
            "foo.{{wildcard(2)}}",
            PREFIX + "wildcard index out of range in {{wildcard(2)}}: [2]",
        ),
        ("foo", "bla.{{wildcard(1)}}", PREFIX + "wildcard index out of range in {{wildcard(1)}}"),
        ("foo.*", "foo.{{unimplemented(1)}}", PREFIX + "unknown function in {{unimplemented(1)}}"),
        ("foo.*", "foo.{{ wildcard5) }}", PREFIX + "unknown function in {{ wildcard5) }}"),
        ("foo.*", "foo.{{WILDCARD(1)}}", PREFIX + "unknown function in {{WILDCARD(1)}}"),
        (
            "foo.*",
            "foo.{{wildcard()}}",
            PREFIX + "not enough arguments passed to the function in {{wildcard()}}",
        ),
        (
            "foo.*",
            "foo.{{wildcard(1,2)}}",
            PREFIX + "too many arguments passed to the function in {{wildcard(1,2)}}",
        ),
        (
            "foo.*",
            "foo.{{wildcard(foo)}}",
            PREFIX + "function argument is invalid or in the wrong format in {{wildcard(foo)}}",
        ),
        (
            "foo.*",
            "foo.{{partition()}}",
            PREFIX + "function argument is invalid or in the wrong format in {{partition()}}",
        ),
        (
            "foo.*",
            "foo.{{partition(2147483648)}}",
            PREFIX + "function argument is invalid or in the wrong format in {{partition(2147483648)}}",
        ),
        (
            "foo.*",
            "foo.{{random(1,2)}}",
            PREFIX + "not enough arguments passed to the function in {{random(1,2)}}",
        ),
        (
            "foo.*",
            "foo.{{split(1)}}",
            PREFIX + "not enough arguments passed to the function in {{split(1)}}",
        ),
        (
            "foo.*",
            "foo.{{split(1,a b)}}",
            PREFIX + "function argument is invalid or in the wrong format in {{split(1,a b)}}",
        ),
        (
            "foo.*",
            "foo.{{left(1,2,3)}}",
            PREFIX + "too many arguments passed to the function in {{left(1,2,3)}}",
        ),
    ],
)
def test_what_is_no_transform_is_refused_in_the_reference_s_words(
    source: str, destination: str, text: str
) -> None:
    with pytest.raises(TransformInvalid) as refused:
        SubjectTransform(source.encode(), destination.encode())
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        ("bar.$2", PREFIX + "not using all of the token wildcard(s) in bar.$2"),
        (
            "bar.{{Partition(2,1)}}",
            PREFIX
            + "the only mapping function allowed for import transforms is {{Wildcard()}} in {{Partition(2,1)}}",
        ),
    ],
)
def test_a_strict_transform_takes_nothing_but_all_wildcards(destination: str, text: str) -> None:
    with pytest.raises(TransformInvalid) as refused:
        SubjectTransform(b"foo.*.*", destination.encode(), strict=True)
    assert str(refused.value) == text


def test_a_reversed_transform_leads_back() -> None:
    transform = SubjectTransform(b"foo.*.*", b"bar.$2.{{Wildcard(1)}}", strict=True)
    there = transform.match(b"foo.b.a", Chance(1))
    assert there == b"bar.a.b"
    assert transform.reversed().match(there, Chance(1)) == b"foo.b.a"


def test_a_reversed_transform_leads_back_over_a_tail() -> None:
    back = SubjectTransform(b"foo.>", b"my.foo.>", strict=True).reversed()
    assert back.match(b"my.foo.a.b", Chance(1)) == b"foo.a.b"


def test_a_subject_that_the_source_does_not_match_becomes_nothing() -> None:
    assert SubjectTransform(b"foo.*", b"bar.$1").match(b"foo.a.b", Chance(1)) is None


def test_random_parts_stay_below_their_bound_and_make_a_transform_uncertain() -> None:
    transform = SubjectTransform(b"*", b"bar.{{random(6)}}")
    chance = Chance(7)
    made = {transform.apply(b"x", chance) for _ in range(200)}
    assert made == {b"bar.%d" % number for number in range(6)}
    assert not transform.is_deterministic
    assert SubjectTransform(b"*", b"bar.{{partition(6)}}").is_deterministic


def test_a_mapping_may_not_cut_the_ends_off_tokens() -> None:
    for function in ("left", "Right"):
        with pytest.raises(TransformInvalid) as refused:
            check_mapping(b"*", f"a.{{{{{function}(1,1)}}}}".encode())
        assert refused.value.text == PREFIX + "unknown function"


@pytest.mark.parametrize("destination", [b"a..b", b"a.>.b", b"a b"])
def test_a_mapping_to_no_subject_is_refused(destination: bytes) -> None:
    with pytest.raises(TransformInvalid) as refused:
        check_mapping(b"x", destination)
    assert refused.value.text == PREFIX + "invalid transform"


def test_a_mapping_that_is_a_transform_is_accepted() -> None:
    check_mapping(b"orders.*", b"o.{{wildcard(1)}}")
    check_mapping(b"orders.*", b"")


def test_wildcards_become_numbers_and_numbers_wildcards() -> None:
    assert tokenize_wildcards(b"foo.*.x.*") == b"foo.$1.x.$2"
    assert untokenize_wildcards(b"foo.$2.{{wildcard(1)}}.bar") == (b"foo.*.*.bar", [2, 1])


def test_transforms_with_the_same_words_are_equal() -> None:
    first, second = SubjectTransform(b"a", b"b"), SubjectTransform(b"a", b"b")
    assert first == second
    assert len({first, second}) == 1
    assert repr(first) == "SubjectTransform(b'a', b'b')"


def test_the_hash_is_the_published_one() -> None:
    assert fnv1a(b"") == 0x811C9DC5
    assert fnv1a(b"foobar") == 0xBF9CF968
