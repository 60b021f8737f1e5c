"""Times and durations are written and read as the API writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jetstream.models.times import ZERO_TIME, duration_text, encode_time, parse_time

SECOND = 10**9


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, ZERO_TIME),
        (1_700_000_000 * SECOND, "2023-11-14T22:13:20Z"),
        (1_700_000_000 * SECOND + 1, "2023-11-14T22:13:20.000000001Z"),
        (1_700_000_000 * SECOND + 120_000_000, "2023-11-14T22:13:20.12Z"),
    ],
)
def test_a_time_is_written_with_no_more_digits_than_it_has(time_ns: int, text: str) -> None:
    assert encode_time(time_ns) == text
    assert parse_time(text) == time_ns


@given(st.integers(1, 2**62))
def test_what_is_written_is_read_back(time_ns: int) -> None:
    assert parse_time(encode_time(time_ns)) == time_ns


def test_other_zones_and_small_letters_are_read() -> None:
    assert parse_time("2023-11-14t23:13:20.5+01:00") == 1_700_000_000 * SECOND + SECOND // 2
    assert parse_time("2023-11-14T22:13:20.1234567891234z") == 1_700_000_000 * SECOND + 123_456_789


@pytest.mark.parametrize(
    "text", ["", "soon", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z", "2023-11-14T25:13:20Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (5, "5ns"),
        (10_500, "10.5µs"),
        (250_000_000, "250ms"),
        (SECOND, "1s"),
        (1_500_000_000, "1.5s"),
        (60 * SECOND, "1m0s"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (-2 * SECOND, "-2s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(duration_ns: int, text: str) -> None:
    assert duration_text(duration_ns) == text
