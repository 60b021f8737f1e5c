"""/stacksz and /debug/vars: the process from within, for whoever looks for what it is doing.

Source: the reference server's endpoints of these names; what they hold is the runtime's own, so here it is Python's.
"""

import gc
import os
import sys
import threading
import traceback
from typing import Any

from headrace.core.monitoring.process import Process


def stacks() -> str:
    """Give the stack of every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    shown: list[str] = []
    frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (public by its documentation)
    for identity, frame in frames.items():
        shown.append(f"thread {names.get(identity, '?')} ({identity}):\n")
        shown += traceback.format_stack(frame)
        shown.append("\n")
    return "".join(shown)


def variables(process: Process) -> dict[str, Any]:
    """Give counters of the process. The command line is its program alone: what follows may hold a password."""
    collections = [generation["collections"] for generation in gc.get_stats()]
    return {
        "cmdline": [os.path.basename(sys.argv[0])],
        "memstats": {
            "Sys": process.memory_size,
            "NumGC": sum(collections),
            "Mallocs": sys.getallocatedblocks(),
        },
    }
