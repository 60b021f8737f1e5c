"""Which engine runs, and what a wrong wish is told."""

import os
import subprocess
import sys

from headrace.core.base.engine_choice import is_compiled_available

ASK = "from headrace.core.base.engine_choice import ENGINE; print(ENGINE)"


def ask(wish: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HEADRACE_ENGINE": wish, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False
    )


def test_plain_can_always_be_had() -> None:
    assert ask("plain").stdout.strip() == "plain"


def test_without_a_wish_the_compiled_engine_runs_where_it_was_built() -> None:
    assert ask("").stdout.strip() == ("compiled" if is_compiled_available() else "plain")


def test_an_unknown_engine_is_refused_with_what_would_be_accepted() -> None:
    answer = ask("fast")
    assert answer.returncode != 0
    assert "expected 'plain' or 'compiled'" in answer.stderr


def test_a_compiled_engine_that_was_not_built_is_refused_with_what_to_do() -> None:
    answer = ask("compiled")
    if is_compiled_available():
        assert answer.stdout.strip() == "compiled"
    else:
        assert "was not built" in answer.stderr
