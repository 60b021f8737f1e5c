"""Subjects that a stream changes: those of its messages as they come in, and those it sends them on to.

The rules of `subject_transform` and `republish` in a configuration, and the transforms ready for use.

Source: the streams reference, section 8.
"""

from headrace.core.subject import ANY_TAIL, is_valid, overlaps
from headrace.core.subject_transform import SubjectTransform, TransformInvalid, check_mapping
from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.stream_config import Republish, StreamConfig

_EVERYTHING = ANY_TAIL.decode()


def input_transform(config: StreamConfig) -> SubjectTransform | None:
    """Give what changes the subjects of incoming messages; None where they stay as they are."""
    wanted = config.subject_transform
    return SubjectTransform(wanted.src.encode(), wanted.dest.encode()) if wanted is not None else None


def output_transform(config: StreamConfig) -> SubjectTransform | None:
    """Give what makes the subjects that messages are published on again; None where they are not."""
    wanted = config.republish
    return SubjectTransform(wanted.src.encode(), wanted.dest.encode()) if wanted is not None else None


def check_transform(config: StreamConfig) -> None:
    """Refuse a `subject_transform` that is none. Raises ApiError."""
    wanted = config.subject_transform
    if wanted is None:
        return
    source, destination = wanted.src.encode(), wanted.dest.encode()
    if source and not is_valid(source):
        raise ApiError(error_table.STREAM_TRANSFORM_INVALID_SOURCE, err=f"invalid subject {wanted.src}")
    try:
        check_mapping(source, destination)
    except TransformInvalid as error:
        raise ApiError(error_table.STREAM_TRANSFORM_INVALID_DESTINATION, err=error) from None


def with_full_republish(config: StreamConfig, *, is_pedantic: bool) -> StreamConfig:
    """Fill in what `republish` leaves open, and refuse one that cannot be. Raises ApiError."""
    wanted = config.republish
    if wanted is None:
        return config
    if not wanted.src:
        if is_pedantic:
            raise ApiError(error_table.PEDANTIC, err="republish source can not be empty")
        wanted = wanted.replaced(src=_EVERYTHING)
    if _follows_transform(config, wanted):
        if is_pedantic:
            raise ApiError(error_table.PEDANTIC, err="implicit republish based on subject transform")
        assert config.subject_transform is not None, "there is a transform to follow"
        made = config.subject_transform.dest
        wanted = wanted.replaced(src=made, dest=made)
    destination = wanted.dest.encode()
    if not destination or any(overlaps(destination, subject.encode()) for subject in config.subjects):
        raise _invalid("stream configuration for republish destination forms a cycle")
    try:
        SubjectTransform(wanted.src.encode(), destination)
    except TransformInvalid:
        raise _invalid(
            f"stream configuration for republish with transform from '{wanted.src}' to '{wanted.dest}' not valid"
        ) from None
    return config.replaced(republish=wanted)


def _follows_transform(config: StreamConfig, wanted: Republish) -> bool:
    """Tell whether `>` to `>` means the subjects that the stream's own transform makes."""
    transform = config.subject_transform
    return (
        wanted.src == wanted.dest == _EVERYTHING
        and transform is not None
        and config.subjects == (transform.src,)
    )


def _invalid(reason: str) -> ApiError:
    return ApiError(error_table.STREAM_INVALID_CONFIG, err=reason)
