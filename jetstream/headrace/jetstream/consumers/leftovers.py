"""What a crash between an ack and the removal it calls for has left behind."""

from typing import Final

from headrace.jetstream.consumers.position import READ_SIZE_MAX
from headrace.jetstream.consumers.state import ConsumerState
from headrace.jetstream.filters import SubjectFilter
from headrace.storage.interface import StreamLog

READ_MESSAGES_MAX: Final = 512


def settled_messages(
    log: StreamLog, match: SubjectFilter | None, state: ConsumerState
) -> list[tuple[int, int]]:
    """Give, as ranges of one, the messages that a consumer has settled and that are still there.

    The counts tell when there is none, so that an orderly stop costs nothing.
    """
    last = state.delivered_stream
    start = max(log.head.first_sequence, state.skipped_to + 1)
    kept = last  # no more than that; how many there are is not known while the index is rebuilt
    if match is None or log.is_index_ready:
        kept = log.count_matching(match, start) - log.count_matching(match, last + 1)
    settled: list[tuple[int, int]] = []
    while kept > len(state.pending) + len(state.exhausted) + len(settled) and start <= last:
        scan = log.scan(start, last, match, messages_max=READ_MESSAGES_MAX, size_max=READ_SIZE_MAX)
        settled += [(view.sequence, view.sequence) for view in scan.views if state.is_settled(view.sequence)]
        start = scan.next_sequence
    return settled
