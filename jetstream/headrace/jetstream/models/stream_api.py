"""The bodies of the stream API's requests, other than configurations."""

from typing import Any

from headrace.jetstream.models.stream_config import StreamConfig
from headrace.jetstream.models.wire import Int64, Strings, Uint64, WireModel


class NamesRequest(WireModel):
    """STREAM.NAMES and STREAM.LIST."""

    offset: Int64 = 0
    subject: str = ""


class InfoRequest(WireModel):
    """STREAM.INFO."""

    deleted_details: bool = False
    subjects_filter: str = ""
    offset: Int64 = 0


class PurgeRequest(WireModel):
    """STREAM.PURGE."""

    filter: str = ""
    seq: Uint64 = 0
    keep: Uint64 = 0


class MessageDeleteRequest(WireModel):
    """STREAM.MSG.DELETE."""

    seq: Uint64 = 0
    no_erase: bool = False


class MessageGetRequest(WireModel):
    """STREAM.MSG.GET."""

    seq: Uint64 = 0
    last_by_subj: str = ""
    next_by_subj: str = ""
    start_time: str = ""
    no_hdr: bool = False
    batch: Int64 = 0
    max_bytes: Int64 = 0
    multi_last: Strings = ()
    up_to_seq: Uint64 = 0
    up_to_time: str = ""


class DirectGetRequest(MessageGetRequest):
    """DIRECT.GET: the same fields, other combinations."""


class StreamRequest(StreamConfig):
    """The body of STREAM.CREATE and STREAM.UPDATE."""

    pedantic: bool = False

    def config(self) -> StreamConfig:
        """Give what is asked for, without how."""
        values: dict[str, Any] = {name: getattr(self, name) for name in StreamConfig.model_fields}
        return StreamConfig.model_construct(**values)
