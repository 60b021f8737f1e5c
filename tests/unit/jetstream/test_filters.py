"""A filter means the subjects that any of its patterns matches."""

import pytest

from headrace.jetstream import filters
from headrace.jetstream.filters import SubjectFilter


def test_literal_filters_are_handed_to_storage_as_such() -> None:
    assert SubjectFilter([b"a", b"b.c"]).literals == {b"a", b"b.c"}
    assert SubjectFilter([b"a", b"b.*"]).literals is None
    assert SubjectFilter([b"a.b*"]).literals == {b"a.b*"}


def test_no_filter_means_every_subject() -> None:
    everything = SubjectFilter([])
    assert everything.literals is None
    assert everything.matches(b"any.thing")


def test_any_pattern_is_enough() -> None:
    either = SubjectFilter([b"a.*", b"b.>"])
    assert [either.matches(subject) for subject in (b"a.x", b"b.x.y", b"a.x.y", b"c")] == [
        True,
        True,
        False,
        False,
    ]


def test_verdicts_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_VERDICTS_MAX", 3)
    subject_filter = SubjectFilter([b"a.>"])
    for number in range(10):
        assert subject_filter.matches(b"a.%d" % number)
        assert len(subject_filter._verdicts) <= 3
