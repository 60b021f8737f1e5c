"""What was promised, by whom, and whether it was kept.

A message has an id of its own and is sent once. From then on it is *sent* (its outcome unknown), and *acked* once the
server has said at which sequence it lies. A consumer's message is *delivered* any number of times, *answered* once
an ack was sent for it, and *confirmed* once the server has answered that ack.

What may never happen:
- an acked message is not stored at its sequence, or is missing from a queue though nobody has acked it (lost);
- a stored or delivered message was never sent, is not what was sent, or is stored twice (invented);
- a message comes again to a consumer after its ack was confirmed (back);
- a stored message was never delivered to a consumer that has seen everything (skipped).
"""

import zlib
from dataclasses import dataclass
from enum import Enum


class Violation(Enum):
    """A broken promise."""

    LOST = "acknowledged and lost"
    INVENTED = "never sent, changed or doubled"
    BACK = "confirmed and delivered again"
    SKIPPED = "stored and never delivered"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise, in words."""

    violation: Violation
    text: str


def make_payload(stream: str, number: int) -> bytes:
    """Give message `number`'s payload: its name, then 0 to 2 KiB that follow from it."""
    name = f"{stream} {number} ".encode()
    chance = zlib.crc32(name)
    return name + bytes([chance & 0xFF]) * (chance % 2048)


def number_of(stream: str, payload: bytes) -> int | None:
    """Give the number of the message that has exactly this payload; None where none has."""
    words = payload[:64].split(b" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        return None
    number = int(words[1])
    return number if payload == make_payload(stream, number) else None


class StreamLedger:
    """One stream's promises, and those of the one consumer that works on it."""

    def __init__(self, stream: str, findings: list[Finding]) -> None:
        self.stream = stream
        self.sent = 0
        self.acked: dict[int, int] = {}
        self.delivered: dict[int, int] = {}
        self.deliveries = 0
        self.answered: set[int] = set()
        self.confirmed: set[int] = set()
        self._findings = findings

    def _find(self, violation: Violation, text: str) -> None:
        self._findings.append(Finding(violation, f"{self.stream}: {text}"))

    def next_number(self) -> int:
        """Give the number of the next message to send; it counts as sent."""
        self.sent += 1
        return self.sent

    def on_ack(self, number: int, sequence: int) -> None:
        self.acked[number] = sequence

    def on_delivery(self, payload: bytes, sequence: int) -> int | None:
        """Take note of a delivery; give the message's number, None for one that was never sent."""
        number = number_of(self.stream, payload)
        if number is None or not 0 < number <= self.sent:
            self._find(Violation.INVENTED, f"sequence {sequence} was delivered with {payload[:40]!r}")
            return None
        self._check_place(number, sequence, "delivered")
        if number in self.confirmed:
            self._find(Violation.BACK, f"message {number}, sequence {sequence}")
        self.delivered[number] = sequence
        self.deliveries += 1
        return number

    def _check_place(self, number: int, sequence: int, verb: str) -> None:
        """A message lies at one sequence for ever."""
        for known in (self.acked.get(number), self.delivered.get(number)):
            if known is not None and known != sequence:
                self._find(
                    Violation.INVENTED, f"message {number} of sequence {known} was {verb} at {sequence}"
                )
                return

    def on_answer(self, number: int) -> None:
        """An ack was sent for this message."""
        self.answered.add(number)

    def on_confirmation(self, number: int) -> None:
        self.confirmed.add(number)

    def check_stored(self, stored: dict[int, bytes]) -> None:
        """Hold what a stream keeps for ever (payload by sequence) against what was promised."""
        numbers: dict[int, int] = {}
        for sequence, payload in stored.items():
            number = number_of(self.stream, payload)
            if number is None or not 0 < number <= self.sent:
                self._find(Violation.INVENTED, f"sequence {sequence} holds {payload[:40]!r}")
            elif number in numbers:
                self._find(
                    Violation.INVENTED, f"message {number} is stored at {numbers[number]} and {sequence}"
                )
            else:
                numbers[number] = sequence
                self._check_place(number, sequence, "stored")
        for number, sequence in self.acked.items():
            if numbers.get(number) != sequence:
                self._find(Violation.LOST, f"message {number} was acknowledged at {sequence}")
        for number, sequence in numbers.items():
            if number not in self.delivered:
                self._find(Violation.SKIPPED, f"message {number}, sequence {sequence}")

    def check_emptied(self, left: int) -> None:
        """Hold a workqueue that was worked off against what was promised: all acked was delivered, nothing is left."""
        for number, sequence in self.acked.items():
            if number not in self.delivered:
                self._find(
                    Violation.LOST, f"message {number} was acknowledged at {sequence} and never delivered"
                )
        if left:
            self._find(Violation.SKIPPED, f"{left} messages are left, and the consumer is given none")


class Ledger:
    """All promises of one campaign."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.log = StreamLedger("LOG", self.findings)
        self.work = StreamLedger("WORK", self.findings)

    def count(self, violation: Violation) -> int:
        """How often one kind of promise was broken."""
        return sum(finding.violation is violation for finding in self.findings)
