"""The installed commands refuse in one line, whatever fails first."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["server", "tool"])
def test_an_engine_that_cannot_be_had_is_refused_in_one_line(command: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; from headrace.tools.entry import {command}; sys.exit({command}())",
        ],
        env={**os.environ, "HEADRACE_ENGINE": "turbo", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "expected 'plain' or 'compiled'" in done.stderr
