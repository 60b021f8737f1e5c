"""Durations as clients write them."""

import pytest

from headrace.jetstream.consumers.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("0", 0),
        ("5ns", 5),
        ("10us", 10_000),
        ("10\u00b5s", 10_000),
        ("1.5s", 1_500_000_000),
        ("1m30s", 90_000_000_000),
        ("1h0m0.25s", 3_600_250_000_000),
        (".5ms", 500_000),
        ("-2s", -2_000_000_000),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, duration_ns: int) -> None:
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s ", "--1s", "1 s", "\u0661s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None
