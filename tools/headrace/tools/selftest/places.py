"""What a path of a store is, in the words of docs/storage-format.md: for saying where a disk failed."""

import os
from typing import Final

_BY_START: Final = (
    ("journal-", "journal"),
    ("format", "the store's folder"),
    ("lock", "the store's folder"),
    ("streams", "folder of streams"),
    ("seg", "folder of segments"),
    ("aside", "unreadable bytes set aside"),
)


def place_of(path: str) -> str:
    """Name what lies at a path inside a store."""
    name = os.path.basename(path.rstrip("/"))
    folder = os.path.basename(os.path.dirname(path))
    if folder == "aside":
        return "unreadable bytes set aside"
    if folder == "seg":
        stem = name.removesuffix(".new")
        if stem.endswith(".side"):
            return "sidecar"
        if stem.endswith(".del"):
            return "removals"
        return "segment being made" if name.endswith(".new") else "segment"
    if name.startswith("state-"):
        return "state log being made" if name.endswith(".new") else "state log"
    if folder == "streams":
        ends = {"w": "stream being made", "d": "stream being deleted"}
        return ends.get(name[-1:], "folder of a stream") if "." in name else "folder of a stream"
    for start, place in _BY_START:
        if name.startswith(start):
            return place
    return "the store's folder"
