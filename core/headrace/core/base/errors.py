"""The root of Headrace's errors.

Each layer derives its own family from it: ProtocolError and ConfigError in core, StorageError in storage,
ApiError in jetstream. Errors are for the other side's mistakes and for the world's; our own are `assert`.
"""


class HeadraceError(Exception):
    """Any error that Headrace raises on purpose. Never raised itself."""
