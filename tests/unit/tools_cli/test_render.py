"""How the command line writes sizes, times and payloads."""

import pytest

from headrace.tools import render


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**5, "3072.0 TiB")],
)
def test_sizes_are_written_in_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert render.size(count) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "none"),
        (None, "none"),
        (250_000_000, "250ms"),
        (1_500_000_000, "1.5s"),
        (120_000_000_000, "2m"),
        (90_061_000_000_000, "1d1h1m1s"),
    ],
)
def test_durations_are_written_in_the_units_they_need(nanoseconds: int | None, text: str) -> None:
    assert render.duration(nanoseconds) == text


@pytest.mark.parametrize("value", [None, -1, 0])
def test_a_limit_of_nothing_is_written_as_unlimited(value: int | None) -> None:
    assert render.limit(value) == "unlimited"


def test_times_keep_all_nine_digits() -> None:
    assert render.time_of(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"


def test_a_payload_that_is_no_text_is_shown_in_hexadecimal() -> None:
    assert render.payload_text(b"\xff\x00") == "ff 00"


def test_control_characters_of_a_payload_never_reach_the_terminal() -> None:
    assert render.payload_text(b"a\x1b[2Jb\nc") == "a [2Jb c"


def test_a_long_payload_is_cut_and_says_so() -> None:
    shown = render.payload_text(b"x" * 1000)
    assert shown.endswith("… and 800 bytes more")
