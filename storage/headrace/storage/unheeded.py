"""The callback of whoever does not have to hear: what is told is told to nobody."""


def unheeded(*_: object) -> None:
    """Take anything, and do nothing about it."""
