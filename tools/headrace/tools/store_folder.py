"""Finding the store in a folder that a command was given."""

import os

from headrace.storage.segment import SEGMENTS_FOLDER
from headrace.storage.store import STREAMS_FOLDER
from headrace.tools.store_path import store_path
from headrace.tools.wire import CommandFailed


def existing_store(folder: str) -> str:
    """Give the store's folder: the one that the server was given, the store itself, or a copy. Raises CommandFailed."""
    if os.path.isdir(os.path.join(folder, STREAMS_FOLDER)):
        return os.path.abspath(folder)
    path = store_path(folder)
    if not os.path.isdir(path):
        raise CommandFailed(f"{folder} holds no store: there is no folder {path}")
    return path


def salvageable(folder: str) -> str:
    """Give a store's folder, or that of one stream. Raises CommandFailed."""
    if os.path.isdir(os.path.join(folder, SEGMENTS_FOLDER)):
        return os.path.abspath(folder)
    return existing_store(folder)
