"""What a check of a store can find: each kind of finding has a name that does not change, and says what to do.

The table is the list of the format's invariants as the checker tests them; docs/inspection.md shows it.
"""

from enum import Enum
from typing import Any, Final, NamedTuple


class Severity(Enum):
    """How bad a finding is."""

    LOSS = "loss"  # messages that were acknowledged, or may have been, cannot be read
    DAMAGE = "damage"  # unreadable bytes that cost no message
    MISMATCH = "mismatch"  # two places of the store disagree; a fault of Headrace
    NOTE = "note"  # worth knowing, nothing wrong


class Kind(NamedTuple):
    """A kind of finding: how bad it is, what should hold, and what to do where it does not."""

    severity: Severity
    holds: str
    advice: str


_RESTORE: Final = "restore the messages from a copy or their source; salvage exports what can be read"
_REPORT: Final = "keep a copy of the folder and report it: Headrace wrote this"
_COPY: Final = "nothing is lost yet: the other copy is used; copy the store to another disk"
_DERIVED: Final = "headrace store repair makes it anew"
_NOTHING: Final = "nothing to do"

KINDS: Final[dict[str, Kind]] = {
    "format-damaged": Kind(
        Severity.DAMAGE,
        "the file `format` says which version wrote the store",
        "write the line 'headrace store 1' into it",
    ),
    "stream-unreadable": Kind(
        Severity.LOSS,
        "a stream has a state log that can be read",
        "headrace store salvage exports the messages of its segments",
    ),
    "lost": Kind(Severity.LOSS, "nothing is listed as lost", _RESTORE),
    "segment-missing": Kind(Severity.LOSS, "every segment that holds messages is there", _RESTORE),
    "record-missing": Kind(Severity.LOSS, "messages and skips have sequences without holes", _RESTORE),
    "record-damaged": Kind(Severity.LOSS, "the record of each message that is there checks", _RESTORE),
    "bytes-damaged": Kind(
        Severity.DAMAGE, "all bytes before a segment's end are records", "no message is lost; watch the disk"
    ),
    "header-copy": Kind(Severity.DAMAGE, "both copies of a file's header are good", _COPY),
    "header-unreadable": Kind(
        Severity.DAMAGE, "a file's header can be read", "the name of the file says the same; watch the disk"
    ),
    "header-foreign": Kind(
        Severity.MISMATCH,
        "a file's header names its stream, its kind, and the salt in its name",
        "somebody has moved files: put them back",
    ),
    "state-damaged": Kind(
        Severity.DAMAGE,
        "every record of a state log checks, and change numbers have no holes",
        "what was removed or confirmed last may be back; watch the disk",
    ),
    "state-single": Kind(
        Severity.DAMAGE,
        "there are two generations of a state log",
        "the next start of the server writes another one",
    ),
    "journal-damaged": Kind(
        Severity.LOSS,
        "every entry of the journal that a file still needs checks",
        "it was acknowledged, or may have been; restore it from a copy or its source",
    ),
    "sequence-order": Kind(Severity.MISMATCH, "sequences ascend within a stream", _REPORT),
    "record-type": Kind(Severity.MISMATCH, "a file has the types of records that belong there", _REPORT),
    "record-content": Kind(Severity.MISMATCH, "a record whose checksums fit can be taken apart", _REPORT),
    "record-previous": Kind(Severity.MISMATCH, "the subject's previous sequence is a lower one", _REPORT),
    "mark-order": Kind(
        Severity.MISMATCH,
        "batch numbers and `durable_to` ascend within a segment, and nothing above the end is durable",
        _REPORT,
    ),
    "segment-totals": Kind(
        Severity.MISMATCH, "a segment holds as many messages and bytes as it is said to", _REPORT
    ),
    "stream-totals": Kind(
        Severity.MISMATCH, "a stream holds as many messages and bytes as it is said to", _REPORT
    ),
    "consumer-ahead": Kind(
        Severity.MISMATCH, "no consumer names a sequence behind the stream's end", _REPORT
    ),
    # Sidecars are not synced: a power cut may leave them so.
    "sidecar-damaged": Kind(Severity.NOTE, "a sidecar's record checks", _DERIVED),
    "sidecar-wrong": Kind(Severity.MISMATCH, "a sidecar says where the records lie", _DERIVED),
    "removals-copy": Kind(Severity.DAMAGE, "both copies of a segment's removals check", _COPY),
    "removals-damaged": Kind(
        Severity.DAMAGE,
        "one copy of a segment's removals checks",
        "removed messages of that segment may be back; remove them again",
    ),
    "orphan": Kind(Severity.NOTE, "files beside a segment have their segment", _DERIVED),
    "leftover": Kind(Severity.NOTE, "nothing half made is left", "the next start of the server removes it"),
    "unknown-name": Kind(
        Severity.NOTE, "the folders hold nothing but Headrace's own files", "left alone; move it elsewhere"
    ),
}


class Finding(NamedTuple):
    """One thing that the checker has to say.

    `first` to `last`: sequences concerned, 0 for none. `certain`: what is lost was acknowledged; else it may have been.
    """

    name: str
    stream: str
    file: str
    offset: int
    text: str
    first: int = 0
    last: int = 0
    certain: bool = True

    @property
    def severity(self) -> Severity:
        return KINDS[self.name].severity

    @property
    def advice(self) -> str:
        """What to do about it."""
        return KINDS[self.name].advice

    def fields(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return self._asdict() | {"severity": self.severity.value, "advice": self.advice}


class StreamTotals(NamedTuple):
    """What was counted in a stream."""

    stream: str
    messages: int
    size: int
    records: int
    segments: int


class Report(NamedTuple):
    """The outcome of a check."""

    totals: list[StreamTotals]
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost, damaged or contradictory."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)
