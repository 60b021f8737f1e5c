"""`--signal`: tell a running server, known by its process id or by its pid file.

Source: the reference server 2.15's command line. Looking for a process by its name is left out: it is given.
"""

import os
import signal
from typing import Final

from headrace.core.errors import ConfigError

_SIGNALS: Final = {
    "stop": "SIGKILL",
    "quit": "SIGINT",
    "term": "SIGTERM",
    "reopen": "SIGUSR1",
    "reload": "SIGHUP",
    "ldm": "SIGUSR2",
}


def send_signal(text: str) -> None:
    """Carry out `command=pid` or `command=pid file`; raises ConfigError."""
    command, equals, target = text.partition("=")
    if command not in _SIGNALS:
        raise ConfigError(f'unknown signal "{command}"; expected one of {", ".join(_SIGNALS)}')
    if not equals or not target:
        raise ConfigError(f"--signal {command} needs a process: --signal {command}=<pid or pid file>")
    number = getattr(signal, _SIGNALS[command], None)
    if number is None:
        raise ConfigError(f"--signal {command}: this platform has no {_SIGNALS[command]}")
    process_id = _process_id(target)
    try:
        os.kill(process_id, number)
    except ProcessLookupError:
        raise ConfigError(f"--signal {command}: no process has the id {process_id}") from None
    except PermissionError:
        raise ConfigError(f"--signal {command}: not permitted for process {process_id}") from None


def _process_id(target: str) -> int:
    text = target
    if not target.isdigit():
        try:
            with open(target, encoding="ascii") as file:
                text = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read pid file {target}: {error}") from error
    # 0 and below would mean whole groups of processes.
    if not text.isdigit() or int(text) == 0:
        raise ConfigError(f'{target}: expected a process id, got "{text[:40]}"')
    return int(text)
