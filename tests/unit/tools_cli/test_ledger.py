"""The books of the demo: which promise is broken when, and which is not."""

from headrace.tools.demo.ledger import Ledger


def test_an_acknowledged_order_that_never_arrives_is_lost() -> None:
    ledger = Ledger()
    ledger.note_acknowledged(1)
    ledger.note_acknowledged(2)
    ledger.note_delivered(1)
    assert ledger.lost == {2}
    assert not ledger.is_sound


def test_an_order_may_come_twice_before_it_is_confirmed() -> None:
    ledger = Ledger()
    ledger.note_acknowledged(1)
    ledger.note_delivered(1)
    ledger.note_delivered(1)
    ledger.note_confirmed(1)
    assert ledger.is_sound
    assert ledger.redelivery_count == 1


def test_a_confirmed_order_that_comes_again_breaks_a_promise() -> None:
    ledger = Ledger()
    ledger.note_acknowledged(1)
    ledger.note_delivered(1)
    ledger.note_confirmed(1)
    ledger.note_delivered(1)
    assert ledger.confirmed_again == {1}
    assert not ledger.is_sound


def test_an_order_that_nobody_placed_is_invented() -> None:
    ledger = Ledger()
    ledger.note_delivered(7)
    assert ledger.invented == {7}
    assert not ledger.is_sound
