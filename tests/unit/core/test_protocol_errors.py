"""The texts of -ERR, which clients compare and take apart."""

import inspect

import pytest

from headrace.core import errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.UnknownOperation(), b"-ERR 'Unknown Protocol Operation'\r\n"),
        (errors.MalformedArguments("bad size"), b""),
        (errors.PublishViolation(b"foo"), b"-ERR 'Permissions Violation for Publish to \"foo\"'\r\n"),
        (
            errors.ReplyViolation(b"_R_.x"),
            b"-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n",
        ),
        (
            errors.SubscriptionViolation(b"foo", b"q"),
            b'-ERR \'Permissions Violation for Subscription to "foo" using queue "q"\'\r\n',
        ),
        (
            errors.TooManyTokens(b"a.b.c"),
            b"-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'\r\n",
        ),
    ],
)
def test_an_error_is_encoded_to_the_letter(error: errors.ProtocolError, line: bytes) -> None:
    assert error.encode() == line


def test_names_from_the_wire_are_quoted_with_escapes() -> None:
    assert errors.quoted(b'a"b\\c\xff\xc3\xa9\x01\t') == '"a\\"b\\\\c\\xff\u00e9\\x01\\t"'


def test_the_log_is_told_more_than_the_peer() -> None:
    assert str(errors.MalformedArguments("bad size")) == "bad size"
    assert str(errors.PublishViolation(b"foo")) == 'Publish Violation - Subject "foo"'
    assert str(errors.StaleConnection()) == "Stale Connection"


def test_every_fatal_error_names_a_close_reason() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.ProtocolError) and kind.fatal:
            assert kind.reason
