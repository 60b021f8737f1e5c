"""A table's memories: what was worked out for one subject serves those that cannot differ."""

import pytest

from headrace.core.base.message import Batch
from headrace.core.routing.entries import SinkBox, SinkEntry
from headrace.core.routing.table import RouteTable
from headrace.core.routing.trie import Trie


class Nowhere:
    def on_messages(self, batch: Batch) -> None:
        """Take nothing."""


class Table(RouteTable):
    """A table of sinks that counts its searches."""

    def __init__(self, *patterns: bytes) -> None:
        super().__init__(lambda _subscription, _subject: True)
        for pattern in patterns:
            self.take(pattern)

    def take(self, pattern: bytes) -> SinkEntry:
        self.subscription_count += 1
        entry = SinkEntry(SinkBox(Nowhere()), pattern, b"", None, order=self.subscription_count)
        self.add(entry)
        return entry

    def sinks(self, subject: bytes) -> list[SinkBox]:
        return list(self.route(subject).boxes)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    searched: list[bytes] = []
    match = Trie[object].match

    def counted(self: Trie[object], subject: bytes) -> tuple[list[object], int]:
        searched.append(subject)
        return match(self, subject)

    monkeypatch.setattr(Trie, "match", counted)
    return searched


def test_subjects_that_differ_where_every_pattern_has_a_star_are_searched_for_once(
    searches: list[bytes],
) -> None:
    table = Table(b"ack.C.*.*.*", b"ack.>", b"other.*")
    for number in range(5):
        assert len(table.sinks(b"ack.C.%d.%d.x" % (number, number))) == 2
    assert searches == [b"ack.C.0.0.x"]
    assert table.entries_below(b"ack.C.7.7.7") is not None
    assert len(searches) == 1


def test_a_literal_token_among_the_stars_is_not_passed_over() -> None:
    table = Table(b"ack.C.*.*.*")
    assert len(table.sinks(b"ack.C.1.2.3")) == 1
    table.take(b"ack.C.*.2.*")
    assert len(table.sinks(b"ack.C.1.2.3")) == 2
    assert len(table.sinks(b"ack.C.1.3.3")) == 1
    assert len(table.sinks(b"ack.C.4.2.3")) == 2
    table.take(b"ack.C.1.2.3")
    assert len(table.sinks(b"ack.C.1.2.3")) == 3


def test_a_subject_with_more_or_fewer_tokens_is_another_one() -> None:
    table = Table(b"ack.C.*.*.*")
    assert len(table.sinks(b"ack.C.1.2.3")) == 1
    assert table.sinks(b"ack.C.1.2") == []
    assert table.sinks(b"ack.C.1.2.3.4") == []
    assert table.sinks(b"ack.C.1..3") == []


def test_a_pattern_that_went_is_forgotten() -> None:
    table = Table(b"ack.D.*.*.*")
    entry = table.take(b"ack.C.*.*.*")
    assert len(table.sinks(b"ack.C.1.2.3")) == 1
    table.remove(entry)
    assert table.sinks(b"ack.C.1.2.4") == []
