"""What a configured `StreamSource` means: its name in headers and positions, what it takes, what becomes of subjects.

Every message of a sourced stream says where it came from:

    Nats-Stream-Source: <stream[:hash of the api prefix]> <sequence> <filters> <destinations> <subject> <identity>

Filters and destinations of several transforms are joined by form feeds; nothing configured is `>`. The *identity* is a
hash of the origin's time of creation: a stream made anew under the same name is another one, and is copied from its
beginning.

Source: the streams reference, section 9.
"""

import hashlib
from typing import Final, NamedTuple

from headrace.core import headers
from headrace.core.base.chance import Chance
from headrace.core.subject import ANY_TAIL
from headrace.core.subject_transform import SubjectTransform
from headrace.jetstream.filters import SubjectFilter
from headrace.jetstream.models.stream_config import StreamSource
from headrace.jetstream.models.times import encode_time

SOURCE_HEADER: Final = b"Nats-Stream-Source"
HASH_SIZE: Final = 8

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DROPPED: Final = (b"Nats-Expected-", b"Nats-Batch-")
_SEPARATOR: Final = "\f"
_EVERYTHING: Final = ANY_TAIL.decode()


class SourcedFrom(NamedTuple):
    """What a source header says."""

    index_name: str
    sequence: int
    identity: str


class Selection:
    """What is taken of an origin, and under which subjects."""

    def __init__(self, source: StreamSource) -> None:
        filters = [each.src or _EVERYTHING for each in source.subject_transforms] or [source.filter_subject]
        wanted = [each.encode() for each in filters if each not in ("", _EVERYTHING)]
        self.filters = tuple(wanted) if len(wanted) == len(filters) else ()
        self.match = SubjectFilter(self.filters) if self.filters else None
        self._transforms = [
            SubjectTransform(each.src.encode(), each.dest.encode()) for each in source.subject_transforms
        ]

    def renamed(self, subject: bytes, chance: Chance) -> bytes:
        """Give the subject under which a message is stored."""
        for transform in self._transforms:
            made = transform.match(subject, chance)
            if made is not None:
                return made
        return subject


def short_hash(text: str) -> str:
    """Give the eight characters by which the reference server shortens a text."""
    digest = hashlib.sha256(text.encode()).digest()[:HASH_SIZE]
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest)


def identity(created_ns: int) -> str:
    """Give what tells a stream from another one of the same name."""
    return short_hash(encode_time(created_ns))


def index_name(source: StreamSource) -> str:
    """Give the name under which a source's position is kept: stream, filters, destinations."""
    name = source.name
    if source.external is not None:
        name += ":" + short_hash(source.external.api)
    if source.consumer is not None:
        name += ":C=" + short_hash(source.consumer.name)
    if not source.subject_transforms:
        return f"{name} {source.filter_subject or _EVERYTHING} {_EVERYTHING}"
    filters = _SEPARATOR.join(each.src or _EVERYTHING for each in source.subject_transforms)
    destinations = _SEPARATOR.join(each.dest or _EVERYTHING for each in source.subject_transforms)
    return f"{name} {filters} {destinations}"


def source_header(index: str, sequence: int, subject: bytes, origin_identity: str) -> bytes:
    """Give the value of the header that a sourced message gets."""
    name, filters, destinations = index.split(" ")
    value = f"{name} {sequence} {filters} {destinations} ".encode() + subject
    return value + b" " + origin_identity.encode() if origin_identity else value


def parse_source_header(value: bytes) -> SourcedFrom | None:
    """Read such a header; None where it is none."""
    parts = value.decode("utf-8", "replace").split(" ")
    if len(parts) < 4 or not parts[1].isdigit():
        return None
    return SourcedFrom(
        " ".join((parts[0], parts[2], parts[3])), int(parts[1]), parts[5] if len(parts) > 5 else ""
    )


def mirrored_block(block: bytes) -> bytes:
    """Give the headers of a copy: without what only its publisher meant."""
    if not block or not any(prefix in block for prefix in _DROPPED):
        return block
    return _encoded([field for field in _fields(block) if not field[0].startswith(_DROPPED)])


def sourced_block(block: bytes, value: bytes) -> bytes:
    """Give the headers of a sourced message: those of a copy, and where it came from."""
    if not block:
        return b"NATS/1.0\r\n%b: %b\r\n\r\n" % (SOURCE_HEADER, value)
    fields = [
        field for field in _fields(block) if field[0] != SOURCE_HEADER and not field[0].startswith(_DROPPED)
    ]
    return _encoded([*fields, (SOURCE_HEADER, value)])


def replaced(block: bytes, key: bytes, value: bytes) -> bytes:
    """Give headers with a field's value changed where it stands, or added at the end."""
    fields = list(_fields(block))
    places = [place for place, field in enumerate(fields) if field[0] == key]
    if places:
        fields[places[0]] = (key, value)
    else:
        fields.append((key, value))
    return _encoded(fields)


def _fields(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    parsed = headers.parse(block)
    return parsed.fields if parsed is not None else ()


def _encoded(fields: list[tuple[bytes, bytes]]) -> bytes:
    return headers.encode(fields) if fields else b""
