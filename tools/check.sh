#!/bin/sh
# Sets up .venv and runs every check that CI runs: format, lint, types, the suite on each engine, benchmark floors.
#
#   sh tools/check.sh            all of it
#   sh tools/check.sh quick      lint, types and the suite on the engine that is there
#
# PYTHON names the interpreter (3.11 or newer; default: python3). Where there is a C compiler the compiled engine must
# have been built; without one (CC=/bin/false counts) the plain engine alone is checked.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-all}
python=${PYTHON:-python3}

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Headrace needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]} (set PYTHON)")
PY

step() { printf '\n== %s\n' "$*"; }

step "set up .venv"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
bin=$PWD/.venv/bin
export PATH="$bin:$PATH"

compiler=no
if "${CC:-cc}" --version >/dev/null 2>&1; then compiler=yes; fi
built=$(python -c 'from headrace.core.base.engine_choice import is_compiled_available as b; print("yes" if b() else "no")')
if [ "$compiler" = yes ] && [ "$built" = no ] && [ "${HEADRACE_BUILD:-}" != plain ]; then
    echo "there is a C compiler, but the compiled engine was not built" >&2
    exit 1
fi

step "format, lint, types"
ruff format --check .
ruff check .
mypy
pyright

if [ "$built" = yes ]; then
    step "the suite, compiled engine"
    HEADRACE_ENGINE=compiled python -m pytest -q -n 2 -m "not campaign and not reference"
    [ "$mode" = quick ] && exit 0
fi
step "the suite, plain engine"
HEADRACE_ENGINE=plain python -m pytest -q -n 2 -m "not campaign and not reference"
[ "$mode" = quick ] && exit 0

step "benchmark floors"
if [ "$built" = yes ]; then python -m headrace.tools.bench floors --engine compiled; fi
python -m headrace.tools.bench floors --engine plain
