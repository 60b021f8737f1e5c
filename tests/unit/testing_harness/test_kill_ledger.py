"""The kill loop's ledger finds every kind of broken promise, and nothing where all were kept."""

import pytest

from headrace.tools.killloop.ledger import Ledger, Violation, make_payload, number_of


def promised(count: int = 3) -> Ledger:
    """Messages 1 to `count` are sent, acked at sequences 11, 12... and delivered."""
    ledger = Ledger()
    for stream in (ledger.log, ledger.work):
        for number in range(1, count + 1):
            assert stream.next_number() == number
            stream.on_ack(number, number + 10)
            assert stream.on_delivery(make_payload(stream.stream, number), number + 10) == number
    return ledger


def stored(ledger: Ledger, *numbers: int) -> dict[int, bytes]:
    return {number + 10: make_payload("LOG", number) for number in numbers}


def found(ledger: Ledger) -> list[Violation]:
    return [finding.violation for finding in ledger.findings]


@pytest.mark.parametrize("number", [1, 2, 77, 123_456])
def test_a_payload_names_its_message_and_no_other(number: int) -> None:
    payload = make_payload("LOG", number)
    assert number_of("LOG", payload) == number
    assert number_of("WORK", payload) is None
    assert number_of("LOG", payload + b"x") is None


def test_kept_promises_are_no_findings() -> None:
    ledger = promised()
    ledger.log.check_stored(stored(ledger, 1, 2, 3))
    ledger.work.check_emptied(0)
    assert ledger.findings == []


def test_an_unacknowledged_message_may_be_there_or_not() -> None:
    ledger = promised()
    ledger.log.next_number()
    ledger.log.check_stored(stored(ledger, 1, 2, 3))
    assert ledger.findings == []
    ledger.log.on_delivery(make_payload("LOG", 4), 14)
    ledger.log.check_stored(stored(ledger, 1, 2, 3, 4))
    assert ledger.findings == []


def test_an_acknowledged_message_that_is_not_stored_is_lost() -> None:
    ledger = promised()
    ledger.log.check_stored(stored(ledger, 1, 3))
    assert found(ledger) == [Violation.LOST]


def test_an_acknowledged_message_at_another_sequence_is_lost() -> None:
    ledger = promised()
    moved = stored(ledger, 1, 2)
    moved[99] = make_payload("LOG", 3)
    ledger.log.check_stored(moved)
    assert Violation.LOST in found(ledger)


def test_a_message_that_nobody_sent_is_invented() -> None:
    ledger = promised()
    ledger.log.check_stored(stored(ledger, 1, 2, 3, 4))
    assert found(ledger) == [Violation.INVENTED]
    assert ledger.work.on_delivery(make_payload("WORK", 9), 19) is None
    assert found(ledger) == [Violation.INVENTED] * 2


def test_a_message_with_one_changed_byte_is_invented_and_lost() -> None:
    ledger = promised()
    changed = stored(ledger, 1, 2, 3)
    changed[12] = changed[12][:-1] + b"!"
    ledger.log.check_stored(changed)
    assert sorted(found(ledger), key=str) == sorted([Violation.INVENTED, Violation.LOST], key=str)


def test_a_message_stored_twice_is_invented() -> None:
    ledger = promised()
    ledger.log.check_stored({**stored(ledger, 1, 2, 3), 99: make_payload("LOG", 2)})
    assert found(ledger) == [Violation.INVENTED]


def test_a_redelivery_is_fine_until_its_ack_was_confirmed() -> None:
    ledger = promised()
    payload = make_payload("WORK", 2)
    ledger.work.on_delivery(payload, 12)
    ledger.work.on_answer(2)
    ledger.work.on_delivery(payload, 12)
    assert ledger.findings == []
    ledger.work.on_confirmation(2)
    ledger.work.on_delivery(payload, 12)
    assert found(ledger) == [Violation.BACK]


def test_a_stored_message_that_was_never_delivered_is_skipped() -> None:
    ledger = promised()
    ledger.log.on_ack(ledger.log.next_number(), 14)
    ledger.log.check_stored(stored(ledger, 1, 2, 3, 4))
    assert found(ledger) == [Violation.SKIPPED]


def test_a_queue_must_have_delivered_all_and_hold_nothing() -> None:
    ledger = promised()
    ledger.work.on_ack(ledger.work.next_number(), 14)
    ledger.work.check_emptied(1)
    assert found(ledger) == [Violation.LOST, Violation.SKIPPED]
