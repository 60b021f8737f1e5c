"""Parts of a ConsumerInfo.

Source: the consumer reference, section 2.
"""

from typing import Any

from headrace.jetstream.consumers.groups import PriorityGroups
from headrace.jetstream.models.times import ZERO_TIME, encode_time


def place(consumer_sequence: int, stream_sequence: int, last_ns: int) -> dict[str, Any]:
    """Give a pair of sequences, with the time at which they moved last; 0: that is not known."""
    shown: dict[str, Any] = {"consumer_seq": consumer_sequence, "stream_seq": stream_sequence}
    if last_ns:
        shown["last_active"] = encode_time(last_ns)
    return shown


def group_states(groups: PriorityGroups) -> list[dict[str, Any]]:
    """Give the state of the one group that is tracked; nothing without groups."""
    if not groups.groups:
        return []
    state: dict[str, Any] = {"group": groups.groups[0]}
    if groups.pin_id:
        state["pinned_client_id"] = groups.pin_id
    state["pinned_ts"] = encode_time(groups.pinned_ns) if groups.pinned_ns else ZERO_TIME
    return [state]
