"""How much a server's streams may hold when its configuration does not say.

Three quarters of the machine's memory, and three quarters of what the disk has for the store: what is free and what the
store holds already. Source: the reference server's defaults; there, what is held is not counted, so that a store that
has filled half its disk shrinks at the next start.
"""

import os
from dataclasses import replace
from typing import Final

from headrace.core.options import JetStreamOptions
from headrace.storage.interface import Store

_CGROUP_LIMIT: Final = "/sys/fs/cgroup/memory.max"
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def with_limits(options: JetStreamOptions, store: Store, path: str) -> JetStreamOptions:
    """Fill in the limits that were not given. Where the system does not tell, there is none."""
    max_memory, max_file = options.max_memory, options.max_file
    if max_memory < 0:
        max_memory = _three_quarters(_memory_size())
    if max_file < 0:
        held = sum(log.head.size for log in store.logs())
        max_file = _three_quarters(_free_size(path) + held)
    return replace(options, max_memory=max_memory, max_file=max_file)


def shown_size(size: int) -> str:
    """Give a size for people: `17.66 GB`."""
    if size < 0:
        return "unlimited"
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.2f} {_UNITS[power]}"


def _three_quarters(size: int) -> int:
    return size // 4 * 3 if size > 0 else -1


def _memory_size() -> int:
    """Give the bytes of memory that this process may have; 0 where the system does not tell."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    try:
        with open(_CGROUP_LIMIT, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return physical
    return min(physical, int(text)) if text.isdecimal() else physical


def _free_size(path: str) -> int:
    """Give the bytes that are free where `path` is; 0 where the system does not tell."""
    try:
        status = os.statvfs(path)
    except (AttributeError, OSError):
        return 0
    return status.f_bavail * status.f_frsize
