"""Where a server keeps its store, given the folder that it was told."""

import os
import tempfile
from typing import Final

FOLDER: Final = "headrace"
"""The store's folder in the store directory; the reference keeps its own as `jetstream` there."""


def default_store_dir() -> str:
    """Give the store directory of a server that was told none: a folder that a reboot may empty."""
    return os.path.join(tempfile.gettempdir(), "headrace")


def store_path(store_dir: str) -> str:
    """Give the store's own folder; `store_dir` may be that folder already, so tools take either."""
    full = os.path.abspath(store_dir)
    if os.path.basename(full) == FOLDER and os.path.isdir(os.path.join(full, "streams")):
        return full
    return os.path.join(full, FOLDER)
