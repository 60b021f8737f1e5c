"""Each checker that CI runs refuses a planted error, with this project's own settings."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent

UNTYPED = 'def double(value):\n    """Double it."""\n    return value * 2\n'
WRONG = 'def double(value: int) -> str:\n    """Double it."""\n    return value * 2\n'
UNUSED = '"""A module."""\n\nimport os\n'
UGLY = '"""A module."""\n\nX = {  "a":1 }\n'


def check(tmp_path: Path, source: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a checker on `source` as a module of core, in a tree that has our settings and nothing else."""
    if not (BIN / command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for root, package in (
        ("core", "core"),
        ("storage", "storage"),
        ("jetstream", "jetstream"),
        *(("tools", name) for name in ("tools", "embed", "testing")),
    ):
        folder = tmp_path / root / "headrace" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "core" / "headrace" / "core" / "planted.py").write_text(source)
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("source", [UNTYPED, WRONG], ids=["untyped", "wrong type"])
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_error_is_refused(tmp_path: Path, checker: str, source: str) -> None:
    answer = check(tmp_path, source, checker)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "planted.py" in answer.stdout


def test_a_lint_error_is_refused(tmp_path: Path) -> None:
    answer = check(tmp_path, UNUSED, "ruff", "check", "--no-cache", ".")
    assert answer.returncode == 1
    assert "F401" in answer.stdout


def test_wrong_formatting_is_refused(tmp_path: Path) -> None:
    answer = check(tmp_path, UGLY, "ruff", "format", "--no-cache", "--check", ".")
    assert answer.returncode == 1
    assert "planted.py" in answer.stdout
