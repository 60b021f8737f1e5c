"""What a message counts for: in `state.bytes`, and against `max_bytes`.

The figures are the reference server's, so that a limit means the same here; what a message really takes up on disk or
in memory is another number. Source: probed, reference server 2.15.
"""

from typing import Final

FILE_OVERHEAD: Final = 30
FILE_HEADERS_OVERHEAD: Final = 4
MEMORY_OVERHEAD: Final = 16


def file_size(*, subject_size: int, headers_size: int, payload_size: int) -> int:
    """Give the size of a message in a file stream."""
    size = FILE_OVERHEAD + subject_size + payload_size
    if headers_size:
        size += FILE_HEADERS_OVERHEAD + headers_size
    return size


def memory_size(*, subject_size: int, headers_size: int, payload_size: int) -> int:
    """Give the size of a message in a memory stream."""
    return MEMORY_OVERHEAD + subject_size + headers_size + payload_size
