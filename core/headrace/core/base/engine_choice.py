"""Which engine runs: compiled where it was built, plain elsewhere.

`HEADRACE_ENGINE=plain|compiled` forces one. The choice is made once, at import, for all layers together, so that
core and storage never disagree.
"""

import importlib.util
import os
from typing import Final

from headrace.core.base.errors import HeadraceError

VARIABLE: Final = "HEADRACE_ENGINE"
COMPILED_MODULES: Final = (
    "headrace.core.base.compiled_batch",
    "headrace.core.engine.compiled_engine",
    "headrace.core.engine.compiled_output",
    "headrace.core.engine.compiled_routes",
    "headrace.jetstream.consumers.compiled_consumer",
    "headrace.storage.compiled_log",
)


class EngineUnavailable(HeadraceError):
    """The engine that was asked for cannot run here."""


def is_compiled_available() -> bool:
    """Tell whether every compiled module was built; a part of an engine is none."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in COMPILED_MODULES)
    except ModuleNotFoundError:
        return False


def _chosen(wish: str) -> str:
    if wish == "":
        return "compiled" if is_compiled_available() else "plain"
    if wish == "plain":
        return "plain"
    if wish == "compiled":
        if not is_compiled_available():
            raise EngineUnavailable(
                f"{VARIABLE}=compiled, but the compiled engine was not built: install a C compiler and Cython, "
                f"then reinstall, or unset {VARIABLE}"
            )
        return "compiled"
    raise EngineUnavailable(f"{VARIABLE}={wish!r}: expected 'plain' or 'compiled'")


ENGINE: Final = _chosen(os.environ.get(VARIABLE, ""))
