"""Subjects: which are valid, which match, which overlap. The only module that takes one apart.

A subject is bytes: tokens joined by dots. In a *pattern* a token `*` stands for exactly one token and a last token
`>` for one or more; they are wildcards only as whole tokens (`foo*` is an ordinary token). A subject without
wildcards is *literal*. Nothing here depends on the encoding: NATS compares bytes, and so do we.

Source: the NATS client protocol, "subjects"; details probed on the reference server 2.15.
"""

from typing import Final

ANY_TOKEN: Final = b"*"
ANY_TAIL: Final = b">"

_BLANKS: Final = (b" ", b"\t", b"\r", b"\n", b"\f")


def tokens(subject: bytes) -> list[bytes]:
    """Take a subject apart; an empty one has one empty token."""
    return subject.split(b".")


def join(parts: list[bytes]) -> bytes:
    """Put tokens together again."""
    return b".".join(parts)


def has_empty_token(subject: bytes) -> bool:
    """Tell whether some token is empty; such a subject is matched by nothing, not even by `>`."""
    return not subject or subject[0] == 46 or subject[-1] == 46 or b".." in subject


def has_wildcard(subject: bytes) -> bool:
    """Tell whether some whole token is `*` or `>`."""
    if b"*" not in subject and b">" not in subject:
        return False
    parts = subject.split(b".")
    return ANY_TOKEN in parts or ANY_TAIL in parts


def is_valid(pattern: bytes) -> bool:
    """Tell whether one may subscribe to `pattern`: no empty token, no blank, `>` only at the end."""
    if has_empty_token(pattern):
        return False
    for blank in _BLANKS:
        if blank in pattern:
            return False
    return b">" not in pattern or ANY_TAIL not in pattern.split(b".")[:-1]


def is_valid_literal(subject: bytes) -> bool:
    """Tell whether `subject` is valid and has no wildcard: what a message should be published on."""
    return is_valid(subject) and not has_wildcard(subject)


def matches(pattern: bytes, subject: bytes) -> bool:
    """Tell whether a subscription to `pattern` gets what is published on `subject`.

    `subject` is taken literally: a token `*` in it equals only a `*` of the pattern.
    """
    if pattern == subject:
        return not has_empty_token(subject)
    if not has_wildcard(pattern) or has_empty_token(subject):
        return False
    wanted = pattern.split(b".")
    given = subject.split(b".")
    for index, token in enumerate(wanted):
        if index == len(given):
            return False
        if token == ANY_TAIL and index == len(wanted) - 1:
            return True
        if token not in (ANY_TOKEN, given[index]):
            return False
    return len(wanted) == len(given)


def overlaps(first: bytes, second: bytes) -> bool:
    """Tell whether some subject matches both patterns.

    Both are valid patterns; they are not checked here. Cost is linear in tokens.

    Source: the NATS protocol reference, "wildcards"; used for stream subjects as in ADR-34.
    """
    if first == second:
        return True
    ours = first.split(b".")
    theirs = second.split(b".")
    for one, other in zip(ours, theirs, strict=False):
        if ANY_TAIL in (one, other):
            return True
        if one != other and ANY_TOKEN not in (one, other):
            return False
    return len(ours) == len(theirs)


def is_subset(inner: bytes, outer: bytes) -> bool:
    """Tell whether `outer` matches every subject that `inner` matches.

    `outer` is a valid pattern; an `inner` with an empty token lies within nothing.
    """
    if has_empty_token(inner):
        return False
    if inner == outer:
        return True
    ours = inner.split(b".")
    theirs = outer.split(b".")
    for index, token in enumerate(theirs):
        if index == len(ours):
            return False
        if token == ANY_TAIL:
            return True
        own = ours[index]
        if own == ANY_TAIL or (own == ANY_TOKEN and token != ANY_TOKEN):
            return False
        if token not in (ANY_TOKEN, own):
            return False
    return len(ours) == len(theirs)
