"""How durations, addresses and sizes are read."""

import pytest

from headrace.core.config.values import (
    Address,
    format_address,
    parse_address,
    parse_duration,
    parse_storage_size,
)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("300ms", 300_000_000),
        ("1m30s", 90_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("-2s", -2_000_000_000),
        ("0", 0),
        ("7us", 7000),
        ("7µs", 7000),
        ("3ns", 3),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, duration_ns: int) -> None:
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1 s", "1s2"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; expected a number with a unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:4222", Address("localhost", 4222)),
        ("127.0.0.1:-1", Address("127.0.0.1", -1)),
        (":8222", Address("", 8222)),
        ("[::1]:1", Address("::1", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["localhost", "::1:4222", "h:x", "h:70000", "h:-2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="could not parse"):
        parse_address(text)


def test_ipv6_is_written_in_brackets() -> None:
    assert format_address("::1", 1) == "[::1]:1"
    assert format_address("h", 1) == "h:1"


def test_a_size_in_quotes_is_binary() -> None:
    assert parse_storage_size("10G") == 10 << 30
    assert parse_storage_size("64mb") == 64 << 20


@pytest.mark.parametrize("text", ["10", "G", "10X", "1.5G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must end in K, M, G, T"):
        parse_storage_size(text)
