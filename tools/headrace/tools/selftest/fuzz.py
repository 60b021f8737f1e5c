"""`headrace selftest fuzz`: inputs made by coverage, for as long as somebody has.

Atheris (Apache 2.0, `pip install atheris`) makes the inputs. It ends the process that it runs in, so every target is a
process of its own: this module run as a program.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from headrace.tools.selftest.growth import Row

INPUT_SIZE_MAX: Final = 8192
INPUT_SECONDS_MAX: Final = 10
MEMORY_MAX_MIB: Final = 700
GRACE_S: Final = 120

_RUNS: Final = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_PEAK: Final = re.compile(rb"stat::peak_rss_mb:\s*(\d+)")
_COVERED: Final = re.compile(rb"cov: (\d+)")


class NoAtheris(Exception):
    """The package that makes the inputs is not installed."""


def fuzz(target: str, seconds: int, folder: Path) -> list[Row]:
    """Run one target; findings are left in `folder/<target>`.

    Raises `NoAtheris`.
    """
    if importlib.util.find_spec("atheris") is None:
        raise NoAtheris("pip install atheris")
    found_folder = folder / target
    found_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as corpus:
        command = [
            sys.executable,
            "-P",
            "-m",
            __name__,
            target,
            corpus,
            f"-max_total_time={seconds}",
            f"-max_len={INPUT_SIZE_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-rss_limit_mb={MEMORY_MAX_MIB}",
            f"-artifact_prefix={found_folder}/",
            "-print_final_stats=1",
        ]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=seconds + GRACE_S, check=False)
        except subprocess.TimeoutExpired:
            return [Row(f"{target}: ended in time", f"not {GRACE_S} s after it should", passed=False)]
    findings = sorted(path.name for path in found_folder.iterdir())
    rows = [
        Row(f"{target}: inputs tried", _figure(_RUNS, ended.stderr), passed=ended.returncode == 0),
        Row(f"{target}: branches covered", _figure(_COVERED, ended.stderr), passed=True),
        Row(f"{target}: memory at most, MiB", _figure(_PEAK, ended.stderr), passed=True),
        Row(f"{target}: findings", f"{len(findings)}", passed=not findings),
    ]
    if ended.returncode:
        last = ended.stdout.decode(errors="replace").strip().splitlines()[-1:]
        rows.append(Row(f"{target}: ended with {ended.returncode}", "".join(last), passed=False))
    return rows


def _figure(pattern: re.Pattern[bytes], output: bytes) -> str:
    found = pattern.findall(output)
    return f"{int(found[-1]):,}" if found else "unknown"


def _main(name: str, corpus: str, arguments: list[str]) -> None:
    """Fuzz in this process until the time is up; does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["headrace", "wsproto", "h11"]):
        targets = importlib.import_module("headrace.tools.selftest.fuzz_targets")
    for number, seed in enumerate(targets.SEEDS[name]):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *arguments, corpus], targets.TARGETS[name]())
    atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3:])
