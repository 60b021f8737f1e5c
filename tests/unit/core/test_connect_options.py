"""CONNECT: what is read, what is kept, what ends the connection."""

import pytest

from headrace.core.connect import ConnectOptions, parse_connect, parse_object
from headrace.core.errors import MalformedArguments


def test_a_client_that_says_nothing_is_verbose_pedantic_and_hears_itself() -> None:
    assert parse_connect(b"{}", ConnectOptions()) == ConnectOptions(verbose=True, pedantic=True, echo=True)


def test_fields_are_read_by_their_wire_names() -> None:
    connect = parse_connect(
        b'{"user":"u","pass":"p","protocol":1,"lang":"x","unknown":[1]}', ConnectOptions()
    )
    assert (connect.user, connect.password, connect.protocol, connect.lang) == ("u", "p", 1, "x")


def test_a_second_connect_keeps_what_it_does_not_name() -> None:
    first = parse_connect(b'{"verbose":false,"user":"u"}', ConnectOptions())
    second = parse_connect(b'{"user":"v"}', first)
    assert (second.verbose, second.user) == (False, "v")


def test_null_means_not_given_and_case_does_not_matter() -> None:
    connect = parse_connect(b'{"verbose":null,"Pedantic":false}', ConnectOptions())
    assert (connect.verbose, connect.pedantic) == (True, False)


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"[]", b'"a"', b'{"verbose":"x"}', b'{"protocol":1.0}', b'{"protocol":true}', b"[" * 100_000],
)
def test_what_is_no_object_of_the_right_types_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedArguments):
        parse_connect(text, ConnectOptions())


def test_an_object_of_a_peer_may_hold_anything() -> None:
    assert parse_object(b'{"a":[1]}') == {"a": [1]}
