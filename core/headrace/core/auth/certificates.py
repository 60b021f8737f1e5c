"""Users by their certificates (`verify_and_map`): which of a certificate's names is a user's.

Tried in this order, each name as a user's name: the e-mail addresses, the DNS names, the URIs; then the subject,
equal to a user's name read as a distinguished name, in its order first and then in any; then the subject written out
as the reference writes it, with and without its domain components.

Source: the reference server 2.15, `verify_and_map`; RFC 4514 for names.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from headrace.core.auth.peer_certificate import PeerCertificate

RelativeName = tuple[tuple[str, str], ...]
"""One step of a distinguished name: its attributes, mostly one."""

_ESCAPED: Final = re.compile(r"\\([0-9a-fA-F]{2}|.)", re.DOTALL)
_WRITTEN_BY_NAME: Final = frozenset({"C", "O", "OU", "CN", "SERIALNUMBER", "L", "ST", "STREET", "POSTALCODE"})
"""Attributes that the reference writes by name; others by their number, if at all."""


def mapped_user(certificate: PeerCertificate, users: Sequence[str]) -> str | None:
    """Give the one of `users` that this certificate stands for."""
    known = frozenset(users)
    for name in (*certificate.email_addresses, *certificate.dns_names, *certificate.uris):
        if name in known:
            return name
    found = _by_subject(certificate.subject, users)
    if found is not None:
        return found
    return next((text for text in _written(certificate.subject) if text in known), None)


def parse_name(text: str) -> tuple[RelativeName, ...] | None:
    """Read a distinguished name as RFC 4514 writes it (most special first is not required); None if it is none."""
    steps: list[RelativeName] = []
    for step in _split(text, ",;"):
        attributes: list[tuple[str, str]] = []
        for attribute in _split(step, "+"):
            kind, equals, value = attribute.partition("=")
            if not equals or not kind.strip():
                return None
            attributes.append((kind.strip().upper(), _unescaped(value.strip())))
        steps.append(tuple(attributes))
    return tuple(steps) if steps else None


def _by_subject(subject: Sequence[RelativeName], users: Sequence[str]) -> str | None:
    if not subject:
        return None
    names = {user: name for user in users if (name := parse_name(user)) is not None}
    # A certificate begins with the most general step, a written name with the most special one; both are accepted.
    wanted = [_folded(step) for step in subject]
    for user, name in names.items():
        if [_folded(step) for step in name] == wanted:
            return user
    unordered = sorted(map(sorted, wanted))
    for user, name in names.items():
        if sorted(sorted(_folded(step)) for step in name) == unordered:
            return user
    return None


def _folded(step: RelativeName) -> frozenset[tuple[str, str]]:
    return frozenset((kind.upper(), value) for kind, value in step)


def _written(subject: Sequence[RelativeName]) -> Iterator[str]:
    """Write the subject as the reference does: the last step first; with its domain components behind, then without."""
    steps = [
        "+".join(f"{kind}={_escaped(value)}" for kind, value in step if kind.upper() in _WRITTEN_BY_NAME)
        for step in reversed(subject)
    ]
    name = ",".join(step for step in steps if step)
    domain = [f"DC={value}" for step in subject for kind, value in step if kind.upper() == "DC"]
    if domain:
        yield ",".join((name, *domain))
    yield name


def _split(text: str, separators: str) -> list[str]:
    """Split at separators that are not escaped."""
    parts = [""]
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and position + 1 < len(text):
            parts[-1] += text[position : position + 2]
            position += 2
            continue
        if character in separators:
            parts.append("")
        else:
            parts[-1] += character
        position += 1
    return parts


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    # Escaped bytes may together be one character of UTF-8.
    raw = b""
    position = 0
    for found in _ESCAPED.finditer(value):
        raw += value[position : found.start()].encode()
        code = found[1]
        raw += bytes.fromhex(code) if len(code) == 2 else code.encode()
        position = found.end()
    return (raw + value[position:].encode()).decode("utf-8", "replace")


def _escaped(value: str) -> str:
    shown = re.sub(r'([,+"\\<>;])', r"\\\1", value)
    if shown.startswith((" ", "#")):
        shown = "\\" + shown
    return shown[:-1] + "\\ " if shown.endswith(" ") and len(shown) > 1 else shown
