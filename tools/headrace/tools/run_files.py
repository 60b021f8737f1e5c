"""The files that a running server leaves for others to find it: its process id, and its ports.

Source: the reference server 2.15, probed: the process id is written without a line end and stays after the exit; the
ports file is `<program>_<pid>.ports` and is removed.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence


def write_pid_file(path: str, process_id: int) -> None:
    """Write the process id; raises OSError."""
    with open(path, "w", encoding="ascii") as file:
        file.write(str(process_id))


class PortsFile:
    """`<folder>/<program>_<pid>.ports`: where the server listens, as JSON."""

    def __init__(self, folder: str, program: str, process_id: int) -> None:
        self.path = os.path.join(folder, f"{program}_{process_id}.ports")

    def write(self, urls: Mapping[str, Sequence[str]]) -> None:
        """Write it whole or not at all, as others wait for it to appear; raises OSError."""
        unfinished = f"{self.path}.tmp"
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump({kind: list(listed) for kind, listed in urls.items() if listed}, file)
        os.replace(unfinished, self.path)

    def remove(self) -> None:
        """Remove it; harmless when it has gone."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
