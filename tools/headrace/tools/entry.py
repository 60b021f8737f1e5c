"""Where the installed commands begin: what fails while modules are imported is one line too.

The engine is chosen when its modules are imported (`core/base/engine_choice.py`), so a wish that cannot be met is
refused before any command's own code runs.
"""

import gc
import os
import sys

from headrace.core.base.errors import HeadraceError


def server() -> int:
    """Run `headrace-server`; give its exit code."""
    gc.disable()  # until the server listens: a start makes little garbage, and is waited for
    # Looking for plugins reads what every installed package says of itself.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from headrace.tools.serve import main  # noqa: PLC0415  (its import may be refused)

        return main()
    except HeadraceError as error:
        return _refuse("headrace-server", error)
    finally:
        gc.enable()


def tool() -> int:
    """Run `headrace`; give its exit code."""
    try:
        from headrace.tools.cli import main  # noqa: PLC0415  (its import may be refused)
    except HeadraceError as error:
        return _refuse("headrace", error)
    main()
    return 0


def _refuse(program: str, error: HeadraceError) -> int:
    sys.stderr.write(f"{program}: {error}\n")
    return 1
