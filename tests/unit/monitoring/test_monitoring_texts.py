"""How times, durations and parameters are written and read."""

import pytest

from headrace.core.monitoring.parameters import BadParameter, Page, Parameters
from headrace.core.monitoring.texts import go_duration, timestamp, uptime

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000 * SECOND + 5, "2023-11-14T22:13:20.000000005Z"),
        (1_700_000_000 * SECOND + 500_000_000, "2023-11-14T22:13:20.5Z"),
    ],
)
def test_a_timestamp_has_the_nanoseconds_that_are_not_zero(time_ns: int, text: str) -> None:
    assert timestamp(time_ns) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (SECOND * 3 // 2, "1s"),
        (65 * SECOND, "1m5s"),
        (2 * 3600 * SECOND + 3 * 60 * SECOND + 4 * SECOND, "2h3m4s"),
        (DAY, "1d0h0m0s"),
        (365 * DAY + 2 * DAY + 3600 * SECOND, "1y2d1h0m0s"),
    ],
)
def test_an_uptime_is_in_whole_units_from_the_largest_down(duration_ns: int, text: str) -> None:
    assert uptime(duration_ns) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (920_000, "920µs"),
        (1_165_440, "1.16544ms"),
        (1_500_000_000, "1.5s"),
        (61 * SECOND, "1m1s"),
    ],
)
def test_a_round_trip_is_written_as_go_prints_it(duration_ns: int, text: str) -> None:
    assert go_duration(duration_ns) == text


def test_parameters_have_defaults_and_the_spellings_of_go() -> None:
    given = Parameters({"a": "t", "b": "FALSE", "n": "-3", "u": "7", "s": "x", "e": ""})
    assert given.boolean("a")
    assert not given.boolean("b", default=True)
    assert given.boolean("e", default=True)
    assert (given.integer("n"), given.integer("none"), given.unsigned("u")) == (-3, 0, 7)
    assert given.text("s") == "x"


def test_parameters_that_cannot_be_read_are_refused_in_the_references_words() -> None:
    given = Parameters({"x": "y", "u": "-1"})
    with pytest.raises(BadParameter) as caught:
        given.integer("x")
    assert str(caught.value) == "Error decoding int for 'x': strconv.Atoi: parsing \"y\": invalid syntax"
    with pytest.raises(BadParameter) as caught:
        given.boolean("x")
    assert (
        str(caught.value)
        == "Error decoding boolean for 'x': strconv.ParseBool: parsing \"y\": invalid syntax"
    )
    with pytest.raises(BadParameter) as caught:
        given.unsigned("u")
    assert (
        str(caught.value)
        == "Error decoding uint64 for 'u': strconv.ParseUint: parsing \"-1\": invalid syntax"
    )


def test_a_page_is_a_slice_and_has_1024_items_unless_told() -> None:
    items = list(range(3000))
    assert Page(Parameters({})).of(items) == items[:1024]
    assert Page(Parameters({"offset": "2", "limit": "3"})).of(items) == [2, 3, 4]
    assert Page(Parameters({"offset": "-2", "limit": "-1"})).of(items) == items[:1024]
