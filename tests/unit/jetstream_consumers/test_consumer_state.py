"""A consumer's progress, step by step, in times of our own."""

import pytest

from headrace.jetstream.consumers.state import (
    AckPolicy,
    ConsumerState,
    DeliveryRules,
    Exhausted,
    Unsettled,
)
from headrace.storage.interface import RegisterChange
from headrace.storage.registers import apply_change

S = 1_000_000_000
EXPLICIT = DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=30 * S)


def delivered(rules: DeliveryRules = EXPLICIT, count: int = 4) -> ConsumerState:
    state = ConsumerState(rules)
    state.delivered_new(list(range(1, count + 1)), 0)
    return state


def floors(state: ConsumerState) -> tuple[int, int]:
    return state.floor_consumer, state.floor_stream


def test_a_delivered_message_is_pending_until_it_is_acked() -> None:
    state = delivered(count=1)
    assert (state.num_ack_pending, state.is_settled(1)) == (1, False)
    assert state.acked(1)
    assert (state.num_ack_pending, state.is_settled(1)) == (0, True)


def test_a_second_ack_of_a_message_settles_nothing() -> None:
    state = delivered(count=2)
    state.acked(1)
    assert not state.acked(1)
    assert not state.acked(7)


def test_an_ack_above_a_pending_message_leaves_the_floor() -> None:
    state = delivered()
    state.acked(3)
    assert floors(state) == (0, 0)


def test_an_ack_right_above_the_floor_moves_it_below_the_next_pending_message() -> None:
    state = delivered()
    state.acked(3)
    state.acked(1)
    assert floors(state) == (1, 1)
    state.acked(2)
    assert floors(state) == (3, 3)


def test_the_floor_counts_deliveries_when_nothing_is_pending() -> None:
    state = delivered(count=1)
    state.naked(1, 0)
    state.redelivered(state.due(1), 0)
    state.acked(1)
    assert floors(state) == (2, 1)


def test_the_floor_follows_deliveries_where_no_ack_is_asked_for() -> None:
    state = delivered(DeliveryRules(AckPolicy.NONE))
    assert floors(state) == (4, 4)
    assert state.num_ack_pending == 0


def test_an_ack_of_all_settles_everything_below() -> None:
    state = delivered(DeliveryRules(AckPolicy.ALL))
    assert state.acked_through(3) == 3
    assert floors(state) == (3, 3)
    assert list(state.pending) == [4]
    assert state.acked_through(2) == 0
    assert state.acked_through(4) == 1


def test_a_message_is_due_again_when_its_ack_wait_is_over_and_not_before() -> None:
    state = delivered(count=2)
    assert state.next_deadline_ns() == 30 * S
    state.on_time(30 * S - 1)
    assert state.due(10) == []
    state.on_time(30 * S)
    assert state.due(10) == [1, 2]


def test_what_expires_in_one_check_is_queued_in_stream_order() -> None:
    state = delivered(count=3)
    state.progressed(1, 2 * S)
    state.progressed(2, 1 * S)
    state.on_time(60 * S)
    assert state.due(10) == [1, 2, 3]


def test_naks_are_queued_in_the_order_of_their_arrival() -> None:
    state = delivered(count=3)
    state.naked(3, 0)
    state.naked(1, 0)
    state.naked(3, 0)
    assert state.due(10) == [3, 1]


def test_a_redelivery_takes_the_next_consumer_sequence_and_starts_the_wait_anew() -> None:
    state = delivered(count=2)
    state.on_time(30 * S)
    state.redelivered([1], 30 * S)
    assert state.delivered_consumer == 3
    assert state.pending[1] == (1, 30 * S, 2)
    assert state.due(10) == [2]
    state.on_time(59 * S)
    assert state.due(10) == [2]
    state.on_time(60 * S)
    assert state.due(10) == [2, 1]


def test_progress_restarts_the_wait() -> None:
    state = delivered(count=1)
    assert state.progressed(1, 20 * S)
    state.on_time(49 * S)
    assert state.due(1) == []
    state.on_time(50 * S)
    assert state.due(1) == [1]


def test_progress_of_a_settled_message_does_nothing() -> None:
    state = delivered(count=1)
    state.acked(1)
    assert not state.progressed(1, 0)
    assert not state.naked(1, 0)


def test_a_delayed_nak_waits_for_its_delay_whether_shorter_or_longer_than_the_ack_wait() -> None:
    state = delivered(count=2)
    state.naked(1, 0, delay_ns=5 * S)
    state.naked(2, 0, delay_ns=50 * S)
    state.on_time(5 * S)
    assert state.due(10) == [1]
    state.on_time(49 * S)
    assert state.due(10) == [1]
    state.on_time(50 * S)
    assert state.due(10) == [1, 2]
    assert state.num_redelivered == 0


def test_backoff_gives_each_delivery_its_own_wait_and_the_last_one_to_the_rest() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, backoff_ns=(1 * S, 3 * S)), count=1)
    now = 0
    for wait in (1 * S, 3 * S, 3 * S):
        assert state.next_deadline_ns() == now + wait
        now += wait
        state.on_time(now)
        state.redelivered(state.due(1), now)


def test_a_message_is_given_up_when_its_last_wait_is_over() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=2), count=1)
    state.on_time(S)
    state.redelivered(state.due(1), S)
    assert state.exhausted_now == []
    state.on_time(2 * S)
    assert state.exhausted_now == [Exhausted(1, 2)]
    assert (state.num_ack_pending, state.due(1), state.num_redelivered) == (0, [], 1)
    assert not state.is_settled(1)
    state.on_time(9 * S)
    assert len(state.exhausted_now) == 1


def test_a_nak_of_the_last_delivery_gives_up_at_the_next_attempt() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, max_deliver=1), count=2)
    state.naked(1, 0)
    assert state.exhausted_now == []
    assert state.due(5) == []
    assert state.exhausted_now == [Exhausted(1, 1)]
    assert state.delivered_consumer == 2
    assert state.num_redelivered == 0


def test_the_floor_passes_a_given_up_message_with_the_next_ack() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=1), count=1)
    state.on_time(S)
    assert floors(state) == (0, 0)
    state.delivered_new([2], S)
    state.acked(2)
    assert floors(state) == (2, 2)


def test_a_late_ack_settles_a_given_up_message() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=1), count=1)
    state.on_time(S)
    assert state.acked(1)
    assert state.is_settled(1)


def test_room_is_what_max_ack_pending_leaves() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, max_ack_pending=5))
    assert state.room == 1
    state.delivered_new([9], 0)
    assert state.room == 0
    state.acked(1)
    assert state.room == 1


def test_room_has_no_end_without_acks_or_limit() -> None:
    assert delivered(DeliveryRules(AckPolicy.NONE, max_ack_pending=1)).room > 1 << 60
    assert delivered().room > 1 << 60


def test_a_message_that_leaves_the_stream_is_settled_and_reported_once() -> None:
    state = delivered()
    assert state.removed(1, 2) == [Unsettled(1, 1, 1), Unsettled(2, 2, 1)]
    assert floors(state) == (2, 2)
    assert state.removed(1, 2) == []


def test_a_queued_message_that_leaves_the_stream_is_not_due_any_more() -> None:
    state = delivered()
    state.naked(2, 0)
    state.removed(2, 2)
    assert (state.due(1), state.queue_length) == ([], 0)


def test_a_given_up_message_that_leaves_the_stream_is_no_longer_counted() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=2), count=1)
    state.on_time(S)
    state.redelivered(state.due(1), S)
    state.on_time(2 * S)
    assert state.removed(1, 10) == []
    assert state.num_redelivered == 0


def test_a_purge_of_everything_moves_delivered_and_floor_to_the_end() -> None:
    state = delivered()
    assert state.purged(11) == [1, 2, 3, 4]
    assert (state.delivered_stream, state.delivered_consumer) == (10, 4)
    assert floors(state) == (4, 10)


def test_a_purge_keeps_what_is_still_there() -> None:
    state = delivered()
    assert state.purged(2) == [1]
    assert floors(state) == (1, 1)
    state.keep_existing(lambda sequence: sequence != 3)
    assert list(state.pending) == [2, 4]
    assert floors(state) == (1, 1)


def test_a_lost_tail_takes_its_deliveries_along() -> None:
    state = delivered()
    state.acked(1)
    state.naked(4, 0)
    state.rolled_back(2)
    assert (state.delivered_stream, list(state.pending), state.due(9)) == (2, [2], [])
    state.rolled_back(0)
    assert (state.delivered_stream, floors(state)[1], state.num_ack_pending) == (0, 0, 0)
    state.delivered_new([1], 0)
    assert state.pending[1][0] == 5


def test_a_reset_forgets_everything() -> None:
    state = delivered()
    state.reset(3)
    assert (state.delivered_stream, state.delivered_consumer, floors(state)) == (2, 0, (0, 2))
    assert state.num_ack_pending == 0


def test_changed_rules_move_the_deadlines_of_what_is_pending() -> None:
    state = delivered(count=1)
    state.set_rules(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=2 * S))
    assert state.next_deadline_ns() == 2 * S


def test_everything_pending_can_be_put_up_for_redelivery() -> None:
    state = delivered()
    state.naked(3, 0)
    state.queue_all()
    assert state.due(9) == [3, 1, 2, 4]


def test_changes_laid_over_the_stored_register_give_the_whole_state() -> None:
    state = ConsumerState(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=2))
    stored = state.register()
    state.delivered_new([1, 2, 3, 5], 0)
    state.acked(2)
    apply_change(stored, state.change() or pytest.fail("something changed"))
    state.acked(1)
    state.on_time(S)
    state.redelivered(state.due(1), S)
    state.on_time(2 * S)
    change = state.change()
    assert isinstance(change, RegisterChange)
    assert change.drops == [(1, 1)]
    apply_change(stored, change)
    assert stored == state.register()
    assert state.change() is None


def test_a_restored_state_redelivers_by_the_wait_since_the_original_delivery() -> None:
    state = delivered()
    state.acked(2)
    again = ConsumerState(EXPLICIT)
    again.restore(state.register())
    assert (again.delivered_consumer, floors(again), again.num_ack_pending) == (4, (0, 0), 3)
    again.on_time(30 * S)
    again.redelivered(again.due(9), 31 * S)
    assert [again.pending[s] for s in (1, 3, 4)] == [(1, 31 * S, 2), (3, 31 * S, 2), (4, 31 * S, 2)]
    assert again.delivered_consumer == 7
    assert again.change() is not None


def test_a_restored_state_remembers_what_was_given_up() -> None:
    state = delivered(DeliveryRules(AckPolicy.EXPLICIT, ack_wait_ns=S, max_deliver=1), count=1)
    state.on_time(S)
    again = ConsumerState(state.rules)
    again.restore(state.register())
    assert (again.num_ack_pending, again.is_settled(1), again.exhausted_now) == (0, False, [])


def test_stale_expiries_do_not_pile_up() -> None:
    state = delivered(count=1)
    for now in range(20_000):
        state.progressed(1, now)
    assert len(state._expiries) < 5_000


def test_acking_a_million_pending_messages_in_order_is_linear() -> None:
    state = ConsumerState(EXPLICIT)
    state.delivered_new(list(range(1, 200_001)), 0)
    for sequence in range(1, 200_001):
        state.acked(sequence)
    assert floors(state) == (200_000, 200_000)
