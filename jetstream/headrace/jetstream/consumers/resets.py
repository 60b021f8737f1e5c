"""Where a consumer may be put back to.

Source: the JetStream API reference, section 2.12; the reference server 2.15.
"""

from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.consumer_config import ConsumerConfig
from headrace.storage.interface import StreamLog


def reset_sequence(config: ConsumerConfig, asked: int, floor_stream: int, log: StreamLog) -> int:
    """Give the stream sequence to go on from; `asked` 0: what follows the ack floor. Raises ApiError 10204."""
    if not asked:
        return floor_stream + 1
    if config.deliver_policy == "by_start_sequence":
        if asked < config.opt_start_seq:
            raise _refused("below start seq")
    elif config.deliver_policy == "by_start_time":
        if asked < log.sequence_at(config.opt_start_time_ns):
            raise _refused("below start time")
    elif config.deliver_policy != "all":
        raise _refused("not allowed")
    return asked


def _refused(why: str) -> ApiError:
    return ApiError(error_table.CONSUMER_INVALID_RESET, err=why)
